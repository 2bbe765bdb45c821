"""The program that runs others on a host (``agent/agent.c``), as it is asked from here."""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from packer import native
from packer.errors import PackError
from packer.process import StoppedError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Mapping, Sequence

_TICK = 0.2
"""Seconds between two looks at the clock and at ``stop``."""

_GRACE = 60
"""Seconds that an answer may come later than the program has to end."""

_GREETING = 1 << 16
"""Bytes that a host may say before the agent is ready, and of a line that is no answer."""

_OUTPUT = 1 << 20
"""Bytes of output that an agent keeps (``KEPT`` in agent.c)."""

_ERRORS = 16 << 20
"""Bytes that what leads to a host may write to stderr, or print."""

_LEAVING = 10
"""Seconds for an agent to remove what it has made, before it is killed."""


_ANSWER = re.compile(
    rb"(?P<how>exited|killed|late|failed) (?P<number>[0-9]{1,4}) (?P<nanoseconds>[0-9]{1,18}) (?P<size>[0-9]{1,8})"
)


class HostError(PackError):
    """A host that cannot be used."""


@dataclass(frozen=True)
class Ended:
    """How a program ended."""

    how: str
    """``exited``, ``killed``, ``late`` or ``failed``."""
    number: int
    """Exit status, signal, or the errno of what could not be executed."""
    seconds: float
    """From before it was started until it was over, on the host."""
    output: str
    """The end of what it wrote to both streams."""


class Agent:
    """An agent that runs."""

    def __init__(
        self, process: subprocess.Popen[bytes], stop: threading.Event, errors: IO[bytes], lament: Callable[[], str]
    ) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._in, self._out = process.stdin.fileno(), process.stdout.fileno()
        os.set_blocking(self._in, False)
        self._stop = stop
        self._errors = errors
        self._lament = lament
        self._read = b""

    def await_ready(self, patience: float) -> None:
        """Wait until it answers; what a login shell may say before that is passed over."""
        deadline = time.monotonic() + patience
        said = 0
        while (line := self._line(deadline)) != b"ready":
            said += len(line) + 1
            if said > _GREETING:
                raise HostError(f"it says much, and never that it is ready: {native.printable(_shown(line))}")

    def launch(
        self, words: Sequence[str], variables: Mapping[str, str | None], *, stdin: str = "", fresh: bool, timeout: float
    ) -> Ended:
        """Run a program to its end.

        :param variables: to set, or with None to unset.
        :param fresh: begin with an empty home.
        :param timeout: seconds; then it is killed.
        :raises HostError: if the host does not answer.
        """
        given = [name if value is None else f"{name}={value}" for name, value in variables.items()]
        strings = b"".join(os.fsencode(one) + b"\0" for one in [*words, *given])
        payload = strings + stdin.encode("utf-8", "surrogateescape")
        head = f"{fresh:d} {int(timeout * 1000)} {len(words)} {len(given)} {len(payload)}\n"
        deadline = time.monotonic() + timeout + _GRACE
        self._send(head.encode() + payload, deadline)
        line = self._line(deadline)
        said = _ANSWER.fullmatch(line)
        if said is None or int(said["size"]) > _OUTPUT:  # a machine that says something in between
            raise HostError(f"its answer makes no sense: {native.printable(_shown(line))}")
        output = self._bytes(int(said["size"]), deadline).decode("utf-8", "replace")
        return Ended(said["how"].decode(), int(said["number"]), int(said["nanoseconds"]) / 1e9, output)

    def _send(self, data: bytes, deadline: float) -> None:
        while data:
            self._wait(self._in, selectors.EVENT_WRITE, deadline)
            try:
                data = data[os.write(self._in, data) :]
            except BlockingIOError:
                continue
            except OSError:
                raise HostError(self._lament()) from None

    def _line(self, deadline: float) -> bytes:
        while b"\n" not in self._read:
            if len(self._read) > _GREETING:
                raise HostError(f"its answer makes no sense: {native.printable(_shown(self._read))}")
            self._fill(deadline)
        line, _, self._read = self._read.partition(b"\n")
        return line

    def _bytes(self, size: int, deadline: float) -> bytes:
        while len(self._read) < size:
            self._fill(deadline)
        taken, self._read = self._read[:size], self._read[size:]
        return taken

    def _fill(self, deadline: float) -> None:
        self._wait(self._out, selectors.EVENT_READ, deadline)
        chunk = os.read(self._out, 1 << 16)
        if not chunk:
            raise HostError(self._lament())
        self._read += chunk

    def _wait(self, descriptor: int, event: int, deadline: float) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, event)
            ready = False
            # at every turn, too: one that never stops talking is always ready
            while not ready:
                if self._stop.is_set():
                    raise StoppedError
                if time.monotonic() > deadline:
                    raise HostError(f"no answer in time: {self._lament()}")
                refuse_flood(self._errors)
                ready = bool(selector.select(_TICK))


@contextmanager
def started(
    command: Sequence[str],
    *,
    stop: threading.Event,
    patience: float,
    environment: Mapping[str, str] | None = None,
    console: Callable[[], str] = str,
    speaker: str = "",
    listens: bool = True,
) -> Iterator[Agent]:
    """Start an agent by a command that leads to it; when the block ends, it and all that it runs are gone.

    :param patience: seconds until it has to answer.
    :param console: gives what the host itself has said, for an error.
    :param speaker: whose errors the command's are.
    :param listens: whether it learns that its input has ended, so that it can clean up.
    :raises HostError: if it does not answer.
    """
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                env=None if environment is None else dict(environment), start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise HostError(f"cannot run {command[0]}: {error.strerror}") from None
        with ended(process, errors, listens=listens):
            name = f"{speaker}: " if speaker else ""
            agent = Agent(process, stop, errors, lambda: name + last_words(process, errors, console()))
            agent.await_ready(patience)
            yield agent


@contextmanager
def ended(process: subprocess.Popen[bytes], errors: IO[bytes], *, listens: bool) -> Iterator[None]:
    """See that a process that leads a group has ended when the block has."""
    try:
        yield
    finally:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.stdout.close()  # one that writes does not wait for us to read
        if listens:
            _await_end(process, errors, _LEAVING)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def last_words(process: subprocess.Popen[bytes], errors: IO[bytes], console: str) -> str:
    """Why it does not answer: the last lines of it, and of the host itself."""
    _await_end(process, errors, 1)
    errors.seek(max(os.fstat(errors.fileno()).st_size - _GREETING, 0))
    said = _lines(errors.read().decode("utf-8", "replace"))[-1:] + _lines(console)[-3:]
    return "; ".join(said) or "it said nothing"


def _await_end(process: subprocess.Popen[bytes], errors: IO[bytes], seconds: float) -> None:
    """Give a process some time to end, unless it uses that to fill our disk."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline and not _floods(errors):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(min(_TICK, seconds))


def _floods(file: IO[bytes]) -> bool:
    return os.fstat(file.fileno()).st_size > _ERRORS


def refuse_flood(file: IO[bytes]) -> None:
    """Give up a host that fills our disk by what leads to it.

    :param file: what a running command writes to.
    """
    if _floods(file):
        first = _shown(os.pread(file.fileno(), 200, 0)).partition("\n")[0]
        raise HostError(f"it does not stop talking: {native.printable(first)}")


def _shown(said: bytes) -> str:
    """Decode the beginning of what makes no sense."""
    return said[:200].decode("utf-8", "replace").strip()


def _lines(text: str) -> list[str]:
    return [native.printable(line.strip()) for line in text.splitlines() if line.strip()]
