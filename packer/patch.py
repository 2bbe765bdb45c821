"""Patches: from an archive that is there and a small file to the next archive, as ``abi/PATCH.md`` has it.

What both sides need stands here, and the side that applies; the one that makes patches is ``packer/diff.py``.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import zstandard

from packer import blobs, files
from packer.archive import compress_index
from packer.errors import PackError, UsageError
from packer.reader import reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from packer.progress import Progress
    from packer.reader import Archive

MAGIC = b"\x89fpatch\n"
VERSION = 1

MAX_FILE = 1 << 36
"""Bytes of OLD or NEW."""

MAX_STEPS = 1 << 22
MAX_SOURCES = 4
"""Of one step."""

MAX_PREFIX = 1 << 25
"""Bytes of a step's sources together."""

MAX_PIECE = 1 << 25
"""Bytes that one frame decodes to."""

COPY, MAKE = 1, 2
"""Kinds of steps."""

FILE, BLOB, INDEX = 1, 2, 3
"""Kinds of sources."""

DIGEST_SIZE = 32

_BLOCK = 1 << 20
"""Bytes that are copied or hashed at once."""

ZSTD_VERSION = zstandard.ZSTD_VERSION[0] << 16 | zstandard.ZSTD_VERSION[1] << 8 | zstandard.ZSTD_VERSION[2]
"""Of the library at hand; another one may compress the same bytes to others."""


class Head(NamedTuple):
    """The first bytes of a patch."""

    magic: bytes
    version: int
    zstd: int
    """Library that compresses again as needed, ``a << 16 | b << 8 | c``; 0: nothing is compressed again."""
    old_size: int
    old_digest: bytes
    old_id: bytes
    new_size: int
    new_digest: bytes
    new_id: bytes
    step_count: int
    source_count: int


class Step(NamedTuple):
    """Gives the next bytes of NEW."""

    kind: int
    recipe: int
    """How the frame's bytes are compressed again; 0: they are not."""
    size: int
    """Bytes of NEW."""
    offset: int
    """Copy: where they are in OLD; make: where the frame is in the patch."""
    stored_size: int = 0
    """Bytes of the frame."""
    raw_size: int = 0
    """Bytes that it decodes to."""
    first_source: int = 0
    source_count: int = 0


class Source(NamedTuple):
    """Bytes that OLD has, part of the prefix that a frame was made with."""

    kind: int
    blob: int
    offset: int
    """In the file, the decoded blob or the decoded index."""
    size: int


HEAD = struct.Struct("<8sIIQ32s32sQ32s32sII")
STEP = struct.Struct("<IIQQIIII")
SOURCE = struct.Struct("<IIQQ")


@dataclass(frozen=True)
class Made:
    """What applying a patch gave."""

    path: Path
    size: int
    archive_id: str


# Compressing again ------------------------------------------------------------------------------------------------


RECIPES: dict[int, blobs.Level | None] = {1: blobs.Level.DEFAULT, 2: blobs.Level.FAST, 3: None, 4: blobs.Level.SMALL}
"""Ways in which packers compress, by the number in a step: blobs at a level, or the index.

One that a patch was made with stays; a packer that compresses otherwise adds one.
"""


def compressed_again(raw: bytes, recipe: int) -> Iterator[bytes]:
    """Compress as the packer did, byte for byte if the zstd library is the same.

    :param recipe: a key of :data:`RECIPES`, or 0: the bytes as they are.
    :return: the parts of the result.
    """
    if not recipe:
        yield raw
        return
    level = RECIPES[recipe]
    if level is None:
        yield compress_index(raw)
        return
    compressor = blobs.compressor(len(raw), b"", level).compressobj(size=len(raw))
    for start in range(0, len(raw), _BLOCK):
        yield compressor.compress(raw[start : start + _BLOCK])
    yield compressor.flush()


def dictionary(prefix: bytes) -> zstandard.ZstdCompressionDict | None:
    """What a frame is made and decoded with besides its own bytes."""
    return zstandard.ZstdCompressionDict(prefix, dict_type=zstandard.DICT_TYPE_RAWCONTENT) if prefix else None


# What both sides read ---------------------------------------------------------------------------------------------


def prefix_of(archive: Archive, sources: Sequence[Source]) -> bytes:
    """The bytes of sources, one after the other.

    :param archive: OLD.
    :raises PackError: if OLD has not these bytes, or they are too many.
    """
    if len(sources) > MAX_SOURCES or sum(source.size for source in sources) > MAX_PREFIX:
        raise PackError("patch is damaged: a step's sources are too many or too large")
    return b"".join(_source(archive, source) for source in sources)


def _source(archive: Archive, source: Source) -> bytes:
    end = source.offset + source.size
    if source.kind == BLOB and source.blob < archive.pointer.blob_count:
        raw = archive.blob(source.blob)
    elif source.kind == INDEX:
        raw = archive.raw_index()
    elif source.kind == FILE and end <= archive.size:
        return archive.read(source.offset, source.size)
    else:
        raise PackError("patch is damaged: a source is none of the old file's")
    if end > len(raw):
        raise PackError("patch is damaged: a source lies outside the old file's bytes")
    return raw[source.offset : end]


def blocks(read: Callable[[int, int], bytes], offset: int, size: int) -> Iterator[bytes]:
    """Bytes of a file, few at a time.

    :param read: takes offset and size.
    """
    for start in range(offset, offset + size, _BLOCK):
        yield read(start, min(_BLOCK, offset + size - start))


def digest(parts: Iterator[bytes]) -> bytes:
    """SHA-256 of bytes that come in parts."""
    total = hashlib.sha256()
    for part in parts:
        total.update(part)
    return total.digest()


def refuse_overwriting(output: Path, *inputs: Path) -> None:
    """Let no slip of the hand replace what is read by what comes of it.

    :raises UsageError: if the output is one of the inputs.
    """
    for path in inputs:
        if output.exists() and path.exists() and output.samefile(path):
            raise UsageError(f"{output} is both what is read and where it would be written")


# A patch that is open ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Patch:
    """An open patch, whose tables were found sound by themselves; what they say of OLD is checked when it is read."""

    path: Path
    descriptor: int
    head: Head
    tables: bytes
    """Steps and sources, as they are in the file: however many there are, they take no more memory than that."""

    @property
    def steps(self) -> Iterator[Step]:
        """In the order of NEW's bytes."""
        return map(Step._make, STEP.iter_unpack(self.tables[: self.head.step_count * STEP.size]))

    def sources(self, step: Step) -> list[Source]:
        """The parts of a step's prefix."""
        start = self.head.step_count * STEP.size + step.first_source * SOURCE.size
        packed = self.tables[start : start + step.source_count * SOURCE.size]
        return list(map(Source._make, SOURCE.iter_unpack(packed)))

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of the file.

        :raises PackError: if there are not so many.
        """
        try:
            found = os.pread(self.descriptor, size, offset)
        except OSError as error:
            raise PackError(f"cannot read {self.path}: {error.strerror}") from error
        if len(found) != size:
            raise self.damaged("it is cut short")
        return found

    def damaged(self, why: str) -> PackError:
        """The error for a patch that breaks a rule."""
        return PackError(f"{self.path}: patch is damaged: {why}", hint="get the patch again")


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Patch]:
    """Open a patch.

    :raises PackError: if it is none, damaged, or newer than this packer.
    """
    try:
        # a pipe that nobody writes to must not be waited for
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise PackError(f"cannot read {path}: {error.strerror}") from error
    try:
        yield _checked(path, descriptor)
    finally:
        os.close(descriptor)


def _checked(path: Path, descriptor: int) -> Patch:
    """Ask in this order: is it one of ours, is it whole, is it newer."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or os.pread(descriptor, len(MAGIC), 0) != MAGIC:
        raise PackError(f"{path}: not a fatpar patch: it does not begin as one")
    end = status.st_size - DIGEST_SIZE
    whole = Patch(path, descriptor, Head._make([MAGIC, *[0] * 10]), b"")
    if end < HEAD.size:
        raise whole.damaged("it is cut short")
    if digest(blocks(whole.read, 0, end)) != whole.read(end, DIGEST_SIZE):
        raise whole.damaged("its digest is wrong")
    head = Head._make(HEAD.unpack(whole.read(0, HEAD.size)))
    if head.version != VERSION:
        raise _newer(path, f"version {head.version}; known is {VERSION}")
    size = head.step_count * STEP.size + head.source_count * SOURCE.size
    if head.step_count > MAX_STEPS or size > end - HEAD.size or max(head.old_size, head.new_size) > MAX_FILE:
        raise whole.damaged("a number in its head is too large")
    patch = Patch(path, descriptor, head, b"".join(blocks(whole.read, end - size, size)))
    _check_steps(patch, end - size)
    return patch


def _newer(path: Path, what: str) -> PackError:
    return PackError(f"{path}: patch is newer than this packer: {what}", hint="get a newer packer")


def _check_steps(patch: Patch, frames_end: int) -> None:
    """Hold every number against what the patch itself says; a sum that is right bounds what is written."""
    total = 0
    for step in patch.steps:
        total += step.size
        if step.kind not in (COPY, MAKE) or (step.kind == MAKE and step.recipe and step.recipe not in RECIPES):
            raise _newer(patch.path, f"step kind {step.kind}, recipe {step.recipe} are not known")
        if step.kind == COPY and step.offset + step.size > patch.head.old_size:
            raise patch.damaged("a step lies outside the old file")
        if step.kind == MAKE and not HEAD.size <= step.offset <= frames_end - step.stored_size:
            raise patch.damaged("a frame lies outside the patch")
        if step.first_source + step.source_count > patch.head.source_count or step.source_count > MAX_SOURCES:
            raise patch.damaged("a step has sources that are not there, or too many")
        if step.raw_size > MAX_PIECE:
            raise patch.damaged("a step makes too much at once")
    if total != patch.head.new_size:
        raise patch.damaged("its steps do not make a file of the size that it states")


# Applying ---------------------------------------------------------------------------------------------------------


def apply(old: Path, patch: Path, output: Path, bar: Progress) -> Made:
    """Make NEW; it appears when its digest is right, or not at all.

    :raises PackError: if the patch is none, damaged, newer or not for OLD, or the output cannot be written.
    :raises UsageError: if the output is one of the inputs.
    """
    refuse_overwriting(output, old, patch)
    files.refuse_unwritable(output)
    with opened(patch) as steps, reading(old) as archive:
        _refuse_other(archive, old, steps.head)
        bar.say(f"making {output.name}")
        bar.total(steps.head.new_size)
        with files.replacing(output, mode=0o777) as file:
            made = hashlib.sha256()
            for part in _parts(steps, archive):
                made.update(part)
                file.write(part)
                bar.advance(len(part))
            if made.digest() != steps.head.new_digest:
                raise _wrong_result(steps)
        return Made(output, steps.head.new_size, steps.head.new_id.hex())


def _refuse_other(archive: Archive, old: Path, head: Head) -> None:
    """See that OLD is, to the last byte, the file that the patch was made for."""
    wrong = f"{old} is not the file this patch was made for"
    if archive.id == head.old_id.hex():
        if archive.size != head.old_size or digest(blocks(archive.read, 0, archive.size)) != head.old_digest:
            reason = "it is that archive, but with another launcher or signature, or damaged"
            raise PackError(f"{wrong}: {reason}", hint=f"packer verify {old} tells whether it is damaged")
        return
    if archive.id == head.new_id.hex():
        hint = "it is what the patch makes already"
    else:
        hint = "get the patch for this one, or the new file whole"
    raise PackError(f"{wrong}: it needs archive {head.old_id.hex()}, this is {archive.id}", hint=hint)


def _parts(patch: Patch, archive: Archive) -> Iterator[bytes]:
    """The bytes of NEW, a part of them at a time."""
    for step in patch.steps:
        if step.kind == COPY:
            yield from blocks(archive.read, step.offset, step.size)
            continue
        size = 0
        for part in compressed_again(_decoded(patch, archive, step), step.recipe):
            size += len(part)
            if size > step.size:
                break
            yield part
        if size != step.size:
            raise _wrong_result(patch)


def _decoded(patch: Patch, archive: Archive, step: Step) -> bytes:
    """The bytes that a step's frame stands for."""
    frame = patch.read(step.offset, step.stored_size)
    try:
        prefix = prefix_of(archive, patch.sources(step))
    except PackError as error:
        raise PackError(f"{patch.path}: {error}", hint=error.hint) from error
    try:
        # asked before any memory is
        if zstandard.frame_content_size(frame) == step.raw_size:
            decoder = zstandard.ZstdDecompressor(dict_data=dictionary(prefix))
            raw: bytes = decoder.decompress(frame, allow_extra_data=False)
            return raw
    except zstandard.ZstdError as error:
        raise patch.damaged("a frame does not decode") from error
    raise patch.damaged("a frame does not decode to the size that is stated")


def _wrong_result(patch: Patch) -> PackError:
    needed = patch.head.zstd
    if needed not in (0, ZSTD_VERSION):
        return PackError(
            f"{patch.path} needs zstd {version(needed)} to compress as the packer of the new file did; "
            f"this packer has {version(ZSTD_VERSION)}",
            hint=f"install a zstandard that brings zstd {version(needed)}, or get the new file whole",
        )
    return patch.damaged("what it makes is not the new file")


def version(number: int) -> str:
    """Write ``a << 16 | b << 8 | c``."""
    return f"{number >> 16}.{number >> 8 & 255}.{number & 255}"
