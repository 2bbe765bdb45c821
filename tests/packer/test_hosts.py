"""packer/hosts.py: a described host is judged as that machine would be, and the descriptions we have are true."""

from __future__ import annotations

import datetime as dt
import re
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import lief
import pytest
from support import archives, vectors
from support.hosts import Host, require_host

from packer import explain, facts, hostread, hosts, native
from packer.errors import PackError, UsageError
from packer.model import Need, NeedKind

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from packer.reader import Archive

HOST = """
machine = "x86_64"
cpu = 2
kernel = "5.10.0-30-amd64"
libc = "glibc 2.31"

[libraries]
"libstdc++.so.6" = "GLIBCXX_3.4.28 CXXABI_1.3.12 CXXABI_TM_1"
"libz.so.1" = ""

[[python]]
path = "/usr/bin/python3.9"
abi = "cp39"
version = "3.9.2"
lacks = ["lib2to3"]
"""

NODE, LIBRARY = NeedKind.NODE, NeedKind.LIBRARY


def number(a: int, b: int, c: int) -> int:
    return a << 16 | b << 8 | c


FOUND = "found glibc 2.31 (host.toml)"

NEEDS = {
    "libc-node-of-its-release": (Need(NODE, "libc.so.6", "GLIBC_2.30"), ""),
    "libc-node-of-an-old-release": (Need(NODE, "libc.so.6", "GLIBC_2.2.5"), ""),
    "libc-node-of-a-later-release": (
        Need(NODE, "libc.so.6", "GLIBC_2.32"), "needs GLIBC_2.32 in libc.so.6, found glibc 2.31",
    ),
    "libc-node-that-no-release-has": (
        Need(NODE, "libc.so.6", "GLIBC_2.20"), "needs GLIBC_2.20 in libc.so.6, found glibc 2.31",
    ),
    "libc-node-without-a-number": (
        Need(NODE, "libc.so.6", "GLIBC_ABI_DT_RELR"), "needs GLIBC_ABI_DT_RELR in libc.so.6, found glibc 2.31",
    ),
    "libm": (Need(NODE, "libm.so.6", "GLIBC_2.29"), ""),
    "libm-of-a-later-release": (
        Need(NODE, "libm.so.6", "GLIBC_2.35"), "needs GLIBC_2.35 in libm.so.6, found glibc 2.31",
    ),
    "loader": (Need(NODE, "ld-linux-x86-64.so.2", "GLIBC_2.3"), ""),
    "newest-node-of-a-library": (Need(NODE, "libstdc++.so.6", "GLIBCXX_3.4.28"), ""),
    "older-node-of-a-library": (Need(NODE, "libstdc++.so.6", "CXXABI_1.3.9"), ""),
    "newer-node-of-a-library": (
        Need(NODE, "libstdc++.so.6", "GLIBCXX_3.4.29"), "needs GLIBCXX_3.4.29 in libstdc++.so.6, found glibc 2.31",
    ),
    "node-of-a-kind-the-library-has-not": (
        Need(NODE, "libstdc++.so.6", "GLIBC_2.2.5"), "needs GLIBC_2.2.5 in libstdc++.so.6, found glibc 2.31",
    ),
    "named-node-of-a-library": (Need(NODE, "libstdc++.so.6", "CXXABI_TM_1"), ""),
    "node-of-a-library-of-which-none-is-known": (
        Need(NODE, "libz.so.1", "ZLIB_1.2.9"), "needs ZLIB_1.2.9 in libz.so.1, found glibc 2.31",
    ),
    "node-of-a-library-that-is-not-there": (
        Need(NODE, "libX11.so.6", "X_1"), "needs X_1 in libX11.so.6, found glibc 2.31",
    ),
    "library": (Need(LIBRARY, "libz.so.1"), ""),
    "library-that-is-not-there": (Need(LIBRARY, "libX11.so.6"), "needs library libX11.so.6, found none"),
    "cpu": (Need(NeedKind.CPU, number=2), ""),
    "better-cpu": (Need(NeedKind.CPU, number=3), "needs CPU level x86-64-v3, found x86-64-v2"),
    "kernel": (Need(NeedKind.KERNEL, number=number(5, 10, 0)), ""),
    "newer-kernel": (Need(NeedKind.KERNEL, number=number(5, 10, 1)), "needs Linux 5.10.1, found 5.10.0-30-amd64"),
    "module": (Need(NeedKind.STDLIB, "json"), ""),
    "module-that-is-not-installed": (
        Need(NeedKind.STDLIB, "lib2to3"), "needs standard library module lib2to3, not found in its standard library",
    ),
    "micro-version": (Need(NeedKind.PYTHON, "cp39", number=0x030902F0), ""),
    "newer-micro-version": (
        Need(NeedKind.PYTHON, "cp39", number=0x030903F0), "needs Python 3.9.3, found 3.9.2 (/usr/bin/python3.9)",
    ),
    "excluded-micro-version": (
        Need(NeedKind.PYTHON_NOT, number=0x030902F0),
        "needs another Python than 3.9.2, found 3.9.2 (/usr/bin/python3.9)",
    ),
    "musl": (Need(NeedKind.LIBC, "musl"), "needs musl, found glibc 2.31"),
    "newer-glibc": (Need(NeedKind.LIBC, "glibc", number=number(2, 32, 0)), "needs glibc 2.32, found glibc 2.31"),
}  # fmt: skip


def judge(tmp_path: Path, description: str, *needs: Need, tags: tuple[str, ...] = ("cp39",)) -> explain.Judged:
    (tmp_path / "work").mkdir()
    (tmp_path / "host.toml").write_text(description)
    archive = archives.write(tmp_path / "app", tmp_path / "work", {"app.py": ""}, tags=tags, more=needs)
    return explain.judge(archive, str(tmp_path / "host.toml"))


@pytest.mark.parametrize(("need", "reason"), NEEDS.values(), ids=NEEDS)
def test_each_need_is_judged(need: Need, reason: str, tmp_path: Path) -> None:
    judged = judge(tmp_path, HOST, need)
    assert (judged.fits, judged.json["slices"][0]["reasons"]) == (not reason, [reason] if reason else [])


def test_the_best_slice_that_fits_is_chosen_among_several(tmp_path: Path) -> None:
    two = HOST + '[[python]]\npath = "/opt/python3.11"\nabi = "cp311"\nversion = "3.11.9"\n'
    judged = judge(tmp_path, two, tags=("cp313", "cp311", "cp39"))
    assert (
        judged.text
        == """\
host
  machine  x86_64, x86-64-v2
  kernel   5.10.0-30-amd64
  libc     glibc 2.31 (host.toml)
  python   cp39 3.9.2 (/usr/bin/python3.9)
  python   cp311 3.11.9 (/opt/python3.11)
slices, most preferred first
  cp313-manylinux_2_17_x86_64: needs CPython cp313, found cp39 (/usr/bin/python3.9), cp311 (/opt/python3.11)
  cp311-manylinux_2_17_x86_64: fits /opt/python3.11 (chosen)
  cp39-manylinux_2_17_x86_64: fits /usr/bin/python3.9
choice
  cp311-manylinux_2_17_x86_64
"""
    )
    assert judged.json == {
        "version": 1,
        "host": str(tmp_path / "host.toml"),
        "choice": "cp311-manylinux_2_17_x86_64",
        "slices": [
            {
                "name": "cp313-manylinux_2_17_x86_64", "fits": False, "python": None,
                "reasons": ["needs CPython cp313, found cp39 (/usr/bin/python3.9), cp311 (/opt/python3.11)"],
            },
            {"name": "cp311-manylinux_2_17_x86_64", "fits": True, "python": "/opt/python3.11", "reasons": []},
            {"name": "cp39-manylinux_2_17_x86_64", "fits": True, "python": "/usr/bin/python3.9", "reasons": []},
        ],
    }  # fmt: skip


def test_a_musl_host_and_one_without_python(tmp_path: Path) -> None:
    musl = re.sub(r"\[libraries\].*", "", HOST.replace("glibc 2.31", "musl 1.2"), flags=re.DOTALL)
    judged = judge(tmp_path, musl)
    assert judged.json["slices"][0]["reasons"] == [
        "needs glibc 2.17, found musl 1.2",
        "needs CPython cp39, found no Python at all",
    ]


NO_PYTHON = HOST.partition("[[")[0]
NO_LIBRARIES = re.sub(r"\[libraries\][^[]*", "", HOST)

WRONG = {
    "not-toml": ("machine =", "Invalid value (at end of document)"),
    "not-utf-8": ("\udcff", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
    "empty": ("", "machine is missing"),
    "unknown-key": (HOST + "lack = []\n", "'lack' is not known: abi, lacks, path, version are"),
    "unknown-top-key": ("glibc = 2\n" + HOST, "'glibc' is not known: also, assumed, checked, cpu, kernel, libc, "),
    "unknown-machine": (HOST.replace("x86_64", "sparc"), "machine is none of x86_64, aarch64"),
    "level-of-another-machine": (HOST.replace("cpu = 2", "cpu = 80"), "cpu 80 is no level of machine 'x86_64'"),
    "text-for-a-number": (HOST.replace("cpu = 2", 'cpu = "2"'), "cpu must be a number, is '2'"),
    "number-for-a-text": (HOST.replace('"glibc 2.31"', "2.31"), "libc must be a string, is 2.31"),
    "unknown-libc": (HOST.replace("glibc", "uclibc"), "libc must be like 'glibc 2.31' or 'musl 1.2', or 'none', is 'u"),
    "libc-without-version": (HOST.replace("glibc 2.31", "glibc"), "libc must be like 'glibc 2.31' or 'musl 1.2', or "),
    "python-without-libc": (HOST.replace("glibc 2.31", "none"), "libc is none, so that there can be neither librarie"),
    "kernel-without-number": (HOST.replace("5.10.0-30-amd64", "amd64"), "kernel must be like '5.10.0', is 'amd64'"),
    "libraries-as-list": ("libraries = []\n" + NO_LIBRARIES, "libraries must be a table, is []"),
    "node-as-list": (HOST.replace('"libz.so.1" = ""', '"libz.so.1" = []'), "libz.so.1 must be a string, is []"),
    "one-python-as-table": (HOST.replace("[[python]]", "[python]"), "python must be a list"),
    "pythons-as-texts": ('python = ["/usr/bin/python3"]\n' + NO_PYTHON, "python must be written [[python]]"),
    "unknown-abi": (HOST.replace('"cp39"', '"cp3.9"'), "abi 'cp3.9' is no Python ABI tag"),
    "version-of-another-abi": (HOST.replace('"3.9.2"', '"3.8.2"'), "version '3.8.2' is no release of cp39"),
    "version-without-micro": (HOST.replace('"3.9.2"', '"3.9"'), "version '3.9' is no release of cp39"),
    "kernel-that-paints": (
        HOST.replace("5.10.0-30-amd64", r"5.10\u001b[31m"), "kernel must be like '5.10.0', is '5.10\\x1b[31m'",
    ),
    "kernel-beyond-all": (HOST.replace("5.10.0-30-amd64", "5.1000"), "kernel must be like '5.10.0', is '5.1000'"),
    "true-for-a-number": (HOST.replace("cpu = 2", "cpu = true"), "cpu must be a number, is True"),
    "glibc-beyond-all": (HOST.replace("glibc 2.31", "glibc 99999.1"), "glibc '99999.1' has a number beyond 255"),
    "glibc-beyond-a-byte": (HOST.replace("glibc 2.31", "glibc 2.300"), "glibc '2.300' has a number beyond 255"),
    "micro-beyond-all": (HOST.replace('"3.9.2"', '"3.9.99999999999"'), "version '3.9.99999999999' has a number beyond"),
    "nul": (HOST.replace("/usr/bin/python3.9", r"/usr/bin/python3.9\u0000x"), "it has the character NUL"),
    "nul-in-a-soname": ('"a\\u0000" = 1\n' + HOST, "'a\\x00' is not known"),
    "lacks-no-text": (re.sub("lacks = .*", "lacks = [1]", HOST), "lacks must be a list of strings, is [1]"),
    "assumed-nothing": ('assumed = ["cp38.lacks"]\n' + HOST, "assumed: nothing is said of 'cp38.lacks'"),
    "no-path": (HOST.replace('path = "/usr/bin/python3.9"', ""), "path is missing"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "complaint"), WRONG.values(), ids=WRONG)
def test_a_wrong_description_is_told_in_one_line(text: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "host.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(PackError) as caught:
        hosts.find(str(path))
    assert str(caught.value).startswith(f"host {path}: {complaint}")
    assert "\n" not in str(caught.value)


def test_a_host_without_a_c_library_runs_what_brings_one(tmp_path: Path) -> None:
    """Selection finds no C library wherever a slice asks for one, its nodes or a library; a slice may ask for none."""
    static = HOST.partition("[libraries]")[0].replace("glibc 2.31", "none")
    judged = judge(tmp_path, static, Need(NODE, "libc.so.6", "GLIBC_2.17"), Need(LIBRARY, "libz.so.1"))
    assert judged.json["slices"][0]["reasons"] == [
        "needs glibc 2.17, found no C library",
        "needs CPython cp39, found no Python at all",
        "needs library libz.so.1, found none",
    ]
    assert judged.text.startswith(
        "host\n  machine  x86_64, x86-64-v2\n  kernel   5.10.0-30-amd64\n  libc     none found\n  python   none found\n"
    )
    brings = tmp_path / "brings"
    brings.write_bytes(vectors.build(vectors.parse("brings", BRINGS), tmp_path / "work"))
    said = explain.judge(brings, str(tmp_path / "host.toml"))
    assert (said.fits, said.json["choice"]) == (True, "cp39-manylinux_2_17_x86_64-carried")


BRINGS = """
layer modules-1.0 wheel
  file lib/python/site-packages/app.py ""
layer cpython-3.9.2-cp39 interpreter
  exec bin/python3.9 ""
  file lib/python3.9/os.py ""
slice cp39 manylinux_2_17_x86_64
  need machine name=x86_64 number=62
  carries cpython-3.9.2-cp39 bin/python3.9
tool app python app
"""


def test_a_name_that_is_unknown_is_told_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        hosts.find("bookwurm")
    assert (str(caught.value), caught.value.hint) == (
        "no host 'bookwurm': neither a name nor a file",
        "known are bookworm, and others: packer hosts list",
    )
    with pytest.raises(UsageError) as caught:
        hosts.find("windows")
    assert caught.value.hint == "packer hosts list shows those there are"
    with pytest.raises(UsageError) as both:
        hosts.refuse_unknown(["bookworm", "bookwurm", "windows"])
    assert str(both.value) == "no hosts 'bookwurm', 'windows': neither names nor files"
    with pytest.raises(PackError) as unreadable:
        hosts.find(str(tmp_path))
    assert str(unreadable.value) == f"cannot read the host {tmp_path}: Is a directory"


# The user's own ---------------------------------------------------------------------------------------------------


def test_hosts_of_the_user_have_names_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert hosts.named() == hosts.shipped()  # no directory yet
    hosts.folder().mkdir(parents=True)
    (tmp_path / "fatpar/hosts/ours.toml").write_text(HOST)
    (tmp_path / "fatpar/hosts/bookworm.toml").write_text('title = "Ours (12)"\n' + HOST)
    assert set(hosts.named()) == {*hosts.shipped(), "ours"}
    assert list(hosts.named()) == sorted(hosts.named())
    assert (hosts.find("ours").title, hosts.find("ours").kernel) == ("ours", "5.10.0-30-amd64")
    assert hosts.find("bookworm").title == "Ours (12)"
    assert {"ours", "bookworm"} <= set(hosts.of_kind("x86_64", "glibc"))


def test_without_a_home_there_are_no_hosts_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user may be in no user database, so that is not asked."""
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pathlib.Path.home", lambda: pytest.fail("the user database was asked"))
    assert hosts.named() == hosts.shipped()
    with pytest.raises(UsageError) as caught:
        hosts.folder()
    assert (str(caught.value), caught.value.hint) == (
        "no place for hosts of your own: HOME is not set", "set XDG_CONFIG_HOME"
    )  # fmt: skip


def test_hosts_have_other_names() -> None:
    assert hosts.find("debian-12") == hosts.find("bookworm")
    assert hosts.find("jammy") == hosts.find("ubuntu-22.04")
    others = [other for one in hosts.every().values() for other in one.also]
    assert len({*others, *hosts.shipped()}) == len(others) + len(hosts.shipped())


@pytest.mark.parametrize("config", ["", "relative/config"])
def test_what_is_no_absolute_path_is_no_directory_of_configuration(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", config)
    assert hosts.folder() == tmp_path / ".config/fatpar/hosts"


def test_hosts_of_a_kind() -> None:
    """A slice for musl is not asked of hosts with glibc; one that brings its C library of all hosts of its machine."""
    assert {"alpine-3.12", "void-musl"} <= set(hosts.of_kind("x86_64", "musl"))
    assert {"bookworm", "distroless-static", "alpine-3.22-aarch64"}.isdisjoint(hosts.of_kind("x86_64", "musl"))
    every = set(hosts.of_kind("x86_64"))
    assert {"bookworm", "distroless-static", "alpine-3.12"} <= every
    assert every | set(hosts.of_kind("aarch64")) == set(hosts.named())


SEVERAL = """
layer modules-1.0 wheel
  file lib/python/site-packages/app.py ""
layer cpython-3.11.2-cp311 interpreter
  exec bin/python3.11 ""
  file lib/python3.11/os.py ""
slice cp311 manylinux_2_36_x86_64
  layers modules-1.0
  need machine name=x86_64 number=62
  need libc name=glibc number=0x022400
  need python name=cp311
slice cp312 musllinux_1_2_x86_64
  layers modules-1.0
  need machine name=x86_64 number=62
  need libc name=musl number=0x010200
  need python name=cp312
slice cp311 manylinux_2_17_x86_64
  layers modules-1.0 cpython-3.11.2-cp311
  need machine name=x86_64 number=62
  carries cpython-3.11.2-cp311 bin/python3.11
tool app python app
"""


def test_slices_are_asked_of_the_known_hosts_that_they_are_for(tmp_path: Path) -> None:
    (tmp_path / "app").write_bytes(vectors.build(vectors.parse("several", SEVERAL), tmp_path))
    names = ["cp311-manylinux_2_36_x86_64", "cp312-musllinux_1_2_x86_64", "cp311-manylinux_2_17_x86_64-libc"]
    glibc, musl, own = explain.on_known_hosts(tmp_path / "app", names)
    assert set(glibc) == set(hosts.of_kind("x86_64", "glibc"))
    assert set(musl) == set(hosts.of_kind("x86_64", "musl"))
    assert set(own) == set(hosts.of_kind("x86_64"))
    assert {name for name, reasons in glibc.items() if not reasons} >= {"bookworm", "photon-5.0"}
    assert glibc["bullseye"][0] == "needs glibc 2.36, found glibc 2.31"
    assert {name for name, reasons in musl.items() if not reasons} == {
        "alpine-3.20", "alpine-3.21", "alpine-3.22", "alpine-3.23"
    }  # fmt: skip
    assert not any(own.values())


# The hosts that come with the packer, by themselves ---------------------------------------------------------------

KNOWN = {
    "rhel-6", "rhel-7", "rhel-8", "rhel-9", "rhel-10", "centos-6", "centos-7", "wheezy", "jessie", "stretch", "buster",
    "bullseye", "bookworm", "trixie", "forky", "sid", "ubuntu-12.04", "ubuntu-14.04", "ubuntu-16.04", "ubuntu-18.04",
    "ubuntu-20.04", "ubuntu-22.04", "ubuntu-24.04", "ubuntu-26.04", "fedora-42", "fedora-43", "fedora-44", "fedora-45",
    "sles-12", "sles-15-sp6", "opensuse-15.6", "opensuse-16.0", "amazonlinux-1", "amazonlinux-2", "amazonlinux-2023",
    *(f"alpine-3.{minor}" for minor in range(12, 25)), "arch", "void-musl", "nixos-25.05", "distroless-static",
    "distroless-base-debian12", "busybox-glibc", "busybox-musl", "photon-5.0", "wolfi", "debian-12-aarch64",
    "ubuntu-22.04-aarch64", "amazonlinux-2023-aarch64",
}  # fmt: skip

NODE_KINDS = {
    "libc.so.6": {"GLIBC_ABI_GNU2_TLS", "GLIBC_ABI_DT_X86_64_PLT"},
    "libstdc++.so.6": {"GLIBCXX", "CXXABI", "CXXABI_FLOAT128", "CXXABI_TM_1"},
    "libgcc_s.so.1": {"GCC"}, "libz.so.1": {"ZLIB"}, "libexpat.so.1": set(), "libcrypt.so.1": {"GLIBC", "XCRYPT"},
    "libnsl.so.1": {"GLIBC"},
}  # fmt: skip


def test_the_hosts_that_fleets_have_are_known() -> None:
    assert set(hosts.shipped()) >= KNOWN
    assert len(hosts.shipped()) >= 45
    titles = [hosts.find(str(path)).title for path in hosts.shipped().values()]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("name", hosts.shipped())
def test_a_shipped_host_contradicts_nothing_that_is_known(name: str) -> None:
    """Reading it proves machine, CPU, C library's form, ABI and version of the Pythons."""
    text = hosts.shipped()[name].read_text("utf-8")
    table = tomllib.loads(text)
    host = hosts.read(f"{name}.toml", text)
    assert len(table["source"]) > 10
    assert "looked up" not in text  # "assumed" says it, for tools too
    assert dt.date(2026, 1, 1) < table["checked"] <= dt.date(2030, 1, 1)
    assert re.fullmatch(r"[2-7]\.\d+\.\d+", host.kernel)
    assert host.title[0].isalpha()
    assert (host.machine == "aarch64") == name.endswith("-aarch64") == host.title.endswith(", aarch64")
    if host.family == "glibc":
        assert host.libc in [release.version for release in facts.glibc_releases()]
        assert host.machine in next(one for one in facts.glibc_releases() if one.version == host.libc).nodes
    elif host.family == "musl":
        assert host.libc in ((1, 1), (1, 2))
    for library, nodes in host.libraries.items():
        kinds = [node.rpartition("_")[0] if facts.NUMBER.fullmatch(node) else node for node in nodes]
        assert set(kinds) <= NODE_KINDS[library]
        assert len(set(kinds)) == len(kinds)
    for python in host.pythons:
        abi = facts.pythons()[python.abi].abi
        assert python.path.endswith(f"/{abi.directory}") or python.path == f"/usr/libexec/platform-{abi.directory}"
        assert python.version <= (*abi.version, abi.micro)
        assert set(python.lacks) <= facts.stdlib(abi.version)
        assert list(python.lacks) == sorted(python.lacks)


@pytest.fixture(scope="module")
def asks() -> Iterator[Archive]:
    """An archive that asks for everything."""
    with hostread.asking() as opened:
        yield opened


@pytest.mark.parametrize("name", hosts.shipped())
def test_a_shipped_host_is_a_whole_one_to_the_launcher(name: str, asks: Archive) -> None:
    """What is asked about everything finds all that the description says."""
    lib, found = native.lib(), native.new("struct host *")
    described = hosts.find(str(hosts.shipped()[name]))
    hosts.describe_into(found, asks, described)
    try:
        assert native.text(found.release) == described.kernel
        assert (found.cpu, found.machine) == (described.cpu, facts.architectures()[described.machine])
        assert found.libc_count == (described.family != "none")
        pythons = [found.pythons[index] for index in range(found.python_count)]
        assert [native.text(one.path) for one in pythons] == [one.path for one in described.pythons]
        for one, python in zip(pythons, described.pythons, strict=True):
            assert one.version == facts.version_hex(*python.version)
            assert one.lack_count == len(python.lacks)
        if found.libc_count:
            libc = found.libcs[0]
            libraries = [native.text(libc.libraries[index]) for index in range(libc.library_count)]
            assert libraries == list(described.libraries)
    finally:
        lib.hostfree(found)


# The hosts that come with the packer, against real ones ---------------------------------------------------------

RELEASED = ("bullseye", "bookworm", "trixie")
"""The other suites move on, so a description of them may be behind."""


@dataclass(frozen=True)
class Real:
    """A root filesystem, and what its own programs and files say."""

    host: Host

    @property
    def glibc(self) -> facts.Version:
        said = self.host.run(["ldd", "--version"]).stdout.decode()
        found = re.match(r".* (\d+)\.(\d+)\n", said)
        assert found, said
        return int(found[1]), int(found[2])

    def python(self, path: str) -> tuple[int, ...]:
        said = self.host.run([path, "-c", "import sys; print(*sys.version_info[:3])"]).stdout
        return tuple(map(int, said.split()))

    def lacks(self, python: hosts.Python) -> list[str]:
        modules = sorted(facts.stdlib(python.version[:2]))
        code = f"import importlib.util as u; print(*[m for m in {modules!r} if not u.find_spec(m)])"
        return self.host.run([python.path, "-c", code]).stdout.decode().split()

    def nodes(self, library: str) -> list[str] | None:
        """What a library defines; None if it is not there."""
        for directory in ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"):
            path = self.host.root / directory / library
            if path.exists():
                binary = lief.ELF.parse(path)
                assert binary is not None
                definitions = list(binary.symbols_version_definition)
                return [str(one.auxiliary_symbols[0].name) for one in definitions if not one.flags & 1]
        return None


SUITES = ("bookworm", "bullseye", "forky", "sid", "trixie")


@pytest.fixture(params=SUITES)
def described(request: pytest.FixtureRequest) -> hosts.Described:
    return hosts.find(str(hosts.shipped()[request.param]))


@pytest.fixture
def real(described: hosts.Described) -> Real:
    return Real(require_host(described.name.removesuffix(".toml")))


@pytest.mark.hosts
def test_libc_and_python_are_as_described(described: hosts.Described, real: Real) -> None:
    (python,) = described.pythons
    if described.name.removesuffix(".toml") in RELEASED:
        assert (real.glibc, real.python(python.path)) == (described.libc, python.version)
    else:
        assert real.glibc >= described.libc
        assert real.python(python.path) >= python.version
        assert real.python(python.path)[:2] == python.version[:2]


@pytest.mark.hosts
def test_standard_library_lacks_what_is_described(described: hosts.Described, real: Real) -> None:
    (python,) = described.pythons
    assert real.lacks(python) == sorted(python.lacks)


@pytest.mark.hosts
def test_libraries_have_the_nodes_that_are_described(described: hosts.Described, real: Real) -> None:
    checked = []
    for library, newest in described.libraries.items():
        nodes = real.nodes(library)
        if nodes is None or library == "libc.so.6":
            continue
        checked.append(library)
        assert set(newest) <= set(nodes)
        if described.name.removesuffix(".toml") in RELEASED:
            one = replace(described, libraries={library: newest})
            assert {node for node in nodes if not hosts.offers(one, library, node)} <= {"GLIBC_PRIVATE"}
    assert {"libgcc_s.so.1", "libz.so.1", "libexpat.so.1", "libcrypt.so.1"} <= set(checked)


@pytest.mark.hosts
def test_nodes_of_the_libc_are_those_of_its_release(described: hosts.Described, real: Real) -> None:
    nodes = real.nodes("libc.so.6")
    assert nodes is not None
    offered = {node for node in nodes if hosts.offers(described, "libc.so.6", node)}
    assert set(nodes) - offered <= {"GLIBC_PRIVATE"} or real.glibc > described.libc
    known = facts.glibc_releases()[-1].nodes["x86_64"]
    assert not {node for node in known - set(nodes) if hosts.offers(described, "libc.so.6", node)}
