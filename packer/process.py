"""Runs a child process that can take long: with a time limit, its lines passed on, gone when we are."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from packer.errors import PackError

_TICK = 0.2
"""Seconds between two looks at the clock and at ``stop``."""

_ERROR_ENDS = ("Error", "Exception", "fatal error")


@dataclass(frozen=True)
class Finished:
    """What a child left behind."""

    status: int
    lines: tuple[str, ...]
    """What it wrote, stdout and stderr in the order they came, without line ends."""


class StoppedError(Exception):
    """The child was killed because the caller gave up; never shown to a user."""


def run(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    limit: float,
    stop: threading.Event,
    tell: Callable[[str], None],
    what: str = "it",
) -> Finished:
    """Run ``command`` to its end and pass each line it writes to ``tell``.

    The child leads a process group of its own, and whatever is left of that group is killed before this
    returns or raises: a build's compilers must not outlive it.

    :param limit: seconds.
    :param stop: set by another thread to give up.
    :param what: is being done, for an error.
    :raises PackError: the limit has passed, or the command cannot be started.
    :raises StoppedError: ``stop`` was set.
    """
    try:
        child = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise PackError(f"cannot run {command[0]}: {error.strerror}") from None
    assert child.stdout is not None
    with child.stdout as output:
        try:
            lines = _read_lines(output, time.monotonic() + limit, stop, tell)
            if lines is None:
                raise PackError(f"{what} took longer than {limit:g} seconds and was stopped", hint="see --timeout")
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        finally:
            kill_group(child)
    return Finished(child.returncode, tuple(lines))


def _read_lines(
    output: IO[bytes], deadline: float, stop: threading.Event, tell: Callable[[str], None]
) -> list[str] | None:
    """All lines up to the end of ``output``; None when the deadline came first."""
    lines: list[str] = []
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        while time.monotonic() < deadline:
            if stop.is_set():
                raise StoppedError
            if not selector.select(_TICK):
                continue
            chunk = os.read(output.fileno(), 65536)
            *whole, rest = (rest + (chunk or b"\n")).split(b"\n")
            for raw in whole:
                line = raw.decode("utf-8", "replace").rstrip()
                lines.append(line)
                tell(line)
            if not chunk:
                return lines
    return None


def kill_group(child: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the child's group, then reap the child: until then nobody else can get its id."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def clean_environment() -> dict[str, str]:
    """Our environment without what would change how a child's Python starts, and with fixed seeds.

    ``PIP_*``, proxies, certificates and compilers' variables stay: they are the user's configuration.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment.pop("__PYVENV_LAUNCHER__", None)
    environment.update(PYTHONHASHSEED="0", PYTHONDONTWRITEBYTECODE="1", PYTHONUTF8="1", COLUMNS="200")
    return environment


def last_error(lines: Sequence[str]) -> str:
    """Give the line of ``lines`` that most likely says what went wrong; "" when none looks like it."""
    for index in reversed(range(len(lines))):
        text = lines[index].strip().removeprefix("ERROR: ")
        if re.fullmatch(r"error: [a-z-]+", text):  # pip's name for an error; what it means comes after a cross
            said = [line.strip() for line in lines[index:] if line.strip().startswith("\u00d7 ")]
            return said[0][2:] if said else text
        head = text.split(":", 1)[0]
        details = [line.strip() for line in itertools.takewhile(lambda line: line[:4].isspace(), lines[index + 1 :])]
        if (text != lines[index].strip() and "HASHES" in text) or text.endswith("These do not:"):
            return " ".join([text, *details[:3]])  # pip lists what it means below
        if text != lines[index].strip() or head in ("error", "fatal") or head.endswith(_ERROR_ENDS):
            return text
    return ""
