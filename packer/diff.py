"""Makes a patch from two archives: what NEW has in common with OLD is named, not sent."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import zstandard

from packer import files, native, patch
from packer.errors import PackError
from packer.model import EntryKind
from packer.patch import COPY, MAKE, Source, Step
from packer.reader import reading

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from packer.progress import Progress
    from packer.reader import Archive

_LITERAL_SIZE = 1 << 24
"""Bytes of NEW in one literal step: as many as a blob has at most."""

_SHIFT = 1 << 20
"""Bytes by which what a long file holds may have moved in it."""


class Part(NamedTuple):
    """A range of NEW that is described by itself."""

    offset: int
    size: int
    blob: int | None = None


@dataclass
class _Steps:
    """A patch while it grows: frames go to the file, the tables are kept."""

    file: IO[bytes]
    steps: list[Step] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    sizes: Counter[str] = field(default_factory=Counter)
    """Bytes of NEW: copied, literal, recompressed."""

    def copy(self, offset: int, size: int) -> None:
        """Take bytes of OLD; what goes on where the last step ended joins it."""
        last = self.steps[-1] if self.steps else None
        if last and last.kind == COPY and last.offset + last.size == offset:
            self.steps[-1] = last._replace(size=last.size + size)
        else:
            self.steps.append(Step(COPY, 0, size, offset))
        self.sizes["copied"] += size

    def make(self, frame: bytes, raw_size: int, size: int, recipe: int = 0, sources: Sequence[Source] = ()) -> None:
        """Take bytes that the patch brings."""
        places = self.file.tell(), len(frame), raw_size, len(self.sources), len(sources)
        self.steps.append(Step(MAKE, recipe, size, *places))
        self.sources += sources
        self.file.write(frame)
        self.sizes["recompressed" if recipe else "literal"] += size

    @property
    def zstd(self) -> int:
        """Version that applying needs; 0: any."""
        return patch.ZSTD_VERSION if any(step.recipe for step in self.steps) else 0


def diff(old: Path, new: Path, output: Path, bar: Progress) -> dict[str, Any]:
    """Write the patch from one archive to another.

    :return: what it is, as JSON values; ``docs/json.md`` has its form.
    :raises PackError: if one of them is no archive, or the output cannot be written.
    :raises UsageError: if the output is one of the inputs.
    """
    patch.refuse_overwriting(output, old, new)
    files.refuse_unwritable(output)
    with reading(old) as before, reading(new) as after:
        _refuse_large(before, old)
        _refuse_large(after, new)
        bar.say(f"comparing {new.name}")
        bar.total(after.size)
        with files.replacing(output) as file:
            file.write(bytes(patch.HEAD.size))
            steps = _Steps(file)
            described = _Described(before, after, steps)
            for part in parts(after):
                described.add(part)
                bar.advance(part.size)
            size = _finish(steps, before, after)
        return {
            "version": 1,
            "file": str(output),
            "size": size,
            "old_id": before.id,
            "old_size": before.size,
            "new_id": after.id,
            "new_size": after.size,
            **{word: steps.sizes[word] for word in ("copied", "literal", "recompressed")},
            "zstd": patch.version(steps.zstd) if steps.zstd else None,
        }


def _refuse_large(archive: Archive, path: Path) -> None:
    if archive.size > patch.MAX_FILE:
        raise PackError(f"{path}: too large for a patch: {archive.size:,} bytes of at most {patch.MAX_FILE:,}")


def parts(archive: Archive) -> Iterator[Part]:
    """Cut an archive into blobs, index and what is between and around them."""
    trailer = archive.pointer.trailer
    at = 0
    for number, blob in sorted(enumerate(archive.records("blob")), key=lambda item: int(item[1].offset)):
        if blob.offset < at:  # the format does not forbid that blobs overlap
            continue
        if blob.offset > at:
            yield Part(at, blob.offset - at)
        if blob.stored_size:
            yield Part(blob.offset, blob.stored_size, number)
        at = blob.offset + blob.stored_size
    if trailer.index_offset > at:
        yield Part(at, trailer.index_offset - at)
    yield Part(trailer.index_offset, trailer.index_size)
    at = trailer.index_offset + trailer.index_size
    yield Part(at, archive.size - at)


def _finish(steps: _Steps, old: Archive, new: Archive) -> int:
    """Write the tables, the head and the digest of all; bytes of the patch."""
    file = steps.file
    for step in steps.steps:
        file.write(patch.STEP.pack(*step))
    for source in steps.sources:
        file.write(patch.SOURCE.pack(*source))
    end = file.tell()
    head = patch.Head(
        patch.MAGIC, patch.VERSION, steps.zstd,
        old.size, patch.digest(patch.blocks(old.read, 0, old.size)), bytes.fromhex(old.id),
        new.size, patch.digest(patch.blocks(new.read, 0, new.size)), bytes.fromhex(new.id),
        len(steps.steps), len(steps.sources),
    )  # fmt: skip
    file.seek(0)
    file.write(patch.HEAD.pack(*head))
    file.flush()
    total = patch.digest(patch.blocks(lambda offset, size: os.pread(file.fileno(), size, offset), 0, end))
    file.seek(end)
    file.write(total)
    return end + len(total)


class _Described:
    """Two archives, and what was said of the second so far."""

    def __init__(self, old: Archive, new: Archive, steps: _Steps) -> None:
        self.old, self.new, self.steps = old, new, steps
        self.likely = likely_bases(old, new)
        self.stored = {(bytes(blob.digest), int(blob.stored_size)): int(blob.offset) for blob in old.records("blob")}
        self.front = next(parts(old)).size

    def add(self, part: Part) -> None:
        """Describe a part in the way that takes least; each way is tried out here, on the bytes themselves."""
        where = self._where(part)
        if where is not None:
            self.steps.copy(where, part.size)
        elif not self._recompressed(part):
            self._literal(part)

    def _where(self, part: Part) -> int | None:
        """Where OLD has the same bytes, as far as one can know without looking for them."""
        offset = part.offset
        if part.blob is not None:
            blob = self.new.pointer.blobs[part.blob]
            offset = self.stored.get((bytes(blob.digest), part.size), self.old.size)
        elif self._is_index(part):
            offset = int(self.old.pointer.trailer.index_offset)
        elif part.offset:  # signature and trailer
            offset = self.old.size - part.size
        if not 0 <= offset <= self.old.size - part.size:
            return None
        pairs = zip_longest(
            patch.blocks(self.old.read, offset, part.size), patch.blocks(self.new.read, part.offset, part.size)
        )
        return offset if all(one == other for one, other in pairs) else None

    def _is_index(self, part: Part) -> bool:
        return part.offset == int(self.new.pointer.trailer.index_offset)

    def _recompressed(self, part: Part) -> bool:
        """Try to describe a blob or the index by its decoded bytes and those of OLD."""
        try:
            raw, sources = self._decoded(part)
            if not raw or len(raw) > patch.MAX_PIECE or not sources:
                return False
            frame = _frame(raw, patch.prefix_of(self.old, sources))
        except (PackError, zstandard.ZstdError):  # what is damaged, or made in a way not known here, is literal
            return False
        stored = self.new.read(part.offset, part.size)
        # compressing again takes the user's time, which has to be worth it
        recipe = recipe_of(raw, stored, index=self._is_index(part)) if 2 * len(frame) <= len(stored) else None
        if recipe is None:
            return False
        self.steps.make(frame, len(raw), part.size, recipe, sources)
        return True

    def _decoded(self, part: Part) -> tuple[bytes, list[Source]]:
        """Decode a part of NEW; name what of OLD is like it. Nothing of either if that cannot be."""
        if self._is_index(part):
            size = int(self.old.pointer.trailer.index_raw_size)
            return self.new.raw_index(), [Source(patch.INDEX, 0, 0, size)] if size <= patch.MAX_PREFIX else []
        if part.blob is None:
            return b"", []
        blob = self.new.pointer.blobs[part.blob]
        if blob.base_count or blob.filter:
            return b"", []
        return self.new.blob(part.blob), self._bases(part.blob)

    def _bases(self, blob: int) -> list[Source]:
        """The old blobs that most of a new one's files were in, the likeliest last: zstd prefers what is near."""
        found: list[Source] = []
        for number, _ in self.likely[blob].most_common(patch.MAX_SOURCES):
            size = int(self.old.pointer.blobs[number].raw_size)
            if sum(source.size for source in found) + size <= patch.MAX_PREFIX:
                found.insert(0, Source(patch.BLOB, number, 0, size))
        return found

    def _literal(self, part: Part) -> None:
        """Bring the bytes; those of a launcher are much like those of the one before."""
        sources = [Source(patch.FILE, 0, 0, min(self.front, patch.MAX_PREFIX))] if part.offset == 0 else []
        for offset in range(part.offset, part.offset + part.size, _LITERAL_SIZE):
            size = min(_LITERAL_SIZE, part.offset + part.size - offset)
            frame = _frame(self.new.read(offset, size), patch.prefix_of(self.old, sources))
            self.steps.make(frame, size, size, 0, sources)


def _frame(raw: bytes, prefix: bytes) -> bytes:
    """Compress with OLD's bytes as prefix.

    Tables with a place for every byte of the longest prefix find what is old wherever it was, whatever the level; a
    higher one takes ten times as long for a tenth less.
    """
    parameters = zstandard.ZstdCompressionParameters.from_level(
        12 if prefix else 3, source_size=len(raw) + len(prefix), window_log=26,
        **({"hash_log": 24, "chain_log": 25} if prefix else {}),
    )  # fmt: skip
    return zstandard.ZstdCompressor(dict_data=patch.dictionary(prefix), compression_params=parameters).compress(raw)


def recipe_of(raw: bytes, stored: bytes, *, index: bool = False) -> int | None:
    """Find how the packer compressed; None if no way that is known gives these bytes with the library at hand."""
    known = [recipe for recipe, how in patch.RECIPES.items() if index == (how is None)]
    return next((recipe for recipe in (0, *known) if _gives(raw, recipe, stored)), None)


def _gives(raw: bytes, recipe: int, stored: bytes) -> bool:
    """Try a recipe, up to the first byte that is another."""
    at = 0
    for part in patch.compressed_again(raw, recipe):
        if stored[at : at + len(part)] != part:
            return False
        at += len(part)
    return at == len(stored)


# Which blobs are alike --------------------------------------------------------------------------------------------


def likely_bases(old: Archive, new: Archive) -> dict[int, Counter[int]]:
    """Per blob of NEW, the blobs of OLD that files of the same paths were in, with the bytes of these files."""
    found: dict[int, Counter[int]] = defaultdict(Counter)
    before, after = contents(old), contents(new)
    for path in before.keys() & after.keys():
        for content in after[path]:
            spans = list(_spans(new, content))
            for other in before[path]:
                for place, start, size in _spans(old, other):
                    for blob, at, length in spans:
                        shared = min(start + size + _SHIFT, at + length) - max(start - _SHIFT, at)
                        if shared > 0:
                            found[blob][place] += shared
    return found


def contents(archive: Archive) -> dict[bytes, set[int]]:
    """The contents that files of a path have, in whatever layers."""
    found: dict[bytes, set[int]] = defaultdict(set)
    for entry in archive.records("entry"):
        if entry.kind in (EntryKind.FILE.value, EntryKind.EXEC.value):
            found[native.encoded(archive.string(entry.path))].add(int(entry.value))
    return found


def _spans(archive: Archive, content: int) -> Iterator[tuple[int, int, int]]:
    """Cut a content where its blobs end: blob, where in the content, bytes."""
    place = archive.pointer.contents[content]
    blob, offset, at = int(place.blob), int(place.offset), 0
    while at < place.size:
        size = min(place.size - at, archive.pointer.blobs[blob].raw_size - offset)
        yield blob, at, size
        blob, offset, at = blob + 1, 0, at + size
