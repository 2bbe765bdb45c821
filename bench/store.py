"""One store for many programs: ten tools that use pandas, packed separately, launched on one machine.

The layers of one wheel shall be one directory, whoever packed it: so tools are packed with two caches of the packer,
the one made with umask 022 and the other with 077, with different ``SOURCE_DATE_EPOCH``, requirements in different
order, and all but the first with ``--fast``.
"""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from measure import Command, pack_fat, run, table, time_once

from packer import targets

if TYPE_CHECKING:
    from collections.abc import Mapping

    from measure import Archive, Findings
    from shop import Shop

SHARED = ("numpy==2.0.2", "pandas==2.2.3")

TOOLS: Mapping[str, tuple[str, ...]] = {
    "csvs-to-sqlite==1.3.1": ("csvs-to-sqlite", "--help"),
    "exchange-calendars==4.13.2": ("ecal", "XNYS", "2024"),
    "pysradb==2.5.1": ("pysradb", "--help"),
    "pandas-schema==0.3.6": (),
    "eurostat==1.1.1": (),
    "fredapi==0.5.2": (),
    "sdmx1==2.28.0": (),
    "sidetable==0.9.1": (),
    "stockstats==0.6.10": (),
    "tabula-py==2.10.0": (),
}
"""Requirement -> its command and arguments for it; empty: it has none, and a program that imports it is packed."""

MODULES = {"sdmx1": "sdmx", "tabula-py": "tabula", "pandas-schema": "pandas_schema"}
"""Distribution -> its module, if that is called otherwise."""

GOAL = 1.03


def measure(shop: Shop, found: Findings) -> None:
    """Measure the store that ten tools have unpacked to."""
    abi = targets.running_target().python.tag
    directory, place = shop.work / "tools", shop.work / "store"
    directory.mkdir()
    archives = [_pack(directory, number, abi) for number in range(len(TOOLS))]
    environment = {"HOME": str(directory), "PATH": f"{Path(sys.executable).resolve().parent}:/usr/bin:/bin"}
    for archive, command in zip(archives, TOOLS.values(), strict=True):
        time_once(Command((str(archive.path), *command[1:]), {**environment, "FATPAR_STORE": str(place)}))
    wheels = {wheel.name: wheel for archive in archives for wheel in archive.distinct}
    files = sum(map(_unpacked, wheels.values()))
    trees = sum(_size(layer / "tree") for layer in (place / "v1/layers").iterdir())
    bytecode = sum(_size(layer / "pyc") for layer in (place / "v1/layers").iterdir())
    views = _size(place / "v1/views")
    used = int(run(["du", "-s", "--block-size=1", str(place)]).split()[0])
    alone = sum(_unpacked(wheel) for archive in archives for wheel in archive.distinct)
    shown = table(f"{len(TOOLS)} tools with pandas in one store: bytes", "", "bytes", "part of the wheels' files")
    rows = {
        f"files of {len(wheels)} wheels, each once": files,
        "files of the wheels, for each tool again": alone,
        "the store's layers, tree/": trees,
        "the store's views": views,
        "bytecode that interpreters kept": bytecode,
        "the store on disk (du), with bytecode": used,
    }
    for name, size in rows.items():
        shown.add_row(name, f"{size:,}", f"{size / files:.3f}")
    met = "met" if trees + views <= files * GOAL else "missed"
    shown.add_row("layers and views", f"{trees + views:,}", f"{(trees + views) / files:.4f}, goal {GOAL:g}: {met}")
    layers = len(list((place / "v1/layers").iterdir()))
    shown.add_row("layers: wheels, and an app of each tool", f"{layers}", f"{len(wheels) + len(archives)} expected")
    found.add("store", {"bytes": rows, "layers": layers, "wheels": len(wheels), "tools": list(TOOLS)}, shown)


def _pack(directory: Path, number: int, abi: str) -> Archive:
    """Pack one of the tools in its own way."""
    requirement, command = list(TOOLS.items())[number]
    name = command[0] if command else requirement.partition("=")[0]
    inputs = [requirement, *SHARED] if number % 2 else [*SHARED, requirement]
    if not command:
        script = directory / f"{name}-run.py"
        script.write_text(f"import {MODULES.get(name, name)}\n")
        inputs.append(str(script))
    masked = os.umask((0o022, 0o077)[number % 2])
    os.environ["SOURCE_DATE_EPOCH"] = str(1_500_000_000 + number * 86_400)
    try:
        return pack_fat(
            directory / name, inputs, abi, script=name if command else None, cache=directory / f"cache-{number % 2}",
            fast=number > 0,
        )  # fmt: skip
    finally:
        os.umask(masked)
        del os.environ["SOURCE_DATE_EPOCH"]


def _unpacked(wheel: Path) -> int:
    """Bytes of a wheel's files."""
    with zipfile.ZipFile(wheel) as members:
        return sum(member.file_size for member in members.infolist())


def _size(directory: Path) -> int:
    """Bytes of all files below a directory, and of the links' targets' names."""
    return sum(path.lstat().st_size for path in directory.rglob("*") if path.is_symlink() or path.is_file())
