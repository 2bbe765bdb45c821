"""Which packed programs run on this machine, found as a store finds what it must not remove (``launcher/uses.c``).

A process uses a view or a layer whose path is in its ``cmdline`` or ``maps``, of whichever store and in whichever mount
namespace. What the view says of itself is read where the process sees it.
"""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from installer.utils import parse_entrypoints, parse_metadata_file

from packer import files, native, store
from packer.errors import PackError

if TYPE_CHECKING:
    from collections.abc import Sequence

_USED = re.compile(r"/v1/(?:views/([0-9a-f]{32})|layers/([0-9a-f]{64}))")
"""As in ``launcher/uses.c``: a name of which there is more is its beginning."""

_LONGEST = 8192
"""Characters of a line that can be before it: twice what a path can have."""


@dataclass(frozen=True)
class Process:
    """A process of a packed program."""

    pid: int
    user: int
    """Effective user id."""
    tool: str
    """The name by which the archive was called; if it has no such tool its first one's."""
    version: str
    """Of the distribution that the tool is from; "": nobody knows."""
    archive: str
    """The archive id; "": only layers are known, or the view is gone."""
    slice: str
    store: str
    """The store's directory, as the process has it."""
    view: str
    """Name of the view; "": the process shows none."""
    layers: tuple[str, ...]
    """Digests of the layers whose paths it shows."""
    command: tuple[str, ...]


@dataclass(frozen=True)
class Running:
    """What was found."""

    processes: tuple[Process, ...]
    hidden: int
    """Processes of which this user may not know what they have loaded."""


def processes(proc: Path = Path("/proc")) -> Running:
    """Look at all processes.

    :raises PackError: if /proc is not mounted.
    """
    pids = sorted((int(name) for name in os.listdir(proc) if name.isdecimal()), key=int) if proc.is_dir() else []
    if not pids:
        raise PackError("what programs run cannot be seen: /proc is not mounted")
    found = []
    hidden = 0
    for pid in pids:
        started, mapped = _text(proc / f"{pid}/cmdline"), _maps(proc / f"{pid}/maps")
        hidden += mapped is None
        found += list(_process(proc, pid, started, mapped or ""))
    return Running(tuple(found), hidden)


def _text(path: Path) -> str:
    """Give what a process was started with, its NULs as line ends; what is gone has nothing."""
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape").replace("\0", "\n")
    except OSError:
        return ""


def _said(path: Path) -> str:
    """Give a file of a view, which may be anybody's."""
    return files.small(path).decode("utf-8", "surrogateescape")


def _maps(path: Path) -> str | None:
    """Give what a process has mapped; None: it is not for us to know."""
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except PermissionError:
        return None
    except OSError:  # it is gone
        return ""


def _process(proc: Path, pid: int, started: str, mapped: str) -> Iterator[Process]:
    """Give it if it is a packed program's: for every view that it uses, and if there is none once for its layers."""
    views: dict[str, str] = {}
    layers: dict[str, str] = {}
    for base, view, layer in _used(f"{started}\n{mapped}"):
        if view:
            views.setdefault(view, base)
        else:
            layers.setdefault(layer, base)
    if layers and not views:
        views[""] = min(layers.values())
    command = tuple(started.removesuffix("\n").split("\n"))
    for view, base in views.items():
        said = _view(proc / f"{pid}/root{base}/v1/views/{view}") if view else None
        tool = _tool(said.tools if said else (), command)
        version = _version(proc / f"{pid}/root{base}/v1/views/{view}/tree", tool) if said else ""
        archive, part = (said.archive, said.slice) if said else ("", "")
        yield Process(
            pid, _user(proc, pid), tool, version, archive, part, base, view, tuple(sorted(layers)), command
        )  # fmt: skip


def _used(text: str) -> Iterator[tuple[str, str, str]]:
    """Give store, view and layer, one of these "", for each path in a text that leads to one."""
    for match in _USED.finditer(text):
        nearest = max(0, match.start() - _LONGEST)
        line = text.rfind("\n", nearest, match.start()) + 1
        if line or not nearest:
            base = text[text.index("/", line, match.start() + 1) : match.start()]  # in maps numbers stand before it
            yield base, match[1] or "", match[2] or ""


def _view(path: Path) -> store.View | None:
    try:
        return store.view(path)
    except OSError:  # pruned, or where we cannot go
        return None


def _user(proc: Path, pid: int) -> int:
    try:
        return (proc / str(pid)).stat().st_uid
    except OSError:
        return -1


def _tool(tools: Sequence[str], command: Sequence[str]) -> str:
    """Choose the tool of an archive that a process is: its name is the one that was typed."""
    typed = os.path.basename(command[0]) if command else ""
    return typed if typed in tools or not tools else tools[0]


def _version(tree: Path, tool: str) -> str:
    """Give the version of the distribution that installs a command of that name, or else bears it."""
    named = ""
    for info in sorted(tree.glob("lib*/python*/site-packages/*.dist-info")):
        said = parse_metadata_file(_said(info / "METADATA"))
        if tool in _scripts(info / "entry_points.txt"):
            return str(said["Version"] or "")
        if _normal(str(said["Name"])) == _normal(tool):
            named = str(said["Version"] or "")
    return named


def _scripts(path: Path) -> list[str]:
    try:
        return [name for name, *_ in parse_entrypoints(_said(path))]
    except (configparser.Error, AssertionError):  # nobody's else
        return []


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _place(one: Process) -> str:
    return f"{one.store}/v1/views/{one.view}" if one.view else one.store


def unseen(hidden: int) -> str:
    """Say why some processes may be missing in what was found."""
    said = "1 process was" if hidden == 1 else f"{hidden} processes were"
    may = "this root may not read, as in a container" if os.geteuid() == 0 else "only its user and root may read"
    return f"{said} not looked into: what a process has loaded (/proc/PID/maps) {may}"


def as_json(found: Running) -> dict[str, Any]:
    """Give it as JSON values; ``docs/json.md`` has their form."""
    said = [vars(one) | {"layers": list(one.layers), "command": list(one.command)} for one in found.processes]
    return {"version": 1, "processes": said, "hidden": found.hidden}


def table(found: Running) -> str:
    """Say it to people."""
    head = ("PID", "TOOL", "VERSION", "ARCHIVE", "SLICE", "VIEW")
    rows = [(str(one.pid), one.tool, one.version, one.archive[:12], one.slice, _place(one)) for one in found.processes]
    cells = [[native.printable(cell) or "-" for cell in row] for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )
