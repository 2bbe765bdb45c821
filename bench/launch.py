"""How long packed programs take to start, against a virtual environment and other packers' files of the same wheels.

    python bench/launch.py [PART...] [--tools fatpar,venv,...] [--keep DIR] [--picture FILE]

All tools use one interpreter, the one the launcher chooses, without the machine's own packages (bench/rivals.py), and
are run in turn. Files are in the page cache. A *first* launch has an empty store (PEX_ROOT, SHIV_ROOT, TMPDIR) of its
own; nothing is removed until the end, since a filesystem can be busy with what was just removed. A *second* launch
comes after two others. Memory is the peak of the largest process.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tarfile
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import picture
from measure import (
    Archive,
    Command,
    Findings,
    Times,
    alternate,
    machine,
    pack_fat,
    peak_memory,
    run,
    table,
    tell,
    time_once,
)
from rivals import (
    MAKERS,
    AbsentError,
    Place,
    Program,
    Tool,
    chosen,
    hide_packages,
    make_tools,
    mounted,
    workplace,
    write_wheel,
)

from packer import explain, inspect, targets

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rich.table import Table

STARTS = 200
"""Runs of programs that do nothing, to see a difference of fractions of a millisecond."""

LONG = ("Nuitka onefile",)
"""Compiling takes long: made of the program that does nothing alone, unless named by the user."""

DESCRIBE = """
import io, pandas

def main():
    rows = "".join(f"{number % 7},{number * 0.5},{'abc'[number % 3]}\\n" for number in range(200))
    print(pandas.read_csv(io.StringIO("a,b,c\\n" + rows)).describe())
"""


# What is launched -----------------------------------------------------------------------------------------------


def nothing_wheel(directory: Path) -> Path:
    """Make the wheel of a program that does nothing: a function, and in ``bin/`` a script that is no Python."""
    script = {"nothing-1.data/scripts/through": "#!/bin/sh\n:\n"}
    return write_wheel(directory, "nothing", "def main():\n    pass\n", files=script)


def programs(directory: Path) -> dict[str, Program]:
    """All programs, by the names that a user chooses them by."""
    nothing = nothing_wheel(directory)
    describe = write_wheel(directory, "describe", DESCRIBE, ["pandas"])
    return {
        "nothing": Program("nothing", (str(nothing),), "nothing", "nothing:main"),
        "http": Program("http", ("httpie==3.2.4",), "httpie", "httpie.__main__:main", ("--version",)),
        "black": Program("black", ("black==25.1.0",), "black", "black:patched_main", ("--version",),
            ("black", "blib2to3"), ("black",)),
        "describe": Program("describe", (str(describe), "numpy==2.0.2", "pandas==2.2.3"), "describe", "describe:main"),
    }  # fmt: skip


def chosen_python(archive: Path) -> Path:
    """The interpreter that the launcher chooses here."""
    judged = explain.judge(archive, None)
    for one in judged.json["slices"]:
        if one["name"] == judged.json["choice"]:
            return Path(one["python"])
    sys.exit(f"the archive does not run here:\n{judged.text}")


def interpreters(place: Place) -> list[Tool]:
    """Python itself, doing nothing."""
    python = str(place.python)
    return [
        Tool("python -I -S -c pass", (python, "-I", "-S", "-c", "pass")),
        Tool("python -c pass", (python, "-c", "pass")),
    ]


# First and second launch ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Launches:
    """Of one program: times by tool."""

    program: Program
    first: Mapping[str, Times]
    second: Mapping[str, Times]
    memory: Mapping[str, int]
    """Most kB of the largest process, in a second launch."""

    def json(self) -> dict[str, Any]:
        """JSON values."""
        return {"first": as_json(self.first), "second": as_json(self.second), "peak_kilobytes": dict(self.memory)}


def time_launches(program: Program, tools: Sequence[Tool], place: Place, *, first: int, second: int) -> Launches:
    """Time all tools' launches of a program."""

    def fresh(tool: Tool) -> Callable[[int], Command]:
        return lambda number: place.command(tool, f"{program.name}-{tool.word}-{number}")

    def used(tool: Tool) -> Command:
        return place.command(tool, f"{program.name}-{tool.word}")

    firsts = alternate({tool.name: fresh(tool) for tool in tools if tool.variable}, first)
    for tool in tools:
        time_once(used(tool))
    seconds = alternate({tool.name: partial(_same, used(tool)) for tool in tools}, second)
    return Launches(program, firsts, seconds, {tool.name: peak_memory(used(tool)) for tool in tools})


def working(program: Program, tools: Sequence[Tool], place: Place) -> tuple[list[Tool], list[str]]:
    """Part the forms of a program that say what the first one does from those that do not.

    :return: those that work, and a line for each other one.
    """
    said: dict[str, tuple[int, bytes]] = {}
    wrong = []
    for tool in tools:
        command = place.command(tool, f"{program.name}-{tool.word}")
        done = subprocess.run(command.argv, env=command.environment, capture_output=True, check=False)
        said[tool.name] = done.returncode, done.stdout
        if done.returncode or said[tool.name] != said[tools[0].name]:
            text = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines() or ["nothing"]
            wrong.append(f"{tool.name} does not work, it says: {text[-1][:200]}")
            print(f"{program.name}: {wrong[-1]}", file=sys.stderr)
            del said[tool.name]
    if not said:
        sys.exit(f"{program.name} does not work at all")
    return [tool for tool in tools if tool.name in said], wrong


def show_launches(launches: Launches, remarks: Sequence[str]) -> list[Table]:
    """A row per tool, milliseconds; and a line for each tool that is not among them."""
    title = f"{' '.join((launches.program.name, *launches.program.arguments))}: milliseconds, median (least)"
    columns = ("first launch", "CPU", "second launch", "CPU", "second / venv's", "least", "CPU", "peak MB")
    shown = table(title, "tool", *columns)
    venv = launches.second.get("venv")
    for name, times in launches.second.items():
        first = launches.first.get(name)
        cells = [_ms(first.wall), _ms(first.cpu)] if first else ["", ""]
        beside = [f"{a / b:.2f}" for a, b in zip(_three(times), _three(venv), strict=True)] if venv else ["", "", ""]
        memory = f"{launches.memory[name] / 1024:.1f}"
        shown.add_row(name, *cells, _ms(times.wall), _ms(times.cpu), *beside, memory)
    if not remarks:
        return [shown]
    absent = table(f"{launches.program.name}: not in the table", "tool")
    for remark in remarks:
        absent.add_row(remark)
    return [shown, absent]


def _three(times: Times) -> tuple[float, float, float]:
    """What is compared: CPU time depends least on what else the machine does."""
    return statistics.median(times.wall), min(times.wall), statistics.median(times.cpu)


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


PARTS = ("nothing", "http", "black", "describe", "launcher", "unpacking")


def measure(work: Path, options: argparse.Namespace) -> Findings:
    """Make everything in ``work`` and time it."""
    (work / "home").mkdir(exist_ok=True)
    shutil.rmtree(work / "stores", ignore_errors=True)
    all_programs, parts = programs(work), options.parts or PARTS

    def pack(name: str) -> Archive:
        one = all_programs[name]
        return pack_fat(work / one.name, one.inputs, options.abi, entry=one.entry)

    nothing = pack("nothing")
    place = Place(work, chosen_python(nothing.path), options.abi)
    found = Findings({"python": str(place.python)}, options.json)
    seconds: dict[str, Mapping[str, Times]] = {}
    for name, program in all_programs.items():
        if name in parts:
            archive = nothing if name == "nothing" else pack(name)
            launches = launch_all(program, archive, place, options, found)
            seconds[" ".join((name, *program.arguments))] = launches.second
    if options.picture:
        medians = {
            name: {tool: statistics.median(one.wall) * 1e3 for tool, one in of.items()} for name, of in seconds.items()
        }
        options.picture.write_text(picture.bars(medians, "milliseconds, median of warm launches"))
    if "launcher" in parts:
        measure_launcher(nothing, pack("http"), place, found)
    if "unpacking" in parts and is_here("zstd", "tar"):
        inputs = [*all_programs["http"].inputs, *all_programs["nothing"].inputs]
        through = pack_fat(work / "through", inputs, options.abi, script="through")
        unpacking = time_unpacking(through, place, options.first)
        found.add("unpacking", as_json(unpacking), show_unpacking(unpacking, through))
    return found


def launch_all(
    program: Program, archive: Archive, place: Place, options: argparse.Namespace, found: Findings
) -> Launches:
    """Make, check and time one program's forms."""
    names = [one for one in chosen([*MAKERS], options.tools) if options.tools or one not in LONG or _is_small(program)]
    tools, absent = make_tools(program, archive, place, names)
    with ExitStack() as stack:
        for tool in tools:
            stack.enter_context(mounted(tool))
        if program.name == "nothing":
            tools = [*interpreters(place), *tools]
        tools, wrong = working(program, tools, place)
        launches = time_launches(program, tools, place, first=options.first, second=options.runs)
    remarks = [*absent, *wrong]
    found.add(program.name, {**launches.json(), "remarks": remarks}, *show_launches(launches, remarks))
    return launches


def _is_small(program: Program) -> bool:
    return program.name == "nothing"


def measure_launcher(nothing: Archive, httpie: Archive, place: Place, found: Findings) -> None:
    """Time the launcher itself, and count its calls."""
    launcher = time_launcher(nothing, place, STARTS)
    found.add("launcher", as_json(launcher), show_launcher(launcher))
    if is_here("strace"):
        calls = {
            one.size: count_calls(one.path, arguments, place)
            for one, arguments in ((httpie, ("--version",)), (nothing, ()))
        }
        listed = [{"archive": size, "calls": count} for size, count in calls.items()]
        found.add("system_calls", listed, show_calls(calls))


def as_json(times: Mapping[str, Times]) -> dict[str, Any]:
    """Times by name, in milliseconds."""
    return {name: one.json() for name, one in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--tools", default="", help=f"of {', '.join(MAKERS)}; separated by commas (default: all)")
    parser.add_argument(
        "--abi", default=targets.running_target().python.tag, help="Python ABI tag (default: the running Python's)"
    )
    parser.add_argument("--runs", type=int, default=20, help="second launches per tool (default: 20)")
    parser.add_argument("--first", type=int, default=5, help="first launches per tool (default: 5)")
    parser.add_argument("--picture", type=Path, help="draw the second launches into this SVG file")
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path("build"),
        help="where all is made and unpacked, and removed at the end; its filesystem counts (default: build)",
    )
    parser.add_argument("--keep", type=Path, help="make all here instead, and take what was made here before")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"{', '.join(unknown)}: unknown; there are {', '.join(PARTS)}")
    hide_packages()
    before = machine()
    try:
        with workplace(options.directory, options.keep) as work:
            found = measure(work, options)
    except AbsentError as error:
        sys.exit(str(error))
    tell(found.values, [], before, as_json=options.json)


if __name__ == "__main__":
    main()
