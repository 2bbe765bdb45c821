"""Programs run by the hundred in one host: one after the other, under conditions that no shell makes, killed at a
moment. And a look at the store that they leave."""

from __future__ import annotations

import ctypes
import json
import os
import queue
import shutil
import signal
import struct
import subprocess
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypedDict

from packer import native

from .hosts import USER, USER_PATH, give_up, home

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from typing_extensions import Unpack

    from .hosts import Host

SERVER = Path(__file__).with_name("inside.py")


class InsideError(Exception):
    """A program that could not be started, or did not end."""


@dataclass(frozen=True)
class Ended:
    """How a program ended."""

    status: int
    """Exit status; minus the signal that killed it."""
    stdout: bytes
    stderr: bytes
    pid: int

    @property
    def whole(self) -> tuple[int, bytes, bytes]:
        """What a user sees of it."""
        return self.status, self.stdout, self.stderr


class Conditions(TypedDict, total=False):
    """Under which a program starts; all may be left out."""

    user: int
    """User and group; no others. Default: USER."""
    env: Mapping[str, str | bytes | None]
    """Added to an environment of only HOME and PATH, or with None taken from it."""
    cwd: str
    umask: int
    """Default: 022."""
    executable: str
    """What is executed, if not ``argv[0]``."""
    before: str
    """Python statements, run as the user in the new process just before it becomes the program."""
    input: bytes
    signal: int
    """Sent as soon as the program has written its first line."""
    kill_after: float
    """Seconds from its start to its SIGKILL."""
    timeout: float
    """Seconds; default 300: a disk that others write to can hold up a launch for more than one minute."""


class Inside:
    """A host that was entered once, as root, and runs what it is told."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.pid = process.pid
        """Of the host's Python: the host's root is at ``/proc/PID/root``."""
        self._answers: queue.Queue[bytes] = queue.Queue()
        assert process.stdout is not None
        threading.Thread(target=self._read, args=(process.stdout,), daemon=True).start()

    def _read(self, stream: IO[bytes]) -> None:
        for line in stream:
            self._answers.put(line)
        self._answers.put(b"")

    def run(self, argv: Sequence[str | bytes], **conditions: Unpack[Conditions]) -> Ended:
        """Run a program to its end.

        :raises InsideError: if it cannot be executed, or takes too long.
        """
        timeout = conditions.get("timeout", 300)
        user = conditions.get("user", USER)
        environment: dict[str, str | bytes | None] = {"HOME": home(user), "PATH": USER_PATH}
        environment.update(conditions.get("env", {}))
        request = {
            "argv": [_text(word) for word in argv],
            "executable": conditions.get("executable"),
            "user": user,
            "env": {name: _text(value) for name, value in environment.items() if value is not None},
            "cwd": conditions.get("cwd", "/"),
            "umask": conditions.get("umask", 0o022),
            "before": conditions.get("before", ""),
            "input": _text(conditions.get("input", b"")),
            "signal": conditions.get("signal", 0),
            "kill_after": conditions.get("kill_after"),
            "timeout": timeout,
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        line = self._answers.get(timeout=timeout + 60)
        if not line:
            assert self._process.stderr is not None
            raise InsideError(f"the host's Python ended: {self._process.stderr.read()!r}")
        answer = json.loads(line)
        if "error" in answer:
            raise InsideError(answer["error"])
        return Ended(answer["status"], _raw(answer["stdout"]), _raw(answer["stderr"]), answer["pid"])

    def root(self, script: str) -> bytes:
        """Run a shell script as root; it has to succeed. What it writes."""
        done = self.run(["sh", "-euc", script], user=0, env={"PATH": f"/usr/sbin:/sbin:{USER_PATH}"})
        assert (done.status, done.stderr) == (0, b""), done
        return done.stdout


def _text(value: str | bytes) -> str:
    return os.fsencode(value).decode("latin-1")


def _raw(value: str) -> bytes:
    return value.encode("latin-1")


@contextmanager
def inside(
    host: Host, home_directory: Path, binds: Mapping[Path, str], python: str = "python3", **options: object
) -> Iterator[Inside]:
    """Enter a host.

    :param home_directory: the user's home, outside; made if need be, and the user's own.
    :param binds: as :meth:`support.hosts.Host.run` has it.
    :param python: the host's Python that takes the requests; the program under test may use another.
    """
    home_directory.mkdir(exist_ok=True)
    os.chown(home_directory, USER, USER)
    home_directory.chmod(0o755)
    everything = {SERVER: "/media/inside.py", home_directory: home(USER), **binds}
    argv = [python, "-I", "/media/inside.py"]
    with host.start(argv, user=0, cwd="/", stdin=subprocess.PIPE, binds=everything, **options) as process:  # type: ignore[arg-type]
        yield Inside(process)
        assert process.stdin is not None
        process.stdin.close()
        process.wait(10)


def traced(far: Inside, home_directory: Path, command: str, *options: str) -> tuple[Ended, list[str]]:
    """Run a shell command as the user, from its first system call on under strace, which runs outside.

    :param home_directory: of the user, outside.
    :param options: of strace; they can make calls fail or kill (``-e inject=``).
    :return: how it ended; the lines of the trace, without process ids.
    """
    if not shutil.which("strace"):
        give_up("strace is not installed")
    pid, output = home_directory / "pid", home_directory / "trace"
    script = f"echo $$ > ~/new; mv ~/new ~/pid; kill -STOP $$; {command}"
    with ThreadPoolExecutor() as pool:
        running = pool.submit(far.run, ["sh", "-c", script])
        _wait_until(lambda: pid.exists() or running.done())
        number = pid.read_text().strip()
        pid.unlink()
        _wait_until(lambda: Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] == "T")
        words = ["strace", "-f", "-s", "300", "-p", number, "-o", str(output), *options]
        strace = subprocess.Popen(words, stderr=subprocess.PIPE)
        assert strace.stderr is not None
        said = strace.stderr.readline()
        if b"attached" not in said:
            os.kill(int(number), signal.SIGKILL)
            raise InsideError(f"strace: {said!r}")
        os.kill(int(number), signal.SIGCONT)
        ended = running.result()
        strace.communicate(timeout=60)
    lines = [line.split(None, 1)[1] for line in output.read_text(errors="replace").splitlines()]
    output.unlink()
    return ended, lines


def _wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        if time.monotonic() > deadline:
            raise InsideError("what was waited for did not happen")
        time.sleep(0.005)


# The store as it is seen from outside ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Store:
    """A store's directory, looked at by root from outside the host."""

    base: Path

    def names(self, kind: str) -> list[str]:
        """What is published: digests of ``layers``, names of ``views`` or ``plans``."""
        return sorted(name for name in self._listing(kind) if not name.startswith("."))

    def leftovers(self) -> list[str]:
        """What is being made, or was left behind."""
        return sorted(f"{kind}/{name}" for kind in KINDS for name in self._listing(kind) if name.startswith("."))

    def broken(self) -> list[str]:
        """Published layers whose tree is another than their name says."""
        return [name for name in self.names("layers") if tree_digest(self.base / "v1/layers" / name / "tree") != name]

    def made(self, kind: str, name: str) -> str:
        """The boot an object was made in, or ``durable``."""
        return os.readlink(self.base / "v1" / kind / name / "made")

    def _listing(self, kind: str) -> list[str]:
        directory = self.base / "v1" / kind
        return os.listdir(directory) if directory.exists() else []


CREATE, MOVED_TO = 0x100, 0x80  # inotify(7)


@contextmanager
def watched(*directories: Path) -> Iterator[Counter[str]]:
    """Count the names that were made in directories, or moved there; to be looked at after the block."""
    libc = ctypes.CDLL(None, use_errno=True)
    number = libc.inotify_init1(os.O_NONBLOCK)
    for directory in directories:
        assert libc.inotify_add_watch(number, os.fsencode(directory), CREATE | MOVED_TO) > 0
    names: Counter[str] = Counter()
    yield names
    events = b""
    while True:
        try:
            events += os.read(number, 1 << 16)
        except BlockingIOError:
            break
    os.close(number)
    while events:
        _, _, _, size = struct.unpack_from("iIII", events)
        name = events[16 : 16 + size].rstrip(b"\0").decode()
        names["begun" if name.startswith(".tmp-") else name] += 1
        events = events[16 + size :]


KINDS = ("layers", "views", "plans")

_ONE_AT_A_TIME = threading.Lock()
"""The launcher is one thread; what reads files for a digest has one buffer."""


def tree_digest(tree: Path) -> str:
    """The digest of a directory, computed by the launcher's own code from what is on disk."""
    ffi, lib = native.ffi(), native.lib()
    digest, fault = ffi.new("uint8_t[32]"), ffi.new("struct fault *")
    descriptor = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with _ONE_AT_A_TIME:
            failed = lib.treeread(descriptor, digest, fault) < 0
        if failed:
            return str(ffi.string(fault.what))  # type: ignore[attr-defined]
    finally:
        os.close(descriptor)
    return bytes(digest).hex()
