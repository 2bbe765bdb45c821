"""packer/detect.py: what is found in files is what others say of them: dpkg, and the libraries themselves."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from support.hosts import require_host
from support.layers import SITE, root_of
from support.packing import ROOT

from packer import detect, installed, libraries, resolve, targets
from packer.libraries import Library
from packer.requests import Requests

# Debian ---------------------------------------------------------------------------------------------------------

DEBIAN = {
    "bullseye": {"openssl": "1.1.1w", "expat": "2.2.10", "sqlite": "3.34.1", "zlib": "1.2.11", "readline": "8.1"},
    "bookworm": {
        "openssl": "3.0.20", "expat": "2.5.0", "sqlite": "3.40.1", "zlib": "1.2.13", "readline": "8.2",
        "bzip2": "1.0.8", "xz": "5.4.1", "zstd": "1.5.4", "lz4": "1.9.4", "ncurses": "6.4", "krb5": "1.20.1",
        "berkeley-db": "5.3.28", "cpython": "3.11.2", "pcre2": "10.42",
    },
    "sid": {},
}  # fmt: skip
"""What was looked up by hand; Debian may have newer ones of the same release since, but no others."""

STATIC = {"cpython"}
"""What Debian links into something that bears another name: its interpreter needs no libpython."""


@pytest.mark.hosts
@pytest.mark.parametrize("name", DEBIAN)
def test_all_that_is_found_in_a_debian_is_what_dpkg_says(name: str) -> None:
    """Every ELF file is looked at; nothing is taken for what it is not."""
    root = require_host(name).root
    found = libraries.of_tree(root / "usr", "", "debian")
    if not (root / "lib").is_symlink():
        found += libraries.of_tree(root / "lib", "", "debian")
    known = {one.project: one for one in found if one.project and one.version}
    owners, versions = dpkg(root)
    for one in found:
        if not one.project:
            continue
        paths = [f"/usr/{one.file}", f"/{one.file}", f"/lib/{one.file}"]
        package = next(owners[path] for path in paths if path in owners)
        assert one.version in (None, upstream(versions[package])), (one, package)
        assert one.version or one.project == "libffi" or one.project not in known, one
        assert not one.static or one.project in STATIC, one
    for project, version in DEBIAN[name].items():
        assert series(known[project].version) == series(version)
    assert len(known) >= 11


def dpkg(root: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Path -> package, and package -> version, by the database of a root."""
    owners, versions = {}, {}
    for path in (root / "var/lib/dpkg/info").glob("*.list"):
        owners.update(dict.fromkeys(path.read_text().splitlines(), path.name.removesuffix(".list").partition(":")[0]))
    for block in (root / "var/lib/dpkg/status").read_text().split("\n\n"):
        if block.startswith("Package: "):
            said = dict(re.findall(r"^(Package|Version): (.*)$", block, re.MULTILINE))
            versions[said["Package"]] = said["Version"]
    return owners, versions


def upstream(version: str) -> str:
    """Take away what Debian puts around an upstream version; ``~`` is before what it announces."""
    word = re.sub(r"^\d+:(.*\+really)?|-[^-]*$", "", version)
    return re.sub(r"[.+](dfsg|ds|git|\d{8}).*$", "", word).replace("~", "")


def series(version: str | None) -> str:
    """All of a version but its last part, which a stable release may change for security's sake."""
    return re.sub(r"(\.\d+)?[a-z]*$", "", version or "")


# Wheels ---------------------------------------------------------------------------------------------------------

WHEELS = {
    "cryptography": {"openssl": "text(backend('cryptography.hazmat.backends.openssl').backend.openssl_version_text())"},
    "psycopg2-binary": {
        "postgresql": "str(backend('psycopg2').__libpq_version__ // 10000)",
        "pcre": "called('libpcre', 'pcre_version').partition(' ')[0]",
    },
    "numpy": {"openblas": "backend('numpy').show_config(mode='dicts')['Build Dependencies']['blas']['version']"},
    "lxml": {
        "libxml2": "dotted(backend('lxml.etree').LIBXML_VERSION)",
        "libxslt": "dotted(backend('lxml.etree').LIBXSLT_VERSION)",
    },
    "pillow": {
        "libjpeg-turbo": "backend('PIL.features').version('libjpeg_turbo')",
        "libtiff": "backend('PIL.features').version('libtiff')",
        "harfbuzz": "backend('PIL.features').version('harfbuzz')",
        "openjpeg": "backend('PIL.features').version('jpg_2000')",
        "libpng": "called('libpng16', 'png_get_libpng_ver', None)",
        "zstd": "called('libzstd', 'ZSTD_versionString')",
        "xz": "called('liblzma', 'lzma_version_string')",
        "brotli": "packed(called('libbrotlidec', 'BrotliDecoderVersion', number=True), 12)",
    },
    "pyyaml": {"libyaml": "backend('yaml._yaml').get_version_string()"},
    "uvloop": {"libuv": "packed(backend('uvloop.loop').libuv_get_version(), 8)"},
    "h5py": {"hdf5": "backend('h5py').version.hdf5_version"},
    "pycurl": {
        "curl": "backend('pycurl').version_info()[1]",
        "openssl": "text(backend('pycurl').version)",
        "nghttp2": "text(backend('pycurl').version, 'nghttp2')",
        "libssh2": "text(backend('pycurl').version, 'libssh2').partition('_')[0]",
        "krb5": "text(backend('pycurl').version, 'mit-krb5')",
    },
    "zstandard": {"zstd": "dotted(backend('zstandard').ZSTD_VERSION)"},
    "lz4": {"lz4": "backend('lz4').library_version_string()"},
    "brotli": {"brotli": "backend('brotli').__version__"},
    "protobuf": {"protobuf": "backend('google.protobuf').__version__"},
    "pyzmq": {"libsodium": "called('libsodium', 'sodium_version_string')"},
    "grpcio": {},
}
"""Distribution -> what is in its wheels, and how it says its version itself."""

ASK = """
import ctypes, glob, importlib, json, re, sys
roots, questions = json.loads(sys.stdin.read())
sys.path[:0] = roots.values()
backend = importlib.import_module
def text(said, name="openssl"):
    return re.search(name + r"[ /]([\\w.]+)", said, re.IGNORECASE)[1]
def dotted(parts):
    return ".".join(map(str, parts))
def packed(number, bits):
    return dotted((number >> 2 * bits, number >> bits & (1 << bits) - 1, number & (1 << bits) - 1))
def called(library, function, *arguments, number=False):
    (path,) = glob.glob(roots[name] + "/*.libs/" + library + "-*")
    call = ctypes.CDLL(path)[function]
    call.restype = ctypes.c_uint32 if number else ctypes.c_char_p
    return call(*arguments) if number else call(*arguments).decode()
answers = {}
for name, of in questions.items():
    answers[name] = {}
    for project, code in of.items():
        answers[name][project] = eval(code)
print(json.dumps(answers))
"""

UNREADABLE = {"libffi", "freetype", "libwebp", "boringssl", "krb5"}
"""What may say nothing of its version: of krb5 where libkrb5 itself is not beside it."""


@functools.cache
def wheels() -> tuple[dict[str, tuple[Library, ...]], dict[str, Path]]:
    """Distribution -> what is found in the wheel for this Python, and where it is installed."""
    threads = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    target = targets.target_of(f"cp{sys.version_info[0]}{sys.version_info[1]}{threads}-manylinux_2_28_x86_64")
    cache = ROOT / ".cache/fatpar-packer"
    (found,) = resolve.resolve(Requests(tuple(WHEELS)), [target], cache=cache, progress=lambda line: None)
    layers = {wheel.distribution: installed.install(wheel, cache).layer for wheel in found.wheels}
    trees = {name: root_of(layer) for name, layer in layers.items()}
    named = {name: libraries.of_tree(tree, "", layers[name].name) for name, tree in trees.items()}
    return named, {name: tree / SITE for name, tree in trees.items()}


@functools.cache
def said() -> dict[str, Any]:
    """What the libraries of all wheels say of themselves."""
    question = json.dumps([{name: str(path) for name, path in wheels()[1].items()}, WHEELS])
    done = subprocess.run([sys.executable, "-c", ASK], input=question, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


@pytest.mark.network
@pytest.mark.parametrize("name", WHEELS)
def test_all_that_is_found_in_a_wheel_is_what_it_says_itself(name: str) -> None:
    found = wheels()[0][name]
    versions = {project: {one.version for one in found if one.project == project} for project in WHEELS[name]}
    assert versions == {project: {version} for project, version in said()[name].items()}
    assert [one for one in found if one.project and not one.version and one.project not in UNREADABLE] == []


@pytest.mark.network
def test_boringssl_is_no_openssl() -> None:
    projects = {one.project for one in wheels()[0]["grpcio"]}
    assert "boringssl" in projects
    assert "openssl" not in projects


# Rules ----------------------------------------------------------------------------------------------------------

ALONE = {"libffi"}
"""What the index and Debian have of it says nothing yet."""


FIPS, RHEL = b"OpenSSL 1.0.2k-fips  26 Jan 2017", b"OpenSSL 1.1.1k  FIPS 25 Mar 2021"


def data(*texts: bytes) -> bytes:
    return b"\0".join((*texts, b""))


@pytest.mark.parametrize(
    ("name", "content", "project", "version", "static"),
    [
        pytest.param("libffi-1a2b3c4d.so.8", data(b"3.5.2"), "libffi", "3.5.2", False, id="libffi"),
        pytest.param("x.so", data(b"LIBFFI_TMPDIR", b"3.9.23"), "libffi", None, True, id="cffi"),
        pytest.param("libffi.so.8", data(b"LIBFFI_TMPDIR"), "libffi", None, False, id="old-libffi"),
        pytest.param("libcrypto.so.10", data(FIPS), "openssl", "1.0.2k", False, id="fips"),
        pytest.param("libcrypto.so.1.1", data(RHEL), "openssl", "1.1.1k", False, id="rhel"),
        pytest.param("libssl.so.1.1", b"", "openssl", None, False, id="libssl"),
        pytest.param("libprotobuf.so.25.1.0", b"", "protobuf", "25.1", False, id="protobuf"),
        pytest.param("libprotobuf.so.32.0.12", b"", "protobuf", None, False, id="old-protobuf"),
        pytest.param("libxml2.so.2", data(b"20914-GITv2.9.14"), "libxml2", "2.9.14", False, id="libxml2"),
        pytest.param("libzstd.so.1", data(b"1.5.4", b"1.4.0"), "zstd", None, False, id="ambiguous"),
        pytest.param("libzstd.so.1.5.4", data(b"1.5.4", b"1.4.0"), "zstd", "1.5.4", False, id="name-decides"),
        pytest.param("libpq-a17e3caa.so.5.17", b"", "postgresql", "17", False, id="libpq"),
        pytest.param("libsqlite3.so.0", data(b"3.40.1", b"3.11.2"), "sqlite", "3.40.1", False, id="sqlite"),
    ],
)  # fmt: skip
def test_one_file(name: str, content: bytes, project: str, version: str | None, static: bool) -> None:
    assert detect.projects(name, "" if name == "x.so" else name, content) == (detect.Found(project, version, static),)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(data(b"OpenSSL 3.0.2 15 Mar 2022"), id="openssl's-header"),
        pytest.param(data(b"1.2.13", b"ZLIB_1.2.9"), id="zlib's-header"),
        pytest.param(data(b"2022-12-28 14:03:47 df5c253c", b"3.40.1", b"SQLite format 3"), id="sqlite's-header"),
        pytest.param(data(b"libcurl/7.1.1", b"1.5.7", b"20914", b"1.6.39"), id="versions-alone"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_who_only_uses_a_library_has_none(content: bytes) -> None:
    assert detect.projects("x.cpython-311-x86_64-linux-gnu.so", "", content) == ()


def test_names_before_they_were_brought_along() -> None:
    assert detect.plain("libssl-8bd944e8.so.3") == "libssl.so.3"
    assert detect.plain("libgfortran-040039e1-0352e75f.so.5.0.0") == "libgfortran.so.5.0.0"
    assert detect.plain("libscipy_openblas64_-32a4b2a6.so") == "libscipy_openblas64_.so"
    assert detect.plain("libfoo-feedback.so") == "libfoo-feedback.so"


def test_every_detector_is_tried_on_something_real() -> None:
    real = {project for of in DEBIAN.values() for project in of} | {project for of in WHEELS.values() for project in of}
    tried = real | ALONE | {"boringssl"}
    assert {one.project for one in detect.DETECTORS} - tried == {"freetype", "libwebp"}  # whose version is nowhere
