"""The revision of what is packed: git's commit of a work tree, and whether the files are those of the commit.

The repository may be anybody's, and its configuration names programs: filters, monitors, hooks, helpers that fetch.
None of them is run. So git is only asked what it has in its commit and in its index, and what lies about besides; files
are compared here. That finds changes, too, that the index was told to overlook.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packer import files, process

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

_STRANGERS = ("not a git repository", "Needed a single revision", "unknown revision")
"""What git says of a directory that it does not keep, or not yet."""

_GUARDS = (
    "-c", "core.fsmonitor=", "-c", "core.useReplaceRefs=false", "-c", "core.attributesFile=/dev/null",
)  # fmt: skip
"""An empty monitor is none; git before 2.36 would run a program called false. Hooks, pagers and aliases need none: what
is asked here writes nothing, not even the index, and is asked by git's own words.
"""

_CONFIG = re.compile(r"GIT_CONFIG_(GLOBAL|SYSTEM|NOSYSTEM|COUNT|KEY_\d+|VALUE_\d+)$")
"""Variables with the user's own configuration, as which directories are safe; what we say with ``-c`` wins."""

_ENVIRONMENT = {
    "LC_ALL": "C", "GIT_ALLOW_PROTOCOL": "", "GIT_NO_LAZY_FETCH": "1", "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_ATTR_NOSYSTEM": "1",
}  # fmt: skip
"""What a partial clone lacks is not fetched: the configuration says by which program. What ``git replace`` shows in the
place of a commit or a tree is not what its id means; the configuration may say otherwise, so it is overruled above.
Grafts change parents alone, which nobody asks for.
"""

_PATIENCE = 300.0
"""Seconds for one answer: a repository can have git wait for ever, but a million files on a slow disk take minutes."""

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
        return _is_name_of(self.digest, "blob", content, size)


def _is_name_of(name: str, kind: str, content: Iterable[bytes], size: int) -> bool:
    digest = hashlib.new("sha1" if len(name) == 40 else "sha256", f"{kind} {size}\0".encode())
    for block in content:
        digest.update(block)
    return digest.hexdigest() == name


def of(path: Path, outputs: Collection[Path]) -> tuple[Revision | None, str]:
    """Ask git about a directory, or a file.

    :param outputs: what packing itself writes, which is no change.
    :return: None if git is not there, or does not keep it; and what the user should know of that.
    """
    directory, below = (path, "./") if path.is_dir() else (path.parent, f"./{path.name}")
    try:
        top, commit = _commit(directory)
        _git(directory, "rev-parse", "--verify", f"HEAD:{below}")  # it may lie in somebody's repository by chance
        return Revision(commit, _changed(top, commit, _written_by(outputs))), ""
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
        said.append(
            _git(directory, "for-each-ref", "--format=%(HEAD)%(refname) %(objectname)", "refs/heads", "refs/tags")
        )
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
    # hooks have variables of their repository; what a user configures by variables counts
    told_git = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or _CONFIG.match(name)}
    environment = told_git | _ENVIRONMENT
    command = ["git", *_GUARDS, "-C", str(directory), *words]
    status, answer, lament = _run(command, environment, os.fsencode(told))
    said = os.fsdecode(lament).strip()
    if status and any(words in said for words in _STRANGERS):
        raise _GitError
    if "safe.directory" in said:  # what git says to be done stands last
        raise _GitError(f"it belongs to another user; if you trust it: {said.splitlines()[-1].strip()}")
    if status:
        raise _GitError(said.splitlines()[0] if said else f"git ended with status {status}")
    return os.fsdecode(answer)


def _run(command: Sequence[str], environment: Mapping[str, str], told: bytes) -> tuple[int, bytes, bytes]:
    """Give a command's status and what it said; neither it nor what it started outlives its time, or Ctrl-C."""
    pipe = subprocess.PIPE
    try:
        child = subprocess.Popen(
            command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
        )  # fmt: skip
    except FileNotFoundError:
        raise _GitError from None
    except OSError as error:
        raise _GitError(f"git: {error.strerror}") from None
    with child:
        try:
            answer, lament = child.communicate(told, _PATIENCE)
        except BaseException as error:
            process.kill_group(child)
            if isinstance(error, subprocess.TimeoutExpired):
                raise _GitError("git does not answer") from None
            raise
    return child.returncode, answer, lament


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


def _objects(top: Path, names: Sequence[str]) -> list[bytes]:
    """Give what commits or trees have in them, and make sure of their names, as git does not always."""
    said = io.BytesIO(os.fsencode(_git(top, "cat-file", "--batch", told="".join(f"{name}\n" for name in names))))
    found = []
    for name in names:
        _, kind, *size = said.readline().decode().split()
        content = said.read(int(size[0]) if size else 0)
        said.readline()
        if not _is_name_of(name, kind, [content], len(content)):
            raise _GitError(f"object {name} is not what its name says")
        found.append(content)
    return found


def _committed(top: Path, commit: str) -> set[_Entry]:
    """Give the files of a commit, by what is in it: git may know it from elsewhere."""
    (content,) = _objects(top, [commit])
    root = content.partition(b"\n")[0].removeprefix(b"tree ").decode()
    trees, entries = [root], set()
    for line in _lines(top, "ls-tree", "-r", "-t", "--full-tree", root):
        said, _, path = line.partition("\t")
        mode, kind, digest = said.split()
        if kind == "tree":
            trees.append(digest)
        else:
            entries.add(_Entry(path, mode, digest))
    _objects(top, trees)
    return entries


def _changed(top: Path, commit: str, written: Callable[[Path], bool]) -> bool:
    """Tell whether a work tree has other files than its commit, whatever its index is told to overlook.

    All of it counts, since a project may take files of another; what is ignored does not.
    """
    index, absent = set(), set()
    for line in _lines(top, "ls-files", "--stage", "-t"):
        said, _, path = line.partition("\t")
        tag, mode, digest, _ = said.split()
        index.add(_Entry(path, mode, digest))
        absent |= {path} if tag == "S" else set()  # what a sparse checkout leaves out
    others = _lines(top, "ls-files", "--others", "--exclude-standard")
    if not all(written(top / path) for path in (*(one.path for one in index ^ _committed(top, commit)), *others)):
        return True
    modes = _git(top, "config", "--type=bool", "--default=true", "core.fileMode") == "true\n"
    crlf = _with_crlf(top, [one.path for one in index])
    return not all(
        written(top / one.path)
        or (one.path in absent and not os.path.lexists(top / one.path))
        or _is_there(top / one.path, one, written, modes=modes, crlf=one.path in crlf)
        for one in index
    )


def _with_crlf(top: Path, paths: Iterable[str]) -> set[str]:
    """Give those which have other line ends than the commit, as attributes in the commit say.

    What is beside it may not say so; where git cannot be kept from listening to that, none has.
    """
    untracked = top / _git(top, "rev-parse", "--git-path", "info/attributes").removesuffix("\n")
    if os.path.lexists(untracked) and untracked.lstat().st_size:
        return set()
    said = _lines(top, "check-attr", "--cached", "--stdin", "eol", told="".join(f"{path}\0" for path in paths))
    return {path for path, value in zip(said[::3], said[2::3], strict=True) if value == "crlf"}


def _is_there(path: Path, entry: _Entry, written: Callable[[Path], bool], *, modes: bool, crlf: bool) -> bool:
    """Tell whether a file is that of an entry.

    :param modes: the right to be executed counts.
    :param crlf: it has other line ends than the commit.
    """
    if entry.mode == _SUBMODULE:
        return _is_submodule(path, entry.digest, written)
    try:
        if entry.mode == _LINK:
            target = os.fsencode(os.readlink(path))
            return entry.is_for([target], len(target))
        with files.regular(path) as file:
            found = os.fstat(file.fileno())
            if modes and bool(found.st_mode & 0o100) != bool(int(entry.mode, 8) & 1):
                return False
            if entry.is_for(iter(lambda: file.read(1 << 20), b""), found.st_size):
                return True
            file.seek(0)
            pointer = _POINTER.format(digest=files.sha256_of(file).hex(), size=found.st_size).encode()
            file.seek(0)
            text = file.read().replace(b"\r\n", b"\n") if crlf else b""
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
        return itself and found == commit and not _changed(path, found, written)
    except OSError:  # nobody may read it
        return False
    except _GitError as error:
        if error.args:
            raise
        return False
