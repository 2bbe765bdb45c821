"""Where the bytes of an archive are: which part, slice, layer and file of it they belong to.

A blob is compressed as a whole, so how many of its stored bytes belong to one of its files nobody can tell: they are
shared out in proportion to the decoded bytes. That is an estimate inside a blob; whatever is added up is exact.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from packer import native
from packer.model import EntryKind, LayerKind
from packer.reader import Archive, reading

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Parts:
    """Bytes of the file's parts, which make up all of it."""

    front: int
    """Launcher and padding."""
    blobs: int
    index: int
    signature: int
    trailer: int


@dataclass(frozen=True)
class Stored:
    """Stored bytes of some contents, each in one of four."""

    own: int
    """In blobs that stand for themselves."""
    delta: int
    """In blobs that have bases."""
    bytecode: int
    """As ``own``, of what only bytecode layers have."""
    bytecode_delta: int

    @property
    def total(self) -> int:
        """Of all four."""
        return self.own + self.delta + self.bytecode + self.bytecode_delta


@dataclass(frozen=True)
class SliceSize:
    """Bytes of one slice."""

    name: str
    python: str
    layers: int
    """How many, bytecode and a carried interpreter among them."""
    unpacked: int
    stored: int
    """Of all contents that it uses."""
    adds: Stored
    """Of contents that no slice before it uses."""
    fetches: int
    """What a first launch reads: every blob it needs and their bases, each once and whole."""


@dataclass(frozen=True)
class LayerSize:
    """Bytes of one layer; of bytecode only where it belongs to no other."""

    layer: int
    name: str
    kind: int
    unpacked: int
    stored: int
    """Of all contents that it has."""
    adds: int
    """Of contents that no layer before it has: added up they count every content once."""
    bytecode: int
    """What the layers of bytecode that was compiled from it add."""
    slices: tuple[int, ...]
    """Those that use it, by number."""


@dataclass(frozen=True)
class FileSize:
    """Bytes of one content, under the name of the first file that has it."""

    layer: int
    path: str
    size: int
    stored: int
    delta: int
    """Of ``stored``, bytes in blobs that have bases."""
    bytecode: bool
    """It is a bytecode layer's."""
    slices: tuple[int, ...]


@dataclass(frozen=True)
class Sizes:
    """All sizes of an archive, in bytes."""

    total: int
    """Of the file."""
    parts: Parts
    unpacked: int
    """Of the files of all layers."""
    other: int
    """Stored bytes of blobs that belong to no layer's file."""
    shared: int
    """Stored bytes of contents that more than one slice uses."""
    delta_stored: int
    """Of all blobs that have bases."""
    delta_raw: int
    """The decoded bytes these stand for."""
    slices: tuple[SliceSize, ...]
    """Most preferred first."""
    layers: tuple[LayerSize, ...]
    """As they stand in the archive."""
    files: tuple[FileSize, ...]
    """Most stored bytes first."""
    homes: tuple[int, ...]
    """Per layer the one it is listed under: itself or, of bytecode, the one it was compiled from."""

    @property
    def labels(self) -> list[str]:
        """Short names of the slices: their Python ABI tags, if these tell them apart."""
        tags = [one.python for one in self.slices]
        return tags if len(set(tags)) == len(tags) else [one.name for one in self.slices]


def measure(path: Path) -> Sizes:
    """Measure an archive.

    :raises PackError: if it cannot be read.
    """
    with reading(path) as archive:
        return sizes(archive)


def sizes(archive: Archive) -> Sizes:
    """Measure an open archive."""
    blobs = archive.records("blob")
    places, other = _places(blobs, archive.records("content"))
    layers = _layers(archive)
    users = [archive.refs(one.first_layer, one.layer_count) for one in archive.records("slice")]
    deltas = [blob for blob in blobs if blob.base_count]
    files = _files(places, layers, users)
    named = _all(layers)
    return Sizes(
        total=archive.size,
        parts=_parts(archive, blobs),
        unpacked=sum(layer.unpacked for layer in layers),
        other=other + sum(place.stored for number, place in enumerate(places) if number not in named),
        shared=sum(file.stored for file in files if len(file.slices) > 1),
        delta_stored=sum(blob.stored_size for blob in deltas),
        delta_raw=sum(blob.raw_size for blob in deltas),
        slices=tuple(_slices(archive, blobs, places, layers, users)),
        layers=tuple(_layer_sizes(places, layers, users)),
        files=tuple(files),
        homes=tuple(_home(layers, number) for number in range(len(layers))),
    )


def divide(total: int, weights: Sequence[int]) -> list[int]:
    """Share a number out in proportion to weights, exactly: what rounding down leaves goes to the largest remainders.

    :param weights: not negative, one of them at least positive.
    :return: as many numbers, whose sum is ``total``.
    """
    whole = sum(weights)
    parts = [total * weight // whole for weight in weights]
    order = sorted(range(len(weights)), key=lambda number: -(total * weights[number] % whole))
    for number in order[: total - sum(parts)]:
        parts[number] += 1
    return parts


# Contents -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """A content: its bytes, and where they are stored."""

    size: int
    own: int
    delta: int
    blobs: tuple[int, ...]

    @property
    def stored(self) -> int:
        return self.own + self.delta


def _places(blobs: Sequence[Any], contents: Sequence[Any]) -> tuple[list[_Place], int]:
    """Share every blob's stored bytes out; give also how many belong to no content."""
    raw_sizes = [int(blob.raw_size) for blob in blobs]
    users: dict[int, list[tuple[int, int]]] = defaultdict(list)
    lies: list[list[int]] = [[] for _ in contents]
    for number, content in enumerate(contents):
        for blob, size in _spans(content, raw_sizes):
            users[blob].append((number, size))
            lies[number].append(blob)
    own, delta, other = [0] * len(contents), [0] * len(contents), 0
    for at, blob in enumerate(blobs):
        weights = [size for _, size in users[at]]
        # contents may overlap, and a blob may be empty
        unused = max(raw_sizes[at] - sum(weights), 0 if weights else 1)
        *parts, rest = divide(blob.stored_size, [*weights, unused])
        other += rest
        for (number, _), part in zip(users[at], parts, strict=True):
            (delta if blob.base_count else own)[number] += part
    placed = zip(contents, own, delta, lies, strict=True)
    return [_Place(int(content.size), mine, others, tuple(at)) for content, mine, others, at in placed], other


def _spans(content: Any, raw_sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Give the blobs in which a content lies, and how many bytes of it are there."""
    blob, offset, left = content.blob, content.offset, content.size
    while left:
        here = min(left, raw_sizes[blob] - offset)
        if here:
            yield blob, here
        blob, offset, left = blob + 1, 0, left - here


# Layers ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Layer:
    """A layer, as far as sizes go."""

    name: str
    kind: int
    unpacked: int
    of: int
    """The layer whose bytecode it is; ``NONE``: no bytecode."""
    paths: Mapping[int, str]
    """Contents, each with the first path that has it."""

    @property
    def bytecode(self) -> bool:
        return self.kind == LayerKind.BYTECODE.value


def _layers(archive: Archive) -> list[_Layer]:
    entries = archive.records("entry")
    return [
        _Layer(
            name=archive.string(layer.name),
            kind=int(layer.kind),
            unpacked=int(layer.size),
            of=int(layer.of),
            paths=_paths(archive, entries[layer.first_entry : layer.first_entry + layer.entry_count]),
        )
        for layer in archive.records("layer")
    ]


def _paths(archive: Archive, entries: Iterable[Any]) -> dict[int, str]:
    found: dict[int, str] = {}
    for entry in entries:
        if entry.kind in (EntryKind.FILE.value, EntryKind.EXEC.value) and entry.value not in found:
            found[int(entry.value)] = archive.string(entry.path)
    return found


def _all(layers: Iterable[_Layer]) -> set[int]:
    """Give the contents of several layers."""
    return {content for layer in layers for content in layer.paths}


def _home(layers: Sequence[_Layer], number: int) -> int:
    """Give the layer that one is listed under."""
    return layers[number].of if layers[number].bytecode else number


def _layer_sizes(
    places: Sequence[_Place], layers: Sequence[_Layer], users: Sequence[Sequence[int]]
) -> Iterator[LayerSize]:
    adds = [0] * len(layers)
    for content, number in _firsts(layers).items():
        adds[number] += places[content].stored
    bytecode = [0] * len(layers)
    for number in range(len(layers)):
        if _home(layers, number) != number:
            bytecode[_home(layers, number)] += adds[number]
    for number, layer in enumerate(layers):
        if _home(layers, number) == number:
            yield LayerSize(
                layer=number,
                name=layer.name,
                kind=layer.kind,
                unpacked=layer.unpacked,
                stored=sum(places[content].stored for content in layer.paths),
                adds=adds[number],
                bytecode=bytecode[number],
                slices=tuple(at for at, used in enumerate(users) if number in used),
            )


def _firsts(layers: Sequence[_Layer]) -> dict[int, int]:
    """Give the first layer of every content that is in one."""
    found: dict[int, int] = {}
    for number, layer in enumerate(layers):
        for content in layer.paths:
            found.setdefault(content, number)
    return found


def _files(places: Sequence[_Place], layers: Sequence[_Layer], users: Sequence[Sequence[int]]) -> list[FileSize]:
    used: dict[int, list[int]] = defaultdict(list)
    for number, one in enumerate(users):
        for content in _all(layers[layer] for layer in one):
            used[content].append(number)
    files = [
        FileSize(
            layer=number,
            path=layers[number].paths[content],
            size=places[content].size,
            stored=places[content].stored,
            delta=places[content].delta,
            bytecode=layers[number].bytecode,
            slices=tuple(used[content]),
        )
        for content, number in _firsts(layers).items()
    ]
    return sorted(files, key=lambda file: (-file.stored, -file.size, file.layer, file.path))


# Slices and parts -----------------------------------------------------------------------------------------------


def _slices(
    archive: Archive,
    blobs: Sequence[Any],
    places: Sequence[_Place],
    layers: Sequence[_Layer],
    users: Sequence[Sequence[int]],
) -> Iterator[SliceSize]:
    modules = _all(layer for layer in layers if not layer.bytecode)
    before: set[int] = set()
    for one, numbers in zip(archive.records("slice"), users, strict=True):
        used = _all(layers[number] for number in numbers)
        yield SliceSize(
            name=archive.string(one.name),
            python=archive.string(one.python),
            layers=len(numbers),
            unpacked=sum(layers[number].unpacked for number in numbers),
            stored=sum(places[content].stored for content in used),
            adds=_stored(places, used - before, modules),
            fetches=_fetches(blobs, {blob for content in used for blob in places[content].blobs}),
        )
        before |= used


def _stored(places: Sequence[_Place], contents: set[int], modules: set[int]) -> Stored:
    plain, bytecode = contents & modules, contents - modules
    return Stored(
        own=sum(places[content].own for content in plain),
        delta=sum(places[content].delta for content in plain),
        bytecode=sum(places[content].own for content in bytecode),
        bytecode_delta=sum(places[content].delta for content in bytecode),
    )


def _fetches(blobs: Sequence[Any], needed: set[int]) -> int:
    bases = {base for number in needed for base in list(blobs[number].bases)[: blobs[number].base_count]}
    return sum(blobs[number].stored_size for number in needed | bases)


def _parts(archive: Archive, blobs: Sequence[Any]) -> Parts:
    trailer = archive.pointer.trailer
    # a writer may say nothing of what stands before the blobs
    front = int(trailer.front_size) or min((int(blob.offset) for blob in blobs), default=int(trailer.index_offset))
    return Parts(
        front=front,
        blobs=int(trailer.index_offset) - front,
        index=int(trailer.index_size),
        signature=int(trailer.signature_size),
        trailer=int(native.lib().TRAILER_SIZE),
    )
