"""A lock -> wheels at hand: nothing is resolved, and no index is asked what there is.

What is in the cache already is not fetched again, so the second time it takes no network.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from packaging.metadata import parse_email
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from packer import lock as locks
from packer import resolve, sources
from packer.built import Shelf
from packer.errors import PackError, UsageError
from packer.files import sha256
from packer.model import Resolution, Wheel
from packer.toolchain import Building

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from packer.lock import Lock, Pick
    from packer.model import Target
    from packer.requests import Requests
    from packer.sources import Builder

_AS_NEEDED = Building()


@dataclass(frozen=True)
class _Asked:
    """One of the things that the user asks for: something of the lock, or a project directory."""

    word: str
    requirement: Requirement | None
    directory: Path | None
    extras: frozenset[str]

    def concerns(self, target: Target) -> bool:
        """Whether its marker, if it has one, is true."""
        marker = self.requirement.marker if self.requirement else None
        return marker is None or marker.evaluate(resolve.marker_environment(target) | {"extra": ""})


def take(
    lock: Lock,
    requests: Requests,
    targets: Sequence[Target],
    *,
    cache: Path,
    progress: Callable[[str], None],
    limit: float = 600.0,
    building: Building = _AS_NEEDED,
) -> tuple[Resolution, ...]:
    """Fetch what the lock has for every target, and build what it has as source; parameters as of ``resolve``.

    :param requests: which of the lock's packages are wanted, with what they need, and project directories that may not
        be in it; none: all of the lock.
    :raises PackError: if the lock is not for a target, or a file is gone, or another than was locked.
    """
    asked, picks = picked(lock, requests, targets)
    directories = {target: tuple(_directories(asked, found)) for target, found in picks.items()}
    fetching = replace(requests, requirements=(), files=(), constraints=(), as_of=str(lock.own.get("as-of", "")))
    shelf = Shelf(cache, building, fetching.index_options(), fetching.as_of)
    missing = _missing(picks, cache, shelf)

    def work(target: Target, builder: Builder, run: resolve.Run) -> dict[Path, Path]:
        _fetch(lock, missing[target], target, fetching, builder, run)
        return {place: builder.build(place, target) for place in directories[target]}

    busy = [target for target in targets if missing[target] or directories[target]]
    made = resolve.for_each(
        work, fetching, busy, cache=cache, progress=progress, limit=limit, building=building
    ) if busy else ()  # fmt: skip
    built = dict(zip(busy, made, strict=True))
    from_source = {target: shelf.known(target) for target in targets}
    return tuple(
        _resolution(lock, target, picks[target], asked, built.get(target, {}), from_source[target], cache)
        for target in targets
    )


def picked(
    lock: Lock, requests: Requests, targets: Sequence[Target]
) -> tuple[list[_Asked], dict[Target, tuple[Pick, ...]]]:
    """Give what is asked for, and what each target gets of the lock.

    :raises PackError: as :func:`take`, before anything is fetched.
    """
    asked = [_read(word) for word in requests.requirements]
    extras = {extra for one in asked if one.directory for extra in one.extras}
    picks = {target: locks.pick(lock, target, extras) for target in targets}
    for target, found in picks.items():
        for one in asked:
            _refuse_missing(lock, target, one, found)
    return asked, picks


def _read(word: str) -> _Asked:
    from packer.job import project_of

    directory = project_of(word)
    if directory:
        extras = word.partition("[")[2].partition("]")[0].split(",") if "[" in word else []
        return _Asked(word, None, directory.resolve(), frozenset(canonicalize_name(one) for one in extras if one))
    try:
        requirement = Requirement(word)
    except InvalidRequirement:
        requirement = None
    if requirement is None or requirement.url:
        raise UsageError(
            f"{word}: with --lock it is the lock that says where files come from",
            hint="name what is in the lock, or a project directory; packer lock puts others into it",
        )
    return _Asked(word, requirement, None, frozenset(map(canonicalize_name, requirement.extras)))


def _refuse_missing(lock: Lock, target: Target, asked: _Asked, picks: Sequence[Pick]) -> None:
    if asked.requirement is None or not asked.concerns(target):
        return
    name = canonicalize_name(asked.requirement.name)
    found = [one for one in picks if one.name == name]
    if not found:
        command = locks.again(lock, more=[asked.word])
        hint = f"{command} locks it, too" if command else f"whatever wrote {lock.path} can lock it, too"
        raise PackError(f"{target.name}: {lock.path} has no {name}", hint)
    if found[0].version and not asked.requirement.specifier.contains(found[0].version, prereleases=True):
        why = f"{lock.path} has {found[0]}, and you ask for {asked.requirement}"
        raise PackError(f"{target.name}: {why}", f"{_upgrading(lock, name)} may find another")


def _upgrading(lock: Lock, name: str) -> str:
    return locks.again(lock, "--upgrade", name) or f"whatever wrote {lock.path}"


def _directories(asked: Iterable[_Asked], picks: Iterable[Pick]) -> Iterator[Path]:
    """Give every project directory once."""
    places = [one.directory.resolve() for one in picks if one.directory]
    yield from dict.fromkeys([*places, *(one.directory for one in asked if one.directory)])


def _missing(picks: Mapping[Target, Sequence[Pick]], cache: Path, shelf: Shelf) -> dict[Target, list[Pick]]:
    """Give the files that each target has to fetch; of a wheel that several take only the first of them has to."""
    claimed: set[str] = set()
    kept = {one.sha256: one for found in picks.values() for one in found if one.is_wheel}
    whole = {digest for digest, one in kept.items() if _kept(one, cache)}
    missing: dict[Target, list[Pick]] = {}
    for target, found in picks.items():
        built = shelf.known(target)
        missing[target] = []
        for one in found:
            there = one.sha256 in claimed if one.is_wheel else one.sha256 in built
            if one.directory or there or one.sha256 in whole:
                continue
            missing[target].append(one)
            claimed |= {one.sha256} if one.is_wheel else set()
    return missing


def _kept(one: Pick, cache: Path) -> bool:
    path = _place(one, cache)
    return path.is_file() and one.size in (None, path.stat().st_size) and sha256(path).hex() == one.sha256


def _place(one: Pick, cache: Path) -> Path:
    return sources.kept_at(one.sha256, one.file, cache)


def _fetch(
    lock: Lock, picks: Sequence[Pick], target: Target, requests: Requests, builder: Builder, run: resolve.Run
) -> None:
    if not picks:
        return
    # pip starts anew after each build: wheels are fetched when there is none left
    sources_first = sorted(picks, key=lambda one: one.is_wheel)
    known = lock.texts("yanked")
    asked = tuple(
        (one.name, one.file, one.index) for one in sources_first
        if one.file not in known and one.address.startswith("http")
    )  # fmt: skip
    sizes = tuple((one.file, one.size) for one in sources_first if one.size is not None)
    words = tuple(f"{one.name} @ {one.address}#sha256={one.sha256}" for one in sources_first)
    try:
        resolve.fetch(replace(requests, requirements=words, locked=asked, sizes=sizes), target, builder, run)
    except resolve.FileError as error:
        raise _failure(lock, picks, target, error) from None


def _failure(lock: Lock, picks: Sequence[Pick], target: Target, error: resolve.FileError) -> PackError:
    """Say which file of the lock cannot be had, and what to do."""
    failed = error.failed
    found = [one for one in picks if one.file == failed["file"]]
    if not found:
        return error
    (one,) = found[:1]
    upgrade = f"{_upgrading(lock, one.name)} takes another release, if there is one"
    if failed["why"] == "size":
        return PackError(
            f"{target.name}: {one}: {one.file} is not the file that was locked: "
            f"{lock.path} says {one.size:,} bytes, and it has {failed['found']}",
            f"somebody changed the lock, or whatever wrote it was wrong; {upgrade}",
        )
    if failed["why"] == "hash":
        return PackError(
            f"{target.name}: {one}: {one.file} is not the file that was locked: "
            f"{lock.path} says SHA-256 {one.sha256}, and it has {failed['found']}",
            f"do not use it before you know why: somebody changed the file at {one.address}, or the lock; {upgrade}",
        )
    if failed["why"] == "other":
        return _other(lock, target, one, failed["found"])
    if failed["why"] == "yanked":
        why = f": {failed['found']}" if failed["found"] else ""
        hint = f"{upgrade}; {one.name}=={one.version} locked again, or --no-index, which asks nobody, takes this one"
        return PackError(f"{target.name}: {one}: {one.file} was yanked{why}", hint)
    if failed["why"] == "gone":
        return PackError(f"{target.name}: {one}: {one.file} is gone: there is nothing at {one.address}", upgrade)
    return PackError(f"{target.name}: {one}: cannot fetch {one.address}: {failed['why']}", "is the network there?")


def _other(lock: Lock, target: Target, one: Pick, why: str) -> PackError:
    return PackError(
        f"{target.name}: {lock.path}: {one} is {one.file}, which is another distribution: {why}",
        hint=f"do not use it before you know who put that into the lock; {locks.again(lock) or 'lock'} again",
    )


def _resolution(
    lock: Lock, target: Target, picks: Sequence[Pick], asked: Sequence[_Asked], built: Mapping[Path, Path],
    from_source: Mapping[str, Path], cache: Path,
) -> Resolution:  # fmt: skip
    """Put the wheels of one target together, in the order in which pip would have them."""
    wheels: dict[str, Wheel] = {}
    for one in picks:
        if not one.directory:
            path = _place(one, cache) if one.is_wheel else from_source[one.sha256]
            wheel = _wheel(path, "", one.sha256) if one.is_wheel else _wheel(path, one.file)
            wheels[one.name] = wheel
            if wheel.distribution != one.name:
                raise _other(lock, target, one, f"{wheel.path.name} is built of it")
    names: dict[Path, str] = {}
    for place, path in built.items():
        wheel = _wheel(path, place.name)
        names[place] = wheel.distribution
        wheels[wheel.distribution] = wheel
    needs = {name: _needs(wheel) for name, wheel in wheels.items()}
    wanted = {
        names[one.directory] if one.directory else canonicalize_name(one.requirement.name if one.requirement else ""):
        one.extras for one in asked if one.concerns(target)
    }  # fmt: skip
    graph = _Graph(target, needs)
    for place, name in names.items():
        _refuse_stale(lock, target, place, graph.needed(name, wanted.get(name, ())), wheels)
    part = bool(wanted)
    if not wanted:
        wanted = {one.name: frozenset(one.extras) for one in locks.requested(lock) if one.name in wheels}
    if not wanted:
        wanted = dict.fromkeys(graph.roots(), frozenset())
    order = graph.order(wanted, part=part)
    return Resolution(target, tuple(replace(wheels[name], requested=name in wanted) for name in order))


def _wheel(path: Path, built_from: str, digest: str = "") -> Wheel:
    """Describe a wheel, whose digest may be known."""
    name, version, *_ = parse_wheel_filename(path.name)
    return Wheel(name, str(version), path, digest or sha256(path).hex(), built_from)


def _needs(wheel: Wheel) -> tuple[Requirement, ...]:
    """Read what a wheel requires; what cannot be read is told by those who install it."""
    try:
        with zipfile.ZipFile(wheel.path) as archive:
            names = [
                name for name in archive.namelist() if name.count("/") == 1 and name.endswith(".dist-info/METADATA")
            ]
            raw, _ = parse_email(archive.read(names[0])) if names else ({}, {})
    except (zipfile.BadZipFile, KeyError, OSError):
        return ()
    found = []
    for text in raw.get("requires_dist", ()):
        try:
            found.append(Requirement(text))
        except InvalidRequirement:
            continue
    return tuple(found)


def _refuse_stale(
    lock: Lock, target: Target, place: Path, needed: Iterable[Requirement], wheels: Mapping[str, Wheel]
) -> None:
    """Refuse a lock that is older than what its project says."""
    for one in needed:
        found = wheels.get(canonicalize_name(one.name))
        if found is None or not one.specifier.contains(found.version, prereleases=True):
            has = f"{found.distribution} {found.version}" if found else f"no {one.name}"
            why = f"{place} needs {one.name}{one.specifier}, and {lock.path} has {has}"
            hint = f"the project has changed since: {locks.again(lock) or 'lock'} again"
            raise PackError(f"{target.name}: {why}", hint)


class _Graph:
    """Which wheels need which, for one target; a name with extras is a node of its own, as pip has it."""

    def __init__(self, target: Target, needs: Mapping[str, Sequence[Requirement]]) -> None:
        self._environment = resolve.marker_environment(target)
        self._needs = needs

    def needed(self, name: str, extras: Collection[str]) -> list[Requirement]:
        """Give the requirements of a wheel that count."""
        return [
            one for one in self._needs[name]
            if one.marker is None
            or any(one.marker.evaluate(self._environment | {"extra": extra}) for extra in ("", *extras))
        ]  # fmt: skip

    def roots(self) -> list[str]:
        """Give those that no other needs; all, if there are none such."""
        needed = {
            canonicalize_name(one.name) for name, requirements in self._needs.items() for one in requirements
            if canonicalize_name(one.name) != name
        }  # fmt: skip
        return [name for name in self._needs if name not in needed] or list(self._needs)

    def order(self, wanted: Mapping[str, Collection[str]], *, part: bool) -> list[str]:
        """Put what is needed before what needs it, with ties as pip has them: a lock changes no archive.

        :param part: leave out what nothing of it needs; else what nobody needs is there nevertheless.
        """
        children: dict[_Node, set[_Node]] = {_ROOT: set()}
        for name, extras in wanted.items():
            self._add(children, _ROOT, name, extras)
        for name in () if part else self._needs:
            if (name, ()) not in children:
                self._add(children, _ROOT, name, ())
        weights = _weights(children)
        names = [node for node in weights if node != _ROOT and not node[1]]
        return [name for name, _ in sorted(names, key=lambda node: (weights[node], node[0]), reverse=True)]

    def _add(self, children: dict[_Node, set[_Node]], parent: _Node, name: str, extras: Collection[str]) -> None:
        """Add what a requirement leads to; not by recursion: a chain may be long."""
        waiting: list[tuple[_Node, str, Collection[str]]] = [(parent, name, extras)]
        while waiting:
            parent, name, extras = waiting.pop()
            for node in {(name, ()), (name, tuple(sorted(extras)))}:
                children[parent].add(node)
                if node in children:
                    continue
                children[node] = {(name, ())} if node[1] else set()
                for one in self.needed(name, node[1]):
                    child = canonicalize_name(one.name)
                    if child in self._needs:
                        waiting.append((node, child, frozenset(map(canonicalize_name, one.extras))))


_Node = tuple[str, tuple[str, ...]]
_ROOT: _Node = ("", ())

_VISITS = 5
"""So often pip enters a node of a cycle."""


def _weights(children: Mapping[_Node, set[_Node]]) -> dict[_Node, int]:
    """Weigh as pip does: leaves first, again and again; then, if there are cycles, how far from the root it can be."""
    rest = {node: set(below) for node, below in children.items()}
    weights: dict[_Node, int] = {}
    while leaves := {node for node, below in rest.items() if not below and node != _ROOT}:
        weights |= dict.fromkeys(leaves, len(rest) - 1)
        rest = {node: below - leaves for node, below in rest.items() if node not in leaves}
    visits: dict[_Node, list[int]] = {}
    path: dict[_Node, Iterator[_Node]] = {_ROOT: iter(sorted(rest[_ROOT]))}
    while path:
        node = next(reversed(path))
        for child in path[node]:
            if child not in path and len(visits.get(child, ())) < _VISITS:
                path[child] = iter(sorted(rest[child]))
                break
        else:
            del path[node]
            visits.setdefault(node, []).append(len(path))
    return weights | {node: max(depths) for node, depths in visits.items()}
