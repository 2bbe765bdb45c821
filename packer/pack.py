"""Packing from end to end: requirements and targets go in, one archive comes out.

Each step is a stage of its own; this file is the order in which they run.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import packer
from packer import archive, blobs, boot, files, layers, native, needs, resolve, view, wheels
from packer.errors import PackError, UsageError
from packer.model import Layer, LayerKind, Resolution, Slice, Target, Tool, Wheel

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from packer.progress import Progress

NamedTool = tuple[str, boot.EntryPoint | boot.Installed]
"""What the archive is when it is called by this name."""


@dataclass(frozen=True)
class Job:
    """Everything that decides what is packed."""

    requests: resolve.Requests
    targets: tuple[Target, ...]
    """Most preferred first."""
    script: Path | None
    """A program of one file."""
    tools: tuple[NamedTool, ...]
    """The first is the default; empty: the one command the requirements are there for."""
    include: tuple[tuple[Path, str], ...]
    """Files and directories, and where they go beside the program's modules."""
    output: Path | None
    """``None``: the first tool's name in the working directory."""
    cache: Path
    limit: float
    """Seconds that resolving and downloading may take per target."""
    fast: bool = False
    """Compress less."""


@dataclass(frozen=True)
class Packed:
    """What came of it."""

    written: archive.Written
    slices: tuple[Slice, ...]
    tools: tuple[Tool, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Installed:
    """A wheel's layer and what its metadata says."""

    layer: Layer
    requires_python: str | None
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Made:
    """A slice, its tools as it has them, and what the user should hear about it."""

    slice: Slice
    tools: tuple[Tool, ...]
    warnings: tuple[str, ...]


def pack(job: Job, progress: Progress) -> Packed:
    """Make the archive.

    :raises PackError: if a requirement, an entry point or a file stands in the way; nothing is left behind then.
    """
    machine = _machine(job.targets)
    if job.output:
        files.refuse_unwritable(job.output)
    resolutions = _resolve(job, progress)
    with tempfile.TemporaryDirectory(prefix="packer-") as name:
        work = Path(name)
        distinct = {wheel.sha256: wheel for one in resolutions for wheel in one.wheels}
        installed = {digest: _install(wheel, work, progress) for digest, wheel in distinct.items()}
        contents = [[installed[wheel.sha256] for wheel in one.wheels] for one in resolutions]
        tools = job.tools or (_default_tool(job, resolutions[0].wheels, contents[0]),)
        output = job.output or _default_output(tools[0][0])
        files.refuse_unwritable(output if output.parent.is_dir() else output.parent)
        made = []
        for one, content in zip(resolutions, contents, strict=True):
            progress.say(f"measuring {one.target.name}")
            made.append(_slice(job, tools, one.target, content, work / one.target.name))
        slices = tuple(one.slice for one in made)
        described = _same_tools(made)
        warnings = tuple(dict.fromkeys(text for one in made for text in one.warnings))
        progress.say("compressing")
        progress.total(blobs.raw_size([one.layers for one in slices]))
        launcher = native.data(f"launcher-{machine}")
        manifest = _manifest(described, resolutions, warnings)
        output.parent.mkdir(exist_ok=True)
        written = archive.write(output, launcher, slices, described, manifest, progress.advance, fast=job.fast)
    return Packed(written, slices, described, warnings, _notes(resolutions))


def _default_output(name: str) -> Path:
    """The tool's name; in ``dist`` where a directory has it already, as a project's package often has."""
    if not Path(name).is_dir():
        return Path(name)
    return Path("dist", name)


def _notes(resolutions: Sequence[Resolution]) -> tuple[str, ...]:
    """Tell where slices got different versions of what was asked for."""
    found: dict[str, dict[str, list[str]]] = {}
    for one in resolutions:
        for wheel in one.wheels:
            if wheel.requested:
                found.setdefault(wheel.distribution, {}).setdefault(wheel.version, []).append(one.target.name)
    return tuple(
        f"{name} is not the same everywhere: "
        + "; ".join(f"{version} for {', '.join(slices)}" for version, slices in versions.items())
        for name, versions in found.items()
        if len(versions) > 1
    )


def _machine(targets: Iterable[Target]) -> str:
    machines = sorted({target.platform.arch for target in targets})
    if len(machines) > 1:
        raise UsageError(f"one archive is for one architecture: {' and '.join(machines)} were asked for")
    return machines[0]


def _resolve(job: Job, progress: Progress) -> tuple[Resolution, ...]:
    if not job.requests.requirements and not job.requests.files:
        return tuple(Resolution(target, ()) for target in job.targets)
    progress.say("resolving")
    try:
        job.cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PackError(f"cannot make the cache {job.cache}: {error.strerror}", hint="set XDG_CACHE_HOME") from error
    return resolve.resolve(job.requests, job.targets, cache=job.cache, progress=progress.say, limit=job.limit)


def _install(wheel: Wheel, work: Path, progress: Progress) -> _Installed:
    name = wheel.path.name.removesuffix(".whl")
    progress.say(f"installing {name}")
    installed = wheels.install(wheel, work / "wheels" / wheel.sha256)
    layer = layers.layer(name, LayerKind.WHEEL, wheels.tree(installed.root))
    return _Installed(layer, installed.requires_python, installed.warnings)


def _default_tool(job: Job, chosen: Sequence[Wheel], installed: Sequence[_Installed]) -> NamedTool:
    """The command that a program is known for: of what was asked for the only one, or the one of the same name."""
    asked = [(wheel, one.layer) for wheel, one in zip(chosen, installed, strict=True) if wheel.requested]
    commands = boot.installed([layer for _, layer in asked])
    named = [name for name in commands if name in {wheel.distribution for wheel, _ in asked}]
    choice = named if len(commands) > 1 else list(commands)
    if job.output and job.output.name in commands:
        choice = [job.output.name]
    if len(choice) != 1:
        there = f"there is {', '.join(commands)}" if commands else "what is asked for installs none"
        raise UsageError("which command shall the archive be?", hint=f"say it with -c, -m or -e; {there}")
    return choice[0], boot.Installed(choice[0])


def _slice(job: Job, tools: Sequence[NamedTool], target: Target, installed: Sequence[_Installed], work: Path) -> _Made:
    """Put one slice together."""
    packages = [one.layer for one in installed]
    try:
        entries = [(name, boot.resolve(wanted, packages)) for name, wanted in tools]
    except UsageError as error:
        raise UsageError(f"{target.name}: {error}", error.hint) from error
    contents = [*packages, _app_layer(job, entries, work)]
    links, conflicts = view.links(contents, target)
    starts = [boot.start(entry) for _, entry in entries if not isinstance(entry, boot.Executable)]
    needed = needs.needs(target, contents, starts, [one.requires_python for one in installed if one.requires_python])
    warnings = [text for one in installed for text in one.warnings]
    warnings += [
        f"{one.path} comes with {one.loser} and, different, with {one.winner}: the latter is used" for one in conflicts
    ]
    return _Made(
        Slice(target, needed, tuple(contents), links, boot.flags(target)),
        tuple(boot.tool(name, entry) for name, entry in entries),
        tuple(warnings),
    )


def _app_layer(job: Job, entries: Iterable[tuple[str, boot.EntryPoint]], work: Path) -> Layer:
    """What belongs to this program alone: boot files, its script, what it includes."""
    places: list[tuple[Path, str]] = []
    for name, entry in entries:
        if isinstance(entry, boot.Executable):
            continue
        path = work / "boot" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(boot.boot_source(entry), "utf-8")
        path.chmod(0o644)
        places.append((path, f"boot/{name}.py"))
    if job.script:
        places.append((job.script, f"app/{job.script.name}"))
    beside = "app" if job.script else "lib/python/site-packages"
    places += [(source, f"{beside}/{destination}") for source, destination in job.include]
    return layers.read("app", LayerKind.APP, places)


def _same_tools(made: Sequence[_Made]) -> tuple[Tool, ...]:
    """A tool is the same kind of program in every slice: the launcher knows it before it knows the slice."""
    first, *others = made
    for other in others:
        for one, another in zip(first.tools, other.tools, strict=True):
            if one != another:
                names = f"{first.slice.target.name} and in {other.slice.target.name}"
                raise PackError(f"{one.name} is not the same kind of program in {names}: Python or not")
    return first.tools


def _manifest(tools: Iterable[Tool], resolutions: Iterable[Resolution], warnings: Iterable[str]) -> dict[str, object]:
    """What the archive says of itself, for people and programs that inspect it."""
    return {
        "version": 1,
        "packer": packer.__version__,
        "tools": [tool.name for tool in tools],
        "slices": [
            {"name": one.target.name, "distributions": [_distribution(wheel) for wheel in one.wheels]}
            for one in resolutions
        ],
        "warnings": list(warnings),
    }


def _distribution(wheel: Wheel) -> dict[str, str]:
    said = {"name": wheel.distribution, "version": wheel.version, "wheel": wheel.path.name, "sha256": wheel.sha256}
    return said | ({"built_from": wheel.built_from} if wheel.built_from else {})
