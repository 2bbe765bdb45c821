"""The sentences of explain and of a refusal: both sides of every comparison are named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.native import Host, Libc, Python, ffi, judged, lib, owned

pytestmark = pytest.mark.native

CP311 = Python("cp311", 0x030B02F0, path="/usr/bin/python3.11")
BOOKWORM = Host(
    release="6.1.0-18-amd64",
    libcs=(Libc("glibc", (2, 36), ("GLIBC_2.17", "GLIBC_2.36")),),
    pythons=(CP311, Python("cp39", 0x03090000, path="/opt/py/bin/python3.9", lacks=("json",))),
)
BARE = Host()

REASONS = {
    "OTHER_MACHINE": ("machine name=aarch64 number=183", "needs machine aarch64, found x86_64"),
    "CPU_TOO_OLD": ("cpu number=4", "needs CPU level x86-64-v4, found x86-64-v3"),
    "KERNEL_TOO_OLD": ("kernel number=0x060500", "needs Linux 6.5, found 6.1.0-18-amd64"),
    "OTHER_LIBC": ("libc name=musl number=0x010200", "needs musl 1.2, found glibc 2.36"),
    "LIBC_TOO_OLD": ("libc name=glibc number=0x022600", "needs glibc 2.38, found glibc 2.36"),
    "NODE_MISSING": ("node name=libc.so.6 value=GLIBC_2.38", "needs GLIBC_2.38 in libc.so.6, found glibc 2.36"),
    "LIBRARY_MISSING": ("library name=libstdc++.so.6", "needs library libstdc++.so.6, found none"),
    "NO_PYTHON": (
        "python name=cp313",
        "needs CPython cp313, found cp311 (/usr/bin/python3.11), cp39 (/opt/py/bin/python3.9)",
    ),
    "PYTHON_TOO_OLD": (
        "python name=cp311 number=0x030b04f0",
        "needs Python 3.11.4, found 3.11.2 (/usr/bin/python3.11)",
    ),
    "PYTHON_EXCLUDED": (
        "python_not number=0x030b02f0",
        "needs another Python than 3.11.2, found 3.11.2 (/usr/bin/python3.11)",
    ),
}


def sliced(*needs: str, python: str = "cp311", more: str = "") -> str:
    """An archive with one slice."""
    lines = "".join(f"  need {need}\n" for need in (f"python name={python}", *needs))
    return f"slice {python} manylinux_2_17_x86_64\n{lines}tool app python app\n{more}"


def reason(written: str, host: Host, work: Path) -> str:
    """The first reason against the first slice, in words."""
    with judged(written, host, work) as (archive, c, selection):
        assert selection.verdicts[0].reason_count == 1
        return owned(lib().reasontext(archive, c, ffi().addressof(selection.verdicts[0]), 0))


@pytest.mark.parametrize(("need", "says"), REASONS.values(), ids=REASONS.keys())
def test_each_reason_names_both_sides(tmp_path: Path, need: str, says: str) -> None:
    assert reason(sliced(need), BOOKWORM, tmp_path) == says


def test_every_reason_is_in_the_table() -> None:
    said = {*REASONS, "MET", "STDLIB_MISSING", "NEED_UNKNOWN"}
    assert said == set(ffi().typeof("enum mismatch").elements.values())


def test_a_missing_part_of_the_standard_library(tmp_path: Path) -> None:
    says = "needs standard library module json, not found in /nowhere/lib/cp39"
    assert reason(sliced("stdlib name=json", python="cp39"), BOOKWORM, tmp_path) == says


def test_a_need_that_is_not_known(tmp_path: Path) -> None:
    written = sliced("stdlib name=json", more="set need[1].kind = 10")
    assert reason(written, BOOKWORM, tmp_path) == "needs something this launcher does not know (10)"


@pytest.mark.parametrize(
    ("host", "need", "says"),
    [
        pytest.param(
            replace(BOOKWORM, machine=183, cpu=80), "cpu number=81", "needs CPU level ARMv8.1, found ARMv8.0", id="arm"
        ),
        pytest.param(
            replace(BOOKWORM, machine=0x16),
            "machine name=x86_64 number=62",
            "needs machine x86_64, found another machine",
            id="machine-without-a-name",
        ),
        pytest.param(
            replace(BOOKWORM, release="2.6.32-754.el6.x86_64"),
            "kernel number=0x030201",
            "needs Linux 3.2.1, found 2.6.32-754.el6.x86_64",
            id="kernel-with-a-patch-level",
        ),
        pytest.param(
            replace(BOOKWORM, libcs=(Libc("musl", (1, 2)),)),
            "libc name=glibc number=0x021100",
            "needs glibc 2.17, found musl 1.2",
            id="musl",
        ),
        pytest.param(
            replace(BOOKWORM, libcs=(Libc("musl", (0, 0)),)),
            "libc name=musl number=0x010200",
            "needs musl 1.2, found musl",
            id="version-that-could-not-be-read",
        ),
        pytest.param(
            replace(BOOKWORM, libcs=(Libc("musl", (1, 2)),)),
            "libc name=glibc",
            "needs glibc, found musl 1.2",
            id="any-version",
        ),
        pytest.param(
            replace(BOOKWORM, libcs=()),
            "libc name=glibc number=0x021100",
            "needs glibc 2.17, found no C library",
            id="no-libc",
        ),
        pytest.param(
            BOOKWORM,
            "python name=cp311 number=0x030c00f0",
            "needs Python 3.12.0, found 3.11.2 (/usr/bin/python3.11)",
            id="python-that-ends-in-zero",
        ),
    ],
)
def test_other_hosts(tmp_path: Path, host: Host, need: str, says: str) -> None:
    assert reason(sliced(need), host, tmp_path) == says


def test_no_python_at_all(tmp_path: Path) -> None:
    assert reason(sliced(), BARE, tmp_path) == "needs CPython cp311, found no Python at all"


def test_a_python_of_which_only_the_minor_version_is_known(tmp_path: Path) -> None:
    says = "needs Python 3.9.5, found 3.9 (/opt/py/bin/python3.9)"
    assert reason(sliced("python name=cp39 number=0x030905f0", python="cp39"), BOOKWORM, tmp_path) == says


THREE = """
slice cp313 manylinux_2_28_x86_64
  need machine name=x86_64 number=62
  need libc name=glibc number=0x022600
  need python name=cp313
slice cp311 manylinux_2_17_x86_64
  need python name=cp311
  need libc name=glibc number=0x021100
slice cp39 manylinux_2_17_x86_64
  need python name=cp39
tool app python app
"""


def test_explain_whole(tmp_path: Path) -> None:
    with judged(THREE, BOOKWORM, tmp_path) as (archive, host, selection):
        assert (
            owned(lib().explaintext(archive, host, selection))
            == """\
host
  machine  x86_64, x86-64-v3
  kernel   6.1.0-18-amd64
  libc     glibc 2.36 (/lib/libc.so.6)
  python   cp311 3.11.2 (/usr/bin/python3.11)
  python   cp39 3.9 (/opt/py/bin/python3.9)
slices, most preferred first
  cp313-manylinux_2_28_x86_64: needs glibc 2.38, found glibc 2.36; needs CPython cp313, \
found cp311 (/usr/bin/python3.11), cp39 (/opt/py/bin/python3.9)
  cp311-manylinux_2_17_x86_64: fits /usr/bin/python3.11 (chosen)
  cp39-manylinux_2_17_x86_64: fits /opt/py/bin/python3.9
choice
  cp311-manylinux_2_17_x86_64
"""
        )


def test_explain_on_a_host_with_nothing(tmp_path: Path) -> None:
    with judged(sliced(), BARE, tmp_path) as (archive, host, selection):
        host.path_consulted = 1
        assert (
            owned(lib().explaintext(archive, host, selection))
            == """\
host
  machine  x86_64, x86-64-v3
  kernel   6.1.0-18-amd64
  libc     none found
  python   none found
  PATH was searched, since no slice fits the system's interpreters
slices, most preferred first
  cp311-manylinux_2_17_x86_64: needs CPython cp311, found no Python at all
choice
  none: this machine cannot run it
"""
        )


def test_refusal_tells_of_the_slice_with_the_least_against_it(tmp_path: Path) -> None:
    host = replace(BOOKWORM, pythons=(Python("cp312", 0x030C01F0, path="/usr/bin/python3.12"),))
    with judged(THREE, host, tmp_path) as (archive, c, selection):
        assert (
            owned(lib().refusaltext(archive, c, selection))
            == """\
this machine cannot run it: needs CPython cp311, found cp312 (/usr/bin/python3.12) (cp311-manylinux_2_17_x86_64 of 3)
found x86_64, x86-64-v3, Linux 6.1.0-18-amd64, glibc 2.36, cp312 (/usr/bin/python3.12)"""
        )


def test_refusal_on_a_host_with_nothing(tmp_path: Path) -> None:
    with judged(sliced(), BARE, tmp_path) as (archive, c, selection):
        assert (
            owned(lib().refusaltext(archive, c, selection))
            == """\
this machine cannot run it: needs CPython cp311, found no Python at all (cp311-manylinux_2_17_x86_64 of 1)
found x86_64, x86-64-v3, Linux 6.1.0-18-amd64, no C library, no Python at all"""
        )
