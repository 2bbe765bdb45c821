"""Pairs: which files are deltas, and against which others.

The same module compiled for another Python, the same file of another release, a source and its bytecode are pairs.
The first that a slice has of such a family stands for itself. Others do where more of the family can be deltas against
them than they cost: bytecode of CPython 3.12 has little in common with that of 3.8, and much with that of 3.13.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import zstandard

from packer.files import content
from packer.model import LayerKind

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from packer.cache import Cache
    from packer.model import Entry, Layer

_WORTH = 0.9
"""A delta that takes a larger part than this of the file's own compressed size is none: better a base for others."""

_PAYS = 0.98
"""Another file of a family stands for itself if the family then takes no larger part than this of what it took."""

_FEW = 3
"""So many versions of one release have one base: a second one would need three deltas that it makes smaller."""

_PARTS, _PART = 4, 1 << 17
"""By so many parts of a file a delta's size is estimated, of so many bytes each: one alone misleads."""

_SLACK = 1 << 18
"""Bytes by which a part may have moved."""

_SAMPLE = 1 << 20
"""Bytes of a slice's bytecode by which the sizes of deltas are estimated."""

_LEVEL = 3
_HASH_LOG = 21
"""Level at which sizes are estimated, with larger tables, since its own do not hold a prefix."""

_X86_64 = b"\x3e\x00"
"""``e_machine`` of an ELF file."""

_ABI = re.compile(r"\.(?:cpython|cp|abi)-?\d[\w.-]*(?=\.(?:so|pyc)$)|\.abi3(?=\.so$)|-[0-9a-f]{8}(?=[.-])")
"""What the file names of one module have for different Pythons: the ABI tag; the hash that auditwheel puts in."""

_VERSION = re.compile(r"-[^/-]+(?=\.(?:dist-info|data)/)")

Key = tuple[bytes, int]
"""What makes files equal: SHA-256 and size."""


class Kind(IntEnum):
    """What is compressed with its like, in the order in which it is laid out."""

    BYTECODE = 0
    TEXT = 1
    CODE = 2


@dataclass(frozen=True)
class File:
    """A content and what is known of it."""

    entry: Entry
    layer: Layer
    kind: Kind
    users: tuple[int, ...]
    """Slices."""
    own: bool
    """Of a layer that changes whenever the program is packed again."""

    @property
    def key(self) -> Key:
        """Which content it is."""
        return key(self.entry)

    @property
    def name(self) -> str:
        """What it is called in every version."""
        return _ABI.sub("", _VERSION.sub("", self.entry.path))

    @property
    def release(self) -> str:
        """Distribution and version of its wheel; one release is compiled alike for all Pythons."""
        return "-".join(self.layer.name.split("-")[:2])

    def parts(self, slack: int) -> bytes:
        """Read parts that are spread evenly over it, and so many bytes more before and after each.

        :raises PackError: if it cannot be read, or is not what it was.
        """
        whole, size = content(self.entry), self.entry.size
        if size <= _PARTS * _PART:
            return whole
        starts = [(2 * number + 1) * size // (2 * _PARTS) - _PART // 2 - slack for number in range(_PARTS)]
        return b"".join(whole[max(0, start) : max(0, start) + _PART + 2 * slack] for start in starts)


def key(entry: Entry) -> Key:
    """Name a file's content."""
    return entry.sha256, entry.size


def files(slices: Iterable[Sequence[Layer]], own: Collection[bytes]) -> list[File]:
    """Give every content once, by the first path that has it.

    :param slices: the layers of each slice, most preferred slice first.
    :param own: digests of layers that change whenever the program is packed again.
    """
    used_by: dict[Key, set[int]] = defaultdict(set)
    first: dict[Key, tuple[Entry, Layer]] = {}
    for number, layers in enumerate(slices):
        for layer in layers:
            for entry in layer.entries:
                if entry.source:
                    used_by[key(entry)].add(number)
                    first.setdefault(key(entry), (entry, layer))
    return [
        File(entry, layer, _kind(entry, layer), tuple(sorted(used_by[name])), (layer.of or layer).digest in own)
        for name, (entry, layer) in first.items()
    ]


def _kind(entry: Entry, layer: Layer) -> Kind:
    if layer.kind is LayerKind.BYTECODE:
        return Kind.BYTECODE
    if entry.source is None or entry.size < 64 or entry.path.endswith((".py", ".pyi", ".txt", "/METADATA", "/RECORD")):
        return Kind.TEXT
    try:
        with entry.source.open("rb") as file:
            head = file.read(20)
    except OSError:  # whoever compresses it says so
        return Kind.TEXT
    return Kind.CODE if head[:4] == b"\x7fELF" and head[18:20] == _X86_64 else Kind.TEXT


def pair(found: Sequence[File], cache: Cache | None = None) -> dict[Key, Key]:
    """Choose deltas and their bases; no base is a delta itself, nor is what the first slice has, but for sources.

    :param cache: where estimates are kept.
    """
    families: dict[tuple[bool, Kind, str], list[File]] = defaultdict(list)
    for file in sorted(found, key=lambda file: (file.users[0], -len(file.users), file.users)):
        if file.entry.size:
            families[file.own, file.kind, file.name].append(file)
    kinds: dict[Kind, list[list[File]]] = defaultdict(list)
    for (_, kind, _), family in families.items():
        kinds[kind].append(family)
    pairs = _bytecode_pairs(kinds[Kind.BYTECODE], cache)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for paired in pool.map(lambda family: _code_pairs(family, cache), kinds[Kind.CODE]):
            pairs |= paired
    for family in kinds[Kind.TEXT]:
        pairs |= _paired(family, _first(family), lambda file, base: file.release != base.release)
    return pairs | _source_pairs(found, families, pairs)


def _source_pairs(
    found: Iterable[File], families: Mapping[tuple[bool, Kind, str], list[File]], pairs: Mapping[Key, Key]
) -> dict[Key, Key]:
    """Make deltas of sources that all slices share: bytecode is other Pythons' base already.

    With it a source weighs no more than bytecode does with its source. What is worked on stands for itself, so that a
    patch can compress it again.
    """
    slices = {user for file in found for user in file.users}
    made = {}
    for (own, kind, name), family in families.items():
        source, compiled = family[0], families.get((own, Kind.BYTECODE, f"{name}c"))
        shared = kind is Kind.TEXT and len(family) == 1 and len(source.users) == len(slices)
        if shared and not own and compiled and compiled[0].key not in pairs:
            made[source.key] = compiled[0].key
    return made


def _first(family: Sequence[File]) -> list[File]:
    """Give what stands for itself where nothing else does."""
    return [file for file in family if file is family[0] or file.users[0] == 0]


def _paired(family: Sequence[File], alone: Sequence[File], distance: Callable[[File, File], int]) -> dict[Key, Key]:
    """Make deltas of all but some, each against the nearest of these."""
    standing = {file.key for file in alone}
    return {
        file.key: min(alone, key=lambda base: distance(file, base)).key for file in family if file.key not in standing
    }


def _code_pairs(family: Sequence[File], cache: Cache | None) -> dict[Key, Key]:
    """Pair compiled modules: few of one release have the first as their base, or else estimates tell."""
    if len(family) == 1 or (len(family) <= _FEW and len({file.release for file in family}) == 1):
        return _paired(family, _first(family), lambda *_: 0)
    number = {file.key: number for number, file in enumerate(family)}
    costs = _costs([[file] for file in family], cache)
    alone = [family[one] for one in _alone(costs, [number[file.key] for file in _first(family)])]
    return _paired(family, alone, lambda file, base: costs[number[file.key]][number[base.key]])


def _bytecode_pairs(families: Sequence[Sequence[File]], cache: Cache | None) -> dict[Key, Key]:
    """Pair bytecode: that of one Python stands for itself, or is deltas, as a whole; a sample of modules tells."""
    slices = sorted({file.users[0] for family in families for file in family})
    number = {user: number for number, user in enumerate(slices)}
    samples = _samples(families, slices) if len(slices) > _FEW else []
    costs = _costs(samples, cache) if samples else [[0] * len(slices) for _ in slices]
    alone = _alone(costs, [0]) if samples else [0]
    pairs: dict[Key, Key] = {}
    for family in families:
        standing = [file for file in family if number[file.users[0]] in alone] or family[:1]
        pairs |= _paired(family, standing, lambda file, base: costs[number[file.users[0]]][number[base.users[0]]])
    return pairs


def _samples(families: Sequence[Sequence[File]], slices: Sequence[int]) -> list[list[File]]:
    """Choose the same modules for each slice; nothing if there are none."""
    samples: list[list[File]] = [[] for _ in slices]
    size = 0
    for family in sorted(families, key=lambda family: family[0].entry.sha256):
        first = {file.users[0]: file for file in reversed(family)}
        if size < _SAMPLE and len(first) == len(slices):
            size += family[0].entry.size
            for sample, one in zip(samples, slices, strict=True):
                sample.append(first[one])
    return samples if size else []


def _alone(costs: Sequence[Sequence[int]], given: Sequence[int]) -> list[int]:
    """Choose what stands for itself: one after the other that makes the whole smallest, as long as it pays.

    :param costs: bytes of each as a delta against each, and of itself where it meets itself.
    :param given: what stands for itself anyway.
    """

    def total(alone: Sequence[int]) -> int:
        return sum(row[one] if one in alone else min(row[base] for base in alone) for one, row in enumerate(costs))

    alone = list(given)
    while len(alone) < len(costs):
        size, one = min((total([*alone, one]), one) for one in range(len(costs)) if one not in alone)
        if size >= _PAYS * total(alone):
            break
        alone.append(one)
    bad = [
        one
        for one, row in enumerate(costs)
        if one not in alone and min(row[base] for base in alone) > _WORTH * row[one]
    ]
    return alone + bad


def _costs(samples: Sequence[Sequence[File]], cache: Cache | None) -> list[list[int]]:
    """Estimate bytes of each as a delta against each, and of itself where it meets itself."""
    said = [f"pairs {zstandard.ZSTD_VERSION} {_LEVEL} {_HASH_LOG} {_PARTS} {_PART} {_SLACK}"]
    said += [" ".join(file.entry.sha256.hex() for file in sample) for sample in samples]
    name = hashlib.sha256("\n".join(said).encode()).digest()
    kept = cache.get(name) if cache else None
    if kept is not None:
        costs: list[list[int]] = json.loads(kept)
        return costs
    costs = [[0] * len(samples) for _ in samples]
    contents = [b"".join(file.parts(0) for file in sample) for sample in samples]
    prefixes = [b"".join(file.parts(_SLACK) for file in sample) for sample in samples]
    for one, own in enumerate(contents):
        costs[one][one] = _size(own, b"")
        for other, prefix in enumerate(prefixes[:one]):  # it is nearly the same the other way round
            costs[one][other] = costs[other][one] = _size(own, prefix)
    if cache:
        cache.put(name, json.dumps(costs).encode())
    return costs


def _size(content: bytes, prefix: bytes) -> int:
    """Compress in haste."""
    window = max(10, (len(prefix) + len(content) - 1).bit_length())
    parameters = zstandard.ZstdCompressionParameters.from_level(
        _LEVEL, source_size=len(prefix) + len(content), window_log=window, hash_log=min(window, _HASH_LOG)
    )
    dictionary = zstandard.ZstdCompressionDict(prefix, dict_type=zstandard.DICT_TYPE_RAWCONTENT) if prefix else None
    return len(zstandard.ZstdCompressor(compression_params=parameters, dict_data=dictionary).compress(content))
