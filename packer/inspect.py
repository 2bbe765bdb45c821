"""What is in an archive, as data and as a table; checked and unpacked by the launcher's code."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from packer import facts, native, signature
from packer.errors import PackError
from packer.model import EntryKind, LayerKind, NeedKind, ToolKind
from packer.reader import Archive, check, reading

if TYPE_CHECKING:
    from enum import Enum
    from pathlib import Path

    from packer.signature import Signer


def describe(path: Path) -> dict[str, Any]:
    """Everything a person or a program may want to know of an archive, as JSON values; ``docs/json.md`` has its form.

    :raises PackError: if it cannot be read.
    """
    with reading(path) as archive:
        return {
            "version": 1,
            "file": str(path),
            "id": archive.id,
            "size": archive.size,
            "stored_blobs": sum(blob.stored_size for blob in archive.records("blob")),
            "raw_blobs": sum(blob.raw_size for blob in archive.records("blob")),
            "launchers": [_machine(launcher.machine) for launcher in archive.records("launcher")],
            "tools": [_tool(archive, tool) for tool in archive.records("tool")],
            "layers": [_layer(archive, layer) for layer in archive.records("layer")],
            "slices": [_slice(archive, one) for one in archive.records("slice")],
            "signature": _signature(archive),
            "manifest": archive.manifest,
        }


def _signature(archive: Archive) -> dict[str, str | None] | None:
    """Give what the signature says of itself; None if there is none. One that makes no sense has no key."""
    block = signature.block_of(archive)
    try:
        return signature.stated(block).json if block else None
    except PackError:
        return {"key_type": None, "fingerprint": None, "identity": None}


def _machine(number: int) -> str:
    known = {machine: name for name, machine in facts.architectures().items()}
    return known.get(number, f"machine {number}")


def _tool(archive: Archive, tool: Any) -> dict[str, Any]:
    return {
        "name": archive.string(tool.name),
        "kind": _word(ToolKind, tool.kind),
        "target": archive.string(tool.target),
    }


def _layer(archive: Archive, layer: Any) -> dict[str, Any]:
    entries = archive.records("entry")[layer.first_entry : layer.first_entry + layer.entry_count]
    return {
        "name": archive.string(layer.name),
        "kind": _word(LayerKind, layer.kind),
        "digest": bytes(layer.digest).hex(),
        "files": sum(entry.kind != EntryKind.DIR.value for entry in entries),
        "size": int(layer.size),
    }


def _slice(archive: Archive, one: Any) -> dict[str, Any]:
    needs = archive.records("need")[one.first_need : one.first_need + one.need_count]
    return {
        "name": archive.string(one.name),
        "python": archive.string(one.python),
        "layers": archive.refs(one.first_layer, one.layer_count),
        "links": int(one.link_count),
        "flags": [archive.string(flag) for flag in archive.refs(one.first_flag, one.flag_count)],
        "needs": [
            {
                "kind": _word(NeedKind, need.kind),
                "name": archive.string(need.name),
                "value": archive.string(need.value),
                "number": int(need.number),
            }
            for need in needs
        ],
    }


def _word(kinds: type[Enum], number: int) -> str:
    """Name a kind; a later packer may know more kinds than this one."""
    known = {kind.value: kind.name.lower() for kind in kinds}
    return known.get(number, f"kind {number}")


def table(described: dict[str, Any]) -> str:
    """Give the same for reading."""
    described = native.shown(described)
    launchers = " and ".join(described["launchers"])
    lines = [
        f"{described['file']}: {described['size']:,} bytes, archive {described['id']}",
        *([f"launchers: {launchers}, behind a shell front"] if launchers else []),
        f"tools: {', '.join(tool['name'] for tool in described['tools'])}",
        f"blobs: {described['stored_blobs']:,} bytes, {described['raw_blobs']:,} unpacked",
        *_signed(described["signature"]),
    ]
    for one in described["slices"]:
        layers = [described["layers"][index] for index in one["layers"]]
        size = sum(layer["size"] for layer in layers)
        lines += ["", f"{one['name']}: {size:,} bytes unpacked", f"  needs {', '.join(needs_in_short(one['needs']))}"]
        lines += [f"  {layer['size']:>12,}  {layer['files']:>5} files  {layer['name']}" for layer in layers]
    return "\n".join(lines)


def _signed(said: dict[str, str | None] | None) -> list[str]:
    if said is None:
        return []
    if said["key_type"] is None:
        return ["signed: in a way that this packer does not know"]
    return [f"signed: {said['key_type']} key {said['fingerprint']}, not checked: packer verify does that"]


def needs_in_short(needs: list[dict[str, Any]]) -> list[str]:
    """Say needs in short: of the many nodes of a library, and of modules, only how many they are."""
    found = [need for need in needs if need["kind"] not in ("node", "stdlib")]
    nodes = Counter(need["name"] for need in needs if need["kind"] == "node")
    modules = sum(need["kind"] == "stdlib" for need in needs)
    return [
        *map(_need, found),
        *(f"{name} (symbol versions: {count})" for name, count in nodes.items()),
        *([f"standard library (modules: {modules})"] if modules else []),
    ]


def _need(need: dict[str, Any]) -> str:
    kind, name, number = need["kind"], need["name"], need["number"]
    if kind == "cpu":
        return next((level.name for level in facts.cpu_levels() if level.number == number), f"CPU level {number}")
    if kind == "python_not":
        return f"not Python {version(number >> 8, 3)}"
    if kind == "kernel":
        return f"Linux {version(number, 3)}"
    if kind == "libc" and number:
        return f"{name} {version(number, 2)}"
    if kind == "python" and number:
        return f"{name} from {version(number >> 8, 3)}"
    return str(name or kind)


def version(number: int, parts: int) -> str:
    """Write the first parts of ``a << 16 | b << 8 | c``."""
    return ".".join(str(part) for part in (number >> 16, number >> 8 & 255, number & 255)[:parts])


@dataclass(frozen=True)
class Verified:
    """What was found right."""

    archive_id: str
    blobs: int
    layers: int
    signer: Signer | None
    """None: not signed."""
    checked: bool
    """Whether the signature was: that takes OpenSSH."""


def verify(path: Path) -> tuple[int, int]:
    """Check every digest; give the numbers of blobs and layers.

    :raises PackError: naming the first that is wrong.
    """
    with reading(path) as archive:
        return _verify(archive, path)


def verified(path: Path, allowed_signers: Path | None = None, identity: str | None = None) -> Verified:
    """Check the signature, then every digest.

    :param allowed_signers: who must have signed it; None: nobody need, but if somebody has, it must be of this file.
    :param identity: who of them.
    :raises PackError: naming the first that is wrong.
    """
    with reading(path) as archive:
        signer, checked = _signer(archive, path, allowed_signers, identity)
        return Verified(archive.id, *_verify(archive, path), signer, checked)


def _verify(archive: Archive, path: Path) -> tuple[int, int]:
    fault = native.ffi().new("struct fault *")
    check(native.lib().controlverify(archive.pointer, fault), fault, path)
    return int(archive.pointer.blob_count), int(archive.pointer.layer_count)


def verified_json(path: Path, found: Verified) -> dict[str, Any]:
    """Give what was verified as JSON values; ``docs/json.md`` has their form."""
    return {
        "version": 1,
        "file": str(path),
        "id": found.archive_id,
        "blobs": found.blobs,
        "layers": found.layers,
        "signature": found.signer.json if found.signer else None,
        "signature_checked": found.checked,
    }


def _signer(
    archive: Archive, path: Path, allowed_signers: Path | None, identity: str | None
) -> tuple[Signer | None, bool]:
    block = signature.block_of(archive)
    if allowed_signers is None and not block:
        return None, False
    if allowed_signers is None and not signature.available():
        return signature.stated_in(block, path), False
    return signature.checked(archive, path, allowed_signers, identity), True


def extract(path: Path, directory: Path) -> None:
    """Write every layer and the manifest below a new directory.

    :raises PackError: if it exists, cannot be written, or the archive is damaged; nothing is left then.
    """
    with reading(path) as archive:
        fault = native.ffi().new("struct fault *")
        check(native.lib().controlextract(archive.pointer, os.fsencode(directory), fault), fault, path)
