"""What the measurements share: packing, other tools' files of the same wheels, timed runs, tables."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from packer import facts, pack
from packer.config import Config
from packer.inspect import describe
from packer.job import job_of
from packer.progress import showing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

PACKING_LIMIT = 600.0
"""Seconds for resolving and downloading one slice."""


# Making ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Archive:
    """A packed file and the wheels that are in it."""

    path: Path
    wheels: Mapping[str, tuple[Path, ...]]
    """Python ABI tag -> wheel files, in the packer's cache; name of the slice, if a tag has several platforms."""
    raw: int
    """Bytes of the decoded blobs."""

    @property
    def distinct(self) -> frozenset[Path]:
        """Each wheel file once."""
        return frozenset(wheel for wheels in self.wheels.values() for wheel in wheels)

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.path.stat().st_size


def pack_fat(
    output: Path,
    inputs: Sequence[str],
    abis: str,
    *,
    entry: str | None = None,
    script: str | None = None,
    bytecode: str = "none",
    platforms: str = "manylinux2014",
    cache: Path | None = None,
    **more: Any,
) -> Archive:
    """Pack ``inputs`` for ``abis``; the archive calls ``entry``, or is the command ``script``.

    :param bytecode: none by default, since the wheels and the other tools' files have none.
    :param cache: instead of the packer's own.
    :param more: further fields of :class:`packer.config.Config`.
    """
    config = Config(
        inputs=tuple(inputs), abis=f"{platforms},{abis}", entry=entry, console_script=script, output=output,
        bytecode=bytecode, **more,
    )  # fmt: skip
    job, _ = job_of(config, PACKING_LIMIT)
    if cache:
        job = replace(job, cache=cache)
    with showing(quiet=False) as progress:
        pack.pack(job, progress)
    described = describe(output)
    slices = {
        one["name"]: tuple(_wheel(job.cache, part) for part in one["distributions"])
        for one in described["manifest"]["slices"]
    }
    tags = [name.partition("-")[0] for name in slices]
    labels = tags if len(set(tags)) == len(tags) else list(slices)
    return Archive(output, dict(zip(labels, slices.values(), strict=True)), described["raw_blobs"])


def _wheel(cache: Path, part: Mapping[str, str]) -> Path:
    """Find a wheel in the packer's cache: as it was downloaded, or where it was built."""
    downloaded = cache / "wheels" / part["sha256"] / part["wheel"]
    return downloaded if downloaded.exists() else next(cache.glob(f"built/**/{part['wheel']}"))


def full_version(abi: str) -> str:
    """Give the newest release that ``abi`` has had: ``3.9.25``."""
    return facts.pythons()[abi].abi.full_version


def make_pex(
    output: Path, archive: Archive, requirement: str, entry: str, *options: str, python: Path | None = None
) -> Path:
    """Make one pex of an archive's wheels.

    :param options: as ``--venv --sh-boot``.
    :param python: the interpreter it is for; ``None``: all the archive's ABIs, of which no interpreter is needed.
    """
    platforms = [f"manylinux2014_{platform.machine()}-cp-{full_version(abi)}-{abi}" for abi in archive.wheels]
    targets = [("--platform", one) for one in platforms] if python is None else [("--python", str(python))]
    files = {wheel.name: wheel for wheel in archive.distinct}
    run(
        [
            *(sys.executable, "-m", "pex", "--no-index", requirement, "--entry-point", entry, *options),
            *(word for target in targets for word in target),
            *(word for wheel in files.values() for word in ("--pre-resolved-dist", str(wheel))),
            *(("--python-shebang", "/usr/bin/env python3") if python is None else ()),
            *("--output-file", str(output)),
        ],
        PEX_ROOT=str(output.parent / "pex-build"),
    )
    return _check(output, archive.distinct)


def make_shiv(output: Path, archive: Archive, abi: str, entry: str, python: str = "/usr/bin/env python3") -> Path:
    """Make a shiv of an archive's wheels for one ABI, which is all a shiv can hold."""
    version = full_version(abi).rpartition(".")[0]
    platforms = ("manylinux2014", "manylinux_2_17", "manylinux_2_12", "manylinux_2_5", "manylinux1")
    run(
        [
            *(sys.executable, "-m", "shiv", "--quiet", "--entry-point", entry, "--python", python),
            *("--output-file", str(output), "--no-deps", "--no-index", "--only-binary", ":all:"),
            *("--implementation", "cp", "--python-version", version, "--abi", abi, "--abi", "abi3", "--abi", "none"),
            *(word for name in platforms for word in ("--platform", f"{name}_{platform.machine()}")),
            *(str(wheel) for wheel in archive.wheels[abi]),
        ]
    )
    return _check(output, archive.wheels[abi])


def _check(made: Path, wheels: Iterable[Path]) -> Path:
    """Make sure that a file to be measured holds what it shall hold."""
    with zipfile.ZipFile(made) as members:
        held = {Path(name).parent.stem.lower() for name in members.namelist() if name.endswith(".dist-info/METADATA")}
    missing = [wheel.name for wheel in wheels if "-".join(wheel.name.split("-")[:2]).lower() not in held]
    if missing:
        sys.exit(f"{made} lacks {', '.join(missing)}")
    return made


def run(command: Sequence[str], **environment: str) -> str:
    """Run a command that has to succeed; what it prints."""
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}failed with {done.returncode}")
    return done.stdout


# Timing ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Times:
    """Seconds of repeated runs."""

    wall: tuple[float, ...]
    cpu: tuple[float, ...]
    """User and system, of the process and the children that it waited for."""

    def json(self) -> dict[str, Any]:
        """Milliseconds."""
        return {
            name: {"median": statistics.median(values) * 1e3, "least": min(values) * 1e3, "runs": len(values)}
            for name, values in (("wall", self.wall), ("cpu", self.cpu))
        }


@dataclass(frozen=True)
class Command:
    """Something to be timed."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    """All of it."""


def time_once(command: Command) -> tuple[float, float]:
    """Run a command once, its output thrown away: wall and CPU seconds."""
    null = (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)
    start = time.perf_counter()
    process = os.posix_spawn(command.argv[0], command.argv, dict(command.environment), file_actions=[null])
    _, status, usage = os.wait4(process, 0)
    wall = time.perf_counter() - start
    if status:
        sys.exit(f"{' '.join(command.argv)} failed with {os.waitstatus_to_exitcode(status)}")
    return wall, usage.ru_utime + usage.ru_stime


_PEAK = """
import os, sys
child = os.posix_spawn(sys.argv[1], sys.argv[1:], dict(os.environ), file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)])
_, status, usage = os.wait4(child, 0)
print(usage.ru_maxrss)
sys.exit(status != 0)
"""
"""In a Python as small as can be: what a process was forked from counts in its peak."""


def peak_memory(command: Command) -> int:
    """Tell the most memory, in kB, of a program's process, or of the largest of those that it waited for."""
    child = [str(Path(sys.executable).resolve()), "-I", "-S", "-c", _PEAK, *command.argv]
    done = subprocess.run(child, env=command.environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command.argv)} failed\n{done.stderr}")
    return int(done.stdout)


def alternate(commands: Mapping[str, Callable[[int], Command]], runs: int) -> dict[str, Times]:
    """Time commands in turn, so that what else the machine does meets all of them.

    :param commands: each makes its command for run number 0, 1, ...
    """
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for number in range(runs):
        for name, make in commands.items():
            taken[name].append(time_once(make(number)))
    return {name: Times(*zip(*pairs, strict=True)) for name, pairs in taken.items()}


# Telling --------------------------------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    model = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    return {
        "cpu": model[0] if model else platform.machine(),
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "load": os.getloadavg()[0],
    }


@dataclass
class Findings:
    """What was measured so far, for a program and for people."""

    values: dict[str, Any]
    quiet: bool
    """Nobody reads the tables."""

    def add(self, name: str, value: object, *tables: Table) -> None:
        """Put a measurement at the end, and print its tables: an hour's work is not lost with what fails after it."""
        self.values[name] = value
        for each in () if self.quiet else tables:
            show(each)


def tell(result: Mapping[str, Any], tables: Sequence[Table], before: Mapping[str, Any], *, as_json: bool) -> None:
    """Print a measurement, for a program or for people.

    :param before: what :func:`machine` said when it began.
    """
    load = os.getloadavg()[0]
    if as_json:
        print(json.dumps({"version": 1, "machine": {**before, "load_after": load}, **result}, indent=2))
        return
    print(f"{before['cpu']}, {before['cpus']} CPUs, Linux {before['kernel']}, load {before['load']:.1f} to {load:.1f}")
    for each in tables:
        show(each)


def show(one: Table) -> None:
    """Print a table."""
    console = Console(width=200, highlight=False)
    title, one.title = one.title, None  # rich would wrap a title to the width of its table
    with console.capture() as text:
        console.print(one)
    print(f"\n{title}\n\n{text.get().strip()}", flush=True)


def table(title: str, *columns: str) -> Table:
    """An empty table, to be printed in Markdown: the first column is text, the others are numbers."""
    made = Table(title=title, box=box.MARKDOWN)
    for number, column in enumerate(columns):
        made.add_column(column, justify="right" if number else "left", no_wrap=True)
    return made
