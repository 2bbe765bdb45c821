"""The wheel of this tree: built without a compiler on PATH, what is in it, and that it installs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from typing import Any

import cffi
import lief
import pytest

ROOT = Path(__file__).resolve().parents[2]
MACHINES = {"x86_64": lief.ELF.ARCH.X86_64, "aarch64": lief.ELF.ARCH.AARCH64}
SIZE_LIMIT = 300_000
"""Bytes of a launcher, which every archive carries."""


def build(source: Path, scratch: Path) -> Path:
    """Build the wheel of a source tree with nothing on PATH, and return its path.

    The backend and the compiler are this environment's own; the C libraries that zig has compiled are the checkout's.
    """
    nothing = scratch / "path"
    nothing.mkdir()
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(scratch)]
    environment = {**os.environ, "PATH": str(nothing), "ZIG_GLOBAL_CACHE_DIR": str(ROOT / ".cache" / "zig")}
    done = subprocess.run(
        [*command, str(source)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    assert done.returncode == 0, done.stdout.decode()
    (wheel,) = scratch.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    return build(ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def data(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's ``packer/_data``, unpacked."""
    directory = tmp_path_factory.mktemp("data")
    zipfile.ZipFile(wheel).extractall(directory)
    return directory / "packer" / "_data"


@pytest.fixture(params=MACHINES)
def machine(request: pytest.FixtureRequest) -> str:
    """Every machine that launchers are built for."""
    return str(request.param)


@pytest.fixture
def launcher(data: Path, machine: str) -> lief.ELF.Binary:
    """The launcher of a machine, parsed."""
    binary = lief.ELF.parse(data / f"launcher-{machine}")
    assert binary is not None
    return binary


@pytest.fixture(scope="session")
def library(data: Path) -> lief.ELF.Binary:
    """The shared library, parsed."""
    binary = lief.ELF.parse(data / "liblauncher.so")
    assert binary is not None
    return binary


def names(binary: lief.ELF.Binary) -> set[str]:
    """What a shared library exports."""
    return {str(symbol.name) for symbol in binary.exported_symbols}


@pytest.mark.slow
def test_two_directories_give_the_same_bytes(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "__pycache__", "_data", "build", "tests"))
    if "FATPAR_ZSTD_SDIST" not in os.environ:
        (sdist,) = (ROOT / ".cache").glob("zstandard-*.tar.gz")
        monkeypatch.setenv("FATPAR_ZSTD_SDIST", str(sdist))
    (tmp_path / "out").mkdir()
    other = build(copy, tmp_path / "out")
    assert other.name == wheel.name
    assert other.read_bytes() == wheel.read_bytes()


def test_data_are_complete(data: Path) -> None:
    found = {path.relative_to(data).as_posix() for path in data.rglob("*") if path.is_file()}
    headers = {f"launcher/{path.name}" for path in ROOT.glob("launcher/*.h")}
    facts = {path.relative_to(ROOT).as_posix() for path in (ROOT / "abi").rglob("*") if path.suffix in (".h", ".toml")}
    programs = {f"{program}-{machine}" for program in ("agent", "launcher") for machine in MACHINES}
    assert headers
    assert {"abi/fatpar.h", "abi/python.toml"} <= facts
    assert found == headers | facts | programs | {"liblauncher.so", "front.sh", "zstd-license.txt"}


def test_wheel_holds_the_package_and_its_data_only(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    (metadata,) = tops - {"packer"}
    assert metadata.endswith(".dist-info")


def test_wheel_is_for_every_python_3_and_glibc_2_17(wheel: Path) -> None:
    assert wheel.name.endswith(f"-py3-none-manylinux_2_17_{os.uname().machine}.whl")


def test_launcher_is_static_and_for_its_machine(launcher: lief.ELF.Binary, machine: str) -> None:
    assert launcher.header.machine_type == MACHINES[machine]
    assert launcher.header.file_type == lief.ELF.Header.FILE_TYPE.EXEC
    assert not launcher.has_interpreter
    assert not launcher.get(lief.ELF.Segment.TYPE.DYNAMIC)
    assert not list(launcher.symtab_symbols)


def test_launcher_is_small(data: Path, machine: str) -> None:
    assert (data / f"launcher-{machine}").stat().st_size < SIZE_LIMIT


def test_stack_is_not_executable(launcher: lief.ELF.Binary) -> None:
    stack = launcher.get(lief.ELF.Segment.TYPE.GNU_STACK)
    assert stack is not None
    assert not stack.has(lief.ELF.Segment.FLAGS.X)


def test_no_path_of_the_building_machine_is_inside(data: Path) -> None:
    for path in data.iterdir():
        if path.is_file():
            content = path.read_bytes()
            assert str(ROOT).encode() not in content
            assert sys.prefix.encode() not in content


def test_library_needs_no_glibc_newer_than_2_17(library: lief.ELF.Binary) -> None:
    needed = {
        str(node.name) for version in library.symbols_version_requirement for node in version.get_auxiliary_symbols()
    }
    versions = {tuple(int(part) for part in name.removeprefix("GLIBC_").split(".")) for name in needed}
    assert versions
    assert max(versions) <= (2, 17)


def test_library_exports_our_functions_and_nothing_of_zstd(library: lief.ELF.Binary) -> None:
    exported = names(library)
    assert {"archiveopen", "hostprobe", "selectslice"} <= exported
    assert "main" not in exported
    assert not [name for name in exported if name.startswith(("ZSTD", "ZDICT", "FSE", "HUF"))]


def test_library_loads_and_answers(data: Path) -> None:
    ffi = cffi.FFI()
    ffi.cdef("uint32_t crc32(const void *, size_t);")
    library: Any = ffi.dlopen(str(data / "liblauncher.so"))
    assert library.crc32(b"123456789", 9) == 0xCBF43926


@pytest.mark.network
@pytest.mark.slow
def test_wheel_installs_where_there_is_no_compiler(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    binaries = tmp_path / "venv" / "bin"
    environment = {**os.environ, "PATH": str(binaries)}
    install = [str(binaries / "python"), "-m", "pip", "install", "--quiet", "--only-binary", ":all:", str(wheel)]
    subprocess.run(install, env=environment, check=True)
    for command in ("packer", "fatpar"):
        done = subprocess.run([binaries / command, "--version"], env=environment, stdout=subprocess.PIPE, check=False)
        assert (done.returncode, done.stdout.split()[-1]) == (0, wheel.name.split("-")[1].encode())
