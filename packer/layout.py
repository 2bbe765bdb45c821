"""Layout: which file's bytes lie in which blob, and which blobs are deltas against which.

A launch decodes nothing that its slice does not use, but for the bases of its deltas: so files that the same slices
need lie together. What a later slice has in another version is a delta against what an earlier one has on its own:
the same module compiled for another Python, the same file of another release. Bytecode and its source are such a pair.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import TYPE_CHECKING

import zstandard

from packer.model import Entry, Layer, LayerKind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

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

_WORTH = 0.9
"""A delta that takes a larger part than this of the file's own compressed size is none: better a base for others."""

_QUICK = 3
"""Level at which a gain is estimated."""

_X86_64 = b"\x3e\x00"
"""``e_machine`` of an ELF file."""

_ABI = re.compile(r"\.(?:cpython|cp|abi)-?\d[\w.-]*(?=\.(?:so|pyc)$)|\.abi3(?=\.so$)|-[0-9a-f]{8}(?=[.-])")
"""What the file names of one module have for different Pythons: the ABI tag; the hash that auditwheel puts in."""

_VERSION = re.compile(r"-[^/-]+(?=\.(?:dist-info|data)/)")

Key = tuple[bytes, int]
"""What makes files equal: SHA-256 and size."""


class _Kind(IntEnum):
    """What is compressed with its like, in the order in which it is laid out: a base stands before its delta."""

    BYTECODE = 0
    TEXT = 1
    CODE = 2


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


def key(entry: Entry) -> Key:
    """Name a file's content."""
    return entry.sha256, entry.size


def raw_size(slices: Iterable[Sequence[Layer]]) -> int:
    """Count the bytes of all contents, equal ones once."""
    return sum(size for _, size in {key(entry) for one in slices for layer in one for entry in layer.entries})


def lay_out(slices: Sequence[Sequence[Layer]], *, own: Collection[bytes] = ()) -> Layout:
    """Decide where everything goes.

    :param slices: the layers of each slice, most preferred slice first.
    :param own: digests of layers that change whenever the program is packed again. Their files lie in blobs of
        their own behind all others, so that packing again, and a patch, leave the others alone.
    """
    files = _files(slices, own)
    desk = _Desk()
    for mine in (False, True):
        for kind in _Kind:
            groups: dict[tuple[int, ...], list[_File]] = defaultdict(list)
            for file in files:
                if (file.own, file.kind) == (mine, kind):
                    groups[file.users].append(file)
            for users in sorted(groups, key=lambda users: (users[0], -len(users), users)):
                desk.add(groups[users], every=len(users) == len(slices))
    return Layout(tuple(desk.drafts), desk.places)


@dataclass(frozen=True)
class _File:
    """A content and what is known of it."""

    entry: Entry
    layer: Layer
    kind: _Kind
    users: tuple[int, ...]
    """Slices."""
    own: bool

    @property
    def name(self) -> str:
        """What it is called in every version."""
        return _ABI.sub("", _VERSION.sub("", self.entry.path))

    @property
    def release(self) -> str:
        """Distribution and version of its wheel; one release is compiled alike for all Pythons."""
        return "-".join(self.layer.name.split("-")[:2])

    @property
    def likeness(self) -> tuple[str, str, int, bytes]:
        """Files of one kind lie side by side, since they look alike to the compressor."""
        name = self.entry.path.rpartition("/")[2]
        return os.path.splitext(name)[1], self.entry.path, self.entry.size, self.entry.sha256


def _files(slices: Sequence[Sequence[Layer]], own: Collection[bytes]) -> list[_File]:
    """Give every content once, by the first path that has it."""
    used_by: dict[Key, set[int]] = defaultdict(set)
    first: dict[Key, tuple[Entry, Layer]] = {}
    for number, layers in enumerate(slices):
        for layer in layers:
            for entry in layer.entries:
                if entry.source:
                    used_by[key(entry)].add(number)
                    first.setdefault(key(entry), (entry, layer))
    return [
        _File(entry, layer, _kind(entry, layer), tuple(sorted(used_by[name])), _origin(layer).digest in own)
        for name, (entry, layer) in first.items()
    ]


def _origin(layer: Layer) -> Layer:
    return layer.of or layer


def _kind(entry: Entry, layer: Layer) -> _Kind:
    if layer.kind is LayerKind.BYTECODE:
        return _Kind.BYTECODE
    if entry.source is None or entry.size < 64 or entry.path.endswith((".py", ".pyi", ".txt", "/METADATA", "/RECORD")):
        return _Kind.TEXT
    try:
        with entry.source.open("rb") as file:
            head = file.read(20)
    except OSError:  # whoever compresses it says so
        return _Kind.TEXT
    return _Kind.CODE if head[:4] == b"\x7fELF" and head[18:20] == _X86_64 else _Kind.TEXT


@dataclass
class _Desk:
    """The layout while it is made: a blob is made after its bases."""

    drafts: list[Draft] = field(default_factory=list)
    places: dict[Key, Content] = field(default_factory=dict)
    bases: dict[tuple[bool, _Kind, str], list[_File]] = field(default_factory=lambda: defaultdict(list))
    """Files that are no deltas, by what they are called in every version."""

    def add(self, files: Sequence[_File], *, every: bool) -> None:
        """Lay out the files of one kind that the same slices use.

        :param every: all slices use them.
        """
        self.places |= {key(file.entry): Content(0, 0, 0) for file in files if not file.entry.size}
        ordered = sorted((file for file in files if file.entry.size), key=lambda file: file.likeness)
        chosen = [(file, self._base(file, every=every)) for file in ordered]
        alone = [file for file, base in chosen if base is None]
        for run in _plain_runs(alone):
            self._place(run, ())
        for file in alone:
            self.bases[file.own, file.kind, file.name].append(file)
        deltas = [(file, key(base.entry)) for file, base in chosen if base is not None]
        deltas.sort(key=lambda pair: (self.places[pair[1]].blob, self.places[pair[1]].offset))
        for run, bases in self._delta_runs(deltas):
            self._place(run, bases)

    def _base(self, file: _File, *, every: bool) -> _File | None:
        """Choose what a file is a delta against; None: it stands for itself."""
        candidates = self.bases.get((file.own, file.kind, file.name), [])
        if not candidates and file.kind is _Kind.TEXT and every and not file.own:
            # Bytecode is other Pythons' base already, and with it a source weighs no more than a delta of it does.
            # What is worked on stands for itself, so that a patch can compress it again.
            candidates = self.bases.get((file.own, _Kind.BYTECODE, f"{file.name}c"), [])
        candidates = [base for base in candidates if base.release == file.release] or candidates
        if not candidates or candidates[0].release == file.release or file.kind is not _Kind.CODE:
            return candidates[0] if candidates else None
        gains = [(_gain(file, base), number) for number, base in enumerate(candidates)]
        gain, number = min(gains)
        return candidates[number] if gain < _WORTH else None

    def _place(self, pieces: Sequence[tuple[_File, int, int]], bases: tuple[int, ...]) -> None:
        """Make a blob."""
        number, offset = len(self.drafts), 0
        for file, start, size in pieces:
            if start == 0:
                self.places[key(file.entry)] = Content(number, offset, file.entry.size)
            offset += size
        code = pieces[0][0].kind is _Kind.CODE
        self.drafts.append(Draft(tuple(Piece(file.entry, start, size) for file, start, size in pieces), code, bases))

    def _delta_runs(
        self, deltas: Sequence[tuple[_File, Key]]
    ) -> Iterator[tuple[list[tuple[_File, int, int]], tuple[int, ...]]]:
        """Cut files with their bases' keys, in the order of the bases, into blobs."""
        run: list[tuple[_File, int, int]] = []
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

    def _large_deltas(self, file: _File, base: Key) -> Iterator[tuple[list[tuple[_File, int, int]], tuple[int, ...]]]:
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


def _plain_runs(files: Iterable[_File]) -> Iterator[list[tuple[_File, int, int]]]:
    """Cut files into blobs; only one that is larger than a blob is in more than one."""
    run: list[tuple[_File, int, int]] = []
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


def _gain(file: _File, base: _File) -> float:
    """Estimate the size of a delta as a part of the size without one."""
    assert file.entry.source is not None
    assert base.entry.source is not None
    content, prefix = file.entry.source.read_bytes()[:BLOB_SIZE], base.entry.source.read_bytes()[:BLOB_SIZE]
    dictionary = zstandard.ZstdCompressionDict(prefix, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    alone = zstandard.ZstdCompressor(level=_QUICK).compress(content)
    delta = zstandard.ZstdCompressor(level=_QUICK, dict_data=dictionary).compress(content)
    return len(delta) / len(alone)
