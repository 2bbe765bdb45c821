"""Requirements and targets -> a lock: pip chooses for each target, and what it chose is written down for all.

A marker cannot tell a libc, its version or a free-threaded Python. Targets that differ in nothing else get the same
versions: the oldest that one of them got.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from packaging.markers import Marker
from packaging.pylock import Package, PackageArchive, PackageDirectory, PackageSdist, PackageWheel, Pylock
from packaging.specifiers import SpecifierSet
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    NormalizedName,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import Version

from packer import resolve
from packer.errors import PackError, UsageError
from packer.files import sha256
from packer.lock import Lock, pick
from packer.resolve import Bounds, Choice
from packer.targets import wheel_tags
from packer.toolchain import Building

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from packer.model import Target, Wheel
    from packer.pipchild import Chosen, Offered
    from packer.requests import Requests

_Key = tuple[tuple[int, int], str]
"""What markers tell of a target: version of Python, architecture."""


@dataclass(frozen=True)
class Wanted:
    """What a lock is made of."""

    requests: Requests
    targets: tuple[Target, ...]
    path: Path
    """Of the lock; paths in it are relative to its directory."""
    old: Lock | None = None
    """Its versions are kept as far as they can be."""
    upgrade: frozenset[str] | None = frozenset()
    """Normalised names that are not kept; ``None``: all."""
    building: Building = field(default_factory=Building)


def make(
    wanted: Wanted, *, cache: Path, progress: Callable[[str], None], limit: float = 600.0
) -> tuple[Lock, tuple[str, ...]]:
    """Make a lock; also what the user should know of it. Nothing is written.

    :raises PackError: if requirements cannot be met, or a lock cannot say what was chosen.
    """
    bounds = {target: Bounds(kept=_kept(wanted, target)) for target in wanted.targets}
    choices: dict[Target, Choice] = {}
    waiting: Collection[Target] = wanted.targets
    notes: list[str] = []
    while waiting:
        todo = [target for target in wanted.targets if target in waiting]
        try:
            made = resolve.choose(
                wanted.requests, todo, bounds, cache=cache, progress=progress, limit=limit, building=wanted.building
            )
        except PackError as error:
            raise _with_reason(error, bounds, todo) from None
        choices |= dict(zip(todo, made, strict=True))
        waiting = set()
        for group in _groups(wanted.targets).values():
            for name, version in _differing({target: choices[target] for target in group}).items():
                names = " and ".join(target.name for target in group)
                notes.append(f"{name} is {version} for {names} alike: a lock cannot tell them apart")
                for target in group:
                    bounds[target] = replace(bounds[target], only={**bounds[target].only, name: version})
                    waiting.add(target)
    lock = Lock(wanted.path, _content(wanted, [choices[target] for target in wanted.targets]))
    _refuse_unlike(lock, choices)
    return lock, (*notes, *dict.fromkeys(_yanked(choices.values()).values()), *_timeless(wanted, choices.values()))


def _with_reason(error: PackError, bounds: Mapping[Target, Bounds], targets: Iterable[Target]) -> PackError:
    """Say where it comes from that a version was the only one."""
    only = sorted({f"{name} {version}" for target in targets for name, version in bounds[target].only.items()})
    if not only:
        return error
    why = f"no marker of a lock can tell these slices apart, so they need the same versions: {', '.join(only)}"
    return PackError(f"{error}\n{why}", hint="give them locks of their own, with -o pylock.NAME.toml")


def _kept(wanted: Wanted, target: Target) -> dict[str, str]:
    """Give the old lock's versions for a target; for one that it was not made for, the newest it has."""
    if wanted.old is None or wanted.upgrade is None:
        return {}
    try:
        found = {one.name: one.version for one in pick(wanted.old, target)}
    except PackError:
        every = [package for package in wanted.old.content.packages if package.version]
        every.sort(key=lambda package: package.version or Version("0"))
        found = {str(package.name): str(package.version) for package in every}
    return {name: version for name, version in found.items() if version and name not in wanted.upgrade}


def refuse_unknown(old: Lock | None, path: Path, names: Iterable[str]) -> frozenset[str]:
    """Read the names that are upgraded.

    :raises UsageError: for one that the old lock does not have.
    """
    wanted = frozenset(map(canonicalize_name, names))
    if wanted and old is None:
        raise UsageError(f"--upgrade: there is no lock {path} yet", hint="without --upgrade one is made")
    known = {str(package.name) for package in old.content.packages} if old else set()
    for name in sorted(wanted - known):
        raise UsageError(f"--upgrade {name}: {path} has none", hint=f"it has {', '.join(sorted(known))}")
    return wanted


def _key(target: Target) -> _Key:
    return target.python.version, target.platform.arch


def _groups(targets: Iterable[Target]) -> dict[_Key, list[Target]]:
    groups: dict[_Key, list[Target]] = {}
    for target in targets:
        groups.setdefault(_key(target), []).append(target)
    return groups


def _differing(choices: Mapping[Target, Choice]) -> dict[str, str]:
    """Give the oldest version of what targets got different versions of."""
    versions: dict[str, set[Version]] = {}
    for choice in choices.values():
        for wheel in choice.resolution.wheels:
            versions.setdefault(wheel.distribution, set()).add(Version(wheel.version))
    return {name: str(min(found)) for name, found in versions.items() if len(found) > 1}


@dataclass(frozen=True)
class _Got:
    """What a target got of one distribution."""

    target: Target
    wheel: Wheel
    chosen: Chosen


def _content(wanted: Wanted, choices: Sequence[Choice]) -> Pylock:
    every = [_key(target) for target in wanted.targets]
    got: dict[tuple[str, str], list[_Got]] = {}
    for choice in choices:
        for wheel, chosen in zip(choice.resolution.wheels, choice.chosen, strict=True):
            version = wheel.version if chosen["kind"] == "index" else ""
            got.setdefault((wheel.distribution, version), []).append(_Got(choice.resolution.target, wheel, chosen))
    names = sorted(got, key=lambda one: (one[0], Version(one[1] or "0")))
    return Pylock(
        lock_version=Version("1.0"),
        environments=[_environment(key) for key in sorted(set(every))],
        requires_python=SpecifierSet(f">={_dotted(min(python for python, _ in every))}"),
        created_by="fatpar",
        packages=[_package(wanted, name, version, got[name, version], every) for name, version in names],
        tool={"packer": _own(wanted, choices)},
    )


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def _environment(key: _Key) -> Marker:
    python, arch = key
    return Marker(
        f'python_version == "{_dotted(python)}" and platform_machine == "{arch}" and platform_system == "Linux" '
        'and platform_python_implementation == "CPython"'
    )


def _marker(keys: set[_Key], every: Iterable[_Key]) -> Marker | None:
    """Write a marker that is true for ``keys``, of ``every`` one there is."""
    pythons, archs = {python for python, _ in keys}, {arch for _, arch in keys}
    if keys >= set(every):
        return None
    if keys == {key for key in every if key[0] in pythons}:
        parts = [f'python_version == "{_dotted(python)}"' for python in sorted(pythons)]
    elif keys == {key for key in every if key[1] in archs}:
        parts = [f'platform_machine == "{arch}"' for arch in sorted(archs)]
    else:
        parts = [
            f'python_version == "{_dotted(python)}" and platform_machine == "{arch}"' for python, arch in sorted(keys)
        ]
    return Marker(" or ".join(parts))


def _package(wanted: Wanted, name: str, version: str, got: Sequence[_Got], every: Sequence[_Key]) -> Package:
    marker = _marker({_key(one.target) for one in got}, every)
    normalised = NormalizedName(name)
    first = got[0]
    if first.chosen["kind"] == "directory":
        place = os.path.relpath(_local(first.chosen["url"]), wanted.path.parent.resolve())
        return Package(name=normalised, marker=marker, directory=PackageDirectory(path=Path(place).as_posix()))
    if first.chosen["kind"] == "archive":
        url, path = _place(wanted, first.chosen["url"])
        archive = PackageArchive(url=url, path=path, hashes={"sha256": first.chosen["sha256"] or first.wheel.sha256})
        return Package(name=normalised, marker=marker, archive=archive)
    files = _files(got)
    wheels = [one for _, one in sorted(files.items()) if one.wheel]
    needs = {one.offered["requires_python"] for one in wheels or files.values()}
    indexes = sorted({one.offered["index"] for one in files.values()})
    sdists = [one for _, one in sorted(files.items()) if not one.wheel]
    chosen = [one for one in sdists if one.sha256 == first.chosen["sha256"]] or sdists
    return Package(
        name=normalised,
        version=Version(version),
        marker=marker,
        requires_python=SpecifierSet(needs.pop()) if len(needs) == 1 and needs != {""} else None,
        index=f"{indexes[0]}/" if len(indexes) == 1 and _is_remote(indexes[0]) else None,
        sdist=chosen[0].as_sdist(wanted) if chosen else None,
        wheels=[one.as_wheel(wanted) for one in wheels] or None,
    )


@dataclass(frozen=True)
class _File:
    """A file of a version that was chosen, with its digest."""

    offered: Offered
    sha256: str

    @property
    def wheel(self) -> bool:
        return self.offered["name"].endswith(".whl")

    @property
    def uploaded(self) -> datetime | None:
        return datetime.fromisoformat(self.offered["uploaded"]) if self.offered["uploaded"] else None

    @property
    def size(self) -> int | None:
        if self.offered["size"] is None and not _is_remote(self.offered["url"]):
            return _local(self.offered["url"]).stat().st_size
        return self.offered["size"]

    def as_wheel(self, wanted: Wanted) -> PackageWheel:
        url, path = _place(wanted, self.offered["url"])
        return PackageWheel(
            name=self.offered["name"], upload_time=self.uploaded, url=url, path=path, size=self.size,
            hashes={"sha256": self.sha256},
        )  # fmt: skip

    def as_sdist(self, wanted: Wanted) -> PackageSdist:
        url, path = _place(wanted, self.offered["url"])
        return PackageSdist(
            name=self.offered["name"], upload_time=self.uploaded, url=url, path=path, size=self.size,
            hashes={"sha256": self.sha256},
        )  # fmt: skip


def _files(got: Sequence[_Got]) -> dict[str, _File]:
    """Give the files of one version by name: the wheels that one of its targets takes, and source distributions.

    Of two files of one name, as an index and a directory may have them, that which was chosen counts.
    """
    tags = {tag for one in got for tag in wheel_tags(one.target)}
    known = {one.chosen["sha256"] or one.wheel.sha256: one.wheel.path for one in got}
    found: dict[str, _File] = {}
    for one in got:
        for offered in one.chosen["offered"]:
            if offered["name"] in found and found[offered["name"]].sha256 in known:
                continue
            if not _fits(offered["name"], tags):
                continue
            digest = _digest(offered, one)
            if digest and (offered["yanked"] is None or digest in known):
                found[offered["name"]] = _File(_with_size(offered, known.get(digest)), digest)
    return found


def _with_size(offered: Offered, path: Path | None) -> Offered:
    """Fill in the size of what is at hand, if the index did not tell it."""
    if offered["size"] is not None or path is None or path.name != offered["name"]:
        return offered
    return {**offered, "size": path.stat().st_size}


def _fits(name: str, tags: Collection[object]) -> bool:
    try:
        if name.endswith(".whl"):
            return not parse_wheel_filename(name)[3].isdisjoint(tags)
        parse_sdist_filename(name)
    except (InvalidWheelFilename, InvalidSdistFilename):
        return False
    return True


def _digest(offered: Offered, got: _Got) -> str:
    """Give the SHA-256 of a file: as the index says, else from the file, if it is at hand; else empty."""
    if "sha256" in offered["hashes"]:
        return offered["hashes"]["sha256"]
    if not _is_remote(offered["url"]):
        return sha256(_local(offered["url"])).hex()
    if offered["url"] == got.chosen["url"]:
        return got.chosen["sha256"] or got.wheel.sha256
    return ""


def _place(wanted: Wanted, url: str) -> tuple[str | None, str | None]:
    """Give a file's URL, or its path relative to the lock."""
    if _is_remote(url):
        return url, None
    return None, Path(os.path.relpath(_local(url), wanted.path.parent.resolve())).as_posix()


def _is_remote(url: str) -> bool:
    return urlsplit(url).scheme in ("http", "https")


def _local(url: str) -> Path:
    return Path(url2pathname(urlsplit(url).path))


def _own(wanted: Wanted, choices: Sequence[Choice]) -> dict[str, object]:
    """Note how it was asked for, so that packing and locking again need not be told."""
    requests = wanted.requests
    requested = {
        f"{one['name']}[{','.join(one['extras'])}]" if one["extras"] else one["name"]
        for choice in choices for one in choice.chosen if one["requested"]
    }  # fmt: skip
    said: dict[str, object] = {"slices": [target.name for target in wanted.targets], "requested": sorted(requested)}
    yanked = sorted(_yanked(choices))
    return said | ({"as-of": requests.as_of} if requests.as_of else {}) | ({"yanked": yanked} if yanked else {})


def _refuse_unlike(lock: Lock, choices: Mapping[Target, Choice]) -> None:
    """Make sure that what is packed from the lock is what pip chose.

    :raises PackError: where neither markers nor wheel tags tell what did.
    """
    for target, choice in choices.items():
        meant = {
            wheel.distribution: chosen["sha256"] or wheel.sha256
            for wheel, chosen in zip(choice.resolution.wheels, choice.chosen, strict=True)
        }
        got = {one.name: one.sha256 for one in pick(lock, target)}
        directories = {one.name for one in pick(lock, target) if one.directory}
        for name in sorted({*meant, *got} - directories):
            if meant.get(name) != got.get(name):
                raise PackError(
                    f"{target.name}: a lock cannot say what was chosen of {name}: slices for the same Python differ "
                    "in it",
                    hint="give them locks of their own, with -o pylock.NAME.toml",
                )


def _timeless(wanted: Wanted, choices: Iterable[Choice]) -> Iterator[str]:
    """Tell for what ``--as-of`` did not count."""
    names = {
        one["name"] for choice in choices for one in choice.chosen
        if one["kind"] == "index" and not _is_remote(one["url"])
    }  # fmt: skip
    if wanted.requests.as_of and names:
        yield f"--as-of does not count for what comes from directories: {', '.join(sorted(names))}"


def _yanked(choices: Iterable[Choice]) -> dict[str, str]:
    """Give the files that were chosen although they were yanked, since a requirement names the version, and say so."""
    said: dict[str, str] = {}
    for choice in choices:
        for wheel, chosen in zip(choice.resolution.wheels, choice.chosen, strict=True):
            for one in chosen["offered"]:
                if one["url"] == chosen["url"] and one["yanked"] is not None:
                    why = f": {one['yanked']}" if one["yanked"] else ""
                    said[one["name"]] = f"{wheel.distribution} {wheel.version} was yanked{why}; it is required as it is"
    return said
