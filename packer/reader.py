"""An archive as the launcher's own reader sees it."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any

from packer import native
from packer.errors import PackError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Archive:
    """An open archive whose index was found sound; records are cffi structs of ``abi/fatpar.h``."""

    def __init__(self, pointer: Any) -> None:
        self.pointer = pointer

    @property
    def id(self) -> str:
        """Hex digest of the stored index."""
        return bytes(self.pointer.trailer.id).hex()

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return int(self.pointer.file_size)

    @property
    def manifest(self) -> dict[str, Any]:
        """The JSON the packer put in; what is no JSON object counts as none."""
        raw = bytes(native.ffi().buffer(self.pointer.manifest, self.pointer.manifest_size)[:])
        try:
            manifest = json.loads(raw)
        except (ValueError, RecursionError):
            return {}
        return manifest if isinstance(manifest, dict) else {}

    def string(self, reference: int) -> str:
        """A string of the index."""
        return native.text(native.lib().archivestring(self.pointer, reference))

    def records(self, table: str) -> list[Any]:
        """All records of a table, which is named after its struct: ``blob``, ``layer``, ``slice``..."""
        start = getattr(self.pointer, f"{table}s" if table != "entry" else "entries")
        return [start[index] for index in range(getattr(self.pointer, f"{table}_count"))]

    def refs(self, first: int, count: int) -> list[int]:
        """A list of indexes or strings."""
        return [int(self.pointer.refs[index]) for index in range(first, first + count)]


@contextlib.contextmanager
def reading(path: Path) -> Iterator[Archive]:
    """Open an archive for reading.

    :raises PackError: if it is no archive, damaged, or newer than this packer.
    """
    try:
        # a pipe that nobody writes to must not be waited for
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise PackError(f"cannot read {path}: {error.strerror}") from error
    try:
        with opened(descriptor, str(path)) as archive:
            yield archive
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def opened(descriptor: int, what: str) -> Iterator[Archive]:
    """Read an archive from a file that is open, and stays open.

    :param what: the archive's name, or what is being done, for an error.
    :raises PackError: if it is no archive, damaged, or newer than this packer.
    """
    ffi, lib = native.ffi(), native.lib()
    pointer = ffi.new("struct archive *")
    status = lib.archiveopen(pointer, descriptor) or lib.archiveindex(pointer)
    try:
        if status != lib.ARCHIVE_OK:
            raise PackError(f"{what}: {native.text(lib.archivedescribe(pointer, status))}")
        yield Archive(pointer)
    finally:
        lib.archiveclose(pointer)


def check(result: int, fault: Any, path: Path) -> None:
    """Turn a failure of the launcher's code into an error.

    :raises PackError: if ``result`` is negative.
    """
    if result < 0:
        raise PackError(f"{path}: {native.text(fault.what)}", hint=native.text(fault.hint))
