"""Each call of the packer that touches its files in turn is where it is killed, or where the disk fails or is full."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support import launches, packings

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.hosts, pytest.mark.torture]

SEED, MOMENTS = 1, 40


@pytest.mark.parametrize("name", packings.COMMANDS)
def test_killed_or_failed_at_each_call_it_leaves_the_old_output_or_the_new_one(tmp_path: Path, name: str) -> None:
    runs = packings.Runs(tmp_path, packings.COMMANDS[name])
    found = runs.every(list)
    print(f"\n{name}:\n{launches.table(found)}")
    assert sum(found.values()) >= 20
    assert sum(number for (_, _, how), number in found.items() if how == "missed") <= 0.1 * sum(found.values())
    print(f"killed at random moments, seed {SEED}, what was there: {dict(runs.killed(MOMENTS, SEED))}")


@pytest.mark.parametrize("name", packings.COMMANDS)
@pytest.mark.parametrize("which", ["work", "tmp", "cache"])
def test_on_a_disk_of_any_size_the_output_is_the_old_one_or_the_new_one(tmp_path: Path, name: str, which: str) -> None:
    runs = packings.Runs(tmp_path, packings.COMMANDS[name])
    outcomes = {
        pages: packings.on_small_disk(runs, which, pages)[1] for pages in (None, 1, 2, 4, 8, 16, 32, 48, 64, 80)
    }
    print(f"\n{name}, free pages of {which} -> how it ended: {outcomes}")
    assert outcomes[80] == "ran"
