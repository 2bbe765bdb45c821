"""A machine whose power can be cut: qemu with a Debian kernel, a host's root filesystem, and a store on a disk.

What a cut takes away is all that a real one takes away. Killed with SIGKILL, qemu loses the memory of the machine, so
what its kernel had not written yet. And it loses what the disk was told to write, but not to make sure of: the disk is
a qcow2 file over an empty filesystem, and where in the file a new cluster lies is written when the machine flushes its
disk (``cache=writeback``), not before. What remains is what qemu had written to a file of this machine, which has not
lost its power. It is as with a disk that has a volatile cache.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.hosts import give_up, require_host

from packer import native

if TYPE_CHECKING:
    from collections.abc import Iterator

FILESYSTEMS = ("ext4", "xfs")

HERE = Path(__file__).parent

PATIENCE = 900
"""Seconds to wait for an answer; without KVM, qemu translates what the machine executes."""

KERNEL_OPTIONS = (
    "quiet panic=-1 nokaslr mitigations=off no_timer_check nosoftlockup rcupdate.rcu_cpu_stall_suppress=1 "
    "random.trust_cpu=on"
)
"""Stop where it cannot go on, and without KVM be quick; timers come late where the machine beneath has much to do."""

TRANSLATED = ("-accel", "tcg,thread=single", "-icount", "shift=3")
"""Without KVM an instruction takes 8 ns of the machine's time, however long it takes here: else a machine that gets
little of a CPU is busy with timers that have run out, and does not come to anything else."""

Ended = tuple[int, str, str]
"""Status, stdout, stderr."""


class PowerError(Exception):
    """A machine that does not start, or does not answer."""


@dataclass(frozen=True)
class Census:
    """What a machine found in its store."""

    layers: int
    damaged: list[str]
    """Published layers whose tree is another than their name says."""
    empty: int
    """Files of layers, and bytecode beside them, without any content; none was meant to be so."""
    made: dict[str, str]
    """Layer or view -> the boot it was made in, or ``durable``."""
    boot: str

    @property
    def doubtful(self) -> list[str]:
        """Objects that no launch of this boot has looked at."""
        return [name for name, made in self.made.items() if made not in (self.boot, "durable")]


@dataclass(frozen=True)
class Machine:
    """What a machine is started from: a kernel, an initrd, a root filesystem, empty disks."""

    kernel: Path
    work: Path
    kvm: bool = False

    def disk(self, filesystem: str, name: str) -> Path:
        """A new disk with an empty filesystem."""
        path = self.work / f"{name}.{filesystem}.qcow2"
        path.unlink(missing_ok=True)
        base = self.work / f"{filesystem}.img"
        words = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(base), str(path)]
        subprocess.run(words, check=True)
        return path

    @contextmanager
    def started(self, disk: Path, patience: float = PATIENCE) -> Iterator[Started]:
        """Have the machine running; the end of the block cuts its power, if nothing did before."""
        console = disk.with_suffix(".console")
        with subprocess.Popen(
            self._command(disk, console), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            try:
                yield Started(process, console, patience)
            finally:
                process.kill()

    def with_kvm(self) -> Machine:
        """The same machine with KVM, where it starts so: on a virtual machine /dev/kvm may be there and of no use."""
        faster = replace(self, kvm=True)
        try:
            with faster.started(self.disk(FILESYSTEMS[0], "kvm"), patience=20):
                return faster
        except PowerError:
            return self

    def _command(self, disk: Path, console: Path) -> list[str]:
        filesystem = disk.suffixes[-2].removeprefix(".")
        return [
            "setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64",
            *(("-accel", "kvm") if self.kvm else TRANSLATED), "-smp", "1", "-m", "512",
            "-nodefaults", "-no-reboot", "-display", "none", "-monitor", "none",
            "-kernel", str(self.kernel), "-initrd", str(self.work / "initrd.img"),
            "-append", f"console=ttyS0 {KERNEL_OPTIONS} fs={filesystem}",
            "-drive", f"file={self.work}/root.img,format=raw,if=virtio,readonly=on",
            "-drive", f"file={disk},format=qcow2,if=virtio,cache=writeback",
            "-serial", f"file:{console}", "-serial", "stdio",
        ]  # fmt: skip


class Started:
    """A machine with power. Its requests are those of ``guest.py``."""

    def __init__(self, process: subprocess.Popen[bytes], console: Path, patience: float) -> None:
        self._process = process
        self._patience = patience
        self._console = console
        self._answers: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        if self._answer() != "ready":
            raise PowerError("the machine says something else than that it is ready")

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put(b"")

    def _answer(self) -> Any:
        try:
            line = self._answers.get(timeout=self._patience)
        except queue.Empty:
            line = b""
        try:
            return json.loads(line)
        except ValueError:
            self._process.kill()
            assert self._process.stderr is not None
            said = self._process.stderr.read().decode(errors="replace")
            shown = self._console.read_text(errors="replace")[-3000:]
            raise PowerError(f"no answer from the machine, but {line!r}: {said}{shown}") from None

    def _ask(self, *request: str | int) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        return self._answer()

    def begin(self, stores: int) -> None:
        """Make directories for stores, on disk for good; once in the life of a disk."""
        self._ask("begin", stores)

    def load(self, seconds: int) -> None:
        """Let something else write to the disk until the power is cut.

        :param seconds: for how long the kernel may keep contents in memory.
        """
        self._ask("load", seconds)

    def launch(self, tool: str, store: int) -> Ended:
        """Launch a program."""
        status, stdout, stderr = self._ask("launch", tool, str(store))
        return status, stdout, stderr

    def launch_trusting(self, tool: str, store: int) -> Ended:
        """Launch a program in a copy of a store that claims to have been made in this boot."""
        status, stdout, stderr = self._ask("launch_trusting", tool, str(store))
        return status, stdout, stderr

    def census(self, store: int) -> Census:
        """Look at a store."""
        return Census(**self._ask("census", str(store)))

    def cut(self, after: float = 0) -> None:
        """Cut the power."""
        time.sleep(after)
        assert self._process.poll() is None, "the machine stopped by itself"
        self._process.kill()
        self._process.wait()


def build(work: Path, tools: dict[str, Path]) -> Machine:
    """Make what a machine is started from.

    :param tools: name in its ``/opt`` -> a packed program.
    """
    for tool, package in (("qemu-system-x86_64", "qemu-system-x86"), ("qemu-img", "qemu-utils")):
        if not shutil.which(tool):
            give_up(f"{tool} is missing: install the package {package}")
    kernel, host = require_host("kernel"), require_host("bookworm")
    payload = work / "payload"
    payload.mkdir()
    for name, path in {**tools, "guest.py": HERE / "guest.py", "liblauncher.so": native.data("liblauncher.so")}.items():
        shutil.copy(path, payload / name)
        (payload / name).chmod(0o755)
    words = [
        "unshare",
        "--mount",
        "bash",
        str(HERE / "machine.sh"),
        str(kernel.root.resolve()),
        str(host.root.resolve()),
    ]
    done = subprocess.run([*words, str(payload), str(work)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise PowerError(f"cannot make the disks of a machine: {done.stderr}")
    (image,) = (kernel.root / "boot").glob("vmlinuz-*")
    machine = Machine(image, work)
    return machine.with_kvm() if os.access("/dev/kvm", os.R_OK | os.W_OK) else machine
