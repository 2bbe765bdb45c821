"""FORMAT.md, the header, the launcher's constants and the packer's say the same, number by number."""

from __future__ import annotations

import re
import zlib
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from packer import archive, front, layout, model, native

DIRECTORY = Path(__file__).resolve().parents[2] / "abi"
DOCUMENT = (DIRECTORY / "FORMAT.md").read_text("utf-8")
HEADER = (DIRECTORY / "fatpar.h").read_text("utf-8")

Row = list[str]


def rows_after(place: int) -> list[Row]:
    """The cells of the table that begins behind a place in the document, without its head."""
    table = re.compile(r"\s*((?:\|.*\|\n)+)").match(DOCUMENT, place)
    assert table, DOCUMENT[place : place + 80]
    head, line, *rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table[1].splitlines()]
    assert set("".join(line)) <= set("- :"), line
    assert {len(row) for row in rows} == {len(head)}, head
    return rows


def table_headed(*head: str) -> list[Row]:
    """The only table with this head."""
    line = "| " + " | ".join(head) + " |\n"
    assert DOCUMENT.count(line) == 1, line
    return rows_after(DOCUMENT.index(line))


RECORDS = {match[1]: rows_after(match.end()) for match in re.finditer(r"<!-- record: (\w+) -->\n", DOCUMENT)}
LIMITS = {match.end(): rows_after(match.end()) for match in re.finditer(r"<!-- limits -->\n", DOCUMENT)}
SECTIONS = table_headed("id", "section", "records")
NEEDS = table_headed("kind", "about", "name", "value", "number", "met if")


def numbered(rows: list[Row]) -> dict[str, int]:
    """Tables that give numbers to names: name -> number."""
    return {name: int(number) for number, name, *_ in rows}


def enum_of(name: str, prefix: str) -> dict[str, int]:
    """An enum of the header without its prefix."""
    return {key.removeprefix(prefix): value for key, value in native.ffi().typeof(f"enum {name}").relements.items()}


def values(kind: type[Enum]) -> dict[str, int]:
    return {member.name: member.value for member in kind}


def test_all_tables_were_found() -> None:
    assert sorted(RECORDS) == sorted(re.findall(r"^struct (\w+) \{", HEADER, re.MULTILINE))
    assert len(RECORDS) == 12
    assert len(LIMITS) == 1
    assert DOCUMENT.count("<!--") == 13
    assert all(len(rows) > 1 for rows in (*RECORDS.values(), *LIMITS.values(), SECTIONS, NEEDS))


@pytest.mark.parametrize("name", RECORDS)
def test_record_has_the_documented_fields(name: str) -> None:
    struct = native.ffi().typeof(f"struct {name}")
    compiled = [(field, place.offset, native.ffi().sizeof(place.type)) for field, place in struct.fields or []]
    assert [(field, int(offset), int(size)) for field, offset, size, _ in RECORDS[name]] == compiled


@pytest.mark.parametrize("name", RECORDS)
def test_record_has_no_padding_and_whole_alignment(name: str) -> None:
    at = 0
    for field, offset, size, _ in RECORDS[name]:
        assert int(offset) == at, field
        at += int(size)
    assert at == native.ffi().sizeof(f"struct {name}")
    assert at % native.ffi().alignof(f"struct {name}") == 0


def test_limits() -> None:
    (rows,) = LIMITS.values()
    documented = {name: int(value) for name, value, _ in rows}
    assert list(documented) == re.findall(r"^#define (MAX_\w+)", HEADER, re.MULTILINE)
    assert documented == {name: getattr(native.lib(), name) for name in documented}


def test_limits_that_the_header_writes_as_numbers() -> None:
    """cffi takes no constant for the length of an array."""
    fields = dict(native.ffi().typeof("struct blob").fields or [])
    assert fields["bases"].type.length == native.lib().MAX_BASES
    assert dict(native.ffi().typeof("struct trailer").fields or [])["id"].type.length == native.lib().DIGEST_SIZE


def test_sections() -> None:
    documented = numbered(SECTIONS)
    assert documented == enum_of("section_id", "SECTION_")
    of_records = {records.split(";")[0]: int(number) for number, _, records in SECTIONS}
    written = {
        **{name: number for name, number in of_records.items() if name in RECORDS},
        **{name.lower(): documented[name] for name in ("STRINGS", "REFS", "MANIFEST")},
    }
    assert written == archive._SECTIONS
    reserved = {name for _, name, records in SECTIONS if records.startswith("reserved")}
    assert len(written) + len(reserved) == len(documented)


def test_kinds_of_needs() -> None:
    words = {"not Python": "PYTHON_NOT", "standard library": "STDLIB"}
    documented = {words.get(about, about.upper()): number for about, number in numbered(NEEDS).items()}
    assert documented == enum_of("need_kind", "NEED_") == values(model.NeedKind)


ENUMS = [
    ("blob", "encoding", "encoding", None),
    ("blob", "filter", "filter", None),
    ("layer", "kind", "layer_kind", model.LayerKind),
    ("entry", "kind", "entry_kind", model.EntryKind),
    ("slice", "shape", "view_shape", None),
    ("tool", "kind", "tool_kind", model.ToolKind),
]


@pytest.mark.parametrize(("record", "field", "name", "python"), ENUMS, ids=[name for *_, name, _ in ENUMS])
def test_values_of_fields(record: str, field: str, name: str, python: type[Enum] | None) -> None:
    """``1: wheel; 2: the app``: which numbers there are; and the packer's names for them are the header's."""
    compiled: dict[str, int] = native.ffi().typeof(f"enum {name}").relements
    (meaning,) = (meaning for one, _, _, meaning in RECORDS[record] if one == field)
    assert sorted(map(int, re.findall(r"(?:^|[:;] )(\d+): ", meaning))) == sorted(compiled.values())
    if python:
        prefix = name.partition("_")[0].upper() + "_"
        assert values(python) == enum_of(name, prefix)


def test_every_enum_of_the_header_is_compared() -> None:
    declared = set(re.findall(r"^enum (\w+) \{", HEADER, re.MULTILINE))
    assert {name for *_, name, _ in ENUMS} | {"section_id", "need_kind"} == declared


def test_other_constants() -> None:
    lib = native.lib()
    found = re.search(r"^Format version (\d+), store version (\d+)\.", DOCUMENT, re.MULTILINE)
    assert found
    assert (int(found[1]), int(found[2])) == (lib.FORMAT_VERSION, lib.STORE_VERSION)
    assert f"The last {lib.TRAILER_SIZE} bytes of the file." in DOCUMENT
    assert f"`NONE` is {lib.NONE:#x} " in DOCUMENT
    assert lib.NONE == archive.NONE
    assert layout.BLOB_SIZE == lib.MAX_BLOB
    defined = re.findall(r"^#define (\w+)", HEADER, re.MULTILINE)
    assert {name for name in defined if not name.startswith("MAX_")} == {
        "FORMAT_VERSION", "STORE_VERSION", "NONE", "DIGEST_SIZE", "TRAILER_SIZE", "SECTION_CRITICAL",
        "LAUNCHER_MARK_SIZE",
    }  # fmt: skip
    mark = re.search(r"the \*mark\* `([0-9a-f ]+)`", DOCUMENT)
    assert mark
    assert bytes.fromhex(mark[1]) == front._MARK
    assert len(front._MARK) == lib.LAUNCHER_MARK_SIZE
    assert "bit 0, *critical*" in DOCUMENT
    assert lib.SECTION_CRITICAL == 1


def test_numbers_that_the_text_repeats() -> None:
    """Where a sentence spells out what a constant says."""
    lib = native.lib()
    launcher = DIRECTORY.parent / "launcher"
    days = re.search(r"#define PLAN_DAYS (\d+)", (launcher / "plan.h").read_text("utf-8"))
    head = re.search(r'#define HEAD "([^"]+)"', (launcher / "plan.c").read_text("utf-8"))
    assert days
    assert f"it is not older than {days[1]} days" in " ".join(DOCUMENT.split())
    assert head
    assert f"| `{head[1]}` | first |" in DOCUMENT
    assert f"{2 * lib.DIGEST_SIZE} hexadecimal digits" in DOCUMENT


# The example ----------------------------------------------------------------------------------------------------


def example() -> tuple[bytes, list[str]]:
    """The dump of section 10: its bytes, and what stands beside each line."""
    (block,) = re.findall(r"## 10\. Example\n.*?```\n(.*?)```", DOCUMENT, re.DOTALL)
    content, beside = b"", []
    for text in block.splitlines():
        line = re.fullmatch(r"([0-9a-f]{8}): ((?:[0-9a-f]{2} ){15}[0-9a-f]{2})   (.+)", text)
        assert line, text
        assert int(line[1], 16) == len(content)
        content += bytes.fromhex(line[2])
        beside.append(line[3])
    return content, beside


def trailer(content: bytes) -> Any:
    record = native.ffi().new("struct trailer *")
    native.ffi().memmove(record, content, len(content))
    return record


def test_the_example_is_a_trailer() -> None:
    content, _ = example()
    lib = native.lib()
    assert len(content) == lib.TRAILER_SIZE
    record = trailer(content)
    (magic,) = re.findall(r"\| magic \| 120 \| 8 \| `([0-9a-f ]+)`", DOCUMENT)
    assert bytes(record.magic) == bytes.fromhex(magic) == b"\x89fatpar\n"
    assert record.checksum == zlib.crc32(content[: native.ffi().offsetof("struct trailer", "checksum")])
    assert (record.version, record.refuse, record.ignore) == (lib.FORMAT_VERSION, 0, 0)
    assert 100_000 < record.front_size <= record.index_offset
    assert 0 < record.index_size < record.index_raw_size < lib.MAX_INDEX
    # behind the launcher and a blob at least
    assert record.index_offset > 100_000


def test_the_example_names_the_fields_of_each_line() -> None:
    content, beside = example()
    for number, labels in enumerate(beside):
        there = set(range(16 * number, 16 * number + 16))
        fields = [name for name, at, size, _ in RECORDS["trailer"] if there & set(range(int(at), int(at) + int(size)))]
        assert re.sub(r" \(\d+\)", "", labels).split(", ") == fields, labels
    assert len(beside) == len(content) // 16


def test_the_packer_writes_such_a_trailer() -> None:
    content, _ = example()
    record = trailer(content)
    index = archive._Index(bytes(record.index_size), record.index_raw_size)
    written = trailer(archive._trailer(bytes(record.front_size), record.index_offset, index))
    for field in (
        "index_offset",
        "index_size",
        "index_raw_size",
        "signature_size",
        "front_size",
        "version",
        "refuse",
        "ignore",
    ):
        assert getattr(written, field) == getattr(record, field)
    assert bytes(written.magic) == bytes(record.magic)
