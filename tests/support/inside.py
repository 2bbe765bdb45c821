"""The far end of :class:`support.process.Inside`: runs in a host, as root, by the host's own Python (3.9 or later).

Reads one request a line and answers each with a line, both JSON; bytes are text in Latin-1.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import time
from typing import Any

NAMES = {"ctypes": ctypes, "os": os, "resource": resource, "signal": signal}
"""What ``before`` has; imported while the Python is surely there."""


def text(raw: bytes) -> str:
    return raw.decode("latin-1")


def raw(text: str) -> bytes:
    return text.encode("latin-1")


def start(request: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Execute the program: as the user, with that environment, after the statements that set up its conditions."""
    user = request["user"]
    argv = [raw(word) for word in request["argv"]]
    return subprocess.Popen(
        argv,
        executable=request["executable"],
        env={raw(name): raw(value) for name, value in request["env"].items()},
        cwd=request["cwd"],
        user=user, group=user, extra_groups=[], umask=request["umask"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        close_fds=False,  # there is none to close, and those that `before` opens are to stay
        preexec_fn=lambda: exec(request["before"], {**NAMES}),
        start_new_session=True,
    )  # fmt: skip


def handle(request: dict[str, Any]) -> dict[str, Any]:
    process = start(request)
    if request["kill_after"] is not None:
        time.sleep(request["kill_after"])
        process.kill()
    first = b""
    if request["signal"]:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(request["signal"])
    try:
        stdout, stderr = process.communicate(raw(request["input"]), request["timeout"])
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        stdout, stderr = process.communicate()
        return {"error": f"took longer than {request['timeout']} s: {stdout!r} {stderr!r}"}
    return {"status": process.returncode, "pid": process.pid, "stdout": text(first + stdout), "stderr": text(stderr)}


def main() -> None:
    # so that a descriptor a test chooses, 3 to 9, is none that subprocess needs
    for _ in range(3, 20):
        os.open("/dev/null", os.O_RDONLY)
    for line in sys.stdin:
        try:
            answer = handle(json.loads(line))
        except (OSError, subprocess.SubprocessError) as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


main()
