"""The packer's cache of installed wheels: a wheel is unpacked and its files are digested once."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packer import layers, wheels
from packer.errors import PackError
from packer.files import publish, scratch
from packer.model import Entry, EntryKind, Layer, LayerKind, Wheel


@dataclass(frozen=True)
class Installed:
    """A wheel's layer and what its metadata says."""

    layer: Layer
    requires_python: str | None
    warnings: tuple[str, ...]


def install(wheel: Wheel, cache: Path) -> Installed:
    """Give the layer of a wheel; its files lie in the cache.

    :raises PackError: if the wheel is damaged, or the cache cannot be written.
    """
    place = cache / "installed" / _key(wheel)
    try:
        if not place.is_dir():
            with tempfile.TemporaryDirectory(dir=scratch(cache), prefix="install-") as work:
                publish(_install(wheel, Path(work) / "wheel"), place)
        said = json.loads((place / "layer.json").read_bytes())
        entries = tuple(_entry(one, place / "tree") for one in said["entries"])
    except OSError as error:
        raise PackError(
            f"{wheel.path.name}: cannot install it: {error.strerror}: {error.filename}", hint="set XDG_CACHE_HOME"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise PackError(f"{place}/layer.json is damaged: {error}", hint=f"remove {place}") from None
    layer = Layer(wheel.path.name.removesuffix(".whl"), LayerKind.WHEEL, entries, bytes.fromhex(said["digest"]))
    return Installed(layer, said["requires_python"], tuple(said["warnings"]))


def _key(wheel: Wheel) -> str:
    """Name what an installed tree depends on: the wheel, its file's name, and how we install."""
    rules = b"".join(Path(module.__file__ or "").read_bytes() for module in (wheels, layers))
    said = f"{wheel.sha256} {wheel.path.name} {hashlib.sha256(rules).hexdigest()}"
    return hashlib.sha256(said.encode()).hexdigest()


def _install(wheel: Wheel, into: Path) -> Path:
    """Make a directory with the tree and what is known of it."""
    into.mkdir()
    installed = wheels.install(wheel, into / "tree")
    layer = layers.layer(wheel.path.name.removesuffix(".whl"), LayerKind.WHEEL, wheels.tree(installed.root))
    said = {
        "digest": layer.digest.hex(),
        "requires_python": installed.requires_python,
        "warnings": installed.warnings,
        "entries": [_plain(entry, into / "tree") for entry in layer.entries],
    }
    (into / "layer.json").write_text(json.dumps(said))
    return into


def _plain(entry: Entry, root: Path) -> list[Any]:
    source = os.path.relpath(entry.source, root) if entry.source else ""
    return [entry.path, entry.kind.value, source, entry.size, entry.sha256.hex(), entry.link]


def _entry(said: list[Any], root: Path) -> Entry:
    path, kind, source, size, digest, link = said
    place = Path(f"{root}/{source}") if source else None  # thousands of these: Path's own division takes twice as long
    return Entry(path, EntryKind(kind), place, size, bytes.fromhex(digest), link)
