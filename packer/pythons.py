"""The CPythons of this machine: each is asked what it is."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packer.errors import PackError
from packer.model import Target

_SECONDS = 20.0

PROBE = """
import json, os, platform, sys, sysconfig
try:
    from importlib.util import MAGIC_NUMBER as magic
except ImportError:
    magic = b""
soabi = sysconfig.get_config_var("SOABI") or ""
tag = "cp%d%d" % sys.version_info[:2]
if sys.version_info[0] == 2:
    tag += "mu" if sys.maxunicode > 0xffff else "m"
elif soabi.startswith("cpython-"):
    tag = "cp" + soabi.split("-")[1]
base = getattr(sys, "real_prefix", getattr(sys, "base_prefix", sys.prefix))
include = sysconfig.get_path("include", vars={"base": base, "installed_base": base}) or ""
print(json.dumps({
    "implementation": platform.python_implementation(),
    "tag": tag,
    "version": list(sys.version_info[:3]),
    "arch": sysconfig.get_platform().split("-", 1)[-1],
    "libc": "glibc" if platform.libc_ver(sys.executable)[0] == "glibc" else "musl",
    "build": sys.version + "".join(" %02x" % byte for byte in bytearray(magic)),
    "headers": os.path.exists(os.path.join(include, "Python.h")),
    "base": "" if base == sys.prefix else os.path.join(base, "bin", "python%d.%d" % sys.version_info[:2]),
}))
"""
"""Valid from Python 2.7 on."""


@dataclass(frozen=True)
class Interpreter:
    """A CPython on this machine."""

    path: Path
    tag: str
    """ABI tag: ``cp27mu``, ``cp39``, ``cp313t``."""
    version: tuple[int, int, int]
    arch: str
    libc: str
    """``glibc`` or ``musl``."""
    headers: bool
    """It has ``Python.h``, which extension modules are compiled against."""
    build: str = ""
    """``sys.version`` and the magic number of its bytecode: what may decide the bytes it compiles a module to."""

    @property
    def full_version(self) -> str:
        """``3.9.18``."""
        return ".".join(map(str, self.version))


@functools.cache
def find() -> tuple[Interpreter, ...]:
    """Find the CPythons of this machine, each once, in the order of PATH; every one is asked what it is.

    Virtual environments count as the interpreters they were made with, pyenv's shims as those it installed.
    """
    return search(_directories(os.environ))


def search(directories: Iterable[Path]) -> tuple[Interpreter, ...]:
    """Ask every Python in ``directories`` what it is; the first of several paths to the same one counts."""
    found: dict[Path, Interpreter] = {}
    for directory in directories:
        for path in sorted(directory.glob("python*")):
            if not re.fullmatch(r"python(\d(\.\d+)?t?)?", path.name):
                continue
            interpreter = _ask(path.resolve())
            if interpreter:
                found.setdefault(interpreter.path, interpreter)
    return tuple(found.values())


def runs_here(target: Target) -> bool:
    """Tell whether an interpreter for a target is here; only those of its version's name are asked."""
    name = "python{}.{}{}".format(*target.python.version, "t" if target.python.free_threaded else "")
    for path in (directory / name for directory in _directories(os.environ)):
        found = _ask(path.resolve()) if path.exists() else None
        same = found and (found.arch, found.libc) == (target.platform.arch, target.platform.libc)
        if found and same and found.tag == target.python.tag:
            return True
    return False


def search_one(path: Path) -> Interpreter | None:
    """Ask one executable what it is; ``None``: no CPython that runs here."""
    return _ask(path.resolve())


def _directories(environment: Mapping[str, str]) -> Iterator[Path]:
    """Where Pythons are looked for; a directory that does not exist is no harm."""
    home = Path(environment.get("HOME", "/nonexistent"))
    for name in [*environment.get("PATH", "").split(os.pathsep), "/usr/local/bin", "/usr/bin"]:
        directory = Path(name)
        if not directory.is_absolute():
            continue
        yield directory
        if directory.name == "shims":  # pyenv: scripts that stand for the interpreters beside them
            yield from sorted(directory.parent.glob("versions/*/bin"))
    data = Path(environment.get("XDG_DATA_HOME") or home / ".local/share")
    yield from sorted(data.glob("uv/python/*/bin"))
    yield from sorted(Path("/opt/python").glob("*/bin"))  # the manylinux images


@functools.cache
def _ask(path: Path) -> Interpreter | None:
    """Run ``path`` once; None for what is no CPython or does not run."""
    try:
        with path.open("rb") as stream:
            if stream.read(4) != b"\x7fELF":
                return None
        answer = subprocess.run(
            [path, "-E", "-s", "-c", PROBE],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            check=True,
        )
        facts = json.loads(answer.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    if facts["base"]:  # a virtual environment with a copy of the executable
        base = Path(facts["base"]).resolve()
        return _ask(base) if base != path else None
    if facts["implementation"] != "CPython":
        return None
    return answered((path, facts))


def answered(said: tuple[Path, Mapping[str, Any]]) -> Interpreter:
    path, facts = said
    major, minor, micro = facts["version"]
    return Interpreter(
        path,
        facts["tag"],
        (major, minor, micro),
        arch=facts["arch"],
        libc=facts["libc"],
        headers=facts["headers"],
        build=facts["build"],
    )


def interpreter_for(target: Target, interpreters: Sequence[Interpreter]) -> Interpreter | None:
    """Choose who builds for ``target``: same ABI; then same platform, headers, the newest micro version, order.

    One of another platform still serves for a source distribution without native code.
    """

    def rank(interpreter: Interpreter) -> tuple[bool, bool, tuple[int, int, int]]:
        same = (interpreter.arch, interpreter.libc) == (target.platform.arch, target.platform.libc)
        return same, interpreter.headers, interpreter.version

    return max((one for one in interpreters if one.tag == target.python.tag), key=rank, default=None)


def own() -> Interpreter:
    """Describe the Python that runs this code."""
    own = _ask(Path(sys.executable).resolve())
    if own is None:
        raise PackError(f"cannot build with the Python that runs this: {sys.executable} is not a CPython")
    return own
