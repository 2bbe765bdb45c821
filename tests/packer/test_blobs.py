"""packer/blobs.py: every content lies where it is said to, once, and the bytes do not depend on who was faster."""

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

from packer import blobs, native
from packer.blobs import BLOB_SIZE, Blob, Content
from packer.errors import PackError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from packer.model import Entry, Layer


def unpacked(blob: Blob) -> bytes:
    raw = zstandard.ZstdDecompressor().decompress(blob.stored) if blob.compressed else blob.stored
    assert len(raw) == blob.raw_size
    return raw


def content(all_bytes: Sequence[bytes], place: Content) -> bytes:
    following = b"".join(all_bytes[place.blob : place.blob + 2 + place.size // BLOB_SIZE])
    return following[place.offset : place.offset + place.size]


def check(slices: Sequence[Sequence[Layer]]) -> tuple[list[list[Entry]], Mapping[blobs.Key, Content], list[Blob]]:
    """Cut and compress; every file of every layer must be found again."""
    runs, places = blobs.cut(slices)
    counted: list[int] = []
    made = list(blobs.compress(runs, blobs.FAST_LEVEL, counted.append))
    raw = [unpacked(blob) for blob in made]
    entries = [entry for one in slices for layer in one for entry in layer.entries if entry.source]
    for entry in entries:
        assert entry.source is not None
        assert content(raw, places[blobs.key(entry)]) == entry.source.read_bytes()
    assert len(places) == len({blobs.key(entry) for entry in entries})
    assert sum(counted) == sum(map(len, raw)) == blobs.raw_size(slices)
    return runs, places, made


def noise(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


def test_equal_contents_are_kept_once(tmp_path: Path) -> None:
    one = layer("one", {"a": "same", "b": "other", "bin/run": "same", "link": "->a", "dir": None}, tmp_path / "one")
    two = layer("two", {"c": "same", "d": "", "e": ""}, tmp_path / "two")
    runs, places, made = check([[one], [one, two]])
    assert [blob.raw_size for blob in made] == [len("sameother")]
    assert [[entry.path for entry in run] for run in runs] == [["a", "b"], ["d"]]
    assert places[hashlib.sha256(b"").digest(), 0].size == 0


def test_what_one_slice_alone_needs_lies_apart(tmp_path: Path) -> None:
    """So that a launch decodes nothing that it does not write; the first slice's blobs come first."""
    layers = {
        name: layer(name, {f"{name}.py": name * 100}, tmp_path / name) for name in ("all", "first", "second", "both")
    }
    slices = [
        [layers["first"], layers["all"]],
        [layers["all"], layers["second"], layers["both"]],
        [layers["all"], layers["both"]],
    ]
    runs, _, made = check(slices)
    assert [[entry.path for entry in run] for run in runs] == [["all.py"], ["first.py"], ["both.py"], ["second.py"]]
    assert len(made) == 4


def test_files_of_one_kind_are_neighbours(tmp_path: Path) -> None:
    tree = {"z/a.py": "1", "b.so": "2", "a/b.py": "3", "README": "4", "a/c.so": "5", "a/b.pyi": "6"}
    runs, _ = blobs.cut([[layer("x", tree, tmp_path)]])
    assert [entry.path for entry in runs[0]] == ["README", "a/b.py", "z/a.py", "a/b.pyi", "a/c.so", "b.so"]


@pytest.mark.parametrize(
    ("before", "place"),
    [
        pytest.param(BLOB_SIZE - 3, Content(0, BLOB_SIZE - 3, 3), id="ends-with-the-blob"),
        pytest.param(BLOB_SIZE - 2, Content(0, BLOB_SIZE - 2, 3), id="goes-on-in-the-next"),
        pytest.param(BLOB_SIZE, Content(1, 0, 3), id="begins-with-the-next"),
    ],
)
def test_a_content_at_the_end_of_a_blob(tmp_path: Path, before: int, place: Content) -> None:
    one = layer("x", {"a": noise(before, 1), "b": noise(3, 2)}, tmp_path)
    _, places, made = check([[one]])
    assert places[blobs.key(one.entries[1])] == place
    assert [blob.raw_size for blob in made] == [
        size for size in (min(before + 3, BLOB_SIZE), before + 3 - BLOB_SIZE) if size
    ]


def test_a_file_larger_than_two_blobs(tmp_path: Path) -> None:
    tree = {"a": b"small", "large": noise(2 * BLOB_SIZE + 7, 4), "z": b"after"}
    _, places, made = check([[layer("x", tree, tmp_path)]])
    assert [blob.raw_size for blob in made] == [BLOB_SIZE, BLOB_SIZE, 7 + 5 + 5]
    assert [place.blob for place in places.values()] == [0, 0, 2]


def test_no_files_make_no_blobs(tmp_path: Path) -> None:
    _, places, made = check([[layer("x", {"dir": None, "link": "->dir"}, tmp_path)], []])
    assert (dict(places), made) == ({}, [])


def test_what_does_not_get_smaller_is_stored(tmp_path: Path) -> None:
    data = noise(1000, 5)
    _, _, (blob,) = check([[layer("x", {"noise": data}, tmp_path)]])
    assert (blob.compressed, blob.stored) == (False, data)
    assert blob.digest == hashlib.sha256(data).digest()


def test_frames_say_their_size_and_no_larger_window_than_allowed(tmp_path: Path) -> None:
    tree = {"a": b"text " * (BLOB_SIZE // 4)}
    _, _, made = check([[layer("x", tree, tmp_path)]])
    frames = [zstandard.get_frame_parameters(blob.stored) for blob in made]
    assert [frame.content_size for frame in frames] == [blob.raw_size for blob in made]
    assert max(frame.window_size for frame in frames) <= 1 << native.lib().MAX_WINDOW_LOG
    assert native.lib().MAX_BLOB >= BLOB_SIZE


@pytest.mark.parametrize("workers", [1, 3, 16])
def test_the_bytes_do_not_depend_on_the_number_of_processors(
    tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = layer("x", {f"{number}": noise(100, number) * 20000 for number in range(20)}, tmp_path)
    runs, _ = blobs.cut([[one]])
    expected = [blob.stored for blob in blobs.compress(runs, 1, lambda _: None)]
    monkeypatch.setattr(os, "cpu_count", lambda: workers)
    assert len(expected) == 3
    assert [blob.stored for blob in blobs.compress(runs, 1, lambda _: None)] == expected


def test_the_bytes_do_not_depend_on_which_blob_is_ready_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = layer("x", {f"{number}": noise(100, number) * 20000 for number in range(20)}, tmp_path)
    runs, _ = blobs.cut([[one]])
    expected = [blob.digest for blob in blobs.compress(runs, 1, lambda _: None)]
    compress, delays = blobs._compress, iter([0.3, 0.1, 0.0])

    def slow(raw: bytes, level: int, stop: threading.Event) -> Blob:
        time.sleep(next(delays))
        return compress(raw, level, stop)

    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    monkeypatch.setattr(blobs, "_compress", slow)
    assert [blob.digest for blob in blobs.compress(runs, 1, lambda _: None)] == expected


@pytest.mark.parametrize("change", ["same size", "longer", "gone"])
def test_a_file_that_changes_while_it_is_packed_is_noticed(tmp_path: Path, change: str) -> None:
    runs, _ = blobs.cut([[layer("x", {"a": "before"}, tmp_path)]])
    if change == "gone":
        (tmp_path / "a").unlink()
        expected = f"cannot read {tmp_path}/a: No such file or directory"
    else:
        (tmp_path / "a").write_text("after!" if change == "same size" else "much longer")
        expected = f"{tmp_path}/a was changed while it was packed"
    with pytest.raises(PackError) as caught:
        list(blobs.compress(runs, 1, lambda _: None))
    assert str(caught.value) == expected


def test_closing_ends_the_work_soon(tmp_path: Path) -> None:
    """At level 22 a blob of this kind takes many seconds; whoever gives up does not wait for it."""
    words = [noise(6, number) for number in range(5000)]
    text = b"".join(random.Random(1).choices(words, k=3 * BLOB_SIZE // 6))
    runs, _ = blobs.cut([[layer("x", {"first": b"soon ready" * 2_000_000, "second": text}, tmp_path)]])
    others = set(threading.enumerate())
    running = blobs.compress(runs, 22, lambda _: None)
    next(running)
    before = time.monotonic()
    running.close()
    assert time.monotonic() - before < 5
    assert not set(threading.enumerate()) - others
