"""Runtimes: interpreters that archives carry, captured from what is installed somewhere.

Captured are the executable and its libpython, the standard library without what only developers run, its extension
modules, and the shared libraries that these need and that hosts cannot be relied on to have: grafted, as auditwheel
does it for a wheel.
"""

from __future__ import annotations

import contextlib
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

from packer import facts, files, graft, layers
from packer.errors import PackError
from packer.files import sha256
from packer.model import LayerKind, Runtime

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from packer.pythons import Interpreter

_GRAFTED = "lib/grafted"
"""Where shared libraries are that come from elsewhere."""

_DEVELOPERS = re.compile(
    r"(test|tests|idlelib|idle_test|turtledemo|tkinter|lib2to3/tests|config-[^/]*|__pycache__|site-packages|dist-packages)"
    r"(/|$)|.*/(test|tests|idle_test|__pycache__)(/|$)|turtle\.py$|.*\.(a|o|pyc|exe)$"
    r"|(site|user)customize\.py$|lib-dynload/(_tkinter|_test|_ctypes_test|_xxtestfuzz|_xxsubinterpreters_test|xxlimited|xxsubtype)[^/]*$"
)
"""Paths below ``lib/pythonX.Y`` that are left out: tests, IDLE and Tk, what is linked against, what pip installed."""

_LIBC = "lib/libc"
"""Where the C library is that comes along, with what no host's must be loaded beside it."""

_LOADER_ROOM = 1024
"""Bytes for the path of the loader in a store, which the launcher puts in."""

_LIBC_FILES = {
    "glibc": (
        "libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1", "libresolv.so.2",
        "libanl.so.1", "libmvec.so.1", "libnss_files.so.2", "libnss_dns.so.2", "libcrypt.so.1",
    ),
    "musl": (),
}  # fmt: skip
"""What a C library consists of beside its loader; a newer glibc has some of these in libc.so.6."""

_PRELOADED = ("libgcc_s.so.1", "libstdc++.so.6", "libz.so.1")
"""What wheels expect of every host and find by no path of their own: they are there before they are asked for."""

_IMPORT = """
import importlib, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except BaseException:
        print(name)
"""

_PROBE_SECONDS = 60

_TRUST = """
import _hosttrust  # added by fatpar
_hosttrust.find(_ssl.get_default_verify_paths())
"""
"""Put at the end of ``ssl.py``."""


def capture(interpreter: Interpreter, cache: Path, *, libc: bool = False) -> Runtime:
    """Capture an interpreter; what is made lies in the cache.

    :param libc: with its C library.
    :raises PackError: if it is of no version that can be carried, or a library of it is nowhere.
    """
    if interpreter.version < (3, 6):
        raise PackError(
            f"cannot carry {interpreter.path}: CPython before 3.6 finds its library only where it was built"
        )
    place = place_of(interpreter, cache, libc=libc)
    if not _is_current(place):
        shutil.rmtree(place, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=files.scratch(cache), prefix="runtime-") as work:
            files.publish(_Capture(interpreter, Path(work) / "runtime", libc).make(), place)
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
            {soname: frozenset(nodes) for soname, nodes in said["brought"].items()},
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PackError(f"{place} is damaged: {error}", hint=f"remove {place}") from None


def place_of(interpreter: Interpreter, cache: Path, *, libc: bool = False) -> Path:
    """Name where an interpreter is captured to, by this version of the packer."""
    said = [str(interpreter.path), interpreter.build, "libc" if libc else ""]
    said += [sha256(Path(__file__).with_name(f"{name}.py")).hex() for name in ("runtime", "graft", "hosttrust")]
    return cache / "runtimes" / hashlib.sha256("\n".join(said).encode()).hexdigest()


@dataclass
class _Capture:
    """One interpreter on its way into a directory."""

    interpreter: Interpreter
    into: Path
    libc: bool
    """With its C library."""

    @property
    def prefix(self) -> Path:
        """What the interpreter was installed to."""
        return self.interpreter.path.parent.parent

    def make(self) -> Path:
        tree = self.into / "tree"
        name = f"python{self.interpreter.version[0]}.{self.interpreter.version[1]}"
        threads = "t" if self.interpreter.tag.endswith("t") else ""
        stdlib = self._stdlib(f"{name}{threads}")
        executable = tree / "bin" / f"{name}{threads}"
        executable.parent.mkdir(parents=True)
        graft.copy(self.interpreter.path, executable)
        for alias in ("python3", "python", *([name] if threads else ())):
            (executable.parent / alias).symlink_to(executable.name)
        library = tree / stdlib.relative_to(self.prefix)
        origins = [self.interpreter.path, *_copy_library(stdlib, library)]
        _trust_as_the_host_does(library)
        libraries, right = self._graft(tree, executable)
        brought = self._bring_libc(tree, executable, libraries) if self.libc else {}
        made_from = [*origins, *libraries.values(), *right, *brought.values()]
        missing = self._leave_out_broken(tree, executable)
        entries = layers.layer("", LayerKind.INTERPRETER, layers.tree(tree)).digest
        said = {
            "tag": self.interpreter.tag, "version": self.interpreter.version, "arch": self.interpreter.arch,
            "libc": self.interpreter.libc, "executable": f"bin/{executable.name}", "digest": entries.hex(),
            "grafted": sorted(libraries), "missing": missing,
            "brought": {soname: graft.defined(path) for soname, path in brought.items()},
            "origins": [[str(path), *_stamp(path)] for path in made_from],
        }  # fmt: skip
        (self.into / "runtime.json").write_text(json.dumps(said))
        return self.into

    def _stdlib(self, name: str) -> Path:
        """Find the standard library; Fedora's and SUSE's are in ``lib64``."""
        places = [self.prefix / directory / name for directory in ("lib", "lib64")]
        for place in places:
            if (place / "os.py").is_file():
                return place
        raise PackError(f"cannot carry {self.interpreter.path}: there is no {places[0]}/os.py")

    def _graft(self, tree: Path, executable: Path) -> tuple[dict[str, Path], list[Path]]:
        """Bring the shared libraries along.

        :return: of those that were renamed, the names that they had and where they were; where the others were.
        """
        dynload = [path for path in sorted(tree.glob("lib*/python*/lib-dynload/*.so")) if graft.is_elf(path)]
        origins = {executable: self.interpreter.path}
        origins |= {path: self.prefix / path.relative_to(tree) for path in dynload}
        libraries, right = self._closure(origins.values())
        for path in right:
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            graft.copy(self.prefix / path, tree / path)
        origins |= {tree / path: self.prefix / path for path in right}
        names = {soname: _hashed(soname, path) for soname, path in libraries.items()}
        (tree / _GRAFTED).mkdir(parents=True, exist_ok=True)
        for path, origin in origins.items():
            needed = {soname: names[soname] for soname in graft.needed(origin) if soname in names}
            if needed:
                up = os.path.relpath(tree / _GRAFTED, path.parent)
                graft.graft(path, path, graft.Change(f"$ORIGIN/{up}", needed))
        for soname, origin in libraries.items():
            needed = {other: names[other] for other in graft.needed(origin) if other in names}
            path = tree / _GRAFTED / names[soname]
            graft.copy(origin, path)
            graft.graft(path, path, graft.Change("$ORIGIN", needed, names[soname]))
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

    def _bring_libc(self, tree: Path, executable: Path, libraries: Mapping[str, Path]) -> dict[str, Path]:
        """Bring the C library along, and tell the executable.

        :param libraries: those that were grafted.
        :return: where each library was, by its SONAME.
        """
        (tree / _LIBC).mkdir()
        origin = self.interpreter.path
        loader = graft.loader(origin)
        names = [Path(loader).name, *_LIBC_FILES[self.interpreter.libc], *_PRELOADED, *self._promised(tree)]
        found = {soname: path for soname in dict.fromkeys(names) if (path := self._find(soname, origin))}
        if Path(loader).name not in found:
            raise PackError(f"cannot carry the C library of {origin}: {loader} is nowhere")
        for soname, path in found.items():
            shutil.copy(path, tree / _LIBC / soname)
        rpath = ":".join(f"$ORIGIN/../lib/carried{below}" for below in ("", "/grafted", "/libc"))
        room = f"{_LIBC}/{Path(loader).name}".rjust(_LOADER_ROOM, "/")
        before = graft.needed(origin)
        needed = {soname: _hashed(soname, libraries[soname]) for soname in before if soname in libraries}
        preloaded = tuple(soname for soname in _PRELOADED if soname in found and soname not in before)
        graft.copy(origin, executable)
        graft.graft(executable, executable, graft.Change(rpath, needed, loader=room, preloaded=preloaded))
        return found

    def _promised(self, tree: Path) -> Iterator[str]:
        """Give what the interpreter's files take from hosts, since every host has it."""
        libc = facts.LIBC_PARTS[self.interpreter.libc]
        files = [path for path in [*tree.glob("bin/*"), *tree.rglob("*.so*")] if path.is_file() and graft.is_elf(path)]
        ours = {path.name for path in files}
        for soname in {soname for path in files for soname in graft.needed(path)}:
            if soname not in ours and not libc.fullmatch(soname):
                yield soname

    def _leave_out_broken(self, tree: Path, executable: Path) -> list[str]:
        """Import every extension module in a process of the captured interpreter, away from where it came from."""
        modules = {path.name.partition(".")[0]: path for path in sorted(tree.glob("lib*/python*/lib-dynload/*.so"))}
        broken = []
        with _runnable(tree, executable.relative_to(tree).as_posix()) as python:
            if _run(python, "import json, os, re").returncode != 0:
                raise PackError(f"cannot carry {self.interpreter.path}: what is captured does not run here")
            for name, path in modules.items():
                try:
                    works = _run(python, f"import {name}").returncode == 0
                except subprocess.TimeoutExpired:
                    works = False
                if not works:
                    broken.append(name)
                    path.unlink()
        return broken


def lacks(captured: Runtime, names: Iterable[str]) -> list[str]:
    """Import modules in a captured interpreter; those that cannot be."""
    (source,) = [entry.source for entry in captured.layer.entries if entry.path == captured.executable]
    assert source
    with _runnable(source.parent.parent, captured.executable) as python:
        return _run(python, _IMPORT, *names).stdout.split()


@contextlib.contextmanager
def _runnable(tree: Path, executable: str) -> Iterator[Path]:
    """Give an executable that runs here: one that brings its C library has a loader only where a launcher put it."""
    if not (tree / _LIBC).is_dir():
        yield tree / executable
        return
    with tempfile.TemporaryDirectory(prefix="packer-") as work:
        view = Path(work)
        (view / "bin").mkdir()
        (view / "lib").mkdir()
        (view / "lib/carried").symlink_to(tree / "lib")
        (view / "pyvenv.cfg").write_text(f"home = {(tree / executable).parent}\n")
        content = (tree / executable).read_bytes()
        loader = re.search(rb"/{64,}lib/libc/[^\0]+", content)
        assert loader
        path = f"{tree}/{loader[0].decode().lstrip('/')}".encode()
        python = view / executable
        python.write_bytes(content.replace(loader[0], path.ljust(len(loader[0]), b"\0")))
        python.chmod(0o755)
        yield python


def _run(executable: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a captured interpreter, with nothing of the user's environment.

    But for where an emulator looks for the libraries of another machine, where the interpreter is for one.
    """
    kept = {name: os.environ[name] for name in ("QEMU_LD_PREFIX",) if name in os.environ}
    return subprocess.run(
        [executable, "-I", "-S", "-B", "-c", code, *arguments], capture_output=True, text=True, errors="replace",
        timeout=_PROBE_SECONDS, check=False, env={"PATH": "/usr/bin:/bin", **kept},
    )  # fmt: skip


def _copy_library(stdlib: Path, into: Path) -> Iterator[Path]:
    """Copy the standard library, what links lead to as if it were there; gives what was copied."""
    for directory, names, here in os.walk(stdlib, followlinks=True):
        below, real = Path(directory).relative_to(stdlib), Path(directory).resolve()
        names[:] = sorted(
            name for name in names
            if not _DEVELOPERS.match((below / name).as_posix())
            and not real.is_relative_to(Path(directory, name).resolve())  # which would never end
        )  # fmt: skip
        for name in sorted(here):
            source = Path(directory, name)
            path = (below / name).as_posix()
            if _DEVELOPERS.match(path) or not source.is_file():
                continue
            (into / below).mkdir(parents=True, exist_ok=True)
            graft.copy(source, into / path)
            yield source


def _trust_as_the_host_does(library: Path) -> None:
    ssl = library / "ssl.py"
    if ssl.is_file():
        shutil.copy(Path(__file__).with_name("hosttrust.py"), library / "_hosttrust.py")
        ssl.write_bytes(ssl.read_bytes().removesuffix(_TRUST.encode()) + _TRUST.encode())  # it may be a captured one


def _hashed(soname: str, path: Path) -> str:
    """Rename a library as auditwheel does, so that no other of its name is taken for it in the same process."""
    stem, dot, rest = soname.partition(".so")
    return f"{stem}-{sha256(path).hex()[:8]}{dot}{rest}"


def _root_of(executable: Path) -> Path:
    """Give the root directory of the system that an interpreter belongs to: above ``usr/bin``, wherever that is."""
    usr = executable.parent.parent
    return usr.parent if usr.name == "usr" else Path("/")
