"""What would have to be packed in addition for hosts that no slice runs on, found by trying.

Changes of what ``packer fat`` was told are made into slices that nobody has packed, and the launcher's selection judges
these as it does real ones. Whether an index has wheels for them is not asked.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import product
from typing import TYPE_CHECKING

from packer import claims, facts, hosts, sizes, supposed
from packer.model import NeedKind, Platform, Target
from packer.results import Addition
from packer.supposed import Brings, Supposed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from packer.hosts import Described
    from packer.model import Need, PythonAbi
    from packer.results import Choice, Matrix


@dataclass(frozen=True)
class Change:
    """Something that could be said to the packer, and the slice that this would add."""

    say: str
    slice: Supposed
    new_python: bool
    """No slice that is there is for its Python,"""
    new_platform: bool
    """or its platform."""
    provided: str = ""
    unpacked: int | None = None
    """Bytes of the interpreter that it brings, if one was captured."""

    @property
    def cost(self) -> tuple[int, bool, bool]:
        """Slices before interpreters, and these before C libraries, which need no wheels that were not there before;
        of slices those that share most with others."""
        brings = list(Brings).index(self.slice.brings)
        return brings and brings + 2 * self.new_platform, self.new_platform, self.new_python


def of_archive(path: Path, slices: Sequence[Supposed], matrix: Matrix, place: Path) -> Matrix:
    """Find what would have to be added to an archive.

    :param slices: all that it has.
    :param place: the packer's, in which interpreters are that were captured.
    """
    return _added(matrix, slices, place, _Costs(path))


def of_plan(slices: Sequence[Supposed], matrix: Matrix, place: Path) -> Matrix:
    """Find what would have to be added to a plan, of which no size is known."""
    return _added(matrix, slices, place, _Costs(None))


def _added(matrix: Matrix, slices: Sequence[Supposed], place: Path, costs: _Costs) -> Matrix:
    without = {row.host: row.predicted for row in matrix.rows if row.predicted and row.predicted.slice is None}
    if not without or not any(one.brings is Brings.NOTHING for one in slices):
        return matrix
    described = {name: hosts.find(name) for name in without}
    changes = sorted(_changes(slices, described.values(), place), key=lambda change: change.cost)
    judged = supposed.judge([change.slice for change in changes], without)
    chosen = _cheapest(changes, judged)
    helped = {name for names in chosen.values() for name in names}
    found = [_addition(changes[number], names, costs) for number, names in chosen.items()]
    return replace(matrix, additions=(*found, *_hopeless(without, helped)))


def _cheapest(changes: Sequence[Change], judged: Mapping[str, Choice]) -> dict[int, list[str]]:
    """Choose a change for each host: of the cheapest that help it the one that helps most others.

    :return: number of the change -> hosts.
    """
    helps = {
        number: [host for host, choice in judged.items() if not choice.reasons[change.slice.name]]
        for number, change in enumerate(changes)
    }
    waiting = {host for host, choice in judged.items() if choice.slice is not None}
    chosen: dict[int, list[str]] = {}
    while waiting:
        best = min(
            (number for number, names in helps.items() if waiting & set(names)),
            key=lambda number: (changes[number].cost, -len(waiting & set(helps[number])), number),
        )
        chosen[best] = [host for host in helps[best] if host in waiting]
        waiting -= set(chosen[best])
    return chosen


def _addition(change: Change, names: Sequence[str], costs: _Costs) -> Addition:
    size, said = costs.of(change)
    return Addition(change.say, change.slice.name, tuple(names), size, said, change.provided)


def _hopeless(without: Mapping[str, Choice], helped: Collection[str]) -> Iterator[Addition]:
    """Group hosts that nothing helps by what the slice with the least against it lacks there."""
    groups: dict[str, list[str]] = {}
    for host, choice in without.items():
        if host not in helped:
            nearest = min(choice.reasons.values(), key=len) if choice.reasons else ()
            groups.setdefault("; ".join(nearest), []).append(host)
    for why, names in groups.items():
        yield Addition("", "", tuple(names), None, "unknown", f"nothing that packer fat could add helps: {why}")


# What could be said ---------------------------------------------------------------------------------------------


def _changes(slices: Sequence[Supposed], described: Collection[Described], place: Path) -> Iterator[Change]:
    """Give every change that may help one of some hosts; none has a slice that is there, and no two the same."""
    there = {one.name for one in slices}
    plain = [one for one in slices if one.brings is Brings.NOTHING]
    for change in [*_new_slices(plain, described), *_new_interpreters(slices, described, place)]:
        if change.slice.name not in there:
            there.add(change.slice.name)
            yield change


def _new_slices(plain: Sequence[Supposed], described: Collection[Described]) -> Iterator[Change]:
    """Another Python tag that a host has, an older policy, another family, another architecture.

    A program for Python 3 is none for Python 2.
    """
    here = {python.abi for host in described for python in host.pythons}
    majors = {one.target.python.version[0] for one in plain}
    known = [python.abi for python in facts.pythons().values() if python.abi.version[0] in majors]
    newest_first = [abi for abi in reversed(known) if abi.tag in here]
    tags = sorted(newest_first, key=lambda abi: abi.free_threaded)
    packed = [one.target for one in plain]
    for platform, abi in product(_platforms(plain, described), tags):
        target = Target(abi, platform)
        new_python = abi not in {one.python for one in packed}
        new_platform = platform not in {one.platform for one in packed}
        yield Change(f"--abis ...,{target.name}", _like(target, plain), new_python, new_platform)


def _new_interpreters(slices: Sequence[Supposed], described: Collection[Described], place: Path) -> Iterator[Change]:
    """Carry an interpreter for a Python that is packed for, and its C library, on a platform that is, or another."""
    plain = [one for one in slices if one.brings is Brings.NOTHING]
    there = {one.name for one in plain}
    for platform, abi in product(_platforms(plain, described), _carriable(slices)):
        target = Target(abi, platform)
        like, new = _like(target, plain), target.name not in there
        needed, size = interpreter(abi.tag, platform.arch, platform.libc, place)
        what = f"an interpreter of {abi.tag} for {platform.libc}"
        carrying = supposed.carrying(like, needed)
        least = f"{what} {platform.version[0]}.{platform.version[1]} can be had"
        yield Change(_say(carrying, slices, new), carrying, False, new, "" if needed else least, size)
        brought = supposed.with_libc(carrying)
        libraries = [need.name for need in like.needs if need.kind is NeedKind.LIBRARY]
        beside = [f"its system has {', '.join(libraries)}"] if libraries else []
        provided = " and ".join([*([] if needed else [f"{what} can be had"]), *beside])
        yield Change(_say(brought, slices, new), brought, False, new, provided, size)


def _carried(slices: Iterable[Supposed]) -> list[PythonAbi]:
    return list(dict.fromkeys(one.target.python for one in slices if one.brings is not Brings.NOTHING))


def _carriable(slices: Sequence[Supposed]) -> list[PythonAbi]:
    """Give the Pythons that are packed for and can be carried, those first that are already."""
    found = [one.target.python for one in slices if one.target.python.version >= (3, 6)]
    return list(dict.fromkeys([*_carried(slices), *found]))


def _say(one: Supposed, slices: Sequence[Supposed], new: bool) -> str:
    """Say how a slice that carries its interpreter comes about: what was said already is not said again."""
    carried = _carried(slices)
    tags = [abi.tag for abi in carried] + ([] if one.target.python in carried else [one.target.python.tag])
    words = [f"--abis ...,{one.target.name}"] if new else []
    words += [f"--bundle {','.join(tags)}"] if len(tags) > len(carried) else []
    said = any(other.brings is Brings.LIBC for other in slices)
    words += ["--libc bundled"] if one.brings is Brings.LIBC and not said else []
    return " ".join(words)


def _platforms(plain: Sequence[Supposed], described: Iterable[Described]) -> list[Platform]:
    """Give the platforms that are packed for; then, for machines and families of the hosts, others that are not newer.

    A newer policy would not help: no host has what it takes and lacks what an older one does. Newest first, since those
    take older wheels, too.
    """
    packed = list(dict.fromkeys(one.target.platform for one in plain))
    found = [*packed, *(replace(one, level=1) for one in packed)]
    families = tuple(dict.fromkeys(one.libc for one in facts.policies()))
    for libc, arch in dict.fromkeys(
        (libc, host.machine)
        for host in described
        for libc in ((host.family,) if host.family in families else families)  # one without any can be brought either
    ):
        oldest = facts.oldest_platform(libc, arch).version
        same = [one.version for one in packed if one.libc == libc]
        newest = min(same) if same else max(one.version for one in facts.policies() if one.libc == libc)
        versions = {one.version for one in facts.policies() if one.libc == libc} | {newest}
        fitting = [version for version in versions if oldest <= version <= max(newest, oldest)]
        found += [Platform(libc, version, arch) for version in sorted(fitting, reverse=True)]
    return list(dict.fromkeys(found))


@cache
def interpreter(tag: str, arch: str, libc: str, place: Path) -> tuple[tuple[Need, ...] | None, int | None]:
    """Give what an interpreter needs that was captured, and its bytes."""
    if not (place / "runtimes").is_dir():
        return None, None
    from packer import runtimes  # loads lief, which takes longer than all the rest

    for one, _ in runtimes.added(place, tag):
        if (one.arch, one.libc) == (arch, libc):
            return supposed.of_runtime(one), one.layer.size
    return None, None


# What it would need ---------------------------------------------------------------------------------------------


def _like(target: Target, plain: Sequence[Supposed]) -> Supposed:
    """Suppose that the slice of a target needs what the one that is most like it does, as far as its tag allows that.

    Most like it: of the same machine and C library, then of the same platform, then of the same Python.
    """
    here = target.platform
    other = max(
        plain,
        key=lambda one: (
            (one.target.platform.arch, one.target.platform.libc) == (here.arch, here.libc),
            one.target.platform == here, one.target.python == target.python,
        ),
    )  # fmt: skip
    same_host = (other.target.platform.arch, other.target.platform.libc) == (here.arch, here.libc)
    same_platform = other.target.platform == here
    tagged = supposed.by_tag(target)
    own = {NeedKind.MACHINE, NeedKind.LIBC, NeedKind.CPU}
    if other.target.python != target.python:
        own |= {NeedKind.PYTHON, NeedKind.PYTHON_NOT}
    kept = [need for need in tagged.needs if need.kind in own and need.kind is not NeedKind.LIBC]
    kept += [need for need in other.needs if need.kind not in own and _stays(need, target, same_host, same_platform)]
    kept += [need for need in other.needs if same_host and need.kind is NeedKind.CPU and _measured(need, other)]
    return Supposed(target, Brings.NOTHING, tuple(sorted({*kept, _libc(tagged, other, same_host, same_platform)})))


def _stays(need: Need, target: Target, same_host: bool, same_platform: bool) -> bool:
    """Tell whether a slice for another target surely needs the same."""
    if need.kind is NeedKind.STDLIB:
        return need.name in facts.stdlib(target.python.version)
    if need.kind is NeedKind.NODE:
        return same_platform or (same_host and claims.has(target.platform, need.value))
    return need.kind is not NeedKind.LIBRARY or same_host


def _measured(need: Need, one: Supposed) -> bool:
    """Tell whether a CPU level is what files ask for, and not only what a slice was packed for."""
    return need.number > one.target.platform.level


def _libc(tagged: Supposed, other: Supposed, same_host: bool, same_platform: bool) -> Need:
    """Give the C library that is needed: none newer than the tag says, nor than files of a slice like it need."""
    (mine,) = (need for need in tagged.needs if need.kind is NeedKind.LIBC)
    theirs = next((need for need in other.needs if need.kind is NeedKind.LIBC), replace(mine, number=0))
    if same_platform:
        return theirs  # it may need more than its tag says
    if same_host or theirs.number == 0:
        return replace(mine, number=min(mine.number, theirs.number))
    return mine


# What it costs --------------------------------------------------------------------------------------------------


@dataclass
class _Costs:
    """What changes cost, as slices of an archive show."""

    path: Path | None
    """``None``: nothing is packed yet."""

    @cached_property
    def _adds(self) -> dict[str, int]:
        """Name of a slice -> bytes of what no slice before it has; without the first, which is the base of others."""
        if self.path is None:
            return {}
        return {one.name: one.adds.total for one in sizes.measure(self.path).slices[1:]}

    def of(self, change: Change) -> tuple[int | None, str]:
        """Give what a change costs, as a number if that is known and in words."""
        two_at_once = change.new_platform and change.slice.brings is not Brings.NOTHING
        like = {} if two_at_once else {name: size for name, size in self._adds.items() if _is_like(name, change.slice)}
        if not like:
            return None, f"unknown; {change.unpacked:,} bytes unpacked" if change.unpacked else "unknown"
        least, most = min(like.values()), max(like.values())
        if least == most:
            return most, f"about {most:,} bytes, as {next(iter(like))} adds"
        return most, f"{least:,} to {most:,} bytes, as the slices like it add"


def _is_like(name: str, wanted: Supposed) -> bool:
    """Tell whether a slice that is there has the same machine and C library as another, and brings the same."""
    parsed = supposed.parse(name)
    if parsed is None:
        return False
    there, here = parsed[0].platform, wanted.target.platform
    return parsed[1] is wanted.brings and (there.arch, there.libc) == (here.arch, here.libc)
