"""Blobs: drafts become bytes. Compressed on all processors, in order, and kept in the packer's cache."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import deque
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

import zstandard

from packer import files, native

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from packer.cache import Cache
    from packer.layout import Draft, Piece

_STEP = 1 << 20
"""Bytes that are compressed between two looks at whether to go on: less than a second's work."""

_LEAST_WINDOW_LOG = 10

_ALIKE = 0.05
"""A delta of machine code that takes less than this part of its size may take even less unfiltered: where nearly all
distances stay what they were, counting from the start of the file makes them different."""


class Level(Enum):
    """How much time is spent on size; values are zstd's levels. ``bench/README.md`` has what each takes and gives."""

    FAST = 12
    DEFAULT = 19
    SMALL = 22


@dataclass(frozen=True)
class Blob:
    """A run of bytes as it stands in the archive."""

    stored: bytes
    raw_size: int
    compressed: bool
    code: bool
    """Filtered before it was compressed."""
    bases: tuple[int, ...]
    digest: bytes
    """SHA-256 of the stored bytes."""


def compress(
    drafts: Sequence[Draft], level: Level, progress: Callable[[int], None], cache: Cache | None = None
) -> Generator[Blob, None, None]:
    """Compress blobs on all processors, in order.

    Whoever does not take all of them closes the iterator, or else work goes on.

    :param progress: called with the number of bytes that have been done since the last call.
    :param cache: where compressed blobs are kept and looked for.
    :raises PackError: if a file cannot be read, or is not what it was.
    """
    workers = os.cpu_count() or 1
    stop = threading.Event()
    pending: deque[Future[Blob]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for number in range(len(drafts)):
                pending.append(pool.submit(_made, drafts, number, level, cache, stop))
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


def _made(drafts: Sequence[Draft], number: int, level: Level, cache: Cache | None, stop: threading.Event) -> Blob:
    wanted = [drafts[number], *(drafts[base] for base in drafts[number].bases)]
    blob = _stored(wanted, level, cache, stop)
    if not (blob.code and blob.bases and len(blob.stored) < _ALIKE * blob.raw_size):
        return blob
    plain = _stored([replace(draft, code=False) for draft in wanted], level, cache, stop)
    return min(blob, plain, key=lambda one: len(one.stored))


def _stored(drafts: Sequence[Draft], level: Level, cache: Cache | None, stop: threading.Event) -> Blob:
    """Compress one blob.

    :param drafts: its own, and those of its bases.
    """
    if stop.is_set():
        raise CancelledError
    draft, *bases = drafts
    name = recipe(drafts, level) if cache else b""
    stored = cache.get(name) if cache else None
    if stored is None:
        stored = _compress(_raw(draft), b"".join(map(_raw, bases)), level, stop)
        if cache:
            cache.put(name, stored)
    compressed = len(stored) < draft.size
    return Blob(
        stored, draft.size, compressed, draft.code, draft.bases if compressed else (), hashlib.sha256(stored).digest()
    )


def recipe(drafts: Sequence[Draft], level: Level) -> bytes:
    """Name what a blob's stored bytes depend on: a digest of its files, its bases' and how they are compressed.

    :param drafts: the blob's own, and those of its bases.
    """
    said = [f"1 zstd {zstandard.ZSTD_VERSION} level {level.value}"]
    for one in drafts:
        said.append(f"blob {int(one.code)}")
        said += [f"{piece.entry.sha256.hex()} {piece.start} {piece.size}" for piece in one.pieces]
    return hashlib.sha256("\n".join(said).encode()).digest()


def _raw(draft: Draft) -> bytes:
    """Put a blob's bytes together; machine code as it is compressed, filtered."""
    raw = b"".join(map(_content, draft.pieces))
    if not draft.code:
        return raw
    buffer = bytearray(raw)
    native.lib().filterx86(native.ffi().from_buffer(buffer), len(buffer), 0)
    return bytes(buffer)


def _content(piece: Piece) -> bytes:
    return files.content(piece.entry)[piece.start : piece.start + piece.size]


def _compress(raw: bytes, prefix: bytes, level: Level, stop: threading.Event) -> bytes:
    """Compress a blob; what does not get smaller comes back as it is."""
    compressing = compressor(len(raw), prefix, level).compressobj(size=len(raw))
    parts = []
    for start in range(0, len(raw), _STEP):
        if stop.is_set():
            raise CancelledError
        parts.append(compressing.compress(raw[start : start + _STEP]))
    stored = b"".join([*parts, compressing.flush()])
    return stored if len(stored) < len(raw) else raw


def compressor(size: int, prefix: bytes, level: Level) -> zstandard.ZstdCompressor:
    """Make a compressor whose window reaches back to the start of the prefix.

    zstandard cannot refer to a prefix, but a dictionary of raw content gives the same frames. The quick level's own
    tables are too small for a prefix of two blobs.
    """
    reach = len(prefix) + size
    window = max(_LEAST_WINDOW_LOG, (reach - 1).bit_length())
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level.value, source_size=reach, window_log=window, write_content_size=True, write_dict_id=False,
        **({"hash_log": min(window, 24), "chain_log": min(window, 25)} if prefix and level is Level.FAST else {}),
    )  # fmt: skip
    dictionary = zstandard.ZstdCompressionDict(prefix, dict_type=zstandard.DICT_TYPE_RAWCONTENT) if prefix else None
    return zstandard.ZstdCompressor(compression_params=parameters, dict_data=dictionary)
