"""packer/graft.py: a changed ELF file says what it should, is loaded, and nothing else of it is another."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import lief
import pytest
from support.elf import elf

from packer import elfread, graft
from packer.errors import PackError

if TYPE_CHECKING:
    from pathlib import Path

CHANGE = graft.Change("$ORIGIN/../grafted", {"libfoo.so.1": "libfoo-1234abcd.so.1"})


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    path.chmod(0o755)
    return path


def with_run_path(content: bytes, work: Path) -> bytes:
    """What lief says must be right after all of it is there before."""
    binary = lief.ELF.parse(list(content))
    assert binary
    binary.add(lief.ELF.DynamicEntryRunPath("/before"))
    binary.add(lief.ELF.DynamicEntryRpath("/before"))
    binary.write(str(work))
    changed = work.read_bytes()
    work.unlink()
    return changed


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_names_and_run_path_are_changed(tmp_path: Path, machine: str) -> None:
    content = elf(
        ("libfoo.so.1", "FOO_1.0", "FOO_1.1"), "libbar.so.2", soname="libmine.so", exports=("mine",), machine=machine
    )
    source, output = write(tmp_path / "source", with_run_path(content, tmp_path / "run-path")), tmp_path / "output"
    content = source.read_bytes()
    graft.graft(source, output, graft.Change(CHANGE.rpath, CHANGE.needed, "libmine-9.so"))
    read = elfread.read("layer", "output", output, b"")
    assert read
    assert set(read.needed) == {"libfoo-1234abcd.so.1", "libbar.so.2"}
    assert set(read.nodes) == {("libfoo-1234abcd.so.1", "FOO_1.0"), ("libfoo-1234abcd.so.1", "FOO_1.1")}
    assert read.soname == "libmine-9.so"
    binary = lief.ELF.parse(str(output))
    assert binary
    tags = [entry.tag for entry in binary.dynamic_entries]
    assert tags.count(lief.ELF.DynamicEntry.TAG.RPATH) == 1
    assert lief.ELF.DynamicEntry.TAG.RUNPATH not in tags
    assert graft.run_path(output) == ((tmp_path / "../grafted", True),)
    assert os.stat(output).st_mode & 0o777 == 0o755
    assert source.read_bytes() == content
    assert sorted(os.listdir(tmp_path)) == ["output", "source"]


def test_an_aarch64_file_suits_large_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no room, too, and all is moved."""
    monkeypatch.setattr(lief.ELF.Binary, "relocate_phdr_table", lambda _binary, _type: 0)
    source = write(tmp_path / "source", elf("libfoo.so.1", exports=("mine",), machine="aarch64"))
    graft.graft(source, tmp_path / "output", CHANGE)
    binary = lief.ELF.parse(str(tmp_path / "output"))
    assert binary
    loads = [one for one in binary.segments if one.type is lief.ELF.Segment.TYPE.LOAD]
    assert loads
    assert all((one.virtual_address - one.file_offset) % 0x10000 == 0 for one in loads)


def test_the_same_bytes_come_out_every_time(tmp_path: Path) -> None:
    source = write(tmp_path / "source", elf(("libfoo.so.1", "FOO_1.0"), exports=("mine",)))
    for name in ("a", "b"):
        graft.graft(source, tmp_path / name, CHANGE)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != source.read_bytes()


def test_a_changed_file_is_loaded_with_its_library(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "grafted").mkdir()
    library = write(tmp_path / "libfoo.so.1", elf(soname="libfoo.so.1", exports=("from_0_0",)))
    module = write(tmp_path / "module.so", elf("libfoo.so.1", exports=("mine",)))
    graft.graft(library, tmp_path / "grafted/libfoo-1234abcd.so.1", graft.Change("$ORIGIN", {}, "libfoo-1234abcd.so.1"))
    graft.graft(module, tmp_path / "lib/module.so", CHANGE)
    library.unlink()
    code = "import ctypes, sys; print(ctypes.CDLL(sys.argv[1]).mine())"
    for path, status in ((tmp_path / "lib/module.so", 0), (module, 1)):
        done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stderr


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", b"\x7fELF" + b"\xff" * 80])
def test_what_is_no_elf_file_is_refused(tmp_path: Path, content: bytes) -> None:
    source = write(tmp_path / "source", content)
    with pytest.raises(PackError, match=r"cannot read .*source: it is no executable or shared object"):
        graft.graft(source, tmp_path / "output", CHANGE)
    assert sorted(os.listdir(tmp_path)) == ["source"]


def test_what_lief_writes_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says of no failure: an empty file, or one that says something else."""
    source = write(tmp_path / "source", elf("libfoo.so.1", exports=("mine",)))
    monkeypatch.setattr(graft, "_change", lambda _binary, _change: None)
    with pytest.raises(PackError, match=r"cannot graft .*source: what lief writes says something else than it should"):
        graft.graft(source, tmp_path / "output", CHANGE)
    assert sorted(os.listdir(tmp_path)) == ["source"]


# Debugging information ------------------------------------------------------------------------------------------


def compiled(path: Path, *options: str) -> Path:
    """A shared object with a function and data."""
    path.with_suffix(".c").write_text("int value = 42;\nint answer(void) { return value; }\n")
    words = [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-linux-musl", "-shared", "-nostdlib", *options]
    subprocess.run([*words, "-o", path, path.with_suffix(".c")], check=True, capture_output=True)
    return path


def test_a_copy_has_no_debugging_information_and_loads(tmp_path: Path) -> None:
    source, output = compiled(tmp_path / "with.so", "-g"), tmp_path / "without.so"
    graft.copy(source, output)
    assert output.stat().st_size < source.stat().st_size
    assert b"answer" in output.read_bytes()
    read = lief.ELF.parse(output)
    assert read
    assert len(read.sections) == 0
    assert ctypes.CDLL(str(output)).answer() == 42
    again = tmp_path / "again.so"
    graft.graft(output, again, graft.Change("$ORIGIN/libraries"))
    assert ctypes.CDLL(str(again)).answer() == 42


def test_a_copy_of_what_has_none_is_the_same(tmp_path: Path) -> None:
    source, text = compiled(tmp_path / "plain.so", "-g0", "-s"), tmp_path / "text.py"
    text.write_text("print()\n")
    for one in (source, text):
        graft.copy(one, tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == one.read_bytes()
