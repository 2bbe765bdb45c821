"""Packing twice: as always, and where all is another that must not count. Both have to give the same bytes."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packer import files, inspect, job, pack, packings
from packer.errors import PackError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from packer.pack import Job, Packed
    from packer.packchild import Request
    from packer.progress import Progress

_KEPT = ("runtimes",)
"""What of the cache nobody can fetch again: ``packer runtime add`` was told what it is."""


def job_of(request: Request) -> tuple[Job, tuple[str, ...]]:
    """Decide what is packed; also what the user should know of what was filled in.

    :raises UsageError: as :func:`packer.job.job_of`.
    """
    said = request.config
    config, home = job.with_project(said)
    relocking = request.relocking
    if home and relocking is None:
        relocking = (*said.inputs, *(["-o", str(said.lock)] if said.lock else []), *job.index_of(said))
    wanted, notes = job.job_of(
        config, request.limit, home=home or request.home, beside=request.beside, relocking=relocking
    )
    return replace(wanted, into=request.into), notes


def packed(wanted: Job, request: Request, progress: Progress) -> Packed:
    """Pack; if it is asked for, twice: then the archive goes to its place only if both are the same.

    :raises PackError: naming the first difference.
    """
    if not request.twice:
        return pack.pack(wanted, progress)
    with files.working() as work:
        places = [work / "first", work / "again"]
        for place in places:
            place.mkdir()
        made = pack.pack(replace(wanted, into=places[0]), progress)
        first = made.written.path
        progress.say("packing again")
        again = replace(request, twice=False, into=places[1])
        _pack_again(again, work, job.cache(), progress)
        difference = next(_differences(first, places[1] / first.name, work), None)
        if difference:
            raise PackError(f"{made.output}: packed again it is not the same: {difference}", hint="nothing was written")
        goal = (request.into or made.output.parent) / first.name
        with files.replacing(goal, mode=0o777) as file, first.open("rb") as source:
            shutil.copyfileobj(source, file, 1 << 20)
    told = (*made.notes, "packed twice, the same bytes")
    return replace(made, written=replace(made.written, path=goal), notes=told)


def _pack_again(request: Request, work: Path, cache: Path, progress: Progress) -> None:
    """Pack elsewhere: with nothing in the cache, another mask, zone, locale, and order of what Python hashes."""
    (work / "cache/fatpar-packer").mkdir(parents=True)
    (work / "tmp").mkdir()
    for name in _KEPT:
        if (cache / name).exists():
            (work / "cache/fatpar-packer" / name).symlink_to((cache / name).resolve())
    mask = os.umask(0)
    os.umask(mask)
    environment = {
        "XDG_CACHE_HOME": str(work / "cache"), "TMPDIR": str(work / "tmp"), "LC_ALL": "C",
        "TZ": "UTC" if os.environ.get("TZ") == "Asia/Kathmandu" else "Asia/Kathmandu",
        "PYTHONHASHSEED": "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1",
    }  # fmt: skip
    one = packings.Packing("again", request, environment, 0o022 if mask == 0o077 else 0o077)
    for outcome in packings.run([one], 1, lambda _: progress):
        if outcome.error:
            raise PackError(f"packing again failed: {outcome.error}", outcome.hint)


# Differences ------------------------------------------------------------------------------------------------------


def _differences(one: Path, other: Path, work: Path) -> Iterator[str]:
    """Say where archives differ, from what a person can look at to what is left."""
    if _same(one, other):
        return
    trees = [work / "first.tree", work / "again.tree"]
    for path, tree in zip((one, other), trees, strict=True):
        inspect.extract(path, tree)
    before, after = inspect.describe(one), inspect.describe(other)
    names = [[said["name"] for said in each["slices"]] for each in (before, after)]
    if names[0] != names[1]:
        yield f"slices {', '.join(names[0])}, and then {', '.join(names[1])}"
    for old, new in zip(before["slices"], after["slices"], strict=False):
        layers = [[each["layers"][index] for index in part["layers"]] for each, part in ((before, old), (after, new))]
        yield from (f"{old['name']}: {said}" for said in _layers(layers[0], layers[1], trees[0], trees[1]))
        yield from (f"{old['name']}: {key} differ" for key in old if key != "layers" and old[key] != new[key])
    yield from (
        f"the manifest's {key}" for key in before["manifest"] if before["manifest"][key] != after["manifest"].get(key)
    )
    yield f"no file of it, but its byte {_first(one, other):,}"


def _layers(old: list[dict[str, Any]], new: list[dict[str, Any]], one: Path, other: Path) -> Iterator[str]:
    names = [[layer["name"] for layer in each] for each in (old, new)]
    for name in names[0] + names[1]:
        if name not in names[0] or name not in names[1]:
            yield f"{name} is only in the {'first' if name in names[0] else 'second'}"
    for layer, again in zip(old, new, strict=False):
        if layer["digest"] != again["digest"]:
            found = next(_files(one / layer["name"], other / again["name"]), "")
            yield f"{layer['name']}{': ' if found else ''}{found}"
    if names[0] != names[1]:
        yield f"layers in another order: {', '.join(names[0])}, and then {', '.join(names[1])}"


def _files(one: Path, other: Path) -> Iterator[str]:
    """Name the first file that is not the same in two directories."""
    sides = [{path.relative_to(root).as_posix(): path for path in root.rglob("*")} for root in (one, other)]
    for path in sorted({*sides[0], *sides[1]}):
        first, second = sides[0].get(path), sides[1].get(path)
        if not (first and second):
            yield f"{path} is only in the {'first' if first else 'second'}"
        elif _kind(first) != _kind(second):
            yield f"{path} has another mode, or leads elsewhere"
        elif first.is_file() and not first.is_symlink() and not _same(first, second):
            yield f"{path} differs at byte {_first(first, second):,}"


def _kind(path: Path) -> object:
    return os.readlink(path) if path.is_symlink() else path.lstat().st_mode


def _same(one: Path, other: Path) -> bool:
    return one.stat().st_size == other.stat().st_size and files.sha256(one) == files.sha256(other)


def _first(one: Path, other: Path) -> int:
    """Give the offset of the first byte that differs."""
    offset = 0
    with one.open("rb") as first, other.open("rb") as second:
        while True:
            blocks = first.read(1 << 16), second.read(1 << 16)
            if blocks[0] != blocks[1] or not blocks[0]:
                length = min(map(len, blocks))
                places = (place for place in range(length) if blocks[0][place] != blocks[1][place])
                return offset + next(places, length)
            offset += len(blocks[0])
