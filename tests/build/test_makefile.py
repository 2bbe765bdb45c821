"""The Makefile's choice of a Python, on a fresh machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A directory for PATH with no Python and no apt-get, only what the recipe itself calls."""
    directory = tmp_path / "path"
    directory.mkdir()
    tool = shutil.which("id")
    assert tool is not None
    (directory / "id").symlink_to(tool)
    return directory


def script(path: Path, text: str) -> None:
    """Write a shell script."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def make(path: Path, venv: Path, *variables: str) -> subprocess.CompletedProcess[str]:
    """Have the Makefile create an environment."""
    tool = shutil.which("make")
    assert tool is not None
    command = [tool, "--silent", f"VENV={venv}", *variables, f"{venv}/bin/python"]
    environment = {**os.environ, "PATH": str(path)}
    # of a `make test` that runs this: its variables and its jobs are not ours
    for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "PYTHON"):
        environment.pop(name, None)
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_name_that_cannot_run_is_passed_over(path: Path, tmp_path: Path) -> None:
    script(path / "python3.13", 'echo "python3.13: not installed" >&2; exit 127')
    script(path / "python3", f'exec {sys.executable} "$@"')
    done = make(path, tmp_path / "venv")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "venv" / "bin" / "pip").exists()


def test_named_python_comes_first(path: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    script(path / "mine", f'echo "$0" >>{log}; exec {sys.executable} "$@"')
    script(path / "python3", "exit 1")
    assert make(path, tmp_path / "venv", f"PYTHON={path}/mine").returncode == 0
    assert set(log.read_text().split()) == {f"{path}/mine"}


def test_no_python_is_said_with_a_way_out(path: Path, tmp_path: Path) -> None:
    script(path / "python3", f'exec {sys.executable} -c "raise SystemExit(1)"')
    done = make(path, tmp_path / "venv", "PYTHONS=python3")
    assert done.returncode == 2
    assert done.stderr.splitlines()[:2] == [
        f"make: cannot make {tmp_path}/venv: none of python3 is Python 3.10 or newer with venv and ensurepip",
        "make: hint: apt-get install python3-venv, or make PYTHON=...",
    ]
    assert not (tmp_path / "venv").exists()
