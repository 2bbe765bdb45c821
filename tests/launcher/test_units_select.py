"""Which slice runs where: a table of hosts, archives and answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.native import Host, Libc, Python, ffi, judged, lib

pytestmark = pytest.mark.native

# nodes as these releases define them on x86_64; there is none for 2.37
GLIBC_2_17 = ("GLIBC_2.2.5", "GLIBC_2.14", "GLIBC_2.17")
GLIBC_2_36 = (*GLIBC_2_17, "GLIBC_2.28", "GLIBC_2.34", "GLIBC_2.36", "GLIBC_ABI_DT_RELR")
CXX = {"libstdc++.so.6": ("GLIBCXX_3.4", "GLIBCXX_3.4.30")}
CP39, CP311, CP312 = Python("cp39", 0x030902F0), Python("cp311", 0x030B02F0), Python("cp312", 0x030C00F0)

BARE = Host()
BOOKWORM = Host(libcs=(Libc("glibc", (2, 36), GLIBC_2_36, CXX),), pythons=(CP311,))
CENTOS7 = Host(
    release="3.10.0-1160.el7.x86_64",
    cpu=2,
    libcs=(Libc("glibc", (2, 17), GLIBC_2_17),),
    pythons=(Python("cp27mu", 0x020705F0), Python("cp36m", 0x03060000)),
)
ALPINE = Host(libcs=(Libc("musl", (1, 2)),), pythons=(CP312,))
GRAVITON = Host(machine=183, cpu=80, libcs=(Libc("glibc", (2, 36), GLIBC_2_36),), pythons=(CP311,))
MIXED = Host(libcs=(Libc("musl", (1, 2)), Libc("glibc", (2, 36), GLIBC_2_36)), pythons=(CP312, replace(CP311, libc=1)))


@dataclass(frozen=True)
class Row:
    """Slices, by their Python ABI and what they need besides it, and what is said of each on a host."""

    host: Host
    slices: Sequence[tuple[str, Sequence[str]]]
    says: Sequence[Sequence[str]]
    """Per slice the reasons against it, none if it fits."""
    chosen: int | None


def one(host: Host, python: str, need: str, why: str = "") -> Row:
    """A single slice that needs one thing."""
    return Row(host, [(python, [need])], [[why] if why else []], None if why else 0)


def glibc(major: int, minor: int) -> str:
    return f"libc name=glibc number={major << 16 | minor << 8}"


def musl(major: int, minor: int) -> str:
    return f"libc name=musl number={major << 16 | minor << 8}"


ROWS = {
    "machine-is-this": one(BOOKWORM, "cp311", "machine name=x86_64 number=62"),
    "machine-is-another": one(BOOKWORM, "cp311", "machine name=aarch64 number=183", "OTHER_MACHINE"),
    "machine-is-another-on-arm": one(GRAVITON, "cp311", "machine name=x86_64 number=62", "OTHER_MACHINE"),
    "cpu-is-better": one(BOOKWORM, "cp311", "cpu number=2"),
    "cpu-is-as-good": one(BOOKWORM, "cp311", "cpu number=3"),
    "cpu-is-older": one(BOOKWORM, "cp311", "cpu number=4", "CPU_TOO_OLD"),
    "arm-is-as-good": one(GRAVITON, "cp311", "cpu number=80"),
    "arm-is-older": one(GRAVITON, "cp311", "cpu number=81", "CPU_TOO_OLD"),
    "kernel-is-newer": one(CENTOS7, "cp27mu", "kernel number=0x020620"),
    "kernel-is-the-same": one(CENTOS7, "cp27mu", "kernel number=0x030a00"),
    "kernel-is-older": one(CENTOS7, "cp27mu", "kernel number=0x030a01", "KERNEL_TOO_OLD"),
    "kernel-of-no-number-there-is": one(BOOKWORM, "cp311", "kernel number=0x10000000000", "KERNEL_TOO_OLD"),
    "glibc-is-newer": one(BOOKWORM, "cp311", glibc(2, 17)),
    "glibc-is-the-same": one(CENTOS7, "cp27mu", glibc(2, 17)),
    "glibc-is-older": one(CENTOS7, "cp27mu", glibc(2, 28), "LIBC_TOO_OLD"),
    "glibc-of-any-version": one(CENTOS7, "cp27mu", "libc name=glibc number=0"),
    "glibc-on-alpine": one(ALPINE, "cp312", glibc(2, 17), "OTHER_LIBC"),
    "musl-on-alpine": one(ALPINE, "cp312", musl(1, 2)),
    "musl-is-older": one(ALPINE, "cp312", musl(1, 3), "LIBC_TOO_OLD"),
    "musl-on-bookworm": one(BOOKWORM, "cp311", musl(1, 1), "OTHER_LIBC"),
    "a-c-library-nobody-knows": one(BOOKWORM, "cp311", "libc name=uclibc", "OTHER_LIBC"),
    "a-version-that-could-not-be-read": one(
        replace(ALPINE, libcs=(Libc("musl", (0, 0)),)), "cp312", musl(1, 1), "LIBC_TOO_OLD"
    ),
    "node-is-there": one(BOOKWORM, "cp311", "node name=libc.so.6 value=GLIBC_2.34"),
    "node-is-missing": one(CENTOS7, "cp27mu", "node name=libc.so.6 value=GLIBC_2.28", "NODE_MISSING"),
    "node-of-another-library": one(BOOKWORM, "cp311", "node name=libm.so.6 value=GLIBC_2.34", "NODE_MISSING"),
    "node-is-no-prefix": one(BOOKWORM, "cp311", "node name=libc.so.6 value=GLIBC_2.3", "NODE_MISSING"),
    "node-of-relr": one(BOOKWORM, "cp311", "node name=libc.so.6 value=GLIBC_ABI_DT_RELR"),
    "node-of-relr-whatever-the-version-says": one(
        replace(BOOKWORM, libcs=(Libc("glibc", (2, 36), GLIBC_2_36[:-1]),)),
        "cp311",
        "node name=libc.so.6 value=GLIBC_ABI_DT_RELR",
        "NODE_MISSING",
    ),
    "version-2.37-has-no-node-of-its-name": one(
        replace(BOOKWORM, libcs=(Libc("glibc", (2, 37), GLIBC_2_36),)),
        "cp311",
        "node name=libc.so.6 value=GLIBC_2.37",
        "NODE_MISSING",
    ),
    "version-2.37-is-2.37-without-a-node": one(
        replace(BOOKWORM, libcs=(Libc("glibc", (2, 37), GLIBC_2_36),)), "cp311", glibc(2, 37)
    ),
    "library-is-there": one(BOOKWORM, "cp311", "library name=libstdc++.so.6"),
    "library-is-missing": one(CENTOS7, "cp27mu", "library name=libstdc++.so.6", "LIBRARY_MISSING"),
    "node-of-a-library-that-is-missing": one(
        CENTOS7, "cp27mu", "node name=libstdc++.so.6 value=GLIBCXX_3.4", "NODE_MISSING"
    ),
    "no-python": Row(replace(BOOKWORM, pythons=()), [("cp311", [glibc(2, 17)])], [["NO_PYTHON"]], None),
    "other-pythons": Row(CENTOS7, [("cp311", [])], [["NO_PYTHON"]], None),
    "python-with-other-flags": Row(
        replace(BOOKWORM, pythons=(Python("cp313t", 0x030D00F0),)), [("cp313", [])], [["NO_PYTHON"]], None
    ),
    "python-of-another-slice": Row(
        replace(BOOKWORM, pythons=(CP39, CP311)), [("cp39", ["python name=cp311"])], [["NO_PYTHON"]], None
    ),
    "python-is-new-enough": Row(BOOKWORM, [("cp311", ["python name=cp311 number=0x030b02f0"])], [[]], 0),
    "python-is-too-old": Row(
        BOOKWORM, [("cp311", ["python name=cp311 number=0x030b03f0"])], [["PYTHON_TOO_OLD"]], None
    ),
    "python-is-excluded": one(BOOKWORM, "cp311", "python_not number=0x030b02f0", "PYTHON_EXCLUDED"),
    "python-is-excluded-as-candidate-too": one(BOOKWORM, "cp311", "python_not number=0x030b02c1", "PYTHON_EXCLUDED"),
    "another-python-is-excluded": one(BOOKWORM, "cp311", "python_not number=0x030b03f0"),
    "standard-library-is-whole": one(BOOKWORM, "cp311", "stdlib name=json"),
    "standard-library-lacks-a-part": one(
        replace(BOOKWORM, pythons=(replace(CP311, lacks=("ctypes", "json")),)),
        "cp311",
        "stdlib name=json",
        "STDLIB_MISSING",
    ),
    "no-host-facts-at-all": Row(
        BARE,
        [("cp311", [glibc(2, 17), "node name=libc.so.6 value=GLIBC_2.17", "library name=libz.so.1"])],
        [["NO_PYTHON", "OTHER_LIBC", "LIBRARY_MISSING"]],  # that each node is missing, too, goes without saying
        None,
    ),
    "every-reason-is-told": Row(
        CENTOS7,
        [
            (
                "cp36m",
                [
                    "machine name=aarch64 number=183",
                    "cpu number=4",
                    "python name=cp36m number=0x030608f0",
                    glibc(2, 28),
                ],
            )
        ],
        [["OTHER_MACHINE", "CPU_TOO_OLD", "PYTHON_TOO_OLD", "LIBC_TOO_OLD"]],
        None,
    ),
    # preference
    "the-first-that-fits": Row(
        BOOKWORM,
        [("cp312", []), ("cp311", []), ("cp311", [glibc(2, 17)])],
        [["NO_PYTHON"], [], []],
        1,
    ),
    "the-order-of-slices-counts-not-that-of-pythons": Row(
        replace(BOOKWORM, pythons=(CP39, CP311)),
        [("cp311", []), ("cp39", [])],
        [[], []],
        0,
    ),
    "none-fits": Row(
        ALPINE,
        [("cp312", [glibc(2, 17)]), ("cp311", [])],
        [["OTHER_LIBC"], ["NO_PYTHON"]],
        None,
    ),
    "glibc-and-musl-slices": Row(
        ALPINE,
        [("cp312", [glibc(2, 17)]), ("cp312", [musl(1, 2)])],
        [["OTHER_LIBC"], []],
        1,
    ),
    # a host with two C libraries: the interpreter's own counts
    "musl-host-with-a-glibc-python": Row(
        MIXED,
        [("cp311", [musl(1, 2)]), ("cp311", [glibc(2, 17)])],
        [["OTHER_LIBC"], []],
        1,
    ),
    "node-in-the-c-library-of-another-python": Row(
        MIXED, [("cp312", ["node name=libc.so.6 value=GLIBC_2.17"])], [["NODE_MISSING"]], None
    ),
}


def described(row: Row, more: str = "") -> str:
    """The archive's text."""
    lines = []
    for python, needs in row.slices:
        lines.append(f"slice {python} manylinux_2_17_x86_64")
        lines += [f"  need {need}" for need in (f"python name={python}", *needs)]
    return "\n".join([*lines, "tool app python app", more])


def reasons(verdict: Any) -> list[str]:
    """By their names in select.h."""
    names = ffi().typeof("enum mismatch").elements
    return [names[verdict.reasons[i].why] for i in range(verdict.reason_count)]


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_selection(tmp_path: Path, row: Row) -> None:
    with judged(described(row), row.host, tmp_path) as (_, _, selection):
        said = [reasons(selection.verdicts[i]) for i in range(selection.verdict_count)]
        assert said == [list(says) for says in row.says]
        assert selection.slice == (lib().NONE if row.chosen is None else row.chosen)


def test_the_table_has_every_reason() -> None:
    told = {why for row in ROWS.values() for says in row.says for why in says}
    assert told == set(ffi().typeof("enum mismatch").elements.values()) - {"MET", "NEED_UNKNOWN"}


def test_a_kind_of_need_that_is_not_known_is_not_met(tmp_path: Path) -> None:
    row = one(BOOKWORM, "cp311", "stdlib name=json")
    with judged(described(row, "set need[1].kind = 10"), BOOKWORM, tmp_path) as (_, _, selection):
        assert reasons(selection.verdicts[0]) == ["NEED_UNKNOWN"]
        assert selection.slice == lib().NONE


OLD, EXCLUDED, GOOD = Python("cp39", 0x030900F0), Python("cp39", 0x030902F0), Python("cp39", 0x030905F0)
NEEDS = ["python name=cp39 number=0x030902f0", "python_not number=0x030902f0", "stdlib name=json"]


@pytest.mark.parametrize(
    ("pythons", "judged_with", "says"),
    [
        pytest.param((GOOD, OLD), 0, [], id="first-fits"),
        pytest.param((OLD, CP311, GOOD), 2, [], id="last-fits"),
        pytest.param((replace(OLD, lacks=("json",)), EXCLUDED), 1, ["PYTHON_EXCLUDED"], id="least-against-it"),
        pytest.param((EXCLUDED, OLD), 0, ["PYTHON_EXCLUDED"], id="first-of-equals"),
        pytest.param((CP311,), None, ["NO_PYTHON", "NO_PYTHON"], id="none"),
    ],
)
def test_of_several_interpreters(
    tmp_path: Path, pythons: tuple[Python, ...], judged_with: int | None, says: list[str]
) -> None:
    """The first that the slice fits, else the one with the fewest reasons against it."""
    host = replace(BOOKWORM, pythons=pythons)
    with judged(described(Row(host, [("cp39", NEEDS)], [], None)), host, tmp_path) as (_, _, selection):
        assert reasons(selection.verdicts[0]) == says
        assert selection.verdicts[0].python == (lib().NONE if judged_with is None else judged_with)


def test_a_carried_interpreter_asks_for_none_of_the_host_s(tmp_path: Path) -> None:
    """It runs on the C library of the host's own programs, the first."""
    carried = "layer cpython interpreter\n  exec bin/python x\n"
    for libc in (musl(1, 2), glibc(2, 17)):
        carried += f"slice cp39 manylinux_2_17_x86_64\n  need {libc}\n  carries cpython bin/python\n"
    with judged(f"{carried}tool app python app", MIXED, tmp_path) as (_, _, selection):
        assert [reasons(selection.verdicts[i]) for i in range(2)] == [[], ["OTHER_LIBC"]]
        assert selection.slice == 0
        assert selection.verdicts[0].python == lib().NONE


def test_more_reasons_than_there_is_room_for(tmp_path: Path) -> None:
    row = Row(BARE, [("cp39", [f"library name=lib{i}.so" for i in range(40)])], [], None)
    with judged(described(row), BARE, tmp_path) as (_, _, selection):
        assert reasons(selection.verdicts[0]) == ["NO_PYTHON"] + ["LIBRARY_MISSING"] * 31
        assert selection.slice == lib().NONE


def test_as_many_slices_as_there_may_be(tmp_path: Path) -> None:
    needs = ["machine name=aarch64 number=183"]
    row = Row(BOOKWORM, [("cp311", needs)] * 255 + [("cp311", [])], [], None)
    with judged(described(row), BOOKWORM, tmp_path) as (_, _, selection):
        assert (selection.verdict_count, selection.slice) == (256, 255)


NEED = st.sampled_from([need for row in ROWS.values() for _, needs in row.slices for need in needs])
HOST = st.sampled_from([BARE, BOOKWORM, CENTOS7, ALPINE, GRAVITON, MIXED])


SLICE = st.tuples(st.sampled_from(["cp39", "cp311", "cp312"]), st.lists(NEED, max_size=4))


@given(HOST, st.lists(SLICE, min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_the_first_slice_without_a_reason_is_chosen(
    tmp_path_factory: pytest.TempPathFactory, host: Host, slices: list[tuple[str, list[str]]]
) -> None:
    """And whatever is added to what a slice needs can only be against it."""
    with judged(described(Row(host, slices, [], None)), host, tmp_path_factory.mktemp("any")) as (_, _, selection):
        said = [reasons(selection.verdicts[i]) for i in range(len(slices))]
        assert selection.slice == next((i for i, why in enumerate(said) if not why), lib().NONE)
    more = [(python, [*needs, "cpu number=99", "library name=none.so"]) for python, needs in slices]
    with judged(described(Row(host, more, [], None)), host, tmp_path_factory.mktemp("more")) as (_, _, selection):
        for i, why in enumerate(said):
            assert selection.verdicts[i].reason_count > len(why)
