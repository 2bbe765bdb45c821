"""packer/process.py: children end when they should, and take their own children along."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from packer import process
from packer.errors import PackError
from packer.process import Finished


def run(code: str, *, limit: float = 20.0, stop: threading.Event | None = None) -> tuple[Finished, list[str]]:
    told: list[str] = []
    done = process.run(
        [sys.executable, "-c", code],
        environment=process.clean_environment(),
        limit=limit,
        stop=stop or threading.Event(),
        tell=told.append,
    )
    return done, told


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has waited for yet counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_lines_of_both_streams_are_passed_on_and_kept() -> None:
    code = "import os; os.write(1, b'one\\r\\ntw'); os.write(2, b'o\\n\\xff\\nrest'); raise SystemExit(3)"
    done, told = run(code)
    assert done == Finished(3, ("one", "two", "\ufffd", "rest"))
    assert told == list(done.lines)


def test_what_a_child_leaves_behind_is_killed() -> None:
    sleeper = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)'], stdout=null, stderr=null)"
    done, _ = run(f"import subprocess, sys; null = subprocess.DEVNULL; print({sleeper}.pid)")
    deadline = time.monotonic() + 5
    while not gone(int(done.lines[0])) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert gone(int(done.lines[0]))


def test_the_limit_is_told() -> None:
    with pytest.raises(PackError, match=r"took longer than .* seconds and was stopped"):
        run("import time; time.sleep(99)", limit=0.5)


def test_it_can_be_stopped_from_another_thread() -> None:
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    start = time.monotonic()
    with pytest.raises(process.StoppedError):
        run("import time; time.sleep(99)", stop=stop)
    assert time.monotonic() - start < 5


def test_a_command_that_is_not_there() -> None:
    with pytest.raises(PackError, match=r"^cannot run /nowhere/x: No such file or directory$"):
        process.run(["/nowhere/x"], environment={}, limit=1, stop=threading.Event(), tell=print)


def test_only_settings_of_python_are_kept_from_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("PIP_INDEX_URL", "https://example.invalid")
    environment = process.clean_environment()
    assert "PYTHONPATH" not in environment
    assert environment["PIP_INDEX_URL"] == "https://example.invalid"
    assert environment["PATH"] == os.environ["PATH"]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["Collecting x", "ERROR: one", "ERROR: two", ""], "two"),
        (["Traceback (most recent call last):", "  File x", "pkg.OddError: what", "done"], "pkg.OddError: what"),
        (
            ["x.c:3:1: fatal error: Python.h: No such file", "error: command 'gcc' failed"],
            "error: command 'gcc' failed",
        ),
        (["error: connection-failed", "", "\u00d7 Failed to connect", "\u2570 it may be down"], "Failed to connect"),
        (["Collecting x", "Note: all is well"], ""),
        ([], ""),
    ],
)
def test_the_line_that_says_what_went_wrong(lines: list[str], said: str) -> None:
    assert process.last_error(lines) == said
