"""Locks (PEP 751): read, written, compared, and asked what a target gets of them. Nothing here asks an index."""

from __future__ import annotations

import logging
import os
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlsplit

import tomli_w
from packaging.pylock import (
    Package,
    PackageArchive,
    PackageDirectory,
    PackageSdist,
    PackageVcs,
    PackageWheel,
    Pylock,
    PylockSelectError,
    PylockValidationError,
    is_valid_pylock_path,
)
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from packer import files
from packer.errors import PackError, UsageError
from packer.resolve import marker_environment
from packer.targets import wheel_tags

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from packaging.markers import Environment

    from packer.model import Target

    _Source = PackageVcs | PackageDirectory | PackageArchive | PackageWheel | PackageSdist

NAME = "pylock.toml"
"""What installers look for."""

_KNOWN = Version("1.0")

# the library warns of minor versions that it does not know; Lock.notes says it
logging.getLogger("packaging.pylock").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Lock:
    """A lock as it is in a file."""

    path: Path
    content: Pylock
    words: tuple[str, ...] | None = None
    """What ``packer lock`` is told to make it again, where a file says what is locked: ``--workspace tools.toml``."""
    index: tuple[str, ...] = ()
    """Options by which the user says where distributions come from, as they can be shown: hints repeat them."""

    @property
    def own(self) -> Mapping[str, Any]:
        """What this packer keeps in it, ``[tool.packer]``; empty in others' locks."""
        table = (self.content.tool or {}).get("packer", {})
        return table if isinstance(table, dict) else {}

    def texts(self, key: str) -> tuple[str, ...]:
        """Give a list of ``[tool.packer]``; empty if it is not there.

        :raises PackError: if it is something else.
        """
        value = self.own.get(key, [])
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise PackError(f"{self.path}: [tool.packer] {key}: must be a list of strings, is {value!r}")
        return tuple(value)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of it."""
        version = self.content.lock_version
        if version <= _KNOWN:
            return ()
        return (f"{self.path}: its lock-version is {version}; what is new since {_KNOWN} is not heeded",)


@dataclass(frozen=True)
class Pick:
    """What a target gets of one package: a file, or a project directory."""

    name: str
    """Normalised."""
    version: str
    """Empty where the lock does not tell."""
    file: str
    """File name; empty for a directory."""
    address: str
    """URL."""
    sha256: str
    size: int | None = None
    """Where the lock tells it."""
    directory: Path | None = None
    index: str = ""
    """URL of the index that had it; empty: the lock does not tell, or it is from none."""

    @property
    def is_wheel(self) -> bool:
        """Whether it is a wheel already."""
        return self.file.endswith(".whl")

    def __str__(self) -> str:
        return f"{self.name} {self.version}".rstrip()


def read(path: Path, words: tuple[str, ...] | None = None) -> Lock:
    """Read a lock.

    :param words: as :attr:`Lock.words`.
    :raises UsageError: if there is none.
    :raises PackError: if it is of a version that is not known, or breaks the rules.
    """
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        name = path if is_valid_pylock_path(path) else path.with_name(f"pylock.{path.stem.replace('.', '-')}.toml")
        command = shlex.join(["packer", "lock", *(("-o", str(name)) if words is None else words)])
        raise UsageError(f"no lock {path}: there is no such file", hint=f"{command} writes one") from None
    except OSError as error:
        raise PackError(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PackError(f"cannot read {path}: {error}", hint="a lock is a file as PEP 751 has it") from error
    _refuse_version(path, document.get("lock-version"))
    try:
        return Lock(path, Pylock.from_dict(document), words)
    except PylockValidationError as error:
        place = _place(document, error.context or "")
        raise PackError(f"{path}: not a lock as PEP 751 has it: {place}{error}", hint="lock again") from None


def _refuse_version(path: Path, said: object) -> None:
    """Say of a lock of the next generation what it is, not what is wrong with its keys."""
    try:
        version = Version(said) if isinstance(said, str) else None
    except InvalidVersion:
        version = None
    if version and version.release[0] > _KNOWN.release[0]:
        raise PackError(
            f"{path}: its lock-version is {version}, and this packer knows {_KNOWN}",
            hint="a later packer may know it; packer lock writes one of its own",
        )


def _place(document: Mapping[str, Any], context: str) -> str:
    """Name the package that a complaint is about."""
    found = re.match(r"packages\[(\d+)\]", context)
    try:
        return f"{document['packages'][int(found[1])]['name']}: " if found else ""
    except (KeyError, TypeError, IndexError):
        return ""


def digest(path: Path) -> str:
    """Give the SHA-256 of a lock, in hex."""
    return files.sha256(path).hex()


def text(content: Pylock) -> str:
    """Write a lock: the same content gives the same text."""
    return tomli_w.dumps(content.to_dict())


def write(lock: Lock) -> bool:
    """Write a lock to its file, in one step; tell whether that changed anything.

    :raises PackError: if it cannot be written; the file is as it was then.
    """
    new = text(lock.content).encode()
    if lock.path.is_file() and lock.path.read_bytes() == new:
        return False
    with files.replacing(lock.path) as file:
        file.write(new)
    return True


def refuse_name(path: Path) -> None:
    """Refuse a file name by which no installer knows a lock.

    :raises UsageError: naming one.
    """
    if not is_valid_pylock_path(path):
        raise UsageError(f"not a lock's name: {path.name}", hint=f"PEP 751 has {NAME} and pylock.WORD.toml")


def pick(lock: Lock, target: Target, extras: Collection[str] = ()) -> tuple[Pick, ...]:
    """Give what a target gets, as PEP 751 says to choose; in the lock's order.

    :param extras: of those that the lock has, which are wanted.
    :raises PackError: if the lock was not made for the target, or something in it cannot be packed.
    """
    _refuse_strange(lock, target)
    environment = cast("Environment", marker_environment(target))
    wanted = sorted({*extras} & {*(lock.content.extras or ())})
    try:
        found = list(lock.content.select(environment=environment, tags=wheel_tags(target), extras=wanted))
    except PylockSelectError as error:
        raise _unfit(lock, target, error) from None
    return tuple(_pick(lock, target, package, source) for package, source in found)


def _refuse_strange(lock: Lock, target: Target) -> None:
    """Refuse a target that the lock as a whole is not for."""
    hint = _locking(lock, target)
    python, needs = target.python.full_version, lock.content.requires_python
    if needs is not None and not needs.contains(python, prereleases=True):
        raise PackError(f"{target.name}: {lock.path} is for Python {needs}, and this is {python}", hint)
    environments = lock.content.environments
    environment = cast("dict[str, str | frozenset[str]]", marker_environment(target))
    if environments is not None and not any(one.evaluate(environment, context="requirement") for one in environments):
        has = f"it has {', '.join(lock.texts('slices'))}; " if lock.texts("slices") else ""
        raise PackError(f"{target.name}: {lock.path} was not made for it", f"{has}{hint}")


def _locking(lock: Lock, target: Target) -> str:
    command = again(lock, "--abis", ",".join(dict.fromkeys([*lock.texts("slices"), target.name])))
    return f"{command} locks it, too" if command else f"whatever wrote {lock.path} can lock for it, too"


def again(lock: Lock, *options: str, more: Sequence[str] = ()) -> str:
    """Give the command that makes a lock again, with all that it has; empty: others know.

    :param more: requirements that are new in it.
    """
    if not lock.own:
        return ""
    words = (*(word for _, word in roots(lock)), *more, "-o", str(lock.path)) if lock.words is None else lock.words
    return shlex.join(["packer", "lock", *words, *options, *lock.index])


def roots(lock: Lock) -> Iterator[tuple[str, str]]:
    """Give what was asked for: its name, and a word that leads to it once more."""
    packages = {package.name: package for package in lock.content.packages}
    for one in requested(lock):
        package = packages.get(canonicalize_name(one.name))
        source = (package.directory or package.archive) if package else None
        word = one.name
        if source and source.path:
            path = os.path.normpath(lock.path.parent / source.path)
            word = path if path.startswith((os.sep, os.curdir)) else os.path.join(os.curdir, path)
        elif isinstance(source, PackageArchive) and source.url:
            word = source.url
        yield one.name, f"{word}[{','.join(sorted(one.extras))}]" if one.extras else word


def requested(lock: Lock) -> Iterator[Requirement]:
    """Read what was asked for.

    :raises PackError: if somebody wrote something else there.
    """
    for word in lock.texts("requested"):
        try:
            yield Requirement(word)
        except InvalidRequirement:
            raise PackError(f"{lock.path}: [tool.packer] requested: not a requirement: {word!r}") from None


def lost(old: Lock, new: Lock) -> tuple[dict[str, str], list[str]]:
    """Give what was asked for of a lock, by name, and its slices, that another no longer has."""
    now = {one.name: one.extras for one in requested(new)}
    gone = {}
    for one in requested(old):
        extras = one.extras - now.get(one.name, set())
        if one.name not in now or extras:
            gone[one.name] = f"{one.name}[{','.join(sorted(extras))}]" if extras else one.name
    return gone, [name for name in old.texts("slices") if name not in new.texts("slices")]


def _unfit(lock: Lock, target: Target, error: PylockSelectError) -> PackError:
    """Say why nothing can be selected."""
    numbers = [int(number) for number in re.findall(r"packages\[(\d+)\]", str(error))]
    packages = [lock.content.packages[number] for number in numbers]
    hint = _locking(lock, target)
    if len(packages) > 1:
        versions = " and ".join(str(package.version) for package in packages)
        name = packages[0].name
        return PackError(f"{target.name}: {lock.path} has {name} {versions} for it: only one can be", "lock again")
    if not packages:
        return PackError(f"{target.name}: {lock.path}: {error}", hint)
    (package,) = packages
    named = f"{package.name} {package.version or ''}".rstrip()
    needs = package.requires_python
    if needs is not None and not needs.contains(target.python.full_version, prereleases=True):
        why = f"{named} needs Python {needs}, and this is {target.python.full_version}"
        return PackError(f"{target.name}: {lock.path}: {why}", hint)
    there = ", ".join(sorted(wheel.filename for wheel in package.wheels or ()))
    return PackError(f"{target.name}: {lock.path} has no file of {named} that fits: it has {there}", hint)


def _pick(lock: Lock, target: Target, package: Package, source: _Source) -> Pick:
    version = str(package.version) if package.version else ""
    where = f"{target.name}: {lock.path}: {package.name}"
    if isinstance(source, PackageVcs):
        raise PackError(f"{where} comes from {source.type}, which cannot be packed", hint="lock a release of it")
    if isinstance(source, PackageDirectory):
        directory = lock.path.parent / source.path / (source.subdirectory or "")
        if not directory.is_dir():
            raise PackError(f"{where} is the directory {directory}, which is not there", hint="lock again")
        return Pick(package.name, version, "", "", "", directory=directory)
    if isinstance(source, PackageArchive) and source.subdirectory:
        raise PackError(
            f"{where} is a directory in an archive, which cannot be packed", hint="build a wheel of it and lock that"
        )
    address = _address(lock, source, where)
    name = source.filename if isinstance(source, PackageWheel | PackageSdist) else ""
    file = unquote(urlsplit(address).path.rpartition("/")[2])
    if name and not _alike(name, file):
        raise PackError(f"{where}: the address of {name} ends in another name: {address}", hint="lock again")
    _refuse_other(file, where, package)
    known = {key.lower(): value.lower() for key, value in source.hashes.items()}
    if not re.fullmatch("[0-9a-f]{64}", known.get("sha256", "")):
        raise PackError(f"{where}: {file} has no SHA-256, but {', '.join(known)}", hint="lock again")
    return Pick(package.name, version, file, address, known["sha256"], source.size, index=package.index or "")


def _alike(one: str, other: str) -> bool:
    """Tell whether file names mean the same: uv writes ``pysocks-1.7.1`` of what an index calls ``PySocks-1.7.1``."""
    parse = parse_wheel_filename if one.endswith(".whl") else parse_sdist_filename
    try:
        return one == other or parse(one) == parse(other)
    except (InvalidWheelFilename, InvalidSdistFilename):
        return False


def _address(lock: Lock, source: PackageArchive | PackageWheel | PackageSdist, where: str) -> str:
    if source.path:
        return (lock.path.parent / source.path).resolve().as_uri()
    assert source.url is not None  # the library sees to it
    kind = urlsplit(source.url).scheme
    if kind not in ("http", "https", "file"):
        raise PackError(f"{where}: not an address that can be fetched: {source.url}", hint="lock again")
    return source.url.partition("#")[0]


def _refuse_other(file: str, where: str, package: Package) -> None:
    """Refuse what is no distribution, or another one than the lock says."""
    try:
        name, version, *_ = (parse_wheel_filename if file.endswith(".whl") else parse_sdist_filename)(file)
    except (InvalidWheelFilename, InvalidSdistFilename):
        raise PackError(
            f"{where} is {file}, neither a wheel nor a source distribution", hint="build a wheel of it and lock that"
        ) from None
    if name != package.name or package.version not in (None, version):
        raise PackError(
            f"{where}{f' {package.version}' if package.version else ''} is {file}, which is {name} {version}",
            hint="do not use it before you know who put that into the lock; lock again",
        )


@dataclass(frozen=True)
class Changes:
    """What another lock has for another; versions oldest first."""

    added: Mapping[str, Sequence[str]]
    removed: Mapping[str, Sequence[str]]
    changed: Mapping[str, tuple[Sequence[str], Sequence[str]]]
    """Versions before and after."""
    refreshed: Sequence[str]
    """Same versions, but other files or markers."""

    @property
    def any(self) -> bool:
        """Whether there are some."""
        return bool(self.added or self.removed or self.changed or self.refreshed)


def changes(old: Lock | None, new: Lock) -> Changes:
    """Compare two locks."""
    before, after = _by_name(old), _by_name(new)
    versions = {
        name: (_versions(before.get(name, ())), _versions(after.get(name, ()))) for name in sorted({*before, *after})
    }
    both = [name for name in versions if name in before and name in after]
    return Changes(
        added={name: now for name, (_, now) in versions.items() if name not in before},
        removed={name: once for name, (once, _) in versions.items() if name not in after},
        changed={name: versions[name] for name in both if versions[name][0] != versions[name][1]},
        refreshed=[
            name for name in both if versions[name][0] == versions[name][1] and before[name] != after[name]
        ],
    )  # fmt: skip


def _by_name(lock: Lock | None) -> dict[str, list[Package]]:
    found: dict[str, list[Package]] = {}
    for package in lock.content.packages if lock else ():
        found.setdefault(package.name, []).append(package)
    return found


def _versions(packages: Sequence[Package]) -> list[str]:
    return [str(one) for one in sorted(package.version for package in packages if package.version)]
