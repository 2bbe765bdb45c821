"""Layers: immutable file trees, named by the digest of what they hold."""

from __future__ import annotations

import os
import posixpath
import stat
from typing import TYPE_CHECKING

from packer import native
from packer.errors import PackError
from packer.files import sha256
from packer.model import Entry, EntryKind, Layer, LayerKind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path


def layer(name: str, kind: LayerKind, entries: Iterable[Entry], *, of: Layer | None = None, tag: str = "") -> Layer:
    """Put entries in order and compute their tree digest with the launcher's code.

    Bytecode is left out, but of a layer that is nothing else: an interpreter keeps it beside the layer.

    :param of: as in :class:`~packer.model.Layer`; so is ``tag``.
    :raises PackError: if one entry stands where another does, or below it.
    """
    found = sorted(entries, key=path_bytes)
    kept = found if kind is LayerKind.BYTECODE else _without_bytecode(found)
    _refuse_unsafe(name, kept)
    _refuse_clashes(kept)
    return Layer(name, kind, tuple(kept), _tree_digest(kept), of, tag)


def read(name: str, kind: LayerKind, places: Iterable[tuple[Path, str]]) -> Layer:
    """Make a layer of files and directories that are on disk.

    :param places: (file or directory, its path in the layer); one that is a link is followed.
    :raises PackError: if something in them cannot be read or packed, or would stand in the place of something else.
    """
    try:
        return layer(name, kind, [entry for source, path in places for entry in tree(source.resolve(), path)])
    except OSError as error:
        raise PackError(f"cannot read {error.filename or name}: {error.strerror}") from error


def tree(source: Path, path: str = "") -> Iterator[Entry]:
    """Give the entry of a file, or those of all that is in a directory.

    :param path: in the layer; ``""``: its root.
    :raises PackError: if one is neither a file, a directory nor a link that stays inside.
    :raises OSError: if one cannot be read.
    """
    return _tree(source, path, path)


def _tree(source: Path, path: str, root: str) -> Iterator[Entry]:
    if source.is_symlink():
        yield Entry(path, EntryKind.LINK, link=_inner_link(source, path, root))
    elif source.is_dir():
        children = sorted(source.iterdir())
        if path and not children:
            yield Entry(path, EntryKind.DIR)
        for child in children:
            yield from _tree(child, posixpath.join(path, child.name), root)
    else:
        status = source.stat()
        if not stat.S_ISREG(status.st_mode):
            raise PackError(f"cannot pack {source}: it is neither a file, a directory nor a link")
        kind = EntryKind.EXEC if status.st_mode & 0o100 else EntryKind.FILE  # its owner may execute it
        yield Entry(path, kind, source, status.st_size, sha256(source))


def _inner_link(source: Path, path: str, root: str) -> str:
    """Read a link; refuse one that means nothing, or something else, on another machine."""
    target = os.readlink(source)
    leads_to = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    outside = not f"{leads_to}/".startswith(f"{root}/") if root else f"{leads_to}/".startswith(("/", "../"))
    if outside:
        raise PackError(f"cannot pack {source}: it is a link to {target}, which is not packed with it")
    return target


def path_bytes(entry: Entry) -> bytes:
    """Give what entries of a layer are sorted by."""
    return native.encoded(entry.path)


def _without_bytecode(entries: Collection[Entry]) -> list[Entry]:
    paths = {entry.path for entry in entries}
    return [entry for entry in entries if not _is_bytecode(entry.path, paths)]


def _is_bytecode(path: str, paths: Collection[str]) -> bool:
    """Tell what an interpreter made of a source; a ``.pyc`` without a source is a module by itself."""
    return "__pycache__" in path.split("/") or (path.endswith((".pyc", ".pyo")) and path[:-1] in paths)


def _refuse_unsafe(name: str, entries: Iterable[Entry]) -> None:
    for entry in entries:
        if not native.lib().pathissafe(path_bytes(entry)):
            raise PackError(f"cannot pack {name}: the path {entry.path} is too long or not a proper one")


def _refuse_clashes(entries: Iterable[Entry]) -> None:
    """Refuse what no file tree can hold."""
    seen: set[str] = set()
    for entry in entries:  # in order, so a path comes before what is below it
        above = [entry.path[:index] for index, letter in enumerate(entry.path) if letter == "/"]
        clash = seen.intersection([entry.path, *above])
        if clash:
            raise PackError(f"two files would go to {min(clash)}: {entry.source or entry.path} is one of them")
        seen.add(entry.path)


def _tree_digest(entries: Iterable[Entry]) -> bytes:
    ffi, lib = native.ffi(), native.lib()
    state = ffi.new("struct tree *")
    digest = ffi.new("uint8_t[32]")
    lib.treestart(state)
    for entry in entries:
        path = path_bytes(entry)
        if entry.kind is EntryKind.LINK:
            lib.treelink(state, path, native.encoded(entry.link))
        elif entry.kind is EntryKind.DIR:
            lib.treedir(state, path)
        else:
            lib.treefile(state, path, entry.kind is EntryKind.EXEC, entry.size, entry.sha256)
    lib.treeend(state, digest)
    return bytes(digest)
