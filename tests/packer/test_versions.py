"""packer/versions.py: which archive has which version of a library, in lines that fit."""

from __future__ import annotations

from typing import Any

from packer import versions
from packer.libraries import Library

CP39, CP311 = "cp39-manylinux_2_17_x86_64", "cp311-manylinux_2_17_x86_64"


def library(name: str, version: str | None, *, static: bool = False, digest: str = "ab" * 32) -> Library:
    return Library(f"lib{name}.so.1", f"lib{name}.so.1", digest, "", (), "wheel-1.0", name, version, static)


ARCHIVES = [
    {CP39: [library("openssl", "3.5.6"), library("zlib", "1.3")], CP311: [library("openssl", "3.5.8")]},
    {CP311: [library("openssl", "3.5.8"), library("openssl", "4.0.3", static=True), library("odd", None)]},
]
ABOUT: list[dict[str, Any]] = [
    {"file": "client", "slices": [{"name": CP39}, {"name": CP311}]}, {"file": "server", "slices": [{"name": CP311}]},
]  # fmt: skip


def test_rows_have_all_archives() -> None:
    odd, openssl, zlib = versions.rows(ARCHIVES, ["openssl"])
    assert openssl == {
        "library": "openssl", "different": True,
        "archives": [
            [{"version": "3.5.6", "slices": [CP39]}, {"version": "3.5.8", "slices": [CP311]}],
            [{"version": "3.5.8", "slices": [CP311]}, {"version": "4.0.3", "slices": [CP311]}],
        ],
    }  # fmt: skip
    assert odd["archives"] == [[], [{"version": "file abababababab", "slices": [CP311]}]]
    assert (zlib["different"], zlib["archives"][1]) == (False, [])
    (static,) = versions.rows([{CP39: [library("x", None, static=True)]}], [])
    assert static["archives"] == [[{"version": None, "slices": [CP39]}]]


def test_the_table() -> None:
    rows = versions.rows(ARCHIVES, ["openssl"])
    assert versions.text(rows, ABOUT, 80).splitlines() == [
        "           client         server",
        "  odd      -              file abababababab",
        "! openssl  3.5.6 (cp39)   3.5.8",
        "           3.5.8 (cp311)  4.0.3",
        "  zlib     1.3            -",
        "",
        "! in more than one version",
    ]
    assert versions.text([], ABOUT, 80) == ""


def test_archives_that_do_not_fit_come_below() -> None:
    rows = versions.rows([ARCHIVES[0]] * 12, [])
    about = [{**ABOUT[0], "file": f"directory/{number:02}/a-program"} for number in range(12)]
    for width in (80, 120):
        lines = versions.text(rows, about, width).splitlines()
        assert max(map(len, lines)) <= width
        assert sum(line.count("3.5.6 (cp39)") for line in lines) == 12
        tables = sum(line.startswith("  openssl") for line in lines)
        assert tables == {80: 6, 120: 3}[width]


def test_slices_of_one_python_are_named_in_full() -> None:
    slices = ["cp39-manylinux_2_17_x86_64", "cp39-musllinux_1_2_x86_64"]
    found = {name: [library("x", str(number))] for number, name in enumerate(slices)}
    text = versions.text(versions.rows([found], []), [{"file": "a", "slices": [{"name": one} for one in slices]}], 80)
    assert text.splitlines() == [
        "     a", "  x  0 (cp39-manylinux_2_17_x86_64)", "     1 (cp39-musllinux_1_2_x86_64)",
    ]  # fmt: skip
