"""The packer as a process: run to its end, stopped by a signal, in a directory of its own that shows what it leaves."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from typing_extensions import Unpack

ROOT = Path(__file__).resolve().parents[2]

CAPABILITIES_OVER_FILES = (1, 2, 3)
"""CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER (linux/capability.h): with them root may write anywhere."""

PR_CAPBSET_DROP = 24


@dataclass(frozen=True)
class Ended:
    """How a run of the packer ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def whole(self) -> tuple[int, str, str]:
        """What a user sees of it."""
        return self.status, self.stdout, self.stderr


class Options(TypedDict, total=False):
    """How to start the packer; all may be left out."""

    cwd: Path
    """Default: the place's ``work``."""
    env: Mapping[str, str | None]
    """Added to the environment, or with None taken from it."""
    umask: int
    """Default: 022."""
    prefix: Sequence[str]
    """Words before the command line: a program that starts the packer."""


@dataclass(frozen=True)
class Place:
    """A directory in which the packer works: ``work``, ``tmp`` and ``cache`` are all it should write to."""

    root: Path
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    """In the environment of all processes that come of it."""

    def __post_init__(self) -> None:
        for name in ("work", "tmp", "cache"):
            (self.root / name).mkdir(parents=True, exist_ok=True)

    @property
    def work(self) -> Path:
        """The working directory."""
        return self.root / "work"

    def run(self, *arguments: str | Path, timeout: float = 300, **options: Unpack[Options]) -> Ended:
        """Run the packer to its end."""
        process = self.start(*arguments, **options)
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        finally:
            process.kill()
        return Ended(process.returncode, stdout, stderr)

    def packed(self, *arguments: str | Path, timeout: float = 300, **options: Unpack[Options]) -> Ended:
        """Run the packer, which must succeed."""
        ended = self.run(*arguments, timeout=timeout, **options)
        assert ended.status == 0, ended.stderr
        return ended

    def start(
        self, *arguments: str | Path, stderr: int = subprocess.PIPE, **options: Unpack[Options]
    ) -> subprocess.Popen[str]:
        """Start the packer as the leader of a session, without the means by which root passes over permissions."""
        command = [*options.get("prefix", ()), sys.executable, "-m", "packer", *map(str, arguments)]
        return subprocess.Popen(
            command, cwd=options.get("cwd", self.work), env=self._environment(options.get("env", {})),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, text=True, errors="surrogateescape",
            umask=options.get("umask", 0o022), start_new_session=True,
            preexec_fn=None if options.get("prefix") else obey_permissions,
        )  # fmt: skip

    def _environment(self, more: Mapping[str, str | None]) -> dict[str, str]:
        given: dict[str, str | None] = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(self.root / "tmp"),
            "XDG_CACHE_HOME": str(self.root / "cache"),
            "MARK": self.mark,
            **more,
        }
        return {name: value for name, value in given.items() if value is not None}

    def left(self) -> list[str]:
        """Everything there is, but for what the packer keeps in its cache."""
        kept = self.root / "cache" / "fatpar-packer"
        found = [path for path in self.root.rglob("*") if not path.is_relative_to(kept) or kept / "tmp" in path.parents]
        return sorted(str(path.relative_to(self.root)) for path in found if path not in (kept, kept / "tmp"))

    def processes(self) -> list[str]:
        """Command lines of the processes that are still there."""
        found = []
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                if f"MARK={self.mark}".encode() in (directory / "environ").read_bytes():
                    found.append((directory / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
            except OSError:
                continue
        return found


def obey_permissions() -> None:
    """In a new process: give up what lets root read and write everything."""
    libc = ctypes.CDLL(None)
    for capability in CAPABILITIES_OVER_FILES:
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


@contextmanager
def watched(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """See that a process, and the group that it leads, ends with the block."""
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str], timeout: float = 60) -> None:
    """Wait until something holds while a process runs."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert process.poll() is None, f"it ended too early: {process.communicate()}"
        assert time.monotonic() < deadline, "it did not get there"
        time.sleep(0.01)


def run_program(
    path: Path, *arguments: str, store: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a packed program on this machine, which surely has one Python: the one that runs the test."""
    search = f"{sys.base_prefix}/bin:/usr/bin:/bin"
    environment = {"PATH": search, "HOME": "/nonexistent", "FATPAR_STORE": str(store), **(env or {})}
    return subprocess.run([path, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=120)
