"""``packer inspect``, ``verify``, ``extract``, and what the packed file says of itself: the same, and the truth."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest
from support import archives, index, vectors
from support.layers import write_tree
from support.packing import ROOT, Place, run_program

import packer
from packer import archive, inspect, layers, native, sizes, sizes_text, view
from packer.model import LayerKind, Slice, Tool, ToolKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

pytestmark = pytest.mark.e2e

SLICES = ("cp311-manylinux_2_17_x86_64", "cp39-manylinux_2_17_x86_64")


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A place with a wheel of many kinds of files, packed for two Pythons; ``work/app`` is the archive."""
    place = Place(tmp_path_factory.mktemp("inspected"))
    files: dict[str, str | bytes] = {
        "app/__init__.py": "def main():\n    import json\n    print('hello')\n", "app/empty": "",
        "app/data.bin": bytes(range(256)) * 100, "app-1.0.data/scripts/other": "#!/bin/sh\necho other\n",
        "app-1.0.data/data/share/\u00fc.txt": "data",
    }  # fmt: skip
    index.wheel(place.work, "app", files=files, scripts=["app=app:main"])
    place.packed(
        "fat", "app-1.0-py3-none-any.whl", "--abis", "manylinux2014,cp311,cp39", "--tool", "app=app:main",
        "--tool", "other=other", "--label", "team=\u00fc", "--no-index", env={"PIP_CONFIG_FILE": "/dev/null"},
    )  # fmt: skip
    return place


def ask(place: Place, word: str, *arguments: str) -> tuple[int, str, str]:
    """Let the packed file itself answer."""
    done = run_program(place.work / "app", *arguments, store=place.root / "store", env={"FATPAR": word})
    assert not (place.root / "store").exists()
    return done.returncode, done.stdout, done.stderr


def test_table(packed: Place) -> None:
    status, stdout, stderr = packed.run("inspect", "app").whole
    assert (status, stderr) == (0, "")
    described = inspect.describe(packed.work / "app")
    total = sum(layer["size"] for layer in described["layers"])
    (wheel, app) = described["layers"]
    rows = f"  {wheel['size']:>12,}     11 files  app-1.0-py3-none-any\n  {app['size']:>12,}      1 files  app\n"
    assert stdout == (
        f"app: {described['size']:,} bytes, archive {described['id']}\n"
        "tools: app, other\n"
        f"blobs: {described['stored_blobs']:,} bytes, {described['raw_blobs']:,} unpacked\n"
        f"packer: {packer.__version__}\nlabel team: \u00fc\n\n"
        f"{SLICES[0]}: {total:,} bytes unpacked\n  needs x86_64, glibc, cp311, standard library (modules: 1)\n{rows}\n"
        f"{SLICES[1]}: {total:,} bytes unpacked\n  needs x86_64, glibc, cp39, standard library (modules: 1)\n{rows}"
    )


def test_json_is_what_the_documentation_says(packed: Place) -> None:
    ended = packed.packed("inspect", "app", "--json")
    described = json.loads(ended.stdout)
    assert ended.stdout.isascii()
    assert keys(described) - {"manifest.*"} == documented("inspect, fat")
    assert (described["version"], described["file"], described["size"]) == (
        1,
        "app",
        (packed.work / "app").stat().st_size,
    )
    assert [(tool["name"], tool["kind"], tool["target"]) for tool in described["tools"]] == [
        ("app", "python", "boot/app.py"), ("other", "executable", "bin/other"),
    ]  # fmt: skip
    assert [(one["name"], one["python"], one["layers"], one["flags"]) for one in described["slices"]] == [
        (SLICES[0], "cp311", [0, 1], ["-I"]), (SLICES[1], "cp39", [0, 1], ["-I"]),
    ]  # fmt: skip
    assert described["slices"][0]["needs"] == [
        {"kind": "machine", "name": "x86_64", "value": "", "number": 62},
        {"kind": "libc", "name": "glibc", "value": "", "number": 0},
        {"kind": "python", "name": "cp311", "value": "", "number": 0},
        {"kind": "stdlib", "name": "json", "value": "", "number": 0},
    ]


def test_fat_prints_the_same_json(packed: Place, tmp_path: Path) -> None:
    place = Place(tmp_path)
    wheel = packed.work / "app-1.0-py3-none-any.whl"
    words = ("fat", wheel, "--abis", "manylinux2014,cp311", "--no-index", "--json", "-c", "app")
    ended = place.packed(*words, env={"PIP_CONFIG_FILE": "/dev/null"})
    assert json.loads(ended.stdout) == json.loads(place.packed("inspect", "app", "--json").stdout)


def keys(value: Any, path: str = "") -> set[str]:
    """Name every key of a JSON value as the documentation does; what is below the manifest is one."""
    if path == "manifest":
        return {path}
    if isinstance(value, dict):
        below = [keys(item, f"{path}.{key}".lstrip(".")) for key, item in value.items()]
        return set().union({path} - {""}, *below) - ({path} if path.endswith("[]") else set())
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return {path}.union(*(keys(item, f"{path}[]") for item in value))
    return {path}


def documented(section: str) -> set[str]:
    text = (ROOT / "docs" / "json.md").read_text("utf-8").split(f"\n## {section}\n")[1].partition("\n## ")[0]
    return set(re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE))


def test_explain_json_is_what_the_documentation_says(packed: Place) -> None:
    for words, host in (((), None), (("--host", "bullseye"), "bullseye")):
        ended = packed.run("explain", "app", "--json", *words)
        explained = json.loads(ended.stdout)
        assert keys(explained) == documented("explain")
        assert (explained["version"], explained["host"]) == (1, host)
        assert (ended.status == 0) == (explained["choice"] is not None)


# Sizes ------------------------------------------------------------------------------------------------------------


def test_sizes(packed: Place) -> None:
    status, stdout, stderr = packed.run("inspect", "app", "--sizes").whole
    found = sizes.measure(packed.work / "app")
    assert (status, stderr) == (0, "")
    assert stdout == f"app: {found.total:,} bytes\n\n{sizes_text.table(found)}\n"
    assert [line.split()[-1] for line in stdout.splitlines() if line.endswith(SLICES)] == [*SLICES]


def test_sizes_as_json_are_what_the_documentation_says(packed: Place) -> None:
    ended = packed.packed("inspect", "app", "--sizes", "--json")
    described = json.loads(ended.stdout)
    measured = described.pop("sizes")
    assert ended.stdout.isascii()
    assert described == inspect.describe(packed.work / "app") | {"file": "app"}
    assert keys({"sizes": measured}) == documented("inspect --sizes")
    assert sum(measured["parts"].values()) == described["size"]
    assert sum(layer["adds"] for layer in measured["layers"]) == described["stored_blobs"]
    assert [one["adds"]["total"] for one in measured["slices"]] == [described["stored_blobs"], 0]
    assert measured["shared"] == described["stored_blobs"]
    paths = {file["path"] for file in measured["files"]}
    assert {f"{SITE}app/data.bin", "share/\u00fc.txt", "boot/app.py"} <= paths


@pytest.mark.parametrize("more", [[], ["--sizes"], ["--json"]], ids=" ".join)
def test_a_page_is_written(packed: Place, tmp_path: Path, more: list[str]) -> None:
    ended = packed.packed("inspect", "app", "--html", tmp_path / "out.html", *more)
    assert ended.stdout == (packed.packed("inspect", "app", *more).stdout if more else "")
    tree = ElementTree.fromstring((tmp_path / "out.html").read_text("utf-8"))
    assert tree.findtext(".//h1") == "app"
    assert [one.text for one in tree.iterfind(".//div[@class='slices']/div/b")] == [*SLICES]
    assert any(f"{SITE}app/data.bin" in (title.text or "") for title in tree.iterfind(".//svg//title"))


REFUSED_PAGES = {
    "directory": ("directory", "it is a directory"), "nowhere": ("nowhere/x", "No such file or directory"),
    "device": ("/dev/null", "it is a device or the like"), "archive": ("app", "it is the archive"),
}  # fmt: skip


@pytest.mark.parametrize(("output", "why"), REFUSED_PAGES.values(), ids=REFUSED_PAGES)
def test_a_page_that_cannot_be_written(place: Place, output: str, why: str) -> None:
    (place.work / "directory").mkdir()
    statements = tuple(vectors._statements(SMALL))
    (place.work / "app").write_bytes(vectors.build(vectors.Vector("good-x", statements), place.root / "tmp"))
    before = place.left()
    said = f"packer: cannot write {output}: {why}\npacker: hint: name another file with --html\n"
    assert place.run("inspect", "app", "--html", output).whole == (1, "", said)
    assert place.left() == before
    assert place.run("verify", "app").status == 0


def test_no_page_of_what_is_no_archive(place: Place) -> None:
    (place.work / "app").write_text("#!/bin/sh\n" * 100)
    status, stdout, stderr = place.run("inspect", "app", "--html", "out.html").whole
    assert (status, stdout) == (1, "")
    assert stderr.startswith("packer: app: ")
    assert [path.name for path in place.work.iterdir()] == ["app"]


# The file's own answers -------------------------------------------------------------------------------------------


def test_list_agrees_with_inspect(packed: Place) -> None:
    described = inspect.describe(packed.work / "app")
    lines = [
        f"archive {described['id']}, {described['size']} bytes",
        *(f"about {line}" for line in (f"packer: {packer.__version__}", "label team: \u00fc")),
        *(f"tool {one['name']}" for one in described["tools"]),
    ]
    for one in described["slices"]:
        used = [described["layers"][number] for number in one["layers"]]
        lines += [f"slice {one['name']}"]
        lines += [f"  {layer['kind']:<11} {layer['size']:>10}  {layer['name']}" for layer in used]
    assert ask(packed, "list") == (0, "".join(f"{line}\n" for line in lines), "")


def test_verify_agrees(packed: Place) -> None:
    assert packed.run("verify", "app").whole == (0, "app: 2 blobs and 2 layers are as they were packed\n", "")
    assert ask(packed, "verify") == (0, "2 blobs and 2 layers are as they were packed\n", "")


def test_explain_agrees(packed: Place) -> None:
    """Both ask this very machine; PATH is the same."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}
    ended = packed.run("explain", packed.work / "app", prefix=("env", f"PATH={environment['PATH']}"))
    done = run_program(packed.work / "app", store=packed.root / "store", env={**environment, "FATPAR": "explain"})
    assert done.stderr == ended.stderr == ""
    assert done.stdout == ended.stdout
    assert (done.returncode == 0) == (ended.status == 0)


def test_help_names_every_word(packed: Place) -> None:
    status, stdout, stderr = ask(packed, "help")
    assert (status, stderr) == (0, "")
    assert [
        word for word in ("explain", "list", "verify", "extract", "time") if f"FATPAR={word} app" not in stdout
    ] == []


def test_an_unknown_word_is_refused(packed: Place) -> None:
    said = "app: FATPAR=lisst is not known: explain, list, verify, extract, time and help are\n"
    assert ask(packed, "lisst") == (125, "", said)


def contents(root: Path) -> Mapping[str, tuple[int, str]]:
    """Path of every file below a directory -> whether it can be executed, and its digest."""
    return {
        path.relative_to(root).as_posix(): (path.stat().st_mode & 0o111, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in root.rglob("*")
        if path.is_file()
    }


def test_both_extract_the_same(packed: Place, tmp_path: Path) -> None:
    assert packed.run("extract", "app", tmp_path / "one").whole == (0, "", "")
    assert ask(packed, "extract", str(tmp_path / "two")) == (0, "", "")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == [
        "app",
        "app-1.0-py3-none-any",
        "manifest.json",
    ]
    manifest = json.loads((tmp_path / "one/manifest.json").read_text())
    assert manifest == inspect.describe(packed.work / "app")["manifest"]


def members(wheel: Path) -> Iterator[tuple[str, str]]:
    """Where a wheel's file goes in its layer, and its digest; what an installer writes itself is left out."""
    with zipfile.ZipFile(wheel) as archive:
        for item in archive.infolist():
            top, _, rest = item.filename.partition("/")
            if item.is_dir() or item.filename.endswith(("/RECORD", "/INSTALLER", "/REQUESTED", "/direct_url.json")):
                continue
            if top.endswith(".data"):
                scheme, _, rest = rest.partition("/")
                place = {"scripts": "bin/", "data": "", "purelib": SITE, "platlib": SITE}[scheme] + rest
            else:
                place = SITE + item.filename
            yield place, hashlib.sha256(archive.read(item)).hexdigest()


SITE = "lib/python/site-packages/"


def test_what_is_extracted_is_what_the_wheel_holds(packed: Place, tmp_path: Path) -> None:
    packed.packed("extract", "app", tmp_path / "out")
    found = contents(tmp_path / "out/app-1.0-py3-none-any")
    wanted = dict(members(packed.work / "app-1.0-py3-none-any.whl"))
    assert {path: digest for path, (_, digest) in found.items() if path in wanted} == wanted
    assert found.keys() - wanted.keys() == {
        "bin/app", f"{SITE}app-1.0.dist-info/RECORD", f"{SITE}app-1.0.dist-info/INSTALLER",
    }  # fmt: skip
    assert {path for path, (executable, _) in found.items() if executable} == {"bin/app", "bin/other"}


@pytest.mark.network
def test_what_is_extracted_is_what_real_wheels_hold(place: Place) -> None:
    """httpie and what it depends on, for two Pythons."""
    cache = ROOT / ".cache"
    environment = {"XDG_CACHE_HOME": str(cache)}
    place.packed("fat", "httpie", "--abis", "manylinux2014,cp39,cp311", "-c", "http", "--fast", env=environment)
    place.packed("extract", "http", "out")
    assert place.packed("verify", "http").status == 0
    manifest = json.loads((place.work / "out/manifest.json").read_text())
    wheels = {one["wheel"]: one["sha256"] for each in manifest["slices"] for one in each["distributions"]}
    assert len(wheels) > 10
    for name, digest in wheels.items():
        path = cache / "fatpar-packer/wheels" / digest / name
        assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
        found = contents(place.work / "out" / name.removesuffix(".whl"))
        wanted = dict(members(path))
        changed = {path for path, value in wanted.items() if found.get(path, (0, ""))[1] != value}
        # scripts for any interpreter get the one beside them
        assert {path for path in changed if not path.startswith("bin/")} == set()


# Files of later packers -------------------------------------------------------------------------------------------


class Later(Enum):
    """Kinds that this packer does not know."""

    NEED = 99
    LAYER = 77


def test_kinds_that_a_later_packer_may_add_are_shown_by_number(tmp_path: Path) -> None:
    write_tree({"x": "1"}, tmp_path / "tree")
    one = layers.read("x", LayerKind.WHEEL, [(tmp_path / "tree", "share")])
    target = archives.target("cp39")
    strange = type("Strange", (), {"kind": Later.NEED, "name": "moon", "value": "full", "number": 3})()
    needs = (*archives.needs(target), strange)
    made = Slice(target, needs, (one,), view.links((one,), target)[0], ())
    tools = [Tool("x", ToolKind.EXECUTABLE, "share/x")]
    archive.write(tmp_path / "app", native.data("launcher-x86_64"), [made], tools, {"version": 1}, lambda _: None)
    described = inspect.describe(tmp_path / "app")
    assert described["slices"][0]["needs"][-1] == {"kind": "kind 99", "name": "moon", "value": "full", "number": 3}
    assert "needs x86_64, glibc 2.17, cp39, moon\n" in inspect.table(described)


NO_MANIFESTS = {"empty": b"", "list": b"[1]", "cut": b'{"version": 1', "no-text": b"\xff", "deep": b"[" * 100_000}

SMALL = """
layer x wheel
  file share/x "1"
slice cp39 manylinux_2_17_x86_64
  need python name=cp39
tool x executable share/x
"""


@pytest.mark.parametrize("manifest", NO_MANIFESTS.values(), ids=NO_MANIFESTS)
def test_a_manifest_that_makes_no_sense_counts_as_none(place: Place, manifest: bytes) -> None:
    statements = tuple(vectors._statements(f"{SMALL}set manifest = hex:{manifest.hex()}\n"))
    (place.work / "app").write_bytes(vectors.build(vectors.Vector("good-x", statements), place.root / "tmp"))
    ended = place.packed("inspect", "app", "--json")
    assert json.loads(ended.stdout)["manifest"] == {}
    assert ended.stderr == ""
