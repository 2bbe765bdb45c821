"""The facts of this machine, against what other programs say of it; and files that are watched."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lief
import pytest
from support import vectors
from support.native import ffi, lib, new, text

from packer.reader import reading

pytestmark = pytest.mark.native

MACHINES = {"x86_64": 62, "aarch64": 183}
LOADERS = ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1")
ARCHIVE = """
slice cp39 manylinux_2_17_x86_64
  need python name=cp39
  need node name=libc.so.6 value=GLIBC_2.17
  need node name=libm.so.6 value=GLIBC_2.2.5
  need library name=libz.so.1
  need library name=libno-such-library.so.1
  need library name=../lib/libz.so.1
tool app python app
"""


@pytest.fixture
def host() -> Iterator[Any]:
    """A struct, freed afterwards."""
    pointer = new("struct host *")
    yield pointer
    lib().hostfree(pointer)


@pytest.fixture
def probed(host: Any, tmp_path: Path) -> Any:
    """This machine as far as the archive asks for it."""
    (tmp_path / "archive").write_bytes(vectors.build(vectors.parse("probed", ARCHIVE), tmp_path))
    with reading(tmp_path / "archive") as archive:
        lib().hostprobe(host, archive.pointer)
    return host


def nodes_of(path: str) -> set[str]:
    """The symbol version nodes that a library defines, as LIEF sees them."""
    binary = lief.ELF.parse(path)
    assert binary
    return {str(one.auxiliary_symbols[0].name) for one in list(binary.symbols_version_definition) if not one.flags & 1}


def loader() -> str:
    """The program that starts others on this machine."""
    return next(path for path in LOADERS if os.path.exists(path))


@pytest.mark.parametrize(
    ("release", "version"),
    [
        ("6.1.0-18-amd64", (6, 1, 0)),
        ("4.18.0-553.el8_10.x86_64", (4, 18, 0)),
        ("2.6.32-754.el6.x86_64", (2, 6, 32)),
        ("5.15.153.1-microsoft-standard-WSL2", (5, 15, 153)),
        ("6.8-rc1", (6, 8, 0)),
        ("7", (7, 0, 0)),
        ("4.9.337", (4, 9, 255)),
        ("300.1.2", (255, 1, 2)),
        ("", (0, 0, 0)),
        ("mainline", (0, 0, 0)),
    ],
)
def test_kernel_version_of_a_release(host: Any, release: str, version: tuple[int, int, int]) -> None:
    lib().hostset(host, 62, release.encode(), 1)
    assert (host.kernel >> 16, host.kernel >> 8 & 255, host.kernel & 255) == version
    assert text(host.release) == release


def test_machine_and_kernel(host: Any) -> None:
    lib().hostbasics(host)
    uname = os.uname()
    numbers = [min(int(number), 255) for number in re.findall(r"\d+", uname.release)[:3]]
    assert host.machine == MACHINES[uname.machine]
    assert text(host.release) == uname.release
    assert [host.kernel >> 16, host.kernel >> 8 & 255, host.kernel & 255] == numbers


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="optional: the loader of other machines knows no levels")
def test_cpu_level_is_the_loader_s(host: Any) -> None:
    """From glibc 2.33 on it says which of its directories for better CPUs it would look into."""
    said = subprocess.run((loader(), "--help"), capture_output=True, text=True, check=True).stdout
    levels = re.findall(r"^\s+x86-64-v([234]) \(supported", said, re.MULTILINE)
    assert "x86-64-v4" in said
    lib().hostbasics(host)
    assert host.cpu == max(map(int, levels), default=1)
    assert host.cpu_features


def test_c_library_is_the_one_that_programs_get(probed: Any) -> None:
    family, version = (os.confstr("CS_GNU_LIBC_VERSION") or "none 0").split()
    first = probed.libcs[0]
    assert family == "glibc"
    assert first.family == lib().LIBC_GLIBC
    assert f"{first.version >> 16}.{first.version >> 8 & 255}" == version
    mapped = re.findall(r"\S+/libc\.so\.6$", Path("/proc/self/maps").read_text(), re.MULTILINE)
    assert Path(text(first.path)).samefile(mapped[0])


def test_nodes_and_libraries_are_those_that_were_asked_for(probed: Any) -> None:
    first = probed.libcs[0]
    libraries = {text(first.libraries[i]) for i in range(first.library_count)}
    assert libraries == {"libc.so.6", "libm.so.6", "libz.so.1"}, "but not those that are nowhere, or no SONAME"
    nodes = {(text(first.nodes[i].library), text(first.nodes[i].name)) for i in range(first.node_count)}
    assert {name for library, name in nodes if library == "libc.so.6"} == nodes_of(text(first.path))
    assert ("libm.so.6", "GLIBC_2.2.5") in nodes or probed.machine == MACHINES["aarch64"]


# C libraries that are put together ------------------------------------------------------------------------------


def elf(machine: int = 62) -> bytes:
    """The head of an ELF file without anything."""
    return b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + b"\x03\0" + machine.to_bytes(2, "little") + bytes(44)


def version_of(host: Any, index: int) -> tuple[int, int]:
    """Of a C library."""
    return host.libcs[index].version >> 16, host.libcs[index].version >> 8 & 255


def test_each_loader_has_its_own_c_library(host: Any, tmp_path: Path) -> None:
    """The interpreter's PT_INTERP decides: a glibc that lies elsewhere, a musl."""
    lib().hostbasics(host)
    lib().libcfind(host)
    own = version_of(host, 0)
    shutil.copy(loader(), tmp_path / "ld-linux.so.2")
    shutil.copy(text(host.libcs[0].path), tmp_path / "libc.so.6")
    (tmp_path / "ld-musl-x86_64.so.1").write_bytes(elf() + b"\0" * 9 + b"no.1.9 \0001.2.5\0 and more")
    assert lib().libcof(host, loader().encode()) == 0, "known already"
    assert lib().libcof(host, os.fsencode(tmp_path / "ld-linux.so.2")) == 1
    assert lib().libcof(host, os.fsencode(tmp_path / "ld-musl-x86_64.so.1")) == 2
    assert lib().libcof(host, os.fsencode(tmp_path / "ld-linux.so.2")) == 1
    assert [host.libcs[i].family for i in range(3)] == [lib().LIBC_GLIBC, lib().LIBC_GLIBC, lib().LIBC_MUSL]
    assert [version_of(host, i) for i in range(3)] == [own, own, (1, 2)]
    assert text(host.libcs[1].path) == str((tmp_path / "libc.so.6").resolve())


def test_a_glibc_without_its_banner_has_the_version_of_its_newest_node(host: Any, tmp_path: Path) -> None:
    lib().hostbasics(host)
    lib().libcfind(host)
    shutil.copy(loader(), tmp_path / "ld-linux.so.2")
    content = Path(text(host.libcs[0].path)).read_bytes()
    assert b"release version " in content
    (tmp_path / "libc.so.6").write_bytes(content.replace(b"release version ", b"-" * 16))
    index = lib().libcof(host, os.fsencode(tmp_path / "ld-linux.so.2"))
    numbers = [re.fullmatch(r"GLIBC_2\.(\d+)(?:\.\d+)?", node) for node in nodes_of(text(host.libcs[0].path))]
    assert version_of(host, index) == (2, max(int(found[1]) for found in numbers if found))


@pytest.mark.parametrize("musl", [b"", b"1.2.3", b"\0001.2", b"\0001.99.1\0" + bytes(20), b"\xff" * 40])
def test_a_musl_without_a_version(host: Any, tmp_path: Path, musl: bytes) -> None:
    (tmp_path / "ld-musl-x86_64.so.1").write_bytes(elf() + musl)
    assert lib().libcof(host, os.fsencode(tmp_path / "ld-musl-x86_64.so.1")) == 0
    assert version_of(host, 0) == (0, 0)


def test_what_is_no_c_library(host: Any, tmp_path: Path) -> None:
    (tmp_path / "ld-linux.so.2").write_bytes(elf())
    (tmp_path / "ld-musl-x86_64.so.1").write_text("#!/bin/sh\n")
    there = [f"{tmp_path}/{name}" for name in ("ld-linux.so.2", "ld-musl-x86_64.so.1")]
    for interp in ("", "relative/ld-linux.so.2", "/nowhere/ld.so", *there):
        assert lib().libcof(host, interp.encode()) == lib().NONE, interp
    assert host.libc_count == 0


# Watches --------------------------------------------------------------------------------------------------------


def replaced(path: Path) -> None:
    """Another file with the same content and times."""
    status = path.stat()
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize(
    ("watched", "change"),
    [
        pytest.param("file", lambda root: (root / "file").unlink(), id="removed"),
        pytest.param("file", lambda root: (root / "file").write_text("longer"), id="written-to"),
        pytest.param("file", lambda root: replaced(root / "file"), id="replaced"),
        pytest.param("file", lambda root: (root / "file").chmod(0o700), id="mode-changed"),
        pytest.param("file", lambda root: os.utime(root / "file", (1, 1)), id="touched"),
        pytest.param("nothing", lambda root: (root / "nothing").touch(), id="added"),
        pytest.param("directory", lambda root: (root / "directory" / "new").touch(), id="directory-got-a-file"),
        pytest.param("directory", lambda root: (root / "directory" / "old").unlink(), id="directory-lost-a-file"),
        pytest.param("link", lambda root: replaced(root / "file"), id="what-a-link-leads-to-replaced"),
        pytest.param("dangling", lambda root: (root / "nothing").touch(), id="link-leads-somewhere-now"),
    ],
)
def test_every_change_of_a_watched_path_is_noticed(
    host: Any, tmp_path: Path, watched: str, change: Callable[[Path], object]
) -> None:
    (tmp_path / "file").write_text("text")
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory" / "old").touch()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "dangling").symlink_to("nothing")
    for _ in range(2):
        lib().hostwatch(host, os.fsencode(tmp_path / watched))
    assert host.watch_count == 1
    assert lib().watchholds(host.watches)
    change(tmp_path)
    assert not lib().watchholds(host.watches)


def test_reading_a_watched_file_is_no_change(host: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    for name in ("file", "nothing"):
        lib().hostwatch(host, os.fsencode(tmp_path / name))
    (tmp_path / "file").read_text()
    assert [lib().watchholds(ffi().addressof(host.watches[i])) for i in range(2)] == [1, 1]
    assert [host.watches[i].present for i in range(2)] == [1, 0]
