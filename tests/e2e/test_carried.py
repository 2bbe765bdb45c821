"""A carried interpreter, from a prefix on the packing machine to hosts that have no Python, or another one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from support.hosts import require_host
from support.packing import Place

if TYPE_CHECKING:
    from pathlib import Path

    from support.hosts import Result

pytestmark = [pytest.mark.native, pytest.mark.hosts]

HOSTS = ("bookworm-nopython", "bookworm-minimal", "trixie", "forky", "sid")
"""None of them has CPython 3.9."""

TOOL = "/opt/tool"

SCRIPT = """\
import bz2, ctypes, curses, decimal, hashlib, json, lzma, multiprocessing, os, readline, sqlite3, ssl, subprocess, sys
import uuid, zlib, zoneinfo


def double(number):
    return 2 * number


def children(method):
    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map(double, [1, 2])


if __name__ == "__main__":
    child = [sys.executable, "-I", "-c", "import sys, ssl; print(sys.executable)"]
    libraries = {line.split()[-1] for line in open("/proc/self/maps") if ".so" in line}
    print(json.dumps({
        "version": sys.version_info[:2],
        "arguments": sys.argv[1:],
        "sqlite": sqlite3.connect(":memory:").execute("select 6 * 7").fetchone(),
        "size": ctypes.sizeof(ctypes.c_void_p),
        "digest": hashlib.sha256(b"").hexdigest()[:8],
        "child": subprocess.run(child, capture_output=True, text=True).stdout.strip() == sys.executable,
        "spawn": children("spawn"),
        "forkserver": children("forkserver"),
        "packed": sorted(decimal.__name__ for module in (bz2, lzma, zlib) if module.compress(b"x")),
        "foreign": sorted(path for path in libraries if "/layers/" not in path),
    }))
"""


@pytest.fixture(scope="module")
def carried(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A script for cp39, with the interpreter of Debian bullseye, which is older than any other host."""
    place = Place(tmp_path_factory.mktemp("carried"))
    (place.work / "report.py").write_text(SCRIPT)
    python = require_host("bullseye").root / "usr/bin/python3.9"
    words = ("fat", "report.py", "--abis", "manylinux2014,cp39", "--runtime", f"cp39={python}", "--fast", "-o", "tool")
    ended = place.packed(*words)
    assert "-carried" in ended.stdout
    return place.work / "tool"


def run_on(host: str, tool: Path, *arguments: str, **environment: str) -> Result:
    return require_host(host).run([TOOL, *arguments], binds={tool: TOOL}, env=environment)


@pytest.mark.parametrize("host", HOSTS)
def test_it_runs_where_no_python_fits(host: str, carried: Path) -> None:
    ended = run_on(host, carried, "a", "b c")
    assert (ended.status, ended.stderr) == (0, b"")
    said = json.loads(ended.stdout)
    foreign = said.pop("foreign")
    assert said == {
        "version": [3, 9], "arguments": ["a", "b c"], "sqlite": [42], "size": 8, "digest": "e3b0c442", "child": True,
        "spawn": [2, 4], "forkserver": [2, 4], "packed": ["decimal"] * 3,
    }  # fmt: skip
    # the host gives its C library, and zlib, which the policy promises
    names = {path.rpartition("/")[2].partition(".so")[0].partition("-")[0] for path in foreign}
    assert names <= {"libc", "libm", "libdl", "libpthread", "librt", "libutil", "libresolv", "libcrypt", "ld", "libz"}


def test_the_host_s_python_is_preferred(carried: Path) -> None:
    ended = run_on("bullseye", carried, FATPAR="explain")
    assert b"cp39-manylinux_2_17_x86_64: fits /usr/bin/python3 (chosen)" in ended.stdout.replace(
        b"python3.9", b"python3"
    )
    assert b"cp39-manylinux_2_17_x86_64-carried: fits\n" in ended.stdout
