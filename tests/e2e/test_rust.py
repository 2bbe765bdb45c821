"""Projects in Rust, which maturin builds: for real hosts, another machine, and each kind of bindings."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from support import cargo
from support.hosts import require_host
from support.packing import ROOT, Place, run_program
from support.skips import skip_optional

from packer import pythons

pytestmark = [pytest.mark.e2e, pytest.mark.network]

TOOL = "/opt/topwords"
ABIS = "manylinux2014,cp27mu,cp36m,cp39,cp313,cp315"
TEXT = "zwei eins h\xe4 zwei\ndrei, zwei EINS h\xe4"
COUNTED = "      3 zwei\n      2 eins\n      2 h\xe4\n"
COMPILED = str(ROOT / ".cache" / "zig")
"""What zig has compiled of C libraries is kept with the repository."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    made = Place(tmp_path_factory.mktemp("rust"))
    shutil.copytree(ROOT / "examples" / "rust-cffi", made.work / "rust-cffi")
    return made


@pytest.fixture(scope="module")
def rust(place: Place) -> dict[str, str | None]:
    return {"ZIG_GLOBAL_CACHE_DIR": COMPILED, **cargo.rust(place.root / "rust")}


@pytest.fixture(scope="module")
def topwords(place: Place, rust: dict[str, str | None]) -> Path:
    before = sorted((place.work / "rust-cffi").rglob("*"))
    place.packed("fat", "rust-cffi", "--abis", ABIS, "--fast", "-o", "topwords", env=rust, timeout=600)
    assert sorted((place.work / "rust-cffi").rglob("*")) == before
    return place.work / "topwords"


@pytest.mark.hosts
@pytest.mark.parametrize(
    ("host", "tag", "hidden"),
    [
        ("bullseye", "cp27mu", ""), ("bullseye", "cp39", "/usr/bin/python2.7"), ("trixie", "cp313", ""),
        ("sid", "cp315", ""),
    ],
)  # fmt: skip
def test_a_core_in_rust_runs_in_every_python(topwords: Path, host: str, tag: str, hidden: str) -> None:
    binds = {topwords: TOOL, **({Path("/dev/null"): hidden} if hidden else {})}
    chosen = require_host(host).run([TOOL], binds=binds, env={"FATPAR": "explain"})
    assert chosen.stdout.decode().split()[-1] == f"{tag}-manylinux_2_17_x86_64"
    ended = require_host(host).run([TOOL, "-n", "3"], binds=binds, input=TEXT.encode())
    assert (ended.status, ended.stdout.decode(), ended.stderr) == (0, COUNTED, b"")


def test_and_in_3_6(topwords: Path, place: Place) -> None:
    """No Debian has it."""
    found = [one.path for one in pythons.find() if one.tag == "cp36m"]
    if not found:
        skip_optional("no CPython 3.6 is here")
    environment = {"PATH": f"{found[0].parent}:/nonexistent", "LC_ALL": "C.UTF-8"}
    ended = run_program(topwords, "-n", "3", str(_text(place)), store=place.root / "store", env=environment)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, COUNTED, "")


def test_what_it_needs_is_measured(topwords: Path, place: Place) -> None:
    """The tag promises glibc 2.17; this machine's linker would have taken what is newest here."""
    said = json.loads(place.packed("audit", topwords, "--json").stdout)
    for one in said["slices"]:
        core = next(file for file in one["files"] if file["path"].endswith("/topwords/_core/lib_core.so"))
        assert (one["claims"], one["excess"]) == ("manylinux_2_17", [])
        assert 14 <= int(core["libc"].removeprefix("GLIBC_2.")) <= 17
    names = {one["layer"] for slices in said["slices"] for one in slices["files"] if "topwords" in one["layer"]}
    assert names == {"topwords-0.1.0-py2.py3-none-manylinux_2_17_x86_64"}


@pytest.mark.hosts
@pytest.mark.torture
def test_for_another_machine(place: Place, rust: dict[str, str | None]) -> None:
    far = require_host("arm64")
    abis = ("--abis", "manylinux2014,cp39,cp311", "--arch", "x86_64,aarch64")
    place.packed("fat", "rust-cffi", *abis, "--fast", "-o", "both", env=rust, timeout=600)
    binds = {place.work / "both": TOOL}
    ended = far.run([TOOL, "-n", "3"], binds=binds, input=TEXT.encode())
    assert (ended.status, ended.stdout.decode(), ended.stderr) == (0, COUNTED, b"")
    ended = require_host("bookworm").run([TOOL, "-n", "3"], binds=binds, input=TEXT.encode())
    assert (ended.status, ended.stdout.decode(), ended.stderr) == (0, COUNTED, b"")


def test_by_this_machines_linker(place: Place, rust: dict[str, str | None]) -> None:
    """It is measured as any other: what asks for this machine's glibc is not for hosts of 2014."""
    ended = place.run("fat", "rust-cffi", "--abis", "manylinux2014,cp311", "--cc", "host", env=rust, timeout=600)
    assert (ended.status, ended.stdout) == (1, "")
    assert re.match(
        r"packer: rust-cffi: topwords/_core/lib_core\.so needs GLIBC_2\.\d+ of libc\.so\.6.*: "
        r"more than manylinux_2_17 has\n"
        r"packer: hint: --cc zig compiles for that C library; --accept topwords packs it",
        ended.stderr,
    ), ended.stderr


def test_what_does_not_compile(place: Place, rust: dict[str, str | None]) -> None:
    project(place, "wrong", 'bindings = "bin"', "", {"src/main.rs": 'fn main() {\n    let a: u8 = "x";\n}\n'})
    ended = place.run("fat", "wrong", "--abis", "manylinux2014,cp39", env=rust)
    told = "packer: building wrong for cp39 failed: error: could not compile `wrong`"
    assert (ended.status, ended.stdout) == (1, "")
    assert ended.stderr.startswith(told)
    assert "error[E0308]: mismatched types\n" in ended.stderr
    assert "maturin" not in ended.stderr


@pytest.mark.hosts
@pytest.mark.torture
def test_a_program(place: Place, rust: dict[str, str | None]) -> None:
    """What has no Python in it at all is one wheel for all of them."""
    source = 'fn main() {\n    println!("{}", std::env::args().skip(1).collect::<Vec<_>>().join(" "));\n}\n'
    project(place, "say", 'bindings = "bin"', "", {"src/main.rs": source})
    place.packed("fat", "say", "--abis", "manylinux2014,cp39,cp313", "--fast", "-o", "say.tool", env=rust, timeout=600)
    for host in ("bullseye", "trixie"):
        ended = require_host(host).run(["/opt/say", "a b", "c"], binds={place.work / "say.tool": "/opt/say"})
        assert (ended.status, ended.stdout, ended.stderr) == (0, b"a b c\n", b"")


@pytest.mark.hosts
@pytest.mark.torture
@pytest.mark.parametrize("stable", [True, False], ids=["abi3", "one-version"])
def test_pyo3(place: Place, rust: dict[str, str | None], stable: bool) -> None:
    """Debian's 0.17 knows CPython 3.7 to 3.11, and with abi3 what comes after them."""
    cargo.debian_crates(rust)
    settings = 'features = ["pyo3/abi3-py37"]' if stable else ""
    crates = '[dependencies]\npyo3 = { version = "0.17", features = ["extension-module"] }\n'
    source = """\
use pyo3::prelude::*;

#[pyfunction]
fn main() {
    println!("{}", 6 * 7);
}

#[pymodule]
fn answer(_: Python<'_>, module: &PyModule) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(main, module)?)
}
"""
    crate = f'[lib]\ncrate-type = ["cdylib"]\n\n{crates}'
    project(place, "answer", settings, crate, {"src/lib.rs": source}, '[project.scripts]\nanswer = "answer:main"\n')
    abis, hosts = ("cp39,cp313,cp315", ("bullseye", "trixie", "sid")) if stable else ("cp311", ("bookworm",))
    more = ("--abis", f"manylinux2014,{abis}", "--fast", "-o", "answer.tool")
    place.packed("fat", "answer", *more, env=rust, timeout=900)
    for host in hosts:
        ended = require_host(host).run(["/opt/tool"], binds={place.work / "answer.tool": "/opt/tool"})
        assert (ended.status, ended.stdout, ended.stderr) == (0, b"42\n", b"")


def project(place: Place, name: str, settings: str, crate: str, files: dict[str, str], more: str = "") -> None:
    """Write a project."""
    root = place.work / name
    system = '[build-system]\nrequires = ["maturin>=1.9,<2"]\nbuild-backend = "maturin"\n'
    about = f'[project]\nname = "{name}"\nversion = "1.0"\nrequires-python = ">=3.7"\n'
    files = {
        **files,
        "pyproject.toml": f"{system}\n{about}\n{more}\n[tool.maturin]\n{settings}\n",
        "Cargo.toml": f'[package]\nname = "{name}"\nversion = "1.0.0"\nedition = "2021"\n\n{crate}',
    }
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)


def _text(place: Place) -> Path:
    path = place.work / "text"
    path.write_text(TEXT, "utf-8")
    return path
