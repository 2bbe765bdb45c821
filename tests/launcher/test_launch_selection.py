"""One file on every host: which slice runs there, what is said where none does, what FATPAR=explain tells."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from support.archives import PYTHONS
from support.hosts import USER, Host, Result, require_host

from packer.model import Need, NeedKind

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Pack

pytestmark = pytest.mark.hosts

TOOL = "/opt/tool"
APP = """\
import sys


def main():
    tree = sys.prefix.split("/")
    print("%d.%d %s %s" % (sys.version_info[0], sys.version_info[1], "/".join(tree[:7]), tree[-1]))
"""

KERNEL = os.uname().release


@dataclass(frozen=True)
class Facts:
    """What explain says of a host."""

    libc: str
    pythons: tuple[tuple[str, str, str], ...]
    """ABI tag, version as far as it is known without running it, path."""


LIB, USR_LIB = "/lib/x86_64-linux-gnu/libc.so.6", "/usr/lib/x86_64-linux-gnu/libc.so.6"

FACTS = {
    "bullseye": Facts(
        f"glibc 2.31 ({LIB})", (("cp39", "3.9", "/usr/bin/python3.9"), ("cp27mu", "2.7", "/usr/bin/python2.7"))
    ),
    "bookworm": Facts(f"glibc 2.36 ({USR_LIB})", (("cp311", "3.11.2", "/usr/bin/python3.11"),)),
    "trixie": Facts(f"glibc 2.41 ({USR_LIB})", (("cp313", "3.13.5", "/usr/bin/python3.13"),)),
    # not released yet: versions may move on
    "forky": Facts(f"glibc 2.x ({USR_LIB})", (("cp314", "3.14.x", "/usr/bin/python3.14"),)),
    "sid": Facts(f"glibc 2.x ({USR_LIB})", (("cp315", "3.15.x", "/usr/bin/python3.15"),)),
    "bookworm-minimal": Facts(f"glibc 2.36 ({USR_LIB})", (("cp311", "3.11.2", "/usr/bin/python3.11"),)),
    "bookworm-nopython": Facts(f"glibc 2.36 ({USR_LIB})", ()),
}

RUNS = {"bullseye": "3.9", "bookworm": "3.11", "trixie": "3.13", "forky": "3.14", "sid": "3.15"}


@pytest.fixture(scope="module")
def tool(pack: Pack) -> Path:
    """Needs what only a whole standard library has."""
    return pack("tool", {"app.py": APP}, more=[Need(NeedKind.STDLIB, "json")])


def run(host: Host, tool: Path, *, word: str = "", state: Path | None = None) -> Result:
    return host.run([TOOL], binds={tool: TOOL}, env={"FATPAR": word or None}, state=state)


def normal(host: Host, text: bytes) -> str:
    """Without what is the machine's, or moves with an unreleased suite."""
    words = re.sub(r"x86-64-v[1-4]", "x86-64-vN", text.decode().replace(KERNEL, "KERNEL"))
    if host.name in ("forky", "sid"):
        words = re.sub(r"glibc 2\.\d+", "glibc 2.x", re.sub(r"(cp31[45]) (3\.1[45])\.\d+", r"\1 \2.x", words))
    return words


# It runs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "python"), RUNS.items(), ids=RUNS)
def test_the_same_file_runs_on_every_host(tool: Path, name: str, python: str) -> None:
    result = run(require_host(name), tool)
    assert result == Result(0, f"{python} /home/u/.cache/fatpar/v1/views tree\n".encode(), b"")


def test_python_2_runs_when_there_is_nothing_else_for_it(pack: Pack) -> None:
    tool = pack("tool", {"app.py": APP}, tags=["cp313", "cp27mu", "cp311"])
    result = run(require_host("bullseye"), tool)
    assert result == Result(0, b"2.7 /home/u/.cache/fatpar/v1/views tree\n", b"")


def test_the_order_of_the_slices_is_the_order_of_preference(pack: Pack) -> None:
    tool = pack("tool", {"app.py": APP}, tags=["cp27mu", "cp39"])
    result = run(require_host("bullseye"), tool)
    assert result == Result(0, b"2.7 /home/u/.cache/fatpar/v1/views tree\n", b"")


# It does not run ------------------------------------------------------------------------------------------------

REFUSALS = {
    "bookworm-nopython": (
        "tool: this machine cannot run it: needs CPython cp39, found no Python at all"
        " (cp39-manylinux_2_17_x86_64 of 6)\n"
        "tool: found x86_64, x86-64-vN, Linux KERNEL, glibc 2.36, no Python at all\n"
        "tool: hint: run with FATPAR=explain to see every slice\n"
    ),
    "bookworm-minimal": (
        "tool: this machine cannot run it: needs standard library module json, not found in /usr/lib/python3.11"
        " (cp311-manylinux_2_17_x86_64 of 6)\n"
        "tool: found x86_64, x86-64-vN, Linux KERNEL, glibc 2.36, cp311 (/usr/bin/python3.11)\n"
        "tool: hint: run with FATPAR=explain to see every slice\n"
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
@pytest.mark.parametrize("user", [USER, 0], ids=["user", "root"])
def test_what_fits_no_slice_is_told_in_three_lines(tool: Path, name: str, user: int) -> None:
    host = require_host(name)
    result = host.run([TOOL], binds={tool: TOOL}, user=user)
    assert (result.status, result.stdout, normal(host, result.stderr)) == (126, b"", REFUSALS[name])


@pytest.mark.parametrize("name", REFUSALS)
def test_nothing_is_written_where_no_slice_fits(tool: Path, name: str, tmp_path: Path) -> None:
    """Neither to the root filesystem, as its overlay shows, nor to any other place a user can write to."""
    host = require_host(name)
    kept = {}
    for program in ("true", TOOL):
        state = tmp_path / program.strip("/")
        argv = ["sh", "-c", f"{program} 2>/dev/null; find /tmp /var/tmp /dev/shm /home /run | sort"]
        seen = host.run(argv, binds={tool: TOOL}, state=state)
        kept[program] = seen.stdout, sorted(str(path.relative_to(state)) for path in (state / "upper").rglob("*"))
    assert kept[TOOL] == kept["true"]
    assert kept["true"][0].split() == [b"/dev/shm", b"/home", b"/home/u", b"/run", b"/run/lock", b"/tmp", b"/var/tmp"]


# Explain --------------------------------------------------------------------------------------------------------


def explained(name: str, facts: Facts, tags: tuple[str, ...]) -> str:
    """The whole text that a host should give."""
    lines = ["host", "  machine  x86_64, x86-64-vN", "  kernel   KERNEL", f"  libc     {facts.libc}"]
    lines += [f"  python   {' '.join(python[:2])} ({python[2]})" for python in facts.pythons] or [
        "  python   none found"
    ]
    if name not in RUNS:
        lines.append("  PATH was searched, since no slice fits the system's interpreters")
    lines.append("slices, most preferred first")
    found = {tag: path for tag, _, path in facts.pythons}
    every = ", ".join(f"{tag} ({path})" for tag, path in found.items()) or "no Python at all"
    chosen = "none: this machine cannot run it"
    for tag in tags:
        if tag not in found:
            verdict = f"needs CPython {tag}, found {every}"
        elif name == "bookworm-minimal":
            verdict = "needs standard library module json, not found in /usr/lib/python3.11"
        else:
            verdict = f"fits {found[tag]}"
            if chosen.startswith("none"):
                chosen = f"{tag}-manylinux_2_17_x86_64"
                verdict += " (chosen)"
        lines.append(f"  {tag}-manylinux_2_17_x86_64: {verdict}")
    return "\n".join([*lines, "choice", f"  {chosen}", ""])


@pytest.mark.parametrize("name", FACTS)
def test_explain_tells_all(tool: Path, name: str) -> None:
    host = require_host(name)
    result = run(host, tool, word="explain")
    expected = (0 if name in RUNS else 126, explained(name, FACTS[name], PYTHONS), b"")
    assert (result.status, normal(host, result.stdout), result.stderr) == expected


def test_control_words_write_nothing_and_take_no_argument(tool: Path, tmp_path: Path) -> None:
    host = require_host("bookworm")
    seen = {}
    for word in ("explain", "list", "verify", "help", "nonsense"):
        state = tmp_path / word
        result = host.run([TOOL, "--version"], binds={tool: TOOL}, env={"FATPAR": word}, state=state)
        seen[word] = result.status
        assert list((state / "upper/home/u").iterdir()) == []
        if word == "nonsense":
            text = b"tool: FATPAR=nonsense is not known: explain, list, verify, extract, time and help are\n"
            assert (result.stdout, result.stderr) == (b"", text)
        else:
            assert result.stderr == b""
    assert seen == {"explain": 0, "list": 0, "verify": 0, "help": 0, "nonsense": 125}
