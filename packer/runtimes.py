"""Which interpreters are carried: named by the user, added before, or found on this machine."""

from __future__ import annotations

import gzip
import json
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zstandard

from packer import facts, files, needs, pythons, runtime
from packer.errors import PackError, UsageError
from packer.files import replacing, sha256
from packer.model import NeedKind, Target

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from packer.model import Runtime
    from packer.pythons import Interpreter

_BELOW = ("", "python", "python/install", "install", "usr")
"""Where the prefix is in what is given: python-build-standalone's archives have it below ``python``."""


def add(source: Path, cache: Path) -> Runtime:
    """Capture an interpreter and remember it for archives to come.

    :param source: an executable, a prefix, or an archive of python-build-standalone.
    :raises PackError: if there is none, or it cannot be carried.
    """
    interpreter = find(source, cache)
    captured = runtime.capture(interpreter, cache)
    place = _added(cache) / f"{captured.tag}-{captured.full_version}-{captured.libc}-{captured.arch}.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    with replacing(place) as file:
        said = {"source": str(source.resolve()), "place": runtime.place_of(interpreter, cache).name}
        file.write(json.dumps(said).encode())
    return captured


def added(cache: Path, tag: str = "*") -> Iterator[tuple[Runtime, str]]:
    """Give the interpreters that were added and where they came from, the newest of each ABI first.

    :param tag: Python ABI tag; all if nothing is said.
    :raises PackError: if what was added is damaged.
    """
    found = []
    for path in _added(cache).glob(f"{tag}-*.json"):
        try:
            said = json.loads(path.read_bytes())
            place, source = cache / "runtimes" / said["place"], str(said["source"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise PackError(f"{path} is damaged: {error}", hint=f"remove {path}") from None
        try:
            found.append((runtime.load(place), source))
        except PackError as error:
            raise PackError(str(error), hint=f"packer runtime add {source}, or remove {path}") from None
    yield from sorted(found, key=lambda one: (one[0].tag, [-part for part in one[0].version]))


def _added(cache: Path) -> Path:
    return cache / "runtimes" / "added"


def for_target(target: Target, named: Mapping[str, Sequence[Path]], cache: Path, *, libc: bool = False) -> Runtime:
    """Choose what the slice of a target carries: what the user named, what was added, what is on this machine.

    :param named: Python ABI tag -> what the user named for it; of several the first that is for the platform.
    :param libc: with its C library.
    :raises PackError: if there is none.
    """
    tag = target.python.tag
    there = [find(source, cache, tag) for source in named.get(tag, ())]
    for one, place in zip(there, named.get(tag, ()), strict=True):
        if one.tag != tag:
            raise UsageError(f"--runtime {tag}={place}: that is {one.tag}, {one.full_version}")
    for one in there:
        if _fits(one, target):
            return runtime.capture(one, cache, libc=libc)
    for captured, source in added(cache, tag):
        if _fits(captured, target):
            if Path(source).exists():  # captured again if it has changed
                return runtime.capture(find(Path(source), cache, tag), cache, libc=libc)
            if libc:
                hint = f"packer runtime add, or --runtime {tag}=SOURCE"
                raise PackError(f"cannot bring the C library of {source}: it is not there any more", hint)
            return captured
    here = pythons.interpreter_for(target, pythons.find())
    if here is None or not _fits(here, target):
        what = f"{tag} for {target.platform.arch} and {target.platform.libc}"
        raise PackError(
            f"no interpreter of {what} to be carried: none was named or added, and none is on this machine",
            hint=f"--runtime {tag}=SOURCE, which may be an archive of python-build-standalone",
        )
    return runtime.capture(here, cache, libc=libc)


def refuse_unused(targets: Sequence[Target], named: Mapping[str, Sequence[Path]], cache: Path) -> None:
    """Refuse what the user named and no slice would carry.

    :raises UsageError: naming it, and what it is for.
    """
    for tag, places in named.items():
        mine = [target for target in targets if target.python.tag == tag]
        for place in places:
            one = find(place, cache, tag)
            if one.tag == tag and not any(_fits(one, target) for target in mine):
                names = ", ".join(target.platform.name for target in mine)
                raise UsageError(f"--runtime {tag}={place}: it is for {one.arch} and {one.libc}, and {tag} for {names}")


def _fits(one: Runtime | Interpreter, target: Target) -> bool:
    return (one.arch, one.libc) == (target.platform.arch, target.platform.libc)


def find(source: Path, cache: Path, tag: str = "") -> Interpreter:
    """Find the interpreter in what a user names.

    :param tag: Python ABI tag, preferred where there are several.
    :raises PackError: if there is none.
    """
    place = source
    if source.is_file() and source.name.endswith((".tar.gz", ".tar.zst", ".tgz")):
        place = _unpacked(source, cache)
    if place.is_dir():
        places = [place / below / "bin" for below in _BELOW]
        found = pythons.search(place for place in places if place.is_dir())
        interpreter = max(found, key=lambda one: (one.tag == tag, one.version), default=None)
    else:
        interpreter = pythons.search_one(source)
    if interpreter is None:
        why = "there is no such file or directory" if not source.exists() else "no CPython that runs here is in it"
        raise PackError(f"cannot carry {source}: {why}")
    return interpreter


def named(name: str, cache: Path) -> list[tuple[Runtime, str]]:
    """Give what was added for a Python ABI tag or from a source, or capture a source without remembering it.

    :raises UsageError: if it is neither.
    """
    known = list(added(cache))
    found = [(captured, source) for captured, source in known if name in (captured.tag, source)]
    if found:
        return found
    if "/" in name and not Path(name).exists():
        raise UsageError(f"no interpreter {name}: there is no such file or directory")
    if not name or not Path(name).exists():
        tags = ", ".join(captured.tag for captured, _ in known)
        raise UsageError(
            f"no interpreter {name!r} was added", hint=f"there is {tags}" if tags else "packer runtime add"
        )
    return [(capture(Path(name), cache), name)]


def capture(source: Path, cache: Path) -> Runtime:
    """Capture what a user names, without remembering it."""
    return runtime.capture(find(source, cache), cache)


def describe(captured: Runtime, source: str) -> dict[str, Any]:
    """Give what an interpreter consists of, and what it needs of a host, as JSON values."""
    target = Target(facts.pythons()[captured.tag].abi, facts.oldest_platform(captured.libc, captured.arch))
    needed = needs.needs(target, [captured.layer], [], [], None, captured)
    libc = next(need for need in needed if need.kind is NeedKind.LIBC)
    return {
        "tag": captured.tag,
        "python": captured.full_version,
        "source": source,
        "files": len(captured.layer.entries),
        "size": captured.layer.size,
        "digest": captured.layer.digest.hex(),
        "libc": f"{libc.name} {libc.number >> 16}.{libc.number >> 8 & 255}",
        "libraries": sorted(need.name for need in needed if need.kind is NeedKind.LIBRARY),
        "grafted": list(captured.grafted),
        "missing": list(captured.missing),
    }


def text(described: Mapping[str, Any]) -> str:
    """Say it to people."""
    rows = [
        ("interpreter", f"{described['tag']}, CPython {described['python']}, from {described['source']}"),
        ("layer", f"{described['files']:,} files, {described['size']:,} bytes, {described['digest'][:16]}"),
        ("needs", ", ".join([described["libc"], *described["libraries"]])),
        ("grafted", ", ".join(described["grafted"]) or "nothing: no library comes from elsewhere"),
    ]
    if described["missing"]:
        rows.append(("left out", f"{', '.join(described['missing'])}: could not be imported"))
    return "\n".join(f"{name:12} {value}" for name, value in rows)


def _decompress(archive: Path, plain: Path) -> None:
    """Decompress a tar: whole, or else it is damaged. tarfile itself takes an end in the middle for the end.

    :raises ValueError: if it does not end as a tar does.
    """
    with plain.open("wb") as output:
        if archive.suffix == ".zst":
            with archive.open("rb") as file:
                zstandard.ZstdDecompressor().copy_stream(file, output)
        else:
            with gzip.open(archive) as file:  # which holds its checksum against it at the end
                shutil.copyfileobj(file, output)
    with plain.open("rb") as file:
        file.seek(max(0, plain.stat().st_size - 1024))
        if file.read() != bytes(1024):
            raise ValueError("it is cut short")


def _unpacked(archive: Path, cache: Path) -> Path:
    """Unpack an archive, once."""
    place = cache / "unpacked" / sha256(archive).hex()
    if place.is_dir():
        return place
    with tempfile.TemporaryDirectory(dir=files.scratch(cache), prefix="unpack-") as work:
        into, plain = Path(work) / "files", Path(work) / "tar"
        try:
            into.mkdir()
            _decompress(archive, plain)
            with tarfile.open(plain, "r:") as tar:
                tar.extractall(into, filter="data")
        except (tarfile.TarError, zstandard.ZstdError, EOFError, OSError, ValueError) as error:
            raise PackError(f"cannot unpack {archive}: {error}") from None
        files.publish(into, place)
    return place
