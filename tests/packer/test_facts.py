"""The facts agree with each other, with this machine, and refuse to contradict themselves."""

from __future__ import annotations

import datetime as dt
import importlib.machinery
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from packer import facts
from packer.model import Platform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RUNNING = f"cp{sys.version_info[0]}{sys.version_info[1]}{sys.abiflags}"

CACHES: list[Any] = [
    facts.policies,
    facts.glibc_releases,
    facts.cpu_levels,
    facts.architectures,
    facts._stdlib_facts,
    facts._python_facts,
]


def test_pythons_reach_from_27_to_315() -> None:
    assert list(facts.pythons()) == [
        *("cp27m", "cp27mu", "cp35m", "cp36m", "cp37m", "cp38", "cp39", "cp310", "cp311", "cp312"),
        *("cp313", "cp313t", "cp314", "cp314t", "cp315", "cp315t"),
    ]
    aliases = {python.alias: tag for tag, python in facts.pythons().items() if python.alias}
    assert aliases == {"cp27": "cp27mu", "cp35": "cp35m", "cp36": "cp36m", "cp37": "cp37m"}


def test_a_python_is_supported_between_its_dates() -> None:
    assert [python.abi.tag for python in facts.supported_pythons()] == ["cp315", "cp314", "cp313", "cp312", "cp311"]
    last = facts.pythons()["cp310"]
    assert not last.supported
    assert last.end_of_life == dt.date(2026, 10, 31)
    assert facts.pythons()["cp314t"].supported


def test_only_a_python_that_knows_a_stable_abi_takes_its_wheels() -> None:
    stable = {tag: python.stable_abi for tag, python in facts.pythons().items()}
    assert {tag for tag, abi in stable.items() if abi == ""} == {"cp27m", "cp27mu", "cp313t", "cp314t"}
    assert {tag for tag, abi in stable.items() if abi == "abi3t"} == {"cp315t"}


def test_virtual_environments_came_with_python_3() -> None:
    assert [tag for tag, python in facts.pythons().items() if not python.venv] == ["cp27m", "cp27mu"]


def test_extension_modules_are_named_after_abi_and_triplet() -> None:
    pythons = facts.pythons()
    arm, musl = Platform("glibc", (2, 17), "aarch64"), Platform("musl", (1, 2), "x86_64")
    assert facts.extension_suffixes(pythons["cp36m"].abi, arm)[0] == ".cpython-36m-aarch64-linux-gnu.so"
    assert facts.extension_suffixes(pythons["cp310"].abi, musl)[0] == ".cpython-310-x86_64-linux-gnu.so"
    assert facts.extension_suffixes(pythons["cp311"].abi, musl)[0] == ".cpython-311-x86_64-linux-musl.so"
    assert facts.extension_suffixes(pythons["cp27mu"].abi, musl) == (".so", "module.so")


def test_the_running_python_is_described() -> None:
    python = facts.pythons()[RUNNING]
    assert python.cache_tag == sys.implementation.cache_tag
    assert sysconfig.get_path("stdlib").endswith(f"/{python.abi.directory}")
    libc = "musl" if "musl" in str(sysconfig.get_config_var("HOST_GNU_TYPE")) else "glibc"
    arch = str(sysconfig.get_config_var("HOST_GNU_TYPE")).partition("-")[0]
    # a distribution may add suffixes of its own in between
    own = [suffix for suffix in importlib.machinery.EXTENSION_SUFFIXES if "abi3-" not in suffix]
    known = facts.extension_suffixes(python.abi, Platform(libc, (1, 2), arch))
    assert own == [suffix for suffix in known if "abi3-" not in suffix]


def test_policies_are_known_from_manylinux1_on() -> None:
    by_name = {policy.name: policy for policy in facts.policies()}
    assert by_name["manylinux_2_5"].aliases == ("manylinux1",)
    assert by_name["manylinux_2_12"].aliases == ("manylinux2010",)
    assert by_name["manylinux_2_17"].aliases == ("manylinux2014",)
    assert set(by_name["manylinux_2_12"].nodes) == {"x86_64"}
    assert set(by_name["manylinux_2_17"].nodes) == {"x86_64", "aarch64"}
    assert by_name["musllinux_1_2"].libraries == {"libc.so", "libz.so.1"}
    assert not by_name["musllinux_1_2"].nodes["aarch64"]


@pytest.mark.parametrize(
    ("policy", "glibc", "glibcxx"),
    [
        ("manylinux_2_5", "GLIBC_2.5", "GLIBCXX_3.4.8"),
        ("manylinux_2_12", "GLIBC_2.12", "GLIBCXX_3.4.13"),
        ("manylinux_2_17", "GLIBC_2.17", "GLIBCXX_3.4.19"),
        ("manylinux_2_28", "GLIBC_2.28", "GLIBCXX_3.4.24"),
        ("manylinux_2_37", "GLIBC_2.36", "GLIBCXX_3.4.30"),
        ("manylinux_2_39", "GLIBC_2.39", "GLIBCXX_3.4.33"),
    ],
)
def test_policies_end_where_auditwheel_says(policy: str, glibc: str, glibcxx: str) -> None:
    (found,) = (item for item in facts.policies() if item.name == policy)
    assert found.ceiling("x86_64", "GLIBC") == glibc
    assert found.ceiling("x86_64", "GLIBCXX") == glibcxx
    assert found.ceiling("x86_64", "SPAM") == ""


def test_newer_policies_contain_older_ones() -> None:
    for older, newer in zip(facts.policies(), facts.policies()[1:], strict=False):
        if older.libc == newer.libc:
            assert older.libraries <= newer.libraries
            assert all(older.nodes[arch] <= newer.nodes[arch] for arch in older.nodes)


def test_a_policy_between_two_lists_is_judged_by_the_older() -> None:
    assert facts.policy_of(Platform("glibc", (2, 29), "x86_64")).name == "manylinux_2_28"
    assert facts.policy_of(Platform("glibc", (2, 44), "aarch64")).name == "manylinux_2_41"
    assert facts.policy_of(Platform("musl", (1, 2), "x86_64")).name == "musllinux_1_2"
    assert facts.oldest_platform("glibc", "aarch64").tag == "manylinux_2_17_aarch64"
    assert facts.oldest_platform("glibc", "x86_64").tag == "manylinux_2_5_x86_64"


def test_every_policy_allows_the_nodes_of_its_release() -> None:
    policies = {policy.version: policy for policy in facts.policies() if policy.libc == "glibc"}
    releases = {release.version: release for release in facts.glibc_releases()}
    assert policies.keys() <= releases.keys()
    for version, policy in policies.items():
        for arch, nodes in policy.nodes.items():
            assert releases[version].nodes[arch] <= nodes, f"{policy.name} {arch}"


def test_some_releases_have_no_node_of_their_own() -> None:
    nodes = [release.nodes["x86_64"] for release in facts.glibc_releases()]
    versions = [release.version for release in facts.glibc_releases()]
    grown = [version for version, old, new in zip(versions[1:], nodes, nodes[1:], strict=False) if old == new]
    assert grown == [(2, 19), (2, 20), (2, 21), (2, 31), (2, 37), (2, 40)]
    assert "GLIBC_ABI_DT_RELR" in nodes[versions.index((2, 36))] - nodes[versions.index((2, 35))]


def test_levels_hold_the_levels_below() -> None:
    numbers = [(level.arch, level.number) for level in facts.cpu_levels()]
    assert numbers == [("x86_64", level) for level in (1, 2, 3, 4)] + [("aarch64", 80), ("aarch64", 81)]
    by_name = {level.name: level.features for level in facts.cpu_levels()}
    assert by_name["x86-64-v2"] < by_name["x86-64-v3"] < by_name["x86-64-v4"]
    assert {"SSE2", "POPCNT", "AVX2", "AVX512VL"} <= by_name["x86-64-v4"]


def test_the_running_pythons_modules_are_the_known_ones() -> None:
    """Whatever of the running version's library is installed as source is known, and nothing else is."""
    folder = Path(sysconfig.get_path("stdlib"))
    installed = {path.stem for path in folder.glob("*.py")} | {
        path.parent.name for path in folder.glob("*/__init__.py")
    }
    # sys leaves these two demonstrations out, whose files are there
    known = facts.stdlib((sys.version_info[0], sys.version_info[1])) - {"__hello__", "__phello__"}
    assert installed & sys.stdlib_module_names == installed & known
    assert {"json", "os", "logging", "xml"} <= installed & known
    assert known <= sys.stdlib_module_names


@pytest.mark.parametrize(
    ("version", "there", "not_there"),
    [
        ((2, 7), {"ConfigParser", "StringIO", "urllib2", "json"}, {"configparser", "cStringIO", "enum", "Tkinter"}),
        ((3, 5), {"asyncio", "typing", "tkinter"}, {"secrets", "dataclasses", "_json", "test"}),
        ((3, 6), {"secrets", "distutils"}, {"dataclasses", "zlib"}),
        ((3, 11), {"tomllib", "asyncore", "lib2to3"}, {"_pylong", "_ctypes"}),
        ((3, 14), {"annotationlib", "compression", "tkinter", "turtledemo"}, {"lib2to3", "sitecustomize"}),
        ((3, 15), {"profiling", "json", "idlelib"}, {"sre_parse", "_missing_stdlib_info"}),
    ],
)
def test_modules_come_and_go(version: tuple[int, int], there: set[str], not_there: set[str]) -> None:
    assert there <= facts.stdlib(version)
    assert facts.stdlib(version).isdisjoint(not_there)


@pytest.fixture
def _fresh() -> Iterator[None]:
    """Let the test read changed files, and nothing after it."""
    for cache in CACHES:
        cache.cache_clear()
    yield
    for cache in CACHES:
        cache.cache_clear()


@pytest.mark.usefixtures("_fresh")
@pytest.mark.parametrize(
    ("file", "old", "new", "ask", "message"),
    [
        ("python.toml", 'tag = "cp38"', 'tag = "cp39"', facts.pythons, "cp39: not a tag of CPython 3.8"),
        ("python.toml", 'tag = "cp38"', 'tag = "cp38m"', facts.pythons, "cp38m: not a tag of CPython 3.8"),
        ("python.toml", 'tag = "cp27m"\n', 'tag = "cp27mu"\n', facts.pythons, "cp27mu: named twice"),
        ("python.toml", 'alias = "cp36"', 'alias = "cp35"', facts.pythons, "cp36m: an alias of another version: cp35"),
        ("python.toml", '"cpython-39"', '"cpython-38"', facts.pythons, "cp39: a cache tag of another version"),
        ("python.toml", '".cpython-39-', '".cpython-39m-', facts.pythons, "cp39: suffixes of another tag"),
        ("python.toml", "end_of_life = 2031", "end_of_life = 2021", facts.pythons, "cp315: ends before it begins"),
        ("python.toml", "checked = 2026-11-22", "", facts.pythons, "python.toml: releases: no source or no date"),
        ("python.toml", "[venv]\nsource", "[venv]\nfrom", facts.pythons, "python.toml: venv: no source or no date"),
        (
            "policies.toml",
            'name = "manylinux_2_12"',
            'name = "manylinux_2_4"',
            facts.policies,
            "manylinux_2_4: not newer",
        ),
        ("policies.toml", '"manylinux2010"', '"manylinux1"', facts.policies, "manylinux1 is there twice"),
        ("policies.toml", '"GLIBC_2.6"', '"GLIBC_2.5"', facts.policies, "manylinux_2_12 x86_64: names a node again"),
        (
            "policies.toml",
            '"GLIBC_2.6", "GLIBC_2.7"',
            '"GLIBC_2.7", "GLIBC_2.6"',
            facts.policies,
            "nodes are not in order",
        ),
        ("policies.toml", "source", "# source", facts.policies, "no source or no date"),
        ("glibc.toml", 'version = "2.37"', 'version = "2.39"', facts.glibc_releases, "glibc 2.39: does not follow"),
        ("glibc.toml", 'aarch64 = ["GLIBC_2.44"]', "", facts.glibc_releases, "2.44: aarch64 is gone"),
        ("cpu.toml", "number = 3", "number = 2", facts.cpu_levels, "x86-64-v3: not higher than the one before it"),
        ("cpu.toml", '"AVX512F"', '"AVX2"', facts.cpu_levels, "x86-64-v4: names a feature again"),
        ("cpu.toml", 'name = "aarch64"', 'name = "riscv64"', facts.cpu_levels, "an architecture without levels"),
        ("stdlib.toml", '"BaseHTTPServer"', '"Base-HTTPServer"', lambda: facts.stdlib((3, 9)), "not a module's name"),
        ("stdlib.toml", '"BaseHTTPServer"', '"Bastion"', lambda: facts.stdlib((3, 9)), "Bastion is there twice"),
        ("stdlib.toml", 'version = "3.15"', 'version = "3.16"', lambda: facts.stdlib((3, 9)), "not python.toml's"),
    ],
)
def test_a_contradiction_is_refused(
    file: str, old: str, new: str, ask: Callable[[], object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = facts.read_text(file)
    assert old in text
    changed = text.replace(old, new, 1)
    read_text = facts.read_text
    monkeypatch.setattr(facts, "read_text", lambda name: changed if name == file else read_text(name))
    with pytest.raises(ValueError, match="abi facts: ") as error:
        ask()
    assert message in str(error.value)


def test_an_installed_package_reads_its_own_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site-packages" / "packer"
    (package / "_data" / "abi").mkdir(parents=True)
    (package / "_data" / "abi" / "cpu.toml").write_text("the package's", encoding="utf-8")
    (tmp_path / "site-packages" / "abi").mkdir()
    (tmp_path / "site-packages" / "abi" / "cpu.toml").write_text("somebody else's", encoding="utf-8")
    monkeypatch.setattr(facts, "__file__", str(package / "facts.py"))
    assert facts.read_text("cpu.toml") == "the package's"
