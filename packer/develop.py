"""``packer run``: one slice of a program, packed in haste and kept while nothing that it is made of changes."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from packer import environment, files, layers, lock, pinned, pythons, targets, toolchain, worktree
from packer.blobs import Level
from packer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from packer.config import Config
    from packer.model import Target
    from packer.pack import Job
    from packer.progress import Progress


_OTHERS = ".others"
"""The file that lists which projects were built besides those that were named: their names are in what was built."""


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
            hint = f"there are {names}; --abis names others"
            raise UsageError(f"--slice {word}: no slice for this machine is called so", hint=hint)
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
    try:
        others = [Path(path) for path in json.loads((place / _OTHERS).read_text("utf-8", "surrogateescape"))]
    except (OSError, ValueError):
        return None
    made = _below(place, {path: worktree.digest(path) for path in others})
    for program in made.iterdir() if made.is_dir() else ():
        if program.is_file() and not program.name.startswith("."):
            os.utime(made)
            os.utime(place)
            return program
    return None


def pack(job: Job, config: Config, progress: Progress) -> Path:
    """Pack a program where :func:`kept` finds it; others may do the same meanwhile."""
    from packer import pack as stages

    files.sweep_unused(job.cache / "run")
    place = _place(job, config)
    with tempfile.TemporaryDirectory(dir=files.scratch(job.cache), prefix="run-") as work:
        packed = stages.pack(replace(job, output=Path(work, "program")), progress)
        named = {path.resolve() for path in _named(job, config)}
        others = {path: digest for path, digest in packed.directories.items() if path.resolve() not in named}
        made = _below(place, others)
        files.sweep_unused(place)
        made.mkdir(parents=True, exist_ok=True)
        with files.replacing(place / _OTHERS) as noted:
            noted.write(json.dumps([str(path) for path in others]).encode("utf-8", "surrogateescape"))
        program = made / packed.tools[0].name
        packed.written.path.replace(program)
    return program


def _below(place: Path, others: Mapping[Path, str]) -> Path:
    """Tell where the program is that was packed of projects that only other projects name."""
    said = "\0".join(f"{path}\0{digest}" for path, digest in others.items())
    return place / hashlib.sha256(said.encode("utf-8", "surrogateescape")).hexdigest()


def _place(job: Job, config: Config) -> Path:
    said = hashlib.sha256(_rules().encode())
    for text in [*_said(job, config), *_files(job, config)]:
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
    yield environment.digest()
    yield from pinned.settings()
    yield from pinned.named()
    yield job.lock_digest


def _files(job: Job, config: Config) -> Iterator[str]:
    """Give the digests of all files that the program is made of, but for what an index has."""
    for source, place in job.include:
        yield from (f"{one.path} {one.kind} {one.link} {one.sha256.hex()}" for one in layers.tree(source, place))
    for path in _named(job, config):
        if path.is_dir():
            yield worktree.digest(path)
        elif path.is_file():
            yield files.sha256(path).hex()


def _named(job: Job, config: Config) -> list[Path]:
    """Give the files and directories of distributions and requirements that were named."""
    words = [*job.requests.requirements, *job.requests.find_links, *(place for _, place in job.requests.level_wheels)]
    named = [path for word in words for path in pinned.local(word)]
    named += pinned.nested([*job.requests.files, *job.requests.constraints])
    named += filter(None, (job.script, config.profile))
    if job.lock:
        picks = lock.pick(job.lock, job.targets[0], job.lock.content.extras or ())
        named += [one.directory for one in picks if one.directory]
    return named
