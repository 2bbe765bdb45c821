"""How large an archive is beside the pex, the shiv and the wheel files of the same versions."""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import Archive, machine, make_pex, make_shiv, pack_fat, table, tell

PYTHONS = "cp39,cp310,cp311,cp312,cp313"


@dataclass(frozen=True)
class Program:
    """What is packed."""

    requirement: str
    entry: str
    """``module:function``; which one is all the same to the size."""
    abis: str


def sizes(program: Program, work: Path) -> dict[str, Any]:
    """Bytes of each tool's file or files."""
    name = f"{program.requirement}-{program.abis}"
    archive = pack_fat(work / f"{name}.fatpar", [program.requirement], program.abis, entry=program.entry)
    pex = make_pex(work / f"{name}.pex", archive, program.requirement, program.entry)
    shivs = [make_shiv(work / f"{name}-{abi}.shiv", archive, abi, program.entry) for abi in archive.wheels]
    return {
        "program": program.requirement,
        "abis": list(archive.wheels),
        "fatpar": archive.path.stat().st_size,
        "unpacked": archive.raw,
        "pex": pex.stat().st_size,
        "shiv": sum(shiv.stat().st_size for shiv in shivs),
        "wheels": wheels_size(archive),
    }


def wheels_size(archive: Archive) -> int:
    """Bytes of the wheel files, each counted once however many ABIs take it."""
    return sum(wheel.stat().st_size for wheel in archive.distinct)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--numpy", action="store_true", help=f"measure numpy for {PYTHONS}, too: minutes, and 100 MB from the index"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    programs = [
        Program("httpie", "httpie.__main__:main", "cp311"),
        Program("httpie", "httpie.__main__:main", "cp39,cp311,cp313"),
        Program("MarkupSafe", "markupsafe:escape", "cp35m,cp27mu"),
        *([Program("numpy", "numpy:show_config", PYTHONS)] if options.numpy else []),
    ]
    before = machine()
    with tempfile.TemporaryDirectory(prefix="bench-") as work:
        found = [sizes(program, Path(work)) for program in programs]
    shown = table(
        "bytes; in brackets, as a part of the wheel files",
        "program",
        "wheel files",
        "fatpar",
        "pex",
        "shiv, one per ABI",
    )
    for one in found:
        cells = [f"{one[tool]:,} ({one[tool] / one['wheels']:.2f})" for tool in ("fatpar", "pex", "shiv")]
        shown.add_row(f"{one['program']} {','.join(one['abis'])}", f"{one['wheels']:,}", *cells)
    tell({"sizes": found}, [shown], before, as_json=options.json)


if __name__ == "__main__":
    main()
