"""What archives have in common: layers of one digest, which a store keeps once."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from packer import inspect, sizes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def measure(paths: Sequence[Path]) -> dict[str, Any]:
    """Compare archives; ``docs/json.md`` has the form.

    Bytecode is never shared by digest, and is left out. Of a host only the layers of one slice are on disk, so slices
    of one name are compared with each other.

    :raises PackError: if one cannot be read.
    """
    described = [inspect.describe(path) for path in paths]
    stored = [[layer.stored for layer in sizes.measure(path).layers] for path in paths]
    seen: set[str] = set()
    again = 0
    for one, bytes_of in zip(described, stored, strict=True):
        mine = {layer["digest"]: size for layer, size in zip(one["layers"], bytes_of, strict=True) if _counts(layer)}
        again += sum(size for digest, size in mine.items() if digest in seen)
        seen |= set(mine)
    users = Counter(digest for one in described for digest in {layer["digest"] for layer in one["layers"]})
    known = {layer["digest"]: layer for one in described for layer in one["layers"] if _counts(layer)}
    common = sorted((layer for digest, layer in known.items() if users[digest] > 1), key=_order)
    return {
        "files": {"size": sum(one["size"] for one in described), "again": again},
        "layers": [{key: layer[key] for key in ("name", "digest", "size")} | {"archives": users[layer["digest"]]}
                   for layer in common],
        "slices": _slices(described),
    }  # fmt: skip


def _counts(layer: dict[str, Any]) -> bool:
    return bool(layer["kind"] != "bytecode")


def _order(layer: dict[str, Any]) -> tuple[int, str]:
    return -layer["size"], layer["digest"]


def _slices(described: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    found: dict[str, list[dict[str, int]]] = {}
    for one in described:
        for part in one["slices"]:
            layers = [one["layers"][index] for index in part["layers"]]
            found.setdefault(part["name"], []).append({
                layer["digest"]: layer["size"] for layer in layers if _counts(layer)
            })  # fmt: skip
    return [
        {
            "name": name,
            "archives": len(each),
            "separately": sum(sum(sizes.values()) for sizes in each),
            "once": sum({digest: size for sizes in each for digest, size in sizes.items()}.values()),
        }
        for name, each in found.items()
        if len(each) > 1
    ]


def text(shared: dict[str, Any]) -> str:
    """Say the same for reading."""
    files, layers = shared["files"], shared["layers"]
    lines = [f"shared layers: {len(layers)}, {sum(layer['size'] for layer in layers):,} bytes unpacked"]
    lines += [
        f"  {one['name']}: {one['once']:,} bytes on disk for all, {one['separately']:,} if each had its own"
        for one in shared["slices"]
    ]
    return "\n".join([
        *lines, f"files: {files['size']:,} bytes, {files['again']:,} of them for layers that another brings, too",
    ])  # fmt: skip
