"""Packing from end to end: requirements and targets go in, one archive comes out.

Each step is a stage of its own; this file is the order in which they run.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from packer import (
    archive,
    binaries,
    boot,
    bytecode,
    claims,
    explain,
    facts,
    files,
    imports,
    layers,
    layout,
    lazy,
    modules,
    moment,
    native,
    needs,
    profile,
    pythons,
    resolve,
    revision,
    trim,
    view,
)
from packer.blobs import Level
from packer.cache import Cache
from packer.errors import PackError, UsageError
from packer.installed import Installed, install
from packer.model import Layer, LayerKind, Resolution, Runtime, Slice, Target, Tool, Wheel
from packer.toolchain import Building

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from packer.lock import Lock
    from packer.progress import Progress
    from packer.requests import Requests


class Bytecode(Enum):
    """Which modules' bytecode is packed."""

    ALL = "all"
    USED = "used"
    """By the runs of ``--profile-run``, or those in the profile."""
    NONE = "none"


NamedTool = tuple[str, boot.EntryPoint | boot.Installed]
"""What the archive is when it is called by this name."""


@dataclass(frozen=True)
class Job:
    """Everything that decides what is packed."""

    requests: Requests
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
    into: Path | None = None
    """The directory where it is written instead."""
    lock: Lock | None = None
    """Says which wheels; nothing is resolved then."""
    level: Level = Level.DEFAULT
    bytecode: Bytecode = Bytecode.NONE
    profile_runs: tuple[str, ...] = ()
    """Arguments of the recorded runs, quoted as for a shell."""
    profile: profile.Profile | None = None
    """What was recorded before."""
    lazy: Mapping[str, lazy.Lazy] = field(default_factory=dict)
    """Which imports are lazy, by Python tag; the others' are not."""
    exclude: tuple[str, ...] = ()
    """Patterns of what is left out of wheels."""
    bundle: frozenset[str] = frozenset()
    """Python ABI tags for which an interpreter is carried, too."""
    runtimes: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    """Of these, what the user named to be carried."""
    libc: bool = False
    """Bring the C library of these, too."""
    trim: bool = False
    """Leave out what nobody runs, too."""
    table: bool = True
    """Bring the table by which modules are found."""
    accept: frozenset[str] = frozenset()
    """Distributions (normalised) that may need more of a host than their wheels' tags claim."""
    project: Path | None = None
    """What is packed, or says what is: its revision is stated."""
    beside: tuple[Path, ...] = ()
    """What others write meanwhile."""
    lock_digest: str = ""
    """Of the lock file."""
    epoch: int | None = None
    """SOURCE_DATE_EPOCH."""
    labels: Mapping[str, str] = field(default_factory=dict)
    building: Building = field(default_factory=Building)
    """How wheels are built of sources."""


@dataclass(frozen=True)
class Packed:
    """What came of it."""

    written: archive.Written
    output: Path
    """Where it belongs."""
    slices: tuple[Slice, ...]
    tools: tuple[Tool, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    directories: Mapping[Path, str]
    """The projects that were built for it, and the digests of what they were."""


@dataclass(frozen=True)
class _Made:
    """A slice, its tools as it has them, and what the user should hear about it."""

    slice: Slice
    tools: tuple[Tool, ...]
    warnings: tuple[str, ...]
    accepted: frozenset[str]
    """Of the distributions that may need more than they claim, those that do."""


@dataclass(frozen=True)
class _Compiled:
    """Slices with their bytecode."""

    slices: tuple[Slice, ...]
    by: Mapping[str, str]
    """Name of the slice -> version of the interpreter that compiled."""
    notes: tuple[str, ...]


def pack(job: Job, progress: Progress) -> Packed:
    """Make the archive.

    :raises PackError: if a requirement, an entry point or a file stands in the way; nothing is left behind then.
    """
    if job.output:
        files.refuse_unwritable(job.output)
    resolutions = _resolve(job, progress)
    with files.working() as work:
        distinct = {wheel.sha256: wheel for one in resolutions for wheel in one.wheels}
        trimmed = {digest: _install(job, wheel, progress) for digest, wheel in distinct.items()}
        installed = {digest: one for digest, (one, _) in trimmed.items()}
        left_out = {distinct[digest].path.name: list(paths) for digest, (_, paths) in trimmed.items() if paths}
        contents = [[installed[wheel.sha256] for wheel in one.wheels] for one in resolutions]
        tools = job.tools or (_default_tool(job, resolutions[0].wheels, contents[0]),)
        output = job.output or _default_output(tools[0][0])
        files.refuse_unwritable(output if output.parent.is_dir() else output.parent)
        carried = _runtimes(job, progress)
        made = []
        for one, content, runtime in _wanted(resolutions, contents, carried):
            progress.say(f"measuring {one.target.name}")
            try:
                made.append(_slice(job, tools, one.target, content, work / one.target.name, runtime))
            except PackError as error:
                if left_out and not error.hint:
                    error.hint = "was it left out by --exclude or --trim?"
                raise
        slices = tuple(one.slice for one in made)
        described = boot.titled(_same_tools(made), (layer for one in slices for layer in one.layers))
        warnings = tuple(dict.fromkeys(text for one in made for text in one.warnings))
        missed = trim.unused(job.exclude, [path for paths in left_out.values() for path in paths])
        warnings += tuple(_unused_levels(job, resolutions))
        idle = sorted(job.accept.difference(*(one.accepted for one in made)))
        warnings += tuple(f"--accept {name}: no wheel of it needs more than it claims" for name in idle)
        warnings += tuple(f"--exclude {pattern!r} matches no file" for pattern in missed)
        warnings += tuple(
            f"the Python carried for {one.tag} lacks {', '.join(one.missing)}"
            for one in carried[False].values()
            if one.missing
        )
        machines = dict.fromkeys(target.platform.arch for target in job.targets)
        launchers = {machine: native.data(f"launcher-{machine}") for machine in machines}
        compiled = _compile(job, slices, described, launchers, work, progress)
        slices = compiled.slices
        stated, unknown = _moment(job, output)
        manifest = _manifest(slices, described, resolutions, warnings) | _choices(job, compiled, left_out) | stated
        progress.say("compressing")
        progress.total(layout.raw_size([one.layers for one in slices]))
        if job.into is None:
            output.parent.mkdir(exist_ok=True)
        written = archive.write(
            job.into / output.name if job.into else output, launchers, slices, described, manifest, progress.advance,
            level=job.level, own=_own(slices, resolutions, installed), cache=Cache(job.cache / "blobs"),
        )  # fmt: skip
        for kept in ("blobs", "read", "resolved"):
            Cache(job.cache / kept).sweep()
    trimmed_note = _trimmed_note(left_out) if left_out else ()
    took = tuple(
        f"carried for {target.name}{', with its C library' if libc else ''}: "
        f"CPython {one.full_version}, {one.layer.size:,} bytes"
        for libc, found in carried.items()
        for target, one in found.items()
    )
    notes = (*_notes(resolutions), *unknown, *took, *compiled.notes, *trimmed_note, *_excluded(written.path, slices))
    directories = {path: digest for one in resolutions for path, digest in one.directories}
    return Packed(written, output, slices, described, warnings, notes, directories)


def _excluded(path: Path, slices: Sequence[Slice]) -> Iterator[str]:
    """Say which known hosts a carried interpreter does not run on: it has a libc's age that no tag tells."""
    if not any(one.runtime for one in slices):
        return
    known = explain.on_known_hosts(path, [one.name for one in slices])
    for number, one in enumerate(slices):
        if one.runtime:
            behind = [
                known[later] for later, other in enumerate(slices) if later > number and other.target == one.target
            ]
            refusals = {
                name: reasons for name, reasons in known[number].items()
                if reasons and all(other[name] for other in behind)
            }  # fmt: skip
            if refusals:
                missed = Counter(reasons[0].partition(", found ")[0] for reasons in refusals.values())
                said = ", ".join(f"{what.removeprefix('needs ')} ({hosts})" for what, hosts in missed.most_common())
                yield (
                    f"{one.name} does not run on {len(refusals)} of {len(known[number])} known hosts: it needs {said}; "
                    f"packer matrix {path} --predict names them"
                )


def _unused_levels(job: Job, resolutions: Iterable[Resolution]) -> Iterator[str]:
    """Say of which directories of wheels for a CPU level none was chosen."""
    for level, place in job.requests.level_wheels:
        there = {files.sha256(path).hex() for path in Path(place).glob("*.whl")}
        chosen = {wheel.sha256 for one in resolutions if one.target.platform.level == level for wheel in one.wheels}
        if not there & chosen:
            tag = next(one.target.platform.tag for one in resolutions if one.target.platform.level == level)
            yield f"--level-wheels v{level}={place}: none of its wheels was chosen; is one tagged {tag} or older there?"


def _trimmed_note(left_out: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    files = sum(map(len, left_out.values()))
    return (f"left out of {len(left_out)} wheels: {files:,} files; packer inspect --json lists them",)


def _compile(
    job: Job, slices: tuple[Slice, ...], tools: Sequence[Tool], launchers: Mapping[str, Path], work: Path,
    progress: Progress,
) -> _Compiled:  # fmt: skip
    """Follow the policy for bytecode."""
    if job.bytecode is Bytecode.NONE:
        return _Compiled(slices, {}, ())
    wanted, strange = None, False
    if job.bytecode is Bytecode.USED:
        wanted = set(_profile(job, slices, tools, launchers, work, progress).paths)
        packed = {entry.path for one in slices for layer in one.layers for entry in layer.entries}
        strange = job.profile is not None and not wanted & packed
    compiled = _with_bytecode(job, slices, wanted, progress)
    note = "no module of the profile is packed: is it another program's?"
    return replace(compiled, notes=(*compiled.notes, note)) if strange else compiled


def _profile(
    job: Job, slices: Sequence[Slice], tools: Sequence[Tool], launchers: Mapping[str, Path], work: Path,
    progress: Progress,
) -> profile.Profile:  # fmt: skip
    """Give what was recorded before, and what is recorded now."""
    known = job.profile or profile.Profile()
    if not job.profile_runs:
        return known
    progress.say("recording what is imported")
    place = work / "profile"
    place.mkdir()
    return profile.merged(known, profile.record(job.profile_runs, slices, tools, launchers, place, job.limit))


def _choices(job: Job, compiled: _Compiled, left_out: Mapping[str, Sequence[str]]) -> dict[str, object]:
    """Say in the manifest what is another in this archive than in the wheels."""
    said: dict[str, object] = {"bytecode": {"policy": job.bytecode.value, "compiled_by": dict(compiled.by)}}
    said |= {"accepted": sorted(job.accept)} if job.accept else {}
    said |= {"lazy_imports": {tag: _lazy_word(one) for tag, one in job.lazy.items()}} if job.lazy else {}
    return said | ({"left_out": left_out} if left_out else {})


def _moment(job: Job, output: Path) -> tuple[dict[str, object], tuple[str, ...]]:
    """Say of what it is made."""
    found, unknown = revision.of(job.project, [output, *job.beside]) if job.project else (None, "")
    said = moment.said(job.lock_digest, job.epoch, found, job.labels)
    return said, (unknown,) if unknown else ()


def _lazy_word(one: lazy.Lazy) -> str:
    return "profile" if one.importers else "all"


def _own(slices: Iterable[Slice], resolutions: Iterable[Resolution], installed: Mapping[str, Installed]) -> set[bytes]:
    """Give the digests of layers that hold what is worked on: the app, and wheels built from a project directory."""
    built = [wheel for one in resolutions for wheel in one.wheels if wheel.built_from and wheel.requested]
    app = [layer for one in slices for layer in one.layers if layer.kind is LayerKind.APP]
    return {layer.digest for layer in [*app, *(installed[wheel.sha256].layer for wheel in built)]}


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


def _resolve(job: Job, progress: Progress) -> tuple[Resolution, ...]:
    if not job.requests.requirements and not job.requests.files and not job.lock:
        return tuple(Resolution(target, ()) for target in job.targets)
    progress.say("fetching what is locked" if job.lock else "resolving")
    try:
        job.cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PackError(f"cannot make the cache {job.cache}: {error.strerror}", hint="set XDG_CACHE_HOME") from error
    if job.lock:
        from packer import locked

        return locked.take(
            job.lock, job.requests, job.targets, cache=job.cache, progress=progress.say, limit=job.limit,
            building=job.building,
        )  # fmt: skip
    return resolve.resolve(
        job.requests, job.targets, cache=job.cache, progress=progress.say, limit=job.limit, building=job.building
    )


def _install(job: Job, wheel: Wheel, progress: Progress) -> tuple[Installed, tuple[str, ...]]:
    """Install a wheel and leave out what was asked to be; also the paths that were left out."""
    progress.say(f"installing {wheel.path.name.removesuffix('.whl')}")
    installed = install(wheel, job.cache)
    layer, left_out = trim.trim(installed.layer, (*job.exclude, *(trim.NOBODY_RUNS if job.trim else ())))
    return replace(installed, layer=layer), left_out


def _with_bytecode(job: Job, slices: Sequence[Slice], wanted: Collection[str] | None, progress: Progress) -> _Compiled:
    """Add bytecode to the slices whose Python is on this machine.

    :param wanted: the modules to be compiled, by their paths in layers; ``None``: all.
    """
    here = pythons.find()
    compiled, by, missing = [], {}, []
    for one in slices:
        interpreter = pythons.interpreter_for(one.target, here)
        if not facts.pythons()[one.target.python.tag].venv:
            compiled.append(one)
        elif interpreter is None:
            missing.append(one.target.python.tag)
            compiled.append(one)
        else:
            progress.say(f"compiling for {one.target.python.tag}")
            made = bytecode.compile_layers(
                one.layers, one.target.python, interpreter, job.cache, None if wanted is None else wanted.__contains__
            )
            compiled.append(replace(one, layers=(*one.layers, *made.values())))
            by[one.name] = interpreter.full_version
    note = f"no interpreter here for {', '.join(dict.fromkeys(missing))}: its bytecode is made at first launches"
    return _Compiled(tuple(compiled), by, (note,) if missing else ())


def _default_tool(job: Job, chosen: Sequence[Wheel], installed: Sequence[Installed]) -> NamedTool:
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


_Carried = dict[bool, dict[Target, Runtime]]
"""Without and with their C library, the interpreters of targets."""


def _runtimes(job: Job, progress: Progress) -> _Carried:
    """Capture the interpreters that are carried."""
    if job.runtimes:
        from packer import runtimes

        runtimes.refuse_unused(job.targets, job.runtimes, job.cache)
    captured: _Carried = {libc: {} for libc in (False, True)[: 1 + job.libc]}
    for target in job.targets:
        for libc, found in captured.items():
            if target.python.tag in job.bundle:
                from packer import runtimes  # loads lief, which takes longer than packing again

                progress.say(f"capturing an interpreter for {target.name}")
                found[target] = runtimes.for_target(target, job.runtimes, job.cache, libc=libc)
    return captured


def _wanted(
    resolutions: Sequence[Resolution], contents: Sequence[Sequence[Installed]], carried: _Carried
) -> Iterator[tuple[Resolution, Sequence[Installed], Runtime | None]]:
    """Give all slices in the order of preference."""
    found = list(carried.values())
    for number, brings in preferred([one.target for one in resolutions], found):
        runtime = found[brings - 1][resolutions[number].target] if brings else None
        yield resolutions[number], contents[number], runtime


def preferred(targets: Sequence[Target], carried: Sequence[Collection[Target]]) -> Iterator[tuple[int, int]]:
    """Give the order of preference: a host's own Python is there already, its C library gets repaired.

    :param carried: targets that carry their interpreter, and those that bring its C library, too.
    :return: numbers of targets, and how much they bring: 0 nothing, 1 the interpreter, 2 the C library as well.
    """
    for brings, those in enumerate((targets, *carried)):
        yield from ((number, brings) for number, target in enumerate(targets) if target in those)


def _slice(
    job: Job, tools: Sequence[NamedTool], target: Target, installed: Sequence[Installed], work: Path,
    runtime: Runtime | None,
) -> _Made:  # fmt: skip
    """Put one slice together."""
    packages = [one.layer for one in installed]
    try:
        entries = [(name, boot.resolve(wanted, packages)) for name, wanted in tools]
    except UsageError as error:
        raise UsageError(f"{target.name}: {error}", error.hint) from error
    starts = [boot.start(entry) for _, entry in entries if not isinstance(entry, boot.Executable)]
    kept = Cache(job.cache / "read")
    contents = [*packages, _app_layer(job, entries, starts, target, packages, work, kept)]
    links, conflicts = view.links(contents, target, runtime)
    requires = [one.requires_python for one in installed if one.requires_python]
    if runtime:
        contents.append(runtime.layer)
    judged = needs.judge(binaries.report(contents, kept), target)
    accepted = claims.refuse(claims.excess(judged, target.platform), job.accept)
    needed = needs.needs(target, contents, starts, requires, kept, runtime)
    warnings = [text for one in installed for text in one.warnings]
    warnings += [
        f"{one.path} comes with {one.loser} and, different, with {one.winner}: the latter is used" for one in conflicts
    ]
    return _Made(
        Slice(target, needed, tuple(contents), links, boot.flags(target), runtime),
        tuple(boot.tool(name, entry) for name, entry in entries),
        tuple(warnings),
        accepted,
    )


def _app_layer(
    job: Job, entries: Iterable[tuple[str, boot.EntryPoint]], starts: Sequence[str], target: Target,
    packages: Sequence[Layer], work: Path, kept: Cache,
) -> Layer:  # fmt: skip
    """What belongs to this program alone: its script, what it includes, the table of all modules, boot files."""
    beside = "app" if job.script else "lib/python/site-packages"
    places = [(job.script, f"app/{job.script.name}")] if job.script else []
    places += [(source, f"{beside}/{destination}") for source, destination in job.include]
    boots = work / "boot"
    boots.mkdir(parents=True, exist_ok=True)  # a slice that carries its interpreter has the same
    program = [*packages, layers.read("app", LayerKind.APP, places)]
    table = b""
    if job.table:
        table = modules.table(program, target, lambda: len(imports.stdlib_imports(target, program, starts, kept)))
    if table:
        places += [(_written(boots / "modules", table), modules.PATH), *modules.readers()]
    for name, entry in entries:
        if not isinstance(entry, boot.Executable):
            own = isinstance(entry, boot.Script) and entry.path.startswith("app/") and job.script
            source = boot.boot_source(entry, table=bool(table), kept=bool(own and boot.is_quiet(own)))
            source = lazy.entered(source) if job.lazy else source
            places.append((_written(boots / f"{name}.py", source.encode()), f"boot/{name}.py"))
            if job.lazy:
                choices = lazy.source(job.lazy).encode()
                places.append((_written(boots / f"{name}.lazy", choices), f"boot/{name}.lazy"))
    return layers.read("app", LayerKind.APP, places)


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    path.chmod(0o644)
    return path


def _same_tools(made: Sequence[_Made]) -> tuple[Tool, ...]:
    """A tool is the same kind of program in every slice: the launcher knows it before it knows the slice."""
    first, *others = made
    for other in others:
        for one, another in zip(first.tools, other.tools, strict=True):
            if one != another:
                names = f"{first.slice.target.name} and in {other.slice.target.name}"
                raise PackError(f"{one.name} is not the same kind of program in {names}: Python or not")
    return first.tools


def _manifest(
    slices: Iterable[Slice], tools: Iterable[Tool], resolutions: Iterable[Resolution], warnings: Iterable[str]
) -> dict[str, object]:
    """What the archive says of itself, for people and programs that inspect it."""
    wheels = {one.target.name: one.wheels for one in resolutions}
    return {
        "version": 1,
        "tools": [tool.name for tool in tools],
        "slices": [
            {"name": one.name, "distributions": list(map(_distribution, wheels[one.target.name]))} | _carried(one)
            for one in slices
        ],
        "warnings": list(warnings),
    }


def _carried(one: Slice) -> dict[str, object]:
    if not one.runtime:
        return {}
    said = {"version": one.runtime.full_version, "grafted": one.runtime.grafted, "missing": one.runtime.missing}
    return {"interpreter": said}


def _distribution(wheel: Wheel) -> dict[str, str]:
    said = {"name": wheel.distribution, "version": wheel.version, "wheel": wheel.path.name, "sha256": wheel.sha256}
    return said | ({"built_from": wheel.built_from} if wheel.built_from else {})
