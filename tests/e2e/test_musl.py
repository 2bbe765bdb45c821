"""A host with musl alone, and slices for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.hosts import require_host
from support.packing import Place
from support.skips import skip_optional

from packer import pythons

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.native, pytest.mark.hosts, pytest.mark.network]

TOOL = "/opt/tool"

SCRIPT = """\
import multiprocessing, regex, subprocess, sys
from markupsafe import _speedups


def double(number):
    return 2 * number


if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        doubled = pool.map(double, [1, 2])
    child = subprocess.check_output([sys.executable, "-c", "import regex; print(regex.__name__)"], text=True)
    family = _speedups.__file__.rpartition("-")[2]
    print(regex.match(r"\\p{L}+", "h\\xe4\\xdf.").group(), doubled, child.strip(), family)
    print([open("/proc/self/" + name).read() for name in ("comm", "cmdline")])
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    made = Place(tmp_path_factory.mktemp("musl"))
    (made.work / "words.py").write_text(SCRIPT)
    return made


def pack(place: Place, abis: str, *more: str | Path) -> Path:
    place.packed("fat", "words.py", "regex", "markupsafe", "--abis", abis, "--fast", "-o", "tool", *more)
    return place.work / "tool"


def check(host: str, tool: Path, slice_name: str, suffix: str) -> None:
    far = require_host(host)
    explained = far.run([TOOL], binds={tool: TOOL}, env={"FATPAR": "explain"})
    assert explained.stdout.decode().splitlines()[-1].strip() == slice_name
    ended = far.run([TOOL, "a"], binds={tool: TOOL}, env={"LC_ALL": "C.UTF-8"})
    assert (ended.status, ended.stderr) == (0, b"")
    looks = ["tool\n", f"{TOOL}\0a\0"]
    assert ended.stdout.decode() == f"h\xe4\xdf [2, 4] regex {suffix}\n{looks}\n"


def test_each_host_gets_the_slice_of_its_family(place: Place) -> None:
    tool = pack(place, "musllinux_1_2,manylinux2014,cp313")
    check("musl", tool, "cp313-musllinux_1_2_x86_64", "musl.so")
    check("trixie", tool, "cp313-manylinux_2_17_x86_64", "gnu.so")


def test_a_slice_for_the_other_family_never_fits(place: Place) -> None:
    tool = pack(place, "cp313-musllinux_1_2")
    ended = require_host("trixie").run([TOOL], binds={tool: TOOL})
    assert (ended.status, ended.stdout) == (126, b"")
    assert b"needs musl 1.2, found glibc 2.41" in ended.stderr
    tool = pack(place, "cp313-manylinux2014")
    ended = require_host("musl").run([TOOL], binds={tool: TOOL})
    assert (ended.status, ended.stdout) == (126, b"")
    assert ended.stderr.count(b"needs ") == 1
    assert b"found musl 1.2" in ended.stderr


def test_an_interpreter_with_musl_runs_beside_glibc(place: Place) -> None:
    python = require_host("musl").root / "usr/bin/python3.13"
    if pythons.search_one(python) is None:
        skip_optional("this machine has no musl")
    tool = pack(place, "cp313-musllinux_1_2", "--runtime", f"cp313={python}", "--libc", "bundled")
    check("musl", tool, "cp313-musllinux_1_2_x86_64", "musl.so")
    for host in ("bullseye", "bookworm-nopython"):
        check(host, tool, "cp313-musllinux_1_2_x86_64-libc", "musl.so")
