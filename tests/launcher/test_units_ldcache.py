"""The loader's cache is read as ldconfig reads it, and a damaged one does no harm."""

from __future__ import annotations

import os
import random
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from support.native import lib, new, owned

pytestmark = pytest.mark.native

CACHE = Path("/etc/ld.so.cache")
X86_64, AARCH64 = 62, 183
FLAGS = {X86_64: 0x0303, AARCH64: 0x0A03}
"""Of dl-cache.h: an ELF library for libc6, and the machine."""

Entry = tuple[int, str, str, int]
"""Flags, SONAME, path, hwcap."""


def search(cache: bytes, soname: str, machine: int = X86_64) -> str | None:
    """In a cache in memory; each call has a buffer that ends where the cache does."""
    buffer = new("uint8_t[]", cache)
    found = lib().ldcachesearch(buffer, len(cache), soname.encode(), machine)
    return owned(found) if found else None


def printed() -> dict[str, str]:
    """The plain 64-bit entries of this machine's cache as ldconfig prints them: SONAME -> path."""
    ldconfig = shutil.which("ldconfig", path="/sbin:/usr/sbin")
    assert ldconfig
    said = subprocess.run((ldconfig, "-p"), check=True, capture_output=True, text=True).stdout
    kind = {"x86_64": "x86-64", "aarch64": "AArch64"}[os.uname().machine]
    found: dict[str, str] = {}
    for soname, path in re.findall(rf"^\t(\S+) \(libc6,{kind}\) => (\S+)$", said, re.MULTILINE):
        found.setdefault(soname, path)
    return found


def made(entries: list[Entry], old: int | None = None) -> bytes:
    """A cache of glibc 2.x's format.

    :param old: entries in a table of the format before it, which stands first.
    """
    strings, table = b"", b""
    start = 48 + 24 * len(entries)
    for flags, soname, path, hwcap in entries:
        table += struct.pack("<iIIIQ", flags, start + len(strings), start + len(strings) + len(soname) + 1, 0, hwcap)
        strings += f"{soname}\0{path}\0".encode()
    new = b"glibc-ld.so.cache1.1" + struct.pack("<II", len(entries), len(strings)) + bytes(20) + table + strings
    if old is None:
        return new
    before = b"ld.so-1.7.0\0" + struct.pack("<I", old) + bytes(12 * old)
    return before.ljust(-(-len(before) // 8) * 8, b"\0") + new


LIBZ = (FLAGS[X86_64], "libz.so.1", "/lib/x86_64-linux-gnu/libz.so.1", 0)


def test_this_machine_s_cache_is_read_as_ldconfig_reads_it() -> None:
    cache, wanted = CACHE.read_bytes(), printed()
    machine = {"x86_64": X86_64, "aarch64": AARCH64}[os.uname().machine]
    assert "libc.so.6" in wanted
    assert {soname: search(cache, soname, machine) for soname in wanted} == wanted
    assert search(cache, "libc.so.6", {X86_64: AARCH64, AARCH64: X86_64}[machine]) is None
    for soname in ("", "libc.so", "libc.so.66", "no-such-library.so.1"):
        assert search(cache, soname, machine) is None
    assert owned(lib().ldcachefind(b"libc.so.6", machine)) == wanted["libc.so.6"]
    assert not lib().ldcachefind(b"no-such-library.so.1", machine)


@pytest.mark.parametrize("old", [None, 0, 1, 2, 3])
def test_tables_of_the_old_format_are_passed_over(old: int | None) -> None:
    assert search(made([LIBZ], old), "libz.so.1") == LIBZ[2]


def test_each_machine_gets_its_own_library() -> None:
    cache = made([(FLAGS[AARCH64], "libz.so.1", "/arm/libz.so.1", 0), (0x0803, "libz.so.1", "/x32/libz.so.1", 0), LIBZ])
    assert search(cache, "libz.so.1") == LIBZ[2]
    assert search(cache, "libz.so.1", AARCH64) == "/arm/libz.so.1"


@pytest.mark.parametrize("hwcap", [1, 1 << 31, 1 << 62])
def test_variants_for_better_cpus_are_passed_over(hwcap: int) -> None:
    """They stand before the plain one, and a machine that has them may be unable to run them."""
    better = (FLAGS[X86_64], "libz.so.1", "/lib/glibc-hwcaps/x86-64-v3/libz.so.1", hwcap)
    assert search(made([better]), "libz.so.1") is None
    assert search(made([better, better, LIBZ]), "libz.so.1") == LIBZ[2]


@pytest.mark.parametrize(
    "cache",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"glibc-ld.so.cache1.1", id="magic-only"),
        pytest.param(made([LIBZ])[:-1].replace(b"cache1.1", b"cache1.2"), id="other-version"),
        pytest.param(b"ld.so-1.7.0\0" + b"\xff" * 4, id="old-table-larger-than-the-file"),
        pytest.param(b"ld.so-1.7.0\0" + bytes(4), id="old-table-only"),
    ],
)
def test_what_is_no_cache_has_no_library(cache: bytes) -> None:
    assert search(cache, "libz.so.1") is None


def test_cut_at_any_length() -> None:
    cache = made([(FLAGS[AARCH64], "libz.so.1", "/a", 0), LIBZ], old=3)
    answers = {search(cache[:size], "libz.so.1") for size in range(len(cache))}
    # a path that lost its end is none
    assert answers == {None, ""}
    assert search(cache, "libz.so.1") == LIBZ[2]


def test_flipped_bits_of_this_machine_s_cache() -> None:
    cache = bytearray(CACHE.read_bytes()[:6000])
    names = list(printed())
    generator = random.Random(1)
    for _ in range(4000):
        at, bit = generator.randrange(len(cache)), generator.randrange(8)
        cache[at] ^= 1 << bit
        found = search(bytes(cache), generator.choice(names))
        assert found is None or len(found) < len(cache)
        cache[at] ^= 1 << bit


def test_extreme_numbers() -> None:
    sound = made([LIBZ])
    for place in range(20, 72, 4):
        for number in (0, 2**32 - 1, 2**31, len(sound), len(sound) - 1):
            cache = sound[:place] + number.to_bytes(4, "little") + sound[place + 4 :]
            # whatever it takes for the path is text of the file itself
            assert os.fsencode(search(cache, "libz.so.1") or "") in cache, (place, number)
