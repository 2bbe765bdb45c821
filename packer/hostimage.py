"""Root filesystems that are packed: a tar file of one, and images, whose layers are laid over each other.

All paths are those of the process, whose root directory is to be what is unpacked: so no link and no ``..`` of a
hostile image leads out of it.
"""

from __future__ import annotations

# tarfile imports what decompresses when it needs it, and then there are no modules any more
import bz2  # noqa: F401
import gzip
import json
import lzma
import os
import posixpath
import shutil
import tarfile
import zlib
from typing import IO, Any, cast

import zstandard

from packer.errors import PackError

_UNREAD = ("/usr/share/", "/usr/src/", "/var/", "/boot/", "/lib/modules/", "/usr/lib/modules/")
"""Where names are all that is looked at: files there stay empty."""

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"

_BROKEN = (
    tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, zstandard.ZstdError, KeyError,
    ValueError, TypeError, AttributeError, IndexError,
)  # fmt: skip
"""What reading something else, or something damaged, ends with."""


def unpack(file: IO[bytes]) -> None:
    """Unpack a tar file or an image into the root directory.

    :raises PackError: if it is none of these.
    :raises OSError: if the disk is full, say.
    """
    try:
        with _open(file) as outer:
            # what is read as a stream cannot be searched for layers
            layers = [] if _is_zstd(file) else _layers(outer)
            for name in layers:
                with _open(_file(outer, name)) as layer:
                    for member in layer:
                        _white_out(member)
                with _open(_file(outer, name)) as layer:
                    _unpack_all(layer)
            if not layers:
                _unpack_all(outer)
    except _BROKEN as error:
        raise PackError(
            f"it is neither a directory nor a whole tar file or image: {str(error).partition(chr(10))[0]}",
            hint="docker export, docker save and skopeo copy to oci-archive: write what is understood",
        ) from error


def _open(file: IO[bytes]) -> tarfile.TarFile:
    """Open a tar file, however it is compressed."""
    if _is_zstd(file):
        return tarfile.open(fileobj=zstandard.ZstdDecompressor().stream_reader(file), mode="r|")
    return tarfile.open(fileobj=file, mode="r:*")


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
    return json.loads(_file(outer, name).read())


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


def _unpack_all(tar: tarfile.TarFile) -> None:
    for member in tar:
        _unpack(tar, member)


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
            if not path.startswith(_UNREAD):
                shutil.copyfileobj(cast("IO[bytes]", tar.extractfile(member)), file)
        os.chmod(path, 0o755 if member.mode & 0o111 else 0o644)


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)
