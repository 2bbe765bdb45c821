"""What one ELF file says of the libraries that are in it, read with lief."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from packer.undisturbed import undisturbed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

with undisturbed():
    import lief

lief.logging.disable()

_BASE = 1
"""VER_FLG_BASE: the version definition that is the file itself."""


@dataclass(frozen=True)
class Read:
    """What :mod:`packer.libraries` wants to know of a file."""

    soname: str
    build_id: str
    nodes: tuple[str, ...]
    """Symbol versions that it defines."""
    data: bytes
    """Read-only and initial data, with a NUL between sections."""


def read(path: Path) -> Read | None:
    """Read a file; None: it is no executable or shared object."""
    binary = lief.ELF.parse(path, _parser_config())
    if binary is None or binary.header.file_type not in (lief.ELF.Header.FILE_TYPE.EXEC, lief.ELF.Header.FILE_TYPE.DYN):
        return None
    soname = binary.get(lief.ELF.DynamicEntry.TAG.SONAME)
    build_id = binary.get(lief.ELF.Note.TYPE.GNU_BUILD_ID)
    return Read(
        soname=str(soname.name) if isinstance(soname, lief.ELF.DynamicSharedObject) else "",
        build_id=bytes(build_id.description).hex() if isinstance(build_id, lief.ELF.Note) else "",
        nodes=tuple(_nodes(binary)),
        data=b"\0".join(_data(binary)) or path.read_bytes(),  # some tools take the table of sections away
    )


def _parser_config() -> lief.ELF.ParserConfig:
    config = lief.ELF.ParserConfig()
    config.parse_relocations = False
    config.parse_symtab_symbols = False
    config.parse_overlay = False
    return config


def _nodes(binary: lief.ELF.Binary) -> Iterator[str]:
    for definition in binary.symbols_version_definition:
        if not definition.flags & _BASE:
            names = [str(one.name) for one in definition.auxiliary_symbols]
            yield from names[:1]  # those behind it are what it goes on from


def _data(binary: lief.ELF.Binary) -> Iterator[bytes]:
    for section in binary.sections:
        if str(section.name).startswith((".rodata", ".lrodata")) or section.name == ".data":
            yield bytes(section.content)
