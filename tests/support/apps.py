"""Programs from the package index, packed and compared with a venv of the very same wheels.

``tests/apps.toml`` says which they are and what they have to do. Both the archive and the venv are called by one path
in one host, by one user, each twice, in a home of its own that keeps what the first launch left for the second.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement

from packer import facts, resolve
from packer.model import Platform, Target
from packer.requests import Requests

from . import roots
from .hosts import USER, home
from .layers import write_tree
from .loopback import serving
from .packing import Place

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .hosts import Host, Options

LIST = Path(__file__).resolve().parents[1] / "apps.toml"

HOSTS = {"cp39": "bullseye", "cp311": "bookworm", "cp313": "trixie"}
"""The ABIs every program is packed for -> the host whose Python has it."""

CARRIED = "cp39"
"""The ABI whose interpreter every archive carries, too: that of its host, which is older than any other."""

BARE = "bookworm"
"""The host that runs what is carried; its own Python is hidden. Essential packages alone would lack libstdc++."""

HIDDEN = {Path("/dev/null"): "/usr/bin/python3.11"}
"""What makes it a host without Python."""

PREFIX = "/opt/app"
"""Where the venv is; the archive is in its ``bin``, in the place of the command."""

WHEELS = "/opt/wheels"

PIP = """
import sys, sysconfig
sysconfig._PIP_USE_SYSCONFIG = True  # Debian's Python 3.9 has no distutils, which pip would ask
sys.path.insert(0, sys.argv.pop(1))
from pip._internal.cli.main import main
sys.exit(main())
"""
"""Runs pip from its wheel."""

KINDS = ("binary", "data files", "many files", "multiprocessing", "namespace", "native", "plugins", "subprocess")


# The list --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Normalisation:
    """What may differ, and why."""

    pattern: re.Pattern[str]
    to: str
    reason: str


@dataclass(frozen=True)
class App:
    """A program and what it has to do; ``apps.toml`` explains the fields."""

    name: str
    requirements: tuple[str, ...]
    kinds: tuple[str, ...]
    run: tuple[str, ...]
    shows: str
    command: str
    module: str = ""
    status: int = 0
    ci: bool = False
    platform: str = "manylinux2014"
    input: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    serves: Mapping[str, str] = field(default_factory=dict)
    writes: tuple[str, ...] = ()
    normalise: tuple[Normalisation, ...] = ()

    @property
    def abis(self) -> str:
        """The value of ``--abis``."""
        return ",".join((self.platform, *HOSTS))


@dataclass(frozen=True)
class List:
    """``apps.toml``."""

    pip: str
    """Requirement of the pip that makes the venvs."""
    uploaded_before: str
    apps: tuple[App, ...]


def read(path: Path = LIST) -> List:
    """Read the list.

    :raises TypeError: an app has a field that there is not, or lacks one.
    :raises KeyError: it names a normalisation that there is not.
    """
    document = tomllib.loads(path.read_text("utf-8"))
    known = {
        name: Normalisation(re.compile(table["pattern"]), table["to"], table["reason"])
        for name, table in document["normalise"].items()
    }
    apps = tuple(_app(name, table, known) for name, table in document["app"].items())
    return List(document["pip"], document["uploaded-before"], apps)


def _app(name: str, table: Mapping[str, Any], known: Mapping[str, Normalisation]) -> App:
    values: dict[str, Any] = {"name": name, "command": name}
    values |= {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    values["normalise"] = tuple(known[word] for word in table.get("normalise", ()))
    return App(**values)


def unpinned(app: App) -> list[str]:
    """The requirements of an app that leave it open which version it is."""
    parsed = {text: Requirement(text) for text in app.requirements}
    return [text for text, one in parsed.items() if [part.operator for part in one.specifier] != ["=="]]


# The archive -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Archive:
    """A packed app."""

    file: Path
    size: int
    seconds: float
    """That packing took, downloads included."""
    files: int
    """In all layers together."""
    wheels: Mapping[str, tuple[str, ...]]
    """Python ABI tag -> its wheels, as ``SHA-256/file name``."""


def packer_cache(cache: Path) -> Path:
    """Where the packer keeps wheels when ``cache`` is the directory of all programs' caches."""
    return cache / "fatpar-packer"


def pack(app: App, place: Place, uploaded_before: str, cache: Path) -> Archive:
    """Pack an app, as a user does, with the index as it was on a day.

    :raises AssertionError: with what the packer said.
    """
    output = place.work / app.command
    entry = ["-m", app.module] if app.module else ["-c", app.command]
    python = f"{CARRIED}={roots.root_of(HOSTS[CARRIED])}/usr/bin/python3.9"
    words: list[str | Path] = ["fat", *app.requirements, "--abis", app.abis, *entry, "--runtime", python]
    words += ["--fast", "--json", "-o", output]
    environment = {"XDG_CACHE_HOME": str(cache), "PIP_UPLOADED_PRIOR_TO": uploaded_before}
    began = time.monotonic()
    done = place.run(*words, env=environment, timeout=900)
    seconds = time.monotonic() - began
    assert done.status == 0, done.stderr
    described = json.loads(done.stdout)
    wheels = {
        one["name"].partition("-")[0]: tuple(f"{wheel['sha256']}/{wheel['wheel']}" for wheel in one["distributions"])
        for one in described["manifest"]["slices"]
    }
    files = sum(layer["files"] for layer in described["layers"])
    return Archive(output, output.stat().st_size, seconds, files, wheels)


# The venv --------------------------------------------------------------------------------------------------------


def fetch_pip(listed: List, cache: Path) -> str:
    """Fetch the wheel of pip into ``cache``; where it is, as :attr:`Archive.wheels` has it."""
    target = Target(facts.pythons()["cp39"].abi, Platform("glibc", (2, 17), "x86_64"))
    requests = Requests((listed.pip,))
    (found,) = resolve.resolve(requests, [target], cache=cache, progress=lambda _: None)
    (wheel,) = found.wheels
    return f"{wheel.sha256}/{wheel.path.name}"


def make_venv(host: Host, place: Path, wheels: Sequence[str], pip: str, cache: Path) -> None:
    """Make a venv at :data:`PREFIX` of a host, the user's own, and install wheels that lie in ``cache``.

    :param place: the directory outside that holds it.
    :raises AssertionError: with what venv or pip said.
    """
    place.mkdir()
    os.chown(place, USER, USER)
    binds = {place: PREFIX, cache / "wheels": WHEELS}
    install = ["install", "--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--quiet"]
    paths = [f"{WHEELS}/{wheel}" for wheel in wheels]
    for argv in (
        ["python3", "-m", "venv", "--without-pip", PREFIX],
        [f"{PREFIX}/bin/python", "-c", PIP, f"{WHEELS}/{pip}", *install, *paths],
    ):
        done = host.run(argv, binds=binds, timeout=600)
        assert done.status == 0, done.stderr.decode()


# The comparison --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What one launch came to, after normalisation."""

    status: int
    stdout: str
    stderr: str
    written: Mapping[str, str | None]
    """The files the app names as its work -> their text, or None when they are not there."""

    @property
    def everything(self) -> str:
        """All text."""
        return "\n".join((self.stdout, self.stderr, *(text or "" for text in self.written.values())))


def launch_twice(host: Host, app: App, argv: Sequence[str], binds: Mapping[Path, str], place: Path) -> list[Outcome]:
    """Launch an app twice, in a home that is made in ``place``, against a server of its own."""
    work = place / "work"
    work.mkdir(parents=True)
    with serving(partial(_Handler, app.serves)) as address:
        write_tree({path: filled(text, address) for path, text in app.files.items()}, work)
        give_to_user(place)
        words = [*argv, *(filled(word, address) for word in app.run)]
        options: Options = {
            "binds": {place: home(USER), **binds},
            "cwd": f"{home(USER)}/work",
            "env": {name: filled(value, address) for name, value in app.env.items()},
        }
        return [_launch(host, app, words, options, work, address) for _ in range(2)]


def _launch(host: Host, app: App, argv: Sequence[str], options: Options, work: Path, address: str) -> Outcome:
    done = host.run(argv, input=app.input.encode(), timeout=300, **options)

    def text(raw: bytes) -> str:
        normal = raw.decode("utf-8", "backslashreplace").replace(address, "SERVER")
        for one in app.normalise:
            normal = one.pattern.sub(one.to, normal)
        return normal

    written = {path: text((work / path).read_bytes()) if (work / path).exists() else None for path in app.writes}
    return Outcome(done.status, text(done.stdout), text(done.stderr), written)


def filled(text: str, address: str) -> str:
    """Text of the list with the server's address in its place."""
    return text.replace("{server}", address)


def give_to_user(directory: Path) -> None:
    """Make the unprivileged user the owner of all there is, whatever the mask it was made under."""
    for path in (directory, *directory.rglob("*")):
        os.chown(path, USER, USER, follow_symlinks=False)
        path.chmod(0o755 if path.is_dir() else 0o644)


class _Handler(BaseHTTPRequestHandler):
    """Answers with the pages of an app, and to what is sent with what was sent; no header tells the time."""

    def __init__(self, pages: Mapping[str, str], *arguments: object) -> None:
        self._pages = pages
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        page = self._pages.get(self.path.partition("?")[0])
        self._answer(404 if page is None else 200, (page or "").encode())

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self._answer(200, self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response_only(status)
        kind = {".xml": "application/xml", ".mp4": "video/mp4"}.get(Path(self.path).suffix, "text/html")
        self.send_header("Content-Type", self.headers["Content-Type"] or kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass
