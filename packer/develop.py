"""``packer run``: one slice of a program, packed in haste and kept while nothing that it is made of changes."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from packer import pythons, targets, toolchain, worktree
from packer.blobs import Level
from packer.errors import UsageError
from packer.files import sha256
from packer.job import project_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from packer.config import Config
    from packer.model import Target
    from packer.pack import Job
    from packer.progress import Progress

_KEPT_FOR = 30 * 24 * 3600


def choose(asked: Sequence[Target], word: str | None) -> Target:
    """Choose the slice that runs.

    :param word: a slice's name or Python tag; ``None``: the first for which an interpreter is here.
    :raises UsageError: if there is none.
    """
    here = toolchain.machine()
    names = ", ".join(one.name for one in asked)
    fitting = [one for one in asked if (one.platform.arch, one.platform.libc) == (here.arch, here.libc)]
    if word is not None:
        tag = targets.python_tag(word)
        called = [one for one in fitting if word == one.name or tag == one.python.tag]
        if not called:
            raise UsageError(f"--slice {word}: no slice for this machine is called so", hint=f"there are {names}")
        return called[0]
    found = next(filter(pythons.runs_here, fitting), None)
    if not found:
        raise UsageError(f"no slice has an interpreter on this machine: {names}", hint="--abis says which are packed")
    return found


def job_for(job: Job, target: Target) -> Job:
    """Leave of a job one slice, without what takes time and changes nothing of how it runs here."""
    from packer.pack import Bytecode

    return replace(
        job, targets=(target,), level=Level.FAST, bytecode=Bytecode.NONE, profile_runs=(), bundle=frozenset(),
        runtimes={}, libc=False,
    )  # fmt: skip


def kept(job: Job, config: Config) -> Path | None:
    """Give the program that was packed for the same job from the same files."""
    place = _place(job, config)
    for program in place.iterdir() if place.is_dir() else ():
        if program.is_file() and not program.name.startswith("."):
            os.utime(place)
            return program
    return None


def pack(job: Job, config: Config, progress: Progress) -> Path:
    """Pack a program where :func:`kept` finds it."""
    from packer import pack as stages

    _sweep(job.cache / "run")
    place = _place(job, config)
    place.mkdir(parents=True, exist_ok=True)
    packed = stages.pack(replace(job, output=place / ".program"), progress)
    program = place / packed.tools[0].name
    packed.written.path.replace(program)
    return program


def _sweep(runs: Path) -> None:
    for place in runs.glob("*"):
        if place.stat().st_mtime < time.time() - _KEPT_FOR:
            shutil.rmtree(place, ignore_errors=True)


def _place(job: Job, config: Config) -> Path:
    said = hashlib.sha256(_rules().encode())
    for text in [*_said(job, config), *_files(job)]:
        said.update(text.encode("utf-8", "surrogateescape") + b"\0")
    return job.cache / "run" / said.hexdigest()


@functools.cache
def _rules() -> str:
    """Name the packer itself, which has a say."""
    ours = sorted(Path(__file__).parent.rglob("*.py"))
    return " ".join(f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in ours)


def _said(job: Job, config: Config) -> Iterator[str]:
    yield job.targets[0].name
    yield repr(config)
    yield os.getcwd()  # what paths count from
    yield toolchain.choose(job.targets[0], "host" if job.building.image else job.building.cc).key
    yield from (f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("PIP_"))


def _files(job: Job) -> Iterator[str]:
    """Give the digests of all files that are named."""
    named = [project_of(word) or Path(word) for word in job.requests.requirements]
    named += [*job.requests.files, *job.requests.constraints, *(source for source, _ in job.include)]
    named += [Path(place) for place in job.requests.find_links]
    named += [Path(place) for _, place in job.requests.level_wheels]
    named += [job.script] if job.script else []
    for path in named:
        if path.is_dir():
            yield worktree.digest(path)
        elif path.is_file():
            yield sha256(path).hex()
