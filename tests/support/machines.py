"""A machine that ssh reaches, without a port or a daemon: sshd in a host root, at the other end of a pipe."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packer import enterchild

from .hosts import give_up, require_host

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVER = """\
HostKey /fatpar/hostkey
AuthorizedKeysFile /fatpar/authorized_keys
StrictModes no
UsePAM no
PidFile none
PermitRootLogin yes
"""

CLIENT = """\
Host machine
  User root
  IdentityFile {work}/key
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  LogLevel ERROR
  ControlPath {work}/control
  ProxyCommand {enter}
"""
"""All connections of a machine go through the first one, since each further one would enter a machine of its own."""


@dataclass(frozen=True)
class Machine:
    """One that runs; ``ssh machine`` leads there."""

    programs: Path
    """Directory with an ``ssh`` that knows it, for the front of PATH."""

    def shell(self, script: str) -> str:
        """What a command writes there."""
        words = [str(self.programs / "ssh"), "machine", script]
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout


@contextmanager
def machine(work: Path) -> Iterator[Machine]:
    """Have one running.

    :param work: an empty directory.
    """
    root = require_host("sshd").root
    ssh = shutil.which("ssh")
    if ssh is None:
        give_up("ssh is not installed")
    for name in ("stage", "mount", "programs"):
        (work / name).mkdir()
    for key in ("key", "stage/hostkey"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", work / key], check=True)
    shutil.copy(work / "key.pub", work / "stage/authorized_keys")
    (work / "stage/sshd_config").write_text(SERVER)
    serve = "mkdir /run/sshd; exec /usr/sbin/sshd -i -f /fatpar/sshd_config"
    enter = [
        sys.executable, "-I", enterchild.__file__, str(root), str(work / "stage"), str(work / "mount"), "0", "/bin/sh",
        "-c", serve,
    ]  # fmt: skip
    (work / "config").write_text(CLIENT.format(work=work, enter=shlex.join(enter)))
    front = work / "programs/ssh"
    front.write_text(f'#!/bin/sh\nexec {ssh} -F {shlex.quote(str(work / "config"))} "$@"\n')
    front.chmod(0o755)
    master = subprocess.Popen([front, "-M", "-N", "machine"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        assert master.stderr
        while not (work / "control").exists():
            assert master.poll() is None, master.stderr.read()
            os.sched_yield()
        yield Machine(work / "programs")
    finally:
        master.kill()
        master.communicate()
