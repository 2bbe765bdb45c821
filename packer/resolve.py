"""Requirements -> wheels at hand, for each target by itself: pip decides, for the target's Python and platform.

Nothing of the Python that runs this has a say: neither its version, nor its markers, nor what is installed.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from packaging.utils import InvalidSdistFilename, InvalidWheelFilename, parse_sdist_filename, parse_wheel_filename

from packer import pinned, pipchild, process
from packer.cache import Cache
from packer.errors import PackError
from packer.files import scratch, sha256
from packer.model import Resolution, Target, Wheel
from packer.sources import Builder, NoInterpreterError, keep
from packer.targets import wheel_tags
from packer.toolchain import Building

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from packaging.tags import Tag
    from packaging.version import Version

    from packer.requests import Requests

_T = TypeVar("_T")

_AT_ONCE = 2
"""Targets that are resolved at the same time: pip waits for the network half of its time."""

_AS_NEEDED = Building()

_PYTHON = "<Python from Requires-Python>"
"""What pip calls the Python itself where it is required."""


def resolve(
    requests: Requests,
    targets: Sequence[Target],
    *,
    cache: Path,
    progress: Callable[[str], None],
    limit: float = 600.0,
    building: Building = _AS_NEEDED,
) -> tuple[Resolution, ...]:
    """Choose and fetch the wheels of every target; different targets may get different versions.

    Where nothing but a source distribution meets a requirement, it is built by an interpreter of the
    target's ABI, if there is one on this machine.

    :param cache: directory that keeps what was fetched and built; made if need be.
    :param progress: gets a line now and then, never two at a time, but from several threads.
    :param limit: seconds for each run of pip and each build.
    :param building: how wheels are built.
    :return: in the order of ``targets``.
    :raises PackError: with the reasons of every target that failed.
    """
    work = partial(_resolve_target, requests)
    return for_each(work, requests, targets, cache=cache, progress=progress, limit=limit, building=building)


@dataclass(frozen=True)
class Choice:
    """What pip chose for a target, and what else there is of it."""

    resolution: Resolution
    chosen: tuple[pipchild.Chosen, ...]
    """In the order of the wheels."""


@dataclass(frozen=True)
class Bounds:
    """What limits the choice for one target beside the requirements."""

    kept: Mapping[str, str] = field(default_factory=dict)
    """Versions that are preferred, by normalised name."""
    only: Mapping[str, str] = field(default_factory=dict)
    """Versions that are the only ones."""


def choose(
    requests: Requests,
    targets: Sequence[Target],
    bounds: Mapping[Target, Bounds],
    *,
    cache: Path,
    progress: Callable[[str], None],
    limit: float = 600.0,
    building: Building = _AS_NEEDED,
) -> tuple[Choice, ...]:
    """Do as :func:`resolve`, asking pip each time, and tell of all files of the versions that were chosen."""

    def choose_one(target: Target, builder: Builder, run: Run) -> Choice:
        return _ask_pip(requests, target, builder, run, bounds.get(target, Bounds()), offered=True)

    return for_each(choose_one, requests, targets, cache=cache, progress=progress, limit=limit, building=building)


def for_each(
    work: Callable[[Target, Builder, Run], _T],
    requests: Requests,
    targets: Sequence[Target],
    *,
    cache: Path,
    progress: Callable[[str], None],
    limit: float,
    building: Building,
) -> tuple[_T, ...]:
    """Do something for every target, some at a time; the parameters are those of :func:`resolve`."""
    stop = threading.Event()
    lock = threading.Lock()

    def tell(line: str) -> None:
        with lock:
            progress(line)

    run = Run(cache.resolve(), tell, limit, stop, building)
    builder = Builder(
        run.cache,
        find_pip=partial(_find_pip, requests, run),
        index_options=requests.index_options(),
        limit=limit,
        stop=stop,
        progress=tell,
        building=building,
        as_of=requests.as_of,
    )
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        try:
            return _collect([pool.submit(work, target, builder, run) for target in targets])
        except BaseException:  # Ctrl-C above all: the children must end before the pool's threads can
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


@dataclass(frozen=True)
class Run:
    """What holds for all targets."""

    cache: Path
    progress: Callable[[str], None]
    limit: float
    stop: threading.Event
    building: Building


def _collect(futures: Sequence[Future[_T]]) -> tuple[_T, ...]:
    """Wait for all; join the errors of those that failed, each told once."""
    errors: dict[str, PackError] = {}
    done: list[_T] = []
    for future in futures:
        try:
            done.append(future.result())
        except PackError as error:
            errors.setdefault(str(error), error)
    if len(errors) == 1:
        raise next(iter(errors.values()))
    if errors:
        hints = dict.fromkeys(error.hint for error in errors.values() if error.hint)
        raise PackError("\n".join(errors), hint="\n".join(hints))
    return tuple(done)


def _resolve_target(requests: Requests, target: Target, builder: Builder, run: Run) -> Resolution:
    """Ask pip, unless its answer is known."""
    remembered = Cache(run.cache / "resolved")
    known = pinned.recall(requests, target, remembered)
    if known and _would_serve(builder, target, [one.path for one in known.wheels if one.built_from]):
        return known
    chosen = _ask_pip(requests, target, builder, run).resolution
    pinned.remember(requests, chosen, remembered)
    return chosen


def _would_serve(builder: Builder, target: Target, built: Sequence[Path]) -> bool:
    """Tell whether wheels that were built once would be taken now."""
    return not built or {*built} <= {*builder.known(target).values()}


def _ask_pip(
    requests: Requests, target: Target, builder: Builder, run: Run, bounds: Bounds | None = None, *,
    offered: bool = False,
) -> Choice:  # fmt: skip
    """Let pip try again until it meets no source that has to be built first."""
    bounds = bounds or Bounds()
    built = {digest: pipchild.Built(wheel=str(path), sha256=digest) for digest, path in builder.known(target).items()}
    directories: dict[Path, str] = {}
    while True:
        with tempfile.TemporaryDirectory(dir=scratch(run.cache), prefix="pip-") as work:
            arguments = [*_only(bounds, Path(work)), *requests.arguments()]
            preferred = requests.preferred(target)
            report = _run_pip(
                arguments,
                target,
                built,
                Path(work),
                run,
                preferred,
                kept=bounds.kept,
                offered=offered,
                exact=requests.exact,
                locked=requests.locked,
            )
            source = report["source"]
            fetched = [one["path"] for one in report["chosen"] if not one["source"]]
            for place in [source["path"]] if source else fetched:
                _refuse_size(requests, Path(place), target)
            if source is None:
                wheels = tuple(_wheel(chosen, run.cache) for chosen in report["chosen"])
                return Choice(Resolution(target, wheels, tuple(directories.items())), tuple(report["chosen"]))
            path = Path(source["path"])
            if source["key"] in built:
                raise PackError(f"{target.name}: {path.name}: pip refuses the wheel built from it")
            try:
                wheel = builder.build(path, target)
            except NoInterpreterError as error:
                exists = _describe(source["name"], report["files"].get(source["name"], []), target)
                exists = "" if requests.exact else exists
                why = f"no wheel fits {source['requirement']}, and {error}"
                raise PackError(f"{target.name}: {why}", hint=f"{exists}\n{error.hint}".strip()) from None
            name = parse_wheel_filename(wheel.name)[0]
            if source["name"] not in ("", name):
                other = PackError(f"{target.name}: {path.name}: what is built from it is {name}")
                raise FileError(
                    other, pipchild.Failed(file=path.name, why="other", found=f"{wheel.name} is built of it")
                )
            digest = "" if path.is_dir() else sha256(path).hex()
            directories |= {path: builder.digests[path]} if path.is_dir() else {}
            built[source["key"]] = pipchild.Built(wheel=str(wheel), sha256=digest)


def _only(bounds: Bounds, work: Path) -> list[str]:
    if not bounds.only:
        return []
    path = work / "only.txt"
    path.write_text("".join(f"{name}=={version}\n" for name, version in bounds.only.items()), encoding="utf-8")
    return [f"--constraint={path}"]


class FileError(PackError):
    """A file that was asked for by its address cannot be had."""

    def __init__(self, error: PackError, failed: pipchild.Failed) -> None:
        super().__init__(str(error), error.hint)
        self.failed = failed


def _refuse_size(requests: Requests, path: Path, target: Target) -> None:
    said = dict(requests.sizes).get(path.name)
    if said is not None and path.stat().st_size != said:
        error = PackError(f"{target.name}: {path.name} is not as large as it should be")
        raise FileError(error, pipchild.Failed(file=path.name, why="size", found=f"{path.stat().st_size:,}"))


def fetch(requests: Requests, target: Target, builder: Builder, run: Run) -> tuple[Wheel, ...]:
    """Get files by their addresses, and build what is not a wheel.

    :raises FileError: for the first that cannot be had.
    """
    return _ask_pip(replace(requests, exact=True), target, builder, run).resolution.wheels


def _find_pip(requests: Requests, run: Run, target: Target) -> Path:
    """Fetch a pip that runs on the target's Python."""
    with tempfile.TemporaryDirectory(dir=scratch(run.cache), prefix="pip-") as work:
        try:
            report = _run_pip([*requests.index_options(), "pip"], target, {}, Path(work), run)
        except PackError as error:
            raise PackError(f"building for {target.python.tag} needs a wheel of pip: {error}", error.hint) from None
        if report["source"]:
            raise PackError(f"building for {target.python.tag} needs a wheel of pip: {target.name}: there is none")
        return _wheel(report["chosen"][0], run.cache).path


def _wheel(chosen: pipchild.Chosen, cache: Path) -> Wheel:
    """Take a wheel over: downloaded ones move into the cache, built ones lie there."""
    path = Path(chosen["path"])
    if not chosen["source"]:
        path = keep(path, cache)
    return Wheel(chosen["name"], chosen["version"], path, sha256(path).hex(), chosen["source"], chosen["requested"])


def _run_pip(
    arguments: list[str], target: Target, built: dict[str, pipchild.Built], work: Path, run: Run,
    preferred: Sequence[str] = (), *, kept: Mapping[str, str] | None = None, offered: bool = False,
    exact: bool = False, locked: Sequence[tuple[str, str, str]] = (),
) -> pipchild.Report:  # fmt: skip
    """Run pip for one target in ``work``; the report says what it chose, or which source is to be built first."""
    request = pipchild.Request(
        arguments=[
            *("--disable-pip-version-check", "--no-input", "--no-color", "--progress-bar=off"),
            *("--only-binary=:all:", f"--python-version={target.python.full_version}"),
            *(f"--find-links={place}" for place in preferred),
            *arguments,
        ],
        environment=marker_environment(target),
        tags=[str(tag) for tag in wheel_tags(target)],
        built=built,
        preferred=[os.path.realpath(place) for place in preferred],
        kept=dict(kept or {}),
        offered=offered,
        locked=[pipchild.Locked(name=name, file=file, index=index) for name, file, index in locked],
    )
    (work / "request.json").write_text(json.dumps(request), encoding="utf-8")

    def tell(line: str) -> None:
        if line.lstrip().startswith(("Collecting ", "Downloading ", "Processing ")):
            run.progress(f"{target.name}: {line.strip()}")

    environment = process.clean_environment() | {"TMPDIR": str(work), "PIP_REQUIRE_VIRTUALENV": "0"}
    if exact:  # the user's constraints have had their say
        environment["PIP_CONSTRAINT"] = os.devnull
    done = process.run(
        [sys.executable, pipchild.__file__, str(work)],
        environment=environment,
        limit=run.limit,
        stop=run.stop,
        tell=tell,
        what=f"{target.name}: pip",
    )
    try:
        report: pipchild.Report = json.loads((work / "report.json").read_bytes())
    except FileNotFoundError:
        raise PackError(f"{target.name}: pip: {process.last_error(done.lines)}") from None
    except ValueError:  # as on a full disk
        said = process.last_error(done.lines)
        raise PackError(
            f"{target.name}: pip could not write what it found: {said}", "is the cache's disk full?"
        ) from None
    if done.status != 0 and report["source"] is None:
        failure = _failure(report, done.lines, target)
        raise FileError(failure, report["failed"]) if exact and report["failed"] else failure
    return report


def marker_environment(target: Target) -> dict[str, str]:
    """Give the markers (PEP 508) of ``target`` as its own Python would.

    On 2.7, ``sys.platform`` was still ``linux2``, and there was no ``sys.implementation`` to be asked.
    """
    python = target.python
    old = python.version < (3,)
    return {
        "implementation_name": "" if old else "cpython",
        "implementation_version": "0" if old else python.full_version,
        "os_name": "posix",
        "platform_machine": target.platform.arch,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": python.full_version,
        "python_version": f"{python.version[0]}.{python.version[1]}",
        "sys_platform": "linux2" if old else "linux",
    }


def _failure(report: pipchild.Report, lines: Sequence[str], target: Target) -> PackError:
    """Say why pip gave up."""
    if report["refused"]:
        return PackError(f"{target.name}: {report['refused']}", hint="build a wheel of it and require that")
    missing_times = [
        file["name"] for files in report["files"].values() for file in files if _is(file, "upload_time_missing")
    ]
    if missing_times:
        return PackError(
            f"{target.name}: the index does not tell when {missing_times[0]} was uploaded, so --as-of cannot be",
            hint="indexes that speak PEP 700 do, as the one of the Python Package Index",
        )
    if report["causes"] and all(cause["name"] == _PYTHON for cause in report["causes"]):
        needs = dict.fromkeys(f"{cause['needed_by']} needs {cause['requirement']}" for cause in report["causes"])
        return PackError(f"{target.name}: {next(iter(needs))}, and this is {target.python.full_version}")
    candidates = {name for name, files in report["files"].items() if any(_is_candidate(file) for file in files)}
    missing = [cause for cause in report["causes"] if cause["name"] not in {*candidates, _PYTHON}]
    if missing and report["unreachable"]:
        return PackError(f"{target.name}: cannot read {report['unreachable'][0]}", hint="is the network there?")
    if missing or len({cause["requirement"] for cause in report["causes"]}) == 1:
        cause = (missing or report["causes"])[0]
        needed_by = f", which {cause['needed_by']} needs" if cause["needed_by"] else ""
        exists = _describe(cause["name"], report["files"].get(cause["name"], []), target)
        limits = "".join(f" with the constraint {text}" for text in report["constraints"])
        return PackError(f"{target.name}: no file fits {cause['requirement']}{limits}{needed_by}: {exists}")
    if report["causes"]:
        return PackError(f"{target.name}: requirements contradict each other: {_conflict(report)}")
    return PackError(f"{target.name}: pip: {process.last_error(lines)}")


def _is_candidate(file: pipchild.File) -> bool:
    return _is(file, "candidate")


def _is(file: pipchild.File, verdict: str) -> bool:
    return file["verdict"] == verdict


def _conflict(report: pipchild.Report) -> str:
    """List who needs what; when pip tried many versions of one distribution, the first of them speaks for it."""
    said: dict[tuple[str, str], str] = {}
    for cause in report["causes"]:
        if cause["needed_by"]:
            key = (cause["needed_by"].split(" ")[0], cause["name"])
            said.setdefault(key, f"{cause['needed_by']} needs {cause['requirement']}")
        else:
            said.setdefault(("", cause["requirement"]), f"you ask for {cause['requirement']}")
    return "; ".join([*said.values(), *(f"a constraint says {text}" for text in report["constraints"])])


@dataclass(frozen=True)
class _File:
    """A file of a distribution, as its name tells."""

    version: Version
    tags: frozenset[Tag]
    """Empty for a source distribution."""
    file: pipchild.File


def _describe(name: str, files: Sequence[pipchild.File], target: Target) -> str:
    """Say in one sentence what there is of a distribution, that which is nearest to ``target`` first."""
    known = sorted((one for file in files for one in _parse(file)), key=lambda one: one.version)
    if not known:
        return f"no index or directory has a distribution called {name}"
    ours = {(tag.interpreter, tag.abi) for tag in wheel_tags(target)}
    near = [one for one in known if any((tag.interpreter, tag.abi) in ours for tag in one.tags)]
    candidates = [one for one in near if _is_candidate(one.file) and one.file["yanked"] is None]
    yanked = [one for one in near if _is_candidate(one.file) and one.file["yanked"] is not None]
    later = [one for one in known if _is(one.file, "upload_too_late")]
    elsewhere = [one for one in near if one.file["verdict"] == "platform_mismatch" and _is_linux(one.tags, target)]
    other_python = [one for one in known if one.file["verdict"] == "requires_python_mismatch"]
    wheels = [one for one in known if one.tags]
    said = []
    if candidates:
        said.append(f"the newest that has a file for {target.name} is {candidates[-1].version}")
    if yanked and (not candidates or yanked[-1].version > candidates[-1].version):
        why = f": {yanked[-1].file['yanked']}" if yanked[-1].file["yanked"] else ""
        said.append(f"{yanked[-1].file['name']} was yanked{why} (=={yanked[-1].version} takes it nevertheless)")
    if later and not candidates:
        said.append(f"{name} {later[0].version} was uploaded later than --as-of says")
    if elsewhere:
        newest = [one for one in elsewhere if one.version == elsewhere[-1].version]
        places = sorted({tag.platform for one in newest for tag in one.tags})
        said.append(f"{name} {newest[-1].version} has wheels for {target.python.tag} on {', '.join(places)}")
    if other_python and other_python[-1].version >= known[-1].version:
        said.append(f"{name} {known[-1].version} needs Python {other_python[-1].file['requires_python']}")
    if not candidates and not elsewhere and not yanked and not later and wheels:
        newest = [one for one in wheels if one.version == wheels[-1].version]
        pairs = dict.fromkeys((tag.interpreter, tag.abi) for one in newest for tag in sorted(one.tags, key=str))
        abis = dict.fromkeys(abi if abi.startswith(python) else f"{python}-{abi}" for python, abi in pairs)
        said.append(f"{name} {newest[-1].version} has wheels for {', '.join(sorted(abis))}")
    if not said:
        said.append(f"{name} {known[-1].version} is there as a source distribution only")
    return "; ".join(said)


def _is_linux(tags: Iterable[Tag], target: Target) -> bool:
    """Tell whether a wheel is for Linux on the architecture of ``target``."""
    return any("linux" in tag.platform and tag.platform.endswith(f"_{target.platform.arch}") for tag in tags)


def _parse(file: pipchild.File) -> Iterable[_File]:
    """Read a file's name; nothing for what is neither wheel nor source distribution, or not named as one."""
    name = file["name"]
    try:
        if name.endswith(".whl"):
            _, version, _, tags = parse_wheel_filename(name)
            yield _File(version, tags, file)
        else:
            yield _File(parse_sdist_filename(name)[1], frozenset(), file)
    except (InvalidWheelFilename, InvalidSdistFilename):
        return
