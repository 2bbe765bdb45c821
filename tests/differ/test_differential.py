"""A packed program cannot be told from the same wheels in a venv, but in what :mod:`differences` lists.

Not on Python 2.7: its environments are virtualenv's, which are no plain ones.
"""

from __future__ import annotations

import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.packing import Place
from support.skips import skip_optional

from . import comparing, runs
from .differences import DIFFERENCES, ENDINGS, SECOND

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from packer.pythons import Interpreter

pytestmark = [pytest.mark.e2e, pytest.mark.network]

EVERY_TIME = ((3, 11),)
LONGER = ((3, 6), (3, 7), (3, 8), (3, 9), (3, 10), (3, 12), (3, 13))
AT_ONCE = 2

WAYS = ("return", "raise", "interrupt", "text", "thread", "unraisable", "syntax", "absent", "warning")


@dataclass(frozen=True)
class Compared:
    """What one interpreter showed."""

    bench: runs.Bench
    seen: Mapping[tuple[bool, int], comparing.Seen]
    """Packed or not, and which launch -> what was seen."""
    ended: Mapping[tuple[bool, str], runs.Ended]
    """Packed or not, and the way -> how it ended."""


def compare(bench: runs.Bench, launches: int) -> Compared:
    """Run the program in both ways."""
    bench.make()
    seen = {}
    ended = {}
    for packed in (False, True):
        for number in range(launches):
            work = bench.root / "work" / f"{'packed' if packed else 'plain'}-{number}"
            work.mkdir()
            done = bench.run(bench.program(packed), "observe", work, cwd=work)
            assert done.status == 0, done.stderr
            seen[packed, number] = comparing.read(work, bench.words(packed, work))
        for way in WAYS:
            done = bench.run(bench.program(packed), "end", way, cwd=bench.root)
            words = bench.words(packed, bench.root / "nowhere")
            ended[packed, way] = runs.Ended(
                done.status, comparing.normal(done.stdout, words), comparing.normal(done.stderr, words)
            )
    return Compared(bench, seen, ended)


@pytest.fixture(scope="module")
def compared(request: pytest.FixtureRequest) -> Iterator[Mapping[tuple[int, int], Future[Compared]]]:
    """What the interpreters that this session asks for showed, by version."""
    asked = sorted({version for one in request.session.items for version in _versions(one)})
    launches = {version: 1 if version in EVERY_TIME else 2 for version in asked}
    with tempfile.TemporaryDirectory(prefix="fatpar-differ-") as name, ThreadPoolExecutor(AT_ONCE) as pool:

        def job(one: Interpreter, version: tuple[int, int]) -> Compared:
            # for this Python alone, or the launcher would take the system's
            root = Path(name) / one.tag
            packed = runs.pack(Place(root / "place"), one)
            return compare(runs.Bench(one, packed, root), launches[version])

        found = {(one.version[0], one.version[1]): one for one in runs.interpreters(asked)}
        yield {version: pool.submit(job, one, version) for version, one in found.items()}
        pool.shutdown(cancel_futures=True)


def _versions(item: pytest.Item) -> list[tuple[int, int]]:
    ours = isinstance(item, pytest.Function) and item.module.__name__ == __name__ and hasattr(item, "callspec")
    return [item.callspec.params["version"]] if ours else []  # type: ignore[attr-defined]


@pytest.fixture(
    params=[
        *(pytest.param(version, id="{}.{}".format(*version)) for version in EVERY_TIME),
        *(pytest.param(version, id="{}.{}".format(*version), marks=pytest.mark.torture) for version in LONGER),
    ]
)
def version(request: pytest.FixtureRequest) -> tuple[int, int]:
    """Of the interpreter."""
    found: tuple[int, int] = request.param
    return found


@pytest.fixture
def one(compared: Mapping[tuple[int, int], Future[Compared]], version: tuple[int, int]) -> Compared:
    """What this interpreter showed."""
    if version not in compared:
        skip_optional("no Python {}.{} on this machine".format(*version))
    return compared[version].result()


def test_a_packed_program_sees_what_a_plain_one_sees(one: Compared) -> None:
    for number in sorted({number for _, number in one.seen}):
        found = comparing.differing(one.seen[False, number], one.seen[True, number])
        known = (*DIFFERENCES, *SECOND) if number == 0 else DIFFERENCES  # the first was to find the view
        unknown, unused = comparing.judge(found, known, one.bench.version)
        assert not unknown, f"launch {number}:\n" + "\n".join(unknown)
        # some Pythons, and what their last setuptools bring, show less
        assert not unused or one.bench.version not in EVERY_TIME, "these no longer differ:\n" + "\n".join(unused)


def test_enough_was_seen(one: Compared) -> None:
    assert all(len(seen) > 3000 for seen in one.seen.values())
    names = {name.split(" > ")[0] for name in one.seen[True, 0]}
    assert {"process", "thread", "process fork", "child -c", "child -m", "child file", "packages"} <= names
    assert sum(name.startswith("awkward.") for name in names) > 30
    died = [name for name, value in one.seen[False, 0].items() if value == "it died"]
    assert died == []


def test_a_packed_program_ends_as_a_plain_one(one: Compared) -> None:
    found = {}
    for way in WAYS:
        plain, packed = one.ended[False, way], one.ended[True, way]
        for name in ("status", "stdout", "stderr"):
            if getattr(plain, name) != getattr(packed, name):
                found[f"{way} > {name}"] = getattr(plain, name), getattr(packed, name)
    unknown, unused = comparing.judge(found, ENDINGS, one.bench.version)
    assert not unknown, "\n".join(unknown)
    assert not unused, "these no longer differ:\n" + "\n".join(unused)
