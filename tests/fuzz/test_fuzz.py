"""No input makes the launcher's readers do what they must not, as far as fuzzing tells; and it reaches what it did."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from fuzz import fuzzing, renew, seeds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.said import Say

pytestmark = pytest.mark.slow

Runs = dict[str, Future[fuzzing.Run]]
each_target = pytest.mark.parametrize("target", seeds.TARGETS)


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    fuzzing.require()


def seconds(usual: int) -> int:
    """How long each fuzzer runs; FATPAR_FUZZ_SECONDS says otherwise."""
    return int(os.environ.get("FATPAR_FUZZ_SECONDS", usual))


@pytest.fixture(scope="module")
def finds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where inputs go that were found, and stay until pytest removes them."""
    return tmp_path_factory.mktemp("finds")


@pytest.fixture(scope="module")
def runs(finds: Path) -> Iterator[Runs]:
    """Short runs, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        yield {target: pool.submit(fuzzing.run, target, seconds(60), finds) for target in seeds.TARGETS}


@pytest.fixture(scope="module")
def long_runs(finds: Path) -> Iterator[Runs]:
    """Long ones, which go on where those before ended."""
    with ThreadPoolExecutor(2) as pool:
        yield {
            target: pool.submit(fuzzing.run, target, seconds(600), finds, fuzzing.KEPT / target)
            for target in seeds.TARGETS
        }


def judge(done: fuzzing.Run, say: Say) -> None:
    """Say what a run came to; a find fails the test."""
    say(f"fuzz {done.target}: {done.executions:,} executions, {done.edges:,} edges")
    assert (done.status, done.finds) == (0, {}), done.report
    assert done.executions > 1000, done.report


@each_target
def test_nothing_is_found(runs: Runs, target: str, say: Say) -> None:
    judge(runs[target].result(), say)


@pytest.mark.torture
@each_target
def test_nothing_is_found_for_long(long_runs: Runs, target: str, say: Say) -> None:
    judge(long_runs[target].result(), say)


@each_target
def test_coverage_does_not_fall(target: str, say: Say) -> None:
    least, reached = renew.recorded()[target], fuzzing.covered(target)
    said = ", ".join(f"{name}.c {lines:.1f} % ({branches:.1f} %)" for name, (lines, branches) in reached.items())
    say(f"fuzz {target}: lines (branches) reached: {said}")
    assert least.keys() == reached.keys()
    fallen = {
        name: (least[name], reached[name])
        for name in least
        if any(now < then for now, then in zip(reached[name], least[name], strict=True))
    }
    assert not fallen, (
        "launcher/*.c: recorded, and reached now; if it is meant: PYTHONPATH=.:tests python -m fuzz.renew"
    )


def test_a_find_is_reported_with_its_input(tmp_path: Path) -> None:
    done = fuzzing.run("plan", 5, tmp_path, FUZZ_ALARM="1")
    assert done.status not in (0, None)
    assert "broken promise: FUZZ_ALARM is set" in done.report
    [path] = done.finds
    assert path.read_bytes() == done.finds[path]
    assert f"FUZZ=plan build/test/fuzz {path}" in done.report
