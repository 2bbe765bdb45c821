#!/usr/bin/env python3
"""Make the root filesystems that the tests run in: ``tests/hosts/build.py [NAME...]``, all of them by default.

Needs root and mmdebstrap. What is finished and up to date is left alone; what an interrupted build left is swept.
Settings: FATPAR_TEST_HOSTS (directory of the roots), FATPAR_TEST_MIRROR (Debian archive to take packages from) and
FATPAR_TEST_KEYRING (file of its keys), which come from this machine's own apt sources when not set.
A release that Debian has moved to its archive of old ones is made by itself: FATPAR_TEST_MIRROR=... build.py bullseye.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support import roots

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future
    from types import FrameType

AT_ONCE = 2
"""Builds at the same time: more of them only wait for the same disk and network."""

APT = Path("/etc/apt")

SUITES = {definition.suite for definition in roots.DEFINITIONS.values()}

PRIVATE = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child")
"""A mount and pid namespace that ends with the process that started it. Whatever happens to a build, killed or
crashed, none of its mounts is ever seen outside, and none of its processes goes on writing."""


class BuildError(Exception):
    """A build that cannot be done; the message is for the user."""


@dataclass(frozen=True)
class Archive:
    """Where packages come from; what is None is left to mmdebstrap, which knows Debian's defaults."""

    mirror: str | None = None
    keyring: str | None = None


# Which archive --------------------------------------------------------------------------------------------------


def stanzas(text: str) -> Iterator[dict[str, str]]:
    """The stanzas of a deb822 file (sources.list(5)): lower-case field name -> value, its lines joined by a blank."""
    for block in text.split("\n\n"):
        fields: dict[str, str] = {}
        name = ""
        for line in block.splitlines():
            if line.startswith("#"):
                continue
            if line[:1] in (" ", "\t"):
                fields[name] = f"{fields.get(name, '')} {line.strip()}"
            elif ":" in line:
                name, _, value = line.partition(":")
                name = name.lower()
                fields[name] = value.strip()
        if fields:
            yield fields


def one_liners(text: str) -> Iterator[dict[str, str]]:
    """The lines of a sources.list(5) file as the fields of a deb822 stanza."""
    for line in text.splitlines():
        kind, _, rest = line.split("#")[0].strip().partition(" ")
        options = ""
        if rest.lstrip().startswith("["):
            options, _, rest = rest.lstrip()[1:].partition("]")
        words = rest.split()
        if len(words) > 2:
            fields = dict(option.lower().split("=", 1) for option in options.split() if "=" in option)
            yield {**fields, "types": kind, "uris": words[0], "suites": words[1], "components": " ".join(words[2:])}


def source_files() -> Iterator[Path]:
    """apt's source files in the order apt reads them."""
    yield from (path for path in [APT / "sources.list"] if path.exists())
    yield from sorted(path for path in (APT / "sources.list.d").glob("*") if path.suffix in (".list", ".sources"))


def is_debian(fields: dict[str, str]) -> bool:
    """Whether a source is a Debian archive with whole releases, not its security updates or somebody's own packages."""
    return (
        "deb" in fields.get("types", "").split()
        and fields.get("enabled", "yes").lower() not in ("no", "false")
        and "main" in fields.get("components", "").split()
        and fields.get("uris", "").startswith(("http://", "https://"))
        and not SUITES.isdisjoint(fields.get("suites", "").split())
    )


def machine_archive() -> Archive:
    """The first Debian archive in this machine's apt sources; empty where there is none, as on Ubuntu."""
    for path in source_files():
        text = path.read_text()
        for fields in stanzas(text) if path.suffix == ".sources" else one_liners(text):
            if is_debian(fields):
                # A key may also stand in the file itself; mmdebstrap takes files only.
                keyrings = [word for word in fields.get("signed-by", "").split() if word.startswith("/")]
                return Archive(fields["uris"].split()[0], keyrings[0] if keyrings else None)
    return Archive()


def archive() -> Archive:
    """The archive to use: as the environment says, else as this machine's apt does."""
    found = machine_archive()
    mirror = os.environ.get("FATPAR_TEST_MIRROR") or found.mirror
    return Archive(mirror, os.environ.get("FATPAR_TEST_KEYRING") or found.keyring)


# One root -------------------------------------------------------------------------------------------------------


def command(definition: roots.Definition, tree: Path, source: Archive) -> list[str]:
    """The command that makes a tree from a definition."""
    return [
        *PRIVATE,
        "mmdebstrap",
        *definition.options,
        *(f"--include={package}" for package in definition.packages),
        *([f"--keyring={source.keyring}"] if source.keyring else []),
        definition.suite,
        str(tree),
        *([source.mirror] if source.mirror else []),
    ]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file; another process that builds the same root waits here and then finds it finished."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def sweep(directory: Path) -> None:
    """Remove a directory, unless something is mounted in it: that would be emptied with it."""
    if not directory.exists():
        return
    if mounts := roots.mounts_below(directory):
        raise BuildError(f"cannot remove {directory}: {mounts[0]} is mounted")
    shutil.rmtree(directory)


def tail(log: Path) -> str:
    """The last lines of a log, for a message."""
    return "\n".join(f"  {line}" for line in log.read_text(errors="replace").splitlines()[-12:])


def publish(name: str, building: Path) -> None:
    """Write the stamp of a whole tree, then put it where :func:`roots.finished` looks."""
    (building / roots.stamp_of(name).name).write_text(roots.DEFINITIONS[name].digest)
    final = roots.root_of(name).parent
    sweep(final)
    building.rename(final)


MIRROR = "http://deb.debian.org/debian"
"""Where mmdebstrap takes packages from when it is told nothing."""


def compile_python(definition: roots.Definition, tree: Path, source: Archive, output: IO[bytes]) -> int:
    """Fetch the sources of a root's Python and compile it; the status of what did it, whose words go to ``output``."""
    with tempfile.TemporaryDirectory() as work:
        file = Path(work) / "sources.tar.xz"
        url = f"{source.mirror or MIRROR}/{definition.source}"
        try:
            with urllib.request.urlopen(url, timeout=120) as answer:
                file.write_bytes(answer.read())
        except OSError as error:
            raise BuildError(f"cannot fetch {url}: {error}") from None
        if hashlib.sha256(file.read_bytes()).hexdigest() != definition.sha256:
            raise BuildError(f"{url} is not the file that it should be")
        words = [*PRIVATE, "bash", str(roots.SCRIPT), str(tree), str(file)]
        return subprocess.run(
            words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, check=False
        ).returncode


def build(name: str, source: Archive) -> str:
    """Make one root unless it is finished; returns what was done.

    :raises BuildError: with the end of mmdebstrap's output.
    """
    with locked(roots.cache() / f"{name}.lock"):
        building = roots.cache() / f"{name}.building"
        sweep(building)
        if roots.finished(name):
            return "up to date"
        log = roots.cache() / f"{name}.log"
        tree = building / roots.root_of(name).name
        building.mkdir()
        print(f"{name}: building", flush=True)
        began = time.monotonic()
        with log.open("wb") as output:
            # A session of its own: Ctrl-C is for this process, which then ends, and PRIVATE ends the rest.
            done = subprocess.run(
                command(roots.DEFINITIONS[name], tree, source),
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, check=False,
            )  # fmt: skip
            status, what = done.returncode, "mmdebstrap"
            if not status and roots.DEFINITIONS[name].source:
                status, what = compile_python(roots.DEFINITIONS[name], tree, source, output), "compiling its Python"
        if status:
            sweep(building)
            raise BuildError(f"{name}: {what} failed with status {status}, its log is {log}:\n{tail(log)}")
        publish(name, building)
        return f"built in {time.monotonic() - began:.0f} s, {size(roots.root_of(name)) / 1e6:.0f} MB"


def size(tree: Path) -> int:
    """Bytes that a tree takes on disk, a file with several names counted once."""
    seen: dict[tuple[int, int], int] = {}
    for directory, _, files in os.walk(tree):
        for file in files:
            status = Path(directory, file).lstat()
            seen[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(seen.values())


# All of them ----------------------------------------------------------------------------------------------------


def check_machine() -> None:
    """Raise a BuildError that says what this machine lacks."""
    if os.geteuid() != 0:
        raise BuildError("making root filesystems needs root: run it with sudo")
    for tool, package in (("mmdebstrap", "mmdebstrap"), ("unshare", "util-linux"), ("setpriv", "util-linux"),
                          ("musl-gcc", "musl-tools"), ("make", "make"), ("xz", "xz-utils")):  # fmt: skip
        if not shutil.which(tool):
            raise BuildError(f"{tool} is missing: install the package {package} (apt-get install {package})")
    allowed = subprocess.run([*PRIVATE, "true"], capture_output=True, text=True, check=False)
    if allowed.returncode:
        raise BuildError(f"this machine does not allow a mount namespace: {allowed.stderr.strip()}")


def report(name: str, build: Future[str]) -> bool:
    """Say how the build of a root went, and return whether it went well."""
    try:
        print(f"{name}: {build.result()}", flush=True)
    except (BuildError, OSError) as error:
        print(f"build.py: {error}", file=sys.stderr, flush=True)
        return False
    return True


def build_all(names: list[str], source: Archive) -> bool:
    """Build the named roots, and return whether all are finished."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        builds = {pool.submit(build, name, source): name for name in names}
        finished = [report(builds[done], done) for done in as_completed(builds)]
    return all(finished)


def interrupted(number: int, _frame: FrameType | None) -> None:
    """Signal handler: end at once, without waiting for the builds' threads; PRIVATE ends their children."""
    print("build.py: interrupted: what was being built will be done again", file=sys.stderr, flush=True)
    os._exit(128 + number)


def main() -> int:
    """Exit status: 0 all roots are finished, 1 not, 2 wrong usage."""
    parser = argparse.ArgumentParser(description="make the root filesystems that the tests run in")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(roots.DEFINITIONS)}")
    names: list[str] = parser.parse_args().names
    if unknown := [name for name in names if name not in roots.DEFINITIONS]:
        parser.error(f"unknown host {unknown[0]}: choose from {', '.join(roots.DEFINITIONS)}")
    os.umask(0o022)  # another user than the one who builds enters the roots
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    try:
        check_machine()
    except BuildError as error:
        print(f"build.py: {error}", file=sys.stderr)
        return 1
    roots.cache().mkdir(parents=True, exist_ok=True)
    return 0 if build_all(names or list(roots.DEFINITIONS), archive()) else 1


if __name__ == "__main__":
    sys.exit(main())
