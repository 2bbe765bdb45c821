"""What a slice needs, measured on files that a linker made, and on wheels from the index."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lief
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from support.elf import elf
from support.layers import SITE, layer

from packer import facts, needs, resolve, wheels
from packer.binaries import report
from packer.errors import PackError
from packer.model import Layer, LayerKind, Need, NeedKind, Platform, Target
from packer.needs import Use
from packer.requests import Requests

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def target(tag: str = "cp39", libc: str = "glibc", version: tuple[int, int] = (2, 17), arch: str = "x86_64") -> Target:
    return Target(facts.pythons()[tag].abi, Platform(libc, version, arch))


GLIBC = target()
MUSL = target(libc="musl", version=(1, 2))
TAG = ".cpython-39-x86_64-linux-gnu.so"


def wheel(root: Path, files: dict[str, bytes], name: str = "mod-1.0") -> Layer:
    """A wheel's layer; a path that does not begin with ``bin/`` is below site-packages."""
    tree = {path if path.startswith("bin/") else f"{SITE}/{path}": content for path, content in files.items()}
    return layer(name, tree, root / name)


def measure(layers: Sequence[Layer], one: Target = GLIBC) -> dict[NeedKind, list[tuple[str, str, int]]]:
    """The needs by kind, in the order given; without those that every slice has."""
    found: dict[NeedKind, list[tuple[str, str, int]]] = {}
    for need in needs.needs(one, layers, [], []):
        if need.kind not in (NeedKind.MACHINE, NeedKind.PYTHON):
            found.setdefault(need.kind, []).append((need.name, need.value, need.number))
    return found


def uses(layers: Sequence[Layer], one: Target = GLIBC) -> dict[str, tuple[Use, str]]:
    return {judged.file.name: (judged.use, judged.reason) for judged in needs.judge(report(layers), one)}


def test_a_slice_without_native_code_needs_machine_family_and_python(tmp_path: Path) -> None:
    """The family, so that what a slice fits does not change when a dependency becomes compiled."""
    pure = wheel(tmp_path, {"mod.py": b"import os\n"})
    assert needs.needs(GLIBC, [pure], ["mod"], []) == (
        Need(NeedKind.MACHINE, "x86_64", number=62),
        Need(NeedKind.LIBC, "glibc"),
        Need(NeedKind.PYTHON, "cp39"),
        Need(NeedKind.STDLIB, "os"),
    )
    assert needs.needs(target("cp313t", "musl", (1, 2), "aarch64"), [pure], [], []) == (
        Need(NeedKind.MACHINE, "aarch64", number=183),
        Need(NeedKind.LIBC, "musl"),
        Need(NeedKind.PYTHON, "cp313t"),
    )


def test_nodes_libraries_kernel_and_cpu_of_an_extension_module(tmp_path: Path) -> None:
    libc = ("libc.so.6", "GLIBC_2.2.5", "GLIBC_2.14", "GLIBC_ABI_DT_RELR")
    module = elf(libc, ("libm.so.6", "GLIBC_2.9"), "libdl.so.2", ("libstdc++.so.6", "GLIBCXX_3.4"), "libz.so.1",
                 "libcrypt.so.1", "ld-linux-x86-64.so.2", kernel=(3, 2, 1), cpu=3)  # fmt: skip
    assert measure([wheel(tmp_path, {f"mod/core{TAG}": module})]) == {
        NeedKind.CPU: [("", "", 3)],
        NeedKind.KERNEL: [("", "", 0x030201)],
        NeedKind.LIBC: [("glibc", "", 0x020E00)],
        NeedKind.NODE: [
            ("libc.so.6", "GLIBC_2.14", 0),
            ("libc.so.6", "GLIBC_2.2.5", 0),
            ("libc.so.6", "GLIBC_ABI_DT_RELR", 0),
            ("libm.so.6", "GLIBC_2.9", 0),
            ("libstdc++.so.6", "GLIBCXX_3.4", 0),
        ],
        NeedKind.LIBRARY: [("libcrypt.so.1", "", 0), ("libstdc++.so.6", "", 0), ("libz.so.1", "", 0)],
    }


def test_the_highest_of_several_files_counts(tmp_path: Path) -> None:
    low = elf(("libc.so.6", "GLIBC_2.9"), kernel=(2, 6, 32), cpu=1)
    high = elf(("libc.so.6", "GLIBC_2.12"), kernel=(3, 2, 0), cpu=2)
    found = measure([wheel(tmp_path, {f"a{TAG}": high, f"b{TAG}": low, f"c{TAG}": elf()})])
    assert found[NeedKind.LIBC] == [("glibc", "", 0x020C00)]
    assert found[NeedKind.KERNEL] == [("", "", 0x030200)]
    assert found[NeedKind.CPU] == [("", "", 2)]


def test_level_1_is_no_need(tmp_path: Path) -> None:
    assert NeedKind.CPU not in measure([wheel(tmp_path, {f"a{TAG}": elf(cpu=1)})])


def test_a_weak_node_is_no_need(tmp_path: Path) -> None:
    """The loader only warns when one is missing."""
    binary = lief.ELF.parse(list(elf(("libc.so.6", "GLIBC_2.2.5", "GLIBC_2.17"))))
    assert binary is not None
    for requirement in binary.symbols_version_requirement:
        for node in requirement.get_auxiliary_symbols():
            if node.name == "GLIBC_2.17":
                node.flags = 2  # VER_FLG_WEAK
    binary.write(str(tmp_path / "weak.so"))
    found = measure([wheel(tmp_path, {f"a{TAG}": (tmp_path / "weak.so").read_bytes()})])
    assert found[NeedKind.NODE] == [("libc.so.6", "GLIBC_2.2.5", 0)]


def test_libraries_of_the_slice_are_not_the_hosts(tmp_path: Path) -> None:
    """By file name and by SONAME; what they need is needed in turn."""
    made = wheel(tmp_path, {
        f"mod/core{TAG}": elf(("libgrafted-1.so.0", "GRAFTED_1"), "libnamed.so.2"),
        "mod.libs/libgrafted-1.so.0": elf(("libgcc_s.so.1", "GCC_3.0"), soname="libother.so"),
        "mod.libs/libnamed.so.2.5": elf(("libc.so.6", "GLIBC_2.3"), "libgrafted-1.so.0", soname="libnamed.so.2"),
    })  # fmt: skip
    assert measure([made]) == {
        NeedKind.LIBC: [("glibc", "", 0x020300)],
        NeedKind.NODE: [("libc.so.6", "GLIBC_2.3", 0), ("libgcc_s.so.1", "GCC_3.0", 0)],
        NeedKind.LIBRARY: [("libgcc_s.so.1", "", 0)],
    }


def test_another_wheels_library_counts_unless_the_policy_promises_it(tmp_path: Path) -> None:
    """A libstdc++ that some wheel brings for itself is not the one that others were built for."""
    cuda = wheel(tmp_path, {"nvidia/libcudart.so.12": elf(soname="libcudart.so.12"),
                            "nvidia/libstdc++.so.6": elf(soname="libstdc++.so.6")}, name="nvidia-1")  # fmt: skip
    torch = wheel(tmp_path, {f"torch{TAG}": elf("libcudart.so.12", ("libstdc++.so.6", "GLIBCXX_3.4.9"))})
    found = measure([cuda, torch])
    assert found[NeedKind.LIBRARY] == [("libstdc++.so.6", "", 0)]
    assert found[NeedKind.NODE] == [("libstdc++.so.6", "GLIBCXX_3.4.9", 0)]


def test_what_is_only_at_hand_counts_with_its_libc_nodes_alone(tmp_path: Path) -> None:
    """A library for ctypes, a plug-in, a helper: needed for sure, perhaps, never."""
    binding = elf(("libc.so.6", "GLIBC_2.15"), ("libmimerapi.so", "MIMER_1"), kernel=(4, 0, 0), cpu=4)
    found = measure([wheel(tmp_path, {"mod/libbinding.so": binding, "mod/libx.1.2.so": binding})])
    assert found == {
        NeedKind.LIBC: [("glibc", "", 0x020F00)],
        NeedKind.NODE: [("libc.so.6", "GLIBC_2.15", 0)],
    }


def test_what_is_only_at_hand_excludes_no_host_of_the_policy(tmp_path: Path) -> None:
    """As debugpy's helper for GLIBC_2.34 in a wheel for any machine; a module that is loaded is another matter."""
    newer = elf(("libc.so.6", "GLIBC_2.34"), ("libm.so.6", "GLIBC_2.15"))
    assert measure([wheel(tmp_path, {"mod/attach.so": newer})])[NeedKind.LIBC] == [("glibc", "", 0x020F00)]
    assert measure([wheel(tmp_path, {f"mod{TAG}": newer}, "loaded")])[NeedKind.LIBC] == [("glibc", "", 0x022200)]


def test_a_program_in_bin_counts(tmp_path: Path) -> None:
    program = elf(("libc.so.6", "GLIBC_2.16"), "libgcc_s.so.1", interpreter="/lib64/ld-linux-x86-64.so.2")
    found = measure([wheel(tmp_path, {"bin/ruff": program})])
    assert found[NeedKind.LIBC] == [("glibc", "", 0x021000)]
    assert found[NeedKind.LIBRARY] == [("libgcc_s.so.1", "", 0)]


def test_elf_files_are_known_by_their_first_bytes(tmp_path: Path) -> None:
    found = report([wheel(tmp_path, {
        "data.bin": elf(soname="libdata.so", exports=("initdata",)),
        "object.o": elf(kind="-c"),
        "short.so": b"\x7fELF",
        "garbage.so": b"\x7fELF" + b"\xff" * 100,
        "text.so": b"GROUP ( libc.so.6 libc_nonshared.a AS_NEEDED ( ld-linux-x86-64.so.2 ) )" * 2,
    })])  # fmt: skip
    assert [(file.layer, file.path, file.soname, file.module_of) for file in found] == [
        ("mod-1.0", f"{SITE}/data.bin", "libdata.so", (2,))
    ]


PLAIN_3 = elf(("libc.so.6", "GLIBC_2.4"), "libfoo.so.1", exports=("PyInit_mod",))
PLAIN_2 = elf(("libc.so.6", "GLIBC_2.4"), "libfoo.so.1", exports=("initmod",))


@pytest.mark.parametrize(
    ("name", "content", "one"),
    [
        (f"mod{TAG}", elf(), GLIBC),
        ("mod.abi3.so", elf(), GLIBC),
        ("mod.so", PLAIN_3, GLIBC),
        ("mod.so", elf(exports=("PyModExport_mod",)), target("cp315")),
        ("mod.abi3t.so", elf(), target("cp315t")),
        ("mod.cpython-39-aarch64-linux-gnu.so", elf(machine="aarch64"), target(arch="aarch64")),
        ("mod.cpython-313-x86_64-linux-musl.so", elf("libc.musl-x86_64.so.1"), target("cp313", "musl", (1, 2))),
        ("mod.so", PLAIN_2, target("cp27mu")),
        ("modmodule.so", PLAIN_2, target("cp27mu")),
    ],
    ids=["tagged", "abi3", "plain", "PEP 793", "abi3t", "aarch64", "musl", "cp27", "cp27 with module in its name"],
)
def test_what_the_slices_python_imports_is_loaded(name: str, content: bytes, one: Target, tmp_path: Path) -> None:
    assert uses([wheel(tmp_path, {name: content})], one) == {name: (Use.LOADED, "")}


@pytest.mark.parametrize(
    ("name", "content", "one"),
    [
        ("mod.cpython-38-x86_64-linux-gnu.so", PLAIN_3, GLIBC),
        ("mod.pypy39-pp73-x86_64-linux-gnu.so", PLAIN_3, GLIBC),
        ("mod.abi3t.so", PLAIN_3, GLIBC),
        ("mod.abi3.so", PLAIN_2, target("cp27mu")),
    ],
    ids=["cp38", "pypy", "abi3t", "abi3 on 2.7"],
)
def test_another_pythons_modules_are_left_out(name: str, content: bytes, one: Target, tmp_path: Path) -> None:
    layers = [wheel(tmp_path, {name: content})]
    assert uses(layers, one) == {name: (Use.LEFT_OUT, "is for another Python")}
    assert measure(layers, one) == {NeedKind.LIBC: [("glibc", "", 0)]}


def test_a_module_of_the_other_python_major_is_only_at_hand(tmp_path: Path) -> None:
    assert uses([wheel(tmp_path, {"mod.so": PLAIN_2})])["mod.so"][0] is Use.AT_HAND
    assert uses([wheel(tmp_path, {"mod.so": PLAIN_3})], target("cp27mu"))["mod.so"][0] is Use.AT_HAND


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (elf(machine="aarch64"), "is for aarch64 with 64 bits"),
        (elf(machine="x86"), "is for ELF machine 3 with 32 bits"),
        (elf("libc.musl-x86_64.so.1"), "is for musl"),
        (elf("libc.so", interpreter="/lib/ld-musl-x86_64.so.1"), "is for musl"),
    ],
    ids=["aarch64", "32 bits", "musl library", "musl program"],
)
def test_files_for_other_hosts_are_left_out_of_package_data_and_refused_elsewhere(
    content: bytes, reason: str, tmp_path: Path
) -> None:
    """debugpy, say, brings the same helper for several machines in a wheel that is for all of them."""
    assert uses([wheel(tmp_path, {"mod/helper.so": content})]) == {"helper.so": (Use.LEFT_OUT, reason)}
    for path in ("mod.abi3.so", "bin/mod"):
        with pytest.raises(PackError) as error:
            measure([wheel(tmp_path, {path: content})])
        where = path if path.startswith("bin/") else f"{SITE}/{path}"
        assert str(error.value) == f"mod-1.0 does not fit cp39-manylinux_2_17_x86_64: {where} {reason}"


def test_a_plain_module_of_another_machine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackError, match=r"mod/core\.so is for aarch64 with 64 bits"):
        measure([wheel(tmp_path, {"mod/core.so": elf(machine="aarch64", exports=("PyInit_core",))})])


@pytest.mark.parametrize(
    ("triplet", "content", "reason"),
    [
        ("aarch64-linux-gnu", elf(machine="aarch64"), "is for aarch64 with 64 bits"),
        ("x86_64-linux-musl", elf("libc.so"), "is for musl"),
        ("x86_64-linux-musl", elf(), "is for another Python"),
    ],
    ids=["aarch64", "musl", "musl by its name only"],
)
def test_a_module_tagged_for_another_platform_is_refused_unless_it_stands_beside_the_right_one(
    triplet: str, content: bytes, reason: str, tmp_path: Path
) -> None:
    name = f"mod/core.cpython-39-{triplet}.so"
    with pytest.raises(PackError, match=rf"mod/core\.cpython-39-{triplet}\.so {reason}"):
        measure([wheel(tmp_path, {name: content, f"core{TAG}": elf()})])
    both = wheel(tmp_path, {name: content, f"mod/core{TAG}": elf()})
    assert {use for use, _ in uses([both]).values()} == {Use.LOADED, Use.LEFT_OUT}


def test_a_library_that_a_module_needs_is_refused_if_its_only_copy_is_for_another_machine(tmp_path: Path) -> None:
    module, foreign = elf("libq-1.so"), elf(machine="aarch64", soname="libq-1.so")
    with pytest.raises(PackError, match=r"mod\.libs/libq-1\.so is for aarch64 with 64 bits"):
        measure([wheel(tmp_path, {f"mod{TAG}": module, "mod.libs/libq-1.so": foreign})])
    both = wheel(tmp_path, {f"mod{TAG}": module, "a/libq-1.so": foreign, "b/libq-1.so": elf(soname="libq-1.so")})
    assert NeedKind.LIBRARY not in measure([both])


def test_musl_needs_what_its_tag_says_of_native_code(tmp_path: Path) -> None:
    """It has no symbol versions, so files cannot show more."""
    module = wheel(tmp_path, {"mod.abi3.so": elf("libc.so", "libm.so", "libz.so.1")})
    assert measure([module], MUSL) == {
        NeedKind.LIBC: [("musl", "", 0x010200)],
        NeedKind.LIBRARY: [("libz.so.1", "", 0)],
    }


def python_needs(tag: str, *requires: str) -> tuple[int, list[int]]:
    """The least and the excluded PY_VERSION_HEX."""
    found = needs.needs(target(tag), [], [], requires)
    (least,) = [need for need in found if need.kind is NeedKind.PYTHON]
    assert least.name == tag
    return least.number, [need.number for need in found if need.kind is NeedKind.PYTHON_NOT]


@pytest.mark.parametrize(
    ("requires", "least", "excluded"),
    [
        ([], 0, []),
        ([">=3.9", "<4", ""], 0, []),
        ([">=3.9.2"], 0x030902F0, []),
        (["!=3.9.0,!=3.9.1,>=3.7"], 0x030902F0, []),
        (["!=3.9.1"], 0, [0x030901F0]),
        ([">3.9.0", "!=3.9.1", "!=3.9.4"], 0x030902F0, [0x030904F0]),
        ([">=3.9.10", ">=3.9.3"], 0x03090AF0, []),
        (["a word", ">=3.9.2"], 0x030902F0, []),
    ],
    ids=str,
)
def test_requires_python_becomes_a_minimum_and_exclusions(requires: list[str], least: int, excluded: list[int]) -> None:
    assert python_needs("cp39", *requires) == (least, excluded)


def test_releases_to_come_are_excluded_too() -> None:
    newest = facts.pythons()["cp314"].abi.micro
    least, excluded = python_needs("cp314", f"<=3.14.{newest}")
    assert least == 0
    assert excluded[0] == 0x030E00F0 | (newest + 1) << 8
    assert len(excluded) == 29


def test_a_release_that_nobody_has_is_no_release() -> None:
    with pytest.raises(PackError, match=r"no release of CPython 3\.9 will do: required is <3\.9, >=3\.6"):
        python_needs("cp39", ">=3.6", "<3.9")
    with pytest.raises(PackError, match=r"required is >=3\.9\.99"):
        python_needs("cp39", ">=3.9.99")


VERSION = st.builds("{}3.9.{}".format, st.sampled_from(["<", "<=", ">", ">=", "!=", "=="]), st.integers(0, 27))


@given(st.lists(VERSION, max_size=4))
def test_minimum_and_exclusions_admit_exactly_what_requires_python_admits(requires: list[str]) -> None:
    released = range(facts.pythons()["cp39"].abi.micro + 1)
    allowed = [micro for micro in released if SpecifierSet(",".join(requires)).contains(f"3.9.{micro}")]
    if not allowed:
        with pytest.raises(PackError):
            python_needs("cp39", *requires)
        return
    least, excluded = python_needs("cp39", *requires)
    numbers = {micro: 0x030900F0 | micro << 8 for micro in released}
    assert [micro for micro, number in numbers.items() if least <= number and number not in excluded] == allowed


# --- wheels from the index; the nodes are those that readelf -V shows


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def fetch(one: Target, requirement: str, cache: Path) -> tuple[list[Layer], list[str]]:
    """Install the wheels of a requirement: their layers and Requires-Python."""
    requests = Requests((requirement,))
    ((resolution),) = resolve.resolve(requests, [one], cache=cache, progress=lambda _: None)
    layers, requires = [], []
    for found in resolution.wheels:
        root = cache / "installed" / found.sha256
        installed = wheels.install(found, root)
        layers.append(Layer(found.path.stem, LayerKind.WHEEL, wheels.tree(root), b""))
        requires += [installed.requires_python] if installed.requires_python else []
    return layers, requires


@pytest.mark.network
def test_markupsafe_on_2_7(cache: Path) -> None:
    layers, requires = fetch(target("cp27mu"), "MarkupSafe==1.1.1", cache)
    assert needs.needs(target("cp27mu"), layers, ["markupsafe"], requires) == (
        Need(NeedKind.MACHINE, "x86_64", number=62),
        Need(NeedKind.LIBC, "glibc", number=0x020200),
        Need(NeedKind.NODE, "libc.so.6", "GLIBC_2.2.5"),
        Need(NeedKind.PYTHON, "cp27mu"),
        Need(NeedKind.STDLIB, "re"),
        Need(NeedKind.STDLIB, "string"),
    )


@pytest.mark.network
def test_cryptography_on_3_9(cache: Path) -> None:
    """abi3, in Rust; its Requires-Python leaves out two releases."""
    layers, requires = fetch(target(), "cryptography==45.0.7", cache)
    found = needs.needs(target(), layers, ["cryptography.fernet"], requires)
    assert Need(NeedKind.PYTHON, "cp39", number=0x030902F0) in found
    assert Need(NeedKind.LIBC, "glibc", number=0x021100) in found
    assert [need.name for need in found if need.kind is NeedKind.LIBRARY] == ["libgcc_s.so.1"]
    assert {use for use, _ in uses(layers).values()} == {Use.LOADED}


@pytest.mark.network
def test_numpy_on_3_9(cache: Path) -> None:
    layers, requires = fetch(target(), "numpy==2.0.2", cache)
    found = needs.needs(target(), layers, ["numpy"], requires)
    assert Need(NeedKind.LIBC, "glibc", number=0x021100) in found
    assert Need(NeedKind.NODE, "libstdc++.so.6", "GLIBCXX_3.4") in found
    assert [need.name for need in found if need.kind is NeedKind.LIBRARY] == [
        "libgcc_s.so.1", "libstdc++.so.6", "libz.so.1"
    ]  # fmt: skip
    assert {use for use, _ in uses(layers).values()} == {Use.LOADED}
    with pytest.raises(PackError, match=r"^numpy-2\.0\.2.* does not fit cp39-manylinux_2_17_aarch64: .* is for x86_64"):
        needs.needs(target(arch="aarch64"), layers, ["numpy"], requires)
