"""Which slice of an archive runs on each of many hosts that are described, judged by the launcher's selection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packer import explain, hosts
from packer.model import NeedKind
from packer.reader import Archive, reading
from packer.results import Choice, Matrix, Row

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from packer.explain import Judged


def predict(path: Path, names: Sequence[str], required: Collection[str] = ()) -> Matrix:
    """Predict what a launch would select.

    :param names: of hosts in ``abi/hosts``, or files that describe one; none: :func:`usual` ones.
    :param required: those of them on which a slice has to run.
    :raises PackError: if the archive or a description cannot be read.
    """
    with reading(path) as archive:
        return of_archive(archive, str(path), archive.id, names, required)


def of_archive(
    archive: Archive, file: str, identity: str, names: Sequence[str], required: Collection[str] = ()
) -> Matrix:
    """Do the same with an archive that is open.

    :param file: what it is called.
    :param identity: archive id.
    """
    chosen = list(dict.fromkeys([*(names or usual(machines(archive))), *required]))
    hosts.refuse_unknown(chosen)
    slices = tuple(archive.string(one.name) for one in archive.records("slice"))
    return Matrix(file, identity, slices, tuple(_row(archive, name, name in required) for name in chosen))


def choice_of(judged: Judged) -> Choice:
    """Take from what selection said of a host what a matrix shows of it."""
    slices = judged.json["slices"]
    python = next((one["python"] for one in slices if one["name"] == judged.json["choice"]), None)
    return Choice(judged.json["choice"], python, {one["name"]: tuple(one["reasons"]) for one in slices})


def machines(archive: Archive) -> list[str]:
    """Give the machines that an archive has slices for."""
    needs = archive.records("need")
    return list(dict.fromkeys(archive.string(need.name) for need in needs if need.kind == NeedKind.MACHINE))


def usual(machines: Collection[str]) -> list[str]:
    """Give the names of all hosts that come with the packer and are one of these machines."""
    return [name for name, host in hosts.every().items() if host.machine in machines]


def _row(archive: Archive, name: str, required: bool) -> Row:
    described = hosts.find(name)
    judged = explain.judged(archive, name, described)
    return Row(name, described.title, required, choice_of(judged))
