"""Slices that nobody has packed yet, for the launcher's selection: what they would need of a host, and an archive of
them that has nothing else in it."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packer import archive, facts, layers, native, needs, predict, targets
from packer.errors import UsageError
from packer.model import LayerKind, Need, NeedKind, Runtime, Slice, Target, Tool, ToolKind
from packer.reader import reading
from packer.results import Choice

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from packer.model import Layer
    from packer.reader import Archive

_NATIVE = (NeedKind.LIBC, NeedKind.NODE, NeedKind.LIBRARY)
_HOSTS_PYTHON = (NeedKind.PYTHON, NeedKind.PYTHON_NOT, NeedKind.STDLIB)


class Brings(Enum):
    """What a slice has besides the program; values are what its name ends in."""

    NOTHING = ""
    INTERPRETER = "-carried"
    LIBC = "-libc"
    """The interpreter, too."""


@dataclass(frozen=True)
class Supposed:
    """A slice without its content."""

    target: Target
    brings: Brings
    needs: tuple[Need, ...]

    @property
    def name(self) -> str:
        """As packed slices are called."""
        return f"{self.target.name}{self.brings.value}"


def by_tag(target: Target) -> Supposed:
    """Give what is known of a slice before there are wheels: what its tag promises, of which it may need less."""
    libc = Need(NeedKind.LIBC, target.platform.libc, number=_number(target.platform.version))
    others = [need for need in needs.needs(target, (), (), ()) if need.kind is not NeedKind.LIBC]
    return Supposed(target, Brings.NOTHING, tuple(sorted([*others, libc])))


def of_runtime(runtime: Runtime) -> tuple[Need, ...]:
    """Measure what a slice needs of a host that carries an interpreter and nothing else."""
    target = Target(facts.pythons()[runtime.tag].abi, facts.oldest_platform(runtime.libc, runtime.arch))
    return needs.needs(target, (runtime.layer,), (), (), None, runtime)


def carrying(one: Supposed, interpreter: Iterable[Need] | None) -> Supposed:
    """Let a slice carry its interpreter.

    :param interpreter: what that needs; ``None``: it runs wherever the slice's platform is.
    """
    added = by_tag(one.target).needs if interpreter is None else interpreter
    found = {need for need in (*one.needs, *added) if need.kind not in _HOSTS_PYTHON}
    newest = max((need for need in found if need.kind is NeedKind.LIBC), key=lambda need: need.number)
    found = {need for need in found if need.kind is not NeedKind.LIBC} | {newest}
    return Supposed(one.target, Brings.INTERPRETER, tuple(sorted(found)))


def with_libc(one: Supposed) -> Supposed:
    """Let a slice that carries its interpreter bring the C library, too, so that none of the host's is asked for."""
    return Supposed(one.target, Brings.LIBC, tuple(need for need in one.needs if need.kind not in _NATIVE))


def parse(name: str) -> tuple[Target, Brings] | None:
    """Read the name of a slice; ``None``: it is none that this packer gives."""
    brings = next(kind for kind in reversed(Brings) if name.endswith(kind.value))
    try:
        return targets.target_of(name.removesuffix(brings.value)), brings
    except UsageError:
        return None


def packed(archive: Archive) -> list[Supposed]:
    """Give the slices of an archive as far as this packer knows their needs."""
    found = []
    kinds = {kind.value: kind for kind in NeedKind}
    for one in archive.records("slice"):
        parsed = parse(archive.string(one.name))
        if parsed is None:
            continue
        records = archive.records("need")[one.first_need : one.first_need + one.need_count]
        needed = tuple(
            Need(kinds[need.kind], archive.string(need.name), archive.string(need.value), int(need.number))
            for need in records
            if need.kind in kinds
        )
        found.append(Supposed(*parsed, needed))
    return found


def _number(version: tuple[int, int]) -> int:
    return version[0] << 16 | version[1] << 8


# An archive of them ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def archived(slices: Sequence[Supposed]) -> Iterator[Archive]:
    """Write an archive of slices with next to nothing in them, and read it: selection judges archives only."""
    with tempfile.TemporaryDirectory(prefix="packer-") as name:
        place = Path(name)
        app, python = _stand_ins(place)
        made = [_slice(one, app, python) for one in slices]
        tools = [Tool("supposed", ToolKind.PYTHON, "boot/supposed.py")]
        launcher = native.data("launcher-x86_64")  # which is never started
        archive.write(place / "supposed", launcher, made, tools, {"version": 1}, lambda _: None)
        with reading(place / "supposed") as read:
            yield read


def _stand_ins(place: Path) -> tuple[Layer, Layer]:
    """Make a layer that is the app's, and one that is an interpreter's."""
    boot, python = place / "supposed.py", place / "python"
    boot.write_bytes(b"")
    python.write_bytes(b"")
    python.chmod(0o755)
    return (
        layers.read("app", LayerKind.APP, [(boot, "boot/supposed.py")]),
        layers.read("interpreter", LayerKind.INTERPRETER, [(python, "bin/python")]),
    )


def _slice(one: Supposed, app: Layer, python: Layer) -> Slice:
    if one.brings is Brings.NOTHING:
        return Slice(one.target, one.needs, (app,), (), ())
    brought: dict[str, frozenset[str]] = {"libc": frozenset()} if one.brings is Brings.LIBC else {}
    platform, version = one.target.platform, (*one.target.python.version, 0)
    runtime = Runtime(
        one.target.python.tag, version, python, "bin/python", platform.arch, platform.libc, (), (), brought
    )
    return Slice(one.target, one.needs, (app, python), (), (), runtime)


def judge(slices: Sequence[Supposed], names: Iterable[str]) -> dict[str, Choice]:
    """Let the launcher's selection judge slices, however many they are, on hosts.

    :return: host -> what was said of every slice; the choice is the first one that fits.
    """
    most: Any = native.lib().MAX_SLICES
    said = {name: Choice(None, None, {}) for name in names}
    for start in range(0, len(slices), most):
        with archived(slices[start : start + most]) as supposed:
            for row in predict.of_archive(supposed, "", "", list(said)).rows:
                assert row.predicted is not None
                before = said[row.host]
                first = row.predicted if before.slice is None else before
                said[row.host] = Choice(first.slice, first.python, {**before.reasons, **row.predicted.reasons})
    return said
