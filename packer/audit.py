"""What the slices of an archive need of a host, measured again from its files, beside what its wheels' tags claim."""

from __future__ import annotations

import re
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packer import binaries, claims, explain, facts, inspect, layers, native, needs, targets
from packer.model import Layer, LayerKind
from packer.needs import Use

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from packer.model import Platform
    from packer.needs import Judged


def audit(path: Path) -> dict[str, Any]:
    """Unpack an archive aside, read its ELF files, and ask which known hosts each slice runs on.

    :return: JSON values; ``docs/json.md`` has their form.
    :raises PackError: if it cannot be read or unpacked.
    """
    described = inspect.describe(path)
    with tempfile.TemporaryDirectory(prefix="packer-") as name:
        tree = Path(name) / "files"
        inspect.extract(path, tree)
        read = [_layer(one, tree) for one in described["layers"]]
        slices = [_slice(one, [read[index] for index in one["layers"]]) for one in described["slices"]]
    for one, known in zip(slices, explain.on_known_hosts(path, [one["name"] for one in slices]), strict=True):
        one["hosts"] = known
    return {"version": 1, "file": str(path), "id": described["id"], "slices": slices}


def _layer(said: Mapping[str, Any], tree: Path) -> Layer:
    """Read a layer that was unpacked; bytecode is none that has ELF files."""
    kind = LayerKind[said["kind"].upper()]
    entries = [] if kind is LayerKind.BYTECODE else layers.tree(tree / said["name"])
    return layers.layer(said["name"].partition("~")[0], kind, entries)


def _slice(said: Mapping[str, Any], content: Sequence[Layer]) -> dict[str, Any]:
    target = targets.target_of(said["name"].removesuffix("-carried").removesuffix("-libc"))
    judged = needs.judge(binaries.report(content), target)
    needed = said["needs"]
    nodes: dict[str, list[str]] = defaultdict(list)
    for need in needed:
        if need["kind"] == "node":
            nodes[need["name"]].append(need["value"])
    return {
        "name": said["name"],
        "claims": target.platform.policy,
        "needs": inspect.needs_in_short([need for need in needed if need["kind"] not in ("node", "stdlib")]),
        "nodes": nodes,
        "libraries": [need["name"] for need in needed if need["kind"] == "library"],
        "stdlib": [need["name"] for need in needed if need["kind"] == "stdlib"],
        "excess": [
            {"layer": one.layer, "file": one.path, "needs": one.what, "claims": one.claimed}
            for one in claims.excess(judged, target.platform)
        ],
        "files": [_file(one, target.platform) for one in judged],
    }


def _file(judged: Judged, platform: Platform) -> dict[str, Any]:
    file = judged.file
    libc = facts.LIBC_PARTS[platform.libc]
    return {
        "layer": file.layer,
        "path": file.path,
        "use": judged.use.value,
        "reason": judged.reason,
        "libc": newest(node for library, node in file.nodes if libc.fullmatch(library)),
        "nodes": [f"{node} of {library}" for library, node in file.nodes],
        "needed": list(file.needed),
        "cpu": file.cpu,
        "kernel": inspect.version(file.kernel, 3) if file.kernel else "",
    }


def newest(nodes: Iterable[str]) -> str:
    """Give the numbered node with the highest number; ``""`` if there is none."""
    return max((node for node in nodes if facts.NUMBER.fullmatch(node)), key=facts.node_number, default="")


def text(audited: Mapping[str, Any]) -> str:
    """Say it to people."""
    audited = native.shown(audited)
    return "\n\n".join([f"{audited['file']}: archive {audited['id']}", *map(_slice_text, audited["slices"])])


def _slice_text(one: Mapping[str, Any]) -> str:
    files = one["files"]
    uses = Counter(file["use"] for file in files)
    loaded = [file for file in files if file["use"] == Use.LOADED.value]
    highest = newest(file["libc"] for file in loaded)
    deciding = [f"{file['layer']}: {file['path']}" for file in loaded if highest and file["libc"] == highest]
    lines = [f"{one['name']}: its wheels claim {one['claims']} at most"]
    rows = [
        ("needs", ", ".join(one["needs"])),
        ("ELF files", ", ".join(f"{count:,} {use}" for use, count in uses.items()) or "none"),
        ("symbols", ", ".join(f"{newest(nodes) or nodes[-1]} of {library}" for library, nodes in one["nodes"].items())),
        (highest, _several(deciding)),
        ("modules", ", ".join(one["stdlib"])),
        ("left out", _several([f"{file['path']} {file['reason']}" for file in files if file["reason"]])),
        ("runs on", ", ".join(name for name, reasons in one["hosts"].items() if not reasons) or "no known host"),
    ]
    lines += [f"  {name:10} {value}" for name, value in rows if value]
    refused: dict[str, list[str]] = defaultdict(list)
    for name, reasons in one["hosts"].items():
        refused[_FOUND.sub(r"\1", "; ".join(reasons))].append(name)
    lines += [f"  not on     {', '.join(names)}: {reasons}" for reasons, names in refused.items() if reasons]
    lines += [
        f"  beyond     {said['file']} needs {said['needs']}; {said['claims']} is claimed" for said in one["excess"]
    ]
    return "\n".join(lines)


_FOUND = re.compile(r"(needs CPython \w+), found [^;]*")
"""Which Pythons a host has instead: too much for people, who see many hosts at once; JSON values have it."""


def _several(words: Sequence[str]) -> str:
    """Give the first few of many."""
    return ", ".join(words[:3]) + (f" and {len(words) - 3} more" if len(words) > 3 else "")
