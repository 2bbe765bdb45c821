"""Each system call of a launch in turn is where it is killed, or fails in each way in which it can."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support import launches

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.hosts, pytest.mark.torture]


@pytest.mark.parametrize("scenario", launches.SCENARIOS)
@pytest.mark.parametrize(("host", "tag"), [("bookworm", "cp311"), ("bullseye", "cp27mu")], ids=["venv", "prefix"])
def test_killed_or_failed_at_each_call_a_launch_leaves_a_store_that_works(
    tmp_path: Path, host: str, tag: str, scenario: str
) -> None:
    with launches.benches(tmp_path, host, tag) as benches:
        found = launches.every(benches, launches.SCENARIOS[scenario])
    print(f"\n{scenario} launch of {tag} on {host}:\n{launches.table(found)}")
    assert sum(found.values()) >= 50
    assert sum(number for (_, _, how), number in found.items() if how == "missed") <= 0.03 * sum(found.values())


@pytest.mark.parametrize(("host", "tag"), [("bookworm", "cp311"), ("bullseye", "cp27mu")], ids=["venv", "prefix"])
def test_so_it_does_with_several_threads(tmp_path: Path, host: str, tag: str) -> None:
    """Which thread makes which call differs from launch to launch, so more of what was counted does not happen."""
    with launches.benches(tmp_path, host, tag, files=100) as benches:
        found = launches.every(benches, launches.SCENARIOS["first"])
    print(f"\nfirst launch of {tag} on {host}, several threads:\n{launches.table(found)}")
    assert sum(number for (_, _, how), number in found.items() if how != "missed") >= 50
