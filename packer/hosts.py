"""Hosts that are described in files: facts for the launcher's selection, which judges them like the machine's own.

A description is TOML::

    title = "Debian 11 (bullseye)"
    machine = "x86_64"
    cpu = 1                          # x86-64 level, or 80, 81 for ARMv8.0, 8.1
    kernel = "5.10.0"
    libc = "glibc 2.31"              # or "musl 1.2", or "none" where only static programs run

    [libraries]                      # SONAME = the newest nodes; of the libc's own, what others of its release lack
    "libstdc++.so.6" = "GLIBCXX_3.4.28 CXXABI_1.3.12"

    [[python]]
    path = "/usr/bin/python3.9"
    abi = "cp39"
    version = "3.9.2"
    lacks = []                       # standard-library modules that are not installed

``source`` and ``checked`` say where it is from, and when it was last compared with that; ``assumed`` what is from
memory, ``also`` by what other names it is known. ``docs/hosts.md`` tells more.

Those that come with the packer lie in ``abi/hosts``, a user's own below ``$XDG_CONFIG_HOME/fatpar/hosts``, where one of
a shipped name stands for that.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from packer import facts, native
from packer.errors import PackError, UsageError
from packer.model import NeedKind

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from packer.reader import Archive

_T = TypeVar("_T")

_KEYS = {"title", "machine", "cpu", "kernel", "libc", "libraries", "python", "source", "checked", "also", "assumed"}
_PYTHON_KEYS = {"path", "abi", "version", "lacks"}
_LOOKED_UP = ("version", "lacks")
_TYPES = {str: "a string", int: "a number", list: "a list", dict: "a table"}
_GREATEST = 255
"""What a part of a version can be: the launcher keeps each in a byte."""
_KERNEL = r"[0-9]{1,3}\.[0-9]{1,3}(?:[!-/:-~][!-~]{0,55})?"
"""``uname -r``: of 64 characters at most, and none that does something to a terminal."""


@dataclass(frozen=True)
class Python:
    """An interpreter of a described host."""

    path: str
    abi: str
    version: tuple[int, int, int]
    lacks: tuple[str, ...]


@dataclass(frozen=True)
class Described:
    """What a description says."""

    name: str
    """Of its file."""
    title: str
    """For people: ``Debian 12 (bookworm)``; the name, if the description does not say it."""
    machine: str
    cpu: int
    kernel: str
    family: str
    """``glibc``, ``musl`` or ``none``."""
    libc: facts.Version
    """``(0, 0)`` where there is none."""
    libraries: Mapping[str, tuple[str, ...]]
    """SONAME -> the newest node of each kind."""
    pythons: tuple[Python, ...]
    also: tuple[str, ...] = ()
    """Other names."""
    assumed: tuple[str, ...] = ()
    """What was not looked up: ``cpu``, ``kernel``, ``libc``, a SONAME, ``cp39.version``, ``cp39.lacks``."""


def shipped() -> dict[str, Path]:
    """Give the hosts that come with the packer, by name."""
    return _in(facts.folder() / "hosts")


def folder() -> Path:
    """Give the directory of the user's own hosts, which need not exist.

    :raises UsageError: if nothing says where it is.
    """
    config, home = os.environ.get("XDG_CONFIG_HOME", ""), os.environ.get("HOME", "")
    if os.path.isabs(config):  # the XDG base directory specification: a relative path is none
        return Path(config) / "fatpar" / "hosts"
    if os.path.isabs(home):  # nobody else is asked: the user may be in no user database
        return Path(home) / ".config" / "fatpar" / "hosts"
    raise UsageError("no place for hosts of your own: HOME is not set", hint="set XDG_CONFIG_HOME")


def own() -> dict[str, Path]:
    """Give the user's own hosts, by name."""
    with contextlib.suppress(UsageError):
        return _in(folder())
    return {}


def named() -> dict[str, Path]:
    """Give all hosts that have a name, by name, the user's own among them."""
    known = shipped() | own()
    return {name: known[name] for name in sorted(known)}


def every() -> dict[str, Described]:
    """Read all hosts that have a name; of the user's own, those that can be read: of others a warning tells."""
    found = {}
    for name in named():
        try:
            found[name] = find(name)
        except PackError as error:
            if name not in own():
                raise
            _warn(f"{error}; it is left out")
    return found


@functools.cache  # so that each is told once
def _warn(text: str) -> None:
    print(f"packer: warning: {native.printable(text)}", file=sys.stderr)


def of_kind(machine: str, family: str = "") -> list[str]:
    """Give the names of the hosts of a machine, and of a C library: a slice for another one cannot run there.

    :param family: empty: of any, and of none.
    """
    return [name for name, host in every().items() if host.machine == machine and family in ("", host.family)]


def _in(directory: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(directory.glob("*.toml"), key=lambda path: path.stem)}


def find(name: str) -> Described:
    """Read a host that has a name, or a file.

    :raises UsageError: if there is neither.
    :raises PackError: if it cannot be read or says something wrong.
    """
    path = place(name)
    try:
        return read(path.name, path.read_text("utf-8"))
    except OSError as error:
        raise PackError(f"cannot read the host {path}: {error.strerror}") from error
    except ValueError as error:  # what is no UTF-8 or no TOML among them
        raise PackError(f"host {path}: {error}") from error


def place(name: str) -> Path:
    """Give the file of a host that has a name, or another name, or is a file.

    :raises UsageError: if there is none.
    """
    known = named()
    path = known.get(name, Path(name))
    if name in known or os.path.exists(path):  # Path.exists fails where the directory is closed
        return path
    others = {other: one for one, described in every().items() for other in described.also}
    if name in others:
        return known[others[name]]
    near = ", ".join(_near(name, known))
    hint = f"known are {near}, and others: packer hosts list" if near else "packer hosts list shows those there are"
    raise UsageError(f"no host {name!r}: neither a name nor a file", hint=hint)


def refuse_unknown(names: Iterable[str]) -> None:
    """Tell of all that are neither names nor files at once.

    :raises UsageError: if there are any.
    """
    wrong = {}
    for name in names:
        try:
            place(name)
        except UsageError as error:
            wrong[name] = error
    if len(wrong) == 1:
        raise next(iter(wrong.values()))
    if wrong:
        every_one = ", ".join(map(repr, wrong))
        raise UsageError(
            f"no hosts {every_one}: neither names nor files", hint="packer hosts list shows those there are"
        )


def _near(name: str, known: Mapping[str, Path]) -> list[str]:
    """Give the hosts that a name may mean: those that are called so, ``debian-12`` or ``jammy``, and those like it."""
    titles = {one: re.sub(r"[^a-z0-9.]+", "-", described.title.lower()) for one, described in every().items()}
    called = [one for one, title in titles.items() if name.lower() in title]
    return [*called, *(one for one in difflib.get_close_matches(name, known) if one not in called)][:5]


def read(name: str, text: str) -> Described:
    """Read a description.

    :param name: of its file.
    :raises ValueError: if it says something wrong.
    """
    table = tomllib.loads(text)
    _check_keys(table, _KEYS)
    if any("\0" in text for text in _texts(table)):
        raise ValueError("it has the character NUL")
    machine, cpu = _get(table, "machine", str), _get(table, "cpu", int)
    levels = [level.number for level in facts.cpu_levels() if level.arch == machine]
    if cpu not in levels:
        machines = ", ".join(facts.architectures())
        raise ValueError(
            f"cpu {cpu} is no level of machine {machine!r}" if levels else f"machine is none of {machines}"
        )
    family, libc = _libc(_get(table, "libc", str))
    kernel = _get(table, "kernel", str)
    if not re.fullmatch(_KERNEL, kernel):
        raise ValueError(f"kernel must be like '5.10.0', is {kernel!r}")
    libraries = _get(table, "libraries", dict, {})
    pythons = tuple(_python(one) for one in _get(table, "python", list, []))
    if family == "none" and (libraries or pythons):
        raise ValueError("libc is none, so that there can be neither libraries nor a Python")
    title = _get(table, "title", str, name.removesuffix(".toml"))
    assumed = _strings(table, "assumed")
    facts_there = {"cpu", "kernel", "libc", *libraries, *(f"{p.abi}.{key}" for p in pythons for key in _LOOKED_UP)}
    for one in assumed:
        if one not in facts_there:
            raise ValueError(f"assumed: nothing is said of {one!r}")
    return Described(
        name, title, machine, cpu, kernel, family, libc,
        {soname: tuple(_get(libraries, soname, str).split()) for soname in libraries}, pythons,
        _strings(table, "also"), assumed,
    )  # fmt: skip


def _texts(value: object) -> Iterator[str]:
    """Give all strings of a description, keys among them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (text for item in value.items() for one in item for text in _texts(one))
    elif isinstance(value, list):
        yield from (text for one in value for text in _texts(one))


def _strings(table: Mapping[str, Any], key: str) -> tuple[str, ...]:
    found = _get(table, key, list, [])
    if not all(isinstance(one, str) for one in found):
        raise ValueError(f"{key} must be a list of strings, is {found!r}")
    return tuple(found)


def _numbers(what: str, *parts: str) -> tuple[int, ...]:
    if any(len(part) > 3 or int(part) > _GREATEST for part in parts):
        raise ValueError(f"{what} {'.'.join(parts)!r} has a number beyond {_GREATEST}")
    return tuple(map(int, parts))


def _libc(text: str) -> tuple[str, facts.Version]:
    found = re.fullmatch(r"(glibc|musl) ([0-9]+)\.([0-9]+)(\.[0-9]+)?|none", text)
    if found is None:
        raise ValueError(f"libc must be like 'glibc 2.31' or 'musl 1.2', or 'none', is {text!r}")
    if text == "none":
        return "none", (0, 0)
    major, minor = _numbers(found[1], found[2], found[3])
    return found[1], (major, minor)


def _python(table: object) -> Python:
    if not isinstance(table, dict):
        raise ValueError("python must be written [[python]]")
    _check_keys(table, _PYTHON_KEYS)
    abi, version = _get(table, "abi", str), _get(table, "version", str)
    if abi not in facts.pythons():
        raise ValueError(f"abi {abi!r} is no Python ABI tag")
    numbers = re.fullmatch(r"([0-9]+)\.([0-9]+)\.([0-9]+)", version)
    if numbers is None:
        raise ValueError(f"version {version!r} is no release of {abi}")
    major, minor, micro = _numbers("version", *numbers.groups())
    if (major, minor) != facts.pythons()[abi].abi.version:
        raise ValueError(f"version {version!r} is no release of {abi}")
    return Python(_get(table, "path", str), abi, (major, minor, micro), _strings(table, "lacks"))


def _check_keys(table: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(set(table) - known)
    if unknown:
        raise ValueError(f"{unknown[0]!r} is not known: {', '.join(sorted(known))} are")


def _get(table: Mapping[str, Any], key: str, kind: type[_T], default: _T | None = None) -> _T:
    value = table.get(key, default)
    if value is None:
        raise ValueError(f"{key} is missing")
    if not isinstance(value, kind) or isinstance(value, bool):  # a bool is an int, but no number
        raise ValueError(f"{key} must be {_TYPES[kind]}, is {value!r}")
    return value


def describe_into(host: Any, archive: Archive, described: Described) -> None:
    """Fill a ``struct host`` from a description, as far as an archive asks.

    A host without a C library gets none: then selection finds ``no C library`` wherever a slice asks for one.
    """
    lib = native.lib()
    machine = facts.architectures()[described.machine]
    lib.hostset(host, machine, described.kernel.encode(), described.cpu)
    if described.family == "none":
        return
    libc = _add_libc(host, archive, described)
    for python in described.pythons:
        version = facts.version_hex(*python.version)
        stdlib = b"its standard library"
        index = lib.hostaddpython(host, python.path.encode(), python.abi.encode(), version, libc, stdlib)
        for module in python.lacks:
            lib.hostaddlack(host, index, module.encode())


def _add_libc(host: Any, archive: Archive, described: Described) -> int:
    lib = native.lib()
    family = getattr(lib, f"LIBC_{described.family.upper()}")
    version = described.libc[0] << 16 | described.libc[1] << 8
    libc: int = lib.hostaddlibc(host, family, version, described.name.encode())
    for library in described.libraries:
        lib.hostaddlibrary(host, libc, library.encode())
    nodes = [
        (archive.string(need.name), archive.string(need.value))
        for need in archive.records("need")
        if need.kind == NeedKind.NODE
    ]
    for library, node in nodes:
        if offers(described, library, node):
            lib.hostaddnode(host, libc, library.encode(), node.encode())
    return libc


def offers(host: Described, library: str, node: str) -> bool:
    """Tell whether a library has a node: if a newest node of its kind says so, glibc's also by its release."""
    if any(_reaches(newest, node) for newest in host.libraries.get(library, ())):
        return True
    if host.family != "glibc" or not facts.LIBC_PARTS["glibc"].fullmatch(library):
        return False
    if not library.startswith("libc.so"):
        return _reaches(f"GLIBC_{host.libc[0]}.{host.libc[1]}", node)
    releases = [one for one in facts.glibc_releases() if one.version <= host.libc]
    return bool(releases) and node in releases[-1].nodes[host.machine]


def bare(machine: str, family: str, version: facts.Version) -> Described:
    """Give a host that has a C library and nothing else."""
    return Described("", "", machine, 1, "", family, version, {}, ())


def _reaches(newest: str, node: str) -> bool:
    if newest == node:
        return True
    if not (facts.NUMBER.fullmatch(newest) and facts.NUMBER.fullmatch(node)):
        return False
    same_kind = newest.rpartition("_")[0] == node.rpartition("_")[0]
    return same_kind and facts.node_number(node) <= facts.node_number(newest)
