"""What a carried interpreter weighs: in the file, in a store, and in a store of ten tools that carry the same one."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from measure import machine, pack_fat, table, tell

from packer import native
from packer.inspect import describe

if TYPE_CHECKING:
    from collections.abc import Iterator

TOOLS = 10


@dataclass(frozen=True)
class Carried:
    """An interpreter in an archive."""

    source: str
    libc: bool
    """With its C library."""
    files: int
    unpacked: int
    stored: int
    """Bytes of the archive without its launcher."""
    floor: str
    """What it needs of a host's C library."""


def carried(work: Path, source: str, *, libc: bool) -> Carried:
    """Pack a script of one line that carries an interpreter.

    :param source: ``TAG=SOURCE`` as ``--runtime`` takes it, ``musl:`` before it for musl.
    """
    tag, platform, word = parsed(source)
    # of two interpreters in one file the second would be a delta: what each weighs shows in a file of its own
    archive = pack_fat(
        work / "one", [script(work, "one")], tag, platforms=platform, runtime=(word,), libc="bundled" if libc else None
    )
    alone = pack_fat(work / "none", [script(work, "one")], tag, platforms=platform)
    described = describe(archive.path)
    layer = [one for one in described["layers"] if one["kind"] == "interpreter"][-1]
    needs = {need["kind"]: need for need in described["slices"][-1]["needs"]}
    number = needs["libc"]["number"] if "libc" in needs else 0
    floor = f"{needs['libc']['name']} {number >> 16}.{number >> 8 & 255}" if number else "none"
    return Carried(source, libc, layer["files"], layer["size"], archive.size - alone.size, floor)


def parsed(source: str) -> tuple[str, str, str]:
    """Tag, platform and the word for ``--runtime``."""
    word = source.removeprefix("musl:")
    return word.partition("=")[0], "musllinux_1_2" if source != word else "manylinux2014", word


def script(work: Path, name: str) -> str:
    path = work / f"{name}.py"
    path.write_text(f"print({name!r})\n")
    return str(path)


def ten(work: Path, source: str) -> Iterator[int]:
    """Launch ten tools that carry the same interpreter; bytes of the store after each."""
    tag, platform, word = parsed(source)
    environment = {"FATPAR_STORE": str(work / "store"), "PATH": "/nonexistent", "HOME": str(work)}
    for number in range(TOOLS):
        name = f"tool{number}"
        archive = pack_fat(work / name, [script(work, name)], tag, platforms=platform, runtime=(word,))
        done = subprocess.run([archive.path], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout == f"{name}\n"
        yield sum(path.lstat().st_blocks * 512 for path in (work / "store").rglob("*"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true")
    running = f"cp{sys.version_info[0]}{sys.version_info[1]}={sys.base_prefix}"
    parser.add_argument(
        "sources", nargs="*", default=[running], metavar="TAG=SOURCE",
        help=f"as --runtime takes them, with musl: before one for musl (default: {running})",
    )  # fmt: skip
    options = parser.parse_args()
    before = machine()
    launcher = native.data(f"launcher-{os.uname().machine}").stat().st_size
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        rows = [carried(Path(name), source, libc=libc) for source in options.sources for libc in (False, True)]
        sizes = list(ten(Path(name), options.sources[0]))
    shown = table(
        f"carried interpreters: bytes beside a launcher of {launcher:,} and a script; with libc, both are in the file",
        "source", "files", "in a store", "in the file", "needs",
    )  # fmt: skip
    for one in rows:
        more = ", with libc" if one.libc else ""
        shown.add_row(one.source + more, str(one.files), f"{one.unpacked:,}", f"{one.stored:,}", one.floor)
    store = table(f"{TOOLS} tools that carry the same interpreter: bytes on disk of their store", "tools", "bytes")
    for number in (1, 2, TOOLS):
        store.add_row(str(number), f"{sizes[number - 1]:,}")
    tell({"carried": [asdict(one) for one in rows], "store": sizes}, [shown, store], before, as_json=options.json)


if __name__ == "__main__":
    main()
