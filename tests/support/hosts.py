"""Real hosts for tests: run a program in a Debian root filesystem, as a user nobody knows, and leave no trace.

``tests/hosts/build.py`` makes the root filesystems. A test asks for one by name::

    host = require_host("bookworm-minimal")
    result = host.run(["/opt/tool", "--version"], binds={archive: "/opt/tool"})

Each run has its own mounts, /dev and /tmp, all gone when it ends; the network, the kernel and the process table are
the machine's. Root in a host (``user=0``) is real root inside these mounts: it can remove a Python.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn, TypedDict

import pytest

from . import emulated, roots

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from typing_extensions import Unpack

Argument = str | bytes | Path
Stream = int | IO[bytes]

USER = 4242
"""User and group id that no root's passwd knows."""

ENTER = Path(__file__).with_name("enter.sh")

USER_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games"
ROOT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""As Debian's /etc/profile sets PATH for users and root."""

PROBE = """
mount -t tmpfs fatpar /mnt && cd /mnt && mkdir lower upper work root &&
mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work,index=on fatpar root
"""


class HostError(Exception):
    """A host that could not be entered: the fault of the test or the machine, never of the program under test."""


@dataclass(frozen=True)
class Result:
    """How a program ended."""

    status: int
    """Exit status; minus the signal that killed it."""
    stdout: bytes
    stderr: bytes


class Options(TypedDict, total=False):
    """How to run a program in a host; all of it may be left out."""

    user: int
    """User and group id, without further groups. Default: USER."""
    cwd: str
    """Directory in the host. Default: the user's home."""
    env: Mapping[str, str | bytes | None]
    """What to add to an environment of only HOME and PATH, or with None to take from it."""
    umask: int
    """Default: 022."""
    binds: Mapping[Path, str]
    """File or directory outside -> its path in the host, with its owner and mode. Two programs that are to share
    a directory at the same time share it this way."""
    tmpfs: Mapping[str, str]
    """Directory of the host to lay a tmpfs over, the user's own -> mount options: ``{"/tmp": "noexec,size=1m"}``."""
    state: Path | None
    """Directory, made if need be, that keeps what is changed in the host for the next run; one run at a time.
    Device numbers may differ between two runs. Default: all changes are dropped."""


@dataclass(frozen=True)
class Host:
    """One root filesystem, which runs read and never change."""

    name: str

    @property
    def root(self) -> Path:
        """Its tree, to look at. Whoever writes here spoils it for all tests."""
        return roots.root_of(self.name)

    def run(
        self,
        argv: Sequence[Argument],
        *,
        input: bytes = b"",  # noqa: A002 - the name it has in subprocess.run
        timeout: float = 120,
        **options: Unpack[Options],
    ) -> Result:
        """Run a program to its end.

        :param argv: the program is looked for in the host's PATH, and no host has one with ``=`` in its name.
        :param timeout: seconds; then the program and its process group are killed.
        :raises subprocess.TimeoutExpired: with what was written until then.
        :raises HostError: the host could not be entered.
        """
        with self.start(argv, stdin=subprocess.PIPE, **options) as process:
            stdout, stderr = process.communicate(input, timeout)
        return Result(process.returncode, stdout, stderr)

    @contextmanager
    def start(
        self,
        argv: Sequence[Argument],
        *,
        stdin: Stream = subprocess.DEVNULL,
        stdout: Stream = subprocess.PIPE,
        stderr: Stream = subprocess.PIPE,
        **options: Unpack[Options],
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Have a program running: in the block it is executed or just about to be, by the process that is given.

        It leads a session and a process group of its own. Unless it has been waited for, the group is killed
        at the end of the block.

        :raises HostError: the host could not be entered.
        """
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb") as report:
            try:
                process = subprocess.Popen(
                    ["unshare", "--mount", "--", *self._enter(writing, options), *command(argv, options)],
                    stdin=stdin, stdout=stdout, stderr=stderr, env={"PATH": ROOT_PATH},
                    pass_fds=(writing,), start_new_session=True,
                )  # fmt: skip
            finally:
                os.close(writing)
            with process, ended(process):
                said = report.read().decode(errors="replace")
                if said != "entered\n":
                    raise HostError(f"cannot enter {self.name}: {said or 'the process ended at once'}")
                yield process

    def _enter(self, report: int, options: Options) -> list[str]:
        """The command line of enter.sh up to the command."""
        user = options.get("user", USER)
        state = options.get("state")
        place = roots.cache() / "mount"
        for directory in (place, state) if state else (place,):
            directory.mkdir(parents=True, exist_ok=True)
        words = [str(report), str(place), str(self.root), str(state.resolve()) if state else "", str(user), home(user)]
        words.append(f"{options.get('umask', 0o022):03o}")
        for outside, inside in options.get("binds", {}).items():
            words += ["bind", str(outside.resolve()), inside]
        for inside, settings in options.get("tmpfs", {}).items():
            words += ["tmpfs", settings, inside]
        return ["bash", str(ENTER), *words, "--"]


def home(user: int) -> str:
    """Home directory of a user; it is there and writable."""
    return {0: "/root", USER: "/home/u"}.get(user, f"/home/{user}")


def command(argv: Sequence[Argument], options: Options) -> list[Argument]:
    """The command line in the host: env(1) sets up what must not touch the programs that lead there."""
    user = options.get("user", USER)
    given: dict[str, str | bytes | None] = {"HOME": home(user), "PATH": USER_PATH if user else ROOT_PATH}
    given.update(options.get("env", {}))
    variables = [os.fsencode(name) + b"=" + os.fsencode(value) for name, value in given.items() if value is not None]
    return ["env", f"--chdir={options.get('cwd', home(user))}", "-i", *variables, *argv]


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """See that a process that leads a group has ended when the block has."""
    try:
        yield
    finally:
        # Not waited for, so its id, which is the group's, cannot be another's by now.
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)


# What a machine must have ---------------------------------------------------------------------------------------


@functools.cache
def available() -> str | None:
    """Why no host can be entered on this machine; None when they can."""
    if os.geteuid() != 0:
        return "entering a host needs root"
    for tool in ("bash", "chroot", "mount", "unshare"):
        if not shutil.which(tool, path=ROOT_PATH):
            return f"entering a host needs {tool}"
    probe = subprocess.run(("unshare", "--mount", "sh", "-c", PROBE), capture_output=True, text=True, check=False)
    return f"this machine does not allow an overlay: {probe.stderr.strip()}" if probe.returncode else None


def require_host(name: str) -> Host:
    """A host by name, ready to run. Where there is none, skip the test; with FATPAR_REQUIRE_HOSTS=1, fail it."""
    if name not in roots.DEFINITIONS:
        raise HostError(f"unknown host {name}: there are {', '.join(roots.DEFINITIONS)}")
    reason = available()
    if reason is None and not roots.finished(name):
        reason = f"host {name} is not built or is out of date: run tests/hosts/build.py {name}"
    if reason is None and name in roots.MACHINES:
        reason = emulated.unavailable(roots.MACHINES[name])
    if reason is not None:
        give_up(reason)
    return Host(name)


def give_up(reason: str) -> NoReturn:
    """Skip, or fail where hosts are required."""
    if os.environ.get("FATPAR_REQUIRE_HOSTS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
