"""The launcher with AddressSanitizer and UndefinedBehaviorSanitizer as a process, on this machine and by its Pythons:
whole launches, of which test_store_*.py and test_launch_*.py look at the results."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support import sanitized, slices
from support.layers import SITE, Content
from support.process import Store
from support.skips import skip_optional

from packer.model import Need, NeedKind

MINE = f"cp{sys.version_info[0]}{sys.version_info[1]}"
WHEELS: dict[str, dict[str, Content]] = {
    "lib": {
        f"{SITE}/lib/__init__.py": "",
        f"{SITE}/lib/empty": None,
        f"{SITE}/lib/link.py": "->__init__.py",
        "bin/x": "",
    },
    "app": {f"{SITE}/app.py": "import lib, sys\n\n\ndef main():\n    sys.stdout.write('ran\\n')\n"},
}
RAN = (0, b"ran\n", b"")


class Machine:
    """This machine, with a home of its own; interpreters are found on PATH, behind the system's."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = Store(directory / "store")

    def write(self, *wanted: slices.Wanted) -> Path:
        return slices.write(self.directory / "tool", wanted, sanitized.require(sanitized.LAUNCHER))

    def run(self, tool: Path, **variables: str) -> tuple[int, bytes, bytes]:
        path = f"{Path(sys.executable).resolve().parent}:{os.environ['PATH']}"
        env = {"PATH": path, "FATPAR_STORE": str(self.store.base), **variables}
        done = subprocess.run([tool], env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
        return done.returncode, done.stdout, done.stderr


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_first_and_second_launch_and_many_at_once(machine: Machine) -> None:
    tool = machine.write(slices.Wanted(WHEELS, MINE))
    assert [machine.run(tool), machine.run(tool)] == [RAN, RAN]
    machine.store = Store(machine.directory / "other")
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: machine.run(tool), range(8))) == [RAN] * 8
    assert machine.store.broken() == machine.store.leftovers() == []


def test_a_store_that_lost_a_part_or_was_made_in_another_boot(machine: Machine) -> None:
    tool = machine.write(slices.Wanted(WHEELS, MINE))
    assert machine.run(tool) == RAN
    layers = [machine.store.base / "v1/layers" / name for name in machine.store.names("layers")]
    views = [machine.store.base / "v1/views" / name for name in machine.store.names("views")]
    for part, objects in (("made", layers), ("tree", layers), ("made", views)):
        for one in objects:
            (one / part).rename(one / f"lost-{part}")
        for name in machine.store.names("plans"):
            (machine.store.base / "v1/plans" / name).unlink()
        assert machine.run(tool) == RAN
        assert machine.store.broken() == []


def test_no_slice_fits(machine: Machine) -> None:
    more = [Need(NeedKind.LIBRARY, "libnowhere.so.1"), Need(NeedKind.NODE, "libc.so.6", "GLIBC_9.9"),
            Need(NeedKind.STDLIB, "nowhere"), Need(NeedKind.PYTHON, MINE, number=0x09000000)]  # fmt: skip
    tool = machine.write(slices.Wanted(WHEELS, MINE, more), slices.Wanted(WHEELS, "cp35m"))
    status, stdout, stderr = machine.run(tool)
    assert (status, stdout, len(stderr.splitlines())) == (126, b"", 3)
    status, stdout, stderr = machine.run(tool, FATPAR="explain")
    assert (status, stderr) == (126, b"")
    assert stdout.endswith(b"choice\n  none: this machine cannot run it\n")
    assert not machine.store.base.exists()


def test_stores_that_will_not_do(machine: Machine) -> None:
    """The named one is a file; two are where nobody can write."""
    tool = machine.write(slices.Wanted(WHEELS, MINE))
    machine.store.base.write_text("")
    home = machine.directory / "home"
    assert machine.run(tool, HOME=str(home), XDG_CACHE_HOME="/proc/x", XDG_RUNTIME_DIR="/proc/y") == RAN
    assert len(Store(home / ".cache/fatpar").names("views")) == 1


def test_a_view_for_python_2(machine: Machine) -> None:
    tool = machine.write(slices.Wanted(WHEELS, "cp27mu"))
    first = machine.run(tool)
    if first[0] == 126:
        skip_optional("no Python 2.7 on this machine")
    assert [first, machine.run(tool)] == [RAN, RAN]
