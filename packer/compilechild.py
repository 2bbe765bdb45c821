"""The child process in which an interpreter of a target's own version compiles modules, each into one ``.pyc``.

Run by path, ``python -S -s -B -W ignore compilechild.py DIRECTORY WORKERS CACHE_TAG``, so that it imports nothing of
ours. ``DIRECTORY`` holds ``request``: a source's path and what its code says it is called, NUL after each, for every
module. The ``.pyc`` of the module that is named at place N goes to ``DIRECTORY/made/N.pyc``; none is there in the end
where a module does not compile.

Valid from Python 3.5 on. The bytes depend on the source, its name and the interpreter's version, and on nothing else:
each module is compiled in a process of its own, which begins as all others do.
"""
# Python 3.5 has neither f-strings nor zip(strict=True):
# ruff: noqa: B905, UP032

import sys

if __name__ == "__main__":
    sys.path.pop(0)  # our own directory: modules there must not answer to the standard library's names

import gc
import importlib.util
import marshal
import os
import struct
import traceback
from types import CodeType

MODIFIED = 315532800
"""Modification time of every source in a store (FORMAT.md, section 8): 1980-01-01, seconds since 1970."""

NOTHING = 1
"""Exit status for a module that has no bytecode."""

OVERFLOW = 11
"""SIGSEGV: old compilers die of code that is nested too deeply, in an import as well."""

CONTAINERS = (tuple, frozenset)


def main(directory: str, workers: int, tag: str) -> None:
    """Compile all modules of the request, ``workers`` at a time.

    :raises SystemExit: with what went wrong.
    """
    if sys.implementation.cache_tag != tag:
        sys.exit("its bytecode is called {}, not {}".format(sys.implementation.cache_tag, tag))
    os.umask(0o022)
    gc.disable()  # no process lives long enough for it to be worth its time
    with open(os.path.join(directory, "request"), "rb") as stream:
        words = stream.read().split(b"\0")[:-1]
    running = {}  # type: dict[int, str]
    for number, (source, name) in enumerate(zip(words[::2], words[1::2])):
        if len(running) == workers:
            await_one(running)
        path = name.decode("utf-8", "surrogateescape")
        child = os.fork()
        if child == 0:
            compile_and_exit(source, path, os.path.join(directory, "made", "{}.pyc".format(number)))
        running[child] = path
    while running:
        await_one(running)


def await_one(running: "dict[int, str]") -> None:
    """Wait until one of the processes in ``running`` has ended; one that did not get to its end stops everything.

    :param running: process id -> the module's name; loses the one that ended.
    """
    child, status = os.wait()
    name = running.pop(child)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) != OVERFLOW:
        sys.exit("cannot compile {!a}: ended by signal {}".format(name, os.WTERMSIG(status)))
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) not in (0, NOTHING):
        sys.exit("cannot compile {!a}: exit status {}".format(name, os.WEXITSTATUS(status)))


def compile_and_exit(source: bytes, name: str, target: str) -> None:
    """Write the ``.pyc`` of one module and end this process, whatever happens."""
    status = 2
    try:
        with open(source, "rb") as stream:
            content = stream.read()
        made = compiled(content, name)
        if made:
            with open(target, "wb") as stream:
                stream.write(made)
        status = 0 if made else NOTHING
    except BaseException:  # this process must not go on with what its parent was about to do
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


def compiled(content: bytes, name: str) -> bytes:
    """Give the ``.pyc`` of a module as an interpreter would keep it; ``b""`` where there is none.

    There is none where an import would fail, and where the code has a set whose order is another in every process.

    :param content: the source file's bytes, in whatever encoding they say.
    :param name: for ``co_filename``; an import puts the source's real path there.
    """
    try:
        code = marshalled(content, name)
    except Exception:  # SyntaxError as a rule, but also ValueError, RecursionError, MemoryError, as compilers differ
        return b""
    flags = struct.pack("<I", 0) if sys.version_info >= (3, 7) else b""  # PEP 552: valid by time and size
    validity = struct.pack("<II", MODIFIED, len(content) & 0xFFFFFFFF)
    return importlib.util.MAGIC_NUMBER + flags + validity + code if code else b""


def marshalled(content: bytes, name: str) -> bytes:
    """Give the code of a module as :func:`compiled` wants it, without the header.

    :raises Exception: it does not compile.
    """
    code = compile(content, name, "exec", dont_inherit=True, optimize=0)
    # marshal marks what it writes by whether anybody else refers to it, so the bytes would tell which names this
    # process knew before. Now somebody refers to every string there is.
    held = strings(code)
    if sys.version_info < (3, 11) and has_set(code):
        # A set of names is built anew, and may change its order, where a process knew one of them. Now it knows all.
        code = compile(content, name, "exec", dont_inherit=True, optimize=0)
        held += strings(code)
        if has_unordered_set(code):
            return b""
    made = marshal.dumps(code)
    del held
    return made


def parts(value: object) -> "tuple[object, ...]":
    """Give what marshal writes of a constant or of code that may be, or hold, a string or set."""
    if isinstance(value, CodeType):
        names = (value.co_names, value.co_varnames, value.co_freevars, value.co_cellvars)
        return (value.co_consts, *names, value.co_name, value.co_filename, getattr(value, "co_qualname", None))
    if isinstance(value, CONTAINERS):
        return tuple(value)
    if isinstance(value, slice):  # constants from 3.14 on
        return (value.start, value.stop, value.step)
    return ()


def strings(value: object) -> "list[str]":
    """Give every string in code or a constant, as often as it is there."""
    if isinstance(value, str):
        return [value]
    return [text for part in parts(value) for text in strings(part)]


def has_set(value: object) -> bool:
    """Tell whether code or a constant has a set, which marshal writes in the set's own order before 3.11."""
    return isinstance(value, frozenset) or any(has_set(part) for part in parts(value))


def has_unordered_set(value: object) -> bool:
    """Tell whether code or a constant has a set whose order depends on where in memory None and ``...`` are."""
    if isinstance(value, frozenset) and len(value) > 1 and any(hash_is_an_address(one) for one in value):
        return True
    return any(has_unordered_set(part) for part in parts(value))


def hash_is_an_address(value: object) -> bool:
    """Tell whether the hash of a constant is another in every process; only before 3.12."""
    return value is None or value is Ellipsis or any(hash_is_an_address(part) for part in parts(value))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
