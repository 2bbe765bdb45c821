"""Two runs of the program, packed and in a venv: what they saw, as one flat table, and where they differ."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

Seen = dict[str, Any]
"""``file > key > key`` -> what was seen."""

VOLATILE = (
    (re.compile(r"\b0x[0-9a-f]{6,}"), "0x"),
    (re.compile(r"/v1/layers/[0-9a-f]+/tree"), "/LAYER"),
    (re.compile(r"\bpid[= ]\d+|(?<=ProcessPid)\d+"), "PID"),
    (re.compile(r"/tmp/pymp-[^/\"\\ ]+"), "/tmp/pymp"),
    (re.compile(r"(tracker_fd|pipe_handle|resource_tracker\.main\(|semaphore_tracker\.main\()=?\d+"), r"\1=N"),
    (re.compile(r"main\(\d+, \d+, "), "main(N, N, "),
)
"""What is another thing in each process."""


@dataclass(frozen=True)
class Difference:
    """What a packed program sees otherwise, and why that is so."""

    where: str
    """A shell pattern for names of :data:`Seen`."""
    why: str
    since: tuple[int, int] = (2, 7)
    until: tuple[int, int] = (9, 9)
    """The first and the last Python that show it."""
    becomes: Callable[[Any], Any] | None = None
    """Gives what a packed program sees from what a plain one does; without it, anything."""

    def covers(self, name: str, plain: Any, packed: Any) -> bool:
        """Whether this is the difference."""
        return fnmatchcase(name, self.where) and (self.becomes is None or self.becomes(plain) == packed)

    def applies(self, version: tuple[int, int]) -> bool:
        """Whether a Python shows it."""
        return self.since <= version <= self.until


def read(directory: Path, words: Mapping[str, str]) -> Seen:
    """Read what a run wrote.

    :param words: a place of this run -> the word for it that the other run has, too; the longest first.
    """
    found: Seen = {}
    for file in sorted(directory.glob("*.json")):
        text = normal(file.read_text(), words)
        found.update(flat(file.stem, json.loads(text)))
    assert found, "the program wrote nothing"
    return found


def normal(text: str, words: Mapping[str, str]) -> str:
    """Put words in the place of what is another thing in each run."""
    for place, word in words.items():
        text = text.replace(place, word)
    for pattern, word in VOLATILE:
        text = pattern.sub(word, text)
    return text


def flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Give all that is data, by its path; a list of words is one thing."""
    if isinstance(value, list) and any(isinstance(one, dict | list) for one in value):
        value = dict(enumerate(value))
    if isinstance(value, dict) and value:
        for key, below in value.items():
            yield from flat(f"{name} > {key}", below)
    else:
        yield name, value


NOTHING = "nothing"


def differing(plain: Seen, packed: Seen) -> dict[str, tuple[Any, Any]]:
    """Give what is not the same in both."""
    names = sorted({*plain, *packed})
    pairs = {name: (plain.get(name, NOTHING), packed.get(name, NOTHING)) for name in names}
    return {name: (one, other) for name, (one, other) in pairs.items() if one != other}


def judge(
    found: Mapping[str, tuple[Any, Any]], known: Sequence[Difference], version: tuple[int, int]
) -> tuple[list[str], list[str]]:
    """Give the differences that no entry explains, and the entries that explain none."""
    asked = [one for one in known if one.applies(version)]
    used = set()
    unknown = []
    for name, (plain, packed) in found.items():
        covering = [one for one in asked if one.covers(name, plain, packed)]
        used.update(covering)
        if not covering:
            unknown.append(f"{name}\n    plain   {json.dumps(plain)[:600]}\n    packed  {json.dumps(packed)[:600]}")
    return unknown, [f"{one.where}: {one.why}" for one in asked if one not in used]
