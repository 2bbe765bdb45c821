"""Wheels that were built: kept by the digest of their source, and by all else that decides their bytes.

``built/DIGEST/TAG+REACH/WHEEL``, with a note of its own digest beside it. The tag is that of the Python that a wheel
was built for; its reach says what else has to be the same for it to serve again: of a pure wheel the circumstances of
the build, of one for several Pythons the platform and the compilers (Rust's, too), and of any other the interpreter
besides.

What does not count: what an index, or a file that is named by its address, got since, as a newer build requirement; and
headers, libraries and programs of this machine, as those that come along (graft.py). Removing ``built`` makes all anew.
"""

from __future__ import annotations

import functools
import hashlib
import shutil
import sys
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import parse_wheel_filename

from packer import container, environment, pinned, pythons, repair, rust, toolchain
from packer.errors import PackError
from packer.files import publish, sha256
from packer.targets import wheel_tags

if TYPE_CHECKING:
    from collections.abc import Sequence

    from packer.model import Target
    from packer.pythons import Interpreter
    from packer.toolchain import Building


_NOTE = "sha256"
"""The file beside a wheel that says its digest."""


class Shelf:
    """The wheels of a cache that may serve under the circumstances of this run."""

    def __init__(self, cache: Path, building: Building, index_options: Sequence[str], as_of: str) -> None:
        """Look into ``cache``; the other parameters are those of :class:`~packer.sources.Builder`."""
        self._directory = cache / "built"
        self._building = building
        said = [environment.digest(), *pinned.settings(), *pinned.named(index_options), *index_options, as_of]
        self._circumstances = _short("\0".join(said))

    def known(self, target: Target) -> dict[str, Path]:
        """Give all that serve a target, by the digests of their sources."""
        found = {place.name: self.find(place.name, target) for place in self._directory.glob("*")}
        return {digest: wheel for digest, wheel in found.items() if wheel}

    def find(self, digest: str, target: Target) -> Path | None:
        """Find a wheel of a source that serves a target: better one that was built for its Python than another."""
        directory = self._directory / digest
        places = sorted(directory.iterdir()) if directory.is_dir() else []
        for place in sorted(places, key=lambda place: not place.name.startswith(f"{target.python.tag}+")):
            tag, _, reach = place.name.partition("+")
            shared = reach in (self._anywhere, self._alike(target))
            if shared or (tag == target.python.tag and reach == self._own(target)):
                for wheel in _whole(place):
                    fits = serves(wheel.name, target) and (reach != self._anywhere or is_pure(wheel))
                    if fits and self._is_let_pass(wheel, target):
                        return wheel
        return None

    def place(self, digest: str, wheel: Path, target: Target, *, tag: str, falls_back: bool) -> Path:
        """Tell where a wheel belongs.

        :param tag: of the Python that it was built for.
        :param falls_back: its source would have native code elsewhere, even if this wheel has none.
        """
        if is_pure(wheel):
            reach = self._own(target) if falls_back else self._anywhere
        else:
            several = all(one.abi in ("abi3", "none") for one in parse_wheel_filename(wheel.name)[3])
            reach = self._alike(target) if several else self._own(target)
        return self._directory / digest / f"{tag}+{reach}"

    def put(self, made: Path, place: Path) -> None:
        """Move a directory with a wheel to its place, if there is none in it that is whole."""
        for wheel in made.glob("*.whl"):
            wheel.with_name(_NOTE).write_text(sha256(wheel).hex())
        if place.exists() and not _whole(place):  # somebody, or the disk, made another of it
            shutil.rmtree(place)
        publish(made, place)

    @property
    def _anywhere(self) -> str:
        return f"any+{self._circumstances}"

    @functools.cached_property
    def _rust(self) -> str:
        return _short(rust.versions())

    @functools.cache  # noqa: B019 - one lives as long as a packing
    def _alike(self, target: Target) -> str:
        if self._building.image:
            compiler = f"image-{container.key(self._building.image)}"
        else:
            try:
                compiler = toolchain.choose(target, self._building.cc).key
            except PackError:  # told when something is to be built
                compiler = "none"
            compiler = f"{compiler}-{self._rust}"
        return f"{target.platform.name}+{compiler}+{self._circumstances}"

    @functools.cache  # noqa: B019
    def _own(self, target: Target) -> str:
        if self._building.image:  # its key names its interpreters, too
            return f"{self._alike(target)}+own"
        one = interpreter_for(target, self._building)
        return f"{self._alike(target)}+{_short(f'{one.path} {one.build}') if one else 'none'}"

    def _is_let_pass(self, wheel: Path, target: Target) -> bool:
        """Tell whether what a wheel needs of a host is what its target promises, or is accepted.

        Its tag says to which policy it keeps; one without native code keeps to all.
        """
        distribution, _, _, tags = parse_wheel_filename(wheel.name)
        if distribution in self._building.accept or not tags.isdisjoint(wheel_tags(target)):
            return True
        return not _native_files(wheel)


def interpreters(building: Building) -> tuple[Interpreter, ...]:
    """Give the interpreters that may build."""
    if building.image:
        return tuple(map(pythons.answered, container.interpreters(building.image, pythons.PROBE)))
    return pythons.find()


def interpreter_for(target: Target, building: Building) -> Interpreter | None:
    """Choose the interpreter that builds for a target: one that was named, else found, else our own.

    :raises PackError: what was named is none.
    """
    if building.image:
        return pythons.interpreter_for(target, interpreters(building))
    own = pythons.search_one(Path(sys.executable))
    among = (_named(building), pythons.find(), (own,) if own else ())
    return next(filter(None, (pythons.interpreter_for(target, some) for some in among)), None)


def _named(building: Building) -> tuple[Interpreter, ...]:
    found = [(path, pythons.search_one(path)) for path in building.interpreters]
    for path, one in found:
        if one is None:
            raise PackError(f"--interpreter {path}: it is no CPython that runs here")
    return tuple(one for _, one in found if one)


def is_pure(wheel: Path) -> bool:
    """Tell whether a wheel has nothing of one ABI or platform, whatever its name says."""
    tags = parse_wheel_filename(wheel.name)[3]
    return all(tag.abi == "none" and tag.platform == "any" for tag in tags) and not _native_files(wheel)


def _whole(place: Path) -> list[Path]:
    """Give the wheels in a place that are what was put there."""
    try:
        noted = (place / _NOTE).read_text()
        return [wheel for wheel in place.glob("*.whl") if _digest(wheel, wheel.stat().st_ctime_ns) == noted]
    except (OSError, UnicodeDecodeError):
        return []


@functools.cache
def _digest(wheel: Path, _changed: int) -> str:
    return sha256(wheel).hex()


def _native_files(wheel: Path) -> list[str]:
    return _native_in(wheel, wheel.stat().st_ctime_ns)


@functools.cache
def _native_in(wheel: Path, _changed: int) -> list[str]:
    try:
        with zipfile.ZipFile(wheel) as archive:
            return repair.native_files(archive)
    except (zipfile.BadZipFile, zlib.error):  # whoever installs it says what is wrong
        return []


def serves(wheel: str, target: Target) -> bool:
    """Tell whether a wheel that was made for the platform of ``target`` is also for its Python."""
    pairs = {(tag.interpreter, tag.abi) for tag in wheel_tags(target)}
    return any((tag.interpreter, tag.abi) in pairs for tag in parse_wheel_filename(wheel)[3])


def _short(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]
