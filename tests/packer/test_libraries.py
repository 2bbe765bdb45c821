"""packer/libraries.py, agreement.py and contents.py: what is where, what of it differs, and what is not as pinned."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from support import slices
from support.elf import elf
from support.hosts import require_host
from support.layers import SITE

from packer import agreement, contents, libraries
from packer.cache import Cache
from packer.errors import UsageError
from packer.libraries import Library

OPENSSL = Library("", f"{SITE}/c/_rust.abi3.so", "aa" * 32, "", (), "c-50-cp311-abi3-x", "openssl", "3.5.8", True)
LIBSSL = Library(
    "libssl-8bd944e8.so.3", f"{SITE}/p.libs/libssl-8bd944e8.so.3", "bb" * 32, "", (), "p-2-cp311-x", "openssl", "3.0.17"
)
FORTRAN = Library(
    "libgfortran.so.5", f"{SITE}/n.libs/libgfortran-1a2b3c4d.so.5", "cc" * 32, "", (), "n-1-x", None, None
)


def test_what_a_library_is_called() -> None:
    assert (LIBSSL.place, LIBSSL.name, LIBSSL.stem, LIBSSL.key) == (
        "p.libs/libssl.so.3",
        "libssl.so.3",
        "libssl",
        "openssl",
    )
    assert (FORTRAN.place, FORTRAN.key, FORTRAN.source) == ("n.libs/libgfortran.so.5", "libgfortran", "n-1")
    assert (OPENSSL.place, OPENSSL.stem, OPENSSL.source) == ("c/_rust.abi3.so", "", "c-50")


# Pins -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "wanted", "fits"),
    [
        ("3.0.17", "3.0.*", True),
        ("3.5.8", "3.0.*", False),
        ("3.0.17", "3.0.17", True),
        ("3.0.17", "3.0.1", False),
        ("1.1.1w", "1.1.1w", True),
        ("1.1.1w", "1.1.1", False),
        ("1.1.1w", "1.1.1.*", True),
        ("1.1.1w", ">=1.1.1k,<3", True),
        ("1.1.1b", ">=1.1.1k", False),
        ("1.1.1", "<1.1.1a", True),
        ("1.1.1a", ">1.1.1", True),
        ("1.0.2zh", ">1.0.2z", True),
        ("1.0.2zh", "<1.0.2zi", True),
        ("0.3.31.188.0", "~=0.3.27", True),
        ("5.4.0beta", "5.4.*", True),
        ("3.13.0rc1", "!=3.13.0", True),
        ("3.12.0+", "3.12.0", True),
        ("17", ">=15", True),
        ("like nothing", ">=0", False),
        (None, ">=0", False),
    ],
)
def test_versions(version: str | None, wanted: str, fits: bool) -> None:
    drift = libraries.check({"openssl": wanted}, {"cp311": [replace(LIBSSL, version=version)]})
    assert (drift == ()) == fits, drift


def test_a_drift_names_what_is_wanted_and_all_that_is_there() -> None:
    found = {
        "a: cp311": [OPENSSL],
        "b: cp311": [LIBSSL, replace(LIBSSL, file=f"{SITE}/p.libs/libcrypto-1a2b3c4d.so.3")],
    }
    assert libraries.check({"openssl": "3.0.*"}, found) == (
        (
            "openssl: 3.0.* is wanted, found 3.5.8 in c/_rust.abi3.so of c-50 (a: cp311); "
            "what fits is 3.0.17 in p.libs/libssl.so.3, p.libs/libcrypto.so.3 of p-2 (b: cp311)"
        ),
    )
    assert libraries.check({"openssl": "1.1.1w", "OpenSSL": ">3"}, found) == (
        (
            "openssl: 1.1.1w is wanted, found 3.5.8 in c/_rust.abi3.so of c-50 (a: cp311); "
            "3.0.17 in p.libs/libssl.so.3, p.libs/libcrypto.so.3 of p-2 (b: cp311)"
        ),
    )
    assert libraries.check({"openssl": "same"}, found)[0].startswith(
        "openssl: the same everywhere is wanted, found 3.5.8"
    )
    assert (
        libraries.check({"openssl": "same", "libssl": "same", "libssl.so.3": "3.0.17"}, {"b": found["b: cp311"]}) == ()
    )


def test_a_library_by_its_name_is_no_static_copy() -> None:
    assert libraries.check({"libssl": "3.0.*"}, {"cp311": [OPENSSL, LIBSSL]}) == ()
    assert libraries.unmatched({"libssl": "1", "libfoo": "1", "q.libs/*": "same"}, {"cp311": [LIBSSL]}) == [
        "libfoo",
        "q.libs/*",
    ]


def test_a_version_that_nobody_can_read_is_none_that_was_pinned() -> None:
    (drift,) = libraries.check({"libgfortran": "5.*"}, {"cp311": [FORTRAN]})
    assert drift == "libgfortran: 5.* is wanted, found an unknown version in n.libs/libgfortran.so.5 of n-1 (cp311)"
    other = replace(FORTRAN, sha256="dd" * 32)
    assert libraries.check({"libgfortran": "same"}, {"cp39": [FORTRAN], "cp311": [FORTRAN]}) == ()
    assert len(libraries.check({"libgfortran": "same"}, {"cp39": [FORTRAN], "cp311": [other]})) == 1


def test_the_same_files() -> None:
    blas = replace(FORTRAN, soname="libblas.so", file=f"{SITE}/n.libs/libblas-aaaaaaaa.so")
    renamed = replace(FORTRAN, file=f"{SITE}/n.libs/libgfortran-99999999.so.5")
    pins = {"n.libs/*": "same"}
    assert libraries.check(pins, {"cp39": [FORTRAN, blas], "cp311": [renamed, blas], "none": [LIBSSL]}) == ()
    other = replace(FORTRAN, sha256="dd" * 32, origin="n-2-x")
    assert libraries.check(pins, {"cp39": [FORTRAN], "cp311": [other]}) == (
        (
            "n.libs/*: the same everywhere is wanted, found of n.libs/libgfortran.so.5 "
            "cccccccccccc of n-1 (cp39); dddddddddddd of n-2 (cp311)"
        ),
    )
    assert libraries.check(pins, {"cp39": [FORTRAN, blas], "cp311": [FORTRAN]}) == (
        "n.libs/*: the same everywhere is wanted, found of n.libs/libblas.so cccccccccccc of n-1 (cp39); none (cp311)",
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[libraries]\nopenssl = 3\n", "[libraries] openssl: must be a string, is 3"),
        ('[libraries]\nopenssl = "three"\n', "[libraries] openssl: not a version: 'three'"),
        ('[libraries]\nopenssl = "3.0.*,"\n', ""),
        ('[libraries]\nopenssl = ">=3.0.*"\n', "[libraries] openssl: not a version: '>=3.0.*'"),
        ("libraries = 1\n", "[libraries]: must be a table, is 1"),
        ("[tools]\n", "there is no [libraries]"),
        ("[libraries\n", ""),
    ],
)
def test_pins_that_make_no_sense(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "tools.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=str(path)) as caught:
        libraries.read_pins(path)
    assert complaint in str(caught.value)
    path.write_text('[libraries]\nopenssl = "3.0.*"\n')
    assert libraries.read_pins(path) == {"openssl": "3.0.*"}


def test_pins_that_are_nowhere(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*tools.toml: No such file"):
        libraries.read_pins(tmp_path / "tools.toml")


# Comparing ------------------------------------------------------------------------------------------------------


def test_what_differs_and_what_is_there_twice() -> None:
    both = {
        "a: cp311": [OPENSSL, LIBSSL],
        "b: cp311": [LIBSSL, FORTRAN],
        "b: cp39": [replace(FORTRAN, sha256="dd" * 32)],
    }
    said = {one["library"]: [of["version"] for of in one["versions"]] for one in agreement.different(both)}
    assert said == {"openssl": ["3.0.17", "3.5.8"], "libgfortran": ["file cccccccccccc", "file dddddddddddd"]}
    (twice,) = agreement.duplicates(both)
    assert (twice["where"], twice["library"]) == ("a: cp311", "openssl")
    assert [(of["version"], of["places"][0]["file"]) for of in twice["copies"]] == [
        ("3.5.8", "c/_rust.abi3.so"), ("3.0.17", "p.libs/libssl.so.3"),
    ]  # fmt: skip
    crypto = replace(LIBSSL, file=f"{SITE}/p.libs/libcrypto-1a2b3c4d.so.3")
    assert list(agreement.duplicates({"cp311": [LIBSSL, crypto, FORTRAN]})) == []
    ffi = replace(OPENSSL, project="libffi", version=None)  # in a file that is another one for each Python anyway
    assert list(agreement.different({"cp39": [ffi], "cp311": [replace(ffi, sha256="ee" * 32)]})) == []


# Reading --------------------------------------------------------------------------------------------------------


def tree(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = root / SITE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def test_which_files_are_libraries(tmp_path: Path) -> None:
    root = tree(
        tmp_path / "tree",
        {
            "m.libs/libx-1a2b3c4d.so.1": elf(soname="libx-1a2b3c4d.so.1"),
            "m/libplain.so": elf(),
            "m/core.cpython-311-x86_64-linux-gnu.so": elf(exports=("PyInit_core",)),
            "m/_native.abi3.so": elf(soname="_native.abi3.so"),
            "m/short.so": b"\x7fELF",
            "m/libtext.so": b"INPUT(libx.so)\n" + b"#" * 100,
            "m/object.o": elf(kind="-c"),
        },
    )
    (root / SITE / "m.libs/liblink.so").symlink_to("libx-1a2b3c4d.so.1")
    found = libraries.of_tree(root, "", "m-1.0-x~2")
    assert [(one.place, one.soname, one.project) for one in found] == [
        ("m.libs/libx.so.1", "libx-1a2b3c4d.so.1", None), ("m/libplain.so", "", None),
    ]  # fmt: skip
    assert {one.origin for one in found} == {"m-1.0-x"}


def test_what_was_read_is_kept_by_the_digest_of_the_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree(tmp_path / "tree", {"m.libs/libx.so.1": elf(soname="libx.so.1")})
    cache = Cache(tmp_path / "cache")
    found = libraries.of_tree(root, "11" * 32, "m-1.0-x", cache)
    with monkeypatch.context() as patched:
        patched.setattr(os, "walk", None)  # what is known is not looked for
        assert libraries.of_tree(root, "11" * 32, "m-1.0-x", cache) == found
    (root / SITE / "m.libs/libx.so.1").unlink()
    assert libraries.of_tree(root, "11" * 32, "m-1.0-x", cache) == found
    assert libraries.of_tree(root, "22" * 32, "m-1.0-x", cache) == ()
    assert libraries.of_tree(root, "11" * 32, "other-1.0-x", cache) == ()


def archive(path: Path, **wheels: dict[str, str | bytes]) -> Path:
    app = {f"{SITE}/app.py": "def main():\n    pass\n"}
    trees = {name: {f"{SITE}/{place}": content for place, content in files.items()} for name, files in wheels.items()}
    return slices.write(path, [slices.Wanted({"app": app, **trees}, tag) for tag in ("cp311", "cp39")])


@pytest.mark.hosts
def test_a_library_that_does_not_say_its_version(tmp_path: Path) -> None:
    usr = require_host("bookworm").root / "usr/lib/x86_64-linux-gnu"
    ssl, crypto = ((usr / f"lib{part}.so.3").read_bytes() for part in ("ssl", "crypto"))
    together = tree(tmp_path / "1", {"p.libs/libssl.so.3": ssl, "p.libs/libcrypto.so.3": crypto})
    found = {one.stem: one for one in libraries.of_tree(together, "", "p-1-x")}
    assert found["libssl"].version == found["libcrypto"].version is not None
    assert "OPENSSL_3.0.0" in found["libssl"].nodes
    assert len(found["libssl"].build_id) == 40
    (alone,) = libraries.of_tree(tree(tmp_path / "2", {"p.libs/libssl.so.3": ssl}), "", "p-1-x")
    assert (alone.project, alone.version, alone.soname) == ("openssl", None, "libssl.so.3")


@pytest.mark.hosts
def test_archives_with_the_libraries_of_two_debians(tmp_path: Path) -> None:
    made = []
    for name in ("bullseye", "bookworm"):
        library = require_host(name).root / "lib/x86_64-linux-gnu/libexpat.so.1"
        made.append(archive(tmp_path / name, p={"p.libs/libexpat-1a2b3c4d.so.1": library.read_bytes()}))
    cache = Cache(tmp_path / "cache")
    found = libraries.of_archive(made[0], cache)
    assert found == libraries.of_archive(made[0], cache) == libraries.of_archive(made[0])
    assert found.keys() == {"cp311-manylinux_2_17_x86_64", "cp39-manylinux_2_17_x86_64"}
    (expat,) = found["cp39-manylinux_2_17_x86_64"]
    assert (expat.soname, expat.version, expat.place) == ("libexpat.so.1", "2.2.10", "p.libs/libexpat.so.1")
    audited = agreement.audit(made, {"expat": "<2.3"}, cache)
    (different,) = audited["different"]
    assert different["library"] == "expat"
    assert {copy["version"]: len(copy["places"]) for copy in different["versions"]} == {"2.2.10": 2, "2.5.0": 2}
    assert audited["duplicates"] == []
    (drift,) = audited["drift"]
    assert drift.startswith("expat: <2.3 is wanted, found 2.5.0 in ")
    assert "what fits is 2.2.10" in drift
    compared = contents.compare(made[0], made[1], cache)
    (said,) = {str(one["libraries"]) for one in compared["changed"]}
    assert said == str([{"name": "expat", "old": ["2.2.10"], "new": ["2.5.0"]}])
    assert "    library expat 2.2.10 -> 2.5.0\n" in f"{contents.text(compared)}\n"


# What changed ---------------------------------------------------------------------------------------------------


def test_nothing_changed(tmp_path: Path) -> None:
    one = archive(tmp_path / "tool", p={"p.py": ""})
    compared = contents.compare(one, one)
    assert compared["changed"] == []
    size = one.stat().st_size
    assert contents.text(compared) == f"{one} -> {one}: {size:,} -> {size:,} bytes (+0)\n  the same file"


def test_libraries_that_came_went_and_changed(tmp_path: Path) -> None:
    x, y = elf(soname="libx.so.1"), elf(soname="liby.so.1")
    old = archive(tmp_path / "1" / "tool", p={"p.libs/libx.so.1": x, "p.libs/libz.so": elf()})
    new = archive(
        tmp_path / "2" / "tool", p={"p.libs/libx.so.1": elf("libc.so.6", soname="libx.so.1"), "p.libs/liby.so": y}
    )
    said = contents.compare(old, new)["changed"]
    assert [one["name"] for one in said] == ["cp311-manylinux_2_17_x86_64", "cp39-manylinux_2_17_x86_64"]
    assert {one["name"]: (len(one["old"]), len(one["new"])) for one in said[0]["libraries"]} == {
        "libx": (1, 1), "liby": (0, 1), "libz": (1, 0),
    }  # fmt: skip
    assert said[0] | {"name": ""} == said[1] | {"name": ""}
