"""Layout: which file's bytes lie in which blob, and which blobs are deltas against which.

A launch decodes nothing that its slice does not use, but for the bases of its deltas: so files that the same slices
need lie together.
"""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from packer import pairs

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from packer.cache import Cache
    from packer.model import Entry, Layer
    from packer.pairs import File, Key

BLOB_SIZE = 1 << 24
"""Bytes of a decoded blob: as many as ``MAX_BLOB`` allows, since a blob is compressed by itself."""

_MOST_BASES = 4
"""``MAX_BASES``."""

_PREFIX_SIZE = 1 << 25
"""``MAX_PREFIX``: bytes of a delta's bases together."""

_SMALL_DELTA = 1 << 20
"""Bytes up to which a delta blob is not worth a blob of its own: it takes in what has other bases, too."""

_SLACK = 1 << 20
"""Bytes by which the same place of two versions of a file may have moved."""


@dataclass(frozen=True)
class Piece:
    """A part of a file; nearly always all of it."""

    entry: Entry
    start: int
    size: int


@dataclass(frozen=True)
class Draft:
    """A blob before it is compressed."""

    pieces: tuple[Piece, ...]
    code: bool
    """x86-64 machine code, which is filtered."""
    bases: tuple[int, ...] = ()
    """Blobs that stand before it, none of which has bases."""

    @cached_property
    def size(self) -> int:
        """Bytes decoded."""
        return sum(piece.size for piece in self.pieces)


@dataclass(frozen=True)
class Content:
    """Where a file's bytes start; they go on in the blobs that follow."""

    blob: int
    offset: int
    size: int


@dataclass(frozen=True)
class Layout:
    """All blobs of an archive, and where each content lies."""

    drafts: tuple[Draft, ...]
    places: Mapping[Key, Content]


def raw_size(slices: Iterable[Sequence[Layer]]) -> int:
    """Count the bytes of all contents, equal ones once."""
    return sum(size for _, size in {pairs.key(entry) for one in slices for layer in one for entry in layer.entries})


def lay_out(slices: Sequence[Sequence[Layer]], *, own: Collection[bytes] = (), cache: Cache | None = None) -> Layout:
    """Decide where everything goes.

    :param slices: the layers of each slice, most preferred slice first.
    :param own: digests of layers that change whenever the program is packed again. Their files lie in blobs of
        their own behind all others, so that packing again, and a patch, leave the others alone.
    :param cache: where estimates are kept of what is worth a delta.
    """
    files = pairs.files(slices, own)
    bases = pairs.pair(files, cache)
    groups: dict[tuple[bool, bool, pairs.Kind, tuple[int, ...]], list[File]] = defaultdict(list)
    for file in files:
        if file.entry.size:
            groups[file.own, file.key in bases, file.kind, file.users].append(file)
    desk = _Desk(places={file.key: Content(0, 0, 0) for file in files if not file.entry.size})
    for mine, delta, kind, users in sorted(groups, key=_order):
        group = sorted(groups[mine, delta, kind, users], key=_likeness)
        if delta:
            desk.add_deltas([(file, bases[file.key]) for file in group])
        else:
            desk.add(group)
    return Layout(tuple(desk.drafts), desk.places)


def _order(group: tuple[bool, bool, pairs.Kind, tuple[int, ...]]) -> tuple[object, ...]:
    """Bases stand before their deltas, and what a preferred slice needs before what others do."""
    mine, delta, kind, users = group
    return mine, delta, kind, users[0], -len(users), users


def _likeness(file: File) -> tuple[str, str, int, bytes]:
    """Files of one kind lie side by side, since they look alike to the compressor."""
    name = file.entry.path.rpartition("/")[2]
    return os.path.splitext(name)[1], file.entry.path, file.entry.size, file.entry.sha256


@dataclass
class _Desk:
    """The layout while it is made."""

    places: dict[Key, Content]
    drafts: list[Draft] = field(default_factory=list)

    def add(self, files: Sequence[File]) -> None:
        """Lay out files of one kind that the same slices use, and that stand for themselves."""
        for run in _plain_runs(files):
            self._place(run, ())

    def add_deltas(self, deltas: Iterable[tuple[File, Key]]) -> None:
        """Lay out files with their bases, which lie somewhere already."""
        ordered = sorted(deltas, key=lambda pair: (self.places[pair[1]].blob, self.places[pair[1]].offset))
        for run, bases in self._delta_runs(ordered):
            self._place(run, bases)

    def _place(self, pieces: Sequence[tuple[File, int, int]], bases: tuple[int, ...]) -> None:
        """Make a blob."""
        number, offset = len(self.drafts), 0
        for file, start, size in pieces:
            if start == 0:
                self.places[file.key] = Content(number, offset, file.entry.size)
            offset += size
        code = pieces[0][0].kind is pairs.Kind.CODE
        self.drafts.append(Draft(tuple(Piece(file.entry, start, size) for file, start, size in pieces), code, bases))

    def _delta_runs(
        self, deltas: Sequence[tuple[File, Key]]
    ) -> Iterator[tuple[list[tuple[File, int, int]], tuple[int, ...]]]:
        """Cut files with their bases' keys, in the order of the bases, into blobs."""
        run: list[tuple[File, int, int]] = []
        size, bases = 0, frozenset[int]()
        for file, base in deltas:
            if file.entry.size > BLOB_SIZE:
                yield from self._large_deltas(file, base)
                continue
            wanted = frozenset(self._blobs_of(base, 0, self.places[base].size)[: _MOST_BASES // 2])
            joined = bases | wanted
            fits = size + file.entry.size <= BLOB_SIZE and self._can_be_prefix(joined)
            if run and not (fits and (joined == bases or size < _SMALL_DELTA)):
                yield run, tuple(sorted(bases))
                run, size, joined = [], 0, wanted
            run.append((file, 0, file.entry.size))
            size, bases = size + file.entry.size, joined
        if run:
            yield run, tuple(sorted(bases))

    def _large_deltas(self, file: File, base: Key) -> Iterator[tuple[list[tuple[File, int, int]], tuple[int, ...]]]:
        for start in range(0, file.entry.size, BLOB_SIZE):
            size = min(BLOB_SIZE, file.entry.size - start)
            yield [(file, start, size)], tuple(self._blobs_of(base, start - _SLACK, start + size + _SLACK)[:2])

    def _blobs_of(self, name: Key, start: int, end: int) -> list[int]:
        """Give the blobs in which the bytes of a content from ``start`` to ``end`` lie."""
        place, found = self.places[name], []
        blob, at = place.blob, -place.offset
        while at < min(end, place.size):
            if at + self.drafts[blob].size > max(start, 0):
                found.append(blob)
            at += self.drafts[blob].size
            blob += 1
        return found

    def _can_be_prefix(self, bases: Collection[int]) -> bool:
        return len(bases) <= _MOST_BASES and sum(self.drafts[base].size for base in bases) <= _PREFIX_SIZE


def _plain_runs(files: Iterable[File]) -> Iterator[list[tuple[File, int, int]]]:
    """Cut files into blobs; only one that is larger than a blob is in more than one."""
    run: list[tuple[File, int, int]] = []
    room = BLOB_SIZE
    for file in files:
        if run and room < file.entry.size:
            yield run
            run, room = [], BLOB_SIZE
        start, left = 0, file.entry.size
        while left > room:
            yield [*run, (file, start, room)]
            start, left = start + room, left - room
            run, room = [], BLOB_SIZE
        run.append((file, start, left))
        room -= left
    if run:
        yield run
