"""Root filesystems that are packed: a tar file of one, and images, whose layers are laid over each other.

All paths are those of the process, whose root directory is to be what is unpacked: so no link and no ``..`` of a
hostile image leads out of it.
"""

from __future__ import annotations

# tarfile imports what decompresses when it needs it, and then there are no modules any more
import bz2  # noqa: F401
import contextlib
import gzip
import json
import lzma
import os
import posixpath
import shutil
import tarfile
import tempfile
import zlib
from typing import IO, TYPE_CHECKING, Any, cast

import zstandard

from packer.errors import PackError

if TYPE_CHECKING:
    from collections.abc import Iterator

_UNREAD = ("/usr/share/", "/usr/src/", "/var/", "/boot/", "/lib/modules/", "/usr/lib/modules/")
"""Where names are all that is looked at: files there stay empty."""

_LARGEST = 256 << 20
"""Bytes: no program or library of those that are read is larger, so that such files stay empty, too."""
_MOST = 8 << 30
"""Bytes that may be written for an image, whose files take a block each at least."""
_BLOCK = 4096
_MANIFEST = 16 << 20

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"

_BROKEN = (
    tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, zstandard.ZstdError, KeyError,
    ValueError, TypeError, AttributeError, IndexError,
)  # fmt: skip
"""What reading something else, or something damaged, ends with."""


class _Budget:
    """What may still be written: an image must not fill the disk."""

    def __init__(self) -> None:
        self._left = _MOST

    def spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise PackError(
                f"it unpacks to more than {_MOST >> 30} GiB", hint="unpack what it has into a directory, and name that"
            )


def unpack(file: IO[bytes]) -> None:
    """Unpack a tar file or an image into the root directory.

    :raises PackError: if it is none of these, or has too much in it.
    :raises OSError: if the disk is full, say.
    """
    budget = _Budget()
    try:
        with _open(file, budget) as outer:
            layers = _layers(outer)
            for name in layers:
                with _open(_file(outer, name), budget) as layer:
                    for member in layer:
                        _white_out(member)
                    _unpack_all(layer, budget)  # once more from its beginning
            if not layers:
                _unpack_all(outer, budget)
    except _BROKEN as error:
        raise PackError(
            f"it is neither a directory nor a whole tar file or image: {str(error).partition(chr(10))[0]}",
            hint="docker export, docker save and skopeo copy to oci-archive: write what is understood",
        ) from error


@contextlib.contextmanager
def _open(file: IO[bytes], budget: _Budget) -> Iterator[tarfile.TarFile]:
    """Open a tar file, however it is compressed; what tarfile cannot seek in becomes a file that has no name."""
    with contextlib.ExitStack() as stack:
        if _is_zstd(file):
            plain = stack.enter_context(tempfile.TemporaryFile(dir="/"))
            with zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True) as compressed:
                while chunk := compressed.read(1 << 20):
                    budget.spend(len(chunk))
                    plain.write(chunk)
            plain.seek(0)
            file = plain
        yield stack.enter_context(tarfile.open(fileobj=file, mode="r:*"))


def _is_zstd(file: IO[bytes]) -> bool:
    start = file.tell()
    file.seek(0)
    magic = file.read(4)
    file.seek(start)
    return magic == b"\x28\xb5\x2f\xfd"


def _layers(outer: tarfile.TarFile) -> list[str]:
    """Give the names of an image's layers, lowest first; none: it is a tar file of a root."""
    names = {posixpath.normpath(name) for name in outer.getnames()}
    manifest = _json(outer, "manifest.json") if "manifest.json" in names else None
    if isinstance(manifest, list) and manifest and "Layers" in manifest[0]:
        if len(manifest) > 1:
            tags = ", ".join(str(tag) for one in manifest for tag in one.get("RepoTags") or ["?"])
            raise PackError(f"it has several images: {tags}", hint="save one of them")
        return [str(name) for name in manifest[0]["Layers"]]
    if {"oci-layout", "index.json"} <= names:
        return [_blob(one) for one in _manifest(outer, _json(outer, "index.json"))["layers"]]
    return []


def _manifest(outer: tarfile.TarFile, index: Any) -> Any:
    """Give the image's manifest of an OCI layout, that for this machine where there are several."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, "")
    while "manifests" in index:
        offered = [
            one for one in index["manifests"] if one.get("platform", {}).get("architecture", machine) == machine
        ]  # fmt: skip
        if len(offered) != 1:
            raise PackError(f"it has {len(offered)} images for {machine}", hint="copy one of them")
        index = _json(outer, _blob(offered[0]))
    return index


def _blob(descriptor: Any) -> str:
    return "blobs/" + str(descriptor["digest"]).replace(":", "/")


def _json(outer: tarfile.TarFile, name: str) -> Any:
    return json.loads(_file(outer, name).read(_MANIFEST))


def _file(outer: tarfile.TarFile, name: str) -> IO[bytes]:
    file = outer.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is no file")
    return file


def _path(member: tarfile.TarInfo) -> str:
    return posixpath.normpath("/" + member.name).replace("//", "/")


def _white_out(member: tarfile.TarInfo) -> None:
    """Take away what a layer says is not there any more of those below it."""
    directory, name = posixpath.split(_path(member))
    if name == _OPAQUE:
        if os.path.isdir(directory):
            for entry in os.listdir(directory):
                _remove(posixpath.join(directory, entry))
    elif name.startswith(_WHITEOUT):
        _remove(posixpath.join(directory, name.removeprefix(_WHITEOUT)))


def _unpack_all(tar: tarfile.TarFile, budget: _Budget) -> None:
    for member in tar:
        budget.spend(_BLOCK + (member.size if _is_wanted(member) else 0))
        _unpack(tar, member)


def _is_wanted(member: tarfile.TarInfo) -> bool:
    """Tell whether what is in a file may be read."""
    return member.isfile() and member.size <= _LARGEST and not _path(member).startswith(_UNREAD)


def _unpack(tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    path = _path(member)
    if posixpath.basename(path).startswith(_WHITEOUT) or path == "/":
        return
    directory = member.isdir() and os.path.isdir(path) and not os.path.islink(path)
    if not directory:
        _remove(path)
    os.makedirs(os.path.realpath(posixpath.dirname(path)), exist_ok=True)
    if member.isdir():
        os.makedirs(path, exist_ok=True)
    elif member.issym():
        os.symlink(member.linkname, path)
    elif member.islnk():
        os.link(posixpath.normpath("/" + member.linkname), path, follow_symlinks=False)
    elif member.isfile():
        with open(path, "wb") as file:
            if _is_wanted(member):
                shutil.copyfileobj(cast("IO[bytes]", tar.extractfile(member)), file)
        os.chmod(path, 0o755 if member.mode & 0o111 else 0o644)


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)
