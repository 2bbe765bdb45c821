"""packer/runtime.py and runtimes.py: what is captured runs elsewhere, and has what it should and no more."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest
from support.layers import root_of
from support.skips import skip_optional

from packer import facts, libraries, pythons, runtime, runtimes
from packer.errors import PackError, UsageError
from packer.model import EntryKind, LayerKind, Runtime, Target

if TYPE_CHECKING:
    from pathlib import Path

    from packer.pythons import Interpreter

# the launcher's code gets the same to read from every capture: what is sound, and what is damaged
native = pytest.mark.native


@pytest.fixture(scope="module")
def interpreter() -> Interpreter:
    """One of this machine's."""
    return next(one for one in pythons.find() if one.version >= (3, 9))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def captured(interpreter: Interpreter, cache: Path) -> Runtime:
    return runtime.capture(interpreter, cache)


def unpacked(one: Runtime, root: Path) -> Path:
    """Its files in a directory, as a launcher would put them there; the path of its program."""
    for entry in one.layer.entries:
        path = root / entry.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if entry.kind is EntryKind.LINK:
            path.symlink_to(entry.link)
        elif entry.source:
            path.write_bytes(entry.source.read_bytes())
            path.chmod(0o755 if entry.kind is EntryKind.EXEC else 0o644)
    return root / one.executable


@native
def test_what_is_captured(captured: Runtime, interpreter: Interpreter) -> None:
    assert (captured.tag, captured.version) == (interpreter.tag, interpreter.version)
    assert captured.layer.kind is LayerKind.INTERPRETER
    paths = {entry.path: entry.kind for entry in captured.layer.entries}
    assert paths[captured.executable] is EntryKind.EXEC
    assert paths["bin/python"] is paths["bin/python3"] is EntryKind.LINK
    assert not [path for path in paths if "/test/" in path or "site-packages" in path or "idlelib" in path]
    assert not [path for path in paths if path.endswith((".a", ".pyc"))]
    assert not [path for path in paths if path.endswith("customize.py")]
    names = ["os", "sys", "ssl", "xml.dom", "test", "idlelib", "no.such"]
    assert runtime.lacks(captured, names) == ["test", "idlelib", "no.such"]


def test_it_runs_elsewhere(captured: Runtime, interpreter: Interpreter, tmp_path: Path) -> None:
    program = unpacked(captured, tmp_path / "there")
    code = "import sys, ssl, sqlite3, ctypes, zlib, math; print(sys.prefix, *sys.version_info[:3])"
    done = subprocess.run([program, "-I", "-c", code], capture_output=True, text=True, check=False, env={})
    assert done.stderr == ""
    assert done.stdout.split() == [str(tmp_path / "there"), *map(str, interpreter.version)]
    code = "import ssl; print(*sorted({line.split()[-1] for line in open('/proc/self/maps') if '.so' in line}))"
    done = subprocess.run([program, "-I", "-c", code], capture_output=True, text=True, check=True, env={})
    foreign = {os.path.basename(path) for path in done.stdout.split() if not path.startswith(str(tmp_path))}
    assert not [name for name in foreign if name.startswith(("libssl", "libcrypto", "libpython"))]


def test_what_is_grafted_has_a_name_of_its_own(captured: Runtime) -> None:
    grafted = [entry.path for entry in captured.layer.entries if entry.path.startswith("lib/grafted/")]
    assert len(grafted) == len(captured.grafted)
    for soname in captured.grafted:
        assert f"lib/grafted/{soname}" not in grafted


def test_the_libraries_in_it_are_those_that_the_interpreter_has(captured: Runtime, interpreter: Interpreter) -> None:
    ask = "print(ssl.OPENSSL_VERSION.split()[1], sqlite3.sqlite_version, pyexpat.EXPAT_VERSION)"
    code = f"import pyexpat, sqlite3, ssl; {ask}"
    done = subprocess.run([interpreter.path, "-I", "-c", code], capture_output=True, text=True, check=True)
    openssl, sqlite, expat = done.stdout.split()
    found = libraries.of_tree(root_of(captured.layer), "", captured.layer.name)
    versions = {
        project: {one.version for one in found if one.project == project} for project in ("openssl", "sqlite", "expat")
    }
    assert versions == {"openssl": {openssl}, "sqlite": {sqlite}, "expat": {expat.removeprefix("expat_")}}
    assert {one.version for one in found if one.project == "cpython"} == {captured.full_version}


def test_it_is_captured_once(
    captured: Runtime, interpreter: Interpreter, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "_Capture", None)
    assert runtime.capture(interpreter, cache) == captured


def test_another_capture_has_the_same_bytes(captured: Runtime, interpreter: Interpreter, tmp_path: Path) -> None:
    assert runtime.capture(interpreter, tmp_path).layer.digest == captured.layer.digest


@pytest.mark.parametrize("below", ["python", "python/install"])
def test_an_archive_is_a_source(captured: Runtime, cache: Path, tmp_path: Path, below: str) -> None:
    """Laid out as python-build-standalone does it."""
    unpacked(captured, tmp_path / "prefix")
    with tarfile.open(tmp_path / "cpython.tar.gz", "w:gz", compresslevel=1) as tar:
        tar.add(tmp_path / "prefix", below)
    again = runtimes.capture(tmp_path / "cpython.tar.gz", cache)
    assert (again.layer.digest, again.grafted) == (captured.layer.digest, ())


@native
@pytest.mark.parametrize("damage", ["a bit", "its end", "the end of the tar"])
def test_a_damaged_archive_is_refused(captured: Runtime, cache: Path, tmp_path: Path, damage: str) -> None:
    """tarfile takes some of it for the end, and checks no sum."""
    unpacked(captured, tmp_path / "prefix")
    plain, archive = tmp_path / "cpython.tar", tmp_path / "cpython.tar.gz"
    with tarfile.open(plain, "w") as tar:
        tar.add(tmp_path / "prefix", "python")
    content = plain.read_bytes()
    if damage == "the end of the tar":
        content = content[: content.rindex(b"ustar") - 257]
    stored = bytearray(gzip.compress(content, 1))
    if damage == "a bit":
        stored[len(stored) // 2] ^= 1
    archive.write_bytes(stored[:-100] if damage == "its end" else stored)
    with pytest.raises(PackError, match=f"cannot unpack {re.escape(str(archive))}"):
        runtimes.capture(archive, cache)


def test_links_are_followed(interpreter: Interpreter, captured: Runtime, tmp_path: Path) -> None:
    """As stow and Nix make prefixes: every file is a link; and a directory leads to its parent."""
    unpacked(captured, tmp_path / "prefix")
    farm = tmp_path / "farm"
    subprocess.run(["cp", "-as", tmp_path / "prefix", farm], check=True)
    executable = farm / captured.executable
    executable.unlink()
    executable.write_bytes((tmp_path / "prefix" / captured.executable).read_bytes())
    executable.chmod(0o755)
    library = next(farm.glob("lib/python3*"))
    shutil.rmtree(library / "json")
    (library / "json").symlink_to(tmp_path / "prefix" / "lib" / library.name / "json")
    (library / "logging" / "loop").symlink_to(library)
    again = runtimes.capture(farm, tmp_path / "cache")
    paths = {entry.path for entry in again.layer.entries}
    assert {entry.path for entry in captured.layer.entries if "/python3" in entry.path} <= paths
    assert not any("/loop/" in path for path in paths)


def test_what_has_no_library_is_refused(captured: Runtime, tmp_path: Path) -> None:
    unpacked(captured, tmp_path / "prefix")
    for path in (tmp_path / "prefix").glob("lib/python3*/encodings/*.py"):
        path.write_text("")
    with pytest.raises(PackError, match=r"no CPython that runs here is in it|does not run here"):
        runtimes.capture(tmp_path / "prefix", tmp_path / "cache")


def test_what_no_slice_would_carry_is_refused(interpreter: Interpreter, cache: Path) -> None:
    other = Target(facts.pythons()[interpreter.tag].abi, facts.oldest_platform("musl", interpreter.arch))
    with pytest.raises(UsageError, match=f"it is for {interpreter.arch} and glibc"):
        runtimes.refuse_unused([other], {interpreter.tag: [interpreter.path]}, cache)


def test_added_ones_are_remembered(
    interpreter: Interpreter, captured: Runtime, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pythons, "find", lambda: ())
    assert runtimes.add(interpreter.path, cache) == captured
    ((found, source),) = runtimes.added(cache)
    assert (found, source) == (captured, str(interpreter.path))
    abi = facts.pythons()[captured.tag].abi
    target = Target(abi, facts.oldest_platform("glibc", interpreter.arch))
    assert runtimes.for_target(target, {}, cache) == captured


def test_what_was_not_added_is_not_known(cache: Path, tmp_path: Path) -> None:
    for name in ("cp399", "", str(tmp_path / "none")):
        with pytest.raises(UsageError, match=r"was added|there is no such file or directory"):
            runtimes.named(name, cache)


def test_a_change_of_what_it_was_captured_from_is_noticed(captured: Runtime, cache: Path, tmp_path: Path) -> None:
    unpacked(captured, tmp_path / "prefix")
    first = runtimes.capture(tmp_path / "prefix", cache)
    (library,) = (tmp_path / "prefix/lib").glob("python*/tarfile.py")
    library.write_text("changed = 1\n")
    assert runtimes.capture(tmp_path / "prefix", cache).layer.digest != first.layer.digest


@native
def test_damage_in_the_cache_is_found(captured: Runtime, interpreter: Interpreter, tmp_path: Path) -> None:
    place = runtime.place_of(interpreter, tmp_path)
    runtimes.add(interpreter.path, tmp_path)
    (place / "tree" / captured.executable).with_name("python").unlink()
    with pytest.raises(PackError, match="its files are not those that were captured"):
        runtime.capture(interpreter, tmp_path)
    with pytest.raises(PackError, match="is damaged"):
        list(runtimes.added(tmp_path))
    (place / "runtime.json").write_text("{")
    assert runtime.capture(interpreter, tmp_path).layer.digest == captured.layer.digest
    for path in (tmp_path / "runtimes/added").iterdir():
        path.write_text("[]")
        with pytest.raises(PackError, match=re.escape(f"{path} is damaged")):
            list(runtimes.added(tmp_path))


def test_mistakes(interpreter: Interpreter, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.tar.gz").write_bytes(b"no archive")
    for name, said in (
        ("none", "there is no such file or directory"),
        ("empty", "no CPython that runs here is in it"),
        ("broken.tar.gz", "cannot unpack"),
    ):
        with pytest.raises(PackError, match=said):
            runtimes.find(tmp_path / name, cache)
    target = Target(facts.pythons()["cp36m"].abi, facts.oldest_platform("glibc", interpreter.arch))
    with pytest.raises(UsageError, match=f"that is {interpreter.tag}"):
        runtimes.for_target(target, {"cp36m": [interpreter.path]}, cache)
    other = Target(facts.pythons()[interpreter.tag].abi, facts.oldest_platform("glibc", "aarch64"))
    with pytest.raises(PackError, match=r"no interpreter of .* for aarch64 and glibc to be carried"):
        runtimes.for_target(other, {interpreter.tag: [interpreter.path]}, cache)


def test_python_2_is_not_carried(cache: Path) -> None:
    old = next((one for one in pythons.find() if one.version < (3,)), None)
    if not old:
        skip_optional("no Python 2 is here")
    with pytest.raises(PackError, match=r"CPython before 3\.6 finds its library only where it was built"):
        runtime.capture(old, cache)
