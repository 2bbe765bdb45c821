"""Blobs: the bytes of all layers' files, equal ones once, cut and compressed.

Files that the same slices need lie together, so that a launch decodes nothing that it does not write.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import defaultdict, deque
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import zstandard

from packer.errors import PackError
from packer.model import Entry, Layer

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

BLOB_SIZE = 1 << 24
"""Bytes of a decoded blob: as many as ``MAX_BLOB`` allows, since a blob is compressed by itself."""

LEVEL = 19
"""Of zstd: what every host downloads is packed once."""

FAST_LEVEL = 3

_STEP = 1 << 20
"""Bytes that are compressed between two looks at whether to go on: less than a second's work."""


@dataclass(frozen=True)
class Blob:
    """A run of bytes as it stands in the archive."""

    stored: bytes
    raw_size: int
    compressed: bool
    digest: bytes
    """SHA-256 of the stored bytes."""


@dataclass(frozen=True)
class Content:
    """Where a file's bytes start; they go on in the blobs that follow."""

    blob: int
    offset: int
    size: int


Key = tuple[bytes, int]
"""What makes files equal: SHA-256 and size."""


def key(entry: Entry) -> Key:
    """Name a file's content."""
    return entry.sha256, entry.size


def cut(slices: Sequence[Sequence[Layer]]) -> tuple[list[list[Entry]], dict[Key, Content]]:
    """Decide the order of all contents and where the blobs begin.

    :param slices: the layers of each slice, most preferred slice first.
    :return: per run of blobs the files in it; where each content lies.
    """
    used_by: dict[Key, set[int]] = defaultdict(set)
    first: dict[Key, Entry] = {}
    for number, layers in enumerate(slices):
        for layer in layers:
            for entry in layer.entries:
                if entry.source:
                    used_by[key(entry)].add(number)
                    first.setdefault(key(entry), entry)
    groups: dict[tuple[int, ...], list[Entry]] = defaultdict(list)
    for name, entry in first.items():
        groups[tuple(sorted(used_by[name]))].append(entry)
    order = sorted(groups, key=lambda users: (users[0], -len(users), users))
    runs = [sorted(groups[users], key=_likeness) for users in order]
    return runs, _place(runs)


def raw_size(slices: Iterable[Sequence[Layer]]) -> int:
    """Count the bytes of all contents, equal ones once."""
    return sum(size for _, size in {key(entry) for one in slices for layer in one for entry in layer.entries})


def _likeness(entry: Entry) -> tuple[str, str, int, bytes]:
    """Files of one kind lie side by side, since they look alike to the compressor."""
    name = entry.path.rpartition("/")[2]
    return os.path.splitext(name)[1], entry.path, entry.size, entry.sha256


def _place(runs: Iterable[Sequence[Entry]]) -> dict[Key, Content]:
    places: dict[Key, Content] = {}
    blob = 0
    for run in runs:
        offset = 0
        for entry in run:
            places[key(entry)] = Content(blob + offset // BLOB_SIZE, offset % BLOB_SIZE, entry.size)
            offset += entry.size
        blob += -(-offset // BLOB_SIZE)
    return places


def compress(
    runs: Iterable[Sequence[Entry]], level: int, progress: Callable[[int], None]
) -> Generator[Blob, None, None]:
    """Compress the runs' blobs on all processors, in order.

    Whoever does not take all of them closes the iterator, or else work goes on.

    :param level: zstd's.
    :param progress: called with the number of bytes that have been done since the last call.
    :raises PackError: if a file cannot be read, or is not what it was.
    """
    workers = os.cpu_count() or 1
    stop = threading.Event()
    pending: deque[Future[Blob]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for raw in (raw for run in runs for raw in _raw_blobs(run)):
                pending.append(pool.submit(_compress, raw, level, stop))
                while len(pending) > workers + 1:  # a bounded number of blobs in memory
                    yield _finished(pending, progress)
            while pending:
                yield _finished(pending, progress)
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def _finished(pending: deque[Future[Blob]], progress: Callable[[int], None]) -> Blob:
    blob = pending.popleft().result()
    progress(blob.raw_size)
    return blob


def _raw_blobs(run: Iterable[Entry]) -> Iterator[bytes]:
    buffer = bytearray()
    for entry in run:
        buffer += _content(entry)
        while len(buffer) >= BLOB_SIZE:
            yield bytes(buffer[:BLOB_SIZE])
            del buffer[:BLOB_SIZE]
    if buffer:
        yield bytes(buffer)


def _content(entry: Entry) -> bytes:
    assert entry.source is not None, entry.path
    try:
        content = entry.source.read_bytes()
    except OSError as error:
        raise PackError(f"cannot read {entry.source}: {error.strerror}") from error
    if hashlib.sha256(content).digest() != entry.sha256:
        raise PackError(f"{entry.source} was changed while it was packed")
    return content


def _compress(raw: bytes, level: int, stop: threading.Event) -> Blob:
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level, source_size=len(raw), window_log=24, write_content_size=True
    )
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj(size=len(raw))
    parts = []
    for start in range(0, len(raw), _STEP):
        if stop.is_set():
            raise CancelledError
        parts.append(compressor.compress(raw[start : start + _STEP]))
    stored = b"".join([*parts, compressor.flush()])
    compressed = len(stored) < len(raw)
    stored = stored if compressed else raw
    return Blob(stored, len(raw), compressed, hashlib.sha256(stored).digest())
