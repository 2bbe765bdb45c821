"""Which interpreters are carried: named by the user, added before, or found on this machine."""

from __future__ import annotations

import json
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import zstandard

from packer import runtime, sources
from packer.errors import PackError, UsageError
from packer.files import replacing, sha256

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from packer.model import Runtime, Target
    from packer.sources import Interpreter

_BELOW = ("", "python", "python/install", "install", "usr")
"""Where the prefix is in what is given: python-build-standalone's archives have it below ``python``."""


def add(source: Path, cache: Path) -> Runtime:
    """Capture an interpreter and remember it for archives to come.

    :param source: an executable, a prefix, or an archive of python-build-standalone.
    :raises PackError: if there is none, or it cannot be carried.
    """
    interpreter = find(source, cache)
    captured = runtime.capture(interpreter, cache)
    place = _added(cache) / f"{captured.tag}-{captured.full_version}.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    with replacing(place) as file:
        said = {"source": str(source), "place": runtime.place_of(interpreter, cache).name}
        file.write(json.dumps(said).encode())
    return captured


def added(cache: Path) -> Iterator[tuple[Runtime, str]]:
    """Give the interpreters that were added and where they came from, the newest of each ABI first."""
    found = []
    for path in _added(cache).glob("*.json"):
        said = json.loads(path.read_bytes())
        found.append((runtime.load(cache / "runtimes" / said["place"]), said["source"]))
    yield from sorted(found, key=lambda one: (one[0].tag, [-part for part in one[0].version]))


def _added(cache: Path) -> Path:
    return cache / "runtimes" / "added"


def for_target(target: Target, named: Mapping[str, Path], cache: Path) -> Runtime:
    """Choose what the slice of a target carries.

    :param named: Python ABI tag -> what the user named for it.
    :raises PackError: if there is none.
    """
    tag = target.python.tag
    if tag in named:
        captured = runtime.capture(find(named[tag], cache), cache)
        if captured.tag != tag:
            raise UsageError(f"--runtime {tag}={named[tag]}: that is {captured.tag}, {captured.full_version}")
        return captured
    for captured, _ in added(cache):
        if captured.tag == tag:
            return captured
    here = sources.interpreter_for(target, sources.find_interpreters())
    if here is None:
        raise PackError(
            f"no interpreter of {tag} to be carried: none was added, and none is on this machine",
            hint=f"--runtime {tag}=SOURCE, which may be an archive of python-build-standalone",
        )
    return runtime.capture(here, cache)


def find(source: Path, cache: Path) -> Interpreter:
    """Find the interpreter in what a user names.

    :raises PackError: if there is none.
    """
    if source.is_file() and source.name.endswith((".tar.gz", ".tar.zst", ".tgz")):
        source = _unpacked(source, cache)
    if source.is_dir():
        places = [source / below / "bin" for below in _BELOW]
        found = sources.search(place for place in places if place.is_dir())
        # the newest: a prefix may have several
        interpreter = max(found, key=lambda one: one.version, default=None)
    else:
        interpreter = sources.search_one(source)
    if interpreter is None:
        why = "there is no such file or directory" if not source.exists() else "no CPython that runs here is in it"
        raise PackError(f"cannot carry {source}: {why}")
    return interpreter


def _unpacked(archive: Path, cache: Path) -> Path:
    """Unpack an archive, once."""
    place = cache / "unpacked" / sha256(archive).hex()
    if place.is_dir():
        return place
    with tempfile.TemporaryDirectory(dir=sources.scratch(cache), prefix="unpack-") as work:
        into = Path(work) / "files"
        try:
            with archive.open("rb") as file:
                stream = zstandard.ZstdDecompressor().stream_reader(file) if archive.suffix == ".zst" else file
                with tarfile.open(fileobj=stream, mode="r|" if archive.suffix == ".zst" else "r|gz") as tar:
                    tar.extractall(into, filter="tar")
        except (tarfile.TarError, zstandard.ZstdError, EOFError, OSError) as error:
            raise PackError(f"cannot unpack {archive}: {error}") from None
        sources.publish(into, place)
    return place
