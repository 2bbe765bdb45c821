"""Runtimes: interpreters that archives carry, captured from what is installed somewhere.

Captured are the executable and its libpython, the standard library without what only developers run, its extension
modules, and the shared libraries that these need and that hosts cannot be relied on to have: grafted, as auditwheel
does it for a wheel.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packer import facts, graft, layers, sources
from packer.errors import PackError
from packer.files import sha256
from packer.model import LayerKind, Runtime

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from packer.sources import Interpreter

_GRAFTED = "lib/grafted"
"""Where shared libraries are that come from elsewhere."""

_DEVELOPERS = re.compile(
    r"(test|tests|idlelib|idle_test|turtledemo|tkinter|lib2to3/tests|config-[^/]*|__pycache__|site-packages|dist-packages)"
    r"(/|$)|.*/(test|tests|idle_test|__pycache__)(/|$)|turtle\.py$|.*\.(a|o|pyc|exe)$"
    r"|(site|user)customize\.py$|lib-dynload/(_tkinter|_test|_ctypes_test|_xxtestfuzz|_xxsubinterpreters_test|xxlimited|xxsubtype)[^/]*$"
)
"""Paths below ``lib/pythonX.Y`` that are left out: tests, IDLE and Tk, what is linked against, what pip installed."""

_IMPORT = """
import importlib, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except BaseException:
        print(name)
"""

_PROBE_SECONDS = 60


def capture(interpreter: Interpreter, cache: Path) -> Runtime:
    """Capture an interpreter; what is made lies in the cache.

    :raises PackError: if it is of no version that can be carried, or a library of it is nowhere.
    """
    if interpreter.version < (3, 6):
        raise PackError(
            f"cannot carry {interpreter.path}: CPython before 3.6 finds its library only where it was built"
        )
    place = place_of(interpreter, cache)
    if not _is_current(place):
        shutil.rmtree(place, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=sources.scratch(cache), prefix="runtime-") as work:
            sources.publish(_Capture(interpreter, Path(work) / "runtime").make(), place)
    return load(place)


def _is_current(place: Path) -> bool:
    """Tell whether something was captured there, and nothing it was captured from has changed since."""
    try:
        said = json.loads((place / "runtime.json").read_bytes())
        return all(_stamp(Path(path)) == tuple(stamp) for path, *stamp in said["origins"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def load(place: Path) -> Runtime:
    """Read what was captured.

    :raises PackError: if it is damaged.
    """
    try:
        said = json.loads((place / "runtime.json").read_bytes())
        major, minor, micro = said["version"]
        name = f"cpython-{major}.{minor}.{micro}-{said['tag']}"
        layer = layers.layer(name, LayerKind.INTERPRETER, layers.tree(place / "tree"), tag=said["tag"])
        if layer.digest.hex() != said["digest"]:
            raise ValueError("its files are not those that were captured")
        return Runtime(
            said["tag"], (major, minor, micro), layer, said["executable"], said["arch"], said["libc"],
            tuple(said["grafted"]), tuple(said["missing"]),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PackError(f"{place} is damaged: {error}", hint=f"remove {place}") from None


def place_of(interpreter: Interpreter, cache: Path) -> Path:
    """Name where an interpreter is captured to, by this version of the packer."""
    said = [str(interpreter.path), interpreter.build]
    said += [sha256(Path(__file__).with_name(f"{name}.py")).hex() for name in ("runtime", "graft")]
    return cache / "runtimes" / hashlib.sha256("\n".join(said).encode()).hexdigest()


@dataclass
class _Capture:
    """One interpreter on its way into a directory."""

    interpreter: Interpreter
    into: Path

    @property
    def prefix(self) -> Path:
        """What the interpreter was installed to."""
        return self.interpreter.path.parent.parent

    def make(self) -> Path:
        tree = self.into / "tree"
        name = f"python{self.interpreter.version[0]}.{self.interpreter.version[1]}"
        threads = "t" if self.interpreter.tag.endswith("t") else ""
        stdlib = self.prefix / "lib" / f"{name}{threads}"
        if not (stdlib / "os.py").is_file():
            raise PackError(f"cannot carry {self.interpreter.path}: there is no {stdlib}/os.py")
        executable = tree / "bin" / f"{name}{threads}"
        executable.parent.mkdir(parents=True)
        shutil.copy(self.interpreter.path, executable)
        for alias in ("python3", "python", *([name] if threads else ())):
            (executable.parent / alias).symlink_to(executable.name)
        origins = [self.interpreter.path, *_copy_library(stdlib, tree / "lib" / stdlib.name)]
        libraries, right = self._graft(tree, executable)
        missing = self._leave_out_broken(tree, executable)
        entries = layers.layer("", LayerKind.INTERPRETER, layers.tree(tree)).digest
        said = {
            "tag": self.interpreter.tag, "version": self.interpreter.version, "arch": self.interpreter.arch,
            "libc": self.interpreter.libc, "executable": f"bin/{executable.name}", "digest": entries.hex(),
            "grafted": sorted(libraries), "missing": missing,
            "origins": [[str(path), *_stamp(path)] for path in [*origins, *libraries.values(), *right]],
        }  # fmt: skip
        (self.into / "runtime.json").write_text(json.dumps(said))
        return self.into

    def _graft(self, tree: Path, executable: Path) -> tuple[dict[str, Path], list[Path]]:
        """Bring the shared libraries along.

        :return: of those that were renamed, the names that they had and where they were; where the others were.
        """
        dynload = [path for path in sorted((tree / "lib").glob("python*/lib-dynload/*.so")) if graft.is_elf(path)]
        origins = {executable: self.interpreter.path}
        origins |= {path: self.prefix / path.relative_to(tree) for path in dynload}
        libraries, right = self._closure(origins.values())
        for path in right:
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.prefix / path, tree / path)
        origins |= {tree / path: self.prefix / path for path in right}
        names = {soname: _hashed(soname, path) for soname, path in libraries.items()}
        (tree / _GRAFTED).mkdir(parents=True, exist_ok=True)
        for path, origin in origins.items():
            needed = {soname: names[soname] for soname in graft.needed(origin) if soname in names}
            if needed:
                up = os.path.relpath(tree / _GRAFTED, path.parent)
                graft.graft(origin, path, graft.Change(f"$ORIGIN/{up}", needed))
        for soname, origin in libraries.items():
            needed = {other: names[other] for other in graft.needed(origin) if other in names}
            graft.graft(origin, tree / _GRAFTED / names[soname], graft.Change("$ORIGIN", needed, names[soname]))
        return libraries, [self.prefix / path for path in sorted(right)]

    def _closure(self, files: Iterable[Path]) -> tuple[dict[str, Path], set[Path]]:
        """Find every shared library that no host can be relied on to have, and those that these need.

        :return: by SONAME, where those are that have to be grafted; paths below the prefix of those that are right as
            they are, since what needs them finds them from where it lies itself.
        """
        oldest = facts.oldest_platform(self.interpreter.libc, self.interpreter.arch)
        promised = facts.policy_of(oldest).libraries
        found: dict[str, Path] = {}
        right: set[Path] = set()
        waiting = list(files)
        while waiting:
            user = waiting.pop()
            for soname in graft.needed(user):
                libc = facts.LIBC_PARTS[self.interpreter.libc].fullmatch(soname)
                if soname in found or soname in promised or libc:
                    continue
                beside = self._beside(soname, user)
                path = self.prefix / beside if beside else self._find(soname, user)
                if path and beside not in right:
                    waiting.append(path)
                if beside:
                    right.add(beside)
                elif path:
                    found[soname] = path
        return found, right

    def _beside(self, soname: str, user: Path) -> Path | None:
        """Find a library that a file finds below the same prefix, wherever that lies; its path there."""
        for directory, relative in graft.run_path(user):
            path = Path(os.path.normpath(directory / soname))
            if relative and path.is_file() and path.is_relative_to(self.prefix):
                return path.relative_to(self.prefix)
        return None

    def _find(self, soname: str, user: Path) -> Path | None:
        """Find a library as the loader would; None: nowhere, and then the module that needs it does not load."""
        root = _root_of(self.interpreter.path)
        own = [*(directory for directory, _ in graft.run_path(user)), self.prefix / "lib", user.resolve().parent]
        system = [root / directory for directory in ("lib", "usr/lib", "lib64", "usr/lib64")]
        machine = f"{self.interpreter.arch}-linux-gnu"
        for directory in [*own, *(each / machine for each in system), *system]:
            if (directory / soname).is_file():
                return (directory / soname).resolve()
        return None

    def _leave_out_broken(self, tree: Path, executable: Path) -> list[str]:
        """Import every extension module in a process of the captured interpreter, away from where it came from."""
        modules = {
            path.name.partition(".")[0]: path for path in sorted((tree / "lib").glob("python*/lib-dynload/*.so"))
        }
        broken = []
        for name, path in modules.items():
            try:
                works = _run(executable, f"import {name}").returncode == 0
            except subprocess.TimeoutExpired:
                works = False
            if not works:
                broken.append(name)
                path.unlink()
        if len(broken) == len(modules) and modules:
            raise PackError(f"cannot carry {self.interpreter.path}: what is captured does not run here")
        return broken


def lacks(captured: Runtime, names: Iterable[str]) -> list[str]:
    """Import modules in a captured interpreter; those that cannot be."""
    (source,) = [entry.source for entry in captured.layer.entries if entry.path == captured.executable]
    assert source
    return _run(source, _IMPORT, *names).stdout.split()


def _run(executable: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a captured interpreter, with nothing of the user's environment."""
    return subprocess.run(
        [executable, "-I", "-S", "-B", "-c", code, *arguments], capture_output=True, text=True, errors="replace",
        timeout=_PROBE_SECONDS, check=False, env={"PATH": "/usr/bin:/bin"},
    )  # fmt: skip


def _copy_library(stdlib: Path, into: Path) -> Iterator[Path]:
    """Copy the standard library; gives what was copied."""
    for directory, names, files in os.walk(stdlib):
        below = Path(directory).relative_to(stdlib)
        names[:] = sorted(name for name in names if not _DEVELOPERS.match((below / name).as_posix()))
        for name in sorted(files):
            source = Path(directory, name)
            path = (below / name).as_posix()
            outside = source.is_symlink() and not source.resolve().is_relative_to(stdlib.resolve())
            if _DEVELOPERS.match(path) or outside or not source.is_file():
                continue  # a system's own settings are no part of Python: Debian has links into /etc
            (into / below).mkdir(parents=True, exist_ok=True)
            shutil.copy(source, into / path)
            yield source


def _hashed(soname: str, path: Path) -> str:
    """Rename a library as auditwheel does, so that no other of its name is taken for it in the same process."""
    stem, dot, rest = soname.partition(".so")
    return f"{stem}-{sha256(path).hex()[:8]}{dot}{rest}"


def _root_of(executable: Path) -> Path:
    """Give the root directory of the system that an interpreter belongs to: above ``usr/bin``, wherever that is."""
    usr = executable.parent.parent
    return usr.parent if usr.name == "usr" else Path("/")
