"""Files: output that is whole or not there, and digests."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import re
import shutil
import stat
import tempfile
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

from packer.errors import PackError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from packer.model import Entry

_MOST = 1 << 20
"""Bytes of a file that says something of something else; real ones have some thousand."""

_ABANDONED = 24 * 3600
"""Seconds after which nobody works on a temporary file any more."""


@contextlib.contextmanager
def replacing(path: Path, *, mode: int = 0o666, exact: int | None = None, option: str = "-o") -> Iterator[IO[bytes]]:
    """Write a file under a temporary name beside ``path`` and move it there at the end; on any failure nothing is left.

    What is being written can be read, too. An OSError that leaves the block counts as one of writing.

    :param mode: permissions before the user's mask.
    :param exact: permissions whatever the mask.
    :param option: the one with which another file can be named.
    :raises PackError: if the directory cannot be written to, or the disk is full.
    """
    try:
        sweep(path.parent, rf"\.{re.escape(path.name)}\.tmp-\w{{8}}")
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.tmp-", dir=path.parent)
        temporary = Path(name)
        try:
            with open(name, "w+b", opener=lambda *_: descriptor) as file:  # so that it has a name
                yield file
                file.flush()
                os.fsync(file.fileno())
            mask = os.umask(0)
            os.umask(mask)
            temporary.chmod(mode & ~mask if exact is None else exact)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise _cannot_write(path, error, option) from error


@contextlib.contextmanager
def working() -> Iterator[Path]:
    """Make a temporary directory in which packed programs may run; in the end all of it goes.

    Nobody can write to the directories of their stores. Where that hinders it, tempfile changes the mode of what is to
    be removed, and before CPython 3.12.1 that of what a link leads to: of the interpreter (gh-91133).
    """
    with tempfile.TemporaryDirectory(prefix="packer-") as name:
        try:
            yield Path(name)
        finally:
            for directory, _, _ in os.walk(name):
                Path(directory).chmod(0o700)


def sweep(directory: Path, names: str) -> None:
    """Remove what runs that were killed left under temporary names: what is older than a day, as stores do it.

    :param names: a regular expression for the whole of a name.
    """
    before = time.time() - _ABANDONED
    with contextlib.suppress(OSError):
        for path in [Path(one) for one in os.scandir(directory) if re.fullmatch(names, one.name)]:
            with contextlib.suppress(OSError):
                found = path.lstat()
                if found.st_mtime >= before or found.st_uid != os.geteuid():
                    continue
                if stat.S_ISDIR(found.st_mode):
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()


KEPT_FOR = 30 * 24 * 3600
"""Seconds since something in a cache was last used until it is thrown away."""


def sweep_unused(directory: Path) -> None:
    """Remove the directories in one of a cache that nobody has used for long; who uses one sets its time."""
    for place in directory.glob("*"):
        with contextlib.suppress(OSError):  # somebody else may be faster
            if place.stat().st_mtime < time.time() - KEPT_FOR:
                shutil.rmtree(place, ignore_errors=True)


def refuse_unwritable(path: Path, *, option: str = "-o") -> None:
    """Find out before long work what would only show at its end.

    :param option: the one with which another file can be named.
    :raises PackError: if :func:`replacing` could not write ``path``.
    """
    try:
        with contextlib.suppress(FileNotFoundError):
            mode = path.stat().st_mode  # fails if it is a link that leads in a circle
            if not stat.S_ISREG(mode):  # above all not /dev/null
                raise OSError(None, "it is a directory" if stat.S_ISDIR(mode) else "it is a device or the like")
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise _cannot_write(path, error, option) from error


def _cannot_write(path: Path, error: OSError, option: str) -> PackError:
    return PackError(f"cannot write {path}: {error.strerror}", hint=f"name another file with {option}")


def sha256(path: Path) -> bytes:
    """Give the digest of a file."""
    with path.open("rb") as stream:
        return sha256_of(stream)


def sha256_of(stream: IO[bytes]) -> bytes:
    """Give the digest of what is left of a file."""
    digest = hashlib.sha256()
    while block := stream.read(1 << 20):
        digest.update(block)
    return digest.digest()


def regular(path: Path) -> IO[bytes]:
    """Open a file that anybody may have put there: no link, and nothing that lets its reader wait or has no end.

    :raises OSError: if it is none, too.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(None, "it is no regular file", str(path))
    return os.fdopen(descriptor, "rb")


def small(path: Path) -> bytes:
    """Give the beginning of such a file, which is all of an honest one; of what cannot be read nothing."""
    try:
        with regular(path) as file:
            return file.read(_MOST)
    except OSError:
        return b""


def content(entry: Entry) -> bytes:
    """Read a file of a layer, and make sure that it is what it was: what is worked out from it is kept by its digest.

    :raises PackError: if it cannot be read, or is another.
    """
    source = entry.source
    assert source is not None, entry.path
    try:
        read = source.read_bytes()
    except OSError as error:
        raise PackError(f"cannot read {source}: {error.strerror}", _hint(source)) from error
    if hashlib.sha256(read).digest() != entry.sha256:
        raise PackError(f"{source} was changed while it was packed", _hint(source))
    return read


def _hint(source: Path) -> str:
    """Tell the way out where it was not the user who changed a file."""
    caches = [path for path in source.parents if path.parent.name in ("installed", "bytecode", "runtimes")]
    return f"if nobody is changing it, remove {caches[0]}, which is made anew" if caches else ""


def scratch(cache: Path) -> Path:
    """Give the directory of ``cache`` for what is not finished."""
    directory = cache / "tmp"
    directory.mkdir(parents=True, exist_ok=True)
    _sweep_once(directory)
    return directory


@functools.cache
def _sweep_once(directory: Path) -> None:
    """Remove what runs that were killed left there."""
    sweep(directory, r"[a-z]+-\w{8}")


def publish(made: Path, place: Path) -> None:
    """Move a directory of finished files to its place, in one step; somebody else may have been faster."""
    for directory, _, names in os.walk(made):
        for file in (Path(directory, name) for name in names):
            if not file.is_symlink():
                with file.open("rb") as stream:
                    os.fsync(stream.fileno())
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        made.rename(place)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
