"""Layers described by a mapping, as the fixtures of several stages of packing want them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from packer.model import Entry, EntryKind, Layer, LayerKind

if TYPE_CHECKING:
    from collections.abc import Mapping

SITE = "lib/python/site-packages"
"""Where a wheel's layer has its packages."""

Content = str | bytes | None
"""Text or bytes of a file; ``None``: an empty directory; text that begins with ``->``: a symbolic link."""


def layer(name: str, tree: Mapping[str, Content], root: Path | None = None) -> Layer:
    """Make a layer of ``tree``; what is in ``bin/`` may be executed.

    :param root: a directory in which the files are written first; without it their bytes are nowhere.
    """
    if root is not None:
        write_tree(tree, root)
    entries = tuple(_entry(path, tree[path], root) for path in sorted(tree, key=os.fsencode))
    return Layer(name, LayerKind.WHEEL, entries, b"")


def root_of(layer: Layer) -> Path:
    """Give the directory that a layer's files are in, at the paths that they have in the layer."""
    entry = next(one for one in layer.entries if one.source)
    return Path(str(entry.source).removesuffix(entry.path))


def write_tree(tree: Mapping[str, Content], root: Path) -> None:
    """Write a tree as an installer would: what is there already is replaced."""
    for path, content in tree.items():
        at = root / path
        if content is None:
            at.mkdir(parents=True, exist_ok=True)
            continue
        at.parent.mkdir(parents=True, exist_ok=True)
        at.unlink(missing_ok=True)
        if isinstance(content, bytes):
            at.write_bytes(content)
        elif content.startswith("->"):
            at.symlink_to(content[2:])
        else:
            at.write_text(content, "utf-8")


def _entry(path: str, content: Content, root: Path | None) -> Entry:
    if content is None:
        return Entry(path, EntryKind.DIR)
    if isinstance(content, str):
        if content.startswith("->"):
            return Entry(path, EntryKind.LINK, link=content[2:])
        content = content.encode()
    kind = EntryKind.EXEC if path.startswith("bin/") else EntryKind.FILE
    source = root and root / path
    return Entry(path, kind, source, len(content), hashlib.sha256(content).digest())
