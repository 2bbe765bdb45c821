"""No name in an archive does anything to a terminal, whoever shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import vectors
from support.native import lib, owned

from packer import explain, inspect, native, sizes, sizes_text

if TYPE_CHECKING:
    from pathlib import Path

NAMES = {
    b"\n": "\\x0a",
    b"\x1b[31m": "\\x1b[31m",
    b"\x7f": "\\x7f",
    b"\xc2\x9b": "\\xc2\\x9b",
    b"\x9b": "\\x9b",
    b"\xff": "\\xff",
    b"\xe2\x80\xae": "\\xe2\\x80\\xae",
    b"\xe2\x81\xa6": "\\xe2\\x81\\xa6",
    b"\xe2\x80\x8b": "\\xe2\\x80\\x8b",
    b"\xe2\x80\xa8": "\\xe2\\x80\\xa8",
    b"\xed\xa0\x80": "\\xed\\xa0\\x80",
    b"\xc0\x9b": "\\xc0\\x9b",
    b"\xf9\x80\x80\x80": "\\xf9\\x80\\x80\\x80",
    b"\x9b\x9b": "\\x9b\\x9b",
    b"\xe2\x82": "\\xe2\\x82",
    b"a b\xc3\xbc": "a b\xfc",
    b"\xe5\x90\x8d \xf0\x9f\x90\x8d": "\u540d \U0001f40d",
    b"": "",
    b"\\x1b": "\\x1b",
}


@pytest.mark.native
@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_what_cannot_be_seen_is_written_out(name: bytes) -> None:
    assert owned(lib().printable(name, b"\0")) == NAMES[name]
    assert native.printable(name.decode("utf-8", "surrogateescape")) == NAMES[name]


@pytest.mark.native
def test_line_ends_of_a_message_are_kept() -> None:
    assert owned(lib().printable(b"a\nb\x1b\n", b"\n")) == "a\nb\\x1b\n"


@pytest.mark.native
@given(st.binary())
def test_any_bytes_become_text_that_a_terminal_only_shows(raw: bytes) -> None:
    shown = owned(lib().printable(raw.replace(b"\0", b""), b"\0"))
    assert not any("\ud800" <= letter < "\ue000" or letter < " " or "\x7f" <= letter < "\xa0" for letter in shown)


HOSTILE = """
layer one wheel
  file "share/a" "11"
slice cp39 manylinux_2_17_x86_64
  need python name=cp39
tool x executable share/a
set layer[0].name = "one\\u001b[2J\\n  wheel  9  forged"
set slice[0].name = "cp39\\u001b]0;title\\u0007"
set need[0].value = "cp39\\u009b31m"
set tool[0].name = "x\\u00e2\\u0080\\u00aey"
"""


def test_every_way_to_look_into_a_hostile_archive(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    file = tmp_path / "app"
    file.write_bytes(vectors.build(vectors.parse("good-x", HOSTILE), tmp_path / "work"))
    texts = [inspect.table(inspect.describe(file)), sizes_text.table(sizes.measure(file))]
    texts.append(explain.judge(file, "bookworm").text)
    for text in texts:
        assert text.replace("\n", "").isprintable(), text
        assert "\n  wheel  9  forged" not in text
        assert "\\x" in text
