"""Decoded blobs: whatever is asked for in whatever order is right, and what is kept stays bounded."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from support import vectors
from support.native import ffi, lib, new, text

pytestmark = pytest.mark.native

MEBIBYTE = 1 << 20


def compressed(data: bytes, prefix: bytes = b"") -> str:
    """A frame as the text of an archive has it; with a prefix, a delta."""
    dictionary = zstandard.ZstdCompressionDict(prefix, dict_type=zstandard.DICT_TYPE_RAWCONTENT) if prefix else None
    return "hex:" + zstandard.ZstdCompressor(dict_data=dictionary, write_dict_id=False).compress(data).hex()


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Any]:
    """Takes an archive's text and gives the blobs of it, decoder and all."""
    archive, blobs = new("struct archive *"), new("struct blobs *")
    (tmp_path / "work").mkdir()
    descriptors = []

    def start(written: str) -> Any:
        path = tmp_path / "archive"
        path.write_bytes(vectors.build(vectors.parse("blobs", f"from good-plain\n{written}"), tmp_path / "work"))
        descriptors.append(os.open(path, os.O_RDONLY))
        assert lib().archiveopen(archive, descriptors[0]) == lib().ARCHIVE_OK
        assert lib().archiveindex(archive) == lib().ARCHIVE_OK, text(archive.detail)
        lib().blobsopen(blobs, archive)
        return blobs

    yield start
    lib().blobsclose(blobs)
    lib().archiveclose(archive)
    for descriptor in descriptors:
        os.close(descriptor)


def get(blobs: Any, number: int) -> bytes:
    """A blob's decoded bytes."""
    fault = new("struct fault *")
    data = lib().blobsget(blobs, number, fault)
    assert data, text(fault.what)
    return bytes(ffi().buffer(data, blobs.archive.blobs[number].raw_size))


def kept(blobs: Any) -> list[int]:
    """Which blobs are kept decoded."""
    return [one.blob for one in blobs.kept if one.data]


def test_blobs_in_any_order(opened: Any) -> None:
    """Stored ones, frames, and deltas of one to four bases, more than are kept at once."""
    generator = random.Random(1)
    contents = {number: generator.randbytes(500) * 3 for number in range(1, 13)}
    lines = []
    for number, content in contents.items():
        stored = f"data={compressed(content)} raw_size=1500 encoding=1" if number % 2 else f"data=hex:{content.hex()}"
        lines.append(f"add blob {stored}")
    for count in (1, 2, 3, 4):
        bases = generator.sample(range(1, 13), count)
        prefix = b"".join(contents[base] for base in bases)
        contents[len(contents) + 1] = content = prefix[100:-100] + generator.randbytes(50) + prefix[:300]
        words = " ".join(f"bases[{place}]={base}" for place, base in enumerate(bases))
        stored = f"data={compressed(content, prefix)} raw_size={len(content)}"
        lines.append(f"add blob {stored} encoding=1 base_count={count} {words}")
    blobs = opened("\n".join(lines))
    for _ in range(500):
        number = generator.choice(list(contents))
        assert get(blobs, number) == contents[number], number
    assert len(kept(blobs)) == lib().MAX_KEPT


def test_what_was_asked_for_last_is_kept(opened: Any) -> None:
    blobs = opened("".join(f"add blob data=hex:{number:04x}\n" for number in range(1, 19)))
    for number in (*range(1, 17), 1, 17):
        get(blobs, number)
    assert sorted(kept(blobs)) == [1, *range(3, 18)]


def test_memory_is_bounded_by_bytes_too(opened: Any) -> None:
    """Blobs of the greatest size, which take next to no room in the file."""
    size = lib().MAX_BLOB
    contents = {number: bytes((number,)) * size for number in range(1, 8)}
    blobs = opened(
        "".join(f"add blob data={compressed(one)} raw_size={size} encoding=1\n" for one in contents.values())
    )
    generator = random.Random(1)
    for _ in range(30):
        number = generator.choice(list(contents))
        assert get(blobs, number) == contents[number]
        assert sum(blobs.archive.blobs[one].raw_size for one in kept(blobs)) <= 48 * MEBIBYTE
    assert len(kept(blobs)) == 3


def test_a_blob_that_cannot_be_decoded_leaves_the_others(opened: Any) -> None:
    blobs = opened("add blob data=abc raw_size=3 encoding=1\nadd blob data=def")
    fault = new("struct fault *")
    assert get(blobs, 2) == b"def"
    for _ in range(3):
        assert lib().blobsget(blobs, 1, fault) == ffi().NULL
        assert text(fault.what) == "archive is damaged: blob 1: it is not one frame"
    assert get(blobs, 2) == b"def"
    assert kept(blobs) == [2]


# Filtered blobs -------------------------------------------------------------------------------------------------


def filtered(data: bytes) -> bytes:
    """Machine code as it is compressed."""
    buffer = ffi().new("uint8_t[]", data)
    lib().filterx86(buffer, len(data), 0)
    return bytes(ffi().buffer(buffer, len(data)))


def code(generator: random.Random, size: int) -> bytes:
    """What the filter changes: calls of a few places from everywhere."""
    calls, places = b"", [generator.randrange(1 << 20) for _ in range(8)]
    while len(calls) < size:
        place = generator.choice(places) - len(calls) - 5
        calls += b"\xe8" + place.to_bytes(4, "little", signed=True) + generator.randbytes(3)
    return calls[:size]


def line(contents: bytes, *, code: bool = False, stored: bool = False, bases: dict[int, bytes] | None = None) -> str:
    """A blob as the text of an archive has it.

    :param contents: the bytes that the frame holds: of machine code, those that are filtered.
    :param bases: number -> what it has for a prefix.
    """
    data = f"hex:{contents.hex()}" if stored else compressed(contents, b"".join((bases or {}).values()))
    places = " ".join(f"bases[{place}]={base}" for place, base in enumerate(bases or {}))
    more = "" if stored else f" raw_size={len(contents)} encoding=1 base_count={len(bases or {})} {places}"
    return f"add blob data={data}{more} filter={int(code)}\n"


def test_filtered_blobs_and_deltas_of_them(opened: Any) -> None:
    """A prefix is the filtered form of its blob for what is filtered itself, and the plain one for what is not,
    whoever asked for the blob before, and in whatever order."""
    generator = random.Random(2)
    plain = {1: code(generator, 900), 2: code(generator, 1100), 3: code(generator, 1000), 4: generator.randbytes(700)}
    inner = {number: filtered(plain[number]) for number in (1, 2, 3)} | {4: plain[4]}
    assert all(inner[number] != plain[number] for number in (1, 2, 3))
    lines = [line(inner[1], code=True), line(inner[2], code=True, stored=True), line(inner[3], code=True)]
    lines.append(line(inner[4]))
    for number, (bases, is_code) in enumerate([((1,), True), ((2,), True), ((3, 1), True), ((4, 2, 1), True),
                                               ((1,), False), ((4,), True), ((1, 4, 3, 2), False)], 5):  # fmt: skip
        own = plain[bases[0]][:600] + code(generator, 80)
        plain[number] = own
        inner[number] = filtered(own) if is_code else own
        lines.append(
            line(inner[number], code=is_code, bases={base: (inner if is_code else plain)[base] for base in bases})
        )
    blobs = opened("".join(lines))
    for _ in range(600):
        number = generator.choice(list(plain))
        assert get(blobs, number) == plain[number], number
    # asked for as itself, as a base, as itself; and one that is not filtered between two that are
    for number in (1, 5, 1, 5, 5, 4, 5, 9, 1, 1, 9):
        assert get(blobs, number) == plain[number], number


def test_a_filtered_blob_that_cannot_be_decoded_leaves_the_last_one(opened: Any) -> None:
    generator = random.Random(3)
    plain = code(generator, 300)
    blobs = opened(line(filtered(plain), code=True) + "add blob data=abc raw_size=30000 encoding=1 filter=1\n")
    fault = new("struct fault *")
    for _ in range(2):
        assert get(blobs, 1) == plain
        assert lib().blobsget(blobs, 2, fault) == ffi().NULL
    assert get(blobs, 1) == plain


def test_an_empty_filtered_blob(opened: Any) -> None:
    blobs = opened(line(b"", code=True) + line(b"\xe8\1\2", code=True, stored=True))
    assert (get(blobs, 1), get(blobs, 2), get(blobs, 1)) == (b"", b"\xe8\1\2", b"")


def test_a_base_stays_while_it_is_used_however_full_it_is(opened: Any) -> None:
    """Deltas of the greatest size, of one base and of two: what is kept never exceeds 48 MiB, and the sanitizer sees
    whether a base is given up too early."""
    size = lib().MAX_BLOB
    raw = {number: bytes((number,)) * size for number in range(1, 6)}
    deltas = {(1,): 6, (5,): 7, (2, 3): 8, (1, 5): 9}
    lines = [line(one) for one in raw.values()]
    for bases, number in deltas.items():
        raw[number] = raw[bases[-1]][:-1] + b"."
        # a small window: what is the same in all of it needs no look at the bases' start
        lines.append(line(raw[number], bases={base: raw[base] for base in bases}))
    blobs = opened("".join(lines))
    generator = random.Random(4)
    orders = [(6, 7, 8, 9), (9, 1, 6), (5, 4, 7, 3, 8), tuple(generator.choices(range(1, 10), k=10))]
    for number in (number for order in orders for number in order):
        assert get(blobs, number) == raw[number], number
        assert sum(blobs.archive.blobs[one].raw_size for one in kept(blobs)) <= 48 * MEBIBYTE


def test_one_base_is_used_where_it_is_kept(opened: Any) -> None:
    """Sixteen others are kept: the base is the oldest of them until the delta asks for it."""
    generator = random.Random(5)
    base = generator.randbytes(400)
    lines = [line(base), *(line(bytes((number,)) * 9, stored=True) for number in range(2, 17))]
    lines.append(line(base[:350] + b"end", bases={1: base}))
    blobs = opened("".join(lines))
    for number in range(1, 17):
        get(blobs, number)
    where = next(one.data for one in blobs.kept if one.blob == 1)
    assert get(blobs, 17) == base[:350] + b"end"
    assert next(one.data for one in blobs.kept if one.data and one.blob == 1) == where
    assert sorted(kept(blobs)) == [1, *range(3, 18)]


def test_the_bound_is_the_format_s() -> None:
    said = (Path(__file__).resolve().parents[2] / "abi" / "FORMAT.md").read_text("utf-8")
    assert "keeps decoded blobs until they\nare `MAX_PREFIX` + `MAX_BLOB`" in said
    assert lib().MAX_PREFIX + lib().MAX_BLOB == 48 * MEBIBYTE
