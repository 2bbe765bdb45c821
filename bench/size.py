"""How large archives are: beside other tools' files of the same wheels, beside zstd, and ABI by ABI.

Everything is measured in one run; names choose single benchmarks. Every archive that is made is unpacked and compared,
digest by digest, with the wheels that it was made of, and a difference ends the run.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import choices
import first
import store
from measure import Findings, machine, make_pex, make_shiv, run, table, tell
from shop import Ratio, Shop, show_ratios

from packer import sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from measure import Archive
    from rich.table import Table

BYTECODE = ("none", "all")

NUMPY = "numpy==2.0.2"
PANDAS = "pandas==2.2.3"
HTTPIE = "httpie==3.2.4"
REGEX = "regex==2025.11.3"
"""It has wheels for eight ABIs of CPython on both platforms."""

FOUR = "cp39,cp310,cp311,cp312"
SIX = "cp38,cp39,cp310,cp311,cp312,cp313"
EIGHT = "cp39,cp310,cp311,cp312,cp313,cp313t,cp314,cp314t"


# Benchmarks -----------------------------------------------------------------------------------------------------


def numpy(shop: Shop, found: Findings) -> None:
    """Measure what four ABIs of numpy weigh beside one."""
    _abis(shop, found, "numpy", [NUMPY], "numpy:show_config", goal=1.4)


def pandas(shop: Shop, found: Findings) -> None:
    """Measure the same of numpy and pandas; four ABIs shall weigh less than a pex of one."""
    _abis(shop, found, "pandas", [NUMPY, PANDAS], "pandas:show_versions", goal=1.9, pex_goal=1.0)


def _abis(
    shop: Shop,
    found: Findings,
    name: str,
    inputs: Sequence[str],
    entry: str,
    *,
    goal: float,
    pex_goal: float | None = None,
) -> None:
    ratios, tables = [], []
    base = FOUR.partition(",")[0]
    values: dict[str, Any] = {}
    for bytecode in BYTECODE:
        one = shop.pack(f"{name}-1-{bytecode}", inputs, base, entry=entry, bytecode=bytecode)
        four = shop.pack(f"{name}-4-{bytecode}", inputs, FOUR, entry=entry, bytecode=bytecode)
        what = f"4 ABIs, bytecode {bytecode}"
        ratios.append(Ratio(what, four.size, f"1 ABI, {base}, bytecode {bytecode}", one.size, goal))
        if bytecode == "none":
            pex = make_pex(shop.work / f"{name}.pex", one, inputs[-1], entry).stat().st_size
            ratios += [
                Ratio(what, four.size, "wheels of 4 ABIs", wheels_size(four)),
                Ratio(what, four.size, "pex of 1 ABI", pex, pex_goal),
                Ratio("1 ABI, bytecode none", one.size, "pex of 1 ABI", pex),
                Ratio("1 ABI, bytecode none", one.size, "its wheels", wheels_size(one)),
            ]
        rows = further(shop, four)
        values[f"further_{bytecode}"] = rows
        tables.append(show_further(f"{what}: what each further ABI adds", rows))
    values["ratios"] = [ratio.json() for ratio in ratios]
    found.add(name, values, show_ratios(f"{' '.join(inputs)}: bytes", ratios), *tables)


def httpie(shop: Shop, found: Findings) -> None:
    """Measure a program of many small files beside pex and shiv, and six ABIs in one file beside six files."""
    entry = "httpie.__main__:main"
    one = shop.pack("httpie-1-none", [HTTPIE], "cp311", entry=entry)
    pex = make_pex(shop.work / "httpie.pex", one, HTTPIE, entry).stat().st_size
    shiv = make_shiv(shop.work / "httpie.shiv", one, "cp311", entry).stat().st_size
    ratios = [
        Ratio("1 ABI, cp311, bytecode none", one.size, "pex", pex, 0.55),
        Ratio("1 ABI, cp311, bytecode none", one.size, "shiv", shiv, 0.65),
    ]
    values: dict[str, Any] = {}
    tables = []
    for bytecode in BYTECODE:
        six = shop.pack(f"httpie-6-{bytecode}", [HTTPIE], SIX, entry=entry, bytecode=bytecode)
        alone = [
            shop.pack(f"httpie-{abi}-{bytecode}", [HTTPIE], abi, entry=entry, bytecode=bytecode)
            for abi in SIX.split(",")
        ]
        what = f"6 ABIs, bytecode {bytecode}"
        whole = sum(archive.size for archive in alone)
        ratios.append(
            Ratio(what, six.size, f"6 archives, bytecode {bytecode}", whole, 0.5 if bytecode == "all" else None)
        )
        if bytecode == "all":
            ratios.append(Ratio("1 ABI, cp311, bytecode all", alone[3].size, "1 ABI, bytecode none", one.size))
        rows = further(shop, six)
        values[f"further_{bytecode}"] = rows
        tables.append(show_further(f"{what}: what each further ABI adds", rows))
    values["ratios"] = [ratio.json() for ratio in ratios]
    found.add("httpie", values, show_ratios(f"{HTTPIE}: bytes", ratios), *tables)


def platforms(shop: Shop, found: Findings) -> None:
    """Measure what each of sixteen slices adds: eight ABIs on two platforms."""
    archive = shop.pack(
        "platforms-16-none", [REGEX], EIGHT, entry="regex:escape", platforms="manylinux2014,musllinux_1_2"
    )
    ratio = Ratio("8 ABIs x 2 platforms", archive.size, "wheels", wheels_size(archive))
    rows = further(shop, archive)
    found.add(
        "platforms",
        {"ratios": [ratio.json()], "further": rows},
        show_ratios(f"{REGEX}: bytes", [ratio]),
        show_further("what each further slice adds", rows),
    )


def marginal(shop: Shop, found: Findings) -> None:
    """Measure what single slices cost a file that has the others: those that are bases, and one that is not."""
    places = [f"{abi}-{policy}" for abi in EIGHT.split(",") for policy in ("manylinux2014", "musllinux_1_2")]
    values = []
    shown = table("what a file is smaller by without one of its slices", "", "without", "bytes", "smaller by")
    for inputs, entry, bytecode, words, chosen in (
        ([HTTPIE], "httpie.__main__:main", "all", [f"{abi}-manylinux2014" for abi in SIX.split(",")], ("cp312",)),
        ([REGEX], "regex:escape", "none", places, ("cp310", "cp313", "cp314t")),
    ):
        sizes_ = {}
        for word in ("", *(word for word in words if word.partition("-")[0] in chosen)):
            first, *others = (one for one in words if one != word)
            sizes_[word] = shop.pack(
                f"marginal-{bytecode}-{word}", inputs, ",".join(others), entry=entry, bytecode=bytecode, platforms=first
            ).size
            cost = sizes_[""] - sizes_[word]
            values.append({"inputs": inputs, "bytecode": bytecode, "without": word, "size": sizes_[word], "cost": cost})
            shown.add_row(f"{inputs[0]}, bytecode {bytecode}", word, f"{sizes_[word]:,}", f"{cost:,}")
    found.add("marginal", values, shown)


BENCHMARKS: Mapping[str, Callable[[Shop, Findings], None]] = {
    "numpy": numpy,
    "pandas": pandas,
    "httpie": httpie,
    "platforms": platforms,
    "marginal": marginal,
    "store": store.measure,
    "first": first.measure,
    "layout": choices.measure_layout,
    "levels": choices.measure_levels,
    "repack": choices.measure_repack,
    "bytecode": choices.measure_bytecode,
}


# What they share ------------------------------------------------------------------------------------------------


def wheels_size(archive: Archive) -> int:
    """Bytes of the wheel files, each counted once however many ABIs take it."""
    return sum(wheel.stat().st_size for wheel in archive.distinct)


def further(shop: Shop, archive: Archive) -> list[dict[str, Any]]:
    """Measure each slice but the first: stored bytes that it adds, and zstd's patch from the first slice's files."""
    found = sizes.measure(archive.path)
    rows: list[dict[str, Any]] = []
    for number, (label, one) in enumerate(zip(found.labels, found.slices, strict=True)):
        row = {"slice": label, "unpacked": one.unpacked, "adds": one.adds.total, "patch": None}
        if number and shop.patches:
            row["patch"] = patch_size(shop.tar(archive, 0), shop.tar(archive, number), shop.work)
        rows.append(row)
    rows[0]["index"] = found.parts.index
    return rows


def patch_size(base: Path, other: Path, work: Path) -> int:
    """Bytes that zstd makes of one file when it has another to refer to."""
    patch = work / "patch"
    run(["zstd", "-q", "-f", "-19", "--long=27", f"--patch-from={base}", str(other), "-o", str(patch)])
    return patch.stat().st_size


def show_further(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """A row per slice, and their sum."""
    shown = table(title, "slice", "unpacked", "adds", "zstd --patch-from", "ratio")
    for row in rows:
        patch = row["patch"]
        cells = (f"{patch:,}", f"{row['adds'] / patch:.2f}") if patch else ("", "")
        shown.add_row(row["slice"], f"{row['unpacked']:,}", f"{row['adds']:,}", *cells)
    ours, theirs = (sum(row[column] or 0 for row in rows[1:]) for column in ("adds", "patch"))
    cells = (f"{theirs:,}", f"{ours / theirs:.2f}") if theirs else ("", "")
    shown.add_row("all but the first", "", f"{ours:,}", *cells)
    return shown


def zstd_version() -> str:
    """What the zstd command says of itself."""
    return run(["zstd", "--version"]).strip(" *\n")


def measure(names: Iterable[str], work: Path, *, patches: bool, quiet: bool) -> Findings:
    """Run benchmarks in a directory."""
    shop, found = Shop(work, patches), Findings({"zstd": zstd_version()}, quiet)
    for name in names:
        BENCHMARKS[name](shop, found)
    found.add("contents", [{"archive": one.archive, **one.counts} for one in shop.checked], shop.show_checked())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which (default: all): {', '.join(BENCHMARKS)}")
    parser.add_argument(
        "--no-patches", action="store_true", help="leave out zstd's patches, which take most of the time"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--directory", type=Path, default=Path("build"),
        help="where all is made and unpacked, and removed at the end: some GB; its filesystem counts (default: build)",
    )  # fmt: skip
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]}; there are {', '.join(BENCHMARKS)}")
    before = machine()
    options.directory.mkdir(exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="bench-", dir=options.directory.resolve()))
    try:
        found = measure(options.names or BENCHMARKS, work, patches=not options.no_patches, quiet=options.json)
    finally:
        run(["chmod", "-R", "u+w", str(work)])
        shutil.rmtree(work)
    if not options.json:
        print(f"\n{found.values['zstd']}")
    tell(found.values, [], before, as_json=options.json)


if __name__ == "__main__":
    main()
