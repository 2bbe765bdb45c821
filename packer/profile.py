"""A profile: what a program imports when it starts, in which order, and which of its imports may be lazy.

Runs are recorded with the program as it is packed, by its own interpreter (``recordchild.py``), in a store that is
made for that. ``docs/profile.md`` describes the file.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packer import archive, files, recordchild
from packer.blobs import Level
from packer.errors import PackError
from packer.install import UnfitError, prepare
from packer.lazy import Checked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from packer.model import Slice, Tool

VERSION = 1

OFF = {"FATPAR_LAZY_IMPORTS": "off"}
"""A program that is recorded imports all it would without."""

_SITE = "lib/python/site-packages/"

_HOOK = "zz-fatpar-record.pth"
"""Behind those of the program, which its interpreter runs in the order of their names."""


@dataclass(frozen=True)
class Module:
    """A module that was found."""

    name: str
    path: str | None
    """In a layer, as ``lib/python/site-packages/a/b.py``; ``None``: the interpreter's own, or in no file."""


@dataclass(frozen=True)
class Startup:
    """What was recorded under one Python."""

    python: str
    """Its version, ``3.11.2``; of the last run."""
    runs: tuple[str, ...]
    """Arguments of the runs, quoted as for a shell."""
    modules: tuple[Module, ...]
    """In the order in which they were imported, of the first run that did."""


@dataclass(frozen=True)
class Profile:
    """By Python ABI tag."""

    startups: Mapping[str, Startup] = field(default_factory=dict)
    lazy: Mapping[str, Checked] = field(default_factory=dict)

    @property
    def found(self) -> tuple[Module, ...]:
        """Of all Pythons, each module once."""
        return tuple(dict.fromkeys(one for startup in self.startups.values() for one in startup.modules))

    @property
    def modules(self) -> tuple[str, ...]:
        """Their names, in the order in which they were imported."""
        return tuple(dict.fromkeys(one.name for one in self.found))

    @property
    def paths(self) -> tuple[str, ...]:
        """In layers, those that have one."""
        return tuple(dict.fromkeys(one.path for one in self.found if one.path is not None))


def merged(one: Profile, another: Profile) -> Profile:
    """Put two profiles together; what the first has comes first, and what either found to be eager stays so."""
    startups, lazy = dict(one.startups), dict(one.lazy)
    for tag, new in another.startups.items():
        old = startups.get(tag, Startup("", (), ()))
        known = {module.name for module in old.modules}
        added = tuple(module for module in new.modules if module.name not in known)
        startups[tag] = Startup(new.python, _union(old.runs, new.runs), old.modules + added)
    for tag, checked in another.lazy.items():
        before = lazy.get(tag, Checked())
        lazy[tag] = Checked(
            _union(before.eager, checked.eager), _union(before.importers, checked.importers),
            checked.python, _union(before.commands, checked.commands),
        )  # fmt: skip
    return Profile(startups, lazy)


def _union(one: Iterable[str], another: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*one, *another)))


# The file -------------------------------------------------------------------------------------------------------


def write(path: Path, profile: Profile) -> None:
    """Write a profile's file."""
    abis: dict[str, dict[str, Any]] = {}
    for tag, startup in profile.startups.items():
        modules = [{"name": one.name, "path": one.path} for one in startup.modules]
        abis.setdefault(tag, {}).update(python=startup.python, runs=startup.runs, modules=modules)
    for tag, one in profile.lazy.items():
        said = {"python": one.python, "commands": one.commands, "eager": one.eager, "importers": one.importers}
        abis.setdefault(tag, {})["lazy"] = said
    text = json.dumps({"version": VERSION, "abis": abis}, indent=1) + "\n"
    with files.replacing(path) as file:
        file.write(text.encode("ascii"))


def read(path: Path) -> Profile:
    """Read a profile's file.

    :raises PackError: if it cannot be read, or is no profile.
    """
    try:
        said = json.loads(path.read_bytes())
    except OSError as error:
        raise PackError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise PackError(f"{path} is no profile: {error}", hint="packer profile writes them") from None
    if isinstance(said, dict) and isinstance(said.get("version"), int) and said["version"] > VERSION:
        raise PackError(f"{path} is a profile of a newer packer: version {said['version']}")
    try:
        return _parsed(said)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else error
        raise PackError(f"{path} is no profile: {what}", hint="packer profile writes them") from None


def _parsed(said: Any) -> Profile:
    startups, lazy = {}, {}
    if said["version"] != VERSION:
        raise ValueError(f"its version is {said['version']!r}")
    for tag, one in said["abis"].items():
        if "modules" in one:
            modules = tuple(Module(_text(each["name"]), _path(each["path"])) for each in one["modules"])
            startups[tag] = Startup(_text(one["python"]), _texts(one["runs"]), modules)
        if "lazy" in one:
            part = one["lazy"]
            eager, importers, commands = (_texts(part[key]) for key in ("eager", "importers", "commands"))
            lazy[tag] = Checked(eager, importers, _text(part["python"]), commands)
    return Profile(startups, lazy)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no string")
    return value


def _path(value: object) -> str | None:
    return None if value is None else _text(value)


def _texts(values: object) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise TypeError(f"{values!r} is no list")
    return tuple(map(_text, values))


# Recording ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stage:
    """A program that was made ready in a store of its own, where its interpreter writes down what it imports."""

    program: Path
    store: Path
    view: Path
    tag: str
    """Python ABI tag of the slice that runs here."""
    records: Path
    given: frozenset[str]
    """Modules whose bytecode the archive brought."""

    @property
    def variables(self) -> dict[str, str]:
        """What its environment needs."""
        return {"FATPAR_STORE": str(self.store)}


def stage(program: Path, work: Path) -> Stage:
    """Make a program ready.

    :param work: an empty directory.
    :raises UnfitError: if no slice of it runs here.
    :raises PackError: if it is damaged, or runs no Python.
    """
    work = work.resolve()
    store, records = work / "store", work / "records"
    view, name = prepare(program, store)
    records.mkdir()
    hook = f"exec(compile(open({str(Path(recordchild.__file__).resolve())!r}, 'rb').read(), 'record', 'exec'), "
    line = f"import sys; {hook}{{'directory': {str(records)!r}}})\n"
    for site in view.glob("lib/python3*/site-packages"):
        with writable(site.resolve()) as place:
            (place / _HOOK).write_text(line, "utf-8")
    return Stage(program, store, view, name.partition("-")[0], records, frozenset(_kept(store)))


@contextmanager
def writable(directory: Path) -> Iterator[Path]:
    """Let the owner write to a directory of a store."""
    mode = directory.stat().st_mode
    directory.chmod(mode | 0o200)
    try:
        yield directory
    finally:
        directory.chmod(mode)


def recorded(place: Stage, run: str, main: int = 0) -> Profile:
    """Collect what was written down since the last time.

    :param run: arguments, as the profile will have them.
    :param main: the process that comes before its children; 0: none does.
    """
    logs = sorted(place.records.iterdir(), key=lambda log: (log.name != str(main), log.stat().st_mtime_ns))
    version, modules = "", dict[str, Module]()
    for log in logs:
        for name, path in _pairs(log.read_bytes()):
            version = version if name else path
            modules.setdefault(name, Module(name, _in_layer(path, place.view)))
        log.unlink()
    modules.pop("", None)
    known = {one.path for one in modules.values()}
    for path in sorted(set(_kept(place.store)) - place.given - known):
        modules.setdefault(_name(path), Module(_name(path), path))
    if not modules:
        return Profile()
    return Profile({place.tag: Startup(version, (run,), tuple(modules.values()))})


def _pairs(log: bytes) -> Iterator[tuple[str, str]]:
    """Read a log; of a process that was killed while it wrote, the last pair may not be whole."""
    texts = [text.decode("utf-8", "backslashreplace") for text in log.split(b"\0")[:-1]]
    return zip(texts[::2], texts[1::2], strict=False)


def _in_layer(path: str, view: Path) -> str | None:
    """Give the path in a layer of what a view leads to: ``lib/python3.11/x.py`` is ``lib/python/x.py`` there."""
    below = Path(os.path.relpath(path, view)).parts if os.path.isabs(path) else ("..",)
    if below[0] == "..":
        return None
    return str(Path("lib", "python", *below[2:]) if below[0] == "lib" else Path(*below))


def _kept(store: Path) -> Iterator[str]:
    """Give the modules whose bytecode the interpreter kept: also of children that go without ``site``, and of 2.7's."""
    # beside layers, and in the view those of modules that stand in its own directories
    for path in store.glob("v1/*/*/pyc/**/*.pyc"):
        _, _, _, _, *below = path.relative_to(store).parts
        source = Path(*below).with_name(f"{path.name.rsplit('.', 2)[0]}.py")
        first, *rest = source.parts
        yield str(Path("lib", "python", *rest[1:]) if first == "lib" else source)


def _name(path: str) -> str:
    """Give the name under which a file is imported."""
    return path.removeprefix(_SITE).removeprefix("app/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def record(
    runs: Sequence[str], slices: Sequence[Slice], tools: Sequence[Tool], launcher: Mapping[str, Path], work: Path,
    limit: float,
) -> Profile:  # fmt: skip
    """Run a program as it would be packed, with nobody to see or answer it.

    :param runs: arguments of each run, quoted as for a shell.
    :param launcher: by machine.
    :param slices: without bytecode of their own, so that the interpreter keeps what it compiles.
    :param work: an empty directory for the program and its store.
    :param limit: seconds that one run may take.
    :raises PackError: if no slice fits this machine, or a run fails.
    """
    program = work / tools[0].name
    archive.write(program, launcher, slices, tools, {"version": 1}, lambda _: None, level=Level.FAST)
    profile = Profile()
    try:
        place = stage(program, work / "stage")
    except UnfitError:
        raise PackError(
            f"--profile-run {runs[0]!r}: no slice runs on this machine", hint="add the ABI of a Python that is here"
        ) from None
    for arguments in runs:
        profile = merged(profile, _run_unseen(place, arguments, limit))
    return profile


def _run_unseen(place: Stage, arguments: str, limit: float) -> Profile:
    command = [str(place.program), *shlex.split(arguments)]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, env=environment(place), stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe
    ) as process:
        try:
            _, errors = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            process.kill()
            raise PackError(f"--profile-run {arguments!r}: it did not end in {limit:g} seconds") from None
    if process.returncode == 0:
        return recorded(place, arguments, process.pid)
    lines = errors.decode("utf-8", "replace").strip().splitlines()
    last = f": {lines[-1]}" if lines else ""
    raise PackError(
        f"--profile-run {arguments!r}: it ended with {ended(process.returncode)}{last}",
        hint="name a run that succeeds; packer profile --run takes any",
    )


def environment(place: Stage, variables: Mapping[str, str] = OFF) -> dict[str, str]:
    """Give the environment of a run: ours."""
    given = {**os.environ, **place.variables, **variables}
    given.pop("FATPAR", None)  # the program would only talk about itself
    return given


def ended(status: int) -> str:
    """Say how a process ended."""
    return signal.Signals(-status).name if status < 0 else f"status {status}"


def record_here(place: Stage, arguments: Sequence[str], tell: Callable[[str], None]) -> Profile:
    """Run a program at the user's terminal, where it reads and writes what it would.

    :param tell: hears how it ended, if it failed.
    """
    process = subprocess.Popen([str(place.program), *arguments], env=environment(place))
    try:
        process.wait()
    except KeyboardInterrupt as interrupt:
        number = interrupt.args[0] if interrupt.args else signal.SIGINT
        if number != signal.SIGINT:  # which the terminal has sent to both
            process.send_signal(number)
        process.wait()
    run = shlex.join(arguments)
    if process.returncode:
        tell(f"{place.program.name} {run}: it ended with {ended(process.returncode)}")
    return recorded(place, run, process.pid)
