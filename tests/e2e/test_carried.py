"""A carried interpreter, from a prefix on the packing machine to hosts that have no Python, or another one."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import tls
from support.hosts import require_host
from support.packing import Place
from support.skips import skip_optional

from packer import pythons
from packer.model import LayerKind
from packer.reader import reading

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from support.hosts import Result

    from packer.pythons import Interpreter

pytestmark = [pytest.mark.native, pytest.mark.hosts]

HOSTS = ("bookworm-nopython", "bookworm-minimal", "trixie", "forky", "sid")
"""None of them has CPython 3.9."""

TOOL = "/opt/tool"

SCRIPT = """\
import bz2, ctypes, curses, decimal, hashlib, json, lzma, multiprocessing, os, readline, socket, sqlite3, ssl
import subprocess, sys, uuid, zlib, zoneinfo


def double(number):
    return 2 * number


def children(method):
    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map(double, [1, 2])


def trusts(port):
    try:
        with socket.create_connection(("127.0.0.1", port)) as plain:
            with ssl.create_default_context().wrap_socket(plain, server_hostname="localhost") as tls:
                return tls.version() > "TLSv1.1"
    except ssl.SSLCertVerificationError as error:
        return error.verify_message


if __name__ == "__main__" and sys.argv[1:2] == ["trusts"]:
    print(trusts(int(sys.argv[2])))
elif __name__ == "__main__":
    child = [sys.executable, "-I", "-c", "import sys, ssl; print(sys.executable)"]
    libraries = {line.split()[-1] for line in open("/proc/self/maps") if ".so" in line}
    print(json.dumps({
        "version": sys.version_info[:2],
        "arguments": sys.argv[1:],
        "looks": [open("/proc/self/" + name).read() for name in ("comm", "cmdline")],
        "sqlite": sqlite3.connect(":memory:").execute("select 6 * 7").fetchone(),
        "size": ctypes.sizeof(ctypes.c_void_p),
        "digest": hashlib.sha256(b"").hexdigest()[:8],
        "child": subprocess.run(child, capture_output=True, text=True).stdout.strip() == sys.executable,
        "host's": subprocess.run(["/bin/sh", "-c", "echo $((6 * 7))"], capture_output=True, text=True).stdout,
        "spawn": children("spawn"),
        "forkserver": children("forkserver"),
        "packed": sorted(decimal.__name__ for module in (bz2, lzma, zlib) if module.compress(b"x")),
        "foreign": sorted(path for path in libraries if "/v1/" not in path),
    }))
"""

SAID = {
    "arguments": ["a", "b c"], "looks": ["tool\n", f"{TOOL}\0a\0b c\0"],
    "sqlite": [42], "size": 8, "digest": "e3b0c442", "child": True, "host's": "42\n",
    "spawn": [2, 4], "forkserver": [2, 4], "packed": ["decimal"] * 3,
}  # fmt: skip


def pack(place: Place, tag: str, python: Path, *words: str) -> Path:
    (place.work / "report.py").write_text(SCRIPT)
    words = ("report.py", "--abis", f"manylinux2014,{tag}", "--runtime", f"{tag}={python}", "--fast", *words)
    ended = place.packed("fat", *words, "-o", "tool")
    assert "-carried" in ended.stdout
    if "--libc" not in words:
        assert re.search(
            r"-carried does not run on \d+ of \d+ known hosts: it needs glibc 2\.\d+ \(\d+\)", ended.stderr
        )
    return place.work / "tool"


@pytest.fixture(scope="module")
def carried(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A script for cp39, with the interpreter of Debian bullseye, which is older than any other host."""
    python = require_host("bullseye").root / "usr/bin/python3.9"
    return pack(Place(tmp_path_factory.mktemp("carried")), "cp39", python)


def run_on(
    host: str, tool: Path, *arguments: str, binds: Mapping[Path, str] | None = None, **environment: str
) -> Result:
    return require_host(host).run([TOOL, *arguments], binds={tool: TOOL, **(binds or {})}, env=environment)


def choice(host: str, tool: Path) -> str:
    """Name of the slice that runs on a host."""
    return run_on(host, tool, FATPAR="explain").stdout.decode().splitlines()[-1].strip()


@pytest.mark.parametrize("host", HOSTS)
def test_it_runs_where_no_python_fits(host: str, carried: Path) -> None:
    ended = run_on(host, carried, "a", "b c")
    assert (ended.status, ended.stderr) == (0, b"")
    said = json.loads(ended.stdout)
    foreign = said.pop("foreign")
    assert said == SAID | {"version": [3, 9]}
    # the host gives its C library, and zlib, which the policy promises
    names = {path.rpartition("/")[2].partition(".so")[0].partition("-")[0] for path in foreign}
    assert names <= {"libc", "libm", "libdl", "libpthread", "librt", "libutil", "libresolv", "libcrypt", "ld", "libz"}


def test_the_host_s_python_is_preferred(carried: Path) -> None:
    ended = run_on("bullseye", carried, FATPAR="explain")
    assert b"cp39-manylinux_2_17_x86_64: fits /usr/bin/python3 (chosen)" in ended.stdout.replace(
        b"python3.9", b"python3"
    )
    assert b"cp39-manylinux_2_17_x86_64-carried: fits\n" in ended.stdout


def test_it_is_in_the_bill_of_materials(carried: Path) -> None:
    """As are the libraries that it brings along."""
    place = Place(carried.parent.parent)
    said = json.loads(place.packed("sbom", "tool").stdout)
    (python,) = [one for one in said["components"] if one["name"] == "cpython"]
    assert (python["version"], python["purl"]) == ("3.9.2", "pkg:generic/cpython@3.9.2")
    assert python["licenses"] == [{"license": {"id": "Python-2.0.1"}}]
    (within,) = [one["dependsOn"] for one in said["dependencies"] if one["ref"] == python["bom-ref"]]
    brought = {one["name"]: one for one in said["components"] if one["bom-ref"] in within}
    assert brought.keys() >= {"openssl", "sqlite", "libffi"}
    assert brought["openssl"]["version"].startswith("1.1.1")
    place.packed("sbom", "tool", "--format", "spdx", "-o", "tool.spdx.json")
    packages = json.loads((place.work / "tool.spdx.json").read_text())["packages"]
    assert [one["versionInfo"] for one in packages if one["name"] == "cpython"] == ["3.9.2"]
    assert place.run("sbom", "report.py").whole == (
        1, "", "packer: report.py: not a fatpar archive: it does not end in a trailer\n"
    )  # fmt: skip


# Certificates ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """Port, and the file with who vouches for it."""
    authority = tmp_path_factory.mktemp("tls") / "authority.pem"
    with tls.serving(authority) as port:
        yield port, authority


@pytest.mark.parametrize("place", ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"])
def test_who_is_trusted_is_the_host_s_choice(carried: Path, server: tuple[int, Path], place: str) -> None:
    """OpenSSL of Debian would look below /usr/lib/ssl, which hosts have with a package only."""
    port, authority = server
    ended = run_on("bookworm-nopython", carried, "trusts", str(port), binds={authority: place})
    assert (ended.status, ended.stdout, ended.stderr) == (0, b"True\n", b"")


def test_nobody_is_trusted_whom_the_host_does_not(carried: Path, server: tuple[int, Path]) -> None:
    port, authority = server
    for variables in ({}, {"SSL_CERT_FILE": "/dev/null"}):
        binds = {authority: "/etc/ssl/certs/ca-certificates.crt"} if variables else {}
        ended = run_on("trixie", carried, "trusts", str(port), binds=binds, **variables)
        assert (ended.status, ended.stderr) == (0, b"")
        assert ended.stdout == b"unable to get local issuer certificate\n"


NO_PYTHON = {Path("/dev/null"): "/usr/bin/python3.9"}
"""Bullseye without its Python."""


@pytest.fixture(scope="module")
def httpie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = Place(tmp_path_factory.mktemp("httpie"))
    python = require_host("bullseye").root / "usr/bin/python3.9"
    words = ("fat", "httpie", "--abis", "manylinux2014,cp39", "--runtime", f"cp39={python}", "--fast", "-o", "http")
    place.packed(*words)
    return place.work / "http"


@pytest.mark.network
@pytest.mark.parametrize("host", ["bullseye", "bookworm", "trixie", "forky", "sid"])
def test_httpie_verifies_a_server(host: str, httpie: Path, server: tuple[int, Path]) -> None:
    port, authority = server
    hidden = NO_PYTHON if host == "bullseye" else {}
    binds = {httpie: TOOL, authority: "/opt/authority.pem", **hidden}
    url = f"https://localhost:{port}/"
    trusting = [TOOL, "--ignore-stdin", "--body", "--verify", "/opt/authority.pem", url]
    ended = require_host(host).run(trusting, binds=binds)
    assert (ended.status, ended.stdout, ended.stderr) == (0, b"secret", b"")
    ended = require_host(host).run([TOOL, "--ignore-stdin", "--body", url], binds=binds)
    assert (ended.status, ended.stdout) == (1, b"")
    assert b"CERTIFICATE_VERIFY_FAILED" in ended.stderr
    explained = require_host(host).run([TOOL], binds=binds, env={"FATPAR": "explain"})
    assert explained.stdout.endswith(b"choice\n  cp39-manylinux_2_17_x86_64-carried\n")


# With its C library ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the interpreter of bookworm, which is newer than bullseye."""
    python = require_host("bookworm").root / "usr/bin/python3.11"
    if pythons.search_one(python) is None:
        skip_optional("this machine's C library is older than bookworm's")
    return pack(Place(tmp_path_factory.mktemp("newer")), "cp311", python, "--libc", "bundled")


@pytest.mark.parametrize(("host", "slice_name"), [("bullseye", "libc"), ("musl", "libc"), ("trixie", "carried")])
def test_the_c_library_is_brought_where_the_host_s_will_not_do(host: str, slice_name: str, newer: Path) -> None:
    assert choice(host, newer) == f"cp311-manylinux_2_17_x86_64-{slice_name}"
    ended = run_on(host, newer, "a", "b c")
    assert (ended.status, ended.stderr) == (0, b"")
    said = json.loads(ended.stdout)
    foreign = said.pop("foreign")
    assert said == SAID | {"version": [3, 11]}
    assert bool(foreign) == (slice_name == "carried")  # nothing of the host's is mixed with it


PANDAS = """\
import io, numpy, pandas
frame = pandas.read_csv(io.StringIO("nut,weight\\nhazel,1\\npea,2\\nhazel,4\\n"))
print(frame.groupby("nut").weight.sum().to_dict(), round(numpy.linalg.det(numpy.array([[2.0, 0], [0, 3]]))))
print(pandas.Timestamp("2026-11-28", tz="Europe/Vienna").isoformat())
"""


@pytest.fixture(scope="module")
def nuts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = Place(tmp_path_factory.mktemp("pandas"))
    (place.work / "nuts.py").write_text(PANDAS)
    python = require_host("bullseye").root / "usr/bin/python3.9"
    words = ("nuts.py", "numpy==2.0.2", "pandas==2.2.3", "--abis", "manylinux2014,cp39", "--fast", "--libc", "bundled")
    place.packed("fat", *words, "--runtime", f"cp39={python}", "-o", "tool")
    return place.work / "tool"


@pytest.mark.network
@pytest.mark.parametrize(
    ("host", "slice_name"),
    [
        ("trixie", "carried"),
        ("bookworm", "carried"),
        ("forky", "libc"),  # no libstdc++, which every wheel with C++ expects of a host
        ("bookworm-nopython", "libc"),
        ("musl", "libc"),
    ],
)
def test_pandas(host: str, slice_name: str, nuts: Path) -> None:
    assert choice(host, nuts) == f"cp39-manylinux_2_17_x86_64-{slice_name}"
    ended = run_on(host, nuts)
    assert (ended.status, ended.stderr) == (0, b"")
    assert ended.stdout.decode() == "{'hazel': 5, 'pea': 2} 6\n2026-11-28T00:00:00+01:00\n"


@pytest.mark.parametrize("host", ["bullseye", "trixie"])
def test_a_store_that_has_moved(host: str, newer: Path) -> None:
    """The view names its library, and its loader if it brings that, by absolute paths, where something else is now."""
    planted = "import os\nos.write(1, b'planted')\n"
    script = (
        "FATPAR_STORE=~/one $0 a 'b c' && cp -a ~/one ~/three && mv ~/one ~/two && FATPAR_STORE=~/two $0 a 'b c' && "
        "mkdir -p $(dirname $1) && cat > $1 && FATPAR_STORE=~/three $0 a 'b c' && FATPAR_STORE=~/two $0 a 'b c'"
    )
    with reading(newer) as archive:  # the first without its C library, the second with it
        carried = [one for one in archive.records("layer") if one.kind == LayerKind.INTERPRETER.value]
        digest = bytes(carried[host == "bullseye"].digest).hex()
    old = f"/home/u/one/v1/layers/{digest}/tree/lib/python3.11/encodings/__init__.py"
    ended = require_host(host).run(["sh", "-c", script, TOOL, old], binds={newer: TOOL}, input=planted.encode())
    assert (ended.status, ended.stderr) == (0, b"")
    assert b"planted" not in ended.stdout
    said = [json.loads(line) for line in ended.stdout.splitlines()]
    assert len(said) == 4
    assert all(one["child"] for one in said)


def test_a_path_of_a_store_that_is_too_long_is_told(newer: Path) -> None:
    store = "/home/u/" + "/".join(["d" * 200] * 5)
    ended = run_on("bullseye", newer, FATPAR_STORE=store)
    assert (ended.status, ended.stdout) == (125, b"")
    assert b"the path of the store is too long for a loader" in ended.stderr


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--libc", "bundled"), "packer: --libc bundled: no slice carries its interpreter\n"),
        (("--libc", "other"), "invalid choice: 'other'"),
    ],
)
def test_a_c_library_that_nobody_can_bring(place: Place, words: tuple[str, ...], complaint: str) -> None:
    (place.work / "report.py").touch()
    ended = place.run("fat", "report.py", "--abis", "manylinux2014,cp39", *words)
    assert ended.status == 2
    assert complaint in ended.stderr


# What developers do with an interpreter -------------------------------------------------------------------------

VENV = """\
import json, os, subprocess, sys, venv

if sys.argv[1] == "test":
    os.environ["PYTHONPATH"] = "/opt/tests"
    sys.exit(subprocess.call([sys.executable, "-m", "test", *sys.argv[2:]], cwd="/tmp"))

def ask(*words):
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout

pip = ask(sys.executable, "-m", "pip", "--version")
venv.create("/home/u/env", with_pip=True, symlinks=True)
there = ask("/home/u/env/bin/python", "-m", "pip", "--version")
inside = ask("/home/u/env/bin/python", "-c", "import sys, ssl; print(sys.prefix, sys.version_info[:2])")
print(json.dumps([pip.split()[0], there.split()[3], inside.strip()]))
"""

STDLIB_TESTS = (
    "test_json", "test_zlib", "test_bz2", "test_lzma", "test_sqlite3", "test_hashlib", "test_struct", "test_decimal",
    "test_ssl", "test_socket", "test_subprocess", "test_zoneinfo", "test_uuid", "test_zipfile",
)  # fmt: skip
"""Of the standard library: what rests on libraries that were grafted, or on where the interpreter lies."""


@pytest.fixture(scope="module")
def own() -> Interpreter:
    """The Python that runs the tests."""
    base = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info[1]}"
    found = pythons.search_one(base)
    assert found, base
    if not (Path(sys.base_prefix) / f"lib/python3.{sys.version_info[1]}/ensurepip").is_dir():
        skip_optional("the Python that runs the tests has no ensurepip")
    return found


@pytest.fixture(scope="module")
def developer(own: Interpreter, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = Place(tmp_path_factory.mktemp("own"))
    (place.work / "develop.py").write_text(VENV)
    words = ("develop.py", "pip", "--abis", f"manylinux2014,{own.tag}", "--runtime", f"{own.tag}={own.path}", "--fast")
    place.packed("fat", *words, "-o", "tool")
    return place.work / "tool"


@pytest.mark.network
@pytest.mark.parametrize("host", ["bookworm-nopython", "trixie"])
def test_pip_venv_and_ensurepip(host: str, developer: Path, own: Interpreter) -> None:
    ended = run_on(host, developer, "venv")
    assert (ended.status, ended.stderr) == (0, b"")
    major, minor, _ = own.version
    there = f"/home/u/env/lib/python{major}.{minor}/site-packages/pip"
    assert json.loads(ended.stdout) == ["pip", there, f"/home/u/env ({major}, {minor})"]


@pytest.mark.network
@pytest.mark.slow
def test_the_standard_library_s_own_tests(developer: Path, own: Interpreter) -> None:
    library = Path(sys.base_prefix) / f"lib/python{own.version[0]}.{own.version[1]}"
    if not (library / "test").is_dir():
        skip_optional("the Python that runs the tests has no test package")
    # modules of which only tests are made are not captured
    helpers = {path: f"/opt/tests/{path.name}" for path in library.glob("lib-dynload/_test*.so")}
    binds = {developer: TOOL, library / "test": "/opt/tests/test", **helpers}
    ended = require_host("trixie").run([TOOL, "test", "-j2", *STDLIB_TESTS], binds=binds, timeout=900)
    said = ended.stdout.decode() + ended.stderr.decode()
    assert ended.status == 0, said
    assert "Result: SUCCESS" in said
