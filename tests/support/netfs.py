"""A network filesystem whose server can be killed or frozen: a real sftp-server, mounted by sshfs.

The two speak through pipes, so no daemon and no port is needed; the bytes pass through here, where they are counted.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SFTP_SERVERS = ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server")

MOUNTED = 60.0
"""Seconds."""


def missing() -> str | None:
    """What this machine lacks for it; None if nothing."""
    if os.geteuid() != 0:
        return "mounting for another user needs root"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "there is no /dev/fuse"
    if not shutil.which("sshfs"):
        return "sshfs is not installed"
    return None if sftp_server() else "there is no sftp-server"


def sftp_server() -> str | None:
    """Where OpenSSH's is."""
    return next((path for path in SFTP_SERVERS if os.access(path, os.X_OK)), None)


@dataclass
class NetworkFilesystem:
    """What is mounted."""

    mount: Path
    server: subprocess.Popen[bytes]
    client: subprocess.Popen[bytes]
    served: int = 0
    """Bytes that the server has sent."""
    moment: int | None = None
    """When so many bytes were served, :attr:`action` is called, once."""
    flowing: threading.Event = field(default_factory=threading.Event)
    """Cleared while the server is frozen: what it has sent does not arrive either."""
    action: Callable[[], None] = field(default=lambda: None)

    def kill(self) -> None:
        """End the server: sshfs sees the connection break, and gives up. Accesses fail from now on."""
        self.server.kill()
        self.server.wait()

    def kill_client(self) -> None:
        """End sshfs: accesses fail from now on; what is mounted stays mounted, dead."""
        self.client.kill()
        self.client.wait()

    def freeze(self) -> None:
        """Stop the server, as a machine that hangs: accesses wait from now on."""
        self.flowing.clear()
        self.server.send_signal(signal.SIGSTOP)
        os.waitpid(self.server.pid, os.WUNTRACED)

    def thaw(self) -> None:
        """Let it go on."""
        self.server.send_signal(signal.SIGCONT)
        self.flowing.set()

    def at(self, served: int, action: Callable[[], None]) -> None:
        """Do something in the moment when the server has sent so many bytes more, before the last of them arrive."""
        self.action = action
        self.moment = self.served + served

    def relay(self, source: socket.socket, target: socket.socket, *, answers: bool) -> None:
        """Hand on one direction until its end."""
        while data := _received(source):
            if answers:
                self.served += len(data)
                if self.moment is not None and self.served >= self.moment:
                    self.moment = None
                    self.action()
                self.flowing.wait()
            try:
                target.sendall(data)
            except OSError:
                break
        for one in (source, target):
            _shut(one)


def _received(source: socket.socket) -> bytes:
    try:
        return source.recv(1 << 16)
    except OSError:
        return b""


def _shut(one: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the other side was faster
        one.shutdown(socket.SHUT_RDWR)


@contextmanager
def mounted(served: Path, mount: Path) -> Iterator[NetworkFilesystem]:
    """Mount a directory for all users. Nothing of it is left after the block, whatever happened to it meanwhile.

    :param mount: an empty directory.
    """
    program = sftp_server()
    assert program is not None
    near, far = socket.socketpair(), socket.socketpair()
    options = "passive,allow_other"
    if "no_contain_symlinks" in subprocess.run(["sshfs", "--help"], capture_output=True, text=True, check=False).stdout:
        options += ",no_contain_symlinks"  # newer ones refuse absolute links by default
    with (
        subprocess.Popen([program], stdin=far[1].fileno(), stdout=far[1].fileno()) as server,
        subprocess.Popen(
            ["sshfs", "-f", "-o", options, f":{served}", str(mount)],
            stdin=near[1].fileno(), stdout=near[1].fileno(), stderr=subprocess.DEVNULL,
        ) as client,
    ):  # fmt: skip
        near[1].close()
        far[1].close()
        made = NetworkFilesystem(mount, server, client)
        threads = [
            threading.Thread(target=made.relay, args=(far[0], near[0]), kwargs={"answers": True}),
            threading.Thread(target=made.relay, args=(near[0], far[0]), kwargs={"answers": False}),
        ]
        made.flowing.set()
        for thread in threads:
            thread.start()
        try:
            _wait_until_mounted(made)
            yield made
        finally:
            # the client's end ends all that waits for the server, so it comes first
            client.kill()
            server.kill()
            made.flowing.set()
            client.wait()
            subprocess.run(["umount", "--lazy", str(mount)], stderr=subprocess.DEVNULL, check=False)
            for one in (near[0], far[0]):
                _shut(one)
            for thread in threads:
                thread.join()
            near[0].close()
            far[0].close()


def _wait_until_mounted(made: NetworkFilesystem) -> None:
    deadline = time.monotonic() + MOUNTED
    while not os.path.ismount(made.mount):
        if made.client.poll() is not None or time.monotonic() > deadline:
            raise OSError(f"sshfs did not mount {made.mount}")
        time.sleep(0.01)


def forget(path: Path) -> None:
    """Have the kernel drop what it holds of a file in memory, but for what a process has mapped."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
