"""Grafting: an ELF file is told where its libraries are, under names that no host has."""

from __future__ import annotations

import functools
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from packer.errors import PackError
from packer.undisturbed import undisturbed

if TYPE_CHECKING:
    from collections.abc import Mapping

with undisturbed():
    import lief

lief.logging.disable()

_SHOFF, _SHNUM = slice(40, 48), slice(60, 64)
"""Where the header of a 64-bit file says where its sections are, how many, and which has their names."""

_LARGE_PAGE = 0x10000
"""Bytes of a page on some AArch64 hosts. lief aligns to 4 KiB there, and the file does not load (its issue 1366)."""


@dataclass(frozen=True)
class Change:
    """What is to be another in a file."""

    rpath: str
    """DT_RPATH; empty: none. Never DT_RUNPATH: with it a library is no longer looked for where what loads it would."""
    needed: Mapping[str, str] = field(default_factory=dict)
    """DT_NEEDED names -> new names, in the version requirements, too."""
    soname: str = ""
    """DT_SONAME; empty: as it is."""
    loader: str = ""
    """PT_INTERP; empty: as it is."""
    preloaded: tuple[str, ...] = ()
    """SONAMEs that come first in DT_NEEDED."""
    dropped: frozenset[str] = frozenset()
    """DT_NEEDED names that are no longer to be there."""


@dataclass(frozen=True)
class _Said:
    """What must come out of it."""

    needed: tuple[str, ...]
    nodes: frozenset[tuple[str, str]]
    soname: str
    rpath: str
    runpath: str
    symbols: int
    loader: str


def graft(source: Path, output: Path, change: Change) -> None:
    """Write a changed copy of an executable or shared object; its bytes depend on nothing but the arguments.

    :raises PackError: if it cannot be parsed, or what lief writes is not what was asked for; nothing is left then.
    """
    binary = _parse(source)
    before = _said(binary)
    wanted = _Said(
        needed=(
            *change.preloaded,
            *(change.needed.get(name, name) for name in before.needed if name not in change.dropped),
        ),
        nodes=frozenset((change.needed.get(library, library), node) for library, node in before.nodes),
        soname=change.soname or before.soname,
        rpath=change.rpath,
        runpath="",
        symbols=before.symbols,
        loader=change.loader or before.loader,
    )
    _change(binary, change)
    temporary = output.with_name(f".{output.name}")
    try:
        binary.write(str(temporary))
        _check(temporary, source, wanted)
        temporary.chmod(source.stat().st_mode & 0o777 | 0o600)
        os.replace(temporary, output)
    finally:
        temporary.unlink(missing_ok=True)


def _parse(path: Path) -> lief.ELF.Binary:
    config = lief.ELF.ParserConfig()
    with path.open("rb") as file:
        if file.read(20)[18:20] == b"\xb7\x00":
            config.page_size = _LARGE_PAGE
    binary = lief.ELF.parse(str(path), config)
    types = (lief.ELF.Header.FILE_TYPE.EXEC, lief.ELF.Header.FILE_TYPE.DYN)
    # asked for before anything else is: of what is no such file lief aborts the process
    if binary is None or binary.header.file_type not in types:
        raise PackError(f"cannot read {path}: it is no executable or shared object")
    return binary


def _change(binary: lief.ELF.Binary, change: Change) -> None:
    tags = lief.ELF.DynamicEntry.TAG
    # Not moved where there is room: addresses stay, and so do most bytes, which deltas live on.
    binary.relocate_phdr_table(lief.ELF.Binary.PHDR_RELOC.SEGMENT_GAP)
    binary.remove(tags.RPATH)
    binary.remove(tags.RUNPATH)
    if change.rpath:
        binary.add(lief.ELF.DynamicEntryRpath(change.rpath))
    for name in change.dropped:
        binary.remove_library(name)
    if change.loader:
        binary.interpreter = change.loader
    for entry in binary.dynamic_entries:
        if isinstance(entry, lief.ELF.DynamicEntryLibrary):
            entry.name = change.needed.get(str(entry.name), str(entry.name))
        elif isinstance(entry, lief.ELF.DynamicSharedObject) and change.soname:
            entry.name = change.soname
    for name in reversed(change.preloaded):
        binary.add_library(name)
    for requirement in binary.symbols_version_requirement:
        requirement.name = change.needed.get(str(requirement.name), str(requirement.name))


def _said(binary: lief.ELF.Binary) -> _Said:
    tags = lief.ELF.DynamicEntry.TAG
    soname, rpath, runpath = (binary.get(tag) for tag in (tags.SONAME, tags.RPATH, tags.RUNPATH))
    return _Said(
        needed=tuple(str(name) for name in binary.libraries),
        nodes=frozenset(
            (str(requirement.name), str(node.name))
            for requirement in binary.symbols_version_requirement
            for node in requirement.get_auxiliary_symbols()
        ),
        soname=str(soname.name) if isinstance(soname, lief.ELF.DynamicSharedObject) else "",
        rpath=str(rpath.rpath) if isinstance(rpath, lief.ELF.DynamicEntryRpath) else "",
        runpath=str(runpath.runpath) if isinstance(runpath, lief.ELF.DynamicEntryRunPath) else "",
        symbols=len(binary.dynamic_symbols),
        loader=str(binary.interpreter) if binary.has_interpreter else "",
    )


def _check(written: Path, source: Path, wanted: _Said) -> None:
    """Believe nothing: lief says of no failure more than a line in a log, and may leave an empty file."""
    fault = f"cannot graft {source}: what lief writes"
    if not written.is_file() or not written.stat().st_size:
        raise PackError(f"{fault} is empty")
    binary = _parse(written)
    if _said(binary) != wanted:
        raise PackError(f"{fault} says something else than it should: {_said(binary)}, not {wanted}")
    for segment in binary.segments:
        if segment.type is lief.ELF.Segment.TYPE.LOAD and segment.alignment:
            if segment.file_offset % segment.alignment != segment.virtual_address % segment.alignment:
                raise PackError(f"{fault} has a segment that is not aligned")
            if segment.file_offset + segment.physical_size > written.stat().st_size:
                raise PackError(f"{fault} has a segment beyond its end")


def copy(source: Path, output: Path) -> None:
    """Copy a file, an ELF file without its debugging information: of CPython that is three quarters.

    What no segment loads lies behind all that one does. It is cut off with the table of sections, which loading does
    not need, so that nothing else moves.
    """
    shutil.copy(source, output)
    if not is_elf(source):
        return
    binary = _parse(source)
    if not any(str(section.name).startswith(".debug_info") for section in binary.sections):
        return
    header = binary.header
    table = header.program_header_offset + header.program_header_size * header.numberof_segments
    end = max([table, *(segment.file_offset + segment.physical_size for segment in binary.segments)])
    content = bytearray(source.read_bytes()[:end])
    content[_SHOFF] = bytes(8)
    content[_SHNUM] = bytes(4)
    output.write_bytes(content)
    if _said(_parse(output)) != _said(binary):
        raise PackError(f"cannot copy {source} without its debugging information: it would say something else")


def is_elf(path: Path) -> bool:
    """Tell an ELF file by its first bytes."""
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


@functools.cache
def needed(path: Path) -> tuple[str, ...]:
    """Give the DT_NEEDED names of a file."""
    return _said(_parse(path)).needed


def asked(path: Path) -> list[tuple[str, str]]:
    """Give the symbols that a file takes from others, and the node of each; ``""`` if it has none; no weak ones."""
    found = []
    binary = _parse(path)
    for symbol in binary.dynamic_symbols:
        if symbol.shndx == 0 and symbol.binding is not lief.ELF.Symbol.BINDING.WEAK and symbol.name:
            version = symbol.symbol_version
            node = version.symbol_version_auxiliary if version and version.has_auxiliary_version else None
            found.append((str(symbol.name), str(node.name) if node else ""))
    return found


def given(path: Path) -> frozenset[str]:
    """Give the names of the symbols that a file defines for others."""
    binary = _parse(path)
    return frozenset(str(symbol.name) for symbol in binary.dynamic_symbols if symbol.exported)


def loader(path: Path) -> str:
    """Give the PT_INTERP of an executable; ``""`` if it has none."""
    return _said(_parse(path)).loader


def defined(path: Path) -> list[str]:
    """Give the symbol-version nodes that a library defines."""
    binary = _parse(path)  # what lief gives out does not keep it alive
    # of each definition the first is its own name, the others are what it follows
    return sorted(str(next(iter(one.auxiliary_symbols)).name) for one in binary.symbols_version_definition)


@functools.cache
def run_path(path: Path) -> tuple[tuple[Path, bool], ...]:
    """Give the directories of DT_RPATH and DT_RUNPATH, ``$ORIGIN`` put in, and whether it was there."""
    origin = str(path.resolve().parent)
    return tuple((Path(re.sub(r"\$(ORIGIN|\{ORIGIN\})", origin, word)), "ORIGIN" in word) for word in said_path(path))


def said_path(path: Path) -> list[str]:
    """Give the words of DT_RPATH and DT_RUNPATH as they stand there."""
    said = _said(_parse(path))
    return [word for text in (said.rpath, said.runpath) for word in text.split(":") if word]
