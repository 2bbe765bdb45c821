"""A project directory as what is built from it depends on it."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from packer.files import sha256

if TYPE_CHECKING:
    from collections.abc import Iterator

_GENERATED = re.compile(r"__pycache__|\.(mypy|pytest|ruff|hypothesis)(_cache)?|\.(tox|nox|venv|hg|svn)|.*\.egg-info")
"""Names of what tools leave."""

_TOP = {"build", "dist"}
"""Likewise, but only in the project's own directory."""

_MARKS = ("pyvenv.cfg", "CACHEDIR.TAG")
"""Files in directories that can be made again: virtual environments, and what cargo compiles."""

_GIT = ("HEAD", "packed-refs", "refs", "shallow")
"""What of a repository says which version it is: back ends ask git for it."""

_NATIVE = re.compile(
    r"ext_modules|cffi_modules|ext_package|Extension\(|rust_extensions"
    r"|(maturin|mesonpy|scikit_build_core|skbuild|setuptools_rust|Cython|cffi)\b"
)
_BUILD_FILES = ("pyproject.toml", "setup.py", "setup.cfg")

_TRAILER = 4096
_MAGIC = b"\x89fatpar\n"


def digest(project: Path) -> str:
    """Give a digest of every file that a build may read, by path, mode and content."""
    found = hashlib.sha256(b"project")
    for path in _files(project):
        status = path.lstat()
        said = os.readlink(path) if stat.S_ISLNK(status.st_mode) else sha256(path).hex()
        name = path.relative_to(project).as_posix()
        found.update(f"{name}\0{status.st_mode & 0o111:o}\0{said}\n".encode("utf-8", "surrogateescape"))
    return found.hexdigest()


def copy(project: Path, into: Path) -> Path:
    """Copy what a build may read; a repository is linked."""
    into.mkdir()
    for path in _files(project):
        name = path.relative_to(project)
        if name.parts[0] != ".git":
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, into / name, follow_symlinks=False)
    if (project / ".git").exists():
        (into / ".git").symlink_to((project / ".git").resolve())
    return into


def looks_native(project: Path) -> bool:
    """Tell by a project's files whether its build compiles something."""
    if any((project / name).exists() for name in ("meson.build", "CMakeLists.txt", "Cargo.toml")):
        return True
    return any(_NATIVE.search(_text(project / name)) for name in _BUILD_FILES)


def is_meson(source: Path) -> bool:
    """Tell whether meson-python builds a project or source distribution."""
    if source.is_dir():
        return "mesonpy" in _text(source / "pyproject.toml")
    import tarfile

    if not tarfile.is_tarfile(source):
        return False
    with tarfile.open(source) as archive:
        for member in archive:
            if re.fullmatch(r"[^/]+/pyproject\.toml", member.name):
                stream = archive.extractfile(member)
                return stream is not None and b"mesonpy" in stream.read()
    return False


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def _files(project: Path) -> Iterator[Path]:
    """Give files and links, in the order of their names; nothing of what tools left, and no packed program."""
    for directory, names, files in os.walk(project):
        here = Path(directory)
        top = here == project
        links = [name for name in names if (here / name).is_symlink()]
        names[:] = sorted(
            name for name in names
            if name not in links and not _GENERATED.fullmatch(name) and not (top and name in {*_TOP, ".git"})
            and not any((here / name / mark).exists() for mark in _MARKS)
        )  # fmt: skip
        for name in sorted([*files, *links]):
            path = here / name
            if not _GENERATED.fullmatch(name) and not _is_packed(path) and (path.is_symlink() or path.is_file()):
                yield path
    git = project / ".git"
    if git.is_file():
        yield git
    for name in _GIT:
        yield from sorted(path for path in [git / name, *(git / name).rglob("*")] if path.is_file())


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
