"""ELF files of layers, and what they say of themselves."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packer import facts, files

if TYPE_CHECKING:
    from collections.abc import Sequence

    from packer.cache import Cache
    from packer.model import Layer

_ELF_HEADER = 64
"""Bytes of a 64-bit file's header; lief reads past the end of a shorter file."""


@dataclass(frozen=True)
class File:
    """What an ELF executable or shared object says of itself."""

    layer: str
    path: str
    """In the layer."""
    machine: int
    """``e_machine``."""
    bits: int
    """32 or 64."""
    soname: str
    needed: tuple[str, ...]
    """DT_NEEDED."""
    nodes: tuple[tuple[str, str], ...]
    """Library and symbol-version node that it must have; those marked weak are not here, the loader only warns."""
    interpreter: str
    """PT_INTERP of an executable."""
    kernel: int
    """Least kernel by the GNU ABI note, ``a << 16 | b << 8 | c``; 0: not said."""
    cpu: int
    """x86-64 level that the GNU property calls needed; 0: not said."""
    module_of: tuple[int, ...]
    """Major versions of Python whose function for entering an extension module of the file's name it exports."""

    @property
    def name(self) -> str:
        """Last component of the path."""
        return self.path.rpartition("/")[2]

    @property
    def libc(self) -> str:
        """``glibc`` or ``musl``; ``""`` if it asks for neither, as what is linked statically."""
        if "/ld-musl-" in self.interpreter or any(re.match(r"libc\.(musl-|so$)", name) for name in self.needed):
            return "musl"
        if "/ld-linux" in self.interpreter or any(facts.LIBC_PARTS["glibc"].fullmatch(name) for name in self.needed):
            return "glibc"
        return ""


def report(layers: Sequence[Layer], cache: Cache | None = None) -> tuple[File, ...]:
    """Read every ELF executable and shared object, found by its first bytes, whatever its name.

    Objects, archives and what cannot be parsed are not reported: no loader takes them.
    """
    return tuple(file for layer in layers for file in _elf_files(layer, cache))


def _elf_files(layer: Layer, cache: Cache | None) -> tuple[File, ...]:
    name = hashlib.sha256(f"{_rules()} {layer.name} {layer.digest.hex()}".encode()).digest()
    kept = cache.get(name) if cache else None
    if kept is not None:
        return tuple(_from_json(said) for said in json.loads(kept))
    from packer import elfread  # takes longer to import than all the rest of the packer

    read = (
        elfread.read(layer.name, entry.path, entry.source, entry.sha256)
        for entry in layer.entries
        if entry.source and entry.size >= _ELF_HEADER and files.content(entry)
    )
    found = tuple(file for file in read if file)
    if cache:
        cache.put(name, json.dumps([asdict(file) for file in found]).encode())
    return found


@functools.cache
def _rules() -> str:
    """Name what decides what is read from a file: our code, and the library that parses."""
    ours = b"".join(Path(__file__).with_name(name).read_bytes() for name in ("elf.py", "elfread.py"))
    return hashlib.sha256(ours + version("lief").encode()).hexdigest()


def _from_json(said: dict[str, Any]) -> File:
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in said.items()}
    return File(**{**values, "nodes": tuple((library, node) for library, node in said["nodes"])})
