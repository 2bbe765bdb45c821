"""The revision of what is packed: git's commit of a work tree, and whether the files are those of the commit.

The repository may be anybody's, and its configuration names programs: filters, monitors, hooks, helpers that fetch.
None of them is run. So git is only asked what it has in its commit and in its index, and what lies about besides; files
are compared here. That finds changes, too, that the index was told to overlook.
"""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packer.files import sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

_STRANGERS = ("not a git repository", "Needed a single revision", "unknown revision")
"""What git says of a directory that it does not keep, or not yet."""

_GUARDS = ("--no-pager", "--no-optional-locks", "-c", "core.fsmonitor=", "-c", "core.hooksPath=/dev/null")
"""An empty monitor is none; git before 2.36 would run a program called false."""

_ENVIRONMENT = {"LC_ALL": "C", "GIT_ALLOW_PROTOCOL": "", "GIT_NO_LAZY_FETCH": "1"}
"""What a partial clone lacks is not fetched: the configuration says by which program."""

_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {size}\n"
"""What a commit has in the place of a file that Git LFS keeps."""

_LINK, _SUBMODULE = "120000", "160000"
"""Modes of what is no file; those of files have the right to be executed."""


@dataclass(frozen=True)
class Revision:
    """What a version control system says of what is packed."""

    id: str
    """Of the commit."""
    modified: bool
    """Files were changed since, or added."""


@dataclass(frozen=True)
class _Entry:
    """A file in a commit or in the index."""

    path: str
    mode: str
    digest: str

    def is_for(self, content: Iterable[bytes], size: int) -> bool:
        """Tell whether it is what git makes of a file with that content."""
        digest = hashlib.new("sha1" if len(self.digest) == 40 else "sha256", b"blob %d\0" % size)
        for block in content:
            digest.update(block)
        return digest.hexdigest() == self.digest


def of(path: Path, outputs: Collection[Path]) -> tuple[Revision | None, str]:
    """Ask git about a directory, or a file.

    :param outputs: what packing itself writes, which is no change.
    :return: None if git is not there, or does not keep it; and what the user should know of that.
    """
    directory, below = (path, "./") if path.is_dir() else (path.parent, f"./{path.name}")
    try:
        top, commit = _commit(directory)
        _git(directory, "rev-parse", "--verify", f"HEAD:{below}")  # it may lie in somebody's repository by chance
        return Revision(commit, _changed(top, _written_by(outputs))), ""
    except _GitError as error:
        return None, f"no revision of {path} is stated: {error}" if error.args else ""


def state(directory: Path) -> str:
    """Give what back ends ask git for: commits, their names, how deep a clone is, and which files it keeps.

    :return: nothing if git is not there, or does not keep the directory.
    """
    try:
        shallow, _, commit = _git(directory, "rev-parse", "--git-path", "shallow", "--revs-only", "HEAD").partition(
            "\n"
        )
        depth = directory / shallow
        said = [commit, depth.read_text() if depth.is_file() else ""]
        said.append(_git(directory, "for-each-ref", "--format=%(HEAD)%(refname) %(objectname)"))
        return "\n".join([*said, *_lines(directory, "ls-files")])
    except (_GitError, OSError):
        return ""


def tracked(directory: Path) -> list[str]:
    """Give the files of a directory that git keeps, by their paths in it; none if git is not there."""
    try:
        return _lines(directory, "ls-files")
    except _GitError:
        return []


class _GitError(Exception):
    """It has no answer; with an argument if it should have one."""


def _git(directory: Path, *words: str, told: str = "") -> str:
    # hooks have variables of their repository; nobody's index is to be written to
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | _ENVIRONMENT
    command = ["git", *_GUARDS, "-C", str(directory), *words]
    try:
        done = subprocess.run(command, env=environment, input=os.fsencode(told), capture_output=True, check=False)
    except FileNotFoundError:
        raise _GitError from None
    except OSError as error:
        raise _GitError(f"git: {error.strerror}") from None
    said = os.fsdecode(done.stderr).strip()
    if done.returncode and any(words in said for words in _STRANGERS):
        raise _GitError
    if "safe.directory" in said:  # what git says to be done stands last
        raise _GitError(f"it belongs to another user; if you trust it: {said.splitlines()[-1].strip()}")
    if done.returncode:
        raise _GitError(said.splitlines()[0] if said else f"git ended with status {done.returncode}")
    return os.fsdecode(done.stdout)


def _commit(directory: Path) -> tuple[Path, str]:
    """Give the work tree that a directory is in, and its commit."""
    said = _git(directory, "rev-parse", "--show-toplevel", "HEAD^{commit}").removesuffix("\n")
    top, _, commit = said.rpartition("\n")
    return Path(top), commit


def _lines(top: Path, command: str, *words: str, told: str = "") -> list[str]:
    return _git(top, command, "-z", *words, told=told).split("\0")[:-1]


def _written_by(outputs: Collection[Path]) -> Callable[[Path], bool]:
    """Give what tells whether packing writes a file."""
    places = [Path(os.path.realpath(path.parent), path.name) for path in outputs]

    def written(path: Path) -> bool:
        return any(
            path.parent == place.parent and (path.name == place.name or path.name.startswith(f".{place.name}.tmp-"))
            for place in places
        )

    return written


def _changed(top: Path, written: Callable[[Path], bool]) -> bool:
    """Tell whether a work tree has other files than its commit, whatever its index is told to overlook.

    All of it counts, since a project may take files of another; what is ignored does not.
    """
    index, absent = set(), set()
    for line in _lines(top, "ls-files", "--stage", "-t"):
        said, _, path = line.partition("\t")
        tag, mode, digest, _ = said.split()
        index.add(_Entry(path, mode, digest))
        absent |= {path} if tag == "S" else set()  # what a sparse checkout leaves out
    commit = set()
    for line in _lines(top, "ls-tree", "-r", "--full-tree", "HEAD"):
        said, _, path = line.partition("\t")
        mode, _, digest = said.split()
        commit.add(_Entry(path, mode, digest))
    others = _lines(top, "ls-files", "--others", "--exclude-standard")
    if not all(written(top / path) for path in (*(one.path for one in index ^ commit), *others)):
        return True
    modes = _git(top, "config", "--type=bool", "--default=true", "core.fileMode") == "true\n"
    told = "".join(f"{one.path}\0" for one in index)
    attributes = _lines(top, "check-attr", "--stdin", "eol", told=told)
    crlf = {path for path, value in zip(attributes[::3], attributes[2::3], strict=True) if value == "crlf"}
    return not all(
        written(top / one.path)
        or (one.path in absent and not os.path.lexists(top / one.path))
        or _is_there(top / one.path, one, written, modes=modes, crlf=one.path in crlf)
        for one in index
    )


def _is_there(path: Path, entry: _Entry, written: Callable[[Path], bool], *, modes: bool, crlf: bool) -> bool:
    """Tell whether a file is that of an entry.

    :param modes: the right to be executed counts.
    :param crlf: it has other line ends than the commit.
    """
    if entry.mode == _SUBMODULE:
        return _is_submodule(path, entry.digest, written)
    try:
        found = path.lstat()
        if entry.mode == _LINK:
            return stat.S_ISLNK(found.st_mode) and entry.is_for([os.fsencode(os.readlink(path))], found.st_size)
        if not stat.S_ISREG(found.st_mode) or (modes and bool(found.st_mode & 0o100) != bool(int(entry.mode, 8) & 1)):
            return False
        with path.open("rb") as file:
            if entry.is_for(iter(lambda: file.read(1 << 20), b""), found.st_size):
                return True
        text = path.read_bytes().replace(b"\r\n", b"\n") if crlf else b""
        pointer = _POINTER.format(digest=sha256(path).hex(), size=found.st_size).encode()
    except OSError:  # it is not there, or nobody may read it
        return False
    return entry.is_for([pointer], len(pointer)) or (crlf and entry.is_for([text], len(text)))


def _is_submodule(path: Path, commit: str, written: Callable[[Path], bool]) -> bool:
    """Tell whether a directory is a work tree of a commit, without changes; or empty, since nobody asked for it."""
    if path.is_symlink() or not path.is_dir():
        return False
    try:
        if not (path / ".git").exists():
            return not any(path.iterdir())
        top, found = _commit(path)
        itself = top.samefile(path)  # its configuration may name another, even the one that it is in
        return itself and found == commit and not _changed(path, written)
    except OSError:  # nobody may read it
        return False
    except _GitError as error:
        if error.args:
            raise
        return False
