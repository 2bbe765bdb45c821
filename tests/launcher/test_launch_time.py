"""FATPAR=time: the program runs as ever, and standard error tells what its start took."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from support.hosts import require_host

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Pack

pytestmark = pytest.mark.hosts

TOOL = "/opt/tool"

APP = """\
import os
import subprocess
import sys


def main():
    with open("/proc/self/cmdline") as looks:
        print([sys.argv[1:], looks.read().split("\\0")[:-1], sorted(os.environ)])
    sys.stdout.flush()
    subprocess.call(["/bin/sh", "-c", "echo child $FATPAR"])
    sys.stderr.write("own\\n")
    return 3
"""

PHASE = re.compile(r"tool: time: +([0-9]+) us  (.*)")

COLD = [
    "open itself",
    "read the trailer",
    "look for a plan: there is none that holds",
    "keep itself in memory, read the index",
    "probe the host",
    "select a slice",
    "open stores, look for the view",
    "lock the store",
    "remove what is stale",
    "unpack the layers that are missing",
    "link the view",
    "prune the store, once a day",
    "write the plan",
    "prepare execve",
    "launcher in all, until execve",
]
WARM = [
    "open itself",
    "read the trailer",
    "find the plan of an earlier launch",
    "prepare execve",
    "launcher in all, until execve",
]
HOSTS = [("bullseye", "cp27mu", False), ("bullseye", "cp39", True), ("bookworm", "cp311", True), ("sid", "cp315", True)]


@pytest.mark.parametrize(("host", "tag", "imports"), HOSTS)
def test_phases_and_imports_are_told(pack: Pack, tmp_path: Path, host: str, tag: str, imports: bool) -> None:
    tool = pack("tool", {"app.py": APP}, tags=[tag])
    home = tmp_path / "home"
    script = """
        /opt/tool 1 2 >out1 2>err1; echo $?
        FATPAR=time /opt/tool 1 2 >out2 2>err2; echo $?
        chmod -R u+w .cache; rm -rf .cache
        FATPAR=time /opt/tool 1 2 >out3 2>err3; echo $?"""
    home.mkdir()
    home.chmod(0o777)
    result = require_host(host).run(["sh", "-c", script], binds={tool: TOOL, home: "/home/u"})
    assert (result.status, result.stdout, result.stderr) == (0, b"3\n3\n3\n", b"")
    outputs = [(home / f"out{number}").read_text() for number in (1, 2, 3)]
    assert "'/opt/tool', '1', '2'" in outputs[0]
    assert outputs[0].endswith("child\n")
    assert outputs[1:] == outputs[:1] * 2
    assert (home / "err1").read_text() == "own\n"
    for name, phases in (("err2", WARM), ("err3", COLD)):
        lines = (home / name).read_text().splitlines()
        told = [match for line in lines if (match := PHASE.fullmatch(line))]
        assert [match[2] for match in told] == phases
        *each, whole = (int(match[1]) for match in told)
        assert sum(each) <= whole < sum(each) + len(each) + 1  # each is cut to whole microseconds
        rest = lines[len(told) :]
        assert rest[-1] == "own"
        times = [line for line in rest if line.startswith("import time:")]
        assert len(rest) == len(times) + 1
        assert any(line.endswith("| app") for line in times) == imports


def test_a_launch_that_fails_says_why(pack: Pack) -> None:
    tool = pack("tool", {"app.py": APP}, tags=["cp39"])
    result = require_host("bookworm").run([TOOL], binds={tool: TOOL}, env={"FATPAR": "time"})
    assert result.status == 126
    assert b"this machine cannot run it" in result.stderr
