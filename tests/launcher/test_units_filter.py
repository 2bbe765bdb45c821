"""The filter for x86-64 machine code against FORMAT.md 5.5: by example, by a second implementation, there and back."""

from __future__ import annotations

import re
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.native import ffi, lib

pytestmark = pytest.mark.native

FORMAT = Path(__file__).resolve().parents[2] / "abi" / "FORMAT.md"
MAX_BLOB = 16777216
ELF = b"\x7fELF"


def filtered(data: bytes, *, undo: int = 0) -> bytes:
    """What C makes of it; memory of exactly this size, so that a sanitizer knows its end."""
    buffer = ffi().new("uint8_t[]", data) if data else ffi().NULL
    lib().filterx86(buffer, len(data), undo)
    return bytes(ffi().buffer(buffer, len(data))) if data else b""


def unfiltered(data: bytes) -> bytes:
    return filtered(data, undo=1)


# The rule as it is written --------------------------------------------------------------------------------------

Accepts = Callable[[int], bool]


def accepts(cell: str) -> Accepts:
    """One byte of an instruction, as the table has it."""
    if "b & 0xc7 = 5" in cell:
        return lambda byte: byte & 0xC7 == 5
    values = {int(word, 16) for word in re.findall(r"\b[0-9a-f]{2}\b", cell)}
    assert values, cell
    return values.__contains__


def written_rules() -> list[tuple[list[Accepts], int]]:
    """The table of section 5.5: what each byte of an instruction may be, and where its operand is."""
    section = FORMAT.read_text("utf-8").partition("### 5.5 ")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+) \| (\d) \|$", section, re.MULTILINE)
    return [([accepts(cell) for cell in re.split(r";|, then", bytes_)], int(at)) for bytes_, at in rows]


RULES = written_rules()


def operand_at(data: Sequence[int], i: int) -> int:
    """Step 2: where the operand of an instruction at ``i`` stands; 0: there is none."""
    for pattern, at in RULES:
        if all(accept(data[i + number]) for number, accept in enumerate(pattern)):
            return at
    return 0


def by_the_text(data: bytes, *, undo: bool = False) -> bytes:
    """Section 5.5, step by step."""
    out, i, start = bytearray(data), 0, 0
    while len(out) - i >= 7:
        if out[i : i + 4] == ELF:
            start = i
        at = operand_at(out, i)
        if not at:
            i += 1
            continue
        place = slice(i + at, i + at + 4)
        v, following = int.from_bytes(out[place], "little", signed=True), i + at + 4 - start
        if undo:
            if 0 <= v <= MAX_BLOB - 1:
                v -= following
            elif -following <= v <= -1:
                v += MAX_BLOB
        elif -following <= v <= MAX_BLOB - following - 1:
            v += following
        elif MAX_BLOB - following <= v <= MAX_BLOB - 1:
            v -= MAX_BLOB
        out[place] = v.to_bytes(4, "little", signed=True)
        i += at + 4
    return bytes(out)


def test_the_table_s_instructions_are_the_code_s() -> None:
    """Every byte in each of the three places that tell an instruction."""
    assert len(RULES) == 4
    moved = b"\1\0\0\0"
    for first in range(256):
        for second in range(256):
            third = range(256) if first in (0x0F, 0x48, 0x4C) else (0x05, 0x06, 0x15, 0xC5)
            for modrm in third:
                # the bytes behind begin no instruction, and so small an operand is always replaced
                data = bytes((first, second, modrm)) + moved
                at = operand_at(data, 0)
                assert (filtered(data) != data) == bool(at), data.hex()
                if at:
                    assert filtered(data)[:at] == data[:at]


# Examples -------------------------------------------------------------------------------------------------------

NOP = b"\x90"
EXAMPLES = {
    # before -> after; an operand counts from behind it
    "call": ("e8 10000000 9090", "e8 15000000 9090"),
    "jump": ("9090 e9 f9ffffff 9090", "9090 e9 00000000 9090"),
    "call-through-memory": ("ff15 00010000 90", "ff15 06010000 90"),
    "jump-through-memory": ("ff25 00010000 90", "ff25 06010000 90"),
    "push-of-memory": ("ff35 00010000 90", "ff35 06010000 90"),
    "call-through-a-register": ("ffd0 00010000 90", "ffd0 00010000 90"),
    "lea": ("488d3d 00010000", "488d3d 07010000"),
    "mov-to-r8": ("4c8b05 00010000", "4c8b05 07010000"),
    "mov-from-memory-by-a-register": ("488b45 00010000", "488b45 00010000"),
    "xor": ("483305 00010000", "483305 00010000"),
    "movups": ("0f1005 00010000", "0f1005 07010000"),
    "movzx": ("0fb63d 00010000", "0fb63d 07010000"),
    "movq": ("0fd605 00010000", "0fd605 07010000"),
    "conditional-jump": ("0f8405 00010000", "0f8405 00010000"),
    "two-calls-of-one-place": ("e8 20000000 e8 1b000000 9090", "e8 25000000 e8 25000000 9090"),
    "operand-that-looks-like-a-call": ("e8 e8000000 9090", "e8 ed000000 9090"),
    "second-file": ("e8 00000000 7f454c46 e8 00000000 9090", "e8 05000000 7f454c46 e8 09000000 9090"),
    "magic-in-an-operand": ("e8 7f454c46 e8 00000000 9090", "e8 7f454c46 e8 0a000000 9090"),
    "nothing": ("", ""),
    "six-bytes": ("e8 10000000 90", "e8 10000000 90"),
    "seventh-from-the-end": ("90 e8 10000000 9090", "90 e8 16000000 9090"),
    "sixth-from-the-end": ("9090 e8 10000000 90", "9090 e8 10000000 90"),
}


@pytest.mark.parametrize(("before", "after"), EXAMPLES.values(), ids=EXAMPLES)
def test_examples(before: str, after: str) -> None:
    raw, changed = bytes.fromhex(before), bytes.fromhex(after)
    assert by_the_text(raw) == changed
    assert filtered(raw) == changed
    assert unfiltered(changed) == raw


# A call whose operand ends 105 bytes behind the start: the ends of the ranges in step 3, and what is beside them.
ENDS = {
    -105: 0, -106: -106, -104: 1, 0: 105,
    MAX_BLOB - 106: MAX_BLOB - 1, MAX_BLOB - 105: -105, MAX_BLOB - 1: -1, MAX_BLOB: MAX_BLOB,
    -(1 << 31): -(1 << 31), (1 << 31) - 1: (1 << 31) - 1, -MAX_BLOB: -MAX_BLOB,
}  # fmt: skip


@pytest.mark.parametrize(("before", "after"), ENDS.items())
@pytest.mark.parametrize("ahead", [b"", ELF, b"\xe8" + bytes(4) + NOP * 3 + ELF], ids=["start", "file", "file-within"])
def test_ends_of_the_ranges(before: int, after: int, ahead: bytes) -> None:
    skipped = len(ahead.removesuffix(ELF)) if ahead else 0
    head = filtered(ahead.ljust(skipped + 100, NOP))

    def call(v: int) -> bytes:
        return head + b"\xe8" + v.to_bytes(4, "little", signed=True) + NOP * 2

    assert filtered(unfiltered(head) + call(before)[len(head) :]) == call(after)
    assert unfiltered(call(after)) == unfiltered(head) + call(before)[len(head) :]


def test_ends_of_the_ranges_at_the_end_of_the_largest_blob() -> None:
    """There an operand can reach back over all of it, and not forward."""
    head = NOP * (MAX_BLOB - 7)
    for v, replaced in ((-MAX_BLOB + 2, 0), (-MAX_BLOB + 1, -MAX_BLOB + 1), (1, MAX_BLOB - 1), (2, -MAX_BLOB + 2)):
        data = head + b"\xe8" + v.to_bytes(4, "little", signed=True) + NOP * 2
        out = filtered(data)
        assert int.from_bytes(out[-6:-2], "little", signed=True) == replaced
        assert (out[:-6], out[-2:]) == (data[:-6], data[-2:])
        assert unfiltered(out) == data


# Whatever is filtered -------------------------------------------------------------------------------------------

TRIGGERS = [
    b"\xe8", b"\xe9", b"\xff\x15", b"\xff\x25", b"\xff\x35", b"\xff",
    b"\x48\x8d\x05", b"\x4c\x8b\x3d", b"\x48", b"\x4c",
    b"\x0f\x10\x05", b"\x0f\xb6\x35", b"\x0f", b"\x05", b"\x8d", ELF, ELF[:3], ELF[1:],
]  # fmt: skip
NEAR = [0, 1, -1, -7, MAX_BLOB, MAX_BLOB - 1, -MAX_BLOB, MAX_BLOB - 20, -20]
OPERANDS = st.builds(
    lambda near, off: ((near + off) & 0xFFFFFFFF).to_bytes(4, "little"), st.sampled_from(NEAR), st.integers(-64, 64)
)
CODE = st.lists(st.one_of(st.sampled_from(TRIGGERS), OPERANDS, st.binary(max_size=3)), max_size=60).map(b"".join)


@given(CODE)
@example(b"\xe8")
@example(ELF + b"\xe8" + bytes(2))
def test_the_code_does_what_the_text_says_and_takes_it_back(data: bytes) -> None:
    there, back = filtered(data), unfiltered(data)
    assert there == by_the_text(data)
    assert back == by_the_text(data, undo=True)
    assert unfiltered(there) == data
    assert filtered(back) == data


def real_libraries() -> list[Path]:
    """Machine code of this environment: extension modules and what they bring."""
    found = sorted(Path(sysconfig.get_path("platlib")).rglob("*.so*"), key=lambda path: path.stat().st_size)
    return [path for path in found if path.is_file() and path.stat().st_size < MAX_BLOB]


def test_real_machine_code_there_and_back() -> None:
    """It is changed, too, or else this would show nothing."""
    libraries = real_libraries()
    assert libraries
    for path in libraries:
        data = path.read_bytes()
        there = filtered(data)
        assert unfiltered(there) == data, path
        assert filtered(unfiltered(data)) == data, path
        if data[18:20] == b"\x3e\x00":  # EM_X86_64
            assert there != data, path


def test_real_machine_code_by_the_text() -> None:
    data = real_libraries()[0].read_bytes()[:100_000]
    assert filtered(data) == by_the_text(data)
