"""A C program behind cffi, compiled for an old C library on this machine: examples/c-cffi on hosts of every kind."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from support import compiled
from support.hosts import require_host
from support.packing import ROOT, Place
from support.skips import skip_optional

from packer import facts, pythons, toolchain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from support.hosts import Result

pytestmark = [pytest.mark.e2e, pytest.mark.hosts, pytest.mark.network]

TEXT = b"to be or not\nto be\nto \xc3\xa4t\xc3\xa4\n"
SAID = b"3 lines, 8 words, 28 bytes\n      3 to\n      2 be\n"


class Slice(NamedTuple):
    """A slice, and where there is a Python for it."""

    tag: str
    arch: str
    host: str
    hidden: tuple[str, ...] = ()
    """Pythons that the host has and the program shall not find."""
    brings: bool = False
    """The host has no such Python: it gets this machine's."""


SOME = [
    Slice("cp311", "x86_64", "bookworm"),
    Slice("cp39", "x86_64", "bullseye"),
    Slice("cp27mu", "x86_64", "bullseye", hidden=("/usr/bin/python3.9",)),
    Slice("cp311", "aarch64", "arm64"),
]
OTHERS = [
    Slice("cp36m", "x86_64", "bookworm", hidden=("/usr/bin/python3.11",), brings=True),
    Slice("cp313", "x86_64", "trixie"),
    Slice("cp314", "x86_64", "forky"),
    Slice("cp315", "x86_64", "sid"),
]


def found(slices: list[Slice]) -> list[Slice]:
    """Those that this machine has an interpreter to build for."""
    here = {one.tag for one in pythons.find()}
    return [one for one in slices if one.tag in here]


def packed(directory: Path, slices: list[Slice]) -> Path:
    """Pack the example for some slices."""
    place = Place(directory)
    abis = ",".join(f"{one.tag}-manylinux2014_{one.arch}" for one in slices)
    cache = {"ZIG_GLOBAL_CACHE_DIR": str(compiled.ZIG_CACHE)}
    place.packed("fat", ROOT / "examples/c-cffi", "--abis", abis, "--fast", "-o", "textstat", env=cache, timeout=900)
    return place.work / "textstat"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(tmp_path_factory.mktemp("textstat"), found(SOME))


@pytest.fixture(scope="module")
def other_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    slices = found(OTHERS)
    if not slices:
        skip_optional("no further CPython is here to build with")
    return packed(tmp_path_factory.mktemp("others"), slices)


def run(file: Path, one: Slice, *arguments: str, env: Mapping[str, str] | None = None) -> Result:
    binds = {file: "/opt/textstat", file.with_name("text"): "/opt/text"}
    binds |= {Path("/dev/null"): path for path in one.hidden}
    environment, user = {**(env or {})}, {}
    if one.brings:  # where it was installed, as it has paths in it
        (own,) = [found.path for found in pythons.find() if found.tag == one.tag][:1]
        prefix = own.parent.parent
        binds[prefix] = str(prefix)
        environment["PATH"] = f"{prefix}/bin:/usr/bin:/bin"
        user = {"user": 0}
    return require_host(one.host).run(["/opt/textstat", *arguments], binds=binds, env=environment, **user)  # type: ignore[arg-type]


def check(file: Path, one: Slice) -> None:
    """It counts, by the right slice, and that slice's files keep to its policy."""
    if one not in found([one]):
        skip_optional(f"no {one.tag} is here to build with")
    file.with_name("text").write_bytes(TEXT)
    file.with_name("text").chmod(0o644)
    for _ in range(2):
        ran = run(file, one, "-n", "2", "/opt/text")
        assert (ran.status, ran.stdout, ran.stderr) == (0, SAID, b"")
    said = run(file, one, "/opt/text", env={"FATPAR": "explain"}).stdout.decode()
    assert re.search(rf"^  {one.tag}-manylinux_2_17_{one.arch}: fits .* \(chosen\)$", said, re.MULTILINE), said


@pytest.mark.parametrize("one", SOME, ids=lambda one: f"{one.tag}-{one.arch}")
def test_it_runs_on_real_hosts(program: Path, one: Slice) -> None:
    check(program, one)


@pytest.mark.torture
@pytest.mark.parametrize("one", OTHERS, ids=lambda one: f"{one.tag}-{one.arch}")
def test_it_runs_on_others(other_program: Path, one: Slice) -> None:
    check(other_program, one)


def test_what_was_compiled_needs_no_newer_c_library(program: Path) -> None:
    """Measured, and it does need that of this machine where it is compiled as usual."""
    if toolchain.machine().libc != "glibc" or toolchain.machine().version <= (2, 17):
        skip_optional("this machine's own C library is old enough")
    slices = json.loads(Place(program.parents[1]).packed("audit", "--json", program).stdout)["slices"]
    assert len(slices) == len(found(SOME))
    for one in slices:
        files = {file["path"].rpartition("/")[2]: file for file in one["files"]}
        (core,) = [file for name, file in files.items() if name.startswith("_core.")]
        assert core["libc"].startswith("GLIBC_")
        assert all(facts.node_number(file["libc"]) <= (2, 17) for file in files.values() if file["libc"])
        assert one["excess"] == []
        # the launcher's own stat: glibc's before 2.33 has it in every program
        assert not {"GLIBC_2.33", "GLIBC_2.34"} & set(one["nodes"]["libc.so.6"])


def test_it_is_refused_where_it_would_need_a_newer_one(tmp_path: Path) -> None:
    own = toolchain.machine()
    if own.libc != "glibc" or own.version < (2, 33):
        skip_optional("what this machine's compiler makes of it needs no newer C library")
    place = Place(tmp_path / "place")
    ended = place.run("fat", ROOT / "examples/c-cffi", "--abis", f"cp311-manylinux2014_{own.arch}", "--cc", "host")
    assert ended.status == 1
    assert re.match(
        r"packer: c-cffi: textstat/_core\.abi3\.so needs GLIBC_2\.3\d of libc\.so\.6 \(\w+.*\): "
        r"more than manylinux_2_17 has\n", ended.stderr,
    ), ended.stderr  # fmt: skip
    assert "hint: --cc zig compiles for that C library; --accept textstat packs it" in ended.stderr
    assert list(place.work.iterdir()) == []
    abis = ("--abis", f"cp311-manylinux2014_{own.arch}", "--cc", "host")
    accepted = place.run("fat", ROOT / "examples/c-cffi", *abis, "--accept", "textstat", "--fast", "-o", "out")
    assert accepted.status == 0
    assert "no wheel of it needs more" not in accepted.stderr
    assert re.search(r"^  beyond .*_core\S+ needs GLIBC_2\.3\d", place.packed("audit", "out").stdout, re.MULTILINE)
