"""A machine loses its power soon after a first launch; after the next boot every program has to be right.

Each boot looks at what the cut left, launches once more, and then begins another store for the next cut. So the number
of boots is that of the cuts, and one more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from torture import power, programs

if TYPE_CHECKING:
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
    """Cuts after which a published layer was damaged."""
    vanished: int = 0
    """Cuts after which a layer had not even a name."""
    damaged: int = 0
    empty: int = 0
    again: int = 0
    """Cuts that damaged what the second program had put beside layers of an earlier boot, or its own layers."""
    lines: list[str] = field(default_factory=list)


def look(machine: power.Started, tools: dict[str, Program], store: int, losses: Losses, after: float) -> None:
    """After a cut: see what is left of a store where the first program was launched before, and launch it once more."""
    left = machine.census(store)
    losses.cuts += 1
    losses.torn += bool(left.damaged)
    losses.damaged += len(left.damaged)
    losses.empty += left.empty
    losses.lines.append(f"{after:4} s: {left.layers} layers, {len(left.damaged)} damaged, {left.empty} files empty")
    if left.damaged:
        # where nobody looks at what a cut left, the program itself sees it: so it would see what the launcher overlooks
        assert machine.launch_trusting("first", store) != tools["first"].right
    assert machine.launch("first", store) == tools["first"].right
    is_whole(machine, store)


def is_whole(machine: power.Started, store: int) -> power.Census:
    """No layer is wrong, and none was overlooked."""
    found = machine.census(store)
    assert (found.damaged, found.doubtful) == ([], [])
    return found


def look_again(machine: power.Started, tools: dict[str, Program], store: int, losses: Losses) -> None:
    """After a second cut: both programs are launched in a store that has survived one before."""
    left = machine.census(store)
    losses.again += bool(left.damaged or left.empty)
    losses.lines.append(f"        one store on: {left.layers} layers, {len(left.damaged)} damaged, {left.empty} empty")
    for name in ("second", "first"):
        assert machine.launch(name, store) == tools[name].right
    is_whole(machine, store)


def torture(
    machine: power.Machine, tools: dict[str, Program], filesystem: str, delays: list[float], loaded: bool
) -> Losses:
    """Cut the power after each delay."""
    losses = Losses()
    disk = machine.disk(filesystem, f"{'loaded' if loaded else 'idle'}")
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
            if loaded:
                running.load()
            if number > 0:
                assert running.launch("second", number - 1) == tools["second"].right
            assert running.launch("first", number) == tools["first"].right
            running.cut(delays[number])
    return losses


@pytest.mark.slow
def test_a_first_launch_survives_a_power_cut(
    machine: power.Machine, tools: dict[str, Program], capsys: pytest.CaptureFixture[str]
) -> None:
    losses = torture(machine, tools, "ext4", [5], loaded=True)
    assert losses.torn == 1, losses


@pytest.mark.torture
@pytest.mark.parametrize("loaded", [True, False], ids=["loaded", "idle"])
@pytest.mark.parametrize("filesystem", power.FILESYSTEMS)
def test_launches_survive_power_cuts(
    machine: power.Machine,
    tools: dict[str, Program],
    capsys: pytest.CaptureFixture[str],
    filesystem: str,
    loaded: bool,
) -> None:
    losses = torture(machine, tools, filesystem, [1, 5, 20] * 2, loaded)
    with capsys.disabled():
        print(f"\n{filesystem}, {'loaded' if loaded else 'idle'}, {'KVM' if machine.kvm else 'TCG'}")
        print(*losses.lines, sep="\n")
        print(f"{losses.cuts} cuts, {losses.torn} tore the store: {losses.damaged} layers, {losses.empty} files empty")
    assert not loaded or losses.torn
