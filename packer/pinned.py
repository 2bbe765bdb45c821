"""Requirements that are all pinned with digests: what pip chose for them once is remembered.

A file of requirements in pip's hash-checking mode says which files may be chosen, down to the byte: what was chosen
stays right. Without that, a new release may be what is wanted, and pip is asked each time; so it is where directories
of wheels are named, which may have got another.
"""

from __future__ import annotations

import configparser
import contextlib
import hashlib
import json
import os
import re
import sys
from dataclasses import asdict
from functools import cache as once
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from packer.files import sha256
from packer.model import Resolution, Target, Wheel
from packer.targets import wheel_tags

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from packer.cache import Cache
    from packer.requests import Requests

_PINNED = re.compile(r"[\w.-]+(\[[^\]]*\])? *== *[\w.!+-]+( *;.*?)?( +--hash=sha256:[0-9a-f]{64})+ *")
"""A requirement of one version (not ``==1.*``) with digests; options, URLs and other files are none."""

_OPTION = re.compile(r"^(-\w|--[\w-]+|)[ =]*(.*)$")
"""A line of a file of requirements: an option, or none, and what comes behind it."""

_DISTRIBUTION = re.compile(r"\.(whl|zip|tar|tar\.\w+|tgz|tbz|txz)$")
"""How the names of those end that pip takes of a directory."""

_DECIDING = ("pipchild", "resolve", "sources", "built", "model", "repair", "toolchain")
"""Modules of ours that have a say."""


def recall(requests: Requests, target: Target, cache: Cache) -> Resolution | None:
    """Give what was chosen for a target, if the wheels are still there and whole."""
    name = _name(requests, target)
    kept = cache.get(name) if name else None
    if kept is None:
        return None
    wheels = tuple(Wheel(**{**said, "path": Path(said["path"])}) for said in json.loads(kept))
    whole = all(wheel.path.is_file() and sha256(wheel.path).hex() == wheel.sha256 for wheel in wheels)
    return Resolution(target, wheels) if whole else None


def remember(requests: Requests, resolution: Resolution, cache: Cache) -> None:
    """Keep what was chosen, if it is right the next time."""
    name = _name(requests, resolution.target)
    if name:
        cache.put(name, json.dumps([asdict(wheel) for wheel in resolution.wheels], default=str).encode())


def _name(requests: Requests, target: Target) -> bytes:
    """Name what the choice depends on; empty if it may be another the next time."""
    if requests.requirements or requests.find_links or requests.preferred(target) or requests.as_of:
        return b""
    texts = [path.read_text("utf-8", "surrogateescape") for path in (*requests.files, *requests.constraints)]
    constraints = "\n".join(texts[len(requests.files) :])
    if not all(map(_is_pinned, texts[: len(requests.files)])) or re.search(r"^\s*-|\$\{", constraints, re.MULTILINE):
        return b""
    tags = " ".join(map(str, wheel_tags(target)))
    said = [
        _rules(),
        target.name,
        target.python.full_version,
        tags,
        *requests.index_options(),
        *settings(),
        *texts,
    ]
    return hashlib.sha256("\0".join(said).encode("utf-8", "surrogateescape")).digest()


@once
def _rules() -> str:
    """Name who decides: pip, and what we make of it."""
    ours = b"".join(Path(__file__).with_name(f"{name}.py").read_bytes() for name in _DECIDING)
    return f"{version('pip')} {hashlib.sha256(ours).hexdigest()}"


def settings() -> Iterator[str]:
    """Give what else tells pip something: its variables, and its files."""
    yield from (f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("PIP_"))
    yield from (f"{place}\n{place.read_text('utf-8', 'surrogateescape')}" for place in _configurations())


def _configurations() -> list[Path]:
    """Give pip's files as its documentation lists them."""
    home = Path(os.environ.get("HOME", "/nonexistent"))
    places = [Path(directory, "pip/pip.conf") for directory in os.environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")]
    places += [Path("/etc/pip.conf"), home / ".pip/pip.conf", Path(sys.prefix, "pip.conf")]
    places += [Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config", "pip/pip.conf")]
    places += [Path(os.environ.get("PIP_CONFIG_FILE") or "/nonexistent")]
    return [place for place in places if place.is_file()]


def named(options: Sequence[str] = ()) -> Iterator[str]:
    """Give what is in the files and directories of this machine that tell pip something by being named.

    :param options: of pip, as ``--find-links=PLACE``.
    """
    said = [option.removeprefix("--").partition("=")[::2] for option in options]
    said += [(name.removeprefix("PIP_"), value) for name, value in os.environ.items() if name.startswith("PIP_")]
    for place in _configurations():
        parser = configparser.RawConfigParser()
        with contextlib.suppress(configparser.Error, UnicodeDecodeError):  # pip says what is wrong
            parser.read(place)
        said += [(name, value) for section in parser.sections() for name, value in parser.items(section)]
    for name, value in sorted(said):
        kind = name.lower().replace("_", "-").removeprefix("--")
        paths = [Path(word.removeprefix("file://")).expanduser() for word in value.split()]
        if kind in ("constraint", "build-constraint"):
            yield from (f"{path} {sha256(path).hex()}" for path in nested(paths) if path.is_file())
        elif kind == "find-links":
            yield from (f"{path} {sha256(path).hex()}" for path in paths if path.is_file())
            found = [one for path in paths if path.is_dir() for one in sorted(path.iterdir())]
            kept = [(one, one.stat()) for one in found if one.is_file() and _DISTRIBUTION.search(one.name)]
            yield from (f"{one} {status.st_size} {status.st_mtime_ns}" for one, status in kept)


def nested(requirements: Sequence[Path]) -> list[Path]:
    """Give files of requirements, those that are named in them, and the files and directories that all of them name."""
    found: list[Path] = []
    waiting = list(requirements)
    while waiting:
        file = waiting.pop()
        if file in found or not file.is_file():
            continue
        found.append(file)
        for line in lines(file.read_text("utf-8", "replace")):
            option, word = _OPTION.sub(r"\1", line), os.path.expandvars(_OPTION.sub(r"\2", line)).strip("'\"")
            if option in ("-r", "--requirement", "-c", "--constraint"):
                waiting.append(Path(os.path.normpath(file.parent / word)))
            elif word:
                found += [*local(word), *local(str(file.parent / word))]
    return found


def local(word: str) -> Iterator[Path]:
    """Give the file or directory that a requirement or a place of distributions is, if it is on this machine."""
    word = re.sub(r"^[\w.-]+(\[[^\]]*\])? *@ *", "", word)
    word = re.sub(r"(\[[^\]/]*\])?( *;.*| *#.*| --.*)?$", "", word.removeprefix("file://"))
    if os.path.exists(word):
        yield Path(word)


def _is_pinned(text: str) -> bool:
    """Tell whether every line of a file of requirements is pinned with digests."""
    if "${" in text or re.search(r"#.*\\\n", text):  # what pip puts in, and what it does not join
        return False
    return all(map(_PINNED.fullmatch, lines(text)))


def lines(text: str) -> list[str]:
    """Give the lines of a file of requirements, those that go on joined, without comments and superfluous spaces."""
    joined = re.sub(r"\\\n", " ", text)
    found = [re.sub(r"(^|\s)#.*", "", line) for line in joined.splitlines()]
    return [" ".join(line.split()) for line in found if line.strip()]
