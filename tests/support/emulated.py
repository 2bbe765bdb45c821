"""Programs of another machine: the kernel hands them to qemu, once it was told to.

The rule is the one that the package qemu-user-static brings. Where nothing has given it to the kernel, as in a
container or without systemd, that is done here, and it stays until the machine is started again, as on machines that do
it themselves.
"""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

BINFMT = Path("/proc/sys/fs/binfmt_misc")
RULES = Path("/usr/lib/binfmt.d")


@functools.cache
def unavailable(machine: str) -> str | None:
    """Why programs of a machine cannot be run here; None when they can."""
    name = f"qemu-{machine}"
    try:
        if not (BINFMT / "register").exists():
            words = ["mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT)]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode:
                return f"this machine emulates no other: {done.stderr.strip()}"
        if not (BINFMT / name).exists():
            rule = RULES / f"{name}.conf"
            if not rule.exists():
                return f"{rule} is missing: install the package qemu-user-static"
            (BINFMT / "register").write_bytes(rule.read_bytes().strip())
        said = (BINFMT / name).read_text().splitlines()
    except OSError as error:
        return f"this machine emulates no {machine}: {error}"
    flags = next(line for line in said if line.startswith("flags:"))
    # opened when it was registered: a root filesystem has no emulator in it
    if said[0] != "enabled" or "F" not in flags:
        return f"{BINFMT / name} is {said[0]}, {flags}: F is needed, which qemu-user-static registers"
    return None
