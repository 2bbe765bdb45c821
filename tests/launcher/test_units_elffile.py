"""The ELF reader sees what LIEF sees, and gets through every damaged file."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lief
import pytest
from support.native import ffi, lib, new, text

from packer import native

pytestmark = pytest.mark.native

LIBRARIES = (
    "libc.so.6", "libm.so.6", "libstdc++.so.6", "libgcc_s.so.1", "libz.so.1", "libcrypt.so.1", "ld-linux-x86-64.so.2",
    "ld-linux-aarch64.so.1",
)  # fmt: skip
PLACES = ("/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/lib64", "/usr/lib64", "/lib")


def samples() -> dict[str, Path]:
    """ELF files of many makers: this machine's interpreters and libraries, installed wheels, our own builds."""
    found = [Path(sys.executable), *Path("/usr/bin").glob("python[23]*"), *Path("/bin").glob("[bd]ash")]
    found += [Path(place, name) for place in PLACES for name in LIBRARIES]
    for package in ("lief", "zstandard", "_cffi_backend", "_hypothesis_internals"):
        spec = importlib.util.find_spec(package)
        origin = Path(spec.origin) if spec and spec.origin else None
        if origin:
            found += [origin] if origin.suffix == ".so" else list(origin.parent.rglob("*.so"))
    found += [native.data(name) for name in ("launcher-x86_64", "launcher-aarch64", "liblauncher.so")]
    real = {path.resolve() for path in found if path.exists()}
    return {path.name: path for path in sorted(real) if path.read_bytes()[:4] == b"\x7fELF"}


SAMPLES = samples()


@contextlib.contextmanager
def opened(path: Path | str) -> Iterator[tuple[int, Any]]:
    """The status and the struct."""
    elf = new("struct elf *")
    status = lib().elfopen(elf, os.fsencode(path))
    try:
        yield status, elf
    finally:
        lib().elfclose(elf)


def nodes(elf: Any) -> list[str]:
    """All symbol version nodes a file defines."""
    found: list[str] = []
    while pointer := lib().elfnode(elf, len(found)):
        found.append(text(pointer))
    return found


def parsed(path: Path) -> lief.ELF.Binary:
    """The same file in LIEF's eyes."""
    binary = lief.ELF.parse(str(path))
    assert binary is not None
    return binary


def dynamic(binary: lief.ELF.Binary, tag: lief.ELF.DynamicEntry.TAG, attribute: str) -> list[str]:
    """Strings of all entries with a tag."""
    return [getattr(entry, attribute) for entry in binary.dynamic_entries if entry.tag == tag]


def test_there_are_samples() -> None:
    assert {"libc.so.6", "launcher-x86_64", "launcher-aarch64", "liblauncher.so"} <= SAMPLES.keys()
    assert any("cffi" in name for name in SAMPLES)


@pytest.mark.parametrize("path", SAMPLES.values(), ids=SAMPLES.keys())
def test_headers_and_names(path: Path) -> None:
    binary, tags = parsed(path), lief.ELF.DynamicEntry.TAG
    rpath = dynamic(binary, tags.RPATH, "rpath") or dynamic(binary, tags.RUNPATH, "runpath")
    with opened(path) as (status, elf):
        assert status == lib().ELF_OK
        assert elf.machine == binary.header.machine_type.value & 0xFFFF
        assert text(elf.interp) == (binary.interpreter if binary.has_interpreter else "")
        assert [text(elf.needed[i]) for i in range(elf.needed_count)] == list(binary.libraries)
        assert text(elf.soname) == "".join(dynamic(binary, tags.SONAME, "name"))
        assert text(elf.rpath) == "".join(rpath)


@pytest.mark.parametrize("path", SAMPLES.values(), ids=SAMPLES.keys())
def test_version_nodes_in_their_order(path: Path) -> None:
    base = 1  # VER_FLG_BASE: the library's own name
    binary = parsed(path)
    definitions = [definition for definition in binary.symbols_version_definition if not definition.flags & base]
    wanted = [definition.auxiliary_symbols[0].name for definition in definitions]
    with opened(path) as (_, elf):
        assert nodes(elf) == wanted


def test_the_c_library_defines_the_nodes_that_selection_asks_for() -> None:
    with opened(SAMPLES["libc.so.6"]) as (_, elf):
        assert {"GLIBC_2.2.5", "GLIBC_2.17"} & set(nodes(elf))


@pytest.mark.parametrize("path", SAMPLES.values(), ids=SAMPLES.keys())
def test_exported_symbols(path: Path) -> None:
    """Every symbol in the hash table is found, with its first bytes; what is imported or unknown is not."""
    binary = parsed(path)
    data = new("uint32_t *")
    # a name may stand for several symbols, of which each version of the library's interface has its own
    exported: dict[str, set[int]] = {}
    for symbol in binary.dynamic_symbols:
        if symbol.exported and symbol.name:
            exported.setdefault(str(symbol.name), set()).add(first_bytes(binary, symbol))
    # thousands of them in an interpreter: a part that is the same each time
    chosen = {*random.Random(1).sample(sorted(exported), min(len(exported), 400)), *exported.keys() & {"Py_Version"}}
    with opened(path) as (_, elf):
        assert bool(elf.hash) == binary.has(lief.ELF.DynamicEntry.TAG.GNU_HASH)
        for name in chosen if elf.hash else ():
            assert lib().elfexports(elf, name.encode(), data), name
            assert data[0] in exported[name], name
        for symbol in binary.dynamic_symbols:
            if symbol.imported and symbol.name and symbol.name not in exported:
                assert not lib().elfexports(elf, str(symbol.name).encode(), ffi().NULL), symbol.name
        for unknown in (b"", b"no_such_symbol", b"Py_Versio", b"Py_Version_"):
            assert not lib().elfexports(elf, unknown, data)
            assert data[0] == 0


def first_bytes(binary: lief.ELF.Binary, symbol: lief.ELF.Symbol) -> int:
    """Of an object that is in the file, else 0."""
    if symbol.type != lief.ELF.Symbol.TYPE.OBJECT:
        return 0
    for segment in binary.segments:
        offset = symbol.value - segment.virtual_address
        if segment.type == lief.ELF.Segment.TYPE.LOAD and 0 <= offset < segment.physical_size:
            # up to the file's end, which may be behind the segment's
            content = bytes(segment.content[offset : offset + 4])
            return int.from_bytes(content, "little") if len(content) == 4 else 0
    return 0


@pytest.mark.parametrize(
    ("content", "status"),
    [
        pytest.param(b"#!/bin/sh\n", "ELF_SCRIPT", id="script"),
        pytest.param(b"#!", "ELF_SCRIPT", id="shortest-script"),
        pytest.param(b"#", "ELF_FOREIGN", id="one-byte"),
        pytest.param(b"", "ELF_FOREIGN", id="empty"),
        pytest.param(b"\x7fELF", "ELF_FOREIGN", id="magic-only"),
        pytest.param(b"MZ" + bytes(200), "ELF_FOREIGN", id="other-format"),
        pytest.param(b"\x7fELF\x01\x01\x01" + bytes(200), "ELF_FOREIGN", id="32-bit"),
        pytest.param(b"\x7fELF\x02\x02\x01" + bytes(200), "ELF_FOREIGN", id="big-endian"),
        pytest.param(b"\x7fELF\x02\x01\x01" + bytes(200), "ELF_OK", id="no-segments"),
    ],
)
def test_other_files(tmp_path: Path, content: bytes, status: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with opened(path) as (found, elf):
        assert found == getattr(lib(), status)
        assert (text(elf.interp), text(elf.soname), text(elf.rpath), elf.needed_count) == ("", "", "", 0)


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    kinds = {tmp_path / "nothing": "ELF_UNREADABLE", tmp_path: "ELF_FOREIGN", tmp_path / "pipe": "ELF_FOREIGN"}
    for path, status in kinds.items():
        with opened(path) as (found, _):
            assert found == getattr(lib(), status), path


# Damaged files --------------------------------------------------------------------------------------------------


def walk(path: Path) -> int:
    """Read everything there is to read of a file; the status."""
    with opened(path) as (status, elf):
        if status == lib().ELF_OK:
            for pointer in (elf.interp, elf.soname, elf.rpath, *elf.needed[0 : elf.needed_count]):
                text(pointer)
            nodes(elf)
            data = new("uint32_t *")
            for name in (b"Py_Version", b"PyModule_AddType", b"sha256", b"crc32", b"archiveopen"):
                lib().elfexports(elf, name, data)
            version, tag = new("uint32_t *"), new("char[16]")
            lib().pythonidentify(elf, tag, version)
        return int(status)


@pytest.fixture(scope="module")
def victim() -> bytes:
    """A small library with all tables, defined by a build of ours or of Debian's."""
    path = SAMPLES.get("libz.so.1", SAMPLES["liblauncher.so"])
    return path.read_bytes()


def dynamic_areas(content: bytes) -> list[tuple[int, int]]:
    """Where the headers and the dynamic tables lie: a flip elsewhere changes nothing that is read."""
    _, _, _, _, phoff, _, _, _, phentsize, phnum, *_ = struct.unpack_from("<HHIQQQIHHHHHH", content, 16)
    areas = [(0, phoff + phentsize * phnum)]
    for i in range(phnum):
        kind, _, offset, _, _, size, *_ = struct.unpack_from("<IIQQQQQQ", content, phoff + i * phentsize)
        if kind == 2:
            areas.append((offset, offset + size))
    binary = lief.ELF.parse(list(content))
    assert binary is not None
    for section in binary.sections:
        if section.name in (".gnu.hash", ".gnu.version_d", ".dynsym", ".dynstr"):
            areas.append((section.offset, section.offset + min(section.size, 2000)))
    return areas


def test_truncated_at_any_length(tmp_path: Path, victim: bytes) -> None:
    path = tmp_path / "cut"
    path.write_bytes(victim)
    generator = random.Random(1)
    lengths = {*range(1200), *range(len(victim) - 200, len(victim)), *generator.sample(range(len(victim)), 800)}
    found = set()
    for length in sorted(lengths, reverse=True):
        os.truncate(path, length)
        found.add(walk(path))
    assert found == {lib().ELF_OK, lib().ELF_FOREIGN}


@pytest.mark.parametrize("seed", range(4))
def test_flipped_bits_in_every_table(tmp_path: Path, victim: bytes, seed: int) -> None:
    generator = random.Random(seed)
    areas = dynamic_areas(victim)
    path = tmp_path / "flipped"
    path.write_bytes(victim)
    found = set()
    with path.open("r+b") as file:
        for _ in range(3000):
            places = [generator.randrange(*generator.choice(areas)) for _ in range(generator.choice((1, 1, 1, 4)))]
            change(file, [(place, bytes((victim[place] ^ 1 << generator.randrange(8),))) for place in places])
            found.add(walk(path))
            change(file, [(place, victim[place : place + 1]) for place in places])
    assert found <= {lib().ELF_OK, lib().ELF_FOREIGN, lib().ELF_SCRIPT}
    assert len(found) > 1


def test_extreme_numbers_in_every_field(tmp_path: Path, victim: bytes) -> None:
    """Every aligned word of headers, segments and dynamic table as 0, as the greatest, and as just behind the file."""
    path = tmp_path / "extreme"
    path.write_bytes(victim)
    with path.open("r+b") as file:
        for start, end in dynamic_areas(victim)[:2]:
            for place in range(start - start % 8, end, 8):
                for number in (0, 2**64 - 1, 2**63, 2**32 - 1, len(victim), len(victim) - 1, 2**64 - 8):
                    change(file, [(place, number.to_bytes(8, "little"))])
                    walk(path)
                change(file, [(place, victim[place : place + 8])])
    assert walk(path) == lib().ELF_OK


def change(file: Any, edits: list[tuple[int, bytes]]) -> None:
    """Overwrite bytes of an open file."""
    for place, content in edits:
        file.seek(place)
        file.write(content)
    file.flush()


def test_a_chain_of_nodes_that_never_ends_is_given_up(tmp_path: Path) -> None:
    """A hostile library may define as many nodes as it likes; reading them takes no time worth mention."""
    count = 200_000
    dynamic = [(5, 0x1000), (0x6FFFFFFC, 0x1000), (0x6FFFFFFD, 2**63), (0, 0)]
    body = b"".join(struct.pack("<QQ", *entry) for entry in dynamic)
    nodes_at = 0x1000
    chain = struct.pack("<HHHHIII", 1, 0, 1, 1, 0, 0, 20) * count
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 4, 0, 0, 0, nodes_at + len(chain), nodes_at + len(chain), 4096)
    dyn = struct.pack("<IIQQQQQQ", 2, 4, 512, 512, 512, len(body), len(body), 8)
    content = (header + load + dyn).ljust(512, b"\0") + body
    path = tmp_path / "hostile.so"
    path.write_bytes(content.ljust(nodes_at, b"\0") + chain)
    with opened(path) as (status, elf):
        assert status == lib().ELF_OK
        assert len(nodes(elf)) == 4096
