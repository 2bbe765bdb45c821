"""packer/predict.py, supposed.py, additions.py, plan.py: hosts are judged by the launcher's selection, and what would
have to be added makes the slice run that it names, if it is packed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import archives

from packer import additions, explain, hosts, plan, predict, supposed
from packer.config import Config
from packer.errors import UsageError
from packer.model import Need, NeedKind
from packer.reader import reading
from packer.supposed import Brings
from packer.targets import target_of

if TYPE_CHECKING:
    from packer.results import Addition, Matrix


@pytest.fixture(autouse=True)
def nobodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without hosts of their own, which would be predicted too."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


HOST = """
title = "{title}"
machine = "{machine}"
cpu = {cpu}
kernel = "4.18.0"
libc = "{libc}"
"""
PYTHON = """
[[python]]
path = "/usr/bin/python{version}"
abi = "{abi}"
version = "{version}.1"
lacks = {lacks}
"""

OLD = Need(NeedKind.NODE, "libc.so.6", "GLIBC_2.28")


def host(
    place: Path,
    name: str,
    *pythons: str,
    libc: str = "glibc 2.36",
    machine: str = "x86_64",
    cpu: int = 2,
    lacks: str = "[]",
) -> str:
    """Describe a host in a file; its path."""
    text = HOST.format(title=f"The {name}", machine=machine, cpu=cpu, libc=libc)
    for abi in pythons:
        text += PYTHON.format(abi=abi, version=f"{abi[2]}.{abi[3:].rstrip('mut')}", lacks=lacks)
    path = place / f"{name}.toml"
    path.write_text(text)
    return str(path)


def archive(place: Path, *tags: str, more: tuple[Need, ...] = ()) -> Path:
    work = place / "work"
    work.mkdir()
    return archives.write(place / "app", work, {"app.py": ""}, tags=tags, more=more)


def added(path: Path, *names: str, place: Path | None = None) -> tuple[Addition, ...]:
    """What would have to be added to an archive."""
    found = predict.predict(path, names)
    with reading(path) as read:
        slices = supposed.packed(read)
    return additions.of_archive(path, slices, found, place or path.parent / "cache").additions


def says(path: Path, *names: str) -> dict[str, tuple[str, ...]]:
    """The same in short: what is to be said -> stems of the hosts."""
    return {one.change: tuple(Path(name).stem for name in one.hosts) for one in added(path, *names)}


# Predicting -----------------------------------------------------------------------------------------------------


def test_it_is_what_explain_says(tmp_path: Path) -> None:
    path = archive(tmp_path, "cp313", "cp39")
    matrix = predict.predict(path, ["bullseye", "trixie", "bookworm"], ["trixie"])
    assert matrix.slices == ("cp313-manylinux_2_17_x86_64", "cp39-manylinux_2_17_x86_64")
    assert [(row.host, row.required) for row in matrix.rows] == [
        ("bullseye", False), ("trixie", True), ("bookworm", False),
    ]  # fmt: skip
    for row in matrix.rows:
        assert row.predicted == predict.choice_of(explain.judge(path, row.host))
    assert [row.predicted and (row.predicted.slice, row.predicted.python) for row in matrix.rows] == [
        ("cp39-manylinux_2_17_x86_64", "/usr/bin/python3.9"), ("cp313-manylinux_2_17_x86_64", "/usr/bin/python3.13"),
        (None, None),
    ]  # fmt: skip
    assert matrix.passed


def test_without_names_it_is_all_known_hosts_of_the_machine(tmp_path: Path) -> None:
    path = archive(tmp_path, "cp39")
    mine = host(tmp_path, "mine", "cp39")
    matrix = predict.predict(path, [], [mine])
    known = [name for name in hosts.named() if hosts.find(name).machine == "x86_64"]
    assert [row.host for row in matrix.rows] == [*known, mine]
    assert matrix.rows[-1].title == "The mine"
    assert predict.usual(["aarch64"]) == [name for name in hosts.named() if hosts.find(name).machine == "aarch64"]


def test_a_required_host_without_a_slice_is_a_failure(tmp_path: Path) -> None:
    path = archive(tmp_path, "cp39")
    assert predict.predict(path, ["trixie"]).passed
    assert not predict.predict(path, ["bullseye"], ["trixie"]).passed


# Slices that nobody has packed ----------------------------------------------------------------------------------


def test_a_packed_slice_is_read_as_it_was_written(tmp_path: Path) -> None:
    one = supposed.by_tag(target_of("cp39-manylinux_2_28_x86_64_v3"))
    carried = supposed.carrying(one, None)
    slices = [one, carried, supposed.with_libc(carried)]
    with supposed.archived(slices) as read:
        assert supposed.packed(read) == slices
    assert [one.name.removeprefix("cp39-manylinux_2_28_x86_64_v3") for one in slices] == ["", "-carried", "-libc"]
    assert [[need.kind.name for need in one.needs] for one in slices] == [
        ["MACHINE", "CPU", "LIBC", "PYTHON"], ["MACHINE", "CPU", "LIBC"], ["MACHINE", "CPU"],
    ]  # fmt: skip


def test_names_of_others_are_passed_over() -> None:
    assert supposed.parse("cp39-manylinux_2_17_x86_64-libc") == (target_of("cp39-manylinux_2_17_x86_64"), Brings.LIBC)
    assert supposed.parse("mine") is None


def test_more_slices_than_an_archive_has_room_for(tmp_path: Path) -> None:
    slices = [
        supposed.by_tag(target_of(f"cp{python}-manylinux_2_{minor}_x86_64"))
        for minor in range(17, 42) for python in (*range(36, 40), *range(310, 319))
        if f"cp{python}" in ("cp36m", "cp37m", "cp38", "cp39", "cp310", "cp311", "cp312", "cp313", "cp314", "cp315")
        for _ in range(2)
    ]  # fmt: skip
    slices = list(dict.fromkeys(slices))
    slices += [supposed.carrying(one, None) for one in slices]
    assert len(slices) > 256
    mine = host(tmp_path, "mine", libc="glibc 2.20")
    said = supposed.judge(slices, [mine])[mine]
    assert len(said.reasons) == len(slices)
    fitting = [one.name for one in slices if not said.reasons[one.name]]
    assert {one.partition("-")[2] for one in fitting} == {
        f"manylinux_2_{minor}_x86_64-carried" for minor in (17, 18, 19, 20)
    }
    assert said.slice == fitting[0]


# What would have to be added ------------------------------------------------------------------------------------


def test_another_python_that_the_host_has(tmp_path: Path) -> None:
    path = archive(tmp_path, "cp313", "cp311")
    assert says(path, host(tmp_path, "a", "cp310"), host(tmp_path, "b", "cp313")) == {
        "--abis ...,cp310-manylinux_2_17_x86_64": ("a",)
    }


def test_one_change_for_several_hosts_rather_than_one_for_each(tmp_path: Path) -> None:
    path = archive(tmp_path, "cp313")
    names = [host(tmp_path, "a", "cp310"), host(tmp_path, "b", "cp310", "cp312"), host(tmp_path, "c", "cp312", "cp310")]
    assert says(path, *names) == {"--abis ...,cp310-manylinux_2_17_x86_64": ("a", "b", "c")}


def test_a_program_for_python_3_is_none_for_python_2(tmp_path: Path) -> None:
    path = archive(tmp_path, "cp313")
    assert says(path, host(tmp_path, "a", "cp27mu"), host(tmp_path, "b", "cp27mu", "cp36m")) == {
        "--abis ...,cp36m-manylinux_2_17_x86_64": ("b",), "--bundle cp313": ("a",),
    }  # fmt: skip


def test_an_older_policy_the_newest_that_helps(tmp_path: Path) -> None:
    new = supposed.by_tag(target_of("cp39-manylinux_2_34_x86_64"))
    two = host(tmp_path, "two", "cp39", libc="glibc 2.28"), host(tmp_path, "one", "cp39", libc="glibc 2.30")
    for names, change in ((two[1:], "cp39-manylinux_2_28_x86_64"), (two, "cp39-manylinux_2_28_x86_64")):
        with supposed.archived([new]) as read:
            matrix = predict.of_archive(read, "x", "", names)
        found = additions.of_plan([new], matrix, tmp_path).additions
        assert [(one.change, one.cost, len(one.hosts)) for one in found] == [
            (f"--abis ...,{change}", "unknown", len(names))
        ]


def test_what_files_need_is_believed_rather_than_the_tag(tmp_path: Path) -> None:
    """A slice for manylinux_2_17 that needs glibc 2.28: another for that policy would, too, and an older one not."""
    path = archive(tmp_path, "cp39", more=(OLD,))
    assert says(path, host(tmp_path, "a", "cp39", libc="glibc 2.17")) == {
        "--abis ...,cp39-manylinux_2_12_x86_64": ("a",)
    }


def test_a_slice_for_any_cpu(tmp_path: Path) -> None:
    best = supposed.by_tag(target_of("cp39-manylinux_2_28_x86_64_v3"))
    mine = host(tmp_path, "mine", "cp39")
    with supposed.archived([best]) as read:
        matrix = predict.of_archive(read, "x", "", [mine])
    (one,) = additions.of_plan([best], matrix, tmp_path).additions
    assert one.change == "--abis ...,cp39-manylinux_2_28_x86_64"


@pytest.mark.parametrize(
    ("described", "change"),
    [
        ({"libc": "musl 1.2", "pythons": ["cp312"]}, "--abis ...,cp312-musllinux_1_2_x86_64"),
        ({"machine": "aarch64", "cpu": 80, "pythons": ["cp39"]}, "--abis ...,cp39-manylinux_2_17_aarch64"),
        ({}, "--bundle cp39"),
        ({"libc": "glibc 2.12"}, "--bundle cp39 --libc bundled"),
        ({"libc": "musl 1.1"}, "--bundle cp39 --libc bundled"),
        (
            {"machine": "aarch64", "cpu": 80, "libc": "musl 1.2"},
            "--abis ...,cp39-musllinux_1_2_aarch64 --bundle cp39",
        ),
    ],
    ids=["musl", "aarch64", "no-python", "no-python-and-old", "no-python-and-musl", "nothing-alike"],
)
def test_more_than_a_python(described: dict[str, object], change: str, tmp_path: Path) -> None:
    path = archive(tmp_path, "cp39", "cp27mu")
    pythons: list[str] = described.pop("pythons", [])  # type: ignore[assignment]
    mine = host(tmp_path, "mine", *pythons, **described)  # type: ignore[arg-type]
    (one,) = added(path, mine)
    assert (one.change, one.hosts) == (change, (mine,))
    # and it is so: with that slice in an archive the host has one
    target, brings = supposed.parse(one.slice) or pytest.fail(one.slice)
    slices = supposed.by_tag(target)
    slices = slices if brings is Brings.NOTHING else supposed.carrying(slices, None)
    slices = supposed.with_libc(slices) if brings is Brings.LIBC else slices
    assert supposed.judge([slices], [mine])[mine].slice == one.slice


def test_a_module_that_the_hosts_python_lacks(tmp_path: Path) -> None:
    path = archive(tmp_path, "cp39", more=(Need(NeedKind.STDLIB, "venv"),))
    (one,) = added(path, host(tmp_path, "a", "cp39", lacks='["venv"]'))
    assert (one.change, one.provided) == ("--bundle cp39", "an interpreter of cp39 for glibc 2.17 can be had")


def test_a_host_without_a_c_library_can_be_brought_any() -> None:
    bare = hosts.Described("bare", "bare", "aarch64", 80, "5.10.0", "none", (0, 0), {}, ())
    found = additions._platforms([supposed.by_tag(target_of("cp39-manylinux_2_28_x86_64"))], [bare])
    assert {(one.libc, one.arch) for one in found} == {("glibc", "x86_64"), ("glibc", "aarch64"), ("musl", "aarch64")}


def test_what_nothing_helps(tmp_path: Path) -> None:
    path = archive(tmp_path, "cp27mu")
    (one,) = added(path, host(tmp_path, "a"))
    assert (one.change, one.slice, one.provided) == (
        "", "", "nothing that packer fat could add helps: needs CPython cp27mu, found no Python at all"
    )  # fmt: skip
    library = Need(NeedKind.LIBRARY, "libX11.so.6")
    (tmp_path / "x").mkdir()
    (one,) = added(archive(tmp_path / "x", "cp39", more=(library,)), host(tmp_path, "b", "cp39"))
    assert one.change == "--bundle cp39 --libc bundled"
    assert one.provided == "an interpreter of cp39 for glibc can be had and its system has libX11.so.6"


def test_the_size_is_that_of_slices_like_it(tmp_path: Path) -> None:
    path = archive(tmp_path, "cp313", "cp311")
    (one,) = added(path, host(tmp_path, "a", "cp310"))
    assert (one.bytes, one.cost) == (0, "about 0 bytes, as cp311-manylinux_2_17_x86_64 adds")
    (tmp_path / "b").mkdir()
    (one,) = added(archive(tmp_path / "b", "cp313"), host(tmp_path, "a", "cp310"))
    assert (one.bytes, one.cost) == (None, "unknown")


def test_nothing_is_asked_where_every_host_has_one(tmp_path: Path) -> None:
    assert added(archive(tmp_path, "cp39"), host(tmp_path, "a", "cp39")) == ()


# Planning -------------------------------------------------------------------------------------------------------


def planned(place: Path, config: Config, *names: str) -> tuple[Matrix, tuple[str, ...]]:
    found = plan.plan(config, names, (), place / "cache")
    return found.matrix, found.notes


def test_a_plan_has_the_slices_that_packing_would_give(tmp_path: Path) -> None:
    config = Config(abis="manylinux2014,musllinux_1_2,cp313,cp27mu", bundle="all", libc="bundled", arch=("x86_64",))
    matrix, notes = planned(tmp_path, config, host(tmp_path, "a", "cp313"))
    platforms = ("manylinux_2_17_x86_64", "musllinux_1_2_x86_64")
    assert matrix.slices == (
        *(f"{tag}-{platform}" for tag in ("cp313", "cp27mu") for platform in platforms),
        *(f"cp313-{platform}-carried" for platform in platforms), *(f"cp313-{platform}-libc" for platform in platforms),
    )  # fmt: skip
    assert (matrix.file, matrix.id) == ("manylinux2014,musllinux_1_2,cp313,cp27mu", "")
    assert notes == tuple(
        f"no cp313 was captured for x86_64 and {libc}: supposed is one that runs wherever {policy} does; "
        "packer runtime add captures one"
        for libc, policy in (("glibc", "manylinux_2_17"), ("musl", "musllinux_1_2"))
    )


@pytest.mark.parametrize(
    ("libc", "chosen"),
    [
        ("glibc 2.40", "cp313-manylinux_2_17_x86_64"), ("glibc 2.17", "cp313-manylinux_2_17_x86_64"),
        ("glibc 2.12", None), ("musl 1.2", "cp313-musllinux_1_2_x86_64"), ("musl 1.1", None),
    ],
)  # fmt: skip
def test_a_plan_takes_the_tag_at_its_word(libc: str, chosen: str | None, tmp_path: Path) -> None:
    config = Config(abis="manylinux2014,musllinux_1_2,cp313", arch=("x86_64",))
    (row,) = planned(tmp_path, config, host(tmp_path, "a", "cp313", libc=libc))[0].rows
    assert row.predicted
    assert row.predicted.slice == chosen


def test_a_plan_without_words() -> None:
    with pytest.raises(UsageError, match="--plan: for which ABIs"):
        plan.plan(Config(), [], (), Path())


def test_a_plan_that_says_too_much(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no slice is packed for cp39"):
        planned(tmp_path, Config(abis="cp313", bundle="cp39"))
    with pytest.raises(UsageError, match="no slice carries its interpreter"):
        planned(tmp_path, Config(abis="cp313", libc="bundled"))
