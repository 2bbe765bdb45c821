"""What an archive consists of, as a bill of materials lists it: distributions, compiled libraries, interpreters, the
launcher."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packageurl import PackageURL
from packaging.metadata import parse_email

from packer import facts, inspect, libraries
from packer.reader import reading

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from packer.cache import Cache

_OF_A_WHEEL = ("name", "version", "wheel", "sha256")
_NONE: Mapping[str, Any] = {}

_ELF_SECTIONS = 0x28, 0x3A
"""Where a 64-bit ELF file says at which offset its table of sections is, and how large and how many these are."""


@dataclass(frozen=True)
class Part:
    """One thing that somebody made, and may publish a fault of."""

    key: str
    """No other part has it, and it is the same whenever the same is packed."""
    kind: str
    """``distribution``, ``library``, ``interpreter`` or ``launcher``."""
    name: str
    version: str
    """Empty: it cannot be known."""
    purl: PackageURL | None
    sha256: str
    """Of the wheel, of the library's file, of the interpreter's layer, of the launcher; empty: it is no file."""
    licence: str = ""
    """As its metadata has it: an SPDX expression, or some words."""
    within: str = ""
    """Key of the part that it is in."""
    slices: tuple[str, ...] = ()
    """Which have it; none: all, and none of them alone."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What else is known of it."""


def of_archive(path: Path, cache: Cache | None = None) -> tuple[Part, ...]:
    """Find them all, in the order of the slices.

    :raises PackError: if the archive cannot be read or unpacked.
    """
    described = inspect.describe(path)
    found: dict[str, Part] = {}
    with tempfile.TemporaryDirectory(prefix="packer-") as name:
        tree = Path(name) / "files"
        inspect.extract(path, tree)
        for part in described["slices"]:
            for one in _of_slice(part, described, tree, cache):
                before = found.get(one.key)
                found[one.key] = replace(one, slices=(*(before.slices if before else ()), part["name"]))
    return (*_launchers(path, described["manifest"]), *found.values())


def _of_slice(
    part: Mapping[str, Any], described: Mapping[str, Any], tree: Path, cache: Cache | None
) -> Iterator[Part]:  # fmt: skip
    said = next((one for one in _dicts(described["manifest"], "slices") if one.get("name") == part["name"]), _NONE)
    wheels = {
        one["wheel"].removesuffix(".whl"): one for one in _dicts(said, "distributions")
        if all(isinstance(one.get(key), str) for key in _OF_A_WHEEL)
    }  # fmt: skip
    for layer in (described["layers"][index] for index in part["layers"]):
        root, origin = tree / layer["name"], layer["name"].partition("~")[0]
        owner = None
        if origin in wheels:
            owner = _distribution(wheels[origin], root)
        elif layer["kind"] == "interpreter":
            owner = _interpreter(origin, layer["digest"], _text(said.get("interpreter"), "version"))
        if owner:
            yield owner
        if layer["kind"] != "bytecode":
            for one in libraries.of_tree(root, layer["digest"], layer["name"], cache):
                if not (owner and owner.kind == "interpreter" and one.project == owner.name):
                    yield _library(one, owner.key if owner else "")


def _dicts(said: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """Give a list of objects as far as it is one: anybody may have written a manifest."""
    found = said.get(key)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _text(said: object, key: str) -> str:
    found = said.get(key) if isinstance(said, dict) else None
    return found if isinstance(found, str) else ""


def _distribution(said: Mapping[str, str], root: Path) -> Part:
    source = _text(said, "built_from")
    name, version = said["name"], said["version"]
    qualifiers = {} if source else {"file_name": said["wheel"]}
    # what was built from a directory is in no index, or another is there by that name
    private = source and not source.endswith((".gz", ".zip"))
    purl = PackageURL("generic" if private else "pypi", None, name, version, qualifiers)
    more = {"wheel": said["wheel"]} | ({"built-from": source} if source else {})
    key = f"distribution-{name}-{version}-{said['sha256'][:12]}"
    return Part(key, "distribution", name, version, purl, said["sha256"], _licence(root), facts=more)


def _licence(root: Path) -> str:
    """Read what the metadata say, best first: an expression, words, classifiers."""
    for path in sorted(root.glob("lib/python/site-packages/*.dist-info/METADATA")):
        said, _ = parse_email(path.read_bytes())
        words = (said.get("license_expression") or said.get("license") or "").strip()
        if words and "\n" not in words and words.upper() != "UNKNOWN" and len(words) < 100:
            return words
        names = [one.rpartition(" :: ")[2] for one in said.get("classifiers", ()) if one.startswith("License :: ")]
        return ", ".join(name for name in names if name != "OSI Approved")
    return ""


def _interpreter(origin: str, digest: str, version: str) -> Part:
    purl = PackageURL("generic", None, "cpython", version) if version else None
    key = f"interpreter-{origin}-{digest[:12]}"
    return Part(key, "interpreter", "cpython", version, purl, digest, "Python-2.0.1", facts={"layer": origin})


def _library(one: libraries.Library, within: str) -> Part:
    name, version = one.key or one.name, (one.version or "").rstrip("+")
    purl = PackageURL("generic", None, one.project, version) if one.project and version else None
    more = {"file": one.file, "linked": "statically" if one.static else "dynamically"}
    more |= {"soname": one.soname} if one.soname and not one.static else {}
    more |= {"build-id": one.build_id} if one.build_id else {}
    place = hashlib.sha256(f"{one.origin}\0{one.file}".encode("utf-8", "surrogateescape")).hexdigest()
    key = f"library-{name}-{version}-{one.sha256[:12]}-{place[:8]}"
    return Part(key, "library", name, version, purl, one.sha256, within=within, facts=more)


def _launchers(path: Path, manifest: Mapping[str, Any]) -> Iterator[Part]:
    """Give the launchers, and the decoder that is linked into each."""
    version, zstd = _text(manifest, "packer"), _text(manifest.get("launcher"), "zstd")
    for machine, content in _read_launchers(path):
        purl = PackageURL("generic", None, "fatpar-launcher", version) if version else None
        digest = hashlib.sha256(content).hexdigest()
        key = f"launcher-{machine}"
        yield Part(key, "launcher", "fatpar-launcher", version, purl, digest, "MIT", facts={"machine": machine})
        purl = PackageURL("github", "facebook", "zstd", f"v{zstd}") if zstd else None
        more = {"linked": "statically"}
        yield Part(f"{key}-zstd", "library", "zstd", zstd, purl, "", "BSD-3-Clause", key, facts=more)


def _read_launchers(path: Path) -> Iterator[tuple[str, bytes]]:
    names = {number: name for name, number in facts.architectures().items()}
    with reading(path) as archive:
        records = archive.records("launcher")
        for one in records:
            yield names.get(int(one.machine), f"machine-{one.machine}"), archive.read(int(one.offset), int(one.size))
        if not records:
            head = archive.read(0, 64)
            offset, sizes = (int.from_bytes(head[at : at + length], "little") for at, length in zip(
                _ELF_SECTIONS, (8, 4), strict=True
            ))  # fmt: skip
            size = offset + (sizes & 0xFFFF) * (sizes >> 16)
            machine = int.from_bytes(head[18:20], "little")
            yield names.get(machine, f"machine-{machine}"), archive.read(0, size)
