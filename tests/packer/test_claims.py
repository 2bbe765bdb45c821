"""packer/claims.py: what a wheel's tag claims binds its files, unless the user accepts that it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.elf import elf
from support.layers import SITE, layer

from packer import claims, facts, needs
from packer.binaries import report
from packer.errors import PackError
from packer.model import Platform, Target

if TYPE_CHECKING:
    from pathlib import Path

PLATFORM = Platform("glibc", (2, 28), "x86_64")
CP39 = Target(facts.pythons()["cp39"].abi, PLATFORM)
TAGS = "cp39-cp39-manylinux2014_x86_64"
NAME = "mod-1.0-cp39-cp39-manylinux_2_17_x86_64.manylinux2014_x86_64"
FILE = f"{SITE}/mod.cpython-39-x86_64-linux-gnu.so"


@pytest.mark.parametrize(
    ("tags", "version"),
    [
        ("cp39-cp39-manylinux_2_17_x86_64.manylinux2014_x86_64", (2, 17)),
        ("cp39-cp39-manylinux2014_x86_64", (2, 17)),
        ("cp39-cp39-manylinux1_x86_64.manylinux_2_28_x86_64", (2, 5)),
        ("cp39-abi3-manylinux_2_28_x86_64.musllinux_1_1_x86_64", (2, 28)),
        ("cp39-cp39-musllinux_1_1_x86_64", None),
        ("cp39-cp39-manylinux_2_17_aarch64", None),
        ("cp39-cp39-linux_x86_64", None),
        ("py3-none-any", None),
    ],
)
def test_the_oldest_tag_of_a_wheel_binds(tags: str, version: tuple[int, int] | None) -> None:
    found = claims.claimed(f"mod-1.0-{tags}", PLATFORM)
    assert (found.version if found else None) == version


def test_what_is_no_wheel_claims_nothing() -> None:
    assert claims.claimed("app", PLATFORM) is None
    assert claims.claimed("cpython-3.9.2-cp39", PLATFORM) is None


def excess(tmp_path: Path, *needed: str | tuple[str, ...], name: str = NAME, path: str = FILE) -> list[str]:
    content = layer(name, {path: elf(*needed)}, tmp_path / "wheel")
    return [one.what for one in claims.excess(needs.judge(report([content]), CP39), PLATFORM)]


def test_files_that_keep_to_the_claim(tmp_path: Path) -> None:
    allowed: list[str | tuple[str, ...]] = [
        ("libc.so.6", "GLIBC_2.2.5", "GLIBC_2.17"), ("libstdc++.so.6", "GLIBCXX_3.4.19", "CXXABI_1.3.7"),
        ("libgcc_s.so.1", "GCC_4.8.0"), "libz.so.1",
    ]  # fmt: skip
    assert excess(tmp_path, *allowed) == []


@pytest.mark.parametrize(
    ("needed", "found"),
    [
        (("libc.so.6", "GLIBC_2.17", "GLIBC_2.18"), "GLIBC_2.18 of libc.so.6"),
        (("libm.so.6", "GLIBC_2.29"), "GLIBC_2.29 of libm.so.6"),
        (("libc.so.6", "GLIBC_ABI_DT_RELR"), "GLIBC_ABI_DT_RELR of libc.so.6"),
        (("libstdc++.so.6", "GLIBCXX_3.4.20"), "GLIBCXX_3.4.20 of libstdc++.so.6"),
        ("libpq.so.5", "libpq.so.5"),
    ],
)
def test_files_that_need_more(tmp_path: Path, needed: str | tuple[str, ...], found: str) -> None:
    assert excess(tmp_path, needed) == [found]


def test_what_is_only_at_hand_does_not_count(tmp_path: Path) -> None:
    assert excess(tmp_path, ("libc.so.6", "GLIBC_2.34"), path=f"{SITE}/helper.bin") == []


@pytest.mark.parametrize("tag", ["linux_x86_64", "manylinux_2_34_x86_64"])
def test_a_wheel_that_was_built_here_and_let_pass_is_held_to_its_slice(tmp_path: Path, tag: str) -> None:
    name = f"mod-1.0-cp39-cp39-{tag}"
    assert excess(tmp_path / "1", ("libc.so.6", "GLIBC_2.34"), name=name) == ["GLIBC_2.34 of libc.so.6"]
    assert excess(tmp_path / "2", ("libc.so.6", "GLIBC_2.28"), name=name) == []


def test_each_distribution_is_refused_once_or_accepted(tmp_path: Path) -> None:
    newer = elf(("libc.so.6", "GLIBC_2.34"))
    content = [
        layer(f"{name}-1.0-{TAGS}", {f"{SITE}/{file}.abi3.so": newer for file in files}, tmp_path / name)
        for name, files in (("A_mod", ("one", "two")), ("other", ("three",)))
    ]
    found = list(claims.excess(needs.judge(report(content), CP39), PLATFORM))
    assert len(found) == 3
    with pytest.raises(PackError) as caught:
        claims.refuse(found, ())
    more = "needs GLIBC_2.34 of libc.so.6, which manylinux_2_17 does not have"
    assert str(caught.value).splitlines() == [
        f"A_mod-1.0-{TAGS}: {SITE}/one.abi3.so {more}",
        f"other-1.0-{TAGS}: {SITE}/three.abi3.so {more}",
    ]
    assert caught.value.hint.startswith("--accept a-mod --accept other packs it")
    with pytest.raises(PackError, match="other-1"):
        claims.refuse(found, {"a-mod"})
    claims.refuse(found, {"a-mod", "other"})
