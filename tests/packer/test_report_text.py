"""packer/report_text.py: a table that fits its terminal, and says all that is wrong."""

from __future__ import annotations

from dataclasses import replace

from support import matrices

from packer import report_text
from packer.results import Addition, Choice, Row

WHOLE = matrices.matrix(additions=matrices.ADDITIONS)

TEXT = """\
http: archive 0000000000000000000000000000000000000000000000000000000000000000
host                 slice                        python          seen              first   warm
good                 cp313-manylinux_2_17_x86_64  /usr/bin/cp313  1 of 1 passed    1.25 s 0.12 s
predicted            cp39-manylinux_2_17_x86_64   /usr/bin/cp39-
none                 none
required (required)  none
failed (required)    cp311-manylinux_2_17_x86_64  /usr/bin/cp311  1 of 2 passed    1.25 s 0.12 s
differs              cp311-manylinux_2_17_x86_64  /usr/bin/cp311  another slice    1.25 s 0.12 s
unusable             cp39-manylinux_2_17_x86_64   /usr/bin/cp39-  could not be used
unknown              not known
"""


def test_the_whole_of_it() -> None:
    text = report_text.text(WHOLE)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[: len(TEXT.splitlines())] == [" ".join(line.split()) for line in TEXT.splitlines()]
    for said in (
        ", cp39-manylinux_2_17_x86_64: needs CPython cp313, cp311, cp39, found cp37 (/usr/bin/python3.7)\n",
        "required: A host that counts\n",
        "  failed: get --version: ends with 3, not 0\n    | no <b>\\x1b[1m\n",
        "  selects cp311-manylinux_2_17_x86_64, predicted was cp313-manylinux_2_17_x86_64\n",
        "  cp313-manylinux_2_17_x86_64, said there: needs CPython cp313, found cp37",
        "  cp311-manylinux_2_17_x86_64, predicted: needs CPython cp311, found cp37",
        "  no root filesystem /srv/none\n",
        "  for none, required:\n    --abis ...,cp37-manylinux_2_17_x86_64\n    costs: about 5,000 bytes, as cp39",
        "  for old:\n    nothing that packer fat could add helps: needs library libX11.so.6\n",
    ):
        assert said in text
    assert lines[-1] == (
        "a slice runs on 5 of 8 hosts; none on required, where one is required; cases that failed: 1; "
        "hosts that select another slice than predicted: 1; hosts that could not be used: 1"
    )
    assert text.isascii()


def test_columns_stand_below_each_other() -> None:
    lines = report_text.text(matrices.matrix(matrices.GOOD, matrices.PREDICTED)).splitlines()[1:4]
    assert len({line.index(word) for line, word in zip(lines, ("slice", "cp313", "cp39"), strict=True)}) == 1


def test_a_narrow_terminal_is_not_overrun() -> None:
    text = report_text.text(WHOLE, width=60)
    assert max(map(len, text.splitlines())) <= 60
    folded = "".join(text.split())
    assert "cp311-manylinux_2_17_x86_64" in folded or "cp311" in folded


def test_colours_are_for_terminals() -> None:
    assert "\x1b[" in report_text.text(WHOLE, width=200, colour=True)
    assert "\x1b" not in report_text.text(WHOLE, width=200)


def test_a_reason_that_slices_share_is_said_once() -> None:
    same = dict.fromkeys(matrices.SLICES, ("needs machine x86_64, found aarch64",))
    row = Row("router", "router", False, Choice(None, None, same))
    text = report_text.text(matrices.matrix(row))
    assert f"  {', '.join(matrices.SLICES)}: needs machine x86_64, found aarch64\n" in text
    many = {f"cp3{number}-x": ("needs machine x86_64, found aarch64",) for number in range(12)}
    row = Row("router", "router", False, Choice(None, None, many))
    assert "  cp30-x and 11 more: needs machine" in report_text.text(matrices.matrix(row))


def test_what_is_found_instead_of_several_things_is_said_once() -> None:
    reasons = {
        f"cp3{number}-x": (f"needs CPython cp3{number}, found cp27mu (/usr/bin/python2.7)",) for number in (9, 8)
    }
    reasons["cp38-x-carried"] = ("needs glibc 2.29, found glibc 2.17",)
    row = Row("old", "old", False, Choice(None, None, reasons))
    text = report_text.text(matrices.matrix(row))
    assert "  cp39-x, cp38-x: needs CPython cp39, cp38, found cp27mu (/usr/bin/python2.7)\n" in text
    assert "  cp38-x-carried: needs glibc 2.29, found glibc 2.17\n" in text


def test_all_that_would_have_to_be_added_is_said_together() -> None:
    changes = (
        "--abis ...,cp38-musllinux_1_1_x86_64", "--bundle cp39,cp311",
        "--abis ...,cp36m-manylinux_2_17_x86_64 --bundle cp36m", "--libc bundled", "",
    )  # fmt: skip
    additions = tuple(Addition(change, "", (), None, "", "") for change in changes)
    assert report_text.together(additions) == (
        "--abis ...,cp38-musllinux_1_1_x86_64,cp36m-manylinux_2_17_x86_64 --bundle cp39,cp311,cp36m --libc bundled"
    )
    assert report_text.together(additions[:1]) == report_text.together(additions[-1:]) == ""
    assert "  all of that:\n    --abis ...,cp38-musl" in report_text.text(matrices.matrix(additions=additions))


def test_a_required_host_of_which_nothing_is_known_is_named() -> None:
    said = report_text.summary(matrices.matrix(replace(matrices.UNKNOWN, required=True)))
    assert said == "a slice runs on 0 of 1 hosts; not known of unknown, where one is required"
