"""A machine under qemu: a kernel, and a root filesystem in its memory, from which it is started."""

from __future__ import annotations

import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from packer.agent import HostError

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 900
"""Seconds for it to start."""

SLOWER = 10
"""So many times as long everything may take where qemu has to translate what the machine executes."""

_CPUS = {1: "qemu64", 2: "Nehalem", 3: "Haswell"}
"""x86-64 level -> a CPU that has it."""

_OPTIONS = "console=ttyS0 quiet panic=-1 nokaslr mitigations=off no_timer_check random.trust_cpu=on rootfstype=ramfs"
"""Stop where it cannot go on, and be quick where qemu translates; timers are late where much is to do."""

_MADE = {"dev", "proc", "run", "sys", "tmp"}
"""Directories whose content belongs to one run of a machine."""


@dataclass(frozen=True)
class Machine:
    """What it is started from."""

    kernel: str
    initrd: Path
    console: Path
    memory: int
    """MiB."""
    level: int | None
    """x86-64 level of its CPU; ``None``: what qemu has."""

    @property
    def slower(self) -> int:
        """How many times as long everything may take."""
        return 1 if has_kvm() else SLOWER

    def command(self) -> list[str]:
        """The command line; stdin and stdout are the machine's second serial line."""
        # it cannot learn that we are gone
        cpu = _CPUS.get(self.level or 0, "max")
        bound = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        return [
            *bound, "qemu-system-x86_64", "-accel", "kvm" if has_kvm() else "tcg", "-cpu", cpu,
            "-m", str(self.memory), "-nodefaults", "-no-reboot", "-display", "none", "-monitor", "none", "-nic", "none",
            "-kernel", self.kernel, "-initrd", str(self.initrd),
            "-append", f"{_OPTIONS} rdinit=/fatpar/agent -- init /dev/ttyS1 4242 /home/fatpar",
            "-serial", f"file:{self.console}", "-serial", "stdio",
        ]  # fmt: skip


def has_kvm() -> bool:
    """Whether machines run at full speed: there may be a /dev/kvm on a virtual machine, and of no use."""
    flags = Path("/proc/cpuinfo").read_text().split()
    return os.access("/dev/kvm", os.R_OK | os.W_OK) and not {"vmx", "svm"}.isdisjoint(flags)


def make(kernel: str, root: Path, stage: Path, work: Path, level: int | None) -> Machine:
    """Make what a machine is started from.

    :param stage: directory with the agent and the program, to be at ``/fatpar``.
    :param work: directory for the files.
    :raises HostError: if this machine has no qemu.
    """
    if not shutil.which("qemu-system-x86_64"):
        raise HostError("qemu-system-x86_64 is missing, which starts kernels: install the package qemu-system-x86")
    initrd = work / "initrd"
    with initrd.open("wb") as file:
        _write(file, root, stage)
    memory = 512 + 2 * initrd.stat().st_size // (1 << 20)  # packed and unpacked at once
    console = work / "console"
    console.touch()
    return Machine(kernel, initrd, console, memory, level)


def _write(file: IO[bytes], root: Path, stage: Path) -> None:
    """The files as a cpio archive in the form that kernels unpack (``initramfs buffer format``)."""
    inode = 0
    for name, path in [*_files(root), ("fatpar", stage), *((f"fatpar/{one.name}", one) for one in stage.iterdir())]:
        inode += 1
        status = path.lstat()
        try:
            content = _content(path, status)
        except PermissionError:  # what the user cannot read who started us, no mere user could read there
            continue
        _entry(file, inode, name, status, content)
    _entry(file, 0, "TRAILER!!!", None, b"")


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    """Everything but what belongs to one run of a machine; a directory before what is in it."""
    made = {"home/fatpar", "fatpar"}
    for directory, names, files in os.walk(root):
        below = os.path.relpath(directory, root)
        prefix = "" if below == "." else f"{below}/"
        for name in sorted([*names, *files]):
            if prefix + name not in made:
                yield prefix + name, Path(directory, name)
        if below in _MADE:
            names.clear()
        names.sort()
    for name in sorted(_MADE | {"home"}):
        if not (root / name).exists():
            yield name, root


def _content(path: Path, status: os.stat_result) -> bytes:
    if stat.S_ISLNK(status.st_mode):
        return os.fsencode(os.readlink(path))
    return path.read_bytes() if stat.S_ISREG(status.st_mode) else b""


def _entry(file: IO[bytes], inode: int, name: str, status: os.stat_result | None, content: bytes) -> None:
    mode, user, group, time = 0, 0, 0, 0
    if status:
        mode, time = status.st_mode, int(status.st_mtime)
        # who has unpacked the root without being root owns what should be root's
        user, group = (0, 0) if status.st_uid == os.geteuid() else (status.st_uid, status.st_gid)
    raw = os.fsencode(name) + b"\0"
    fields = (inode, mode, user, group, 1, max(time, 0), len(content), 0, 0, 0, 0, len(raw), 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + raw
    for part in (head, content):
        file.write(part)
        file.write(bytes(-len(part) % 4))
