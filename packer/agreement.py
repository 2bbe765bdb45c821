"""Whether several archives have the same libraries, each once, and those that were pinned: ``packer audit A B``."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from packer import inspect, libraries, native, versions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from packer.cache import Cache
    from packer.libraries import Library
    from packer.store import Contents


def audit(paths: Sequence[Path], pins: Mapping[str, str], cache: Cache | None = None) -> dict[str, Any]:
    """Compare the libraries of all slices of archives.

    :param pins: what is wanted of them, as in :func:`packer.libraries.check`.
    :return: JSON values; ``docs/json.md`` has their form.
    :raises PackError: if one cannot be read.
    """
    archives, each = [], []
    found: dict[str, Sequence[Library]] = {}
    for path in paths:
        slices = libraries.of_archive(path, cache)
        each.append(slices)
        found |= {f"{path}: {name}": some for name, some in slices.items()}
        said = [{"name": name, "libraries": [one.json for one in some]} for name, some in slices.items()]
        archives.append({"file": str(path), "id": inspect.describe(path)["id"], "slices": said})
    differing = list(different(found))
    return {
        "version": 1,
        "archives": archives,
        "table": versions.rows(each, [one["library"] for one in differing]),
        "different": differing,
        "duplicates": list(duplicates(found)),
        "drift": list(libraries.check(pins, found)),
        "unmatched": libraries.unmatched(pins, found),
    }


def different(found: Mapping[str, Sequence[Library]]) -> Iterator[dict[str, Any]]:
    """Give what is there in more than one version, sorted.

    A library whose version nobody can read is another if its file is; what is linked statically then is passed over.
    """
    copies: dict[str, dict[str, list[tuple[str, Library]]]] = defaultdict(lambda: defaultdict(list))
    for where, some in found.items():
        for one in some:
            if one.version or not one.static:
                copies[one.key][versions.said_of(one)].append((where, one))
    for key, by_version in sorted(copies.items()):
        if len(by_version) > 1:
            said = [_copies(version, places) for version, places in sorted(by_version.items())]
            yield {"library": key, "versions": said}


def duplicates(found: Mapping[str, Sequence[Library]]) -> Iterator[dict[str, Any]]:
    """Give what a slice has more than one copy of: the same project from two wheels, or twice from one.

    Files of one wheel with the same version are one copy: libssl and libcrypto, or modules with the same code in each.
    """
    for where, some in found.items():
        copies: dict[str, dict[tuple[str, str], list[tuple[str, Library]]]] = defaultdict(lambda: defaultdict(list))
        for one in some:
            if one.project:
                copies[one.project][one.origin, one.version or ""].append((where, one))
        for project, of in sorted(copies.items()):
            if len(of) > 1:
                said = [_copies(version or None, places) for (_, version), places in sorted(of.items())]
                yield {"where": where, "library": project, "copies": said}


def in_store(contents: Contents, cache: Cache | None = None) -> list[dict[str, Any]]:
    """Give each version of a library that is in a store, sorted, with the programs that use it.

    :raises OSError: if a layer cannot be read.
    """
    tools: dict[str, set[str]] = defaultdict(set)
    for view in contents.views:
        for digest in view.layers:
            tools[digest] |= set(view.tools[:1])
    found: dict[tuple[str, str], list[tuple[str, Library]]] = defaultdict(list)
    for layer in contents.layers:
        tree = contents.base / "v1/layers" / layer.digest / "tree"
        for one in libraries.of_tree(tree, layer.digest, layer.name or layer.digest, cache):
            found[one.key, versions.said_of(one)].append((layer.digest, one))
    return [
        {
            "library": key,
            "version": places[0][1].version,
            "files": [
                {"layer": digest, "file": one.file, "sha256": one.sha256, "static": one.static}
                for digest, one in places
            ],
            "sources": sorted({one.source for _, one in places}),
            "tools": sorted({tool for digest, _ in places for tool in tools[digest]}),
        }
        for (key, _), places in sorted(found.items())
    ]


def _copies(version: str | None, places: Iterable[tuple[str, Library]]) -> dict[str, Any]:
    said = [
        {"where": where, "file": one.place, "origin": one.origin, "source": one.source, "static": one.static}
        for where, one in places
    ]
    return {"version": version, "places": said}


def text(audited: Mapping[str, Any], width: int) -> str:
    """Say it to people, with tables of a width."""
    audited = native.shown(audited)
    table = versions.text(audited["table"], audited["archives"], width)
    blocks = [
        _archives(audited["archives"]),
        table,
        _different(audited["different"]),
        _duplicates(audited["duplicates"]),
    ]
    if audited["drift"]:
        blocks.append("\n".join(["drift", *(f"  {sentence}" for sentence in audited["drift"])]))
    return "\n\n".join(filter(None, blocks))


def _archives(archives: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for one in archives:
        libraries = [library for part in one["slices"] for library in part["libraries"]]
        files = {(library["origin"], library["file"]) for library in libraries}
        slices = ", ".join(part["name"] for part in one["slices"])
        lines.append(f"{one['file']}: {len(files)} files with libraries in {slices}")
    return "\n".join(lines)


def _different(some: Sequence[Mapping[str, Any]]) -> str:
    if not some:
        return "every library is there in one version"
    lines = ["in several versions"]
    for one in some:
        lines.append(f"  {one['library']}")
        lines += [line for copy in one["versions"] for line in _copy(copy, wheres=True)]
    return "\n".join(lines)


def _duplicates(some: Sequence[Mapping[str, Any]]) -> str:
    """Say what slices have in common once."""
    if not some:
        return ""
    same: dict[str, list[str]] = defaultdict(list)
    for one in some:
        lines = [f"  {one['library']}", *(line for copy in one["copies"] for line in _copy(copy, wheres=False))]
        same["\n".join(lines)].append(one["where"])
    wheres: dict[str, list[str]] = defaultdict(list)
    for block, slices in same.items():
        wheres[", ".join(slices)].append(block)
    return "\n\n".join("\n".join([f"more than once in {where}", *blocks]) for where, blocks in wheres.items())


def _copy(copy: Mapping[str, Any], *, wheres: bool) -> Iterator[str]:
    """Give a line for each wheel that a copy comes with."""
    by_source: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for place in copy["places"]:
        by_source[place["source"]].append(place)
    for source, places in by_source.items():
        names = dict.fromkeys(f"{place['file']}{' (linked statically)' if place['static'] else ''}" for place in places)
        said = f"{', '.join(list(names)[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''} of {source}"
        yield f"    {copy['version'] or 'unknown version':14} {said}"
        if wheres:
            yield from (f"    {'':14}   in {where}" for where in dict.fromkeys(place["where"] for place in places))
