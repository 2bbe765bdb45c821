"""Wheels and source distributions made from a few words, and a package index on loopback that serves them."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import html
import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from functools import partial
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING
from urllib.parse import unquote

from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename

from .loopback import serving

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pytest

BACKEND = """
import io, os, sys, sysconfig, zipfile

NAME, VERSION, METADATA, FILES, NATIVE = {facts!r}


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    tag = "py2.py3-none-any"
    if NATIVE:
        soabi = sysconfig.get_config_var("SOABI") or ""
        python = "cp%d%d" % sys.version_info[:2]
        narrow = "mu" if sys.maxunicode > 0xffff else "m"
        abi = "cp" + soabi.split("-")[1] if soabi.startswith("cpython-") else python + narrow
        tag = "-".join([python, abi, sysconfig.get_platform().replace("-", "_").replace(".", "_")])
    name = "%s-%s-%s.whl" % (NAME, VERSION, tag)
    info = "%s-%s.dist-info/" % (NAME, VERSION)
    pure = "false" if NATIVE else "true"
    files = dict(FILES)
    files["built_by.txt"] = "%d.%d" % sys.version_info[:2]
    files[info + "METADATA"] = METADATA
    files[info + "WHEEL"] = "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: %s\\nTag: %s\\n" % (pure, tag)
    files[info + "RECORD"] = ""
    files[info + "RECORD"] = "".join("%s,,\\n" % path for path in files)
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w") as archive:
        for path in sorted(files):
            archive.writestr(zipfile.ZipInfo(path), files[path])
    return name
"""
"""A build back end for every Python that needs nothing else to be installed."""


def metadata(
    name: str,
    version: str,
    *,
    requires: Sequence[str] = (),
    requires_python: str = "",
    extras: Sequence[str] = (),
) -> str:
    """Write core metadata."""
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Python: {requires_python}"] if requires_python else []
    lines += [f"Provides-Extra: {extra}" for extra in extras]
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    return "\n".join(lines) + "\n"


def wheel(
    directory: Path,
    name: str,
    version: str = "1.0",
    *,
    tag: str = "py3-none-any",
    files: Mapping[str, str | bytes] | None = None,
    scripts: Sequence[str] = (),
    modes: Mapping[str, int] | None = None,
    record: str | None = None,
    omit: Sequence[str] = (),
    requires: Sequence[str] = (),
    requires_python: str = "",
    extras: Sequence[str] = (),
) -> Path:
    """Make a wheel.

    :param files: further members, or others in the place of what would be written; paths as in the wheel.
    :param scripts: lines of the section ``console_scripts``.
    :param modes: of members, as they stand in the zip file, file type included.
    :param record: RECORD in the place of the right one.
    :param omit: members of ``.dist-info`` that are left out.
    """
    base = f"{name.replace('-', '_')}-{version}"
    info = f"{base}.dist-info"
    about = metadata(name, version, requires=requires, requires_python=requires_python, extras=extras)
    pure = "true" if tag.endswith("-any") else "false"
    members: dict[str, bytes] = {
        f"{info}/METADATA": about.encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: {pure}\nTag: {tag}\n".encode(),
    }
    if scripts:
        members[f"{info}/entry_points.txt"] = "\n".join(["[console_scripts]", *scripts, ""]).encode()
    for path, content in (files or {}).items():
        members[path] = content.encode() if isinstance(content, str) else content
    rows = [f"{path},sha256={record_digest(content)},{len(content)}" for path, content in members.items()]
    members[f"{info}/RECORD"] = ("\n".join([*rows, f"{info}/RECORD,,", ""]) if record is None else record).encode()
    for member in omit:
        del members[f"{info}/{member}"]
    made = directory / f"{base}-{tag}.whl"
    with zipfile.ZipFile(made, "w") as archive:
        for member, content in members.items():
            item = zipfile.ZipInfo(member)
            item.external_attr = (modes or {}).get(member, 0o100644) << 16
            archive.writestr(item, content)
    return made


def record_digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")


def project(
    directory: Path,
    name: str,
    version: str = "1.0",
    *,
    native: bool = False,
    backend: str = "",
    requires: Sequence[str] = (),
    extras: Sequence[str] = (),
) -> Path:
    """Make a project directory that any Python can build without further distributions.

    :param native: its wheels are for the Python and platform that build them.
    :param backend: source of the build back end in the place of one that works.
    """
    about = metadata(name, version, requires=requires, extras=extras)
    facts = (name.replace("-", "_"), version, about, {f"{name.replace('-', '_')}.py": "X = 1\n"}, native)
    directory.mkdir(parents=True)
    (directory / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n', encoding="utf-8"
    )
    (directory / "backend.py").write_text(backend or BACKEND.replace("{facts!r}", repr(facts)), encoding="utf-8")
    return directory


def sdist(directory: Path, project_directory: Path, name: str, version: str = "1.0") -> Path:
    """Pack a project directory as a source distribution; the same files give the same bytes."""
    base = f"{name.replace('-', '_')}-{version}"
    path = directory / f"{base}.tar.gz"
    contents = {file.name: file.read_bytes() for file in sorted(project_directory.iterdir())}
    contents["PKG-INFO"] = metadata(name, version).encode()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for member, content in contents.items():
            item = tarfile.TarInfo(f"{base}/{member}")
            item.size = len(content)
            archive.addfile(item, io.BytesIO(content))
    path.write_bytes(gzip.compress(packed.getvalue(), compresslevel=0, mtime=0))
    return path


About = Mapping[str, Mapping[str, object]]
"""File name -> what an index tells of it besides: ``upload-time``, ``yanked`` (PEP 691, PEP 700)."""


class _Handler(BaseHTTPRequestHandler):
    """Answers as an index does (PEP 503, or PEP 691), with digests."""

    def __init__(self, directory: Path, requested: list[str], about: About | None, *arguments: object) -> None:
        self._directory = directory
        self._requested = requested
        self._about = about
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(self.path)
        self._requested.append(path)
        if path.startswith("/files/"):
            file = self._directory / path.removeprefix("/files/")
            self._answer(file.read_bytes() if file.is_file() else b"", "application/octet-stream")
        elif self._about is not None:
            name = path.split("/")[-2]
            files = [file for file in sorted(self._directory.iterdir()) if _project(file) == name]
            entries = [_entry(file) | dict(self._about.get(file.name, {})) for file in files]
            page = json.dumps({"meta": {"api-version": "1.1"}, "name": name, "files": entries}) if files else ""
            self._answer(page.encode(), "application/vnd.pypi.simple.v1+json")
        else:
            links = [_link(file) for file in sorted(self._directory.iterdir()) if _project(file) == path.split("/")[-2]]
            page = f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>" if links else ""
            self._answer(page.encode(), "text/html")

    def _answer(self, content: bytes, kind: str) -> None:
        self.send_response(200 if content else 404)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


def _project(file: Path) -> str:
    parse = parse_wheel_filename if file.suffix == ".whl" else parse_sdist_filename
    return canonicalize_name(parse(file.name)[0])


def _requires_python(file: Path) -> str:
    if file.suffix != ".whl":
        return ""
    with zipfile.ZipFile(file) as archive:
        about = next(archive.read(name) for name in archive.namelist() if name.endswith("/METADATA"))
    found = [line.partition(": ")[2] for line in about.decode().splitlines() if line.startswith("Requires-Python")]
    return found[0] if found else ""


def _link(file: Path) -> str:
    needs = _requires_python(file)
    requires = f' data-requires-python="{html.escape(needs)}"' if needs else ""
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return f'<a href="/files/{file.name}#sha256={digest}"{requires}>{file.name}</a>'


def _entry(file: Path) -> dict[str, object]:
    needs = _requires_python(file)
    content = file.read_bytes()
    found = {"filename": file.name, "url": f"/files/{file.name}", "size": len(content)}
    digests = {"hashes": {"sha256": hashlib.sha256(content).hexdigest()}}
    return found | digests | ({"requires-python": needs} if needs else {})


@contextlib.contextmanager
def serve(directory: Path, about: About | None = None) -> Iterator[tuple[str, list[str]]]:
    """Serve the files of ``directory`` as an index; give its URL and the list of paths that are asked for.

    :param about: as JSON, with this; else as HTML.
    """
    requested: list[str] = []
    with serving(partial(_Handler, directory, requested, about)) as address:
        yield f"http://{address}/simple", requested


def forget_pip_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the machine's pip configuration, and its package index, out of a test."""
    import os

    for name in list(os.environ):
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
