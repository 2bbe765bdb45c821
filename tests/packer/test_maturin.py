"""packer/rust.py: what maturin is asked for, what is missing for it, and the tags of what it makes."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import os
import platform
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.archives import target
from support.packing import Place

from packer import rust
from packer.errors import PackError

if TYPE_CHECKING:
    from packer.model import Target

HERE = target("cp39", arch=platform.machine())
OTHER = target("cp39", arch="aarch64" if platform.machine() == "x86_64" else "x86_64")

INSTALL_RUST = "install Rust, from https://rustup.rs or as a package: apt-get install cargo"


def project(root: Path, settings: str = "", crate: str = "") -> Path:
    made = root / "made"
    made.mkdir(parents=True)
    system = '[build-system]\nrequires = ["maturin"]\nbuild-backend = "maturin"\n'
    (made / "pyproject.toml").write_text(f'{system}\n[project]\nname = "made"\nversion = "1"\n\n{settings}')
    (made / "Cargo.toml").write_text(f'[package]\nname = "made"\nversion = "1.0.0"\nedition = "2021"\n\n{crate}')
    return made


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All that is on PATH: what must be there, but a compiler that has libraries for this machine alone."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name, script in {"cargo": "", "maturin": "", "rustc": f'echo "{tmp_path}/lib/$4"'}.items():
        (directory / name).write_text(f"#!/bin/sh\n{script}\n")
        (directory / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(directory))
    monkeypatch.setattr(sys, "executable", str(directory / "python"))
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    return directory


def words(made: Path, one: Target, tmp_path: Path, cc: str = "") -> tuple[str, ...]:
    return rust.command(made, one, Path("/usr/bin/python3.9"), tmp_path / "wheels", tmp_path / "cache", cc).words[5:]


@pytest.mark.parametrize(
    ("settings", "crate", "needed"),
    [
        ('[tool.maturin]\nbindings = "cffi"\n', "", False),
        ('[tool.maturin]\nbindings = "bin"\n', "", False),
        ("", "", False),
        ("", '[dependencies]\npyo3 = "0.22"\n', True),
        ('[tool.maturin]\nbindings = "pyo3"\n', '[dependencies.pyo3]\nversion = "0.22"\n', True),
        ("", '[dependencies]\npyo3 = { version = "0.22", features = ["extension-module", "abi3-py37"] }\n', False),
        ('[tool.maturin]\nfeatures = ["pyo3/abi3"]\n', '[dependencies]\npyo3 = "0.22"\n', False),
        ('[tool.maturin]\nfeatures = ["pyo3/extension-module"]\n', '[dependencies]\npyo3 = "0.22"\n', True),
    ],
)
def test_an_interpreter_is_needed_for_one_version_alone(
    tmp_path: Path, tools: Path, settings: str, crate: str, needed: bool
) -> None:
    made = project(tmp_path, settings, crate)
    assert rust.is_project(made)
    assert rust.needs_interpreter(made, HERE) == needed
    assert not rust.needs_interpreter(made, OTHER)


def test_other_backends_and_broken_files_are_none_of_its_business(tmp_path: Path) -> None:
    assert not rust.is_project(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[build-system\n")
    assert not rust.is_project(tmp_path)
    (tmp_path / "pyproject.toml").write_text('[build-system]\nbuild-backend = "setuptools.build_meta"\n')
    assert not rust.is_project(tmp_path)


def test_what_maturin_is_asked_for(tmp_path: Path, tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = project(tmp_path, crate='[dependencies]\npyo3 = "0.22"\n')
    common = ("--manifest-path", str(made / "Cargo.toml"), "--compatibility", "manylinux_2_17", "--interpreter")
    assert words(made, HERE, tmp_path) == (*common, "/usr/bin/python3.9", "--zig")
    (made / "Cargo.lock").touch()
    (tmp_path / "lib" / f"{OTHER.platform.arch}-unknown-linux-gnu").mkdir(parents=True)
    (tmp_path / "lib" / f"{OTHER.platform.arch}-unknown-linux-gnu" / "libstd-1.rlib").touch()
    foreign = ("python3.9", "--locked", "--target", f"{OTHER.platform.arch}-unknown-linux-gnu", "--zig")
    assert words(made, OTHER, tmp_path) == (*common, *foreign)
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.17"))
    assert words(made, HERE, tmp_path) == (*common, "/usr/bin/python3.9", "--locked")


def test_the_user_says_what_links(tmp_path: Path, tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = project(tmp_path)
    common = ("--manifest-path", str(made / "Cargo.toml"), "--compatibility")
    python = ("--interpreter", "/usr/bin/python3.9")
    assert words(made, HERE, tmp_path, "host") == (*common, "linux", *python)
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.17"))
    assert words(made, HERE, tmp_path, "zig") == (*common, "manylinux_2_17", *python, "--zig")


def test_what_cargo_compiled_is_kept_while_it_is_used(tmp_path: Path, tools: Path) -> None:
    made = project(tmp_path)
    old, used = tmp_path / "cache/cargo/old", tmp_path / "cache/cargo/used"
    (old / "release").mkdir(parents=True)
    used.mkdir()
    words(made, HERE, tmp_path)
    (own,) = {*(tmp_path / "cache/cargo").iterdir()} - {old, used}
    (own / "a.rlib").touch()
    for place in (old, own):
        os.utime(place, (0, 0))
    words(made, HERE, tmp_path)
    assert {*(tmp_path / "cache/cargo").iterdir()} == {own, used}
    assert (own / "a.rlib").exists()


@pytest.mark.parametrize("tool", ["cargo", "rustc"])
def test_no_rust(tmp_path: Path, tools: Path, tool: str) -> None:
    (tools / tool).unlink()
    with pytest.raises(PackError, match=f"^building made takes Rust, and there is no {tool} on PATH$") as caught:
        words(project(tmp_path), HERE, tmp_path)
    assert caught.value.hint == INSTALL_RUST


def test_no_maturin(tmp_path: Path, tools: Path) -> None:
    (tools / "maturin").unlink()
    with pytest.raises(PackError, match=r"^building made takes maturin, which is not installed$") as caught:
        words(project(tmp_path), HERE, tmp_path)
    assert caught.value.hint == "it comes with pip install 'fatpar[rust]'"


def test_no_linker_for_an_older_glibc(tmp_path: Path, tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PackError, match=r"this machine's glibc is 2\.36, and manylinux_2_17 promises 2\.17$") as caught:
        words(project(tmp_path), HERE, tmp_path)
    assert caught.value.hint == "zig is one: pip install ziglang"


@pytest.mark.parametrize(
    ("libc", "triple", "more"),
    [
        ("glibc", f"{OTHER.platform.arch}-unknown-linux-gnu", ", or Debian's package libstd-rust-dev:"),
        ("musl", f"{OTHER.platform.arch}-unknown-linux-musl", ""),
    ],
)
def test_no_library_for_another_machine(tmp_path: Path, tools: Path, libc: str, triple: str, more: str) -> None:
    one = target("cp39", libc, (1, 2) if libc == "musl" else (2, 17), OTHER.platform.arch)
    with pytest.raises(PackError, match=f"Rust's standard library for {triple}, which is not installed$") as caught:
        words(project(tmp_path), one, tmp_path)
    assert caught.value.hint.startswith(f"rustup target add {triple}{more}")
    assert ("Debian" in caught.value.hint) == bool(more)


def test_a_user_is_told(tmp_path: Path) -> None:
    place = Place(tmp_path)
    project(place.work)
    ended = place.run("fat", "made", "--abis", "manylinux2014,cp39", env={"PATH": "/nonexistent"})
    told = "packer: building made takes Rust, and there is no cargo on PATH\n"
    assert ended.whole == (1, "", f"{told}packer: hint: {INSTALL_RUST}\n")


COMPILER = ["error[E0308]: mismatched types", " --> src/main.rs:2:17", "error: could not compile `made`"]
REPORT = ["\N{COLLISION SYMBOL} maturin failed", "  Caused by: it has no lib.rs"]


@pytest.mark.parametrize(
    ("lines", "why", "shown"),
    [
        ([*COMPILER, "", *REPORT], COMPILER[-1], COMPILER),
        (["Building", *REPORT], "Caused by: it has no lib.rs", ["Building", *REPORT]),
        ([], "maturin ended with -9", []),
    ],
    ids=["compiler", "maturin", "killed"],
)
def test_why_a_build_failed(lines: list[str], why: str, shown: list[str]) -> None:
    assert rust.failure(lines, -9) == (why, shown)


def wheel(directory: Path, requires: str) -> Path:
    """As maturin writes it, with a record of it."""
    files = {
        "made/__init__.py": b"",
        "made-1.dist-info/METADATA": f"Metadata-Version: 2.4\nName: made\nVersion: 1\n{requires}".encode(),
        "made-1.dist-info/WHEEL": b"Wheel-Version: 1.0\nTag: py3-none-manylinux_2_17_x86_64\nRoot-Is-Purelib: false\n",
    }
    record = "".join(f"{path},sha256={digest(content)},{len(content)}\n" for path, content in files.items())
    files["made-1.dist-info/RECORD"] = f"{record}made-1.dist-info/RECORD,,\n".encode()
    path = directory / "made-1-py3-none-manylinux_2_17_x86_64.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")


@pytest.mark.parametrize("requires", ["", "Requires-Python: >=3.7\n"])
def test_a_wheel_stays_as_it_is_unless_its_project_names_2_7(tmp_path: Path, requires: str) -> None:
    made = wheel(tmp_path, requires)
    before = made.read_bytes()
    assert rust.for_python2(made) == made
    assert (list(tmp_path.iterdir()), made.read_bytes()) == ([made], before)


def test_a_wheel_for_2_7(tmp_path: Path) -> None:
    made = rust.for_python2(wheel(tmp_path, "Requires-Python: >=2.7, !=3.0.*\n"))
    assert list(tmp_path.iterdir()) == [made]
    assert made.name == "made-1-py2.py3-none-manylinux_2_17_x86_64.whl"
    with zipfile.ZipFile(made) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    tags = b"Tag: py3-none-manylinux_2_17_x86_64\nTag: py2-none-manylinux_2_17_x86_64\n"
    assert contents["made-1.dist-info/WHEEL"] == b"Wheel-Version: 1.0\n" + tags + b"Root-Is-Purelib: false\n"
    for line in contents.pop("made-1.dist-info/RECORD").decode().splitlines()[:-1]:
        path, recorded, size = line.split(",")
        assert (recorded, int(size)) == (f"sha256={digest(contents[path])}", len(contents[path]))
