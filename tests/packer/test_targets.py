"""The words of ``--abis`` and the wheels that a target takes."""

from __future__ import annotations

import contextlib
import struct
import sys
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging import _manylinux, tags
from packaging.utils import parse_wheel_filename

from packer import facts, targets
from packer.errors import PackError, UsageError
from packer.model import Platform, PythonAbi, Target
from packer.targets import parse_abis, platform_tags, running_target, wheel_tags

RUNNING = Target(facts.pythons()["cp311"].abi, Platform("glibc", (2, 36), "x86_64"))
ON_MUSL = Target(facts.pythons()["cp312"].abi, Platform("musl", (1, 2), "aarch64"))

SUPPORTED = ["cp315", "cp314", "cp313", "cp312", "cp311"]


def names(text: str, arch: tuple[str, ...] = (), running: Target = RUNNING) -> list[str]:
    """The targets of ``text`` by name, most preferred first."""
    return [target.name for target in parse_abis(text, arch=list(arch), running=running).targets]


def target(name: str) -> Target:
    """A target from the name of its slice."""
    (only,) = parse_abis(name, arch=[], running=RUNNING).targets
    assert only.name == name
    return only


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("manylinux2014,cp35,cp27", ["cp35m-manylinux_2_17_x86_64", "cp27mu-manylinux_2_17_x86_64"]),
        ("cp27,manylinux2014,cp35", ["cp27mu-manylinux_2_17_x86_64", "cp35m-manylinux_2_17_x86_64"]),
        ("cp36,cp37,cp38,manylinux1", [f"{tag}-manylinux_2_5_x86_64" for tag in ("cp36m", "cp37m", "cp38")]),
        ("cp27m,cp27mu,manylinux2010", ["cp27m-manylinux_2_12_x86_64", "cp27mu-manylinux_2_12_x86_64"]),
        ("cp313t,manylinux_2_28", ["cp313t-manylinux_2_28_x86_64"]),
        (" cp39 , manylinux_2_28 ", ["cp39-manylinux_2_28_x86_64"]),
        # a glibc for which there is no list of its own is a policy all the same
        ("cp39,manylinux_2_29", ["cp39-manylinux_2_29_x86_64"]),
        # Python tags stand outside, wherever the platforms stand
        (
            "manylinux_2_28,cp311,musllinux_1_2,cp39",
            [
                "cp311-manylinux_2_28_x86_64",
                "cp311-musllinux_1_2_x86_64",
                "cp39-manylinux_2_28_x86_64",
                "cp39-musllinux_1_2_x86_64",
            ],
        ),
        # an architecture of its own
        (
            "cp39,manylinux2014_aarch64,manylinux2014_x86_64",
            ["cp39-manylinux_2_17_aarch64", "cp39-manylinux_2_17_x86_64"],
        ),
        # a full tag is one slice by itself, at its own place
        ("cp314-manylinux_2_28", ["cp314-manylinux_2_28_x86_64"]),
        ("cp39-musllinux_1_2_aarch64", ["cp39-musllinux_1_2_aarch64"]),
        ("cp27-manylinux1", ["cp27mu-manylinux_2_5_x86_64"]),
        ("cp27-musllinux_1_1", ["cp27mu-musllinux_1_1_x86_64"]),
        (
            "cp39,cp314-manylinux_2_28,manylinux2014,cp38",
            ["cp39-manylinux_2_17_x86_64", "cp314-manylinux_2_28_x86_64", "cp38-manylinux_2_17_x86_64"],
        ),
        ("cp314-manylinux_2_28,cp39", ["cp314-manylinux_2_28_x86_64", "cp39-manylinux_2_36_x86_64"]),
    ],
)
def test_slices_are_the_product_in_the_order_given(text: str, expected: list[str]) -> None:
    assert names(text) == expected


def test_a_python_without_a_platform_is_packed_for_this_machine() -> None:
    selection = parse_abis("cp39,cp38", arch=[], running=ON_MUSL)
    assert [item.name for item in selection.targets] == ["cp39-musllinux_1_2_aarch64", "cp38-musllinux_1_2_aarch64"]
    assert selection.notes == ("no platform named: packing for this machine's, musllinux_1_2_aarch64",)


def test_a_platform_without_a_python_takes_every_supported_one_newest_first() -> None:
    selection = parse_abis("manylinux2014", arch=[], running=RUNNING)
    assert [item.name for item in selection.targets] == [f"{tag}-manylinux_2_17_x86_64" for tag in SUPPORTED]
    assert selection.notes == (
        "no Python named: packing for every CPython still supported, cp315, cp314, cp313, cp312, cp311",
    )


def test_a_full_tag_is_not_the_python_of_a_platform_beside_it() -> None:
    expected = [f"{tag}-musllinux_1_2_x86_64" for tag in SUPPORTED]
    assert names("cp38-manylinux2014,musllinux_1_2") == ["cp38-manylinux_2_17_x86_64", *expected]
    assert names("musllinux_1_2,cp38-manylinux2014") == [*expected, "cp38-manylinux_2_17_x86_64"]


def test_full_tags_alone_need_no_note() -> None:
    assert parse_abis("cp39-manylinux2014", arch=[], running=RUNNING).notes == ()


def test_what_names_no_architecture_is_meant_for_each() -> None:
    both = ("aarch64", "x86_64")
    assert names("cp39,manylinux2014", both) == ["cp39-manylinux_2_17_aarch64", "cp39-manylinux_2_17_x86_64"]
    assert names("cp39", both) == ["cp39-manylinux_2_36_aarch64", "cp39-manylinux_2_36_x86_64"]
    assert names("cp39-musllinux_1_2", both) == ["cp39-musllinux_1_2_aarch64", "cp39-musllinux_1_2_x86_64"]
    assert names("cp39,manylinux1_x86_64", both) == ["cp39-manylinux_2_5_x86_64"]
    assert names("cp39", ("aarch64",)) == ["cp39-manylinux_2_36_aarch64"]


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("cp93", "unknown word: 'cp93'", "did you mean cp39?"),
        ("CP39", "unknown word: 'CP39'", "did you mean cp39?"),
        ("cp34", "unknown word: 'cp34'", "did you mean cp3"),
        ("cp38m", "unknown word: 'cp38m'", "did you mean cp38?"),
        ("manylinux2104", "unknown word: 'manylinux2104'", "did you mean manylinux2014?"),
        ("manylinux_2_17_x8664", "unknown word: 'manylinux_2_17_x8664'", "did you mean manylinux_2_17_x86_64?"),
        ("muslinux_1_2", "unknown word: 'muslinux_1_2'", "did you mean musllinux_1_2?"),
        ("manylinux_2_05", "unknown word: 'manylinux_2_05'", "did you mean manylinux_2_5?"),
        ("rumpelstiltskin", "unknown word: 'rumpelstiltskin'", "known: cp27m, cp27mu, cp35m"),
        ("cp39,spam,cp38", "unknown word: 'spam'", "known: "),
        (
            "cp314-manylinux2104",
            "unknown word: 'manylinux2104' in 'cp314-manylinux2104'",
            "did you mean cp314-manylinux2014?",
        ),
        (
            "cp93-manylinux2014",
            "unknown word: 'cp93' in 'cp93-manylinux2014'",
            "did you mean cp39-manylinux2014?",
        ),
        (
            "cp39-cp39-manylinux_2_28_x86_64",
            "unknown word: 'cp39-manylinux_2_28_x86_64' in 'cp39-cp39-manylinux_2_28_x86_64'",
            "did you mean cp39-manylinux_2_28_x86_64?",
        ),
        ("", "a word is missing before, between or after the commas", "known: "),
        ("cp39,", "a word is missing before, between or after the commas", "known: "),
        ("cp39,,cp38", "a word is missing before, between or after the commas", "known: "),
        ("cp39-", "a word is missing in 'cp39-'", "known: "),
        ("-manylinux2014", "a word is missing in '-manylinux2014'", "known: "),
    ],
)
def test_unknown_words_are_named_with_the_nearest_known(text: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as error:
        names(text)
    assert str(error.value) == f"abis: {message}"
    assert error.value.hint.startswith(hint)
    platforms = (
        "manylinux_2_5 to manylinux_2_44, musllinux_1_1, musllinux_1_2, manylinux1, manylinux2010, manylinux2014"
    )
    assert f"{platforms}, with or without _x86_64, _aarch64" in error.value.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cp39,cp39", "'cp39' is there twice"),
        ("cp27,cp27mu", "'cp27mu' repeats 'cp27': both mean cp27mu"),
        ("cp37m,cp39,cp37", "'cp37' repeats 'cp37m': both mean cp37m"),
        ("manylinux2014,manylinux2014", "'manylinux2014' is there twice"),
        (
            "manylinux2014,cp39,manylinux_2_17",
            "'manylinux_2_17' repeats 'manylinux2014': both mean manylinux_2_17_x86_64",
        ),
        (
            "cp39,manylinux1_x86_64,manylinux_2_5",
            "'manylinux_2_5' repeats 'manylinux1_x86_64': both mean manylinux_2_5_x86_64",
        ),
        (
            "cp39,manylinux_2_28,cp39-manylinux_2_28_x86_64",
            "'cp39-manylinux_2_28_x86_64' repeats 'cp39': both mean cp39-manylinux_2_28_x86_64",
        ),
        (
            "cp313-manylinux2014,manylinux2014",
            "'manylinux2014' repeats 'cp313-manylinux2014': both mean cp313-manylinux_2_17_x86_64",
        ),
        ("cp39-manylinux1,cp39-manylinux1", "'cp39-manylinux1' is there twice"),
    ],
)
def test_repeats_are_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        names(text)
    assert str(error.value) == f"abis: {message}"


@pytest.mark.parametrize(
    ("text", "arch", "policy"),
    [
        ("cp39,manylinux_2_5_aarch64", (), "manylinux_2_5"),
        ("cp39-manylinux1_aarch64", (), "manylinux1"),
        ("manylinux_2_16", ("x86_64", "aarch64"), "manylinux_2_16"),
    ],
)
def test_a_policy_that_an_architecture_lacks_is_refused(text: str, arch: tuple[str, ...], policy: str) -> None:
    with pytest.raises(UsageError) as error:
        names(text, arch)
    assert str(error.value) == f"abis: {policy} does not exist on aarch64: the oldest there is manylinux_2_17"


def test_this_machines_policy_may_not_exist_elsewhere() -> None:
    old = Target(RUNNING.python, Platform("glibc", (2, 12), "x86_64"))
    with pytest.raises(UsageError, match="manylinux_2_12 does not exist on aarch64"):
        names("cp39", ("aarch64",), old)


@pytest.mark.parametrize(
    ("arch", "message", "hint"),
    [
        (("arm64",), "arch: unknown word: 'arm64'", "did you mean aarch64? known: x86_64, aarch64"),
        (("x86_64", "i686"), "arch: unknown word: 'i686'", "known: x86_64, aarch64"),
        (("x86_64", "x86_64"), "arch: 'x86_64' is there twice", ""),
    ],
)
def test_architectures_are_checked(arch: tuple[str, ...], message: str, hint: str) -> None:
    with pytest.raises(UsageError) as error:
        names("cp39", arch)
    assert (str(error.value), error.value.hint) == (message, hint)


GLIBC = [f"manylinux_2_{minor}" for minor in range(17, 45)]
pythons_given = st.lists(st.sampled_from(list(facts.pythons())), unique=True, min_size=1, max_size=4)
platforms_given = st.lists(
    st.sampled_from(
        [f"{name}_{arch}" for name in [*GLIBC, "musllinux_1_1", "musllinux_1_2"] for arch in ("x86_64", "aarch64")]
    ),
    unique=True,
    min_size=1,
    max_size=4,
)


@given(pythons_given, platforms_given, st.data())
def test_only_the_order_within_pythons_and_within_platforms_counts(
    pythons: list[str], platforms: list[str], data: st.DataObject
) -> None:
    kinds = data.draw(st.permutations(["python"] * len(pythons) + ["platform"] * len(platforms)))
    queues = {"python": iter(pythons), "platform": iter(platforms)}
    text = ",".join(next(queues[kind]) for kind in kinds)
    assert names(text) == [f"{python}-{platform}" for python in pythons for platform in platforms]


@given(pythons_given, platforms_given)
def test_a_slices_name_is_a_full_tag(pythons: list[str], platforms: list[str]) -> None:
    product = names(",".join(pythons + platforms))
    assert names(",".join(product)) == product


@given(st.text(alphabet="cp23789mut,-_manylxs 014x86", max_size=24))
def test_any_text_gives_targets_or_a_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        selection = parse_abis(text, arch=[], running=RUNNING)
        assert len(set(selection.targets)) == len(selection.targets) > 0


WHEELS = {
    "numpy-2.5.5-cp314-cp314-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl": (
        ["cp314-manylinux_2_27_x86_64", "cp314-manylinux_2_28_x86_64", "cp314-manylinux_2_41_x86_64"],
        ["cp314-manylinux_2_17_x86_64", "cp314t-manylinux_2_28_x86_64", "cp314-musllinux_1_2_x86_64"],
    ),
    "MarkupSafe-2.1.5-cp38-cp38-manylinux_2_17_x86_64.manylinux2014_x86_64.whl": (
        ["cp38-manylinux_2_17_x86_64", "cp38-manylinux_2_28_x86_64"],
        ["cp38-manylinux_2_12_x86_64", "cp38-manylinux_2_17_aarch64", "cp39-manylinux_2_17_x86_64"],
    ),
    "MarkupSafe-1.1.1-cp27-cp27mu-manylinux1_x86_64.whl": (
        ["cp27mu-manylinux_2_5_x86_64", "cp27mu-manylinux_2_17_x86_64"],
        ["cp27m-manylinux_2_17_x86_64", "cp27mu-musllinux_1_1_x86_64"],
    ),
    "MarkupSafe-1.1.1-cp35-cp35m-manylinux1_x86_64.whl": (
        ["cp35m-manylinux_2_17_x86_64"],
        ["cp36m-manylinux_2_17_x86_64"],
    ),
    "MarkupSafe-2.0.1-cp36-cp36m-manylinux_2_17_aarch64.manylinux2014_aarch64.whl": (
        ["cp36m-manylinux_2_17_aarch64"],
        ["cp36m-manylinux_2_17_x86_64"],
    ),
    "markupsafe-3.0.4-cp314-cp314t-manylinux2014_x86_64.manylinux_2_17_x86_64.manylinux_2_28_x86_64.whl": (
        ["cp314t-manylinux_2_17_x86_64"],
        ["cp314-manylinux_2_28_x86_64"],
    ),
    "markupsafe-3.0.4-cp39-cp39-musllinux_1_2_aarch64.whl": (
        ["cp39-musllinux_1_2_aarch64"],
        ["cp39-musllinux_1_1_aarch64", "cp39-manylinux_2_28_aarch64"],
    ),
    "cryptography-50.0.2-cp315-abi3.abi3t-manylinux_2_28_x86_64.whl": (
        ["cp315-manylinux_2_28_x86_64", "cp315t-manylinux_2_28_x86_64"],
        ["cp314-manylinux_2_28_x86_64", "cp314t-manylinux_2_28_x86_64", "cp315-manylinux_2_27_x86_64"],
    ),
    "cryptography-50.0.2-cp311-abi3-manylinux_2_28_x86_64.whl": (
        ["cp311-manylinux_2_28_x86_64", "cp315-manylinux_2_36_x86_64"],
        ["cp39-manylinux_2_28_x86_64", "cp315t-manylinux_2_28_x86_64"],
    ),
    "ruff-0.17.6-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl": (
        ["cp35m-manylinux_2_17_x86_64", "cp315t-manylinux_2_28_x86_64"],
        ["cp27mu-manylinux_2_17_x86_64", "cp39-manylinux_2_12_x86_64", "cp39-musllinux_1_2_x86_64"],
    ),
    "click-7.1.2-py2.py3-none-any.whl": (
        ["cp27mu-manylinux_2_5_x86_64", "cp27m-musllinux_1_1_aarch64", "cp315t-musllinux_1_2_aarch64"],
        [],
    ),
}
"""Wheels of the package index -> targets that take them, and targets that do not."""


@pytest.mark.parametrize("wheel", WHEELS)
def test_targets_take_the_wheels_that_their_hosts_can_run(wheel: str) -> None:
    offered = parse_wheel_filename(wheel)[3]
    taking, refusing = WHEELS[wheel]
    for name in taking:
        assert offered.intersection(wheel_tags(target(name))), f"{name} refuses it"
    for name in refusing:
        assert offered.isdisjoint(wheel_tags(target(name))), f"{name} takes it"


def test_the_wheel_made_for_the_target_comes_first() -> None:
    accepted = [str(tag) for tag in wheel_tags(target("cp36m-manylinux_2_17_x86_64"))]
    order = [
        "cp36-cp36m-manylinux_2_17_x86_64",
        "cp36-cp36m-manylinux2014_x86_64",
        "cp36-cp36m-manylinux_2_5_x86_64",
        "cp36-cp36m-manylinux1_x86_64",
        "cp36-abi3-manylinux2014_x86_64",
        "cp36-none-manylinux2014_x86_64",
        "cp35-abi3-manylinux2014_x86_64",
        "py36-none-manylinux2014_x86_64",
        "py3-none-manylinux2014_x86_64",
        "cp36-none-any",
        "py3-none-any",
    ]
    assert accepted[0] == order[0]
    assert [tag for tag in accepted if tag in order] == order
    assert len(set(accepted)) == len(accepted)


class Glibc(NamedTuple):
    """A version as packaging's own code has it."""

    major: int
    minor: int


@pytest.mark.parametrize("minor", [5, 12, 17, 28, 36, 44])
@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_platforms_are_those_that_packaging_gives_on_such_a_machine(
    minor: int, arch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_manylinux, "_get_glibc_version", lambda: Glibc(2, minor))
    monkeypatch.setattr(_manylinux, "_have_compatible_abi", lambda *_: True)
    assert platform_tags(Platform("glibc", (2, minor), arch)) == list(_manylinux.platform_tags([arch]))


def test_musllinux_goes_down_to_the_first_policy() -> None:
    expected = ["musllinux_1_2_aarch64", "musllinux_1_1_aarch64"]
    assert platform_tags(Platform("musl", (1, 2), "aarch64")) == expected


def test_this_machine_takes_what_its_installer_takes() -> None:
    running = running_target()
    assert running.python.version == sys.version_info[:2]
    expected = [tag for tag in tags.sys_tags() if not tag.platform.startswith("linux_")]
    if running.platform.libc == "musl":
        expected = [tag for tag in expected if not tag.platform.startswith("musllinux_1_0_")]
    assert wheel_tags(running) == expected


def test_this_machine_is_known_by_its_abi(monkeypatch: pytest.MonkeyPatch) -> None:
    debug = [tags.Tag("cp313", abi, "manylinux_2_36_aarch64") for abi in ("cp313td", "cp313t")]
    monkeypatch.setattr(targets, "sys_tags", lambda: iter(debug))
    assert running_target().name == "cp313t-manylinux_2_36_aarch64"


@pytest.mark.parametrize(
    "tag",
    ["pp311-pypy311_pp73-manylinux_2_36_x86_64", "cp399-cp399-manylinux_2_36_x86_64", "cp313-cp313-win_amd64"],
)
def test_an_interpreter_that_cannot_be_packed_for_is_named(tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "sys_tags", lambda: iter([*tags.parse_tag(tag), tags.Tag("py3", "none", "any")]))
    with pytest.raises(PackError) as error:
        running_target()
    assert str(error.value) == f"cannot pack for the Python that runs this: {tag} is not known"


def test_running_architecture_is_that_of_the_interpreter() -> None:
    with open(sys.executable, "rb") as file:
        header = file.read(20)
    (e_machine,) = struct.unpack_from("<H", header, 18)
    assert facts.architectures()[running_target().platform.arch] == e_machine


def test_python_abis_of_targets_carry_the_version_that_markers_are_judged_at() -> None:
    assert target("cp38-manylinux_2_17_x86_64").python == PythonAbi("cp38", (3, 8), 20)
    assert target("cp313t-manylinux_2_28_x86_64").python.free_threaded
