"""``packer audit A B``, ``diff --contents``, ``ps`` and ``store ls --libraries``, of small programs and real ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from support import index, slices
from support.elf import elf
from support.layers import SITE
from support.packing import ROOT, Place

from packer import libraries

CACHE: dict[str, str | None] = {"XDG_CACHE_HOME": str(ROOT / ".cache")}
ABI = f"cp{sys.version_info[0]}{sys.version_info[1]}{'t' if sysconfig.get_config_var('Py_GIL_DISABLED') else ''}"

Tree = dict[str, str | bytes | None]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Two programs: one has no dependencies, the other one OpenSSL in cryptography and beside psycopg2."""
    place = Place(tmp_path_factory.mktemp("place"))
    (place.work / "both.txt").write_text("cryptography\npsycopg2-binary\n")
    for name, words in (("one", ("--no-index",)), ("both", ("-r", "both.txt"))):
        (place.work / f"{name}.py").write_text("print('ran')\n")
        abis = ("--abis", "manylinux2014,cp311", "--fast", "-q")
        place.packed("fat", f"{name}.py", *words, *abis, "-o", name, env=CACHE)
    return place


@pytest.mark.e2e
@pytest.mark.network
class TestRealWheels:
    def test_two_copies_of_openssl_are_found(self, two: Place) -> None:
        said = json.loads(two.packed("audit", "one", "both", "--json", env=CACHE).stdout)
        (twice,) = said["duplicates"]
        assert (twice["where"], twice["library"]) == ("both: cp311-manylinux_2_17_x86_64", "openssl")
        static, shared = twice["copies"]
        assert [place["file"] for place in static["places"]] == ["cryptography/hazmat/bindings/_rust.abi3.so"]
        assert {place["file"] for place in shared["places"]} == {
            "psycopg2_binary.libs/libcrypto.so.3", "psycopg2_binary.libs/libssl.so.3",
        }  # fmt: skip
        assert static["places"][0]["static"]
        assert static["version"] != shared["version"]
        (different,) = said["different"]
        assert {copy["version"] for copy in different["versions"]} == {static["version"], shared["version"]}
        assert said["drift"] == []
        assert [one["file"] for one in said["archives"]] == ["one", "both"]
        text = two.packed("audit", "one", "both", env=CACHE).stdout
        assert "more than once in both: cp311-manylinux_2_17_x86_64\n  openssl\n" in text

    def test_a_pin_names_both(self, two: Place) -> None:
        found = libraries.of_archive(two.work / "both")
        (drift,) = libraries.check({"openssl": "1.1.1w"}, found)
        assert "cryptography/hazmat/bindings/_rust.abi3.so of cryptography-" in drift
        assert "psycopg2_binary.libs/libcrypto.so.3, psycopg2_binary.libs/libssl.so.3 of psycopg2_binary-" in drift
        (two.work / "tools.toml").write_text('[libraries]\nopenssl = "1.1.1w"\nlibpq = ">=10"\nlibfoo = "1"\n')
        ended = two.run("audit", "both", "--libraries", "tools.toml", env=CACHE)
        assert ended.status == 1
        assert ended.stdout.endswith(f"drift\n  {drift.replace('(cp311', '(both: cp311')}\n")
        assert ended.stderr == "packer: warning: tools.toml: libfoo: there is no such library in any of them\n"
        (two.work / "tools.toml").write_text('[libraries]\n"psycopg2_binary.libs/*" = "same"\nlibssl = "3.*"\n')
        assert two.run("audit", "one", "both", "--libraries", "tools.toml", env=CACHE).status == 0

    def test_contents(self, two: Place) -> None:
        said = json.loads(two.packed("diff", "--contents", "one", "both", "--json", env=CACHE).stdout)
        (changed,) = said["changed"]
        came = {one["name"]: one["old"] for one in changed["distributions"]}
        assert came.items() >= {"psycopg2-binary": None, "cryptography": None}.items()
        openssl = next(one for one in changed["libraries"] if one["name"] == "openssl")
        assert (openssl["old"], len(openssl["new"])) == ([], 2)
        assert (said["tools"], said["slices"]["added"]) == ({"added": ["both"], "removed": ["one"]}, [])


# Small ones -----------------------------------------------------------------------------------------------------


def versions(place: Place) -> None:
    """Two releases of a program, with a distribution that was upgraded, one that came and one that went."""
    for number in ("1", "2"):
        wheels = place.work / number
        wheels.mkdir()
        more = {"1": ["gone"], "2": ["came"]}[number]
        for name in more:
            index.wheel(wheels, name)
        index.wheel(wheels, "rebuilt", files={"rebuilt.py": number})
        source = {"tool.py": "def main():\n    pass\n"}
        requires, scripts = ["rebuilt", *more], ["tool=tool:main"]
        index.wheel(wheels, "tool", f"{number}.0", files=source, requires=requires, scripts=scripts)
        abis = {"1": "cp39,cp311", "2": "cp311,cp313"}[number]
        words = ("--abis", f"manylinux2014,{abis}", "--no-index", "--find-links", number, "-o", f"tool-{number}", "-q")
        place.packed("fat", "tool", *words)


@pytest.mark.e2e
def test_what_a_release_note_would_say(place: Place) -> None:
    versions(place)
    old, new = (place.work / f"tool-{number}" for number in "12")
    sizes = f"{old.stat().st_size:,} -> {new.stat().st_size:,} bytes ({new.stat().st_size - old.stat().st_size:+,})"
    assert place.packed("diff", "--contents", "tool-1", "tool-2").stdout == (
        f"tool-1 -> tool-2: {sizes}\n"
        "  slice cp313-manylinux_2_17_x86_64 added\n"
        "  slice cp39-manylinux_2_17_x86_64 removed\n"
        "  cp311-manylinux_2_17_x86_64\n"
        "    came 1.0 added\n"
        "    gone 1.0 removed\n"
        "    rebuilt 1.0: another wheel\n"
        "    tool 1.0 -> 2.0\n"
    )
    assert sorted(path.name for path in place.work.iterdir()) == ["1", "2", "tool-1", "tool-2"]


@pytest.mark.e2e
def test_a_diff_is_a_patch_or_what_changed(place: Place) -> None:
    for words in (("a", "b"), ("a", "b", "--contents", "-o", "patch")):
        ended = place.run("diff", *words)
        assert (ended.status, ended.stdout) == (2, "")
    ended = place.run("diff", "--contents", "a", "b")
    assert (ended.status, ended.stderr) == (1, "packer: cannot read a: No such file or directory\n")
    ended = place.run("audit", "a", "b", "--libraries", "c")
    assert (ended.status, ended.stderr) == (2, "packer: cannot read c: No such file or directory\n")


APP = "import sys, time\n\n\ndef main():\n    print('ran', flush=True)\n    time.sleep(float(sys.argv[1]))\n"


@pytest.mark.e2e
def test_what_runs_and_what_is_in_its_store(tmp_path: Path) -> None:
    place = Place(tmp_path)
    library: Tree = {f"{SITE}/p.libs/libx-1a2b3c4d.so.1": elf(soname="libx-1a2b3c4d.so.1")}
    info: Tree = {f"{SITE}/one-3.1.dist-info/METADATA": "Metadata-Version: 2.1\nName: one\nVersion: 3.1\n"}
    for name in ("one", "two"):
        app: Tree = {f"{SITE}/app.py": APP, **(info if name == "one" else {})}
        slices.write(place.work / name, [slices.Wanted({"app": app, "p": library}, ABI)])
    search = str(Path(sys.executable).resolve().parent)
    environment = {"FATPAR_STORE": str(place.root / "store"), "HOME": str(place.root), "PATH": search}
    for name in ("one", "two"):
        subprocess.run([place.work / name, "0"], env=environment, check=True, stdout=subprocess.DEVNULL)
    with subprocess.Popen([place.work / "one", "60"], env=environment, stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()
        said = json.loads(place.packed("ps", "--json").stdout)
        (found,) = [one for one in said["processes"] if one["pid"] == child.pid]
        table = place.packed("ps").stdout
        child.kill()
    assert (found["tool"], found["version"], found["user"]) == ("one", "3.1", os.geteuid())
    assert found["slice"] == f"{ABI}-manylinux_2_17_x86_64"
    assert found["command"] == [str(place.work / "one"), "60"]
    assert (Path(found["store"]) / "v1/views" / found["view"] / "about").is_file()
    assert found["store"] == str(place.root / "store")
    described: dict[str, Any] = json.loads(place.packed("inspect", "one", "--json").stdout)
    assert found["archive"] == described["id"]
    assert f"\n{child.pid}" in f"\n{table}".replace("\n ", "\n")
    listed = place.packed("store", "ls", "--libraries", "--store", place.root / "store").stdout
    assert listed == f"{place.root}/store: 1 version of libraries\n  libx unknown                  one, two  (p-1.0)\n"
    said = json.loads(place.packed("store", "ls", "--libraries", "--json", "--store", place.root / "store").stdout)
    (one,) = said["stores"][0]["libraries"]
    assert (one["library"], one["version"], one["tools"], len(one["files"])) == ("libx", None, ["one", "two"], 1)
