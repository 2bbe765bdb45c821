"""What a matrix of hosts comes to: for each host what was predicted and, where it was run there, what was seen.

``docs/json.md`` has the form of the JSON; shards of one matrix are merged by putting their hosts together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from itertools import islice
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

VERSION = 1


@dataclass(frozen=True)
class Choice:
    """What selection says of a host."""

    slice: str | None
    """The slice that runs there; ``None``: there is none."""
    python: str | None
    """The host's interpreter it runs with; ``None``: the slice carries its own, or there is none."""
    reasons: Mapping[str, tuple[str, ...]]
    """Slice -> why it does not run there, one sentence each; empty for those that fit."""


@dataclass(frozen=True)
class Ran:
    """One case on one host: the program was started twice, the second time from what the first left in the store."""

    case: str
    arguments: tuple[str, ...]
    passed: bool
    why: str
    """What is not as expected, in a sentence; empty if it passed."""
    status: int | None
    """Exit status of the first launch, minus the signal that ended it; ``None``: it was not over in time."""
    first: float | None
    """Seconds of the first launch, or until it was killed; ``None``: it could not be executed."""
    warm: float | None
    """Seconds of the second; ``None``: there was none."""
    output: str
    """What the first launch wrote to both streams, its end if that is long."""


@dataclass(frozen=True)
class Seen:
    """What was seen on a host."""

    choice: Choice | None
    """What the launcher said there; ``None``: it could not be asked."""
    error: str
    """Why the host could not be used, the machine's fault or the user's, never the archive's; empty if it could."""
    cases: tuple[Ran, ...]


@dataclass(frozen=True)
class Row:
    """One host."""

    host: str
    title: str
    """For people: ``Debian 12 (bookworm)``."""
    required: bool
    """Whether it is a failure that no slice runs there."""
    predicted: Choice | None
    """``None``: nothing is known of the host but what is seen there."""
    seen: Seen | None = None
    asked: str = ""
    """A digest of where the host is, how it is described, and the cases: of what was seen may stand for a later run."""

    @property
    def agrees(self) -> bool:
        """Whether what was seen is what was predicted; so it is where one of them is not known."""
        if self.predicted is None or self.seen is None or self.seen.choice is None:
            return True
        return self.predicted.slice == self.seen.choice.slice

    @property
    def passed(self) -> bool:
        """Whether nothing about this host is wrong."""
        choice = self.seen.choice if self.seen and self.seen.choice else self.predicted
        if self.seen and (self.seen.error or not all(ran.passed for ran in self.seen.cases)):
            return False
        return self.agrees and not (self.required and (choice is None or choice.slice is None))


@dataclass(frozen=True)
class Addition:
    """What would have to be packed in addition so that hosts have a slice which have none."""

    change: str
    """What to say to ``packer fat`` besides what was said; empty: nothing that could be said helps."""
    slice: str
    """The slice that would run there; empty: there is none."""
    hosts: tuple[str, ...]
    bytes: int | None
    """How much the file grows by it, as similar slices show; ``None``: that is not known."""
    cost: str
    """The same in words, with what it was taken from."""
    provided: str
    """What else has to be so, or why nothing helps."""


@dataclass(frozen=True)
class Matrix:
    """All hosts of a matrix."""

    file: str
    id: str
    """Of the archive; empty where none has been packed yet."""
    slices: tuple[str, ...]
    """Names, most preferred first."""
    rows: tuple[Row, ...]
    additions: tuple[Addition, ...] = ()
    shard: tuple[int, int] | None = None
    """``(i, n)``: these are the hosts of the i-th of n parts of a run; ``None``: it is whole."""
    plan: tuple[str, ...] = ()
    """Names of all hosts of the run, those of other shards among them."""

    @property
    def passed(self) -> bool:
        """Whether no host has something wrong."""
        return all(row.passed for row in self.rows)

    def json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        rows = [{**asdict(row), "agrees": row.agrees, "passed": row.passed} for row in self.rows]
        return {
            "version": VERSION, "file": self.file, "id": self.id, "slices": list(self.slices),
            "passed": self.passed, "shard": list(self.shard) if self.shard else None, "plan": list(self.plan),
            "hosts": rows, "additions": [asdict(one) for one in self.additions],
        }  # fmt: skip


def from_json(said: Mapping[str, Any]) -> Matrix:
    """Read what :meth:`Matrix.json` wrote.

    :raises KeyError, TypeError, ValueError: if it is something else.
    """
    if said["version"] != VERSION:
        raise ValueError(f"its version is {said['version']}, not {VERSION}")
    matrix: Matrix = _made(Matrix, {**said, "rows": _checked(said["hosts"], list, "hosts")}, "it")
    numbers: tuple[int, ...] = matrix.shard or (1, 1)
    if len(numbers) != 2 or not 1 <= numbers[0] <= numbers[1]:
        raise ValueError(f"there is no shard {list(numbers)}")
    return matrix


def merged(shards: Sequence[Matrix]) -> Matrix:
    """Put the shards of one matrix together.

    :raises ValueError: if they are of several archives or runs, two have the same host, or one is missing.
    """
    first = shards[0]
    for one in shards[1:]:
        if (one.id, one.slices) != (first.id, first.slices):
            raise ValueError(f"archive {one.id or one.file} is not {first.id or first.file}")
    if any(one.shard for one in shards):
        _refuse_gaps(shards)
    seen: set[str] = set()
    for row in (row for one in shards for row in one.rows):
        if row.host in seen:
            raise ValueError(f"host {row.host} is in two of them")
        seen.add(row.host)
    plan = tuple(dict.fromkeys(name for one in shards for name in one.plan))
    if missing := [name for name in plan if name not in seen]:
        raise ValueError(f"nothing was seen of {', '.join(missing)}")
    place = {name: number for number, name in enumerate(plan)}
    rows = sorted((row for one in shards for row in one.rows), key=lambda row: place.get(row.host, len(place)))
    additions = tuple(added for one in shards for added in one.additions)
    return replace(first, rows=tuple(rows), additions=additions, shard=None, plan=plan)


def _refuse_gaps(shards: Sequence[Matrix]) -> None:
    """Find out whether these are all shards of one run, each once."""
    numbers = []
    for one in shards:
        if one.shard is None or shards[0].shard is None or one.shard[1] != shards[0].shard[1]:
            said = [f"shard {each.shard[0]} of {each.shard[1]}" if each.shard else "no shard" for each in shards]
            raise ValueError(f"they are parts of different runs: {', '.join(said)}")
        if one.plan != shards[0].plan:
            raise ValueError("they are parts of different runs, which do not have the same hosts")
        if one.shard[0] in numbers:
            raise ValueError(f"shard {one.shard[0]} of {one.shard[1]} is there twice")
        numbers.append(one.shard[0])
    count = shards[0].shard[1] if shards[0].shard else 0
    if missing := list(islice((str(one) for one in range(1, count + 1) if one not in numbers), 20)):
        raise ValueError(f"it is a part of a run: of {count} shards there is no {', '.join(missing)}")


_JSON = {str: "a string", int: "a number", float: "a number", bool: "true or false", list: "a list", dict: "an object"}


def _made(kind: Any, said: Any, where: str) -> Any:
    """Make a value of what JSON has for it; ``kind`` is how it is annotated."""
    inner = get_args(kind)
    if get_origin(kind) is UnionType:
        return None if said is None else _made(inner[0], said, where)
    if is_dataclass(kind):
        given = _checked(said, dict, where)
        hints = get_type_hints(kind).items()
        return kind(**{name: _made(hint, given[name], name) for name, hint in hints})  # type: ignore[operator]
    if get_origin(kind) is tuple:
        return tuple(_made(inner[0], one, f"one of {where}") for one in _checked(said, list, where))
    if get_origin(kind) is Mapping:
        return {name: _made(inner[1], one, f"one of {where}") for name, one in _checked(said, dict, where).items()}
    if kind is float and type(said) is int:
        return float(said)
    return _checked(said, kind, where)


def _checked(said: Any, kind: type, where: str) -> Any:
    if type(said) is not kind:
        raise TypeError(f"{where} must be {_JSON[kind]}, is {said!r:.60}")
    return said
