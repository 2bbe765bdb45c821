"""A program stopped at, or failed by, each of its system calls in turn, by strace in the host that it runs in.

The calls are counted in an undisturbed run: the third ``openat`` is one case for each thing that can happen to it.
strace counts for each process and thread by itself, so where there are several, the third ``openat`` is that of each
of them, and there are as many cases of a call as the one with the most of them has.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .hosts import give_up

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .process import Ended, Inside

PORTABLE = "/opt/strace"
"""Where hosts have :func:`portable`'s directory."""

KILL = "KILL"

_FILE = ("EIO", "EACCES", "ENOMEM")
_NEW = (*_FILE, "ENOSPC")
_OPEN = (*_NEW, "EMFILE", "EINTR")
_MEMORY = ("ENOMEM",)
_NOTHING: tuple[str, ...] = ()

ERRORS: Mapping[str, tuple[str, ...]] = {
    # By the manual pages of Linux, with EIO wherever a path is looked up or a disk is read, and for close what network
    # filesystems say late. EINTR only where something is waited for, which open does on those, too.
    "open": _OPEN, "openat": _OPEN, "execve": (*_FILE, "EMFILE"),
    "read": ("EIO", "EINTR"), "pread64": ("EIO", "EINTR"), "getdents64": ("EIO", "ENOMEM"),
    "write": ("EIO", "ENOSPC", "EINTR"), "pwrite64": ("EIO", "ENOSPC", "EINTR"),
    "sendfile": ("EIO", "ENOMEM", "ENOSPC"),
    "close": ("EIO", "EINTR", "ENOSPC"),
    "stat": _FILE, "lstat": _FILE, "newfstatat": _FILE,
    "fstat": ("EIO", "ENOMEM"), "fstatfs": ("EIO", "EINTR", "ENOMEM"),
    "access": _FILE, "faccessat": _FILE, "faccessat2": _FILE,
    "readlink": _FILE, "readlinkat": _FILE, "getcwd": ("EACCES", "ENOMEM"),
    "mkdir": _NEW, "mkdirat": _NEW, "symlinkat": _NEW, "linkat": _NEW, "renameat": _NEW, "unlinkat": _FILE,
    "rmdir": _FILE,
    "fchmod": ("EIO", "EACCES", "ENOSPC"), "utimensat": ("EIO", "EACCES", "ENOSPC"),
    "flock": ("EINTR", "EIO", "ENOLCK"), "syncfs": ("EIO", "ENOSPC"), "statfs": ("EIO", "EINTR", "ENOMEM"),
    "getxattr": ("EIO", "EACCES", "ENOMEM"),
    "pipe2": ("EMFILE",), "fork": _MEMORY, "clone": (*_MEMORY, "EAGAIN"), "dup2": ("EMFILE", "EINTR"),
    "poll": ("EINTR", "ENOMEM"), "wait4": ("EINTR",), "nanosleep": ("EINTR",),
    "mmap": (*_MEMORY, "EACCES"), "brk": _MEMORY, "munmap": _MEMORY, "mremap": _MEMORY, "mprotect": _MEMORY,
    "madvise": (*_MEMORY, "EIO"),
    # what makes a thread may be forbidden, or the last one there can be; a lock is only waited for
    "clone3": ("EAGAIN", "ENOSYS", "EPERM"),
    # these cannot fail, or not like that: fcntl is only asked for flags here, and to set them
    **dict.fromkeys((
        "fcntl", "umask", "uname", "getpid", "gettid", "geteuid", "arch_prctl", "set_tid_address", "prlimit64",
        "sched_getaffinity", "rt_sigaction", "rt_sigprocmask", "rt_sigpending", "rt_sigtimedwait", "kill", "exit_group",
        "futex", "exit",
    ), _NOTHING),
}  # fmt: skip
"""Call -> the errors of these six, and what is the same as one of them, that it can fail with."""


@dataclass(frozen=True)
class Case:
    """What happens to one call."""

    call: str
    number: int
    """Which of its calls, from 1."""
    fault: str
    """KILL or the name of an error."""

    def __str__(self) -> str:
        return f"{self.call}#{self.number} {self.fault}"

    @property
    def options(self) -> list[str]:
        """Of strace: look at nothing but such calls."""
        what = f"signal={KILL}" if self.fault == KILL else f"error={self.fault}"
        return ["-e", f"trace={self.call}", "-e", f"inject={self.call}:{what}:when={self.number}"]


def portable(directory: Path) -> Path:
    """Copy the machine's strace and all it needs to a directory; a host that has it as PORTABLE runs it."""
    strace = shutil.which("strace")
    if not strace:
        give_up("strace is not installed")
    needed = subprocess.run(("ldd", strace), capture_output=True, text=True, check=True).stdout
    directory.mkdir()
    for path in (strace, *re.findall(r"(/\S+) \(0x", needed)):
        shutil.copy(path, directory)
    (directory / Path(re.findall(r"^\s*(/\S+) \(0x", needed, re.M)[0]).name).rename(directory / "loader")
    return directory


def command(*options: str) -> list[str]:
    """What traces a program in a host, before the program's own words."""
    return [f"{PORTABLE}/loader", "--library-path", PORTABLE, f"{PORTABLE}/strace", "-f", *options]


def counted(far: Inside, trace: Path, tool: str, env: Mapping[str, str]) -> Counter[str]:
    """Count a program's calls, but the one that starts it, until it has become another.

    :param trace: a file in the user's home of the host, seen from outside.
    """
    ended = far.run([*command("-b", "execve", "-o", f"/home/u/{trace.name}"), tool], env=env)
    assert (ended.status, ended.stderr) == (0, b""), ended
    each: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for line in trace.read_text(errors="replace").splitlines()[1:]:
        match = re.match(r"(\d+) +(\w+)\(", line)
        if match:
            each[match[1]][match[2]] += 1
    most: Counter[str] = Counter()
    for calls in each.values():
        most |= calls
    return most


def cases(count: Mapping[str, int]) -> Iterator[Case]:
    """Everything that can happen to calls that were counted."""
    unknown = count.keys() - ERRORS.keys()
    assert not unknown, f"how can these calls fail? ERRORS does not say: {unknown}"
    for call, most in sorted(count.items()):
        for number in range(1, most + 1):
            for fault in (KILL, *ERRORS[call]):
                yield Case(call, number, fault)


def disturbed(far: Inside, trace: Path, tool: str, env: Mapping[str, str], case: Case) -> Ended | None:
    """Run the program with this happening to it, before it becomes another.

    strace lets go of it then: it counts for each thread, so what was meant for a thread of the launcher would happen
    once more to what it has become, as to a ``print``, which CPython 2.7 does not repeat after EINTR.

    :return: None: it did not happen, since no two runs ask for the same memory.
    """
    ended = far.run([*command("-b", "execve", "-o", f"/home/u/{trace.name}", *case.options), tool], env=env)
    said = trace.read_text(errors="replace")
    return ended if "(INJECTED)" in said or "+++ killed by SIGKILL +++" in said else None
