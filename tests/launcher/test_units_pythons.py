"""What the launcher reads from an interpreter's file is what the interpreter says of itself."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lief
import pytest
from support import archives
from support.native import lib, new, text

from packer import native
from packer.model import Need, NeedKind
from packer.reader import reading

pytestmark = pytest.mark.native

ASK = """
import json, sys, sysconfig
get = sysconfig.get_config_var
print(json.dumps({
    "version": sys.version_info[:3], "hexversion": sys.hexversion, "unicode": sys.maxunicode,
    "debug": bool(get("Py_DEBUG")), "threads": bool(get("Py_GIL_DISABLED")), "soabi": get("SOABI"),
    "library": get("LIBDIR") + "/" + get("INSTSONAME") if get("Py_ENABLE_SHARED") else None,
    "stdlib": sysconfig.get_path("stdlib"), "own": sys.prefix == getattr(sys, "base_prefix", sys.prefix),
}))
"""


@dataclass(frozen=True)
class Interpreter:
    """One that runs on this machine, and what it answers."""

    path: Path
    said: dict[str, Any]

    @property
    def tag(self) -> str:
        """Python ABI tag, as PEP 425 and its successors have it."""
        major, minor, _ = self.said["version"]
        if major == 2:
            flags = "mu" if self.said["unicode"] > 0xFFFF else "m"
        else:
            flags = "m" if minor < 8 else "t" if self.said["threads"] else ""
        return f"cp{major}{minor}{flags}"

    @property
    def file(self) -> str:
        """What has Python's code in it. Debian's interpreters say that they are shared and are not."""
        binary = lief.ELF.parse(str(self.path))
        assert binary
        linked = any(str(name).startswith("libpython") for name in binary.libraries)
        return self.said["library"] if linked else str(self.path)


@functools.cache
def interpreters() -> tuple[Interpreter, ...]:
    """All on this machine: in PATH and the system's directories, and behind directories of shims."""
    named = (os.path.dirname(sys.executable), *os.environ["PATH"].split(":"), "/usr/bin", "/usr/local/bin")
    places = [Path(place) for place in named]
    shims = [place.parent for place in places if place.name == "shims"]
    places += [child / "bin" for root in shims for child in (root / "versions").glob("*")]
    names = ["python", "python2", "python3", "python2.7", *(f"python3.{minor}" for minor in range(3, 20))]
    real = {(place / name).resolve() for place in places for name in names if os.access(place / name, os.X_OK)}
    return tuple(Interpreter(path, said) for path in sorted(real) if (said := ask(path)))


def ask(path: Path) -> dict[str, Any]:
    """What an interpreter says; nothing if it is a script or does not run."""
    if path.read_bytes()[:4] != b"\x7fELF":
        return {}
    done = subprocess.run((path, "-E", "-S", "-c", ASK), capture_output=True, text=True, check=False)
    said: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
    return said


def identify(path: str) -> tuple[str, int] | None:
    """Tag and version from a file."""
    elf, tag, version = new("struct elf *"), new("char[16]"), new("uint32_t *")
    assert lib().elfopen(elf, os.fsencode(path)) == lib().ELF_OK
    try:
        return None if lib().pythonidentify(elf, tag, version) else (text(tag), int(version[0]))
    finally:
        lib().elfclose(elf)


def test_the_python_of_this_test_is_among_them() -> None:
    assert Path(sys.executable).resolve() in [one.path for one in interpreters()]


def test_tag_and_version() -> None:
    for one in interpreters():
        if one.said["debug"]:
            assert identify(one.file) is None, one.path
            continue
        # from 3.11 on the file tells the whole version, before that the minor one
        version = one.said["hexversion"] if one.said["version"] >= [3, 11] else one.said["hexversion"] >> 16 << 16
        assert identify(one.file) == (one.tag, version), one.path
        if one.said["soabi"]:
            # cpython-36m-x86_64-linux-gnu: from 3.2 on SOABI knows the same flags
            assert one.tag[2:] == one.said["soabi"].split("-")[1], one.path


def test_what_is_no_python() -> None:
    for path in (Path("/bin/sh"), *map(native.data, ("liblauncher.so", "launcher-x86_64", "launcher-aarch64"))):
        assert identify(str(path)) is None, path


# Finding them ---------------------------------------------------------------------------------------------------


def asking(tmp_path: Path, *more: Need) -> Path:
    """An archive with a slice for each ABI that is on this machine."""
    tags = tuple(dict.fromkeys(one.tag for one in interpreters()))
    (tmp_path / "work").mkdir()
    return archives.write(tmp_path / "app", tmp_path / "work", {"app.py": ""}, tags=tags, more=more)


def found(path: Path) -> dict[str, Any]:
    """The pythons of this machine as the launcher finds them on PATH: real path -> (tag, version, stdlib, lacks)."""
    host = new("struct host *")
    with reading(path) as archive:
        lib().hostprobe(host, archive.pointer)
        lib().hostprobepath(host, archive.pointer)
        result = {}
        for i in range(host.python_count):
            one = host.pythons[i]
            lacks = [text(pointer) for pointer in one.lacks[0 : one.lack_count]]
            result[text(one.real)] = text(one.abi), one.version, text(one.stdlib), lacks
        lib().hostfree(host)
    return result


def test_every_interpreter_on_path_is_found_with_its_standard_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But those inside an environment; each with the whole version, since the archive asks for one."""
    directories = dict.fromkeys(str(one.path.parent) for one in interpreters())
    monkeypatch.setenv("PATH", ":".join(["relative/bin", "", "/nowhere", *directories]))
    usable = [one for one in interpreters() if not one.said["debug"] and one.said["own"]]
    pythons = found(asking(tmp_path, Need(NeedKind.PYTHON_NOT, number=0x030000F0)))
    assert {str(one.path) for one in usable} <= pythons.keys()
    for one in usable:
        tag, version, stdlib, lacks = pythons[str(one.path)]
        assert (tag, version >> 8) == (one.tag, one.said["hexversion"] >> 8)
        assert Path(stdlib).samefile(one.said["stdlib"])
        assert lacks == []


def test_missing_parts_of_the_standard_library_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).resolve().parent))
    modules = ("os", "json", "no_such_module", "neither", "no_such_module")
    pythons = found(asking(tmp_path, *(Need(NeedKind.STDLIB, module) for module in modules)))
    assert pythons[str(Path(sys.executable).resolve())][3] == ["no_such_module", "neither"]


def test_scripts_and_environments_are_no_interpreters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path(sys.executable).resolve()
    for name in ("script", "venv/bin", "conda/bin", "conda/conda-meta"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "script" / "python3").write_text("#!/bin/sh\n")
    (tmp_path / "script" / "python3").chmod(0o755)
    (tmp_path / "venv" / "pyvenv.cfg").write_text("home = /nowhere\n")
    for name in ("venv", "conda"):
        (tmp_path / name / "bin" / "python3").write_bytes(real.read_bytes())
        (tmp_path / name / "bin" / "python3").chmod(0o755)
    monkeypatch.setenv("PATH", ":".join(str(tmp_path / name) for name in ("script", "venv/bin", "conda/bin")))
    assert not [path for path in found(asking(tmp_path)) if path.startswith(str(tmp_path))]


def test_the_link_of_a_venv_leads_to_its_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path(sys.executable).resolve()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").symlink_to(real)
    (tmp_path / "pyvenv.cfg").write_text(f"home = {real.parent}\n")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert str(real) in found(asking(tmp_path))
