"""The ELF files of layers, each layer read once: what was found is kept."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packer import elf, files

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from packer.cache import Cache
    from packer.model import Entry, Layer

_ELF_HEADER = 64
"""Bytes of a 64-bit file's header; lief reads past the end of a shorter file."""


def report(layers: Sequence[Layer], cache: Cache | None = None) -> tuple[elf.File, ...]:
    """Read every ELF executable and shared object, found by its first bytes, whatever its name.

    Objects, archives and what cannot be parsed are not reported: no loader takes them.
    """
    return tuple(file for layer in layers for file in _elf_files(layer, cache))


def _elf_files(layer: Layer, cache: Cache | None) -> tuple[elf.File, ...]:
    name = hashlib.sha256(f"{_rules()} {layer.name} {layer.digest.hex()}".encode()).digest()
    kept = cache.get(name) if cache else None
    if kept is not None:
        return tuple(_from_json(said) for said in json.loads(kept))
    found = tuple(_read(layer))
    if cache:
        cache.put(name, json.dumps([asdict(file) for file in found]).encode())
    return found


def _read(layer: Layer) -> Iterator[elf.File]:
    for entry in filter(_is_elf, layer.entries):
        from packer import elfread  # takes longer to import than all the rest of the packer

        assert entry.source is not None
        file = elfread.read(layer.name, entry.path, entry.source, entry.sha256)
        if file:
            yield file


def _is_elf(entry: Entry) -> bool:
    return entry.source is not None and entry.size >= _ELF_HEADER and files.content(entry).startswith(b"\x7fELF")


@functools.cache
def _rules() -> str:
    """Name what decides what is read from a file: our code, and the library that parses."""
    ours = b"".join(Path(__file__).with_name(name).read_bytes() for name in ("binaries.py", "elf.py", "elfread.py"))
    return hashlib.sha256(ours + version("lief").encode()).hexdigest()


def _from_json(said: dict[str, Any]) -> elf.File:
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in said.items()}
    return elf.File(**{**values, "nodes": tuple((library, node) for library, node in said["nodes"])})
