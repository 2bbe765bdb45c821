"""A project directory as what is built from it depends on it."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from packer import revision
from packer.errors import PackError
from packer.files import sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO

_GENERATED = re.compile(
    r"__pycache__|\.(mypy|pytest|ruff|hypothesis)(_cache)?|\.(tox|nox|venv|hg|svn)|.*\.egg-info|\..+\.tmp-\w{8}"
)
"""Names of what tools leave, and of archives that are being written."""

_TOP = {"_skbuild", ".eggs"}
"""Likewise, but only in the project's own directory."""

_MADE = re.compile(r"lib(\..*)?|(bdist|temp)\..*|(cp|pp)\d+(-.*)?|scripts-.*|\.gitignore|.*\.(whl|tar\.gz)")
"""Names of what tools make in these directories, which may as well be somebody's:"""

_TOP_MADE = {"build", "dist"}

_MARKS = ("pyvenv.cfg", "CACHEDIR.TAG")
"""Files in directories that can be made again: virtual environments, and what cargo compiles."""

_NATIVE = re.compile(
    r"ext_modules|cffi_modules|ext_package|Extension\(|rust_extensions"
    r"|(maturin|mesonpy|scikit_build_core|skbuild|setuptools_rust|Cython|cffi)\b"
)
_BUILD_FILES = ("pyproject.toml", "setup.py", "setup.cfg")
_NATIVE_BUILD_FILES = ("meson.build", "CMakeLists.txt", "Cargo.toml")
_LIMIT = 1 << 20
"""Bytes that are read of such a file."""

_UNREAD = "ext_modules"
"""What counts as said by one that is not read."""

_COMPILED = (".c", ".cc", ".cpp", ".cxx", ".pyx", ".rs", ".f", ".f90")
"""Suffixes of sources that are compiled."""

_TRAILER = 4096
_MAGIC = b"\x89fatpar\n"


def digest(project: Path) -> str:
    """Give a digest of every file that a build may read, by path, mode and content; and of what git says of them.

    :raises PackError: one cannot be read.
    """
    found = hashlib.sha256(f"project\0{revision.state(project)}\0".encode("utf-8", "surrogateescape"))
    for name, path in _files(project):
        try:
            status = path.lstat()
            said = os.readlink(path) if stat.S_ISLNK(status.st_mode) else sha256(path).hex()
        except OSError as error:
            raise PackError(
                f"{project / name}: cannot read it: {error.strerror}",
                hint="all files of a project count; change its mode, or take it out of there",
            ) from error
        found.update(f"{name.as_posix()}\0{status.st_mode & 0o111:o}\0{said}\n".encode("utf-8", "surrogateescape"))
    return found.hexdigest()


def state(project: Path) -> dict[str, tuple[int, ...]]:
    """Tell of every file that a build may read when it was touched, which nobody can set back."""
    found: dict[str, tuple[int, ...]] = {}
    for name, path in _files(project):
        with contextlib.suppress(FileNotFoundError):  # which the digest tells, too
            status = path.lstat()
            found[str(name)] = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return found


def copy(project: Path, into: Path) -> Path:
    """Copy what a build may read; a repository is linked."""
    into.mkdir()
    for name, path in _files(project):
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, into / name, follow_symlinks=False)
    if (project / ".git").exists():
        (into / ".git").symlink_to((project / ".git").resolve())
    return into


def stands_alone(project: Path) -> bool:
    """Tell whether a copy of a project is to git what the project is: a repository, or nothing."""
    return (project / ".git").is_dir() or not revision.state(project)


def looks_native(source: Path) -> bool:
    """Tell by the files of a project or source distribution whether its build compiles something, or might."""
    found = _contents(source)
    if any(name in _NATIVE_BUILD_FILES or name.endswith(_COMPILED) for name in found):
        return True
    return any(_NATIVE.search(text) for text in found.values())


def is_meson(source: Path) -> bool:
    """Tell whether meson-python builds a project or source distribution."""
    return "mesonpy" in _contents(source).get("pyproject.toml", "")


def _contents(source: Path) -> dict[str, str]:
    """Give the files of a project or source distribution by their paths, with the text of those that say how to build.

    What is neither is left to whoever builds it to complain of.
    """
    if source.is_dir():
        return {str(name): _text(path) if str(name) in _BUILD_FILES else "" for name, path in _files(source)}
    found: dict[str, str] = {}
    try:
        for path, content in _members(source):
            found[_below_top(path)] = content
    except Exception:  # of what is no good archive; whoever builds it says what is wrong
        found[_BUILD_FILES[0]] = _UNREAD
    return found


def _members(source: Path) -> Iterator[tuple[str, str]]:
    """Give the members of a source distribution with the text of those that say how to build."""
    import tarfile
    import zipfile

    if zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as zipped:
            for item in zipped.infolist():
                yield item.filename, _said(item.filename, item.file_size, functools.partial(zipped.open, item))
    elif tarfile.is_tarfile(source):
        with tarfile.open(source) as archive:
            for member in archive:
                size = member.size if member.isreg() else None
                yield member.name, _said(member.name, size, functools.partial(archive.extractfile, member))


def _said(path: str, size: int | None, opened: Callable[[], IO[bytes] | None]) -> str:
    """Give the text of a member that says how to build.

    :param size: none if it is no file, which somebody else may have the content of.
    """
    if _below_top(path) not in _BUILD_FILES:
        return ""
    stream = opened() if size is not None and size <= _LIMIT else None
    if stream is None:
        return _UNREAD
    with stream:
        return stream.read(_LIMIT).decode("utf-8", "replace")


def _below_top(path: str) -> str:
    """Take away the directory that all of a source distribution is in."""
    return path.partition("/")[2]


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_LIMIT).decode("utf-8", "replace") if path.stat().st_size <= _LIMIT else _UNREAD
    except OSError:
        return ""


def _files(project: Path) -> Iterator[tuple[Path, Path]]:
    """Give files and links in the order of their names, as (path in the project, where it is).

    Nothing of what tools left, and no packed program. In the place of a link that leads out of the project there is
    what it leads to.
    """
    yield from _below(project, Path(), (project.resolve(),))


def _below(directory: Path, name: Path, roots: tuple[Path, ...]) -> Iterator[tuple[Path, Path]]:
    """Give what is in a directory.

    :param name: of the directory in the project.
    :param roots: the project and, if links lead there, the directories outside that this one is in.
    """
    try:
        paths = sorted(directory.iterdir())
    except OSError:  # nor can a build read it
        return
    for path in paths:
        is_link, top = path.is_symlink(), not name.parts
        if _GENERATED.fullmatch(path.name) or (top and path.name == ".git"):
            continue
        place = Path(os.path.realpath(path)) if is_link else path
        leads_out = is_link and not any(place.is_relative_to(root) or root.is_relative_to(place) for root in roots)
        if is_link and not (leads_out and (place.is_dir() or place.is_file())):
            yield name / path.name, path
        elif place.is_dir():
            left = top and (path.name in _TOP or (path.name in _TOP_MADE and _is_made(path)))
            if not left and not any(os.path.exists(place / mark) for mark in _MARKS):
                yield from _below(place, name / path.name, (*roots, place) if leads_out else roots)
        elif place.is_file() and not _is_packed(place):
            yield name / path.name, place


def _is_made(directory: Path) -> bool:
    """Tell whether a directory of a project is what tools left, not sources: git keeps the project, but nothing of it.

    Without git, its names tell.
    """
    tracked = revision.tracked(directory.parent)
    if tracked:
        return not any((name + "/").startswith(f"{directory.name}/") for name in tracked)
    try:
        return all(_MADE.fullmatch(path.name) or _is_packed(path) for path in directory.iterdir())
    except OSError:  # nor can a build read it
        return True


def _is_packed(path: Path) -> bool:
    """Tell a program of ours, which may have been packed from this very project."""
    try:
        if path.is_symlink() or not path.stat().st_mode & 0o111:
            return False
        with path.open("rb") as file:
            if file.read(4) != b"\x7fELF":
                return False
            file.seek(0, os.SEEK_END)
            file.seek(-min(file.tell(), _TRAILER), os.SEEK_END)
            return _MAGIC in file.read()
    except OSError:
        return False
