"""What a delta costs a first launch: one interpreter, whose slice is once the base and once a delta.

Two archives hold the same two ABIs in either order. PATH leads to the interpreter of one of them only, so that both
archives run the same slice; in one of them its blobs are deltas against the other ABI's, which are decoded, too. They
are packed with ``--fast``, which lays out the same blobs.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch import nothing_wheel
from measure import Command, alternate, pack_fat, peak_memory, table

from packer import pythons

if TYPE_CHECKING:
    from collections.abc import Callable

    from measure import Findings, Times
    from shop import Shop

INPUTS = ("numpy==2.0.2", "pandas==2.2.3")

MEASURED, OTHER = "cp310", "cp39"

RUNS = 7

GOAL = 1.3

_SYSTEM = (Path("/usr/bin"), Path("/usr/local/bin"))


def measure(shop: Shop, found: Findings) -> None:
    """Time first launches, and tell the launcher's peak memory."""
    interpreter = next((one for one in pythons.find() if one.tag == MEASURED and one.path.parent not in _SYSTEM), None)
    if interpreter is None:
        print(f"there is no interpreter of {MEASURED}: first launches of deltas are not measured", file=sys.stderr)
        return
    script = shop.work / "program.py"
    script.write_text("import pandas\n")
    wheel = nothing_wheel(shop.work)
    environment = {"HOME": str(shop.work), "PATH": str(interpreter.path.parent), "LC_ALL": "C.UTF-8"}
    for bytecode in ("none", "all"):
        places = {}
        for role, abis in (("base", f"{MEASURED},{OTHER}"), ("delta", f"{OTHER},{MEASURED}")):
            places[role] = shop.work / f"first-{role}-{bytecode}"
            places[role].mkdir()
            pack_fat(
                places[role] / "program", [*INPUTS, str(wheel), str(script)], abis, bytecode=bytecode, fast=True,
                tool=("through=through",),
            )  # fmt: skip
            (places[role] / "through").symlink_to("program")
        values: dict[str, Any] = {}
        shown = table(
            f"first launch of {MEASURED} with numpy and pandas, bytecode {bytecode}: milliseconds, {RUNS} runs",
            "", "median", "least", "CPU, median", "delta / base, median", "least",
        )  # fmt: skip
        for program, what in (("program", "import pandas"), ("through", "unpacking alone, through execve")):
            times = alternate({role: _fresh(place, program, environment) for role, place in places.items()}, RUNS)
            values[program] = {role: one.json() for role, one in times.items()}
            for role, one in times.items():
                ratios = [
                    f"{f(one.wall) / f(times['base'].wall):.2f}" if role == "delta" else "" for f in (_median, min)
                ]
                goal = f" (goal {GOAL:g})" if role == "delta" else ""
                cells = [f"{f(values_) * 1e3:.0f}" for f, values_ in _columns(one)]
                shown.add_row(f"{what}, {role}", *cells, f"{ratios[0]}{goal}", ratios[1])
        peaks = {role: _peak((place / "through"), environment, place / "peak") for role, place in places.items()}
        peaks["/bin/true, to compare"] = _peak(Path("/bin/true"), environment, shop.work)
        values["peak_kilobytes"] = peaks
        memory = table(f"the launcher's peak memory before execve, bytecode {bytecode}", "", "kB (ru_maxrss)")
        for name, size in peaks.items():
            memory.add_row(name, f"{size:,}")
        found.add(f"first_{bytecode}", values, shown, memory)


def _fresh(place: Path, program: str, environment: dict[str, str]) -> Callable[[int], Command]:
    """Make launches that each have an empty store."""
    return lambda number: Command(
        (str(place / program),), {**environment, "FATPAR_STORE": str(place / f"{program}-{number}")}
    )


def _median(values: tuple[float, ...]) -> float:
    return statistics.median(values)


def _columns(times: Times) -> list[tuple[Callable[[tuple[float, ...]], float], tuple[float, ...]]]:
    return [(_median, times.wall), (min, times.wall), (_median, times.cpu)]


def _peak(program: Path, environment: dict[str, str], store: Path) -> int:
    """Tell the peak memory of a program that unpacks and then executes a shell that ends at once, in kB."""
    return peak_memory(Command((str(program),), {**environment, "FATPAR_STORE": str(store)}))
