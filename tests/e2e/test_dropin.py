"""``examples/drop-in``: the tests of a C++ tool pass unchanged for the Python program that replaces it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.hosts import give_up, require_host
from support.packing import ROOT, Place, wait_for

pytestmark = pytest.mark.e2e

RUNNING = f"cp{sys.version_info[0]}{sys.version_info[1]}"
EXAMPLE = ROOT / "examples" / "drop-in"
PASSED = "24 passed, 0 failed\n"
"""In a host; one more where there is a ps."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    if not shutil.which("g++"):
        give_up("g++ is not installed")
    made = Place(tmp_path_factory.mktemp("dropin"))
    shutil.copytree(EXAMPLE, made.work, dirs_exist_ok=True)
    for path in (made.root, *made.root.rglob("*")):
        path.chmod(0o755)
    return made


def commands(section: str) -> list[tuple[str, str]]:
    """The commands of a section of the README, and what is shown to come of each."""
    text = (ROOT / "README.md").read_text("utf-8").partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    lines = "".join(re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    shown = re.findall(r"^\$ (.*?)(?:\s{2,}#[^\n]*)?\n((?:(?!\$ )[^\n]*\n)*)", lines, re.MULTILINE)
    assert shown
    return shown


def test_the_readme_step_by_step(place: Place) -> None:
    if not shutil.which("ps"):
        give_up("ps is not installed")
    packer = place.root / "bin" / "packer"
    packer.parent.mkdir()
    packer.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m packer "$@"\n')
    packer.chmod(0o755)
    environment = {
        "PATH": f"{packer.parent}:{sys.base_prefix}/bin:{os.environ['PATH']}",
        **{name: str(place.root / "cache") for name in ("HOME", "XDG_CACHE_HOME")},
    }
    for command, shown in commands("Replacing a C++ tool"):
        ended = subprocess.run(
            ["sh", "-c", command],
            cwd=place.work,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert re.fullmatch(as_pattern(shown), ended.stdout), ended


def as_pattern(shown: str) -> str:
    """A pattern of what is shown: a launcher has not the same size for long, and "..." is for anything."""
    parts = re.split(r"(\.\.\.|[\d,]+(?= bytes))", shown)
    return "".join(
        (r"[\d,]+" if part[0].isdigit() else ".*") if odd % 2 else re.escape(part) for odd, part in enumerate(parts)
    )


@pytest.mark.hosts
@pytest.mark.parametrize(("host", "tag"), [("bullseye", ""), ("bullseye", "cp27"), ("sid", "cp315")])
def test_on_hosts(place: Place, host: str, tag: str) -> None:
    tool = _packed(place, tag) if tag else _compiled(place)
    binds = {tool: "/opt/tally", place.work / "tests.sh": "/opt/tests.sh"}
    ended = require_host(host).run(["sh", "/opt/tests.sh", "/opt/tally"], binds=binds)
    assert (ended.status, ended.stdout.decode()) == (0, PASSED)


def _compiled(place: Place) -> Path:
    """The C++ tool, for hosts without libstdc++."""
    made = place.work / "static" / "tally"
    if not made.exists():
        made.parent.mkdir()
        subprocess.run(["g++", "-O2", "-static", "-o", made, "tally.cc"], cwd=place.work, check=True)
    return made


def _packed(place: Place, tag: str) -> Path:
    made = place.work / tag / "tally"
    made.parent.mkdir(exist_ok=True)
    place.packed("fat", "tally.py", "--abis", f"manylinux2014,{tag}", "-o", made)
    return made


@pytest.mark.parametrize("kind", ["compiled", "packed"])
def test_ctrl_c_while_it_opens(place: Place, kind: str) -> None:
    """A fifo that nobody writes to: the call fails, as in C++, and is not made again."""
    tool = _compiled(place) if kind == "compiled" else _packed(place, RUNNING)
    fifo = place.root / f"{kind}.fifo"
    os.mkfifo(fifo)
    environment = {"PATH": f"{sys.base_prefix}/bin:/usr/bin:/bin", "FATPAR_STORE": str(place.root / "store")}
    with subprocess.Popen(
        [tool, fifo.name], cwd=place.root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for(lambda: _opening(process.pid), process)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout, stderr) == (130, "", f"tally: {fifo.name}: Interrupted system call\n")


def _opening(pid: int) -> bool:
    """Tell whether a process is kept in open or openat: proc(5) says where, and twice the same of none that goes on."""
    where = Path(f"/proc/{pid}/syscall")
    before = where.read_text()
    time.sleep(0.05)
    return before.split()[0] in ("2", "257") and before == where.read_text()
