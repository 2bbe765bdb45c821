"""A wheel -> the tree of its layer: what an installer would put into a virtual environment, relocatable.

The tree has a venv's shape with ``lib/python`` in the place of ``lib/pythonX.Y``, so that one wheel gives one
tree whatever Python it is for. Its bytes depend on the wheel alone: not on user, mask, time or machine.
"""

from __future__ import annotations

import configparser
import csv
import io
import os
import posixpath
import re
import stat
import zipfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, BinaryIO, cast

from installer import install as install_wheel
from installer.destinations import SchemeDictionaryDestination
from installer.exceptions import InstallerError
from installer.records import RecordEntry
from installer.scripts import Script
from installer.sources import WheelFile
from installer.utils import Scheme, canonicalize_name, parse_entrypoints, parse_metadata_file

from packer import layers
from packer.errors import PackError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from installer.scripts import ScriptSection
    from installer.sources import WheelContentElement

    from packer.model import Entry, Wheel

_SITE = "lib/python/site-packages"

_OURS = ("INSTALLER", "REQUESTED", "direct_url.json", "RECORD")
"""Files of ``.dist-info`` that belong to an installer; some wheels bring another's."""

_START = b"#!/bin/sh\n"
_EXEC = b"""'''exec' "$(dirname -- "$0")/python" "$0" "$@"
' '''"""
"""To sh: replace yourself by the Python beside me. To Python: a string, and nothing else."""


@dataclass(frozen=True)
class InstalledWheel:
    """A wheel's tree on disk."""

    root: Path
    requires_python: str | None
    """As in its metadata."""
    warnings: tuple[str, ...]
    """What is wrong with the wheel without being in the way, one sentence each."""


def install(wheel: Wheel, into: Path) -> InstalledWheel:
    """Install ``wheel`` into the directory ``into``, which is made.

    :raises PackError: the wheel is damaged, or breaks the rules for wheels in a way that makes guessing unsafe.
    """
    name = wheel.path.name
    into.mkdir(parents=True)
    try:
        with zipfile.ZipFile(wheel.path) as archive:
            source = _Source(archive)
            source.check()
            destination = _Destination(into, source.distribution, source.records)
            install_wheel(source, destination, {"INSTALLER": b"fatpar\n"})
            warnings = (*source.warnings, *destination.warnings)
            requires_python = source.requires_python()
    except _RefusedError as error:
        raise PackError(f"{name}: {error}") from None
    except FileExistsError as error:
        where = os.path.relpath(str(error).removeprefix("File already exists: "), into)
        raise PackError(f"{name}: it installs {where} twice") from None
    except OSError as error:
        raise PackError(f"{name}: cannot install it: {error.strerror}: {error.filename}") from None
    except KeyError as error:
        raise PackError(f"{name}: not a wheel: {error.args[0]}") from None
    except UnicodeEncodeError as error:
        why = f"the locale's encoding, {error.encoding}, cannot name one of its files"
        raise PackError(f"{name}: {why}", hint="set LC_ALL=C.UTF-8") from None
    except (InstallerError, ValueError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise PackError(f"{name}: not a wheel, or damaged: {error}") from None
    _settle_modes(into)
    return InstalledWheel(into, requires_python, tuple(f"{name}: {text}" for text in warnings))


def tree(root: Path) -> tuple[Entry, ...]:
    """List what lies below ``root``, in the order of the paths' bytes."""
    return tuple(sorted(layers.tree(root), key=layers.path_bytes))


def relocatable(script: bytes) -> bytes:
    """Make a ``#!python`` script run the ``python`` beside it, wherever that is and however it is called.

    Valid for sh and for every Python from 2.7 on. A comment on the second line may tell the encoding, which
    it can nowhere else, and stays there. A docstring stays the docstring as far as it can: it is assigned or,
    where ``from __future__`` follows, which no statement may precede, appended to.
    """
    _, _, rest = script.partition(b"\n")
    second = re.match(rb"[ \t\f]*#.*\n?", rest)
    encoding = second[0] if second else b""
    rest = rest[len(encoding) :]
    comments = re.match(rb"(?:[ \t\f]*(?:#.*)?\r?\n)*", rest)
    assert comments is not None  # it may be empty
    code = rest[comments.end() :]
    if not re.match(rb"""[rRuU]{0,2}["']""", code):
        return _START + encoding + _EXEC + b"\n" + rest
    if not re.search(rb"^from\s+__future__\s+import", code, re.MULTILINE):
        return _START + encoding + _EXEC + b"\n" + comments[0] + b"__doc__ = \\\n" + code
    hidden = re.sub(rb"^[ \t\f]*\r?$", b"", comments[0], flags=re.MULTILINE)  # sh would run a lone carriage return
    return _START + encoding + hidden + _EXEC + b" \\\n" + code


def is_relocatable(program: bytes) -> bool:
    """Tell whether a program is a script that :func:`relocatable` made; its first few thousand bytes will do."""
    return program.startswith(_START) and _EXEC in program


class _RefusedError(Exception):
    """A rule for wheels is broken."""


class _Source(WheelFile):
    """A wheel that may be a little wrong: where pip copes, we do, and say so."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        super().__init__(archive)
        self.warnings: list[str] = []

    @cached_property
    def dist_info_dir(self) -> str:
        """The directory that describes this distribution; its name need not be normalised as the file's is."""
        return self._own_directory(".dist-info") or f"{self.distribution}-{self.version}.dist-info"

    @cached_property
    def data_dir(self) -> str:
        """The directory of the files for other schemes; there need not be one."""
        return self._own_directory(".data") or f"{self.distribution}-{self.version}.data"

    def _own_directory(self, suffix: str) -> str:
        tops = {name.split("/")[0] for name in self._zipfile.namelist() if "/" in name}
        wanted = canonicalize_name(self.distribution)
        named = {top: top.removesuffix(suffix).rpartition("-")[0] for top in tops if top.endswith(suffix)}
        own = [top for top, name in named.items() if canonicalize_name(name) == wanted]
        if len(own) > 1:
            raise _RefusedError(f"it has several {suffix} directories: {', '.join(sorted(own))}")
        return own[0] if own else ""

    @cached_property
    def records(self) -> dict[str, tuple[str, str, str]]:
        """Rows of RECORD by path; empty without a RECORD, whose parts are of use only to check by."""
        try:
            text = self.read_dist_info("RECORD")
        except KeyError:
            self.warnings.append("it has no RECORD")
            return {}
        rows = csv.reader(io.StringIO(text))
        return {row[0]: (row[0], row[1], row[2]) for row in rows if len(row) == 3}

    def check(self) -> None:
        """Refuse paths that could mean another place or be two names of one; note what RECORD has wrong."""
        members: set[str] = set()
        for item in self._zipfile.infolist():
            name = item.filename
            if item.is_dir():
                continue
            if posixpath.normpath(name) != name or name.startswith(("/", "..")) or "\\" in name:
                raise _RefusedError(f"a path is not allowed: {name!r}")
            if name in members:
                raise _RefusedError(f"a path is there twice: {name!r}")
            members.add(name)
        self._check_entry_points()
        if self.records:
            self._note_differences(members)

    def _check_entry_points(self) -> None:
        if "entry_points.txt" not in self.dist_info_filenames:
            return
        try:
            names = [name for name, *_ in parse_entrypoints(self.read_dist_info("entry_points.txt"))]
        except (configparser.Error, AssertionError) as error:
            why = str(error).splitlines()[0] if str(error) else "a script is no module:function"
            raise _RefusedError(f"cannot read entry_points.txt: {why}") from None
        bad = [name for name in names if "/" in name or name in ("", ".", "..")]
        if bad:
            raise _RefusedError(f"entry_points.txt: not a script's name: {bad[0]!r}")

    def _note_differences(self, members: set[str]) -> None:
        signatures = {f"{self.dist_info_dir}/RECORD.{kind}" for kind in ("jws", "p7s")}
        for what, names in (
            ("RECORD names a file that is not there", self.records.keys() - members),
            ("RECORD does not name a file", members - self.records.keys() - signatures),
        ):
            if names:
                more = f" and {len(names) - 1} more" if len(names) > 1 else ""
                self.warnings.append(f"{what}: {min(names)}{more}")

    def requires_python(self) -> str | None:
        """Read Requires-Python; old metadata need not be UTF-8."""
        metadata = self._zipfile.read(f"{self.dist_info_dir}/METADATA").decode("utf-8", "replace")
        return cast("str | None", parse_metadata_file(metadata)["Requires-Python"])

    def get_contents(self) -> Iterator[WheelContentElement]:
        """Give every file to be installed, without those that an installer or interpreter makes."""
        generated = self._generated_scripts()
        for item in self._zipfile.infolist():
            directory, _, name = item.filename.rpartition("/")
            if item.is_dir() or "__pycache__" in directory.split("/") or item.filename in generated:
                continue
            if directory == self.dist_info_dir and name in _OURS:
                continue
            mode = item.external_attr >> 16
            if stat.S_ISLNK(mode):
                self.warnings.append(f"a symbolic link, which wheels cannot have, becomes a file: {item.filename}")
            # Some tools leave out the bits that say "regular file", or every bit.
            executable = stat.S_IFMT(mode) in (0, stat.S_IFREG) and bool(mode & 0o111)
            with self._zipfile.open(item) as stream:
                yield (item.filename, "", ""), cast("BinaryIO", stream), executable

    def _generated_scripts(self) -> set[str]:
        """Name the scripts that an entry point replaces, as pip does."""
        if "entry_points.txt" not in self.dist_info_filenames:
            return set()
        points = parse_entrypoints(self.read_dist_info("entry_points.txt"))
        return {f"{self.data_dir}/scripts/{name}" for name, *_ in points}


class _Destination(SchemeDictionaryDestination):
    """A layer's tree."""

    def __init__(self, root: Path, distribution: str, expected: dict[str, tuple[str, str, str]]) -> None:
        schemes = {
            "purelib": str(root / _SITE),
            "platlib": str(root / _SITE),
            "scripts": str(root / "bin"),
            "data": str(root),
            "headers": str(root / "include" / "site" / "python" / distribution),
        }
        super().__init__(schemes, interpreter="python", script_kind="posix")
        self.warnings: list[str] = []
        self._expected = expected

    def write_file(
        self, scheme: Scheme, path: str | os.PathLike[str], stream: BinaryIO, is_executable: bool
    ) -> RecordEntry:
        """Write a file; what goes to ``bin`` is a program, whatever its mode says."""
        if scheme != "scripts":
            return self.write_to_fs(scheme, os.fspath(path), stream, is_executable)
        content = stream.read()
        if content.startswith(b"#!python"):
            content = relocatable(content)
        return self.write_to_fs(scheme, os.fspath(path), io.BytesIO(content), is_executable=True)

    def write_script(self, name: str, module: str, attr: str, section: ScriptSection) -> RecordEntry:
        """Write the program of an entry point."""
        _, script = Script(name, module, attr, section).generate("python", "posix")
        return self.write_to_fs(Scheme("scripts"), name, io.BytesIO(relocatable(script)), is_executable=True)

    def finalize_installation(
        self, scheme: Scheme, record_file_path: str, records: Iterable[tuple[Scheme, RecordEntry]]
    ) -> None:
        """Write RECORD, with paths relative to ``site-packages``; note what is not what the wheel's own said."""
        written = list(records)
        changed = [
            record.path
            for where, record in written
            if where == scheme and not _agrees(record, self._expected.get(record.path, ("", "", "")))
        ]
        if changed:
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            self.warnings.append(f"RECORD has another digest for a file: {min(changed)}{more}")
        super().finalize_installation(scheme, record_file_path, written)


def _agrees(record: RecordEntry, row: tuple[str, str, str]) -> bool:
    """Compare what was written with a row of the wheel's RECORD, if that has a SHA-256."""
    return not row[1].startswith("sha256=") or row[1].rstrip("=") == str(record.hash_)


def _settle_modes(root: Path) -> None:
    """Keep of all modes only whether a file can be executed: the caller's mask must not show."""
    for directory, _, files in os.walk(root):
        os.chmod(directory, 0o755)
        for name in files:
            path = os.path.join(directory, name)
            os.chmod(path, 0o755 if os.stat(path).st_mode & 0o100 else 0o644)
