"""The launcher's own code as Python sees it: cffi opens it in ABI mode, with the launcher's headers as declarations.

There is one implementation of reading an archive, probing a host and selecting a slice, and it is the launcher's.
"""

from __future__ import annotations

import functools
import re
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cffi import FFI

from packer import facts

if TYPE_CHECKING:
    from collections.abc import Mapping

HEADERS = (
    "fault", "sha256", "crc32", "tree", "filter", "archive", "tables", "blobs", "cpu", "elffile", "ldcache", "host",
    "pythons", "select", "decide", "explain", "printable", "control", "store", "object", "prune", "plan", "prepare",
    "front",
)  # fmt: skip
"""In an order in which each needs only what stands before it."""


def data(name: str) -> Path:
    """Path of a file that the build made: ``launcher-x86_64``, ``liblauncher.so``."""
    return Path(str(resources.files("packer"))) / "_data" / name


@functools.cache
def ffi() -> FFI:
    """The declarations of ``abi/fatpar.h`` and the launcher's headers."""
    declared = FFI()
    declared.cdef("void free(void *);\n" + facts.read_text("fatpar.h"))
    for header in HEADERS:
        declared.cdef(_header(header))
    return declared


def _header(name: str) -> str:
    checkout = Path(__file__).parent.parent / "launcher" / f"{name}.h"
    path = checkout if checkout.exists() else data(f"launcher/{name}.h")
    return path.read_text("utf-8")


def load(path: Path) -> Any:
    """Open a build of the launcher's code."""
    return ffi().dlopen(str(path))


@functools.cache
def lib() -> Any:
    """The launcher's code that belongs to this packer."""
    return load(data("liblauncher.so"))


def new(declaration: str) -> Any:
    """Give zeroed memory of C's, as ``struct fault *`` or ``char[64]``."""
    return ffi().new(declaration)


def text(pointer: Any) -> str:
    """Read a string that stays C's: names are UTF-8 as a rule, whatever the locale says."""
    raw: bytes = ffi().string(pointer)  # type: ignore[assignment]
    return raw.decode("utf-8", "surrogateescape")


def encoded(name: str) -> bytes:
    """Give the bytes of a name as C and archives have it; what :func:`text` read comes out as it was."""
    return name.encode("utf-8", "surrogateescape")


def own(pointer: Any) -> str:
    """Take over a string that C allocated."""
    try:
        return text(pointer)
    finally:
        lib().free(pointer)


def printable(name: str) -> str:
    """Make a name fit to be shown: what would do something to a terminal, or break a line, is written out."""
    if _NOT_C.search(name):
        return "".join(_written(part) if _NOT_C.match(part) else printable(part) for part in _NOT_C.split(name))
    return own(lib().printable(encoded(name), b"\0"))


_NOT_C = re.compile("([\0\ud800-\udc7f\udd00-\udfff])")
"""What no string of C's has: its end, and what is no character and stands for no byte."""


def _written(one: str) -> str:
    return "\\x00" if one == "\0" else f"\\u{ord(one):04x}"


def shown(value: Any) -> Any:
    """Make all names in JSON values fit to be shown."""
    if isinstance(value, dict):
        return {shown(key): shown(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [shown(one) for one in value]
    return printable(value) if isinstance(value, str) and not value.isprintable() else value


def record(kind: str, values: Mapping[str, object]) -> bytes:
    """The bytes of a record of the archive format.

    :param kind: the struct's name in ``abi/fatpar.h``.
    """
    return bytes(ffi().buffer(ffi().new(f"struct {kind} *", dict(values))))
