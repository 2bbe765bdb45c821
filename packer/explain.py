"""Which slice of an archive runs on a host: this machine, or one that is described in a file."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from packer import hosts, native, targets
from packer.reader import Archive, reading

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from packer.hosts import Described


@dataclass(frozen=True)
class Judged:
    """What selection said."""

    fits: bool
    text: str
    """As ``FATPAR=explain`` prints it."""
    json: Mapping[str, Any]


def judge(path: Path, host: str | None) -> Judged:
    """Let the launcher's code select a slice.

    :param host: a file that describes a host, or a name of ``abi/hosts``; ``None``: this machine.
    :raises PackError: if the archive or the description cannot be read.
    """
    described = hosts.find(host) if host is not None else None
    with reading(path) as archive:
        return judged(archive, host, described)


def judged(archive: Archive, host: str | None, described: Described | None) -> Judged:
    """Do the same with what was read already."""
    ffi, lib = native.ffi(), native.lib()
    found: Any = ffi.new("struct host *")
    selection: Any = ffi.new("struct selection *")
    try:
        if described is None:
            lib.decide(found, selection, archive.pointer)
        else:
            hosts.describe_into(found, archive, described)
            lib.selectslice(selection, archive.pointer, found)
        text = native.own(lib.explaintext(archive.pointer, found, selection))
        return Judged(selection.slice != lib.NONE, text, _json(archive, host, found, selection))
    finally:
        lib.hostfree(found)


def on_known_hosts(path: Path, names: Sequence[str]) -> list[dict[str, list[str]]]:
    """Ask for each slice of an archive on which of the hosts that are known by name it runs.

    :param names: of the slices.
    :return: for each, host -> why it does not run there; only hosts of its machine and, unless it brings its own C
        library, of that.
    """
    of_kind = functools.cache(hosts.of_kind)
    said: dict[str, Mapping[str, Any]] = {}
    found = []
    for number, name in enumerate(names):
        platform = targets.target_of(name.removesuffix("-carried").removesuffix("-libc")).platform
        known = of_kind(platform.arch, "" if name.endswith("-libc") else platform.libc)
        said |= {host: judge(path, host).json for host in known if host not in said}
        found.append({host: said[host]["slices"][number]["reasons"] for host in known})
    return found


def _json(archive: Archive, host: str | None, found: Any, selection: Any) -> dict[str, Any]:
    lib = native.lib()
    slices = []
    for number, one in enumerate(archive.records("slice")):
        verdict = selection.verdicts[number]
        slices.append(
            {
                "name": archive.string(one.name),
                "fits": verdict.reason_count == 0,
                "python": _python(found, verdict.python),
                "reasons": [
                    native.own(lib.reasontext(archive.pointer, found, selection.verdicts + number, index))
                    for index in range(verdict.reason_count)
                ],
            }
        )
    chosen = slices[selection.slice]["name"] if selection.slice != lib.NONE else None
    return {"version": 1, "host": host, "choice": chosen, "slices": slices}


def _python(found: Any, index: int) -> str | None:
    if index == native.lib().NONE:
        return None
    return native.text(found.pythons[index].path)
