"""packer/pythons.py: the interpreters of this machine are found, each once, and say what they are."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pytest

from packer import facts, pythons
from packer.model import Platform, Target
from packer.pythons import Interpreter
from packer.targets import running_target


def test_every_python_found_says_what_its_name_says() -> None:
    found = pythons.find()
    assert running_target().python.tag in {one.tag for one in found}
    assert len({one.path for one in found}) == len(found)
    for one in found:
        said = subprocess.run([one.path, "-V"], capture_output=True, text=True, check=True)
        assert (said.stdout + said.stderr).split()[1].rstrip("+").startswith(one.full_version)
        assert one.tag.startswith(f"cp{one.version[0]}{one.version[1]}")


def test_shims_stand_for_the_interpreters_beside_them(tmp_path: Path) -> None:
    own = Path(sys.executable).resolve()
    shims, installed = tmp_path / "shims", tmp_path / "versions" / "3.9.1" / "bin"
    shims.mkdir()
    installed.mkdir(parents=True)
    (shims / "python3").write_text("#!/bin/sh\nexit 1\n")
    (shims / "python3").chmod(0o755)
    (installed / "python3").symlink_to(own)
    directories = list(pythons._directories({"PATH": f"{shims}:relative:", "HOME": str(tmp_path)}))
    assert directories[:2] == [shims, installed]
    assert [one.path for one in pythons.search(directories[:2])] == [own]


@pytest.mark.parametrize("symlinks", [True, False])
def test_a_virtual_environment_counts_as_its_base(tmp_path: Path, symlinks: bool) -> None:
    venv.create(tmp_path / "env", symlinks=symlinks, with_pip=False)
    (found,) = pythons.search([tmp_path / "env" / "bin"])
    assert found.path == Path(sys.executable).resolve()


def test_what_does_not_run_or_is_no_python_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "python3").write_bytes(b"\x7fELF and nothing more")
    (tmp_path / "python3").chmod(0o755)
    (tmp_path / "python3.9").symlink_to(tmp_path / "nowhere")
    (tmp_path / "python2").symlink_to("/bin/ls")
    (tmp_path / "python3-config").symlink_to(sys.executable)
    assert pythons.search([tmp_path, tmp_path / "missing"]) == ()


def test_the_best_one_builds() -> None:
    def one(tag: str, micro: int, arch: str = "x86_64", libc: str = "glibc", headers: bool = True) -> Interpreter:
        return Interpreter(Path(f"/{tag}/{micro}/{arch}/{libc}/{headers}"), tag, (3, 9, micro), arch, libc, headers)

    target = Target(facts.pythons()["cp39"].abi, Platform("glibc", (2, 17), "x86_64"))
    plain, without_headers, musl, arm = (
        one("cp39", 1),
        one("cp39", 7, headers=False),
        one("cp39", 8, libc="musl"),
        one("cp39", 9, "aarch64"),
    )
    other = one("cp310", 0)
    assert pythons.interpreter_for(target, [other, musl, arm, without_headers, plain, one("cp39", 0)]) == plain
    assert pythons.interpreter_for(target, [musl, without_headers]) == without_headers
    assert pythons.interpreter_for(target, [other, musl]) == musl
    assert pythons.interpreter_for(target, [other]) is None
