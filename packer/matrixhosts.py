"""The hosts that an archive is run on, and what is run there, as a file says it.

::

    [[host]]
    name = "bookworm"                 # as results have it
    title = "Debian 12, our image"    # for people; default: that of the description, else the name
    required = false                  # default true: it is a failure that no slice runs there
    describes = "bookworm"            # a host that packer knows, or a file that describes one: what is predicted
    root = "roots/bookworm"           # exactly one of these five:
                                      # a root filesystem
    image = "debian:12"               # an image, with podman or docker
    kernel = "vmlinuz-5.10"           # a kernel under qemu, with the root filesystem of `root`
    ssh = "user@host"                 # a machine that ssh reaches
    local = true                      # this machine

    [[case]]
    name = "version"
    args = ["--version"]
    status = 0                        # exit status; default 0
    output = "^3\\\\.2"                 # regular expression, found in what it writes
    stdin = "text"

Paths are relative to the file; ``docs/matrix.md`` tells more.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from packer import hosts
from packer.errors import PackError, UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


class Kind(Enum):
    """Where a host is."""

    HERE = "local"
    ROOT = "root"
    IMAGE = "image"
    KERNEL = "kernel"
    SSH = "ssh"


@dataclass(frozen=True)
class Host:
    """A host to run on."""

    name: str
    title: str
    required: bool
    described: hosts.Described | None
    kind: Kind
    at: str = ""
    """Image, kernel, or what ssh is told."""
    root: Path | None = None
    table: str = ""
    """What the file says of where it is and how it is described; the same wherever the file lies."""


@dataclass(frozen=True)
class Case:
    """One use of the program."""

    name: str
    arguments: tuple[str, ...]
    status: int = 0
    output: str = ""
    """Regular expression."""
    stdin: str = ""


@dataclass(frozen=True)
class Plan:
    """What a file says."""

    hosts: tuple[Host, ...]
    cases: tuple[Case, ...]


_TYPES = {str: "a string", int: "a number", bool: "true or false", list: "a list of strings"}


class _Table:
    """A table of the file, which is asked for all that it may say."""

    def __init__(self, where: str, table: Mapping[str, Any]) -> None:
        self.where = where
        self.rest = dict(table)

    def get(self, key: str, kind: type, default: Any = None) -> Any:
        value = self.rest.pop(key, default)
        if value is None:
            raise UsageError(f"{self.where}: {key} is missing")
        if type(value) is not kind or not all(isinstance(one, str) for one in (value if type(value) is list else ())):
            raise UsageError(f"{self.where}: {key} must be {_TYPES[kind]}, is {value!r}")
        if any("\0" in str(one) for one in (value if isinstance(value, list) else [value])):
            raise UsageError(f"{self.where}: {key} has a NUL in it")
        return value

    def done(self, known: str) -> None:
        if self.rest:
            raise UsageError(f"{self.where}: {min(self.rest)} is not known: {known} are")


def read(path: Path, *, places: bool = True) -> Plan:
    """Read a file.

    :param places: whether roots and kernels have to be there.
    :raises UsageError: that names the file, and the key that is wrong.
    """
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the hosts {path}: {error.strerror}") from error
    except ValueError as error:  # what is no UTF-8 or no TOML among them
        raise UsageError(f"{path}: {error}") from error
    if unknown := sorted(set(table) - {"host", "case"}):
        raise UsageError(f"{path}: {unknown[0]} is not known: [[host]] and [[case]] are")
    found = _each(path, table, "host", lambda one: _host(one, path, places=places))
    if not found:
        raise UsageError(f"{path}: there is no [[host]]")
    return Plan(tuple(found), tuple(_each(path, table, "case", _case)))


def _each(path: Path, table: Mapping[str, Any], key: str, make: Callable[[_Table], Any]) -> list[Any]:
    tables = table.get(key, [])
    if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
        raise UsageError(f"{path}: {key} must be written [[{key}]]")
    made: list[Any] = []
    for number, one in enumerate(tables, 1):
        name = one.get("name")
        made.append(make(_Table(f"{path}: {key} {repr(name) if isinstance(name, str) else number}", one)))
        if made[-1].name in [before.name for before in made[:-1]]:
            raise UsageError(f"{path}: {key} {name!r} is there twice")
    return made


def _host(table: _Table, path: Path, *, places: bool) -> Host:
    name = _name(table)
    required = table.get("required", bool, True)
    described = _described(table, path)
    title = table.get("title", str, described.title if described else name)
    given = {
        kind: table.get(kind.value, bool if kind is Kind.HERE else str) for kind in Kind if kind.value in table.rest
    }
    table.done("describes, image, kernel, local, name, required, root, ssh, title")
    said = {kind.value: value for kind, value in given.items()}
    root = given.pop(Kind.ROOT, None)
    kind, at = _where(table, {kind: value for kind, value in given.items() if value is not False}, root)
    if places and root is not None and not (path.parent / root).is_dir():
        raise UsageError(f"{table.where}: root {root!r} is no directory")
    if kind is Kind.KERNEL:
        if places and not (path.parent / at).is_file():
            raise UsageError(f"{table.where}: kernel {at!r} is no file")
        at = str((path.parent / at).absolute())
    asked = repr((name, sorted(said.items()), described and replace(described, name="", title="")))
    return Host(name, title, required, described, kind, at, (path.parent / root).absolute() if root else None, asked)


def _where(table: _Table, given: Mapping[Kind, Any], root: str | None) -> tuple[Kind, str]:
    """Decide of which kind a host is."""
    if len(given) + (root is not None and Kind.KERNEL not in given) > 1:
        raise UsageError(f"{table.where}: only one of root, image, kernel (with a root), ssh and local can be said")
    if not given and root is None:
        raise UsageError(
            f"{table.where}: where it is is missing: root, image, kernel (with a root), ssh, or local = true for this "
            "machine"
        )
    kind, at = next(iter(given.items()), (Kind.ROOT, ""))
    if kind is Kind.KERNEL and root is None:
        raise UsageError(f"{table.where}: kernel needs root, a root filesystem to be started with")
    if kind in (Kind.IMAGE, Kind.SSH) and (not at or at.startswith("-")):
        raise UsageError(f"{table.where}: {kind.value} cannot be {at!r}")
    return kind, "" if kind is Kind.HERE else at


def _described(table: _Table, path: Path) -> hosts.Described | None:
    if "describes" not in table.rest:
        return None
    said = table.get("describes", str)
    try:
        beside = path.parent / said
        return hosts.find(str(beside) if beside.exists() and said not in hosts.named() else said)
    except PackError as error:
        raise UsageError(f"{table.where}: describes: {error}", error.hint) from error


def _case(table: _Table) -> Case:
    case = Case(
        _name(table), tuple(table.get("args", list, [])), table.get("status", int, 0), table.get("output", str, ""),
        table.get("stdin", str, ""),
    )  # fmt: skip
    table.done("args, name, output, status, stdin")
    try:
        re.compile(case.output)
    except re.error as error:
        raise UsageError(f"{table.where}: output is no regular expression: {error}") from error
    return case


def _name(table: _Table) -> str:
    name: str = table.get("name", str)
    if not name:
        raise UsageError(f"{table.where}: name is empty")
    return name
