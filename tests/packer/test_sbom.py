"""packer/parts.py and packer/sbom.py: what is in an archive is listed, in forms that their own tools call valid."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document
from support import archives, index
from support.elf import elf

import packer
from packer import inspect, job, native, pack, parts, progress, sbom
from packer.config import Config

SITE = "lib/python/site-packages"
SLICES = ("cp311-manylinux_2_17_x86_64", "cp39-manylinux_2_17_x86_64")
ZSTD = native.text(native.lib().archivezstd())


def about(name: str, *lines: str) -> dict[str, str | bytes]:
    return {
        f"{name}-1.0.dist-info/METADATA": "\n".join(["Metadata-Version: 2.4", f"Name: {name}", "Version: 1.0", *lines])
    }


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program for two Pythons: a library in a wheel, one with zlib's marks, and a project directory."""
    root = tmp_path_factory.mktemp("sbom")
    with pytest.MonkeyPatch.context() as patched:
        index.forget_pip_configuration(patched)
        patched.setenv("XDG_CACHE_HOME", str(root / "cache"))
        patched.setenv("SOURCE_DATE_EPOCH", "1700000000")
        patched.chdir(root)
        shelf = root / "shelf"
        shelf.mkdir()
        index.wheel(
            shelf, "native", tag="cp311-cp311-manylinux_2_17_x86_64",
            files={
                "native.libs/libz-0a1b2c3d.so.1.3.1": elf(soname="libz-0a1b2c3d.so.1.3.1"),
                **about("native", "License-Expression: MIT OR Apache-2.0"),
            },
        )  # fmt: skip
        index.wheel(shelf, "native", tag="cp39-cp39-manylinux_2_17_x86_64", files=about("native", "License: zlib"))
        index.wheel(shelf, "words", files=about("words", "License: BSD, or so"))
        lines = ["Classifier: License :: OSI Approved :: MIT License"]
        source: dict[str, str | bytes] = {"app.py": "def main(): pass\n"}
        requires = ["Requires-Dist: native", "Requires-Dist: words"]
        index.wheel(shelf, "app", scripts=["app=app:main"], files=source | about("app", *requires, *lines))
        index.project(root / "mine", "mine")
        config = Config(
            inputs=("app", "./mine"), console_script="app", abis="manylinux2014,cp311,cp39", no_index=True,
            find_links=(str(shelf),), fast=True, label=("team=x",), output=root / "tool",
        )  # fmt: skip
        pack.pack(job.job_of(config, 60)[0], progress.Quiet())
    return root / "tool"


def test_parts(archive: Path) -> None:
    found = parts.of_archive(archive)
    launcher, zstd, *rest = found
    content = native.data("launcher-x86_64").read_bytes()
    assert launcher.sha256 == hashlib.sha256(content).hexdigest()
    assert (launcher.name, launcher.version, launcher.licence) == ("fatpar-launcher", packer.__version__, "MIT")
    assert (zstd.version, zstd.within, str(zstd.purl)) == (ZSTD, launcher.key, f"pkg:github/facebook/zstd@v{ZSTD}")
    said = {(one.name, one.slices): one for one in rest}
    assert {key: (one.version, one.licence) for key, one in said.items()} == {
        ("app", SLICES): ("1.0", "MIT License"), ("mine", SLICES): ("1.0", ""),
        ("words", SLICES): ("1.0", "BSD, or so"),
        ("native", SLICES[:1]): ("1.0", "MIT OR Apache-2.0"), ("native", SLICES[1:]): ("1.0", "zlib"),
        ("zlib", SLICES[:1]): ("1.3.1", ""),
    }  # fmt: skip
    library, owner = said["zlib", SLICES[:1]], said["native", SLICES[:1]]
    assert (library.within, str(library.purl)) == (owner.key, "pkg:generic/zlib@1.3.1")
    assert library.facts["file"] == f"{SITE}/native.libs/libz-0a1b2c3d.so.1.3.1"
    (wheel,) = (archive.parent / "shelf").glob("native-*cp311*")
    assert owner.sha256 == hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert str(owner.purl) == f"pkg:pypi/native@1.0?file_name={wheel.name}"
    assert str(said["mine", SLICES].purl) == "pkg:generic/mine@1.0"
    assert said["mine", SLICES].facts["built-from"] == "mine"


def test_the_launchers_of_several_machines(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    machines = ("x86_64", "aarch64")
    path = archives.write(tmp_path / "a", tmp_path / "d", {"app.py": ""}, tags=("cp311",), machines=machines)
    launchers = [one for one in parts.of_archive(path) if one.kind == "launcher"]
    assert sorted(one.facts["machine"] for one in launchers) == sorted(machines)
    assert len({one.sha256 for one in launchers}) == 2


def test_an_interpreter() -> None:
    one = parts._interpreter("cpython-3.11.2-cp311", "ab" * 32, "3.11.2")
    assert (one.name, one.version, str(one.purl)) == ("cpython", "3.11.2", "pkg:generic/cpython@3.11.2")


def test_cyclonedx(archive: Path) -> None:
    text = sbom.make(archive, "cyclonedx")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    said: dict[str, Any] = json.loads(text)
    root = said["metadata"]["component"]
    assert root["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(archive.read_bytes()).hexdigest()}]
    stated = {one["name"]: one["value"] for one in root["properties"]}
    assert stated["fatpar:label team"] == "x"
    assert stated["fatpar:source_date_epoch"] == "1700000000"
    assert said["metadata"]["timestamp"] == "2023-11-14T22:13:20+00:00"
    licences = {one["name"]: one.get("licenses") for one in said["components"] if one["name"] != "native"}
    assert licences["app"] == [{"license": {"name": "MIT License"}}]
    assert licences["zstd"] == [{"license": {"id": "BSD-3-Clause"}}]
    assert licences["mine"] is None
    depends = {one["ref"]: one.get("dependsOn", []) for one in said["dependencies"]}
    assert len(depends["archive"]) == 6  # app, mine, native twice, words, launcher
    (native,) = (ref for ref, on in depends.items() if any("library-zlib" in one for one in on))
    assert native.startswith("distribution-native-1.0-")
    assert sbom.make(archive, "cyclonedx") == text


def test_spdx(archive: Path, tmp_path: Path) -> None:
    text = sbom.make(archive, "spdx")
    (tmp_path / "a.spdx.json").write_text(text)
    assert validate_full_spdx_document(parse_file(str(tmp_path / "a.spdx.json"))) == []
    said = json.loads(text)
    packages = {one["name"]: one for one in said["packages"]}
    assert packages["words"]["licenseDeclared"] == "NOASSERTION"
    assert packages["words"]["licenseComments"] == "BSD, or so"
    assert {one["licenseDeclared"] for one in said["packages"] if one["name"] == "native"} == {
        "MIT OR Apache-2.0", "Zlib",
    }  # fmt: skip
    assert packages["zlib"]["externalRefs"][0]["referenceLocator"] == "pkg:generic/zlib@1.3.1"
    assert said["creationInfo"]["created"] == "2023-11-14T22:13:20Z"
    assert {one["relationshipType"] for one in said["relationships"]} == {"DESCRIBES", "CONTAINS"}


@pytest.mark.parametrize("form", sbom.FORMATS)
def test_what_a_stranger_wrote_is_told_as_far_as_it_goes(form: str, tmp_path: Path) -> None:
    """No manifest to speak of, and names of files that are no text."""
    (tmp_path / "d").mkdir()
    path = archives.write(tmp_path / "a", tmp_path / "d", {"x/\udcffa.so": elf(soname="liba.so.1")}, tags=("cp311",))
    text = sbom.make(path, form)
    assert "liba" in text
    if form == "cyclonedx":
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


@pytest.mark.parametrize(
    "manifest",
    [
        {"slices": 1, "launcher": [], "packer": {}, "source_date_epoch": "x"}, {"slices": [1, {"name": SLICES[0]}]},
        {"slices": [{"name": SLICES[0], "distributions": [1, {"wheel": "modules-1.0-py2.py3-none-any.whl"}]}]},
        {"slices": [{"name": SLICES[0], "interpreter": "3", "distributions": {}}], "launcher": {"zstd": 1}},
    ],
)  # fmt: skip
def test_a_manifest_that_makes_no_sense_hinders_nothing(
    manifest: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "d").mkdir()
    path = archives.write(tmp_path / "a", tmp_path / "d", {"app.py": ""}, tags=("cp311",))
    described = inspect.describe(path) | {"manifest": manifest}
    monkeypatch.setattr(inspect, "describe", lambda _: described)
    assert {one.kind for one in parts.of_archive(path)} == {"launcher", "library"}
    for form in sbom.FORMATS:
        assert sbom.make(path, form)
