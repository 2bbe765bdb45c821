"""How fast the Python program of ``examples/drop-in`` is, packed and as a script, beside the C++ tool that it replaces.

All count the same values, with one interpreter, the one the launcher chooses, and are run in turn; files are in the
page cache. A *first* launch has an empty store of its own.
"""

from __future__ import annotations

import argparse
import os
import statistics
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from launch import chosen_python
from measure import Command, Findings, alternate, machine, pack_fat, run, table, tell, time_once
from rivals import workplace

from packer import targets

if TYPE_CHECKING:
    from collections.abc import Mapping

    from measure import Times
    from rich.table import Table

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "drop-in"
LINES = 500_000


def make(work: Path, abi: str) -> dict[str, Path]:
    """Make the three of them."""
    places = {name: work / name / "tally" for name in ("C++", "script", "packed")}
    for place in places.values():
        place.parent.mkdir()
    run([os.environ.get("CXX", "c++"), "-O2", "-o", str(places["C++"]), str(EXAMPLE / "tally.cc")])
    python = chosen_python(pack_fat(places["packed"], [str(EXAMPLE / "tally.py")], abi).path)
    places["script"].write_text(f"#!{python}\n{(EXAMPLE / 'tally.py').read_text()}")
    places["script"].chmod(0o755)
    return places


def write_log(path: Path) -> Path:
    """Write a file to count the lines of: half a million, with a thousand values, as a server logs them."""
    values = (f"10.0.{number * 7919 % 1000 // 250}.{number * 7919 % 250}" for number in range(LINES))
    path.write_text("".join(f"{value} GET /index.html 200 {len(value)}\n" for value in values))
    return path


def measure(work: Path, options: argparse.Namespace) -> Findings:
    """Make everything and time it."""
    tools = make(work, options.abi)
    log = write_log(work / "log")
    found = Findings({"lines": LINES}, options.json)
    for title, words in {"--version": ("--version",), f"{LINES:,} lines": (str(log),)}.items():
        counted = {name: run([str(tool), *words], **_environment(work, "store")) for name, tool in tools.items()}
        assert len(set(counted.values())) == 1, counted
        for name in tools:
            time_once(_command(work, tools[name], words))
        times = alternate({name: partial(_command, work, tool, words) for name, tool in tools.items()}, options.runs)
        if words == ("--version",):
            launch = partial(_command, work, tools["packed"], words, new=True)
            times |= alternate({"packed, first launch": launch}, options.first)
        found.add(title, {name: one.json() for name, one in times.items()}, _show(title, times))
    return found


def _command(work: Path, tool: Path, words: tuple[str, ...], number: int = 0, *, new: bool = False) -> Command:
    return Command((str(tool), *words), _environment(work, f"store-{number}" if new else "store"))


def _environment(work: Path, store: str) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "HOME": str(work), "FATPAR_STORE": str(work / store)}


def _show(title: str, times: Mapping[str, Times]) -> Table:
    shown = table(f"tally, {title}: milliseconds, median (least)", "", "wall", "CPU", "wall / script's")
    script = statistics.median(times["script"].wall)
    for name, one in times.items():
        ratio = f"{statistics.median(one.wall) / script:.2f}"
        shown.add_row(
            name, *(f"{statistics.median(v) * 1e3:.1f} ({min(v) * 1e3:.1f})" for v in (one.wall, one.cpu)), ratio
        )
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--abi", default=targets.running_target().python.tag, help="Python ABI tag")
    parser.add_argument("--runs", type=int, default=20, help="of each (default: 20)")
    parser.add_argument("--first", type=int, default=5, help="first launches (default: 5)")
    parser.add_argument("--directory", type=Path, default=Path("build"), help="where all is made (default: build)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    before = machine()
    with workplace(options.directory, None) as work:
        found = measure(work, options)
    tell(found.values, [], before, as_json=options.json)


if __name__ == "__main__":
    main()
