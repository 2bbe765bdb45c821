"""Each system call of a launch in turn is where it is killed, or fails: a part of that here, all with -m torture."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest
from support import calls, launches, skips

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.calls import Case

pytestmark = pytest.mark.hosts

SEED = 1
STEP = 4
"""Of the calls of a first launch each that many-th is taken, from a random one on."""


@pytest.fixture(scope="module")
def benches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[launches.Bench]]:
    with launches.benches(tmp_path_factory.mktemp("calls"), "bookworm", "cp311") as entered:
        yield entered


def some(step: int, seed: int) -> launches.Choice:
    """Every so many-th kill, and one error of every so many-th call that can fail."""
    numbers = random.Random(seed)

    def choose(every: list[Case]) -> list[Case]:
        kills = [case for case in every if case.fault == calls.KILL]
        failing: dict[tuple[str, int], list[Case]] = {}
        for case in every:
            if case.fault != calls.KILL:
                failing.setdefault((case.call, case.number), []).append(case)
        errors = [numbers.choice(cases) for cases in failing.values()]
        return kills[numbers.randrange(step) :: step] + errors[numbers.randrange(step) :: step]

    return choose


@pytest.mark.parametrize(
    ("scenario", "step"), [("first", STEP), ("warm", 2), ("reboot", 8), ("bytecode", 8), ("damaged", 16)]
)
def test_killed_or_failed_at_any_call_a_launch_leaves_a_store_that_works(
    benches: list[launches.Bench], scenario: str, step: int
) -> None:
    found = launches.every(benches, launches.SCENARIOS[scenario], some(step, SEED))
    print(f"{scenario}, seed {SEED}, every {step}-th:\n{launches.table(found)}")
    assert sum(found.values()) >= 30
    assert {"killed", "ran", "125"} <= {how for _, _, how in found}
    assert sum(number for (_, _, how), number in found.items() if how == "missed") <= 0.03 * sum(found.values())


def test_so_it_does_with_several_threads(tmp_path: Path) -> None:
    """Which thread makes which call differs from launch to launch, so more of what was counted does not happen."""
    if len(os.sched_getaffinity(0)) == 1:
        skips.skip_optional("a launch has several threads only where there are several CPUs")
    with launches.benches(tmp_path / "threads", "bookworm", "cp311", files=100) as benches:
        found = launches.every(benches, launches.SCENARIOS["first"], some(40, SEED))
    print(f"first, threads, seed {SEED}:\n{launches.table(found)}")
    assert {"killed", "ran"} <= {how for _, _, how in found}
    assert sum(number for (_, _, how), number in found.items() if how != "missed") >= 30


def test_an_interpreter_that_cannot_be_looked_at_or_copied_is_none(tmp_path: Path) -> None:
    """Its size and time are part of its view's name, which would be that of later ones, too; half of it would crash."""

    def choose(every: list[Case]) -> list[Case]:
        copying = [case for case in every if case.call == "sendfile" and case.fault in ("EIO", "ENOSPC")]
        assert len(copying) >= 6
        return [*copying, *(case for case in every if (case.call, case.fault) == ("stat", "EIO"))]

    with launches.benches(tmp_path / "copied", "bullseye", "cp27mu") as benches:
        found = launches.every(benches, launches.SCENARIOS["bytecode"], choose)
    assert all(how == ("125" if fault == "EIO" else "ran") for call, fault, how in found if call == "sendfile"), found
    assert {how for call, _, how in found if call == "stat"} == {"ran", "125"}
