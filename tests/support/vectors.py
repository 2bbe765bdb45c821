"""Archives described in text, sound ones and damaged ones; ``tests/launcher/vectors/README`` says how they read.

A description is written by the packer's own writer. Then its tables are taken apart, edited, and put together again
with sizes, digests and checksums that are right, unless the text sets them; bytes are changed last. Nothing is
compressed, so that an archive's bytes do not depend on the release of a compressor.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard

from packer import archive, layers, native, view
from packer.model import Entry, EntryKind, Layer, LayerKind, Need, NeedKind, Runtime, Slice, Tool, ToolKind

from .archives import target

PLACE = Path(__file__).resolve().parents[1] / "launcher" / "vectors"
FRONT = b"#!/bin/sh\nexit 125\n"
"""Stands for the launcher where archive ids are compared."""

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s"]+(?:"(?:[^"\\]|\\.)*")?')
_TARGET = re.compile(r"(?P<root>\w+)(?:\[(?P<key>\w+)\])?(?:\.(?P<field>\w+)(?:\[(?P<index>\d+)\])?)?$")
_DESCRIPTION = ("from", "layer", "slice", "tool", "manifest")
_EXPECTATIONS = ("says", "verify", "extract", "id", "lists")
_PHASES = ("records", "places", "directory", "raw", "frame", "trailer", "file")
_NAMES = {number: name for name, number in archive._SECTIONS.items()}
_TABLES = {name for name in archive._SECTIONS if name not in ("strings", "refs", "manifest", "summary")}


@dataclass(frozen=True)
class Statement:
    """A line and the indented lines below it, each as words."""

    words: tuple[str, ...]
    below: tuple[tuple[str, ...], ...]
    text: str
    """The indented lines as they stand, but for two spaces."""

    @property
    def verb(self) -> str:
        return self.words[0]


@dataclass(frozen=True)
class Vector:
    """What one file says."""

    name: str
    statements: tuple[Statement, ...]

    @property
    def expected(self) -> str:
        """The refusal its name announces: ``good``, ``bad``, ``newer``, ``foreign``."""
        return self.name.partition("-")[0]

    @property
    def alone(self) -> bool:
        """Whether no launcher stands before it."""
        return any(one.verb == "alone" for one in self.statements)

    def expectation(self, verb: str) -> str | None:
        """The one word behind an expectation, ``lists``' lines, or None."""
        for one in self.statements:
            if one.verb == verb:
                return one.text if verb == "lists" else text(one.words[1]).decode("latin-1")
        return None


def load() -> list[Vector]:
    """All vectors there are."""
    return [read(name) for name in sorted(path.stem for path in PLACE.glob("*.txt"))]


def read(name: str) -> Vector:
    """One by its name."""
    return parse(name, (PLACE / f"{name}.txt").read_text("utf-8"))


def parse(name: str, content: str) -> Vector:
    """One from its text."""
    return Vector(name, tuple(_statements(content)))


def text(word: str) -> bytes:
    """A quoted word's characters as bytes, up to U+00FF; a word that begins with ``hex:``; any other as it stands."""
    if word.startswith("hex:"):
        return bytes.fromhex(word[4:])
    return str(json.loads(word)).encode("latin-1") if word.startswith('"') else word.encode()


def _statements(content: str) -> Iterator[Statement]:
    head: tuple[str, ...] = ()
    lines: list[str] = []
    for line in content.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith(" "):
            lines.append(line)
            continue
        if head:
            yield _statement(head, lines)
        head, lines = tuple(_TOKEN.findall(line)), []
    if head:
        yield _statement(head, lines)


def _statement(head: tuple[str, ...], lines: Sequence[str]) -> Statement:
    below = tuple(tuple(_TOKEN.findall(line)) for line in lines)
    return Statement(head, below, "".join(f"{line[2:]}\n" for line in lines))


def build(vector: Vector, work: Path, front: bytes = FRONT, *, padded: bool = True) -> bytes:
    """The archive's bytes.

    :param work: an empty directory.
    :param front: what stands where the launcher does.
    :param padded: whether the writer's padding follows it.
    """
    statements = _inherited(vector)
    draft = _taken_apart(_written(statements, work, b"" if vector.alone else front))
    if not padded:
        draft.front = draft.front.rstrip(b"\0")
    edits: dict[str, list[_Edit]] = {phase: [] for phase in _PHASES}
    for one in statements:
        if one.verb not in (*_DESCRIPTION, *_EXPECTATIONS, "alone"):
            edit = _edit(one.words)
            edits[edit.phase].append(edit)
    for edit in edits["records"]:
        _edit_records(draft, edit)
    return _put_together(draft, edits)


def _inherited(vector: Vector) -> list[Statement]:
    """What the vector that this one starts from says, without what is expected of it, and what this one says."""
    first, *rest = vector.statements
    if first.verb != "from":
        return [first, *rest]
    return [one for one in _inherited(read(first.words[1])) if one.verb not in _EXPECTATIONS] + rest


# Description -> archive -----------------------------------------------------------------------------------------


def _written(statements: Sequence[Statement], work: Path, front: bytes) -> bytes:
    (work / "front").write_bytes(front)
    found: dict[str, Layer] = {}
    for one in statements:
        if one.verb == "layer":
            found[one.words[1]] = _layer(one, work, next(iter(found.values()), None))
    slices = [_slice(one, found) for one in statements if one.verb == "slice"]
    tools = [_tool(one) for one in statements if one.verb == "tool"]
    manifest = next((json.loads(text(one.words[1])) for one in statements if one.verb == "manifest"), {"version": 1})
    archive.write(work / "written", work / "front", slices, tools, manifest, lambda _: None)
    return (work / "written").read_bytes()


def _layer(statement: Statement, work: Path, first: Layer | None) -> Layer:
    """A layer; bytecode is that of the first one."""
    _, name, kind = statement.words
    entries = [_entry(words, work / f"{name}-{number}") for number, words in enumerate(statement.below)]
    of = first if kind == "bytecode" else None
    return layers.layer(name, LayerKind[kind.upper()], entries, of=of)


def _entry(words: tuple[str, ...], source: Path) -> Entry:
    kind, path = EntryKind[words[0].upper()], text(words[1]).decode("utf-8", "surrogateescape")
    if kind is EntryKind.DIR:
        return Entry(path, kind)
    if kind is EntryKind.LINK:
        return Entry(path, kind, link=text(words[2]).decode("utf-8", "surrogateescape"))
    content = text(words[2])
    source.write_bytes(content)
    return Entry(path, kind, source, len(content), hashlib.sha256(content).digest())


def _tool(statement: Statement) -> Tool:
    _, name, kind, path = statement.words
    return Tool(name, ToolKind[kind.upper()], path)


def _slice(statement: Statement, found: Mapping[str, Layer]) -> Slice:
    _, tag, platform = statement.words
    match = re.fullmatch(r"(many|musl)linux_(\d+)_(\d+)_(\w+)", platform)
    assert match, platform
    one = target(tag, "glibc" if match[1] == "many" else "musl", (int(match[2]), int(match[3])), match[4])
    chosen = tuple(found.values())
    needs, flags, runtime = [], [], None
    for word, *rest in statement.below:
        if word == "layers":
            chosen = tuple(found[name] for name in rest)
        elif word == "flag":
            flags.append(rest[0])
        elif word == "carries":
            runtime = Runtime(
                tag, (*one.python.version, 0), found[rest[0]], rest[1], one.platform.arch, one.platform.libc, (), ()
            )
        else:
            assert word == "need", word
            needs.append(_need(rest))
    return Slice(one, tuple(needs), chosen, view.links(chosen, one)[0], tuple(flags), runtime)


def _need(words: Sequence[str]) -> Need:
    values = dict(word.split("=", 1) for word in words[1:])
    name, value = (text(values.get(field, "")).decode() for field in ("name", "value"))
    return Need(NeedKind[words[0].upper()], name, value, int(values.get("number", "0"), 0))


# Archive -> tables ----------------------------------------------------------------------------------------------


@dataclass
class _Draft:
    """An archive in pieces."""

    front: bytes = b""
    """All that stands before the blobs."""
    tables: dict[str, list[Any]] = field(default_factory=dict)
    """Records as cffi structs."""
    flags: dict[str, int] = field(default_factory=dict)
    """Of each section, in the order in which they stand."""
    refs: list[int] = field(default_factory=list)
    strings: bytes = b""
    manifest: bytes = b""
    summary: bytes = b""
    signature: bytes = b""
    stored: list[bytes] = field(default_factory=list)
    """The blobs' bytes."""
    wider: dict[str, int] = field(default_factory=dict)
    """Bytes that the records of a table are longer."""

    def string(self, value: bytes) -> int:
        """The reference of a string, added if it is new."""
        at = (b"\0" + self.strings).find(b"\0" + value + b"\0")
        if at < 0:
            at = len(self.strings)
            self.strings += value + b"\0"
        return at

    def body(self, name: str) -> tuple[bytes, int]:
        """A section's bytes and the size of its records."""
        if name in ("strings", "manifest", "summary"):
            return getattr(self, name), 1
        if name == "refs":
            return b"".join(value.to_bytes(4, "little") for value in self.refs), 4
        more = b"\xff" * self.wider.get(name, 0)
        size = native.ffi().sizeof(f"struct {name}") + len(more)
        return b"".join(_bytes(one) + more for one in self.tables[name]), size


def _bytes(record: Any) -> bytes:
    return bytes(native.ffi().buffer(record))


def _struct(kind: str, content: bytes = b"") -> Any:
    record = native.ffi().new(f"struct {kind} *")
    native.ffi().memmove(record, content, len(content))
    return record


def _records(kind: str, content: bytes, count: int) -> list[Any]:
    size = native.ffi().sizeof(f"struct {kind}")
    return [_struct(kind, content[i * size : (i + 1) * size]) for i in range(count)]


def _taken_apart(file: bytes) -> _Draft:
    trailer = _struct("trailer", file[-128:])
    raw = index_of(file)
    head = _struct("index_head", raw[:8])
    draft = _Draft()
    for section in _records("section", raw[8:], head.section_count):
        name, content = _NAMES[section.id], raw[section.offset : section.offset + section.size]
        draft.flags[name] = section.flags
        if name == "refs":
            draft.refs = [int.from_bytes(content[i : i + 4], "little") for i in range(0, len(content), 4)]
        elif name in ("strings", "manifest", "summary"):
            setattr(draft, name, content)
        else:
            draft.tables[name] = _records(name, content, section.count)
    blobs = draft.tables.get("blob", [])
    draft.front = file[: blobs[0].offset if blobs else trailer.index_offset]
    for blob in blobs:
        content = file[blob.offset : blob.offset + blob.stored_size]
        draft.stored.append(zstandard.ZstdDecompressor().decompress(content) if blob.encoding else content)
        blob.encoding = 0
        _measure(blob, draft.stored[-1])
    return draft


def _measure(blob: Any, stored: bytes) -> None:
    """Make a blob's record that of bytes stored as they are."""
    blob.stored_size = blob.raw_size = len(stored)
    blob.digest = hashlib.sha256(stored).digest()


# Edits ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Edit:
    """A statement that changes something: ``set layer[0].size += 1``, ``flip file -1``."""

    verb: str
    root: str
    key: str
    """What stands in the brackets behind the root: a number, or a section's name."""
    field: str
    index: int
    """Into a field that is an array."""
    words: tuple[str, ...]

    @property
    def number(self) -> int:
        """Of the record."""
        return int(self.key)

    @property
    def phase(self) -> str:
        """When it is its turn."""
        if self.root in ("section", "head"):
            return "directory"
        if self.verb == "set" and self.field == "offset" and self.root in ("blob", "launcher"):
            return "places"
        return self.root if self.root in _PHASES else "records"


def _edit(words: Sequence[str]) -> _Edit:
    match = _TARGET.match(words[1])
    assert match, words
    key, name, index = match["key"] or "", match["field"] or "", int(match["index"] or 0)
    return _Edit(words[0], match["root"], key, name, index, tuple(words[2:]))


def _edit_records(draft: _Draft, edit: _Edit) -> None:
    table = draft.tables.setdefault(edit.root, []) if edit.root in _TABLES else []
    if edit.verb == "add":
        _add(draft, edit, table)
    elif edit.verb == "repeat" and edit.root == "ref":
        draft.refs += [draft.refs[edit.number]] * int(edit.words[0])
    elif edit.verb == "repeat":
        table += [_struct(edit.root, _bytes(table[edit.number])) for _ in range(int(edit.words[0]))]
    elif edit.verb == "remove":
        del table[edit.number]
    elif edit.verb == "widen":
        draft.wider[edit.root] = int(edit.words[0])
    elif edit.root == "ref":
        draft.refs[edit.number] = _value(draft.refs[edit.number], edit.words[0], edit.words[1], draft.string)
    elif edit.root not in _TABLES:
        setattr(draft, edit.root, text(edit.words[1]))
    elif edit.field == "data":
        draft.stored[edit.number] = text(edit.words[1])
        _measure(table[edit.number], text(edit.words[1]))
    else:
        _assign(table[edit.number], edit, draft.string)


def _add(draft: _Draft, edit: _Edit, table: list[Any]) -> None:
    table.append(_struct(edit.root))
    draft.flags.setdefault(edit.root, 1)
    if edit.root == "blob":
        draft.stored.append(b"")
        table[-1].bases = [archive.NONE] * 4
    for word in edit.words:
        name, _, value = word.partition("=")
        _edit_records(draft, _edit(("set", f"{edit.root}[{len(table) - 1}].{name}", "=", value)))


def _assign(record: Any, edit: _Edit, string: Callable[[bytes], int]) -> None:
    """Set a field of a record: a number, an array's bytes, or a text that becomes a reference."""
    operator, word = edit.words
    fields = dict(native.ffi().typeof(record).item.fields)
    kind = fields[edit.field].type
    if kind.kind != "array":
        setattr(record, edit.field, _value(getattr(record, edit.field), operator, word, string))
    elif kind.item.cname == "uint8_t":
        setattr(record, edit.field, text(word))
    else:
        getattr(record, edit.field)[edit.index] = _value(0, operator, word, string)


def _value(before: int, operator: str, word: str, string: Callable[[bytes], int]) -> int:
    number = archive.NONE if word == "NONE" else string(text(word)) if word.startswith(('"', "hex:")) else int(word, 0)
    return {"=": number, "+=": before + number, "-=": before - number}[operator]


# Tables -> archive ----------------------------------------------------------------------------------------------


def _put_together(draft: _Draft, edits: Mapping[str, Sequence[_Edit]]) -> bytes:
    positions = {}
    blobs = bytearray(draft.front)
    for number, stored in enumerate(draft.stored):
        positions[f"blob{number}"] = draft.tables["blob"][number].offset = len(blobs)
        blobs += stored
    for edit in edits["places"]:
        _assign(draft.tables[edit.root][edit.number], edit, draft.string)
    raw = _change(_index(draft, edits["directory"]), edits["raw"], {})
    sized = not any(edit.verb == "unsize" for edit in edits["frame"])
    frame = _change(_frame(raw, sized=sized), [edit for edit in edits["frame"] if edit.verb != "unsize"], {})
    before = [("index", bytes(blobs)), ("signature", frame), ("trailer", draft.signature)]
    file = b""
    for name, part in before:
        file += part
        positions[name] = len(file)
    trailer = _trailer(draft.front, positions["index"], frame, len(raw), draft.signature)
    _edit_trailer(trailer, edits["trailer"])
    return _change(file + _bytes(trailer), edits["file"], positions)


def _index(draft: _Draft, edits: Sequence[_Edit]) -> bytes:
    """Head, directory and sections, decoded."""
    sections, bodies = [], []
    for name, flags in draft.flags.items():
        body, size = draft.body(name)
        sections.append((name, _section(archive._SECTIONS[name], flags, body, size)))
        bodies.append(body)
    for edit in edits:
        if edit.verb == "add":
            values = dict(word.split("=", 1) for word in edit.words)
            bodies.append(text(values.pop("data")))
            more = {name: int(value, 0) for name, value in values.items()}
            sections.append((edit.key, _section(more["id"], more["flags"], bodies[-1], 1)))
        elif edit.verb == "remove":
            at = [name for name, _ in sections].index(edit.key)
            del sections[at], bodies[at]
    head = _struct("index_head", b"FPIX" + len(sections).to_bytes(4, "little"))
    content = b""
    start = 8 + 32 * len(sections)
    for (_, section), body in zip(sections, bodies, strict=True):
        section.offset = start + len(content)
        content += body + bytes(-len(body) % 8)
    for edit in edits:
        if edit.verb == "set":
            _assign(head if edit.root == "head" else dict(sections)[edit.key], edit, _no_string)
    return _bytes(head) + b"".join(_bytes(section) for _, section in sections) + content


def _section(number: int, flags: int, body: bytes, size: int) -> Any:
    return native.ffi().new("struct section *", [number, flags, 0, len(body), size, len(body) // size])


def _no_string(value: bytes) -> int:
    raise AssertionError(f"no field here is a string: {value!r}")


def _frame(raw: bytes, *, sized: bool) -> bytes:
    """One zstd frame of blocks that are stored as they are (RFC 8878), with its content size or without."""
    head = b"\xa0" + len(raw).to_bytes(4, "little") if sized else b"\x00\x50"
    blocks = [raw[at : at + (1 << 17)] for at in range(0, len(raw), 1 << 17)] or [b""]
    last = len(blocks) - 1
    return (
        b"\x28\xb5\x2f\xfd"
        + head
        + b"".join(
            (len(block) << 3 | (number == last)).to_bytes(3, "little") + block for number, block in enumerate(blocks)
        )
    )


def _trailer(front: bytes, offset: int, frame: bytes, raw_size: int, signature: bytes) -> Any:
    values: dict[str, Any] = {
        "index_offset": offset, "index_size": len(frame), "index_raw_size": raw_size, "signature_size": len(signature),
        "id": hashlib.sha256(frame).digest(), "version": 1, "magic": b"\x89fatpar\n",
        "front_size": len(front), "front_digest": hashlib.sha256(front).digest(),
    }  # fmt: skip
    trailer: Any = native.ffi().new("struct trailer *", values)
    trailer.checksum = zlib.crc32(_bytes(trailer)[:116])
    return trailer


def _edit_trailer(trailer: Any, edits: Sequence[_Edit]) -> None:
    """The checksum is right for everything that is set, unless it is itself."""
    for edit in edits:
        if edit.field != "checksum":
            _assign(trailer, edit, _no_string)
    trailer.checksum = zlib.crc32(_bytes(trailer)[:116])
    for edit in edits:
        if edit.field == "checksum":
            _assign(trailer, edit, _no_string)


def _change(content: bytes, edits: Sequence[_Edit], positions: Mapping[str, int]) -> bytes:
    """Change bytes without making anything right again."""
    for edit in edits:
        at = _position(edit.words[0], content, positions)
        if edit.verb == "truncate":
            content = content[:at]
        elif edit.verb == "flip":
            flipped = content[at] ^ 1 << int(edit.words[1] if len(edit.words) > 1 else "0")
            content = content[:at] + bytes((flipped,)) + content[at + 1 :]
        elif edit.verb == "insert":
            content = content[:at] + text(edit.words[1]) + content[at:]
        elif edit.verb == "delete":
            content = content[:at] + content[at + int(edit.words[1]) :]
        else:
            raise AssertionError(f"{edit.verb} is not known")
    return content


def _position(word: str, content: bytes, positions: Mapping[str, int]) -> int:
    """``12``, ``-1`` (the last byte), ``index``, ``trailer+112``, ``end``."""
    match = re.fullmatch(r"([a-z]+\d*)?([+-]?\d+)?", word)
    assert match, word
    more = int(match[2] or 0)
    return {**positions, "end": len(content)}[match[1]] + more if match[1] else more % len(content)


def index_of(file: bytes) -> bytes:
    """The decoded index of an archive that :func:`build` made."""
    trailer = _struct("trailer", file[-128:])
    stored = file[trailer.index_offset : trailer.index_offset + trailer.index_size]
    return zstandard.ZstdDecompressor().decompress(stored)


def with_index(file: bytes, raw: bytes) -> bytes:
    """The archive with another decoded index, and all digests and sizes that are not in it right."""
    before = _struct("trailer", file[-128:])
    frame = _frame(raw, sized=True)
    trailer = _trailer(file[: before.front_size], before.index_offset, frame, len(raw), b"")
    return file[: before.index_offset] + frame + _bytes(trailer)


def unpadded(file: bytes) -> bytes:
    """The archive without what stands before its first blob."""
    before, raw = _struct("trailer", file[-128:]), bytearray(index_of(file))
    for section in _records("section", bytes(raw[8:]), _struct("index_head", bytes(raw[:8])).section_count):
        for at in range(section.offset, section.offset + section.size, 72) if _NAMES[section.id] == "blob" else ():
            moved = int.from_bytes(raw[at : at + 8], "little") - before.front_size
            raw[at : at + 8] = moved.to_bytes(8, "little")
    frame = _frame(bytes(raw), sized=True)
    offset = before.index_offset - before.front_size
    return file[before.front_size : before.index_offset] + frame + _bytes(_trailer(b"", offset, frame, len(raw), b""))


_NUMBERS = (0, 1, 2, 3, 4, 5, 7, 8, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


def mutated(raw: bytes, generator: random.Random) -> bytes:
    """A decoded index with a few numbers, bits or letters changed."""
    changed = bytearray(raw)
    for _ in range(generator.choice((1, 1, 2, 4))):
        kind, place = generator.randrange(4), generator.randrange(len(raw) - 3)
        if kind == 0:
            changed[place] ^= 1 << generator.randrange(8)
        elif kind == 1:
            changed[place] = generator.choice(b"/.\0a-")
        else:
            place &= ~3
            before = int.from_bytes(changed[place : place + 4], "little")
            number = generator.choice(_NUMBERS) if kind == 2 else (before + generator.choice((-1, 1, 4, 16))) % 2**32
            changed[place : place + 4] = number.to_bytes(4, "little")
    return bytes(changed)


def trees(vector: Vector) -> dict[str, dict[bytes, tuple[str, bytes]]]:
    """The layers that a vector describes: name -> path -> kind of entry, and its bytes or target."""
    found: dict[str, dict[bytes, tuple[str, bytes]]] = {}
    for one in _inherited(vector):
        if one.verb == "layer":
            found[one.words[1]] = {text(path): (kind, text("".join(rest))) for kind, path, *rest in one.below}
    return found
