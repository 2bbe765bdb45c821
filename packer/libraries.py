"""The compiled libraries in archives: what is where, whether they agree, and whether they are what somebody pinned.

A library is a shared object that wheels or interpreters brought along, or a project that was linked statically into one
of their files. What comes from hosts is not here: nobody packed it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import sys
import tempfile
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from packer import detect, inspect
from packer.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from packer.cache import Cache

SAME = "same"
"""A pin that asks for no version, but for one and the same everywhere."""

_SITE = "lib/python/site-packages/"
_LIBRARY = re.compile(r"(lib|ld-)[^/]*\.so(\.[\w.]+)?|ld-[^/]*\.so")
_LETTERS = re.compile(r"(?<![\w.])(\d+(?:\.\d+)*)([a-z]{1,2})(?![\w.])")


@dataclass(frozen=True)
class Library:
    """One library, or one project that is linked into a file; a file may have several."""

    soname: str
    """As it is in the file, with what auditwheel put into it; ``""``: it has none."""
    file: str
    """Path in its layer."""
    sha256: str
    """Of the file."""
    build_id: str
    nodes: tuple[str, ...]
    """Symbol versions that the file defines."""
    origin: str
    """The layer: name of the wheel's file without ``.whl``, ``app``, ``cpython-3.9.2-cp39``."""
    project: str | None
    version: str | None
    """Of the project; None: it cannot be read."""
    static: bool = False
    """It is linked into a file that is something else."""

    @property
    def place(self) -> str:
        """Path below ``site-packages``, or of what is not there in its layer; as before it was renamed."""
        directory, slash, name = self.file.removeprefix(_SITE).rpartition("/")
        return f"{directory}{slash}{detect.plain(name)}"

    @property
    def name(self) -> str:
        """``libssl.so.3``: the SONAME as the library was built with it, or the name of a file that has none."""
        return detect.plain(self.soname or self.file.rpartition("/")[2])

    @property
    def stem(self) -> str:
        """``libssl``; of what is linked statically ``""``."""
        return "" if self.static else self.name.partition(".so")[0]

    @property
    def key(self) -> str:
        """What this is a version of."""
        return self.project or self.stem

    @property
    def source(self) -> str:
        """What it came from in short: ``numpy-2.0.2``, ``cpython-3.9.2``, ``app``."""
        return "-".join(self.origin.split("-")[:2])

    @property
    def json(self) -> dict[str, Any]:
        """All of it; ``docs/json.md`` has the keys."""
        return asdict(self) | {"nodes": list(self.nodes)}


# Reading --------------------------------------------------------------------------------------------------------


def of_archive(path: Path, cache: Cache | None = None) -> dict[str, tuple[Library, ...]]:
    """Find the libraries of each slice of an archive.

    :param cache: where what was read of layers is kept; an archive of whose layers all are there is not unpacked.
    :raises PackError: if it cannot be read or unpacked.
    """
    described = inspect.describe(path)
    said = list(described["layers"])
    known = [_kept(cache, one["name"].partition("~")[0], one["digest"]) for one in said]
    if any(one is None for one in known):
        with tempfile.TemporaryDirectory(prefix="packer-") as name:
            tree = Path(name) / "files"
            inspect.extract(path, tree)
            known = [
                found if found is not None else of_tree(tree / one["name"], one["digest"], one["name"], cache)
                for found, one in zip(known, said, strict=True)
            ]
    return {
        one["name"]: tuple(library for index in one["layers"] for library in known[index] or ())
        for one in described["slices"]
    }


def of_tree(root: Path, digest: str, name: str, cache: Cache | None = None) -> tuple[Library, ...]:
    """Find the libraries of a layer that is unpacked somewhere.

    :param digest: the layer's.
    :param name: the layer's; of several with one name some end in ``~2`` and so on.
    """
    origin = name.partition("~")[0]
    known = _kept(cache, origin, digest)
    if known is not None:
        return known
    files = sorted(
        (path.relative_to(root).as_posix(), path)
        for place, _, names in os.walk(root)
        for path in (Path(place) / one for one in names)
        if not path.is_symlink() and _is_elf(path)
    )
    found = [library for path, source in files for library in _read(origin, path, source, source.read_bytes())]
    whole = tuple(_with_companions(found))
    if cache:
        cache.put(_name(origin, digest), json.dumps([one.json for one in whole]).encode())
    return whole


def _kept(cache: Cache | None, origin: str, digest: str) -> tuple[Library, ...] | None:
    kept = cache.get(_name(origin, digest)) if cache else None
    if kept is None:
        return None
    return tuple(Library(**{**said, "nodes": tuple(said["nodes"])}) for said in json.loads(kept))


def _name(origin: str, digest: str) -> bytes:
    return hashlib.sha256(f"libraries {_rules()} {origin} {digest}".encode("utf-8", "surrogateescape")).digest()


@functools.cache
def _rules() -> str:
    """Name what decides what is found in a file: our code, and the library that parses."""
    ours = b"".join(Path(__file__).with_name(name).read_bytes() for name in ("libraries.py", "libread.py", "detect.py"))
    return hashlib.sha256(ours + version("lief").encode()).hexdigest()


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(64)  # lief reads past the end of a shorter file
    return len(head) == 64 and head.startswith(b"\x7fELF")


def _read(origin: str, path: str, source: Path, content: bytes) -> Iterator[Library]:
    """Read one file: what it is, if it is a library, and what is linked into it."""
    from packer import libread  # takes longer to import than all the rest of the packer

    read = libread.read(source)
    if read is None:
        return
    name = path.rpartition("/")[2]
    what = Library(
        read.soname, path, hashlib.sha256(content).hexdigest(), read.build_id, read.nodes, origin, None, None
    )
    projects = detect.projects(name, read.soname, read.data, origin)
    if _LIBRARY.fullmatch(detect.plain(read.soname or name)) and all(one.static for one in projects):
        yield what  # nobody knows it by its name
    for one in projects:
        yield replace(what, project=one.project, version=one.version, static=one.static)


def _with_companions(found: Sequence[Library]) -> Iterator[Library]:
    """Give what does not say its version that of what lies beside it of the same project: libssl that of libcrypto."""
    said = defaultdict(set)
    for one in found:
        if one.version and not one.static:
            said[_beside(one)].add(one.version)
    for one in found:
        beside = said[_beside(one)]
        if one.project and one.version is None and not one.static and len(beside) == 1:
            yield replace(one, version=next(iter(beside)))
        else:
            yield one


def _beside(one: Library) -> tuple[str | None, str]:
    return one.project, one.file.rpartition("/")[0]


# Pins -----------------------------------------------------------------------------------------------------------


def read_pins(path: Path) -> dict[str, str]:
    """Read the table ``[libraries]`` of a TOML file.

    :raises UsageError: if it has none, or one that makes no sense.
    """
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    if "libraries" not in document:
        raise UsageError(
            f"{path}: there is no [libraries]", hint='write a line under it for each, as openssl = "3.0.*"'
        )
    try:
        return pins(document["libraries"])
    except UsageError as error:
        raise UsageError(f"{path}: {error}", error.hint) from None


def pins(table: object) -> dict[str, str]:
    """Check a table of pins.

    :raises UsageError: if it is no table of versions.
    """
    if not isinstance(table, dict):
        raise UsageError(f"[libraries]: must be a table, is {table!r}")
    for name, wanted in table.items():
        if not isinstance(wanted, str):
            raise UsageError(f"[libraries] {name}: must be a string, is {wanted!r}")
        _specifier(name, wanted)
    return dict(table)


def _specifier(name: str, wanted: str) -> SpecifierSet | None:
    """Read a pin's version; None: ``same``."""
    if wanted == SAME:
        return None
    clauses = [clause.strip() for clause in comparable(wanted).split(",")]
    try:
        return SpecifierSet(",".join(one if re.match(r"[<>=!~]", one) else f"=={one}" for one in clauses))
    except InvalidSpecifier:
        raise UsageError(
            f"[libraries] {name}: not a version: {wanted!r}", hint='write "3.0.*", "1.1.1w", ">=1.2.11,<2" or "same"'
        ) from None


def comparable(text: str) -> str:
    """Write a version, or what is wanted of one, as packaging can compare it: 1.1.1w is 1.1.1.23."""
    return _LETTERS.sub(lambda match: f"{match[1]}.{sum(ord(letter) - 96 for letter in match[2])}", text)


def matching(name: str, found: Mapping[str, Sequence[Library]]) -> list[tuple[str, Library]]:
    """Give the libraries that a pin's name means, and where each is.

    A name with a slash is a pattern for paths below site-packages, one without is that of a project or a library.
    """
    return [(where, one) for where, some in found.items() for one in some if _means(name, one)]


def _means(name: str, one: Library) -> bool:
    if "/" in name:
        return any(fnmatchcase(path, name) for path in (one.place, one.file.removeprefix(_SITE)))
    words = {(one.project or "").lower(), one.stem.lower(), "" if one.static else one.name.lower()}
    return name != "" and name.lower() in words


def check(pins: Mapping[str, str], found: Mapping[str, Sequence[Library]]) -> tuple[str, ...]:
    """Compare libraries with what was pinned.

    :param pins: name -> version, or ``same``; ``docs/libraries.md`` says what they mean.
    :param found: where -> the libraries there: a slice of one archive, or archive and slice of several.
    :return: a sentence for each pin that does not hold, with what is wanted and all that is there instead.
    :raises UsageError: if a pin is no version.
    """
    sentences: list[str] = []
    for name, wanted in pins.items():
        specifier, places = _specifier(name, wanted), matching(name, found)
        if specifier is not None:
            sentences += _beyond(name, wanted, specifier, places)
        elif "/" in name:
            sentences += _different_files(name, places)
        else:
            sentences += _different_versions(name, places)
    return tuple(sentences)


def unmatched(pins: Mapping[str, str], found: Mapping[str, Sequence[Library]]) -> list[str]:
    """Give the pins that no library is meant by: a mistake, perhaps."""
    return [name for name in pins if not matching(name, found)]


def _beyond(
    name: str, wanted: str, specifier: SpecifierSet, places: Sequence[tuple[str, Library]]
) -> Iterator[str]:  # fmt: skip
    right = [place for place in places if _fits(place[1].version, specifier)]
    wrong = [place for place in places if place not in right]
    if wrong:
        fitting = f"; what fits is {_by_version(right)}" if right else ""
        yield f"{name}: {wanted} is wanted, found {_by_version(wrong)}{fitting}"


def _fits(version: str | None, specifier: SpecifierSet) -> bool:
    try:
        return version is not None and specifier.contains(Version(comparable(version.rstrip("+"))), prereleases=True)
    except InvalidVersion:
        return False


def _different_versions(name: str, places: Sequence[tuple[str, Library]]) -> Iterator[str]:
    if len({one.version or one.sha256 for _, one in places}) > 1:
        yield f"{name}: the same everywhere is wanted, found {_by_version(places)}"


def _different_files(pattern: str, places: Sequence[tuple[str, Library]]) -> Iterator[str]:
    """Compare file by file; where some of what a pattern means is, the rest has to be."""
    at: dict[str, list[tuple[str, Library]]] = defaultdict(list)
    for place in places:
        at[place[1].place].append(place)
    everywhere = dict.fromkeys(where for where, _ in places)
    for path, some in at.items():
        lacking = [where for where in everywhere if all(where != there for there, _ in some)]
        if len({one.sha256 for _, one in some}) > 1 or lacking:
            groups: dict[str, dict[str, None]] = defaultdict(dict)
            for where, one in some:
                groups[f"{one.sha256[:12]} of {one.source}"][where] = None
            said = "; ".join(f"{what} ({_several(list(wheres))})" for what, wheres in groups.items())
            said += f"; none ({_several(lacking)})" if lacking else ""
            yield f"{pattern}: the same everywhere is wanted, found of {path} {said}"


def _by_version(places: Sequence[tuple[str, Library]]) -> str:
    """Say which versions there are, and where: ``3.5.8 in a/libssl.so.3, a/libcrypto.so.3 of a-1.0 (tool: cp39)``."""
    files: dict[tuple[str, str, str], dict[str, None]] = defaultdict(dict)
    for where, one in places:
        files[one.version or "an unknown version", one.source, where][one.place] = None
    wheres: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for (said, source, where), names in files.items():
        wheres[said, _several(list(names)), source].append(where)
    return "; ".join(
        f"{said} in {names} of {source} ({_several(some)})" for (said, names, source), some in wheres.items()
    )


def _several(words: Sequence[str]) -> str:
    return ", ".join(words[:4]) + (f" and {len(words) - 4} more" if len(words) > 4 else "")
