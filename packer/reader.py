"""An archive as the launcher's own reader sees it."""

from __future__ import annotations

import contextlib
import functools
import json
import os
from typing import TYPE_CHECKING, Any

import zstandard

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

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of the file as they are.

        :raises PackError: if the file has not so many, or cannot be read.
        """
        parts = []
        while size:
            try:
                part = os.pread(self.pointer.fd, size, offset)
            except OSError as error:
                raise PackError(f"archive cannot be read: {error.strerror}") from error
            if not part:
                raise PackError("archive cannot be read: it became shorter")
            parts.append(part)
            offset, size = offset + len(part), size - len(part)
        return b"".join(parts)

    def blob(self, index: int) -> bytes:
        """The decoded bytes of a blob.

        :raises PackError: if it is damaged, or made in a way that this packer does not know.
        """
        fault: Any = native.ffi().new("struct fault *")
        data = native.lib().blobsget(self._decoder, index, fault)
        if not data:
            raise PackError(native.text(fault.what), hint=native.text(fault.hint))
        return bytes(native.ffi().buffer(data, self.pointer.blobs[index].raw_size))

    def raw_index(self) -> bytes:
        """The decoded index as it was written: the reader's own copy may have lost what a newer writer added."""
        trailer = self.pointer.trailer
        return zstandard.ZstdDecompressor().decompress(self.read(trailer.index_offset, trailer.index_size))

    @functools.cached_property
    def _decoder(self) -> Any:
        decoder = native.ffi().gc(native.ffi().new("struct blobs *"), native.lib().blobsclose)
        native.lib().blobsopen(decoder, self.pointer)
        return decoder


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
