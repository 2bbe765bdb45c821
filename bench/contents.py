"""Whether an archive unpacks to the very files of its wheels: every file's SHA-256, slice by slice.

What may differ is what an installer makes, and what the packer was told to leave out:

- ``RECORD`` and ``INSTALLER`` of each ``.dist-info`` are the packer's; a wheel's own of these, ``REQUESTED`` and
  ``direct_url.json`` are not installed,
- a program of ``bin/`` is made of each entry point, in place of the wheel's script of that name, and a script that
  begins with ``#!python`` gets another beginning,
- bytecode in a wheel that a source stands beside is not installed,
- what the manifest lists as ``left_out`` is not there.
"""

from __future__ import annotations

import hashlib
import struct
import sys
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from installer.utils import parse_entrypoints
from measure import table

from packer.inspect import describe

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from measure import Archive
    from rich.table import Table

_SITE = "lib/python/site-packages"
_SCHEMES = {"purelib": f"{_SITE}/", "platlib": f"{_SITE}/", "scripts": "bin/", "data": ""}
_INSTALLERS = ("INSTALLER", "REQUESTED", "direct_url.json", "RECORD")
_STORE_TIME = 315532800
"""1980-01-01, which every file of a store has."""


@dataclass(frozen=True)
class Checked:
    """How the files of an archive's slices compare with the wheels'."""

    archive: str
    slices: int
    counts: Mapping[str, int]
    """Files of all slices, each counted for every slice that has it."""


def check(name: str, archive: Archive, tree: Path) -> Checked:
    """Compare an archive's files with its wheels', and end the program where one is wrong.

    :param tree: the directory that the archive was extracted to.
    """
    described = describe(archive.path)
    left_out = described["manifest"].get("left_out", {})
    counts: Counter[str] = Counter()
    for one, wheels in zip(described["slices"], archive.wheels.values(), strict=True):
        layers = [described["layers"][index] for index in one["layers"]]
        packed = [layer["name"] for layer in layers if layer["kind"] == "wheel"]
        # layers of the same name are told apart by a number: the wheels of two archives never are in one here
        if sorted(packed) != sorted(wheel.name.removesuffix(".whl") for wheel in wheels):
            sys.exit(f"{name}: {one['name']} has the layers {packed}, and not those of {wheels}")
        for wheel in wheels:
            layer = wheel.name.removesuffix(".whl")
            counts += _compare(f"{name}: {layer}", wheel, tree / layer, left_out.get(wheel.name, ()))
        for layer in layers:
            if layer["kind"] == "bytecode":
                counts += _bytecode(name, tree / layer["name"], [tree / one for one in packed])
    return Checked(name, len(described["slices"]), counts)


def show(checked: Sequence[Checked]) -> Table:
    """A row per archive."""
    words = list(dict.fromkeys(word for one in checked for word in sorted(one.counts)))
    shown = table("files of all slices, by how they compare with the wheels'", "archive", "slices", *words)
    for one in checked:
        shown.add_row(one.archive, str(one.slices), *(f"{one.counts[word]:,}" for word in words))
    return shown


def files(tree: Path) -> dict[str, bytes]:
    """Give the digest of every file below a directory."""
    found = {}
    for path in tree.rglob("*"):
        if path.is_file() and not path.is_symlink():
            found[path.relative_to(tree).as_posix()] = hashlib.sha256(path.read_bytes()).digest()
    return found


def _compare(what: str, wheel: Path, tree: Path, left_out: Sequence[str]) -> Counter[str]:
    """Compare a layer with its wheel: numbers of files by how they do."""
    there = files(tree)
    counts: Counter[str] = Counter()
    with zipfile.ZipFile(wheel) as archive:
        programs = _programs(archive)
        for member, path in _members(archive, wheel):
            content = archive.read(member)
            found = there.pop(path, None)
            own = ".dist-info" in path and path.rpartition("/")[2] in _INSTALLERS
            if found == hashlib.sha256(content).digest():
                counts["equal"] += 1
            elif found and own:
                counts["the installer's"] += 1
            elif found and path.startswith("bin/") and (path[4:] in programs or content.startswith(b"#!python")):
                counts["programs"] += 1
            elif found is None and (own or _is_bytecode(member, archive)):
                counts["not installed"] += 1
            elif found is None and path in left_out:
                counts["left out"] += 1
            else:
                sys.exit(f"{what}: {path} is {'another' if found else 'not there'}")
    for path in there:
        if path.startswith("bin/") and path[4:] in programs:
            counts["programs"] += 1
        elif path.count("/") == _SITE.count("/") + 2 and path.endswith((".dist-info/INSTALLER", ".dist-info/RECORD")):
            counts["the installer's"] += 1
        else:
            sys.exit(f"{what}: {path} is in no wheel")
    return counts


def _members(archive: zipfile.ZipFile, wheel: Path) -> Iterator[tuple[str, str]]:
    """Give a wheel's files and where each is installed."""
    distribution = wheel.name.partition("-")[0]
    for member in archive.namelist():
        if member.endswith("/"):
            continue
        top, _, rest = member.partition("/")
        if top.endswith(".data"):
            scheme, _, rest = rest.partition("/")
            if scheme == "headers":
                yield member, f"include/site/python/{distribution}/{rest}"
            else:
                yield member, _SCHEMES[scheme] + rest
        else:
            yield member, f"{_SITE}/{member}"


def _programs(archive: zipfile.ZipFile) -> set[str]:
    """Name the programs that entry points make."""
    for member in archive.namelist():
        if member.endswith(".dist-info/entry_points.txt") and member.count("/") == 1:
            return {name for name, *_ in parse_entrypoints(archive.read(member).decode())}
    return set()


def _is_bytecode(member: str, archive: zipfile.ZipFile) -> bool:
    made = member.endswith((".pyc", ".pyo")) and member[:-1] in archive.namelist()
    return made or "__pycache__" in member.split("/")


def _bytecode(what: str, tree: Path, sources: Sequence[Path]) -> Counter[str]:
    """Make sure that bytecode is what its source's interpreter would take: size and time are the source's."""
    counts: Counter[str] = Counter()
    for path in files(tree):
        directory, _, name = path.rpartition("/")
        source = f"{directory}/{name.split('.cpython-')[0]}.py"
        flags, time, size = struct.unpack_from("<III", (tree / path).read_bytes(), 4)
        matching = [one / source for one in sources if (one / source).is_file()]
        if flags or time != _STORE_TIME or size not in [one.stat().st_size for one in matching]:
            sys.exit(f"{what}: {tree.name}: {path} is not the bytecode of its source")
        counts["bytecode"] += 1
    return counts
