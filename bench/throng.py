"""Ten thousand launches of a packed program, from eight processes at once, beside as many in a virtual environment.

    python bench/throng.py [--launches 10000] [--tools venv,fatpar]

Each launch is given another word, and has to say it and what an extension module makes of it, say nothing else, and
end with 0. The tools take turns, some hundred launches each; the first of them find an empty store.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch import chosen_python
from measure import Command, Findings, machine, pack_fat, table, tell
from rivals import MAKERS, Place, Program, chosen, hide_packages, make_tools, workplace, write_wheel

from packer import targets

if TYPE_CHECKING:
    from rich.table import Table

PROCESSES = 8

TURN = 50
"""Launches of each process before it is another tool's turn."""

REQUIRED = "markupsafe==3.0.3"

PROGRAM = """
import sys
from markupsafe._speedups import _escape_inner

def main():
    print(_escape_inner(f"<{sys.argv[1]}>"))
"""


@dataclass
class Outcome:
    """Of one tool's launches."""

    launches: int = 0
    seconds: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)
    """What was wrong -> how often."""

    @property
    def rate(self) -> float:
        """Launches per second."""
        return self.launches / self.seconds

    def json(self) -> dict[str, Any]:
        """JSON values."""
        return {"launches": self.launches, "per_second": self.rate, "failures": dict(self.failures)}


def turn(command: Command, first: int, launches: int) -> list[str]:
    """Launch a program again and again, one after the other; what was wrong."""
    wrong = []
    for number in range(first, first + launches):
        done = subprocess.run(
            [*command.argv, str(number)], env=command.environment, capture_output=True, text=True, check=False
        )
        if (done.returncode, done.stdout, done.stderr) != (0, f"&lt;{number}&gt;\n", ""):
            wrong.append(f"{done.returncode}, {(done.stderr or done.stdout).strip()[-200:]}")
    return wrong


def throng(commands: dict[str, Command], launches: int) -> dict[str, Outcome]:
    """Launch all of them in turn, from all processes at once."""
    outcomes = {name: Outcome() for name in commands}
    with ProcessPoolExecutor(PROCESSES) as pool:
        list(pool.map(time.sleep, [0.1] * PROCESSES))  # the processes are there before anything is timed
        while min(one.launches for one in outcomes.values()) < launches:
            for name, command in commands.items():
                one = outcomes[name]
                share = min(TURN, -(-(launches - one.launches) // PROCESSES))
                begun = time.perf_counter()
                turns = [
                    pool.submit(turn, command, one.launches + number * share, share) for number in range(PROCESSES)
                ]
                for each in turns:
                    one.failures.update(each.result())
                one.seconds += time.perf_counter() - begun
                one.launches += PROCESSES * share
    return outcomes


def show(outcomes: dict[str, Outcome]) -> Table:
    """A row per tool."""
    shown = table(
        f"launches from {PROCESSES} processes at once", "tool", "launches", "failures", "per second", "beside venv's"
    )
    venv = outcomes.get("venv")
    for name, one in outcomes.items():
        beside = f"{one.rate / venv.rate:.2f}" if venv else ""
        shown.add_row(name, f"{one.launches:,}", f"{one.failures.total():,}", f"{one.rate:.1f}", beside)
    return shown


def measure(work: Path, options: argparse.Namespace) -> Findings:
    """Make the program and launch it."""
    (work / "home").mkdir(exist_ok=True)
    wheel = write_wheel(work, "word", PROGRAM, [REQUIRED])
    program = Program("word", (str(wheel), REQUIRED), "word", "word:main", collected=("markupsafe",))
    archive = pack_fat(work / "word", program.inputs, options.abi, entry=program.entry)
    place = Place(work, chosen_python(archive.path), options.abi)
    tools, _ = make_tools(program, archive, place, chosen([*MAKERS], options.tools))
    outcomes = throng({tool.name: place.command(tool, f"throng-{tool.word}") for tool in tools}, options.launches)
    found = Findings({"python": str(place.python)}, options.json)
    found.add("throng", {name: one.json() for name, one in outcomes.items()}, show(outcomes))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--launches", type=int, default=10_000, help="for each tool (default: 10000)")
    parser.add_argument("--tools", default="venv,fatpar", help="separated by commas (default: venv,fatpar)")
    parser.add_argument("--abi", default=targets.running_target().python.tag, help="Python ABI tag")
    parser.add_argument("--directory", type=Path, default=Path("build"), help="where all is made (default: build)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    hide_packages()
    before = machine()
    with workplace(options.directory, None) as work:
        found = measure(work, options)
    tell(found.values, [], before, as_json=options.json)
    failures = {name: one["failures"] for name, one in found.values["throng"].items() if one["failures"]}
    if failures:
        sys.exit(f"launches failed: {failures}")


if __name__ == "__main__":
    main()
