"""A machine loses its power soon after a first launch; after the next boot every program has to be right.

Each boot looks at what the cut left, launches once more, and then begins another store for the next cut. So the number
of boots is that of the cuts, and one more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from torture import power, programs

if TYPE_CHECKING:
    from collections.abc import Callable

    from torture.programs import Program

pytestmark = pytest.mark.hosts


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Program]:
    """The programs that are launched."""
    return programs.write(tmp_path_factory.mktemp("programs"))


@pytest.fixture(scope="module")
def machine(tools: dict[str, Program], tmp_path_factory: pytest.TempPathFactory) -> power.Machine:
    """The machine that loses its power."""
    return power.build(tmp_path_factory.mktemp("machine"), {name: tool.path for name, tool in tools.items()})


@dataclass
class Losses:
    """What cuts took."""

    cuts: int = 0
    torn: int = 0
    """Cuts that damaged layers which had their names."""
    damaged: int = 0
    """Layers."""
    empty: int = 0
    """Files of layers and of bytecode."""
    again: int = 0
    """Cuts that took something of a store that had survived one before."""
    say: Callable[[str], None] = lambda _: None
    """Told after each cut what it took."""

    @property
    def said(self) -> str:
        """The counts, for whoever runs the tests."""
        return (
            f"{self.cuts} cuts, {self.torn} tore the store; {self.damaged} layers were damaged, "
            f"{self.empty} files empty; {self.again} took something of the store before it, too"
        )


def look(machine: power.Started, tools: dict[str, Program], store: int, losses: Losses, after: float) -> None:
    """After a cut: see what is left of a store where the first program was launched before, and launch it once more."""
    left = machine.census(store)
    losses.cuts += 1
    losses.torn += bool(left.damaged)
    losses.damaged += len(left.damaged)
    losses.empty += left.empty
    losses.say(f"after {after} s: {left.layers} layers, {len(left.damaged)} damaged, {left.empty} files empty")
    if left.damaged:
        # where nobody looks at what a cut left, the program itself sees it: so it would see what the launcher overlooks
        assert machine.launch_trusting("first", store) != tools["first"].right
    assert machine.launch("first", store) == tools["first"].right
    is_whole(machine, store)


def is_whole(machine: power.Started, store: int) -> None:
    """No layer is wrong, and no object was overlooked."""
    found = machine.census(store)
    assert (found.damaged, found.doubtful) == ([], [])


def look_again(machine: power.Started, tools: dict[str, Program], store: int, losses: Losses) -> None:
    """After a second cut: both programs are launched in a store that has survived one before."""
    left = machine.census(store)
    losses.again += bool(left.damaged or left.empty)
    losses.say(f"  before it: {left.layers} layers, {len(left.damaged)} damaged, {left.empty} files empty")
    for name in ("first", "second"):
        assert machine.launch(name, store) == tools[name].right
    is_whole(machine, store)


KEPT = {"busy": 600, "hasty": 2}
"""For how long the kernel keeps contents in memory while something else has names committed: so long, as on a laptop on
battery, that a cut takes nearly all of them, however slow the machine is; so short that some are on disk."""


def torture(
    machine: power.Machine,
    tools: dict[str, Program],
    filesystem: str,
    load: str,
    delays: list[float],
    say: Callable[[str], None] = lambda _: None,
) -> Losses:
    """Cut the power after each delay."""
    losses = Losses(say=say)
    disk = machine.disk(filesystem, load)
    for number in range(len(delays) + 1):
        with machine.started(disk) as running:
            if number == 0:
                running.begin(len(delays))
            if number > 1:
                look_again(running, tools, number - 2, losses)
            if number > 0:
                look(running, tools, number - 1, losses, delays[number - 1])
            if number == len(delays):
                break
            if load in KEPT:
                running.load(KEPT[load])
            if number > 0:
                assert running.launch("second", number - 1) == tools["second"].right
            assert running.launch("first", number) == tools["first"].right
            running.cut(delays[number])
    return losses


@pytest.mark.slow
def test_a_first_launch_survives_a_power_cut(machine: power.Machine, tools: dict[str, Program]) -> None:
    losses = torture(machine, tools, "ext4", "busy", [5])
    assert (losses.cuts, losses.torn) == (1, 1), losses


DELAYS: dict[str, list[float]] = {
    "busy": [1, 5, 20, 1, 5, 20],
    "idle": [1, 5, 20, 1, 5, 20],
    "hasty": [0.5, 1, 2, 3],
}
"""What a machine does beside -> seconds from a launch's end to the cut."""


@pytest.mark.torture
@pytest.mark.parametrize("filesystem", power.FILESYSTEMS)
@pytest.mark.parametrize("load", DELAYS)
def test_launches_survive_power_cuts(
    machine: power.Machine, tools: dict[str, Program], capsys: pytest.CaptureFixture[str], load: str, filesystem: str
) -> None:
    def say(text: str) -> None:
        with capsys.disabled():
            print(text, flush=True)

    say(f"\n{filesystem}, {load}, with{'' if machine.kvm else 'out'} KVM")
    losses = torture(machine, tools, filesystem, load, DELAYS[load], say)
    say(losses.said)
    # the names were made sure of, and the contents were not
    assert losses.torn or load != "busy"
