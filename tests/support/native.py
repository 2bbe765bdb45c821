"""The launcher's C code under test, through cffi: with more of its headers than the packer needs, and with hosts that
are put together in memory.
"""

from __future__ import annotations

import contextlib
import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packer import native
from packer.reader import reading

from . import vectors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cffi import FFI

_LAUNCHER = Path(__file__).resolve().parents[2] / "launcher"
_MORE_HEADERS = ("libc", "unpack", "uses")


@functools.cache
def ffi() -> FFI:
    """The packer's declarations and those that only tests use."""
    declared = native.ffi()
    for header in _MORE_HEADERS:
        declared.cdef((_LAUNCHER / f"{header}.h").read_text("utf-8"))
    return declared


def lib() -> Any:
    """The library under test."""
    ffi()
    return native.lib()


def new(declaration: str, *initial: Any) -> Any:
    """Zeroed memory of C's, as ``struct fault *`` or ``char[64]``."""
    return ffi().new(declaration, *initial)


def text(pointer: Any) -> str:
    """A C string that stays C's."""
    return os.fsdecode(ffi().string(pointer))


def owned(pointer: Any) -> str:
    """A C string that the caller has to free."""
    said = text(pointer)
    lib().free(pointer)
    return said


# Hosts ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Libc:
    """A C library of a host."""

    family: str
    version: tuple[int, int]
    nodes: tuple[str, ...] = ()
    """Symbol version nodes of libc.so.6."""
    libraries: Mapping[str, Sequence[str]] | None = None
    """Other libraries beside it: SONAME -> nodes."""

    @property
    def path(self) -> str:
        """Where it would be."""
        return "/lib/libc.so.6" if self.family == "glibc" else "/lib/ld-musl-x86_64.so.1"


@dataclass(frozen=True)
class Python:
    """An interpreter of a host."""

    abi: str
    version: int
    """PY_VERSION_HEX."""
    libc: int = 0
    path: str = ""
    lacks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Host:
    """The facts of a machine; by default one that runs everything but has no library and no Python."""

    machine: int = 62
    release: str = "6.1.0-18-amd64"
    cpu: int = 3
    libcs: tuple[Libc, ...] = ()
    pythons: tuple[Python, ...] = ()


@contextlib.contextmanager
def described(host: Host) -> Iterator[Any]:
    """The host as C's ``struct host``, made with the hostadd functions."""
    c = new("struct host *")
    lib().hostset(c, host.machine, host.release.encode(), host.cpu)
    try:
        for libc in host.libcs:
            _add_libc(c, libc)
        for python in host.pythons:
            path, stdlib = python.path or f"/nowhere/bin/{python.abi}", f"/nowhere/lib/{python.abi}"
            names = path.encode(), python.abi.encode()
            index = lib().hostaddpython(c, *names, python.version, python.libc, stdlib.encode())
            for module in python.lacks:
                lib().hostaddlack(c, index, module.encode())
        yield c
    finally:
        lib().hostfree(c)


def _add_libc(c: Any, libc: Libc) -> None:
    family = {"glibc": lib().LIBC_GLIBC, "musl": lib().LIBC_MUSL}[libc.family]
    index = lib().hostaddlibc(c, family, libc.version[0] << 16 | libc.version[1] << 8, libc.path.encode())
    libraries = {"libc.so.6": libc.nodes, **(libc.libraries or {})} if libc.family == "glibc" else libc.libraries or {}
    for soname, nodes in libraries.items():
        lib().hostaddlibrary(c, index, soname.encode())
        for node in nodes:
            lib().hostaddnode(c, index, soname.encode(), node.encode())


@contextlib.contextmanager
def judged(written: str, host: Host, work: Path) -> Iterator[tuple[Any, Any, Any]]:
    """The archive, host and selection of a launch, as C has them.

    :param written: an archive as ``tests/launcher/vectors`` describe it.
    :param work: an empty directory.
    """
    (work / "archive").write_bytes(vectors.build(vectors.parse("judged", written), work))
    selection = new("struct selection *")
    with reading(work / "archive") as archive, described(host) as c:
        lib().selectslice(selection, archive.pointer, c)
        yield archive.pointer, c, selection
