"""From what the user said to a job: every word is read, and what was not said is filled in."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from packer import boot, facts, lazy, lock, moment, profile, sources, targets
from packer.blobs import Level
from packer.config import merge, read
from packer.errors import UsageError
from packer.pack import Bytecode, Job
from packer.requests import Requests
from packer.toolchain import Building

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from packer.config import Config
    from packer.lock import Lock
    from packer.locking import Wanted
    from packer.model import Target
    from packer.pack import NamedTool

_PROJECT_FILES = ("pyproject.toml", "setup.py")

_BYTECODE = Bytecode.NONE
"""What is packed if nothing is said: all of it doubles an archive; ``bench/README.md`` has the figures."""

_NO_PATH = re.compile(r"[\w+-]+:/|[^/]+@")
"""A URL, or a requirement at one (``name @ URL``)."""


def with_project(spoken: Config) -> tuple[Config, Path | None]:
    """Add what a project says, where one is all that is named, or nothing is.

    :return: also the project's directory, if it says something.
    """
    if spoken.requirement or len(spoken.inputs) > 1:
        return spoken, None
    project = project_of(spoken.inputs[0]) if spoken.inputs else Path()
    written = read(project) if project else None
    if written is None:
        return spoken, None
    if not spoken.inputs and not written.inputs:
        written = replace(written, inputs=(str(project),))
    return merge(spoken, written), project


def job_of(
    config: Config,
    timeout: float,
    *,
    home: Path | None = None,
    beside: Collection[Path] = (),
    relocking: tuple[str, ...] | None = None,
) -> tuple[Job, tuple[str, ...]]:
    """Decide what is packed.

    :param home: the directory of the file that says what is packed; its revision is stated if no project is packed.
    :param beside: what is written to this directory or elsewhere by who runs this, and is no change of it.
    :param relocking: as :attr:`packer.lock.Lock.words`.
    :return: the job, and what the user should know of what was filled in.
    :raises UsageError: if a word is wrong, or they contradict each other.
    """
    locked = _lock(config, relocking)
    selection = _selection(config, locked)
    script = _script([word for word in config.inputs if _is_script(word)])
    requirements = tuple(_requirement(word) for word in config.inputs if not _is_script(word))
    if not (script or requirements or config.requirement or locked):
        raise UsageError("nothing to pack: no requirement, project directory or script", hint="see packer fat --help")
    _refuse_missing_files(config)
    _refuse_overwriting(config)
    tools = tuple(_tools(config, script))
    _refuse_repeats([name for name, _ in tools])
    bundle = bundle_of(config, selection.targets)
    known = profile.read(config.profile) if config.profile else None
    chosen, unchecked = _lazy(config, selection.targets, known)
    job = Job(
        requests=requests_of(config, requirements, selection.targets),
        lock=locked,
        targets=selection.targets,
        script=script,
        tools=tools,
        include=tuple(_include(word) for word in config.include),
        output=config.output,
        cache=cache(),
        limit=timeout,
        level=_level(config),
        bytecode=_bytecode(config),
        profile_runs=config.profile_run,
        profile=known,
        lazy=chosen,
        exclude=tuple(map(_pattern, config.exclude)),
        bundle=bundle,
        libc=libc_of(config, bundle),
        runtimes=_runtimes(config),
        trim=bool(config.trim),
        table=not config.plain_imports,
        accept=_accepted(config),
        building=_building(config),
        project=script or next(filter(None, map(project_of, config.inputs)), home),
        beside=tuple(beside),
        lock_digest=lock.digest(config.lock) if config.lock else "",
        epoch=moment.epoch(),
        labels=moment.labels(config.label),
    )  # fmt: skip
    return job, (*selection.notes, *(locked.notes if locked else ()), *unchecked)


def _building(config: Config) -> Building:
    """Read how wheels are built."""
    if config.cc not in (None, "zig", "host"):
        raise UsageError(f"not a --cc: {config.cc!r}", hint="zig or host")
    if config.cc and config.build_in:
        raise UsageError("--cc and --build-in: only one of them can be: an image has its own compiler")
    for path in config.interpreter:
        if not path.is_file():
            raise UsageError(f"--interpreter {path}: there is no such file", hint="name the executable itself")
    return Building(config.cc or "", config.build_in or "", config.interpreter, _accepted(config))


def _accepted(config: Config) -> frozenset[str]:
    return frozenset(map(canonicalize_name, config.accept))


def locking_of(config: Config, path: Path, old: Lock | None) -> tuple[Wanted, tuple[str, ...]]:
    """Decide what is locked; also what the user should know of what was filled in.

    :raises UsageError: as :func:`job_of`.
    """
    from packer.locking import Wanted

    if config.level_wheels:
        raise UsageError("level-wheels: a lock has one wheel for CPUs of all levels", hint="pack without a lock")
    selection = _selection(config, old)
    requirements = tuple(_requirement(word) for word in config.inputs if not _is_script(word))
    if not (requirements or config.requirement):
        raise UsageError("nothing to lock: no requirement or project directory", hint="see packer lock --help")
    _refuse_missing_files(config)
    requests = requests_of(config, requirements, selection.targets)
    return Wanted(requests, selection.targets, path, old, building=_building(config)), selection.notes


def as_of(text: str) -> str:
    """Read a date, which means its first moment in UTC, or a time; one without a zone is in UTC, too.

    :raises UsageError: if it is neither, or this pip cannot choose by it.
    """
    try:
        found = datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text))  # before 3.11 it knows no Z
    except ValueError:
        hint = "write 2024-03-01 or 2024-03-01T12:00:00Z"
        raise UsageError(f"not a date: {text!r}", hint) from None
    if not sources.knows_dates():
        raise UsageError("--as-of takes pip 26 or later, and this one is older", hint="python -m pip install -U pip")
    return (found if found.tzinfo else found.replace(tzinfo=timezone.utc)).isoformat()


def requests_of(config: Config, requirements: tuple[str, ...], chosen: Sequence[Target]) -> Requests:
    """Put what pip is asked into its words."""
    return Requests(
        requirements, config.requirement, config.constraint, config.find_links, config.index_url,
        config.extra_index_url, bool(config.no_index), _level_wheels(config, chosen),
    )  # fmt: skip


def index_of(config: Config) -> tuple[str, ...]:
    """Give the options that say where distributions come from, as they can be shown."""
    return requests_of(replace(config, level_wheels=()), (), ()).public_options()


def _lock(config: Config, relocking: tuple[str, ...] | None) -> Lock | None:
    """Read the lock; what it has was chosen, so nothing else is."""
    if config.lock is None:
        return None
    if config.level_wheels:
        raise UsageError(
            "--lock and --level-wheels: a lock has one wheel for CPUs of all levels", hint="pack without a lock"
        )
    return replace(lock.read(config.lock, relocking), index=index_of(config) if relocking is None else ())


def _selection(config: Config, locked: Lock | None) -> targets.Selection:
    """Decide for what is packed: what was said, else what was locked, else the running Python."""
    running = targets.running_target()
    slices = locked.texts("slices") if locked else ()
    if config.abis is None and slices:
        archs = config.arch or facts.architectures()
        kept = [name for name in slices if targets.target_of(name).platform.arch in archs]
        if not kept:
            raise UsageError(f"{config.lock} has nothing for {', '.join(config.arch)}", f"it has {', '.join(slices)}")
        return targets.parse_abis(",".join(kept), arch=[], running=running)
    abis = running.python.tag if config.abis is None else config.abis
    selection = targets.parse_abis(abis, arch=list(config.arch), running=running)
    default = () if config.abis is not None else (f"no --abis: packing for the running Python, {abis}",)
    return replace(selection, notes=(*default, *selection.notes))


def bundle_of(config: Config, chosen: Sequence[Target]) -> frozenset[str]:
    """Read for which Python tags an interpreter is carried; to name one is to ask for it."""
    tags = list(dict.fromkeys(target.python.tag for target in chosen))
    words = [word.strip() for word in (config.bundle or "").split(",") if word.strip()]
    for word in config.runtime:
        if not re.fullmatch("[^=]+=.+", word):
            raise UsageError(f"not a --runtime: {word!r}: write TAG=SOURCE, as cp313=/opt/python")
    asked = {*words, *(word.partition("=")[0] for word in config.runtime)}
    for word in asked - {"all", *tags}:
        raise UsageError(f"no slice is packed for {word}, so none can carry it", hint=f"there are {', '.join(tags)}")
    can = [target.python.tag for target in chosen if target.python.version >= (3, 6)]
    for tag in asked - {"all", *can}:
        raise UsageError(f"{tag} cannot be carried: only CPython 3.6 and newer can")
    return frozenset(can if "all" in asked else asked)


def _runtimes(config: Config) -> dict[str, tuple[Path, ...]]:
    named: dict[str, tuple[Path, ...]] = {}
    for word in config.runtime:
        tag, _, source = word.partition("=")
        named[tag] = (*named.get(tag, ()), Path(source))
    return named


def libc_of(config: Config, bundle: Collection[str]) -> bool:
    """Read whether C libraries are brought along."""
    if config.libc not in (None, "host", "bundled"):
        raise UsageError(f"not a --libc: {config.libc!r}", hint="host or bundled")
    if config.libc == "bundled" and not bundle:
        raise UsageError("--libc bundled: no slice carries its interpreter", hint="--bundle says which do")
    return config.libc == "bundled"


def _level_wheels(config: Config, chosen: Sequence[Target]) -> tuple[tuple[int, str], ...]:
    """Read where the wheels for CPU levels are."""
    found = []
    for word in config.level_wheels:
        said = re.fullmatch("v([0-9]+)=(.+)", word)
        if not said:
            raise UsageError(f"not a --level-wheels: {word!r}: write LEVEL=DIR, as v3=wheels-v3")
        if int(said[1]) not in {target.platform.level for target in chosen}:
            hint = f"--abis manylinux2014_x86_64_v{said[1]} packs one"
            raise UsageError(f"--level-wheels {word}: no slice is for that level", hint)
        if not os.path.isdir(said[2]):
            raise UsageError(f"cannot read {said[2]}: there is no such directory")
        found.append((int(said[1]), said[2]))
    return tuple(found)


def _pattern(word: str) -> str:
    if not word:
        raise UsageError("--exclude '': an empty pattern matches nothing")
    return word


def _bytecode(config: Config) -> Bytecode:
    for run in config.profile_run:
        try:
            shlex.split(run)
        except ValueError as error:
            raise UsageError(f"--profile-run {run!r}: {error}") from None
    default = Bytecode.USED if config.profile_run or config.profile else _BYTECODE
    try:
        policy = Bytecode(config.bytecode or default.value)
    except ValueError:
        raise UsageError(f"not a policy for bytecode: {config.bytecode!r}", hint="all, used or none") from None
    if (policy is Bytecode.USED) != bool(config.profile_run) and not (config.profile and not config.profile_run):
        raise UsageError(
            f"--bytecode {policy.value} and {'a' if config.profile_run else 'no'} --profile-run",
            hint="--bytecode used is what a recorded run imports: --profile-run 'ARGUMENTS'",
        )
    return policy


def _lazy(
    config: Config, chosen: Sequence[Target], known: profile.Profile | None
) -> tuple[dict[str, lazy.Lazy], tuple[str, ...]]:
    """Read which imports are lazy, by Python tag, and what the user should know of tags that were not checked."""
    mode = config.lazy_imports
    if mode not in (None, "all", "profile", "off"):
        raise UsageError(f"not a --lazy-imports: {mode!r}", hint="all, profile or off")
    tags = list(dict.fromkeys(one.python.tag for one in chosen if lazy.has(one.python)))
    if mode in ("all", "profile") and not tags:
        raise UsageError(
            f"--lazy-imports {mode}: no slice is for a Python that has them", hint="3.15 is the first: --abis cp315"
        )
    if mode == "all":
        return dict.fromkeys(tags, lazy.Lazy()), ()
    if mode == "profile" and not known:
        raise UsageError(
            "--lazy-imports profile and no --profile", hint="packer profile FILE --check COMMAND writes one"
        )
    checked: dict[str, lazy.Lazy] = {tag: known.lazy[tag] for tag in tags if known and tag in known.lazy}
    missing = ", ".join(tag for tag in tags if tag not in checked)
    if mode == "profile" and not checked:
        raise UsageError(
            f"--lazy-imports profile: {config.profile} was not checked with {missing}",
            hint=f"packer profile FILE --check COMMAND -o {config.profile}, where {tags[0]} runs",
        )
    if mode == "off" or not checked:
        return {}, ()
    return checked, (
        f"imports are not lazy for {missing}: {config.profile} was not checked with it",
    ) if missing else ()


def _level(config: Config) -> Level:
    if config.fast and config.small:
        raise UsageError("--fast and --small: only one of them can be")
    return Level.FAST if config.fast else Level.SMALL if config.small else Level.DEFAULT


def _is_script(word: str) -> bool:
    return word.endswith(".py")


def _script(words: Sequence[str]) -> Path | None:
    if len(words) > 1:
        raise UsageError(f"{words[0]} and {words[1]}: a program has one script", hint="add the other with --include")
    if not words:
        return None
    if not os.path.isfile(words[0]):
        raise UsageError(f"no script {words[0]}: there is no such file")
    return Path(words[0])


def project_of(word: str) -> Path | None:
    """The project directory that a word means, ``DIRECTORY`` or ``DIRECTORY[extras]``.

    One that does not look like a path is a requirement if it could be, as with pip: a directory that happens to be
    called ``flask`` must hold a project to be meant.
    """
    path = _without_extras(word)
    holds_project = any((path / name).exists() for name in _PROJECT_FILES)
    return path if path.is_dir() and (_looks_like_path(word) or holds_project) else None


def _without_extras(word: str) -> Path:
    """Give the path of ``PATH[extras] ; marker``."""
    return Path(re.sub(r"(\[[^\]/]*\])?( *;.*)?$", "", word))


def _requirement(word: str) -> str:
    """A requirement as pip takes it: what is a path must look like one, or pip asks the index for it."""
    return f"./{word}" if project_of(word) and not _looks_like_path(word) else word


def _looks_like_path(word: str) -> bool:
    """Tell whether pip would take a word for a path; ``name @ URL`` and a URL are none."""
    return (os.sep in word or word.startswith(".")) and not _NO_PATH.match(word)


def _refuse_missing_files(config: Config) -> None:
    """Say at once what pip would find out later, and for every slice again."""
    local = [word for word in config.inputs if not _NO_PATH.match(word)]
    paths = [word for word in local if _looks_like_path(word) or word.endswith(".whl")]
    places = [Path(place) for place in config.find_links if not re.match(r"[\w+-]+:", place)]
    for path in [*map(_without_extras, paths), *config.requirement, *config.constraint, *places]:
        if not path.exists():
            raise UsageError(f"cannot read {path}: there is no such file or directory")
    for path in map(_without_extras, paths):
        if path.is_dir() and not any((path / name).exists() for name in _PROJECT_FILES):
            hint = "name the directory of the project"
            if next(path.glob("*.whl"), None):
                hint = f"for a wheel in it: NAME --find-links {path}"
            raise UsageError(f"{path} is no project: it has neither {' nor '.join(_PROJECT_FILES)}", hint)


def _refuse_overwriting(config: Config) -> None:
    """Let no slip of the hand replace what is packed by what it is packed into."""
    files = [*config.inputs, *map(str, config.requirement), *(word.rpartition(":")[0] for word in config.include)]
    for source in [*files, *([str(config.lock)] if config.lock else [])]:
        if config.output and config.output.exists() and os.path.exists(source) and config.output.samefile(source):
            raise UsageError(f"{config.output} is both what is packed and where it would be written")


def _tools(config: Config, script: Path | None) -> Iterator[NamedTool]:
    """The program itself first, then the tools named besides."""
    name = config.output.name if config.output else ""
    said = [word for word in (config.entry, config.module, config.console_script) if word]
    if script and said:
        raise UsageError(f"{script} and {said[0]}: only one of them can be what runs")
    if script:
        yield name or script.stem, boot.Script(f"app/{script.name}")
    if config.entry:
        function = boot.parse_function(config.entry)
        yield name or function.module.partition(".")[0], function
    if config.module:
        module = boot.parse_module(config.module)
        yield name or module.module.partition(".")[0], module
    if config.console_script:
        yield config.console_script, boot.Installed(config.console_script)
    for word in config.tool:
        yield boot.parse_tool(word)


def _refuse_repeats(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two tools are called {name!r}")


def _include(word: str) -> tuple[Path, str]:
    source, colon, destination = word.rpartition(":")
    parts = Path(destination).parts
    if not colon or not source or not parts or Path(destination).is_absolute() or ".." in parts:
        raise UsageError(f"not an --include: {word!r}: write SRC:DEST, DEST relative to the program's modules")
    if not os.path.exists(source):
        raise UsageError(f"cannot include {source}: there is no such file or directory")
    return Path(source), "/".join(parts)


def cache() -> Path:
    """The packer's own cache: wheels that were fetched and built."""
    base, home = os.environ.get("XDG_CACHE_HOME", ""), os.environ.get("HOME", "")
    if os.path.isabs(base):
        return Path(base) / "fatpar-packer"
    if os.path.isabs(home):  # nobody else is asked: the user may be in no user database
        return Path(home) / ".cache" / "fatpar-packer"
    raise UsageError("no place for the cache: HOME is not set", hint="set XDG_CACHE_HOME")
