"""The venv-shaped view of a slice: which links it takes to show all layers as one installed environment.

Knows where links go, not how they are made: the launcher does that, and adds what belongs to the interpreter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from packer import native
from packer.errors import PackError
from packer.model import Entry, EntryKind, Layer, LayerKind, Link, Runtime, Target

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_LAUNCHER_MAKES = re.compile(r"(bin/python[0-9.]*t?|pyvenv\.cfg|lib64)(/|$)")
"""Names the launcher gives a view itself; a layer's own would be in the way."""


@dataclass(frozen=True)
class Conflict:
    """Two layers with different content at one path of the view: the later one is seen, as with pip."""

    path: str
    winner: str
    """Name of the layer that is linked."""
    loser: str


@dataclass(frozen=True)
class _Leaf:
    layer: Layer
    entry: Entry


@dataclass
class _Directory:
    """A directory of the view while layers are merged."""

    real: bool = False
    """Never itself a link, however few layers it has."""
    origins: dict[tuple[int, str], Layer] = field(default_factory=dict)
    """Every directory of a layer that it shows: (number of the layer, path in the layer)."""
    children: dict[str, _Directory | _Leaf] = field(default_factory=dict)


CARRIED = "lib/carried"
"""Where the ``lib`` of an interpreter is that brings its C library: its executable is a file of the view."""


def links(
    layers: Sequence[Layer], target: Target, runtime: Runtime | None = None
) -> tuple[tuple[Link, ...], tuple[Conflict, ...]]:
    """Show the layers of one slice, wheels and app, as one tree.

    ``lib/python`` of a layer appears as the target's ``lib/pythonX.Y``, everything else where it is. A directory that
    one layer has to itself is one link (GNU stow's rule); one that several share is real. What is neither link nor
    parent of a link is not mentioned: the launcher makes the standard directories even when they are empty.

    :param layers: in the order of installation, dependencies first; where two differ the later wins. Bytecode and
        interpreters are not shown.
    :param runtime: what the slice carries.
    :return: the links in the order of their paths' bytes, no path below another; the conflicts in the order found.
    :raises PackError: if one layer has a file where another, or every view, has a directory, or a path that the
        launcher makes.
    """
    python = f"lib/{target.python.directory}"
    # Python 2.7 writes foo.pyc beside the foo.py it imports. In a linked directory that would be inside the layer,
    # which is immutable and shared; in a real directory with linked files it stays in this view.
    file_level = (f"{python}/site-packages/", "app/") if target.python.version < (3, 2) else ()
    root = _skeleton(python)
    conflicts: list[Conflict] = []
    for number, layer in enumerate(layers):
        if layer.kind in (LayerKind.BYTECODE, LayerKind.INTERPRETER):
            continue  # the one lies beside its layer, to the other the launcher leads
        merging = _Merging(root, number, layer, target.python.directory)
        for entry in layer.entries:
            conflicts.extend(merging.insert(entry))
    shown = list(_emit(root, "", file_level))
    if runtime and runtime.brought:
        for link in shown:
            if f"{link.path}/".startswith(f"{CARRIED}/"):
                raise PackError(
                    f"{link.layer.name} has {link.path}, where --libc bundled puts the interpreter's libraries"
                )
        shown.append(Link(CARRIED, runtime.layer, "lib"))
    found = sorted(shown, key=lambda link: native.encoded(link.path))
    return tuple(found), tuple(conflicts)


def _skeleton(python: str) -> _Directory:
    """The directories that are real in every view, so that a launcher may add to them."""
    root = _Directory(real=True)
    for path in ("bin", "include", "share", f"{python}/site-packages"):
        node = root
        for name in path.split("/"):
            child = node.children.setdefault(name, _Directory(real=True))
            assert isinstance(child, _Directory)
            node = child
    return root


class _Merging:
    """Puts one layer into the tree."""

    def __init__(self, root: _Directory, number: int, layer: Layer, directory: str) -> None:
        self._number = number
        self._layer = layer
        self._directory = directory
        self._known = {"": root}
        """Directories by their paths in the layer: most entries lie beside one that was there before."""

    def insert(self, entry: Entry) -> Iterator[Conflict]:
        path = self._shown(entry.path)
        if _LAUNCHER_MAKES.match(path):
            raise PackError(f"{self._layer.name} cannot be part of a view: the launcher makes {path} itself")
        if entry.kind is EntryKind.DIR:
            self._enter(entry.path)
            return
        node, name = self._enter(entry.path.rpartition("/")[0]), path.rpartition("/")[2]
        other = node.children.get(name)
        if isinstance(other, _Directory):
            raise _clash(path, self._layer.name, *(owner.name for owner in other.origins.values()))
        if other is not None and _content(other.entry) != _content(entry):
            yield Conflict(path, winner=self._layer.name, loser=other.layer.name)
        node.children[name] = _Leaf(self._layer, entry)

    def _enter(self, source: str) -> _Directory:
        """Give a directory of the layer in the tree."""
        if source in self._known:
            return self._known[source]
        shown = self._shown(source)
        node = self._enter(source.rpartition("/")[0])
        child = node.children.setdefault(shown.rpartition("/")[2], _Directory())
        if isinstance(child, _Leaf):
            raise _clash(shown, child.layer.name, self._layer.name)
        child.origins[self._number, source] = self._layer
        self._known[source] = child
        return child

    def _shown(self, source: str) -> str:
        """Give the path in the view of a path in the layer."""
        names = source.split("/", 2)
        return "/".join(["lib", self._directory, *names[2:]]) if names[:2] == ["lib", "python"] else source


def _clash(path: str, file_owner: str, directory_owner: str = "every view", *_others: str) -> PackError:
    return PackError(
        f"{file_owner} and {directory_owner} cannot share a view: {path} is a file in the former"
        " and a directory in the latter"
    )


def _content(entry: Entry) -> tuple[EntryKind, bytes, str]:
    return entry.kind, entry.sha256, entry.link


def _emit(node: _Directory, path: str, file_level: tuple[str, ...]) -> Iterator[Link]:
    for name, child in node.children.items():
        below = f"{path}{name}"
        if isinstance(child, _Leaf):
            yield Link(below, child.layer, child.entry.path)
        elif child.real or (child.children and (len(child.origins) > 1 or f"{below}/".startswith(file_level))):
            yield from _emit(child, f"{below}/", file_level)
        else:
            (_, source), layer = next(iter(child.origins.items()))
            yield Link(below, layer, source)
