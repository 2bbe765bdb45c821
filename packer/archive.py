"""Writes an archive: launcher, blobs, index, trailer, as ``abi/FORMAT.md`` has it. Reading is the launcher's code."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import zstandard

from packer import blobs, facts, front, layout, native, pairs, reader
from packer.blobs import Level
from packer.files import replacing
from packer.model import EntryKind, Layer, Need, Slice, Tool

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from packer.cache import Cache

NONE = 0xFFFFFFFF

_INDEX_LEVEL = 19
"""Of zstd; the index is small."""

_SECTIONS = {
    "strings": 1, "refs": 2, "blob": 3, "content": 4, "entry": 5, "layer": 6, "need": 7, "slice": 8, "link": 9,
    "tool": 10, "launcher": 12, "manifest": 13,
}  # fmt: skip
_NOT_CRITICAL = {"manifest"}


@dataclass(frozen=True)
class Written:
    """What an archive became."""

    path: Path
    size: int
    archive_id: str


def write(
    output: Path,
    launcher: Path | Mapping[str, Path],
    slices: Sequence[Slice],
    tools: Sequence[Tool],
    manifest: Mapping[str, object],
    progress: Callable[[int], None],
    *,
    level: Level = Level.DEFAULT,
    own: Collection[bytes] = (),
    cache: Cache | None = None,
) -> Written:
    """Write the archive beside ``output`` and move it there when it is whole.

    :param launcher: of the one machine that it is for, or by machine.
    :param slices: most preferred first.
    :param tools: the first is what the archive is when it is called by another name.
    :param manifest: JSON values only.
    :param progress: called with numbers of bytes compressed, out of all layers' distinct contents.
    :param own: digests of layers that change whenever the program is packed again.
    :param cache: where compressed blobs are kept.
    :raises PackError: if it cannot be written, a file cannot be read, or the format has no room for what is packed.
    """
    laid = layout.lay_out([one.layers for one in slices], own=own, cache=cache)
    before = front.make(launcher)
    compressing = blobs.compress(laid.drafts, level, progress, cache)
    with replacing(output, mode=0o777) as file, closing(compressing) as compressed:
        file.write(before.content)
        tables = _Tables()
        for one in before.launchers:
            tables.add("launcher", **one.record)
        for blob in compressed:
            tables.add(
                "blob", offset=file.tell(), stored_size=len(blob.stored), raw_size=blob.raw_size,
                encoding=int(blob.compressed), filter=int(blob.code), base_count=len(blob.bases),
                bases=[*blob.bases, *[NONE] * 4][:4], digest=blob.digest,
            )  # fmt: skip
            file.write(blob.stored)
        index = _index(tables, slices, tools, manifest, laid.places)
        trailer = _trailer(before.content, file.tell(), index)
        file.write(index.stored)
        file.write(trailer)
        file.flush()
        with reader.opened(file.fileno(), f"cannot pack {output}") as written:  # nobody else is to find a mistake
            return Written(output, written.size, written.id)


_Identity = tuple[bytes, bytes]


def _identity(layer: Layer) -> _Identity:
    """Tell layers apart: bytecode belongs to one layer, and is never shared by digest."""
    return layer.digest, layer.of.digest if layer.of else b""


@dataclass(frozen=True)
class _Index:
    stored: bytes
    raw_size: int


@dataclass
class _Tables:
    """The index while it grows: records as bytes, strings and layers by what they are."""

    records: dict[str, list[bytes]] = field(default_factory=dict)
    strings: dict[bytes, int] = field(default_factory=lambda: {b"": 0})
    string_size: int = 1
    refs: list[int] = field(default_factory=list)
    layers: dict[_Identity, int] = field(default_factory=dict)
    names: Counter[str] = field(default_factory=Counter)
    """Of layers."""
    contents: dict[pairs.Key, int] = field(default_factory=dict)

    def add(self, kind: str, /, **values: object) -> int:
        """Append a record; its index."""
        table = self.records.setdefault(kind, [])
        table.append(native.record(kind, values))
        return len(table) - 1

    def count(self, kind: str) -> int:
        return len(self.records.get(kind, []))

    def string(self, text: str) -> int:
        """The reference of a string."""
        raw = native.encoded(text)
        if raw not in self.strings:
            self.strings[raw] = self.string_size
            self.string_size += len(raw) + 1
        return self.strings[raw]

    def list(self, values: Iterable[int]) -> tuple[int, int]:
        """Append to the refs: first and count."""
        first = len(self.refs)
        self.refs.extend(values)
        return first, len(self.refs) - first


def _index(
    tables: _Tables,
    slices: Sequence[Slice],
    tools: Sequence[Tool],
    manifest: Mapping[str, object],
    places: Mapping[pairs.Key, layout.Content],
) -> _Index:
    """Make the index.

    :param tables: with nothing but the launchers and blobs in them.
    """
    for key, place in places.items():
        tables.contents[key] = tables.add("content", blob=place.blob, offset=place.offset, size=place.size)
    for one in slices:
        _add_slice(tables, one)
    for tool in tools:
        tables.add("tool", name=tables.string(tool.name), kind=tool.kind.value, target=tables.string(tool.target))
    raw = _assemble(tables, json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode())
    return _Index(compress_index(raw), len(raw))


def compress_index(raw: bytes) -> bytes:
    """Compress the index as it stands in the file."""
    return zstandard.ZstdCompressor(level=_INDEX_LEVEL).compress(raw)


def _add_slice(tables: _Tables, one: Slice) -> None:
    layers = [_add_layer(tables, layer) for layer in one.layers]
    first_need = tables.count("need")
    for need in one.needs:
        _add_need(tables, need)
    first_link = tables.count("link")
    for link in one.links:
        path, target = tables.string(link.path), tables.string(link.target)
        tables.add("link", path=path, layer=tables.layers[_identity(link.layer)], target=target)
    first_layer, layer_count = tables.list(layers)
    first_flag, flag_count = tables.list(tables.string(flag) for flag in one.flags)
    python = one.target.python
    interpreter = tables.layers[_identity(one.runtime.layer)] if one.runtime else NONE
    executable = tables.string(one.runtime.executable if one.runtime else "")
    shapes = native.ffi().typeof("enum view_shape").relements
    venv = "VIEW_LIBC" if one.runtime and one.runtime.brought else "VIEW_VENV"
    shape = shapes[venv if facts.pythons()[python.tag].venv else "VIEW_PREFIX"]
    tables.add(
        "slice", name=tables.string(one.name), shape=shape, interpreter=interpreter, executable=executable,
        python=tables.string(python.tag), python_dir=tables.string(python.directory),
        first_need=first_need, need_count=len(one.needs), first_layer=first_layer, layer_count=layer_count,
        first_link=first_link, link_count=len(one.links), first_flag=first_flag, flag_count=flag_count,
    )  # fmt: skip


def _add_need(tables: _Tables, need: Need) -> None:
    name, value = tables.string(need.name), tables.string(need.value)
    tables.add("need", kind=need.kind.value, name=name, value=value, number=need.number)


def _add_layer(tables: _Tables, layer: Layer) -> int:
    """Add a layer once, however many slices share it; its index. Others of the same name are told apart by a number."""
    if _identity(layer) in tables.layers:
        return tables.layers[_identity(layer)]
    tables.names[layer.name] += 1
    again = f"~{tables.names[layer.name]}" if tables.names[layer.name] > 1 else ""
    first = tables.count("entry")
    for entry in layer.entries:
        if entry.kind is EntryKind.LINK:
            value = tables.string(entry.link)
        else:
            value = 0 if entry.kind is EntryKind.DIR else tables.contents[pairs.key(entry)]
        tables.add("entry", path=tables.string(entry.path), kind=entry.kind.value, value=value)
    tables.layers[_identity(layer)] = tables.add(
        "layer", name=tables.string(layer.name + again), kind=layer.kind.value, first_entry=first,
        entry_count=len(layer.entries), digest=layer.digest, size=layer.size,
        of=_add_layer(tables, layer.of) if layer.of else NONE, tag=tables.string(layer.tag),
    )  # fmt: skip
    return tables.layers[_identity(layer)]


def _assemble(tables: _Tables, manifest: bytes) -> bytes:
    """Head, section directory, sections."""
    strings = b"".join(raw + b"\0" for raw in tables.strings)
    refs = b"".join(value.to_bytes(4, "little") for value in tables.refs)
    bodies: list[tuple[str, bytes, int]] = [("strings", strings, 1), ("refs", refs, 4)]
    for kind in _SECTIONS:
        table = tables.records.get(kind)
        if table:
            bodies.append((kind, b"".join(table), len(table[0])))
    bodies.append(("manifest", manifest, 1))
    head = native.record("index_head", {"magic": b"FPIX", "section_count": len(bodies)})
    offset = _aligned(len(head) + len(bodies) * native.ffi().sizeof("struct section"))
    directory, data = [head], []
    for kind, body, size in bodies:
        section = {
            "id": _SECTIONS[kind], "flags": int(kind not in _NOT_CRITICAL), "offset": offset, "size": len(body),
            "record_size": size, "count": len(body) // size,
        }  # fmt: skip
        directory.append(native.record("section", section))
        data.append(body + bytes(_aligned(len(body)) - len(body)))
        offset += len(data[-1])
    start = b"".join(directory)
    return start + bytes(_aligned(len(start)) - len(start)) + b"".join(data)


def _aligned(size: int) -> int:
    return -(-size // 8) * 8


def _trailer(start: bytes, offset: int, index: _Index) -> bytes:
    values: dict[str, Any] = {
        "index_offset": offset, "index_size": len(index.stored), "index_raw_size": index.raw_size,
        "id": hashlib.sha256(index.stored).digest(), "version": 1, "magic": b"\x89fatpar\n",
        "front_size": len(start), "front_digest": hashlib.sha256(start).digest(),
    }  # fmt: skip
    return sealed(native.ffi().new("struct trailer *", values))


def sealed(trailer: Any) -> bytes:
    """Give the bytes of a trailer with the checksum that they need."""
    ffi = native.ffi()
    trailer.checksum = zlib.crc32(bytes(ffi.buffer(trailer))[: ffi.offsetof("struct trailer", "checksum")])
    return bytes(ffi.buffer(trailer))
