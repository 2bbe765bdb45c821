"""Source distributions and project directories -> wheels, built by an interpreter of the target's own ABI.

One front end for every Python: ``pip wheel``, run by the interpreter that builds, in a version of pip that
supports it and straight from pip's wheel, so that nothing is installed into the user's interpreters and
build requirements are chosen by, and for, the right Python. Native code is compiled by what toolchain.py chooses, and
made fit for its slice by repair.py.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import importlib.util
import re
import shutil
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from packer import built, container, environment, process, pythons, repair, rust, toolchain, worktree
from packer.errors import PackError
from packer.files import publish, scratch, sha256
from packer.model import Platform, Target
from packer.pythons import Interpreter
from packer.targets import wheel_tags
from packer.toolchain import Building, Compiler

_EPOCH = "315532800"
"""1980-01-01, the earliest time that a zip file can hold: SOURCE_DATE_EPOCH when the user has set none."""

_PIP_FRAME = re.compile(
    r"ERROR: (Command errored out|Failed (to build|building|cleaning))|error: subprocess-exited"
    r"|^\s*(note|hint|DEPRECATION): |^\s*[^\w\s]{1,3} (\[|exit code|.* did not run )|^\s*-----|\[end of output\]$"
)
"""Lines that pip puts around what a build says; that some command failed is always its last word."""

_COMPILERS = re.compile(r"\S+:\d+:(\d+:)? (fatal )?(error|ERROR): |\S+\.p(yx|xd|xi):\d+:\d+: (?!warning)")
"""How compilers, and Cython, begin to say what is wrong; who started them says only which command failed."""

_NOT_DECLARED = re.compile(r"undeclared|'(sys|linux|bits|asm)/\S+' file not found|unknown type name|no member named")
"""What they say of what headers do not have."""

_BEFORE, _SHOWN = 3, 12
"""Lines that are shown of a build: before the one that says why it failed, and in all."""


def fits(wheel: str, target: Target, builder: Interpreter) -> bool:
    """Tell whether a wheel that ``builder`` made here, by its file name, can be packed for ``target``.

    Such a wheel bears a platform tag like ``linux_x86_64``, which promises nothing and is taken from nobody
    else. What it really needs of a host is measured from its files later.
    """
    try:
        tags = parse_wheel_filename(wheel)[3]
    except InvalidWheelFilename:
        return False
    arch, libc = target.platform.arch, target.platform.libc
    same_platform = (builder.arch, builder.libc) == (arch, libc)
    taken = set(wheel_tags(target))
    supported = {(tag.interpreter, tag.abi) for tag in taken}
    return any(
        tag in taken
        or (
            (tag.interpreter, tag.abi) in supported
            and (tag.platform == "any" or (same_platform and tag.platform.endswith(f"_{arch}")))
        )
        for tag in tags
    )


_AS_NEEDED = Building()

_PROBE_COMPILER = Compiler("probe")
"""Whatever is there: it is only to be found out what a build gives."""

_NAME_ONE = "install one, or say where it is: --interpreter PATH"

_MESON_TOOLS = (("c", "cc"), ("cpp", "c++"), ("ar", "ar"))


class NoInterpreterError(PackError):
    """Nothing on this machine can build for a target."""


class _ChangedError(PackError):
    """A project is not what it was when it was first looked at."""

    def __init__(self, project: Path) -> None:
        super().__init__(
            f"{project} was changed while it was packed",
            hint="pack it again while nothing writes into it; its build may not, for each Python anew",
        )


class Builder:
    """Builds wheels and keeps them in the cache."""

    def __init__(
        self,
        cache: Path,
        *,
        find_pip: Callable[[Target], Path],
        index_options: Sequence[str],
        limit: float,
        stop: threading.Event,
        progress: Callable[[str], None],
        building: Building = _AS_NEEDED,
        as_of: str = "",
    ) -> None:
        """Build into ``cache``.

        :param find_pip: gives a wheel of a pip that runs on a target's Python; raises PackError.
        :param index_options: pip's options that say where build requirements come from.
        :param limit: seconds for one build.
        :param stop: set by another thread to give up.
        :param as_of: as in ``Requests``: build requirements are of that time, too, where our own pip does the work.
        """
        self._cache = cache
        self._shelf = built.Shelf(cache, building, index_options, as_of)
        self._find_pip = find_pip
        self._index_options = tuple(index_options)
        self._as_of = as_of
        self._limit = limit
        self._stop = stop
        self._progress = progress
        self._building = building
        self._project_lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._native: set[str] = set()
        self._shared: dict[Path, Path | PackError] = {}
        self.digests: dict[Path, str] = {}
        """Of the projects that were built."""
        self._states: dict[Path, dict[str, tuple[int, ...]]] = {}
        self._touched: dict[Path, set[str]] = {}
        self._copied: set[Path] = set()

    def known(self, target: Target) -> dict[str, Path]:
        """Give the wheels built for ``target`` in this cache, by the SHA-256 of the source distribution."""
        return self._shelf.known(target)

    def build(self, source: Path, target: Target) -> Path:
        """Give a wheel of a source distribution or a project directory for ``target``; it stays in the cache.

        :raises NoInterpreterError: none of the target's ABI is here.
        :raises PackError: the build fails, what it gives does not fit the target, or a project changes meanwhile.
        """
        if source.is_dir():
            with self._project_lock:  # builds leave traces in the directory
                return self._build_unchanged(source, target)
        digest = sha256(source).hex()
        lock = self._locks.setdefault(digest, threading.Lock())
        with contextlib.nullcontext() if digest in self._native else lock:  # what is pure is built once
            wheel = self._shelf.find(digest, target) or self._build_and_keep(
                source, digest, target, self._who(source, target)
            )
            if not built.is_pure(wheel):
                self._native.add(digest)
        return wheel

    def _compiler(self, target: Target) -> Compiler:
        return toolchain.choose(target, self._building.cc)

    def _build_unchanged(self, project: Path, target: Target) -> Path:
        """Build a project that is the same all the while, and for all targets.

        The first build is tried again: it may have left a file in the project that the next ones find there, as what
        writes down a version does. So is one in which files were touched that are now as before: the build may have
        written them again, or somebody undid a change. From then on a project is built in a copy, since Cython, for
        one, writes down where its build environment was, each time anew; not where that would hide its repository.
        """
        before = self.digests.get(project)
        digest = self._look(project)
        if before and before != digest:
            raise _ChangedError(project)
        try:
            wheel = self._build_project(project, digest, target)
        except _ChangedError:
            digest = self._look(project)
            if before and before != digest:
                raise
            if worktree.stands_alone(project):
                self._copied.add(project)
            wheel = self._build_project(project, digest, target)
        self.digests[project] = digest
        return wheel

    def _look(self, project: Path) -> str:
        self._states[project] = worktree.state(project)
        return worktree.digest(project)

    def _refuse_changed(self, project: Path, digest: str) -> None:
        """See that a project is what it was; builds may touch the files that they touched before."""
        before, after = self._states[project], worktree.state(project)
        touched = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        known = self._touched.setdefault(project, set())
        others = touched - known
        known |= touched
        if others or worktree.digest(project) != digest:
            raise _ChangedError(project)

    def _build_project(self, project: Path, digest: str, target: Target) -> Path:
        """Build once, with our own Python, what turns out to be pure; else, or by the look of it, for each ABI."""
        kept = self._shelf.find(digest, target)
        if kept:
            return kept
        own = pythons.own()
        if self._is_rust(project):
            builder = self._who(project, target) if rust.needs_interpreter(project, target) else own
            return self._build_and_keep(project, digest, target, builder)
        shared: Path | PackError | None = self._shared.get(project)
        foreign = own.tag != target.python.tag and not self._building.image
        if foreign and shared is None and not worktree.looks_native(project):
            try:
                shared = self._build_and_keep(project, digest, target, own, probing=True)
            except _ChangedError:
                raise
            except PackError as error:
                shared = error
            self._shared[project] = shared
        if isinstance(shared, Path) and built.serves(shared.name, target) and built.is_pure(shared):
            return shared
        try:
            builder = self._who(project, target)
        except NoInterpreterError as error:
            told = (
                shared if isinstance(shared, PackError) else f"this Python makes {shared.name} of it" if shared else ""
            )
            raise NoInterpreterError(f"{error}; {told}" if told else str(error), error.hint) from None
        return self._shelf.find(digest, target) or self._build_and_keep(project, digest, target, builder)

    def _who(self, source: Path, target: Target) -> Interpreter:
        """Choose an interpreter that can build for ``target``."""
        found = built.interpreter_for(target, self._building)
        if found is None:
            image = self._building.image
            here = ", ".join(sorted({one.tag for one in built.interpreters(self._building)})) or "none"
            where = f"in {image}" if image else "here"
            raise NoInterpreterError(
                f"no {target.python.tag} interpreter is {where} to build {source.name} (found: {here})",
                hint="" if image else _NAME_ONE,
            )
        return found

    def _build_and_keep(
        self, source: Path, digest: str, target: Target, builder: Interpreter, *, probing: bool = False
    ) -> Path:
        """Build, and keep what fits; when it is only to be found out what a build gives, it need not."""
        compiler = _PROBE_COMPILER if probing else Compiler("image") if self._building.image else self._compiler(target)
        with self._workshop() as work:
            wheel = self._build(source, target, builder, compiler, work)
            if source.is_dir():
                self._refuse_changed(source, digest)
            if probing and not built.is_pure(wheel):
                return keep(wheel, self._cache)
            builder = builder if _says_linux(wheel.name) else _as_for(builder, target)
            if not probing:
                _check_fits(wheel, target, builder)
            tag = builder.tag if probing else target.python.tag
            falls_back = not probing and worktree.looks_native(source)
            place = self._shelf.place(digest, wheel, target, tag=tag, falls_back=falls_back)
            self._shelf.put(work / "wheel", place)
        return _only_wheel(place)

    @contextlib.contextmanager
    def _workshop(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=scratch(self._cache), prefix="build-") as work:
            yield Path(work)

    def _build(self, source: Path, target: Target, builder: Interpreter, compiler: Compiler, work: Path) -> Path:
        """Run the build in ``work``, which gets a directory ``wheel`` with nothing but the wheel in it."""
        self._progress(f"{target.name}: building {source.name} with {builder.path}")
        command, variables = (
            self._maturin(source, target, builder, work)
            if self._is_rust(source)
            else self._pip(source, target, builder, compiler, work)
        )
        done = process.run(
            command,
            environment=variables,
            limit=self._limit,
            stop=self._stop,
            tell=lambda line: None,
            what=f"building {source.name} for {target.python.tag}",
        )
        if done.status != 0:
            log = self._keep_log(done.lines, source, target)
            if self._is_rust(source):
                why, lines = rust.failure(done.lines, done.status)
            else:
                lines = [line for line in done.lines if line.strip() and not _PIP_FRAME.search(line)]
                why = _reason(lines)
            raise PackError(
                f"building {source.name} for {target.python.tag} failed: {why}",
                hint=_older(compiler, target, why) + f"the build said:\n{_excerpt(lines, why)}\nthe whole log: {log}",
            )
        made = _only_wheel(work / "wheel")
        wheel = rust.for_python2(made) if self._is_rust(source) else made
        wheel = self._repaired(wheel, source, target, builder, compiler, work)
        if parse_wheel_filename(wheel.name)[0] == "unknown":  # what setuptools before 61 makes of a [project] table
            raise PackError(
                f"building {source.name} for {target.python.tag} failed: its build back end does not know its name",
                hint=f"setuptools for {target.python.tag} may not read [project] yet: it needs setup.cfg or setup.py",
            )
        return wheel

    def _is_rust(self, source: Path) -> bool:
        return not self._building.image and source.is_dir() and rust.is_project(source)

    def _maturin(
        self, project: Path, target: Target, builder: Interpreter, work: Path
    ) -> tuple[Sequence[str], dict[str, str]]:
        command = rust.command(project, target, builder.path, work / "wheel", self._cache, self._building.cc)
        return command.words, _environment(work) | command.variables

    def _pip(
        self, source: Path, target: Target, builder: Interpreter, compiler: Compiler, work: Path
    ) -> tuple[Sequence[str], dict[str, str]]:
        place = source
        if source.is_dir() and (builder.version < (3, 8) or self._building.image or source in self._copied):
            place = worktree.copy(source, work / "source")  # old setuptools leaves its objects for the next compiler
        pip = self._pip_for(builder, target, work)
        dated = self._as_of and not pip.is_relative_to(work) and knows_dates()
        command = [
            *(str(builder.path), "-E", "-s", str(pip), "wheel"),
            *("--no-deps", "--use-pep517", "--no-input", "--disable-pip-version-check", *_cross(place, target, work)),
            *([f"--uploaded-prior-to={self._as_of}"] if dated else []),
            *(*self._index_options, "--wheel-dir", str(work / "wheel"), str(place)),
        ]
        variables = _environment(work) | toolchain.environment(compiler, target, work, self._cache)
        if not self._building.image:
            return command, variables
        shown = [place, pip]
        return container.command(self._building.image, command, variables, work, shown), process.clean_environment()

    def _keep_log(self, lines: Iterable[str], source: Path, target: Target) -> Path:
        log = self._cache / "logs" / f"{source.name}-{target.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        return log

    def _repaired(
        self, wheel: Path, source: Path, target: Target, builder: Interpreter, compiler: Compiler, work: Path
    ) -> Path:
        if compiler == _PROBE_COMPILER:
            return repair.settle(wheel)
        image = self._building.image
        made = repair.Made(
            source.name,
            target,
            Platform(builder.libc, (0, 0), builder.arch),
            tuple if image else functools.partial(repair.python_files, builder.path),
            compiler,
            self._building.accept,
            container.finder(image, target.platform, work) if image else repair.finder(target.platform),
        )
        return repair.repair(wheel, work, made)

    def _pip_for(self, builder: Interpreter, target: Target, work: Path) -> Path:
        """Give a directory that ``builder`` can run as pip: our own pip's where its Python is not too old for that."""
        own = importlib.metadata.metadata("pip")
        if SpecifierSet(own["Requires-Python"]).contains(builder.full_version):
            package = importlib.util.find_spec("pip")
            assert package is not None
            assert package.origin is not None
            return Path(package.origin).parent
        unpacked = work / "frontend"  # as it is, a wheel, old pips run but cannot find their own helpers
        with zipfile.ZipFile(self._find_pip(target)) as wheel:
            wheel.extractall(unpacked)
        return unpacked / "pip"


def _reason(lines: Sequence[str]) -> str:
    """Give the line that most likely says why a build failed."""
    compiler = next((line.strip() for line in lines if _COMPILERS.match(line.strip())), "")
    return compiler or process.last_error(lines) or (lines[-1].strip() if lines else "it said nothing")


def _excerpt(lines: Sequence[str], why: str) -> str:
    """Give the lines around the one that says why a build failed, or else the last ones."""
    last = max(len(lines) - _SHOWN, 0)
    said = next((number for number, line in enumerate(lines) if why in line), last)
    start = min(max(said - _BEFORE, 0), last)
    return "\n".join(lines[start : start + _SHOWN])


def _older(compiler: Compiler, target: Target, why: str) -> str:
    """Say that the headers of an old C library may be what lacks something."""
    if not compiler.zig or target.platform.libc != "glibc" or not _NOT_DECLARED.search(why):
        return ""
    policy = target.platform.policy
    return f"it is compiled for {policy}: what newer C libraries have takes a newer policy in --abis, and newer hosts\n"


def knows_dates() -> bool:
    """Tell whether our own pip can leave out what was uploaded later than a time."""
    return Version(importlib.metadata.version("pip")) >= Version("26.0")


def _check_fits(wheel: Path, target: Target, builder: Interpreter) -> None:
    if not fits(wheel.name, target, builder):
        raise PackError(f"{wheel.name}, built with {builder.path}, does not fit {target.name}")


def _says_linux(wheel: str) -> bool:
    """Tell whether a wheel's tag is as its build back end wrote it."""
    return any(tag.platform.startswith("linux_") for tag in parse_wheel_filename(wheel)[3])


def _as_for(builder: Interpreter, target: Target) -> Interpreter:
    """What was made for a platform counts as made there."""
    return replace(builder, arch=target.platform.arch, libc=target.platform.libc)


def _cross(place: Path, target: Target, work: Path) -> list[str]:
    """Tell meson-python that what it compiles does not run here; others need not know."""
    here = toolchain.machine()
    if (here.arch, here.libc) == (target.platform.arch, target.platform.libc) or not worktree.is_meson(place):
        return []
    file = work / "cross.ini"
    arch = target.platform.arch
    file.write_text(
        f"[host_machine]\nsystem = 'linux'\ncpu_family = '{arch}'\ncpu = '{arch}'\nendian = 'little'\n"
        f"[binaries]\n" + "".join(f"{name} = '{work}/toolchain/{tool}'\n" for name, tool in _MESON_TOOLS),
        "utf-8",
    )
    return [f"--config-settings=setup-args=--cross-file={file}"]


def _environment(work: Path) -> dict[str, str]:
    """Everything a build writes goes to ``work``; its wheel must not depend on the time."""
    settings = (
        work / "setuptools.cfg"
    )  # keeps setuptools from writing into a project's directory, or using what lies there
    settings.write_text(f"[build]\nbuild_base = {work}/build\n[egg_info]\negg_base = {work}\n", encoding="utf-8")
    ours = {"TMPDIR": str(work), "LC_ALL": "C.UTF-8", "PIP_REQUIRE_VIRTUALENV": "0", "DIST_EXTRA_CONFIG": str(settings)}
    return {"SOURCE_DATE_EPOCH": _EPOCH} | environment.visible() | ours


def _only_wheel(directory: Path) -> Path:
    (wheel,) = directory.glob("*.whl")
    return wheel


def keep(wheel: Path, cache: Path) -> Path:
    """Move a wheel into ``cache``, in a directory named after its digest, and give its path there."""
    digest = sha256(wheel)
    kept = kept_at(digest.hex(), wheel.name, cache)
    place = kept.parent
    if kept.is_file() and sha256(kept) != digest:  # somebody, or the disk, made another of it
        shutil.rmtree(place)
    with tempfile.TemporaryDirectory(dir=scratch(cache), prefix="keep-") as work:
        made = Path(work) / "wheel"
        made.mkdir()
        wheel.rename(made / wheel.name)
        publish(made, place)
    return kept


def kept_at(digest: str, name: str, cache: Path) -> Path:
    """Tell where a wheel is in a cache, if it is there; ``digest`` is the SHA-256 in hex."""
    return cache / "wheels" / digest / name
