"""What is in one archive and not, or otherwise, in another: ``packer diff --contents``."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from packer import inspect, libraries, moment, native

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from packer.cache import Cache
    from packer.libraries import Library


def compare(old: Path, new: Path, cache: Cache | None = None) -> dict[str, Any]:
    """Compare two archives, slice by slice.

    :return: JSON values; ``docs/json.md`` has their form.
    :raises PackError: if one cannot be read.
    """
    before, after = inspect.describe(old), inspect.describe(new)
    tools = [[tool["name"] for tool in one["tools"]] for one in (before, after)]
    names = [[part["name"] for part in one["slices"]] for one in (before, after)]
    compiled = libraries.of_archive(old, cache), libraries.of_archive(new, cache)
    return {
        "version": 1,
        "old": {word: before[word] for word in ("file", "id", "size")},
        "new": {word: after[word] for word in ("file", "id", "size")},
        "moment": list(_moment(before["manifest"], after["manifest"])),
        "tools": _lists(*tools),
        "slices": _lists(*names) | {"order": names[0] != names[1] and sorted(names[0]) == sorted(names[1])},
        "changed": [
            {"name": name, **changed}
            for name in names[1] if name in names[0]
            if any((changed := _slice(name, before, after, compiled[0][name], compiled[1][name])).values())
        ],
    }  # fmt: skip


def _moment(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Give what else is stated of an archive, and is another now: the lock, the revision, labels."""
    was, now = (dict(line.split(": ", 1) for line in moment.lines(one)) for one in (old, new))
    for name in {**was, **now}:
        if was.get(name) != now.get(name):
            yield {"name": name, **_change(was.get(name), now.get(name))}


def _lists(old: Sequence[str], new: Sequence[str]) -> dict[str, Any]:
    return {"added": [one for one in new if one not in old], "removed": [one for one in old if one not in new]}


def _slice(
    name: str, before: Mapping[str, Any], after: Mapping[str, Any], old: Sequence[Library], new: Sequence[Library]
) -> dict[str, Any]:
    said = [_manifest(one, name) for one in (before, after)]
    interpreters = [one.get("interpreter", {}).get("version") for one in said]
    apps = [_layers(one, name, "app") for one in (before, after)]
    carried = [_layers(one, name, "interpreter") for one in (before, after)]
    return {
        "interpreter": _change(*interpreters) if carried[0] != carried[1] else None,
        "distributions": list(_distributions(*said)),
        "libraries": list(_libraries(old, new)),
        "app": apps[0] != apps[1],
    }


def _change(old: str | None, new: str | None) -> dict[str, str | None]:
    return {"old": old, "new": new}


def _manifest(described: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Give what the manifest says of a slice; a packer need not have written one."""
    slices = described["manifest"].get("slices", [])
    return next((one for one in slices if isinstance(one, dict) and one.get("name") == name), {})


def _layers(described: Mapping[str, Any], name: str, kind: str) -> list[str]:
    (one,) = [one for one in described["slices"] if one["name"] == name]
    layers = [described["layers"][index] for index in one["layers"]]
    return [layer["digest"] for layer in layers if layer["kind"] == kind]


def _distributions(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Give what came, went, has another version, or another wheel of the same one."""
    was, now = ({one["name"]: one for one in said.get("distributions", ())} for said in (old, new))
    for name in sorted({*was, *now}):
        versions = [some[name]["version"] if name in some else None for some in (was, now)]
        rebuilt = versions[0] == versions[1] and was[name]["sha256"] != now[name]["sha256"]
        if rebuilt or versions[0] != versions[1]:
            yield {"name": name, **_change(*versions), "rebuilt": rebuilt}


def _libraries(old: Sequence[Library], new: Sequence[Library]) -> Iterator[dict[str, Any]]:
    """Give the versions that a slice has of each project, or files where nobody can read them."""
    was, now = _versions(old), _versions(new)
    for key in sorted({*was, *now}):
        if was.get(key) != now.get(key):
            yield {"name": key, "old": sorted(was.get(key, ())), "new": sorted(now.get(key, ()))}


def _versions(some: Iterable[Library]) -> dict[str, set[str]]:
    """Name -> versions; of what is linked statically and says none only that it is there."""
    found: dict[str, set[str]] = defaultdict(set)
    for one in some:
        found[one.key].add(one.version or ("unknown" if one.static else f"file {one.sha256[:12]}"))
    return found


def text(compared: Mapping[str, Any]) -> str:
    """Say it to people; what is the same in several slices once."""
    compared = native.shown(compared)
    old, new = compared["old"], compared["new"]
    grown = new["size"] - old["size"]
    lines = [f"{old['file']} -> {new['file']}: {old['size']:,} -> {new['size']:,} bytes ({grown:+,})"]
    lines += [f"  {_changed(one['name'], one['old'], one['new'])}" for one in compared["moment"]]
    for noun, said in (("tool", compared["tools"]), ("slice", compared["slices"])):
        lines += [f"  {noun} {name} added" for name in said["added"]]
        lines += [f"  {noun} {name} removed" for name in said["removed"]]
    if compared["slices"]["order"]:
        lines.append("  slices are preferred in another order")
    same: dict[str, list[str]] = defaultdict(list)
    for one in compared["changed"]:
        for line in _changes(one):
            same[line].append(one["name"])
    by_slices: dict[str, list[str]] = defaultdict(list)
    for line, slices in same.items():
        by_slices[", ".join(slices)].append(line)
    for names, changes in by_slices.items():
        lines += [f"  {names}", *(f"    {line}" for line in changes)]
    if len(lines) == 1:
        lines.append("  the same file" if old["id"] == new["id"] else "  nothing that has a version changed")
    return "\n".join(lines)


def _changes(one: Mapping[str, Any]) -> Iterator[str]:
    if one["interpreter"]:
        yield _changed("interpreter", one["interpreter"]["old"], one["interpreter"]["new"])
    for said in one["distributions"]:
        yield (
            f"{said['name']} {said['new']}: another wheel"
            if said["rebuilt"]
            else _changed(said["name"], said["old"], said["new"])
        )
    for said in one["libraries"]:
        yield "library " + _changed(said["name"], ", ".join(said["old"]), ", ".join(said["new"]))
    if one["app"]:
        yield "the program's own files"


def _changed(name: str, old: str | None, new: str | None) -> str:
    if not old:
        return f"{name} {new} added"
    if not new:
        return f"{name} {old} removed"
    return f"{name} {old}: other files" if old == new else f"{name} {old} -> {new}"
