"""Whatever stops the packer or fails it, its output is the old one or the new one: here a part, all with -m torture."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from support import launches, packings
from support.calls import KILL

if TYPE_CHECKING:
    from pathlib import Path

    from support.calls import Case

pytestmark = pytest.mark.hosts  # mounts, and strace, as these have it

SEED = 1


def some(number: int) -> packings.Choice:
    """As many kills as errors, of any calls."""
    choice = random.Random(SEED)

    def choose(every: list[Case]) -> list[Case]:
        kills = [case for case in every if case.fault == KILL]
        errors = [case for case in every if case.fault != KILL]
        return [*choice.sample(kills, number), *choice.sample(errors, number)]

    return choose


@pytest.mark.parametrize(("name", "number"), [("fat", 5), ("patch", 5), ("extract", 5)])
def test_killed_or_failed_at_any_call_it_leaves_the_old_output_or_the_new_one(
    tmp_path: Path, name: str, number: int
) -> None:
    runs = packings.Runs(tmp_path, packings.COMMANDS[name])
    found = runs.every(some(number))
    print(f"{name}, seed {SEED}:\n{launches.table(found)}")
    assert sum(number for (_, _, how), number in found.items() if how != "missed") >= number
    print(f"killed at random moments, what was there: {dict(runs.killed(2, SEED))}")


CANNOT = "packer: cannot write out: No space left on device\npacker: hint: name another file with -o\n"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        # free pages where the output goes, None: no file more -> what is said; an archive takes 57
        ("fat", {None: CANNOT, 48: CANNOT, 80: ""}),
        ("patch", {None: CANNOT, 1: CANNOT, 80: ""}),
        ("extract", {1: "packer: new: write app/app/script.py: No space left on device\n", 80: ""}),
    ],
)
def test_with_a_full_disk_the_old_output_stays(tmp_path: Path, name: str, said: dict[int | None, str]) -> None:
    runs = packings.Runs(tmp_path, packings.COMMANDS[name])
    for pages, wanted in said.items():
        ended, how = packings.on_small_disk(runs, "work", pages)
        assert ended.stderr == wanted, pages
        assert how == ("1" if wanted else "ran"), pages


@pytest.mark.parametrize("which", ["tmp", "cache"])
def test_a_full_cache_or_scratch_disk_is_done_without(tmp_path: Path, which: str) -> None:
    """Blobs are only not kept; for what is temporary there is ``/tmp``."""
    runs = packings.Runs(tmp_path, packings.COMMANDS["fat"])
    for pages in (None, 1):
        assert packings.on_small_disk(runs, which, pages)[1] == "ran"
