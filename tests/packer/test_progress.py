"""packer/progress.py: who waits long is told what for, in a log, too."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from packer import progress

if TYPE_CHECKING:
    import pytest


class Log:
    """Standard error that is a file, and notices what is written."""

    def __init__(self) -> None:
        self.text = ""
        self.written = threading.Event()

    def write(self, text: str) -> None:
        self.text += text
        if "\n" in text:
            self.written.set()

    def flush(self) -> None: ...

    def isatty(self) -> bool:
        return False


def test_a_log_says_now_and_then_what_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()
    monkeypatch.setattr("sys.stderr", log)
    monkeypatch.setattr(progress, "SELDOM", 0.01)
    with progress.several(quiet=False) as named:
        named("idle")
        named("tool").say("resolving for cp39")
        assert log.written.wait(60)
    assert log.text.splitlines()[0] == "packer: tool: resolving for cp39 ..."
    assert "idle" not in log.text


def test_what_is_short_says_nothing_in_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()
    monkeypatch.setattr("sys.stderr", log)
    with progress.showing(quiet=False) as bar:
        bar.say("resolving")
        bar.total(3)
        bar.advance(3)
    assert log.text == ""


def test_who_wants_none_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()
    monkeypatch.setattr("sys.stderr", log)
    monkeypatch.setattr(progress, "SELDOM", 0.001)
    with progress.showing(quiet=True) as bar:
        bar.say("resolving")
        assert not log.written.wait(0.1)
