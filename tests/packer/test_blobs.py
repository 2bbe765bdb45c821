"""packer/blobs.py: what is compressed comes out again, and the bytes do not depend on who was faster."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from typing import TYPE_CHECKING

import pytest
import zstandard
from support.layers import layer

from packer import blobs, layout, native
from packer.blobs import Blob, Level
from packer.cache import Cache
from packer.errors import PackError
from packer.layout import BLOB_SIZE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from packer.layout import Layout
    from packer.model import Layer


def unfiltered(blob: Blob, bases: Sequence[bytes]) -> tuple[bytes, bytes]:
    """A blob's bytes as it is a base, and as they are written; put together as FORMAT.md has it."""
    dictionary = zstandard.ZstdCompressionDict(b"".join(bases), dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    decompressor = zstandard.ZstdDecompressor(dict_data=dictionary if bases else None, max_window_size=1 << 26)
    raw = decompressor.decompress(blob.stored) if blob.compressed else blob.stored
    assert len(raw) == blob.raw_size
    buffer = bytearray(raw)
    if blob.code:
        native.lib().filterx86(native.ffi().from_buffer(buffer), len(buffer), 1)
    return raw, bytes(buffer)


def check(
    slices: Sequence[Sequence[Layer]], level: Level = Level.FAST, cache: Cache | None = None
) -> tuple[Layout, list[Blob]]:
    """Lay out and compress; every blob must hold its pieces."""
    laid = layout.lay_out(slices)
    counted: list[int] = []
    made = list(blobs.compress(laid.drafts, level, counted.append, cache))
    assert sum(counted) == layout.raw_size(slices)
    raw: list[tuple[bytes, bytes]] = []
    for blob, draft in zip(made, laid.drafts, strict=True):
        written = unfiltered(blob, [raw[base][not blob.code] for base in blob.bases])
        raw.append(written)
        assert blob.digest == hashlib.sha256(blob.stored).digest()
        assert written[1] == b"".join(
            piece.entry.source.read_bytes()[piece.start : piece.start + piece.size]
            for piece in draft.pieces
            if piece.entry.source
        )
    return laid, made


def noise(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


def test_what_does_not_get_smaller_is_stored(tmp_path: Path) -> None:
    data = noise(1000, 5)
    _, (blob,) = check([[layer("x", {"noise": data}, tmp_path)]])
    assert (blob.compressed, blob.stored) == (False, data)
    assert blob.digest == hashlib.sha256(data).digest()


@pytest.mark.parametrize("level", Level)
def test_frames_say_their_size_and_no_larger_window_than_allowed(tmp_path: Path, level: Level) -> None:
    one = layer("n-1-cp39", {"a": b"text " * (BLOB_SIZE // 5), "b.py": noise(BLOB_SIZE, 1)}, tmp_path / "1")
    two = layer("n-1-cp310", {"b.py": noise(BLOB_SIZE, 1)[:-9] + b"x"}, tmp_path / "2")
    _, made = check([[one], [two]], level)
    frames = [zstandard.get_frame_parameters(blob.stored) for blob in made if blob.compressed]
    assert [frame.content_size for frame in frames] == [blob.raw_size for blob in made if blob.compressed]
    assert max(frame.window_size for frame in frames) <= 1 << native.lib().MAX_WINDOW_LOG
    assert len(made[-1].stored) < 2000  # found in a prefix of a whole blob, at every level


def test_machine_code_is_filtered(tmp_path: Path) -> None:
    """A place that is called from everywhere looks the same everywhere then."""
    head = b"\x7fELF\x02\x01\x01" + bytes(11) + b"\x3e\x00"
    calls = b"".join(
        b"\x90" * (number % 5) + b"\xe8" + (9999 - number * 8).to_bytes(4, "little", signed=True)
        for number in range(999)
    )
    _, (blob,) = check([[layer("x", {"a.so": head + calls}, tmp_path / "code")]], Level.DEFAULT)
    _, (text,) = check([[layer("x", {"a.so": b"-" * 20 + calls}, tmp_path / "text")]], Level.DEFAULT)
    assert (blob.code, text.code) == (True, False)


def test_machine_code_that_hardly_differs_is_compared_as_it_is(tmp_path: Path) -> None:
    """Distances that stayed the same are others when they count from the start of the file; the base is filtered."""
    generator = random.Random(3)
    head = b"\x7fELF\x02\x01\x01" + bytes(11) + b"\x3e\x00"
    calls = b"".join(b"\xe8" + generator.randbytes(2) + b"\0\0" + generator.randbytes(203) for _ in range(999))
    one = layer("n-1-cp39", {"a.so": head + calls}, tmp_path / "1")
    two = layer("n-1-cp310", {"a.so": head + b"moved" + calls}, tmp_path / "2")
    _, made = check([[one], [two]], Level.DEFAULT)
    assert [(blob.code, blob.bases) for blob in made] == [(True, ()), (False, (0,))]
    assert len(made[1].stored) < 200


def test_a_delta_names_its_bases_and_is_small(tmp_path: Path) -> None:
    text = noise(100_000, 1)
    one = layer("n-1-cp39", {"a.py": text}, tmp_path / "1")
    two = layer("n-1-cp310", {"a.py": text[:50_000] + b"changed" + text[50_000:]}, tmp_path / "2")
    _, made = check([[one], [two]])
    assert [blob.bases for blob in made] == [(), (0,)]
    assert len(made[1].stored) < 200


def test_a_delta_that_does_not_get_smaller_has_no_base(tmp_path: Path) -> None:
    one = layer("n-1-cp39", {"a.py": noise(1000, 1)}, tmp_path / "1")
    two = layer("n-1-cp310", {"a.py": noise(1000, 2)}, tmp_path / "2")
    _, made = check([[one], [two]])
    assert [(blob.compressed, blob.bases) for blob in made] == [(False, ()), (False, ())]


# The cache ------------------------------------------------------------------------------------------------------


def test_what_is_in_the_cache_is_not_read_again(tmp_path: Path) -> None:
    one = layer("x", {"a": "text " * 100}, tmp_path / "files")
    cache = Cache(tmp_path / "cache")
    laid, made = check([[one]], cache=cache)
    (tmp_path / "files/a").unlink()
    assert list(blobs.compress(laid.drafts, Level.FAST, lambda _: None, cache)) == made
    with pytest.raises(PackError, match="No such file"):
        list(blobs.compress(laid.drafts, Level.DEFAULT, lambda _: None, cache))


@pytest.mark.parametrize("damage", [b"", b"x", bytes(32), bytes(500)])
def test_what_is_damaged_in_the_cache_is_made_anew(tmp_path: Path, damage: bytes) -> None:
    one = layer("x", {"a": "text " * 100}, tmp_path / "files")
    cache = Cache(tmp_path / "cache")
    _, made = check([[one]], cache=cache)
    (kept,) = (tmp_path / "cache").glob("*/*")
    kept.write_bytes(damage)
    assert check([[one]], cache=cache)[1] == made
    assert len(kept.read_bytes()) == 32 + len(made[0].stored)


def test_a_cache_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    check([[layer("x", {"a": "text"}, tmp_path / "files")]], cache=Cache(tmp_path / "cache"))
    assert (tmp_path / "cache").read_text() == "a file"


def test_a_blob_is_named_after_all_that_it_depends_on(tmp_path: Path) -> None:
    one = layer("n-1-cp39", {"a.py": "1" * 50}, tmp_path / "1")
    names = set()
    for number, text in enumerate(["2", "3"]):
        two = layer("n-1-cp310", {"a.py": text * 50}, tmp_path / f"two{number}")
        drafts = layout.lay_out([[one], [two]]).drafts
        names |= {blobs.recipe(drafts[:1], Level.FAST), blobs.recipe([drafts[1], drafts[0]], Level.FAST)}
        names |= {blobs.recipe([drafts[1], drafts[0]], Level.SMALL)}
        names |= {blobs.recipe(drafts[1:2], Level.FAST)}
    assert len(names) == 1 + 2 * 3


def test_what_was_not_packed_for_long_is_thrown_away(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    for name in (b"old", b"new"):
        cache.put(name, name)
    (old,) = (path for path in (tmp_path / "cache").glob("*/*") if path.read_bytes().endswith(b"old"))
    os.utime(old, (0, 0))
    cache.sweep()
    assert (cache.get(b"old"), cache.get(b"new")) == (None, b"new")


# Processors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 3, 16])
def test_the_bytes_do_not_depend_on_the_number_of_processors(
    tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = layer("x", {f"{number}": noise(100, number) * 20000 for number in range(20)}, tmp_path)
    drafts = layout.lay_out([[one]]).drafts
    expected = [blob.stored for blob in blobs.compress(drafts, Level.FAST, lambda _: None)]
    monkeypatch.setattr(os, "cpu_count", lambda: workers)
    assert len(expected) == 3
    assert [blob.stored for blob in blobs.compress(drafts, Level.FAST, lambda _: None)] == expected


def test_the_bytes_do_not_depend_on_which_blob_is_ready_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = layer("x", {f"{number}": noise(100, number) * 20000 for number in range(20)}, tmp_path)
    drafts = layout.lay_out([[one]]).drafts
    expected = [blob.digest for blob in blobs.compress(drafts, Level.FAST, lambda _: None)]
    compress, delays = blobs._compress, iter([0.3, 0.1, 0.0])

    def slow(raw: bytes, prefix: bytes, level: Level, stop: threading.Event) -> bytes:
        time.sleep(next(delays))
        return compress(raw, prefix, level, stop)

    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    monkeypatch.setattr(blobs, "_compress", slow)
    assert [blob.digest for blob in blobs.compress(drafts, Level.FAST, lambda _: None)] == expected


@pytest.mark.parametrize("change", ["same size", "longer", "gone"])
def test_a_file_that_changes_while_it_is_packed_is_noticed(tmp_path: Path, change: str) -> None:
    drafts = layout.lay_out([[layer("x", {"a": "before"}, tmp_path)]]).drafts
    if change == "gone":
        (tmp_path / "a").unlink()
        expected = f"cannot read {tmp_path}/a: No such file or directory"
    else:
        (tmp_path / "a").write_text("after!" if change == "same size" else "much longer")
        expected = f"{tmp_path}/a was changed while it was packed"
    with pytest.raises(PackError) as caught:
        list(blobs.compress(drafts, Level.FAST, lambda _: None))
    assert str(caught.value) == expected


def test_closing_ends_the_work_soon(tmp_path: Path) -> None:
    """At level 22 a blob of this kind takes many seconds; whoever gives up does not wait for it."""
    words = [noise(6, number) for number in range(5000)]
    text = b"".join(random.Random(1).choices(words, k=3 * BLOB_SIZE // 6))
    drafts = layout.lay_out([[layer("x", {"first": b"soon ready" * 999_999, "second": text}, tmp_path)]]).drafts
    others = set(threading.enumerate())
    running = blobs.compress(drafts, Level.SMALL, lambda _: None)
    next(running)
    before = time.monotonic()
    running.close()
    assert time.monotonic() - before < 5
    assert not set(threading.enumerate()) - others
