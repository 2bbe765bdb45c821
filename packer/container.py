"""Building in a container: an image has interpreters, compiler and an old C library; podman or docker runs it."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packer.errors import PackError
from packer.repair import finder as found_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from packer.model import Platform

_ENGINES = ("podman", "docker")

_PULL_SECONDS = 1800

_LOOK = """
for python in /opt/python/*/bin/python /usr/local/bin/python[23]* /usr/bin/python[23]*; do
	case $python in *[!0-9t.] | *.pyc) [ "${python##*/}" = python ] || continue ;; esac
	if [ -x "$python" ]; then
		said=$("$python" -E -s -c "$0" 2>/dev/null) && printf '%s\\t%s\\n' "$(readlink -f "$python")" "$said"
	fi
done
exit 0
"""

_COPY = """
into=$1; shift
for name do
	for place in /usr/local/lib64 /usr/local/lib /lib64 /usr/lib64 /lib /usr/lib /lib/*-linux-* /usr/lib/*-linux-*; do
		if [ -e "$place/$name" ]; then cp -L "$place/$name" "$into/$name" && break; fi
	done
done
exit 0
"""

_PASSED = ("SOURCE_DATE_EPOCH", "TMPDIR", "LC_ALL", "DIST_EXTRA_CONFIG", "CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS")
"""Variables that mean the same in a container; those of pip, too."""


@functools.cache
def engine() -> str:
    """Find what runs containers.

    :raises PackError: nothing is here.
    """
    for name in _ENGINES:
        found = shutil.which(name)
        if found:
            return found
    raise PackError("--build-in needs podman or docker, and neither is here", hint="install one, or --cc zig")


@functools.cache
def key(image: str) -> str:
    """Name an image as it is now, which is fetched if it is not here."""
    asked = [engine(), "image", "inspect", "--format", "{{.Id}}", image]
    said = _run(asked)
    if said.returncode != 0:
        pulled = _run([engine(), "pull", image])
        if pulled.returncode != 0:
            raise PackError(f"--build-in {image}: {engine()} cannot fetch it: {_last(pulled.stderr)}")
        said = _run(asked)
    if said.returncode != 0:
        raise PackError(f"--build-in {image}: {_last(said.stderr)}")
    return hashlib.sha256(said.stdout.strip().encode()).hexdigest()[:16]


@functools.cache
def interpreters(image: str, probe: str) -> tuple[tuple[Path, Mapping[str, Any]], ...]:
    """Ask every CPython in an image what it is.

    :param probe: what it is asked.
    """
    key(image)
    said = _run([engine(), "run", "--rm", image, "sh", "-c", _LOOK, probe])
    if said.returncode != 0:
        raise PackError(f"--build-in {image}: {engine()} cannot run it: {_last(said.stderr)}")
    found: dict[Path, Mapping[str, Any]] = {}
    for line in said.stdout.splitlines():
        path, _, answer = line.partition("\t")
        facts = json.loads(answer)
        if facts["implementation"] == "CPython":
            found.setdefault(Path(path), facts)
    return tuple(found.items())


def command(
    image: str, inside: Sequence[str], environment: Mapping[str, str], work: Path, shown: Sequence[Path]
) -> list[str]:
    """Give the command line that runs one in a container, which sees ``work`` and, to read, ``shown``.

    Paths are the same inside and outside.
    """
    variables = {name: value for name, value in environment.items() if name in _PASSED or name.startswith("PIP_")}
    variables["HOME"] = str(work)
    user = [] if Path(engine()).name == "podman" else ["--user", f"{os.getuid()}:{os.getgid()}"]
    return [
        *(engine(), "run", "--rm", *user, "--workdir", str(work), "--volume", f"{work}:{work}"),
        *(f"--volume={path}:{path}:ro" for path in shown if not path.is_relative_to(work)),
        *(f"--env={name}={value}" for name, value in sorted(variables.items())),
        *(image, *inside),
    ]


def finder(image: str, platform: Platform, work: Path) -> Callable[[str, Path], Path | None]:
    """Find libraries in an image."""
    copies = work / "libraries"

    def find(soname: str, user: Path) -> Path | None:
        copies.mkdir(exist_ok=True)
        if not (copies / soname).exists():
            _run(command(image, ["sh", "-c", _COPY, "sh", str(copies), soname], {}, work, []))
        found = found_in(platform, [copies])(soname, user)
        return found if found and found.is_relative_to(copies.resolve()) else None

    return find


def _run(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
            timeout=_PULL_SECONDS,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        raise PackError(f"cannot run {words[0]}: {error}") from None


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it says nothing"
