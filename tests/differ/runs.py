"""Packs the program, makes a venv of the same wheels, and runs both."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from support.packing import ROOT, Place

from packer import facts, pythons, resolve
from packer.model import Platform, Target
from packer.requests import Requests

from . import shelf

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from packer.pythons import Interpreter

CACHE = ROOT / ".cache"
UPLOADED_BEFORE = "2026-11-01T00:00:00Z"


@dataclass(frozen=True)
class Packed:
    """The archive, and the wheels that are in it."""

    file: Path
    wheels: Mapping[str, tuple[Path, ...]]
    """By ABI tag."""


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    status: int
    stdout: str
    stderr: str


def interpreters(versions: Sequence[tuple[int, int]]) -> list[Interpreter]:
    """The Pythons of this machine that the launcher would find first, one of each version."""
    found = sorted(pythons.find(), key=lambda one: not str(one.path).startswith("/usr/bin/"))
    first = {one.version[:2]: one for one in reversed(found)}
    return [first[version] for version in versions if version in first]


def pack(place: Place, one: Interpreter) -> Packed:
    """Pack the program for an interpreter of this machine."""
    wheels = place.root / "shelf"
    wheels.mkdir()
    shelf.make(wheels, [one])
    output = place.root / "packed" / "bin" / "differ"
    output.parent.mkdir(parents=True)
    tags = f"manylinux2014,{one.tag}"
    environment = {"XDG_CACHE_HOME": str(CACHE), "PIP_UPLOADED_PRIOR_TO": UPLOADED_BEFORE}
    asked: list[str | Path] = [
        "fat",
        f"differ=={shelf.VERSION}",
        "--find-links",
        wheels,
        "--abis",
        tags,
        "-c",
        "differ",
        "--fast",
        "--json",
        "-o",
        output,
    ]
    described = json.loads(place.packed(*asked, env=environment).stdout)
    named = {
        one["name"].partition("-")[0]: tuple(
            _file(wheels, wheel["sha256"], wheel["wheel"]) for wheel in one["distributions"]
        )
        for one in described["manifest"]["slices"]
    }
    return Packed(output, named)


def _file(wheels: Path, digest: str, name: str) -> Path:
    """Where a wheel lies: on the shelf, or where the packer keeps what it fetched."""
    return wheels / name if (wheels / name).exists() else CACHE / "fatpar-packer" / "wheels" / digest / name


def pip_for(tag: str) -> Path:
    """The newest pip for a Python, as a wheel that runs as it is."""
    target = Target(facts.pythons()[tag].abi, Platform("glibc", (2, 17), "x86_64"))
    (found,) = resolve.resolve(Requests(("pip<26",)), [target], cache=CACHE / "fatpar-packer", progress=lambda _: None)
    return found.wheels[0].path


def make_venv(python: Path, tag: str, venv: Path, wheels: Sequence[Path]) -> None:
    """Make a venv as a user does, and install the wheels with pip."""
    subprocess.run([python, "-m", "venv", "--without-pip", venv], check=True)
    pip = f"import sys; sys.path.insert(0, {str(pip_for(tag))!r})\n"
    pip += "from pip._internal.cli.main import main; sys.exit(main())"
    install = [
        "install",
        "--no-index",
        "--no-deps",
        "--no-compile",
        "--no-cache-dir",
        "--quiet",
        "--disable-pip-version-check",
    ]
    subprocess.run(
        [venv / "bin/python", "-c", pip, *install, *wheels], env=os.environ, check=True, stderr=subprocess.PIPE
    )


@dataclass(frozen=True)
class Bench:
    """Where one interpreter runs the program in both ways."""

    interpreter: Interpreter
    packed: Packed
    root: Path

    @property
    def version(self) -> tuple[int, int]:
        """Of Python."""
        return self.interpreter.version[0], self.interpreter.version[1]

    @property
    def venv(self) -> Path:
        """The plain one."""
        return self.root / "venv"

    def make(self) -> None:
        """Make the venv, of the very interpreter that the launcher takes."""
        assert self.view.is_dir()
        make_venv(self.taken, self.interpreter.tag, self.venv, self.packed.wheels[self.interpreter.tag])

    @cached_property
    def view(self) -> Path:
        """The view, as the program sees it."""
        probe = self.root / "work" / "probe"
        for directory in (probe, self.root / "home"):
            directory.mkdir(parents=True)
        ended = self.run(self.packed.file, "child", "seen", cwd=probe)
        assert ended.status == 0, ended.stderr
        return Path(json.loads((probe / "seen.json").read_text())["sys"]["prefix"])

    @property
    def taken(self) -> Path:
        """The interpreter behind the view."""
        return (self.view / "bin/python").resolve()

    def run(self, program: Path, *arguments: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> Ended:
        """Run a program where the interpreter is found, in the same environment in both ways."""
        environment = {
            "PATH": f"{self.interpreter.path.parent}:/usr/bin:/bin", "HOME": str(self.root / "home"),
            "FATPAR_STORE": str(self.root / "store"), **(env or {}),
        }  # fmt: skip
        done = subprocess.run(
            [program, *arguments],
            cwd=cwd,
            env=environment,
            capture_output=True,
            check=False,
            timeout=300,
            stdin=subprocess.DEVNULL,
        )
        return Ended(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))

    def program(self, packed: bool) -> Path:
        """What the user calls."""
        return self.packed.file if packed else self.venv / "bin/differ"

    def words(self, packed: bool, work: Path) -> dict[str, str]:
        """The words that both ways have for their places."""
        prefix = self.view if packed else self.venv
        places = {str(self.program(packed)): "PROGRAM", str(work): "WORK", str(prefix): "PREFIX"}
        return {**places, str(self.root / "store"): "STORE"}
