"""Enters a root filesystem, in a process of its own: mounts that end with it, no network, no other processes.

Run as ``python -I enterchild.py ROOT STAGE PLACE UID COMMAND...``. What the root has is seen there and cannot be
changed; the directory STAGE is at /fatpar, and what belongs to one run of a machine is made anew: /dev, /home, /proc,
/run, /tmp, /var/tmp. COMMAND is executed as user UID, to whom /home/fatpar belongs. Without root the namespaces are
those of a user, who is UID in them. PLACE is an empty directory to mount on, which stays empty for all others.
Standard library only.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import struct
import sys
from pathlib import Path

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = (
    0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000,
)  # fmt: skip
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE, MS_RELATIME = 1, 32, 4096, 16384, 1 << 18, 1 << 21
KEPT = os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC | os.ST_NOATIME | os.ST_NODIRATIME  # mount(2) has them as these, too
PR_SET_PDEATHSIG = 1
SIOCSIFFLAGS, IFF_UP, IFF_RUNNING = 0x8914, 1, 0x40

DEVICES = ("full", "null", "random", "tty", "urandom", "zero")
MADE = {"dev", "fatpar", "home", "proc", "run", "sys", "tmp"}

libc = ctypes.CDLL(None, use_errno=True)


class EnterError(Exception):
    """What cannot be done, in a sentence."""


def call(what: str, failed: int) -> None:
    """Raise if a call of the C library has failed."""
    if failed:
        raise EnterError(f"{what}: {os.strerror(ctypes.get_errno())}")


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2)."""
    words = [os.fsencode(word) or None for word in (source, target, kind)]
    call(f"cannot mount {target}", libc.mount(*words, ctypes.c_ulong(flags), os.fsencode(options) or None))


def bind(source: str, target: str, *, writable: bool = False) -> None:
    """Have a file or directory seen at another place, too."""
    mount(source, target, flags=MS_BIND | MS_REC)
    if not writable:
        # what is set already may not be taken away by a mere user
        flags = os.statvfs(target).f_flag
        kept = flags & KEPT | (MS_RELATIME if flags & os.ST_RELATIME else 0)
        mount("", target, flags=MS_REMOUNT | MS_BIND | MS_RDONLY | kept)


def separate(user: int) -> None:
    """Leave the namespaces of this machine."""
    flags = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET
    own, group = os.geteuid(), os.getegid()
    if own:
        flags |= CLONE_NEWUSER
    if libc.unshare(flags):
        hint = "root may, and others where user namespaces are allowed"
        raise EnterError(f"cannot enter a root filesystem on this machine: {os.strerror(ctypes.get_errno())}: {hint}")
    if own:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {own} 1")
        Path("/proc/self/gid_map").write_text(f"{user} {group} 1")
    mount("", "/", flags=MS_REC | MS_PRIVATE)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP | IFF_RUNNING))


def furnish(root: Path, stage: str, place: Path) -> None:
    """Make the root that is to be seen."""
    mount("tmpfs", str(place), "tmpfs", options="mode=755")
    for one in sorted(root.iterdir()):
        target = place / one.name
        if one.name in MADE:
            continue
        if one.is_symlink():
            target.symlink_to(os.readlink(one))
            continue
        if one.is_dir():
            target.mkdir()
        elif one.is_file():
            target.touch()
        else:
            continue
        bind(str(one), str(target))
    for name in sorted(MADE):
        (place / name).mkdir()
    for name, mode in (("home", "755"), ("run", "755"), ("tmp", "1777"), ("var/tmp", "1777")):
        if (place / name).is_dir() and not (place / name).is_symlink():
            mount("tmpfs", str(place / name), "tmpfs", options=f"mode={mode}")
    (place / "home/fatpar").mkdir()
    bind(stage, str(place / "fatpar"))
    bind("/sys", str(place / "sys"), writable=True)  # which only root can write to
    furnish_devices(place / "dev")
    # a user without root owns it
    mount("", str(place), flags=MS_REMOUNT | MS_BIND | MS_RDONLY | MS_RELATIME)


def furnish_devices(directory: Path) -> None:
    """Make the part of /dev that programs expect."""
    for name in DEVICES:
        (directory / name).touch()
        bind(f"/dev/{name}", str(directory / name), writable=True)
    (directory / "shm").mkdir()
    mount("tmpfs", str(directory / "shm"), "tmpfs", options="mode=1777")
    (directory / "fd").symlink_to("/proc/self/fd")
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        (directory / name).symlink_to(f"/proc/self/fd/{number}")


def enter(place: Path, user: int, words: list[str]) -> None:
    """Become the command, as the first process of what was made."""
    try:
        mount("proc", str(place / "proc"), "proc")
    except EnterError:  # a container may be denied a proc of its own; then it has one that can be shared
        bind("/proc", str(place / "proc"), writable=True)
    os.chown(place / "home/fatpar", user, user)
    os.chroot(place)
    os.chdir("/home/fatpar")
    if not os.geteuid():
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    end_with_parent()
    os.execve(words[0], words, {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games"})


def end_with_parent() -> None:
    """Be killed when the parent is gone."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def main(root: str, stage: str, place: str, uid: str, *words: str) -> int:
    """Exit status: that of the command, or 1."""
    end_with_parent()
    os.umask(0o022)
    try:
        separate(int(uid))
        furnish(Path(root), stage, Path(place))
        child = os.fork()
        if not child:
            enter(Path(place), int(uid), list(words))
    except (EnterError, OSError) as error:
        print(error, file=sys.stderr, flush=True)
        os._exit(1)
    for descriptor in (0, 1):  # whose ends the child is to see, or to show
        os.close(descriptor)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 255


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
