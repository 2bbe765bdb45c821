"""What took long to work out, kept from one run of the packer to the next: blobs, and what was read from files."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from pathlib import Path

from packer.files import KEPT_FOR

_TEMPORARY_FOR = 24 * 3600
"""Seconds after which nobody writes to a temporary file any more."""

_DIGEST = hashlib.sha256().digest_size


class Cache:
    """Bytes in files below one directory, each with its own digest before it.

    It only saves work: what cannot be read, or is not what was written, counts as not there, and what cannot be written
    is not kept. So a full disk or another user's directory is no failure.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def get(self, name: bytes) -> bytes | None:
        """Give the bytes kept under a name."""
        path = self._path(name)
        try:
            whole = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        kept = whole[_DIGEST:]
        return kept if hashlib.sha256(kept).digest() == whole[:_DIGEST] else None

    def put(self, name: bytes, kept: bytes) -> None:
        """Keep bytes under a name."""
        path = self._path(name)
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(prefix=".", dir=path.parent)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(hashlib.sha256(kept).digest())
                    file.write(kept)
                os.replace(temporary, path)
            except BaseException:
                os.unlink(temporary)
                raise

    def sweep(self) -> None:
        """Throw away what was not used for long, and what killed runs left."""
        now = time.time()
        with contextlib.suppress(OSError):
            for path in self._directory.glob("*/*"):
                with contextlib.suppress(OSError):
                    kept_for = _TEMPORARY_FOR if path.name.startswith(".") else KEPT_FOR
                    if path.stat().st_mtime < now - kept_for:
                        path.unlink()

    def _path(self, name: bytes) -> Path:
        return self._directory / name.hex()[:2] / name.hex()[2:]
