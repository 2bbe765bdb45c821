"""``packer audit``, and what ``packer fat`` does with wheels for CPU levels and wheels that claim too little."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from support import index
from support.elf import elf

if TYPE_CHECKING:
    from pathlib import Path

    from support.packing import Place

pytestmark = pytest.mark.e2e

FILE = "mod/core.cpython-311-x86_64-linux-gnu.so"


def wheel(directory: Path, content: bytes, text: str = "") -> Path:
    directory.mkdir(exist_ok=True)
    files: dict[str, str | bytes] = {"mod/__init__.py": f"def main():\n    print({text!r})\n", FILE: content}
    return index.wheel(directory, "mod", tag="cp311-cp311-manylinux2014_x86_64", files=files)


def pack(place: Place, *words: str | Path) -> Any:
    return place.run("fat", "mod", "--no-index", "--find-links", "wheels", "-e", "mod:main", "-o", "out", *words)


def audited(place: Place) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(place.packed("audit", "--json", "out").stdout)
    return found


def test_a_wheel_that_needs_more_than_it_claims_is_refused_or_accepted(place: Place) -> None:
    made = wheel(place.work / "wheels", elf(("libc.so.6", "GLIBC_2.36"), ("libstdc++.so.6", "GLIBCXX_3.4.30")))
    refused = pack(place, "--abis", "manylinux2014,cp311")
    layer = made.name.removesuffix(".whl")
    assert refused.status == 1
    assert refused.stderr.startswith(
        f"packer: {layer}: lib/python/site-packages/{FILE} needs GLIBC_2.36 of libc.so.6, which manylinux_2_17"
    )
    assert "hint: --accept mod packs it" in refused.stderr
    assert not (place.work / "out").exists()
    accepted = pack(place, "--abis", "manylinux2014,cp311", "--accept", "Mod")
    assert accepted.status == 0, accepted.stderr
    (one,) = audited(place)["slices"]
    assert [(said["file"].rpartition("/")[2], said["needs"], said["claims"]) for said in one["excess"]] == [
        (FILE.rpartition("/")[2], "GLIBC_2.36 of libc.so.6", "manylinux_2_17"),
        (FILE.rpartition("/")[2], "GLIBCXX_3.4.30 of libstdc++.so.6", "manylinux_2_17"),
    ]
    assert one["hosts"]["bookworm"] == []
    assert any("GLIBC_2.36" in reason or "glibc 2.36" in reason for reason in one["hosts"]["bullseye"])
    assert json.loads(place.packed("inspect", "--json", "out").stdout)["manifest"]["accepted"] == ["mod"]
    again = pack(place, "--abis", "manylinux2014,cp311", "--accept", "mod", "--accept", "other")
    assert again.stderr.count("warning") == 1
    assert "--accept other: no wheel of it needs more than it claims" in again.stderr


def test_the_files_of_a_slice_and_what_decides(place: Place) -> None:
    wheel(place.work / "wheels", elf(("libc.so.6", "GLIBC_2.2.5", "GLIBC_2.17"), "libz.so.1", cpu=2, kernel=(3, 2, 0)))
    assert pack(place, "--abis", "manylinux2014,cp311").status == 0
    (one,) = audited(place)["slices"]
    (file,) = one["files"]
    assert one["name"] == "cp311-manylinux_2_17_x86_64"
    assert (one["claims"], one["excess"], one["libraries"]) == ("manylinux_2_17", [], ["libz.so.1"])
    assert one["nodes"] == {"libc.so.6": ["GLIBC_2.17", "GLIBC_2.2.5"]}
    assert (file["path"], file["use"], file["libc"], file["cpu"], file["kernel"]) == (
        f"lib/python/site-packages/{FILE}", "loaded", "GLIBC_2.17", 2, "3.2.0",
    )  # fmt: skip
    text = place.packed("audit", "out").stdout
    assert "ELF files  1 loaded\n" in text
    assert f"GLIBC_2.17 mod-1.0-cp311-cp311-manylinux2014_x86_64: lib/python/site-packages/{FILE}\n" in text
    assert re.search(r"^  not on     [^:]*\bbullseye\b.*: needs", text, re.MULTILINE)


def test_what_is_no_archive_cannot_be_audited(place: Place) -> None:
    (place.work / "out").write_text("text")
    ended = place.run("audit", "out")
    assert (ended.status, ended.stdout) == (1, "")
    assert ended.stderr.startswith("packer: out: ")


LEVELS = "cp311-manylinux2014_x86_64_v3,cp311-manylinux2014_x86_64"


def test_a_slice_for_a_cpu_level_has_the_wheels_for_it(place: Place) -> None:
    wheel(place.work / "wheels", elf(("libc.so.6", "GLIBC_2.2.5")), "any")
    wheel(place.work / "wheels-v3", elf(("libc.so.6", "GLIBC_2.14")), "fast")
    assert pack(place, "--abis", LEVELS, "--level-wheels", "v3=wheels-v3").status == 0
    fast, plain = audited(place)["slices"]
    assert (fast["name"], plain["name"]) == ("cp311-manylinux_2_17_x86_64_v3", "cp311-manylinux_2_17_x86_64")
    assert (fast["files"][0]["libc"], plain["files"][0]["libc"]) == ("GLIBC_2.14", "GLIBC_2.2.5")
    assert "x86-64-v3" in fast["needs"]
    assert "x86-64-v3" not in plain["needs"]
    described = place.work / "host.toml"
    for level, choice in ((1, plain), (2, plain), (3, fast), (4, fast)):
        described.write_text(
            f'machine = "x86_64"\ncpu = {level}\nkernel = "6.1.0"\nlibc = "glibc 2.36"\n\n[libraries]\n\n[[python]]\n'
            'path = "/usr/bin/python3.11"\nabi = "cp311"\nversion = "3.11.2"\nlacks = []\n'
        )
        said = json.loads(place.run("explain", "out", "--host", "host.toml", "--json").stdout)
        assert said["choice"] == choice["name"], level


def test_a_directory_of_wheels_that_none_is_taken_from_is_told(place: Place) -> None:
    wheel(place.work / "wheels", elf(("libc.so.6", "GLIBC_2.2.5")))
    (place.work / "wheels-v3").mkdir()
    ended = pack(place, "--abis", LEVELS, "--level-wheels", "v3=wheels-v3")
    assert ended.status == 0
    assert "warning: --level-wheels v3=wheels-v3: none of its wheels was chosen" in ended.stderr


@pytest.mark.parametrize(
    ("word", "complaint"),
    [
        ("v3", "not a --level-wheels: 'v3': write LEVEL=DIR, as v3=wheels-v3"),
        ("v4=wheels", "--level-wheels v4=wheels: no slice is for that level"),
        ("v3=nowhere", "cannot read nowhere: there is no such directory"),
    ],
)
def test_level_wheels_that_make_no_sense(place: Place, word: str, complaint: str) -> None:
    wheel(place.work / "wheels", b"")
    ended = pack(place, "--abis", LEVELS, "--level-wheels", word)
    assert (ended.status, ended.stderr.splitlines()[0]) == (2, f"packer: {complaint}")
