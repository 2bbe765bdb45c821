"""How long packed programs take to start, against a virtual environment, pex and shiv of the same wheels.

All tools use one interpreter, the one the launcher chooses, and are run in turn. Files are in the page cache. A *first*
launch has an empty store (PEX_ROOT, SHIV_ROOT) of its own; nothing is removed until the end, since a filesystem can be
busy with what was just removed. A *second* launch comes after two others.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measure import (
    Archive,
    Command,
    Findings,
    Times,
    alternate,
    machine,
    make_pex,
    make_shiv,
    pack_fat,
    run,
    table,
    tell,
    time_once,
)

from packer import explain, inspect, targets

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rich.table import Table

STARTS = 200
"""Runs of programs that do nothing, to see a difference of fractions of a millisecond."""


# What is launched -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Program:
    """A program that every tool packs."""

    name: str
    requirement: str
    """The distribution's name, or its wheel."""
    distribution: str
    entry: str
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tool:
    """One tool's form of a program."""

    name: str
    argv: tuple[str, ...]
    variable: str = ""
    """Names the directory to which it unpacks; empty: it does not."""

    @property
    def word(self) -> str:
        """The name as it can stand in a path: one with a blank would make pex go another way."""
        return re.sub(r"\W+", "-", self.name)


@dataclass(frozen=True)
class Place:
    """Where everything is made and run."""

    work: Path
    python: Path
    """The interpreter that all tools use."""
    abi: str

    @property
    def environment(self) -> dict[str, str]:
        """Of all that is timed; the interpreter comes first on PATH, for tools that look there."""
        return {"HOME": str(self.work / "home"), "PATH": f"{self.python.parent}:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}

    def command(self, tool: Tool, store: str) -> Command:
        """A launch with a store of this name."""
        own = {tool.variable: str(self.work / "stores" / store)} if tool.variable else {}
        return Command(tool.argv, {**self.environment, **own})


def write_wheel(directory: Path) -> Path:
    """Make the wheel of a program that does nothing: a function, and in ``bin/`` a script that is no Python."""
    files = {
        "nothing.py": b"def main():\n    pass\n",
        "nothing-1.dist-info/METADATA": b"Metadata-Version: 2.1\nName: nothing\nVersion: 1\n",
        "nothing-1.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "nothing-1.dist-info/entry_points.txt": b"[console_scripts]\nnothing = nothing:main\n",
        "nothing-1.data/scripts/through": b"#!/bin/sh\n:\n",
    }
    wheel = directory / "nothing-1-py3-none-any.whl"
    record = "nothing-1.dist-info/RECORD"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        lines = [f"{name},{_digest(content)},{len(content)}\n" for name, content in files.items()]
        archive.writestr(record, "".join([*lines, f"{record},,\n"]))
    return wheel


def _digest(content: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def make_tools(program: Program, archive: Archive, place: Place) -> list[Tool]:
    """Make every tool's form of a program out of an archive's wheels."""
    base, python = place.work / program.name, place.python

    def pex(suffix: str, *options: str) -> Path:
        output = base.with_suffix(suffix)
        return make_pex(output, archive, program.distribution, program.entry, *options, python=python)

    made = {
        "venv": (make_venv(base.with_suffix(".venv"), archive, place) / "bin" / program.name, ""),
        "fatpar": (archive.path, "FATPAR_STORE"),
        "pex": (pex(".pex"), "PEX_ROOT"),
        "pex --venv --sh-boot": (pex(".venv.pex", "--venv", "--sh-boot"), "PEX_ROOT"),
        "shiv": (make_shiv(base.with_suffix(".shiv"), archive, place.abi, program.entry, str(python)), "SHIV_ROOT"),
    }
    return [Tool(name, (str(path), *program.arguments), variable) for name, (path, variable) in made.items()]


def make_venv(directory: Path, archive: Archive, place: Place) -> Path:
    """Make a virtual environment with an archive's wheels, installed and compiled by pip."""
    run([str(place.python), "-m", "venv", "--without-pip", str(directory)])
    wheels = [str(wheel) for wheel in archive.wheels[place.abi]]
    pip = [sys.executable, "-m", "pip", "--python", str(directory / "bin/python")]
    run([*pip, "install", "--no-index", "--no-deps", *wheels])
    return directory


def chosen_python(archive: Path) -> Path:
    """The interpreter that the launcher chooses here."""
    judged = explain.judge(archive, None)
    for one in judged.json["slices"]:
        if one["name"] == judged.json["choice"]:
            return Path(one["python"])
    sys.exit(f"the archive does not run here:\n{judged.text}")


# First and second launch ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Launches:
    """Of one program: times by tool."""

    program: Program
    first: Mapping[str, Times]
    second: Mapping[str, Times]


def time_launches(program: Program, tools: list[Tool], place: Place, *, first: int, second: int) -> Launches:
    """Time all tools' launches of a program."""
    _check_output(program, tools, place)

    def fresh(tool: Tool) -> Callable[[int], Command]:
        return lambda number: place.command(tool, f"{program.name}-{tool.word}-{number}")

    def used(tool: Tool) -> Callable[[int], Command]:
        return lambda number: place.command(tool, f"{program.name}-{tool.word}")

    firsts = alternate({tool.name: fresh(tool) for tool in tools if tool.variable}, first)
    for tool in tools:
        time_once(place.command(tool, f"{program.name}-{tool.word}"))
    return Launches(program, firsts, alternate({tool.name: used(tool) for tool in tools}, second))


def _check_output(program: Program, tools: list[Tool], place: Place) -> None:
    """Make sure that all forms of a program do the same."""
    said = {}
    for tool in tools:
        command = place.command(tool, f"{program.name}-{tool.word}")
        said[tool.name] = subprocess.run(command.argv, env=command.environment, capture_output=True, check=True).stdout
    if len(set(said.values())) > 1:
        sys.exit(f"{program.name} says different things: {said}")


def show_launches(launches: Launches) -> Table:
    """A row per tool, milliseconds."""
    title = f"{' '.join((launches.program.name, *launches.program.arguments))}: milliseconds, median (least)"
    shown = table(title, "tool", "first launch", "CPU", "second launch", "CPU", "second launch / venv's")
    venv = statistics.median(launches.second["venv"].wall)
    for name, times in launches.second.items():
        first = launches.first.get(name)
        cells = [_ms(first.wall), _ms(first.cpu)] if first else ["", ""]
        shown.add_row(name, *cells, _ms(times.wall), _ms(times.cpu), f"{statistics.median(times.wall) / venv:.2f}")
    return shown


def _ms(seconds: tuple[float, ...]) -> str:
    return f"{statistics.median(seconds) * 1e3:.1f} ({min(seconds) * 1e3:.1f})"


# What the launcher itself takes -----------------------------------------------------------------------------------


def time_launcher(archive: Archive, place: Place, runs: int) -> dict[str, Times]:
    """Time a packed program that does nothing, and what the launcher executes for it, executed directly."""
    packed = Tool("packed", (str(archive.path),), "FATPAR_STORE")
    time_once(place.command(packed, "launcher"))
    (view,) = (place.work / "stores/launcher/v1/views").iterdir()
    (boot,) = (view / "tree/boot").glob("*.py")
    direct = Tool("direct", (str(view / "tree/bin/python"), "-I", str(boot), packed.argv[0]))
    return alternate({tool.name: partial(_same, place.command(tool, "launcher")) for tool in (packed, direct)}, runs)


def _same(command: Command, _: int) -> Command:
    return command


def count_calls(archive: Path, arguments: tuple[str, ...], place: Place) -> int:
    """Count the system calls of a second launch before it executes the interpreter."""
    command = place.command(Tool("strace", (str(archive), *arguments), "FATPAR_STORE"), f"strace-{archive.name}")
    time_once(command)
    log = place.work / "strace"
    subprocess.run(
        ["strace", "-o", str(log), *command.argv], env=command.environment, stdout=subprocess.DEVNULL, check=True
    )
    calls = log.read_text().splitlines()
    executed = [number for number, line in enumerate(calls) if line.startswith("execve(")]
    return executed[1] - executed[0] - 1


def show_launcher(times: Mapping[str, Times]) -> Table:
    """What the launcher takes is the difference."""
    shown = table("a program that does nothing: milliseconds", "", "median", "least", "CPU, median", "CPU, least")
    packed, direct = _summary(times["packed"]), _summary(times["direct"])
    difference = [a - b for a, b in zip(packed, direct, strict=True)]
    for name, values in (("packed", packed), ("what the launcher executes", direct), ("difference", difference)):
        shown.add_row(name, *(f"{value:.2f}" for value in values))
    return shown


def show_calls(calls: Mapping[int, int]) -> Table:
    """A row per archive."""
    shown = table("system calls of a second launch before execve", "bytes of the archive", "system calls")
    for size, count in calls.items():
        shown.add_row(f"{size:,}", str(count))
    return shown


def _summary(times: Times) -> list[float]:
    """Milliseconds: wall median and least, CPU median and least."""
    return [function(values) * 1e3 for values in (times.wall, times.cpu) for function in (statistics.median, min)]


# Unpacking ------------------------------------------------------------------------------------------------------


def time_unpacking(archive: Archive, place: Place, runs: int) -> dict[str, Times]:
    """Time the first launch of a program that ends at once, against ``zstd | tar`` of the same files."""
    tree, packed = place.work / "tree", place.work / "tree.tar"
    inspect.extract(archive.path, tree)
    with tarfile.open(packed, "w") as tar:
        tar.add(tree, ".")
    run(["zstd", "--quiet", "-19", str(packed)])
    tool = Tool("fatpar", (str(archive.path),), "FATPAR_STORE")

    def untar(number: int) -> Command:
        target = place.work / f"stores/untar-{number}"
        target.mkdir(parents=True)
        script = f"zstd -dc {packed}.zst | tar -x -C {target}"
        return Command(("/bin/sh", "-c", script), place.environment)

    return alternate({"fatpar": lambda number: place.command(tool, f"unpack-{number}"), "zstd -d, tar -x": untar}, runs)


def show_unpacking(times: Mapping[str, Times], archive: Archive) -> Table:
    """A row per way, milliseconds."""
    shown = table(f"unpacking {archive.raw:,} bytes: milliseconds, median (least)", "", "wall", "CPU")
    for name, one in times.items():
        shown.add_row(name, _ms(one.wall), _ms(one.cpu))
    return shown


# All of it ------------------------------------------------------------------------------------------------------


def is_here(*commands: str) -> bool:
    """Tell whether programs are installed, and the user which one is not."""
    missing = [name for name in commands if not shutil.which(name)]
    for name in missing:
        print(f"{name} is not installed: what it is needed for is not measured", file=sys.stderr)
    return not missing


def measure(work: Path, abi: str, *, first: int, second: int, quiet: bool) -> Findings:
    """Make everything in ``work`` and time it.

    :param first: number of first launches per tool.
    :param second: of second ones.
    """
    (work / "home").mkdir()
    wheel = write_wheel(work)
    nothing = Program("nothing", str(wheel), "nothing", "nothing:main")
    httpie = Program("http", "httpie", "httpie", "httpie.__main__:main", ("--version",))
    archives = {one: pack_fat(work / one.name, [one.requirement], abi, entry=one.entry) for one in (httpie, nothing)}
    place = Place(work, chosen_python(archives[nothing].path), abi)
    found = Findings({"python": str(place.python)}, quiet)
    for program, archive in archives.items():
        launches = time_launches(program, make_tools(program, archive, place), place, first=first, second=second)
        times = {"first": as_json(launches.first), "second": as_json(launches.second)}
        found.add(program.name, times, show_launches(launches))
    launcher = time_launcher(archives[nothing], place, STARTS)
    found.add("launcher", as_json(launcher), show_launcher(launcher))
    if is_here("strace"):
        calls = {
            archive.path.stat().st_size: count_calls(archive.path, program.arguments, place)
            for program, archive in archives.items()
        }
        found.add(
            "system_calls", [{"archive": size, "calls": count} for size, count in calls.items()], show_calls(calls)
        )
    if is_here("zstd", "tar"):
        through = pack_fat(work / "through", ["httpie", str(wheel)], abi, script="through")
        unpacking = time_unpacking(through, place, first)
        found.add("unpacking", as_json(unpacking), show_unpacking(unpacking, through))
    return found


def as_json(times: Mapping[str, Times]) -> dict[str, Any]:
    """Times by name, in milliseconds."""
    return {name: one.json() for name, one in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument(
        "--abi", default=targets.running_target().python.tag, help="Python ABI tag (default: the running Python's)"
    )
    parser.add_argument("--runs", type=int, default=20, help="second launches per tool (default: 20)")
    parser.add_argument("--first", type=int, default=5, help="first launches per tool (default: 5)")
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path("build"),
        help="where all is made and unpacked, and removed at the end; its filesystem counts (default: build)",
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    before = machine()
    options.directory.mkdir(exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="bench-", dir=options.directory.resolve()))
    try:
        found = measure(work, options.abi, first=options.first, second=options.runs, quiet=options.json)
    finally:
        run(["chmod", "-R", "u+w", str(work)])
        shutil.rmtree(work)
    tell(found.values, [], before, as_json=options.json)


if __name__ == "__main__":
    main()
