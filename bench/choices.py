"""What each choice of the packer brings: bytes with it and without it, and what levels and bytecode cost.

An alternative that users cannot choose is made by replacing a constant or function of the packer in this process.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from unittest import mock

from measure import Command, alternate, full_version, pack_fat, table

from packer import layout, pack, pairs, resolve, sizes
from packer.cache import Cache
from packer.inspect import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from measure import Archive, Findings
    from shop import Shop

    from packer.layout import Layout
    from packer.model import Layer
    from packer.pairs import File, Key

INPUTS = ("numpy==2.0.2", "pandas==2.2.3")
ENTRY = "pandas:show_versions"
TWO, SIX = "cp39,cp310", "cp38,cp39,cp310,cp311,cp312,cp313"

HTTPIE = "httpie==3.2.4"
RUNS = 7

_Way: TypeAlias = "Callable[[], contextlib.AbstractContextManager[None]]"


# How it is laid out and filtered ----------------------------------------------------------------------------------


@contextlib.contextmanager
def as_it_is() -> Iterator[None]:
    """Change nothing."""
    yield


@contextlib.contextmanager
def without_filter() -> Iterator[None]:
    """Compress machine code as it is."""
    lay_out = layout.lay_out

    def plain(slices: Sequence[Sequence[Layer]], **more: Any) -> Layout:
        laid = lay_out(slices, **more)
        return replace(laid, drafts=tuple(replace(draft, code=False) for draft in laid.drafts))

    with mock.patch.object(layout, "lay_out", plain):
        yield


@contextlib.contextmanager
def small_blobs() -> Iterator[None]:
    """Let blobs be half as large."""
    with mock.patch.object(layout, "BLOB_SIZE", 1 << 23):
        yield


@contextlib.contextmanager
def by_path() -> Iterator[None]:
    """Lay files side by side as they are in their directories."""
    with mock.patch.object(layout, "_likeness", lambda file: (file.entry.path, file.entry.sha256)):
        yield


@contextlib.contextmanager
def no_deltas() -> Iterator[None]:
    """Let every file stand for itself."""
    with mock.patch.object(pairs, "pair", return_value={}):
        yield


@contextlib.contextmanager
def one_base() -> Iterator[None]:
    """Let nothing but what the first slice has be a base."""
    with mock.patch.object(pairs, "_alone", lambda costs, given: given):
        yield


@contextlib.contextmanager
def sources_alone() -> Iterator[None]:
    """Let sources be no deltas of their bytecode."""
    with _paired_otherwise(lambda _: {}):
        yield


@contextlib.contextmanager
def bytecode_of_sources() -> Iterator[None]:
    """Let bytecode be a delta of its source, for every Python, instead of sources of the first Python's bytecode."""

    def turned(found: Sequence[File]) -> dict[Key, Key]:
        sources = {file.name: file.key for file in found if file.kind is pairs.Kind.TEXT and file.entry.size}
        compiled = [file for file in found if file.kind is pairs.Kind.BYTECODE]
        return {file.key: sources[file.name[:-1]] for file in compiled if file.name[:-1] in sources}

    with _paired_otherwise(turned):
        yield


@contextlib.contextmanager
def _paired_otherwise(more: Callable[[Sequence[File]], dict[Key, Key]]) -> Iterator[None]:
    """Let sources stand for themselves, and pair as a function says."""
    pair = pairs.pair

    def otherwise(found: Sequence[File], cache: Cache | None) -> dict[Key, Key]:
        bytecode = {file.key for file in found if file.kind is pairs.Kind.BYTECODE}
        sources = {file.key for file in found if file.kind is pairs.Kind.TEXT}
        changed = more(found)
        kept = {one: base for one, base in pair(found, cache).items() if not (one in sources and base in bytecode)}
        both = kept | changed
        return {one: base for one, base in both.items() if base not in both}

    with mock.patch.object(pairs, "pair", otherwise):
        yield


@dataclass(frozen=True)
class _Row:
    inputs: tuple[str, ...]
    bytecode: str
    way: str
    first: int
    """Bytes that the first slice adds."""
    others: int


COMPARED: Sequence[tuple[tuple[str, ...], str, str, str, Sequence[_Way]]] = (
    (INPUTS, ENTRY, TWO, "none", (as_it_is, without_filter, small_blobs, by_path, no_deltas)),
    ((HTTPIE,), "httpie.__main__:main", SIX, "all", (as_it_is, one_base, sources_alone, bytecode_of_sources)),
    (("regex==2025.11.3",), "regex:escape", f"{SIX[5:]},cp314", "none", (as_it_is, one_base, no_deltas)),
)
"""What is packed, what it calls, for which ABIs, with which bytecode, in which ways; ``--fast``, as it takes long."""


def measure_layout(shop: Shop, found: Findings) -> None:
    """Measure how files are laid out and filtered."""
    rows = []
    for inputs, entry, abis, bytecode, ways in COMPARED:
        for way in ways:
            output = shop.work / way.__name__
            with way():
                pack_fat(output, inputs, abis, entry=entry, bytecode=bytecode, fast=True)
            first, *others = (one.adds.total for one in sizes.measure(output).slices)
            rows.append(_Row(inputs, bytecode, way.__name__.replace("_", " "), first, sum(others)))
    shown = table("with --fast: bytes, and beside what is done now", "", "first ABI", "", "other ABIs", "")
    now = rows[0]
    for row in rows:
        now = row if row.way == "as it is" else now
        cells = [f"{row.first:,}", f"{row.first / now.first:.3f}", f"{row.others:,}", f"{row.others / now.others:.3f}"]
        shown.add_row(f"{' '.join(row.inputs)}, bytecode {row.bytecode}: {row.way}", *cells)
    found.add("layout", [asdict(row) for row in rows], shown)


# What users can choose --------------------------------------------------------------------------------------------


def measure_levels(shop: Shop, found: Findings) -> None:
    """Measure what levels and trimming take and give."""
    rows = {}
    ways: dict[str, dict[str, Any]] = {
        "--fast": {"fast": True},
        "default": {},
        "--small": {"small": True},
        "--trim": {"trim": True},
    }
    for number, (name, more) in enumerate(ways.items()):
        output = shop.work / f"level-{number}"

        def empty(_: Path, place: Path = shop.work / f"blobs-{number}") -> Cache:
            return Cache(place)

        with mock.patch.object(pack, "Cache", empty):
            start = time.perf_counter()
            archive = pack_fat(output, INPUTS, "cp39", entry=ENTRY, **more)
            rows[name] = {"seconds": time.perf_counter() - start, "bytes": archive.size}
    shown = table("numpy and pandas, cp39, from an empty cache of blobs", "", "bytes", "beside default", "seconds")
    for name, row in rows.items():
        ratio = row["bytes"] / rows["default"]["bytes"]
        shown.add_row(name, f"{row['bytes']:,}", f"{ratio:.3f}", f"{row['seconds']:.0f}")
    found.add("levels", rows, shown)


def measure_repack(shop: Shop, found: Findings) -> None:
    """Measure packing again after an edit of the program's own code."""
    script, lock = shop.work / "repacked.py", shop.work / "lock.txt"
    resolving = 0.0

    def timed(*arguments: Any, **more: Any) -> Any:
        nonlocal resolving
        start = time.perf_counter()
        resolved = resolve.resolve(*arguments, **more)
        resolving = time.perf_counter() - start
        return resolved

    rows = []
    script.write_text("import pandas\n")
    abis = "cp39,cp310,cp311,cp312"
    lock.write_text(pinned(pack_fat(shop.work / "repacked", [*INPUTS, str(script)], abis)))
    with mock.patch.object(pack, "resolve", mock.Mock(wraps=resolve, resolve=timed)):
        for number in range(4):
            script.write_text(f"import pandas\nprint({number})\n")
            start = time.perf_counter()
            pack_fat(shop.work / "repacked", [str(script)], abis, requirement=(lock,))
            rows.append({"seconds": time.perf_counter() - start, "resolving": resolving})
    shown = table("numpy, pandas, all pinned, and a script, four ABIs: seconds", "", "all", "but resolving")
    for number, row in enumerate(rows):
        name = f"again, edit {number}" if number else "first from this lock, wheels and blobs from the cache"
        shown.add_row(name, f"{row['seconds']:.1f}", f"{row['seconds'] - row['resolving']:.1f}")
    found.add("repack", rows, shown)


def pinned(archive: Archive) -> str:
    """Give the requirements of an archive, all pinned with digests, as a lock has them."""
    slices = describe(archive.path)["manifest"]["slices"]
    found: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for one in slices:
        for part in one["distributions"]:
            found[part["name"], part["version"]].append((full_version(one["name"].partition("-")[0]), part["sha256"]))
    lines = []
    for (name, version), users in sorted(found.items()):
        pythons = " or ".join(f"python_full_version == '{python}'" for python, _ in users)
        marker = f" ; {pythons}" if len(users) < len(slices) else ""
        lines.append(f"{name}=={version}{marker} " + " ".join(f"--hash=sha256:{digest}" for _, digest in users))
    return "\n".join(lines) + "\n"


def measure_bytecode(shop: Shop, found: Findings) -> None:
    """Measure what bytecode weighs and saves."""
    environment = {"HOME": str(shop.work), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    archives = {}
    for policy in ("none", "used", "all"):
        place = shop.work / f"bytecode-{policy}"
        place.mkdir()
        runs = ("--version",) if policy == "used" else ()
        archives[policy] = pack_fat(place / "http", [HTTPIE], "cp311", script="http", bytecode=policy, profile_run=runs)

    def fresh(path: Path) -> Callable[[int], Command]:
        return lambda number: Command(
            (str(path), "--version"), {**environment, "FATPAR_STORE": f"{path.parent}/store-{number}"}
        )

    first = alternate({policy: fresh(archive.path) for policy, archive in archives.items()}, RUNS)
    # all run again, from the last store of each
    second = alternate({policy: _again(fresh(archive.path)) for policy, archive in archives.items()}, RUNS)
    shown = table(
        f"{HTTPIE}, cp311, http --version: milliseconds, median (least), {RUNS} runs",
        "--bytecode", "bytes", "beside none", "first launch", "CPU", "second launch",
    )  # fmt: skip
    values = {}
    for policy, archive in archives.items():
        one, two = first[policy].json(), second[policy].json()
        values[policy] = {"bytes": archive.size, "first": one, "second": two}
        times = [f"{each['median']:.0f} ({each['least']:.0f})" for each in (one["wall"], one["cpu"], two["wall"])]
        shown.add_row(policy, f"{archive.size:,}", f"{archive.size / archives['none'].size:.3f}", *times)
    found.add("bytecode", values, shown)


def _again(make: Callable[[int], Command]) -> Callable[[int], Command]:
    return lambda _: make(RUNS - 1)
