"""What a matrix of hosts comes to: for each host what was predicted and, where it was run there, what was seen.

``docs/json.md`` has the form of the JSON; shards of one matrix are merged by putting their hosts together.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
    """Seconds of the first launch."""
    warm: float | None
    """Seconds of the second."""
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
        return self.agrees and not (self.required and choice is not None and choice.slice is None)


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

    @property
    def passed(self) -> bool:
        """Whether no host has something wrong."""
        return all(row.passed for row in self.rows)

    def json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        rows = [{**asdict(row), "agrees": row.agrees, "passed": row.passed} for row in self.rows]
        return {
            "version": VERSION, "file": self.file, "id": self.id, "slices": list(self.slices),
            "passed": self.passed, "hosts": rows, "additions": [asdict(one) for one in self.additions],
        }  # fmt: skip


def from_json(said: Mapping[str, Any]) -> Matrix:
    """Read what :meth:`Matrix.json` wrote.

    :raises KeyError, TypeError, ValueError: if it is something else.
    """
    if said["version"] != VERSION:
        raise ValueError(f"its version is {said['version']}, not {VERSION}")
    return Matrix(
        said["file"], said["id"], tuple(said["slices"]), tuple(_row(row) for row in said["hosts"]),
        tuple(Addition(**{**one, "hosts": tuple(one["hosts"])}) for one in said["additions"]),
    )  # fmt: skip


def merged(shards: Sequence[Matrix]) -> Matrix:
    """Put the shards of one matrix together.

    :raises ValueError: if they are of several archives, or two have the same host.
    """
    first = shards[0]
    for one in shards[1:]:
        if (one.id, one.slices) != (first.id, first.slices):
            raise ValueError(f"archive {one.id or one.file} is not {first.id or first.file}")
    seen: set[str] = set()
    for row in (row for one in shards for row in one.rows):
        if row.host in seen:
            raise ValueError(f"host {row.host} is in two of them")
        seen.add(row.host)
    rows = tuple(row for one in shards for row in one.rows)
    return replace(first, rows=rows, additions=tuple(added for one in shards for added in one.additions))


def _row(said: Mapping[str, Any]) -> Row:
    seen = said["seen"]
    return Row(
        said["host"], said["title"], said["required"], _choice(said["predicted"]),
        Seen(_choice(seen["choice"]), seen["error"], tuple(_ran(one) for one in seen["cases"])) if seen else None,
    )  # fmt: skip


def _choice(said: Mapping[str, Any] | None) -> Choice | None:
    if said is None:
        return None
    return Choice(said["slice"], said["python"], {name: tuple(why) for name, why in said["reasons"].items()})


def _ran(said: Mapping[str, Any]) -> Ran:
    return Ran(**{**said, "arguments": tuple(said["arguments"])})
