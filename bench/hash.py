"""Why digests are SHA-256: what hashes and decoding take of the same bytes, in one run.

A first launch decodes every byte and digests it, so a digest must not be slower than decoding. The bytes are the files
of httpie and all it depends on.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import tempfile
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zstandard
from measure import Archive, machine, pack_fat, table, tell

from packer import native, targets
from packer.blobs import Level
from packer.reader import check, reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

RUNS = 10


def contents(archive: Archive) -> bytes:
    """All files of an archive's wheels, one after the other."""
    parts = []
    for wheel in sorted(archive.distinct):
        with zipfile.ZipFile(wheel) as members:
            parts += [members.read(name) for name in members.namelist()]
    return b"".join(parts)


def launcher_digest(data: bytes, *, portable: bool) -> bytes:
    """SHA-256 by the launcher's code: what any CPU can run, or with the instructions that this one has."""
    ffi, lib = native.ffi(), native.lib()
    digest = ffi.new("uint8_t[32]")
    lib.sha256portable(portable)
    lib.sha256(ffi.from_buffer(data), len(data), digest)
    return bytes(digest)


def verify(archive: Archive, *, portable: bool) -> None:
    """Decode and digest everything in an archive, as a first launch does, by the launcher's code."""
    lib = native.lib()
    lib.sha256portable(portable)
    with reading(archive.path) as opened:
        fault: Any = native.ffi().new("struct fault *")
        check(lib.controlverify(opened.pointer, fault), fault, archive.path)


def speeds(actions: Mapping[str, tuple[int, Callable[[], object]]]) -> dict[str, tuple[float, float]]:
    """MB/s of each action, median and best of runs in turn.

    :param actions: each with the number of bytes that it passes.
    """
    taken: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(RUNS):
        for name, (size, action) in actions.items():
            start = time.process_time()
            action()
            taken[name].append(size / 1e6 / (time.process_time() - start))
    return {name: (statistics.median(values), max(values)) for name, values in taken.items()}


def actions(data: bytes, archive: Archive) -> Iterator[tuple[str, Callable[[], object]]]:
    """Everything that is compared."""
    frame = zstandard.ZstdCompressor(level=Level.DEFAULT.value).compress(data)
    decoder = zstandard.ZstdDecompressor()
    assert (
        launcher_digest(data, portable=True) == launcher_digest(data, portable=False) == hashlib.sha256(data).digest()
    )
    yield "SHA-256, launcher, portable C", lambda: launcher_digest(data, portable=True)
    yield "SHA-256, launcher, CPU's instructions", lambda: launcher_digest(data, portable=False)
    yield "SHA-256, Python's hashlib", lambda: hashlib.sha256(data).digest()
    yield "BLAKE2b, Python's hashlib", lambda: hashlib.blake2b(data).digest()
    yield f"zstd -{Level.DEFAULT.value} decoding, zstandard", lambda: decoder.decompress(frame)
    yield "decode and digest, launcher, portable C", lambda: verify(archive, portable=True)
    yield "decode and digest, launcher, CPU's instructions", lambda: verify(archive, portable=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    before = machine()
    with tempfile.TemporaryDirectory(prefix="bench-") as work:
        archive = pack_fat(Path(work) / "http", ["httpie"], targets.running_target().python.tag, script="http")
        data = contents(archive)
        # what the archive decodes to lacks the wheels' own records
        found = speeds(
            {name: (archive.raw if "decode and" in name else len(data), run) for name, run in actions(data, archive)}
        )
    shown = table(f"MB/s of CPU time, {len(data):,} bytes, {RUNS} runs", "", "median", "best")
    for name, (median, best) in found.items():
        shown.add_row(name, f"{median:,.0f}", f"{best:,.0f}")
    result = {name: {"median": median, "best": best} for name, (median, best) in found.items()}
    tell({"megabytes_per_second": result}, [shown], before, as_json=options.json)


if __name__ == "__main__":
    main()
