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
