"""The cold path on this machine: a view that works; and whatever an archive says, only the store is written to."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support import vectors
from support.native import lib, new, text

pytestmark = pytest.mark.native

MACHINE = os.uname().machine
# of the Python that runs this test; it has no other flags where it is 3.8 or later
ABI = f"cp{sys.version_info[0]}{sys.version_info[1]}{'t' if sysconfig.get_config_var('Py_GIL_DISABLED') else ''}"

WRITTEN = f"""
layer modules-1.0 wheel
  exec bin/hello "#!/bin/sh\\necho hello\\n"
  file lib/python/site-packages/app.py "print('hello')\\n"
  file lib/python/site-packages/pkg/__init__.py ""
  dir lib/python/site-packages/empty
  link lib/python/site-packages/link.py app.py
layer more-1.0 wheel
  file lib/python/site-packages/pkg/more.py "more = 1\\n"
layer app app
  file boot/hello.py "import app\\n"
slice {ABI} manylinux_2_17_{MACHINE}
  need python name={ABI}
  flag -I
tool hello python boot/hello.py
"""


@dataclass(frozen=True)
class Prepared:
    """What came of it."""

    failed: int
    fault: str
    view: Path


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the store in it, and nothing else but what must stay as it is."""
    (tmp_path / "work").mkdir()
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "precious").write_text("precious")
    for name in ("XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FATPAR_STORE", str(tmp_path / "place" / "store"))
    monkeypatch.setenv("PATH", str(Path(sys.executable).resolve().parent))
    return tmp_path / "place"


def prepare(path: Path) -> Prepared | None:
    """The cold path; None if the archive's index is found to be wrong."""
    archive, stores, plan, fault = (new(f"struct {kind} *") for kind in ("archive", "stores", "plan", "fault"))
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if lib().archiveopen(archive, descriptor) or lib().archiveindex(archive):
            return None
        lib().storescandidates(stores)
        # the last two are for everybody: this test is not to write there
        stores.count = 1
        failed = lib().prepare(archive, stores, b"boot", plan, fault)
        return Prepared(failed, text(fault.what), Path() if failed else Path(text(plan.view)))
    finally:
        lib().storesclose(stores)
        lib().archiveclose(archive)
        os.close(descriptor)


def digest(tree: Path) -> str:
    """Of a layer on disk."""
    out, fault = new("uint8_t[32]"), new("struct fault *")
    descriptor = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    failed = lib().treeread(descriptor, out, fault)
    os.close(descriptor)
    return text(fault.what) if failed else bytes(out).hex()


def check(place: Path) -> None:
    """Nothing but the store was written to, and every layer in it is what its name says."""
    assert sorted(set(os.listdir(place)) | {"store"}) == ["precious", "store"]
    assert (place / "precious").read_text() == "precious"
    for layer in (place / "store" / "v1" / "layers").glob("*"):
        assert layer.name == digest(layer / "tree")


@pytest.fixture
def archive(tmp_path: Path, place: Path) -> Path:
    """A sound one for this machine."""
    assert place.parent == tmp_path
    path = tmp_path / "archive"
    path.write_bytes(vectors.build(vectors.parse("prepared", WRITTEN), tmp_path / "work"))
    return path


def test_the_view_is_an_environment_that_works(archive: Path, place: Path) -> None:
    prepared = prepare(archive)
    assert prepared
    assert (prepared.failed, prepared.fault) == (0, "")
    check(place)
    code = "import sys, app, pkg.more; print(sys.prefix, pkg.more.more)"
    done = subprocess.run(
        (prepared.view / "bin" / "python", "-I", "-c", code), capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == (f"hello\n{prepared.view} 1\n", "")
    # bytecode has come meanwhile, beside the layers
    check(place)


def test_equal_files_of_several_layers_are_one_file_if_they_are_large(place: Path, tmp_path: Path) -> None:
    """As the libraries that several wheels bring; but no program is one with a file that cannot be executed."""
    large, small = 65536 * "x", 65535 * "y"
    written = WRITTEN.replace(
        "layer more-1.0 wheel\n",
        f'  file a.libs/large "{large}"\n  file a.libs/small "{small}"\n  file a.libs/twice "{large}"\n'
        f'layer more-1.0 wheel\n  file b.libs/large "{large}"\n  file b.libs/small "{small}"\n'
        f'  exec b.libs/program "{large}"\n',
    )
    path = tmp_path / "archive"
    path.write_bytes(vectors.build(vectors.parse("prepared", written), tmp_path / "work"))
    prepared = prepare(path)
    assert prepared
    assert not prepared.failed, prepared
    files = list(place.glob("store/v1/layers/*/tree/*.libs/*"))
    inodes = {name: [file.stat().st_ino for file in files if file.name == name] for name in {f.name for f in files}}
    assert len({*inodes["large"], *inodes["twice"]}) == 1
    assert len(inodes["large"]) == len(set(inodes["small"])) == 2
    assert inodes["program"][0] not in inodes["large"]
    check(place)


def test_modules_that_can_be_executed_have_a_place_for_bytecode(place: Path, tmp_path: Path) -> None:
    """The packer compiles them like others."""
    path = tmp_path / "archive"
    written = WRITTEN.replace("file lib/python/site-packages/pkg/more.py", "exec lib/python/site-packages/tools/x.py")
    path.write_bytes(vectors.build(vectors.parse("prepared", written), tmp_path / "work"))
    assert prepare(path)
    (module,) = place.glob("store/v1/layers/*/tree/lib/python/site-packages/tools/x.py")
    assert (module.parent / "__pycache__").resolve() == module.parents[5] / "pyc/lib/python/site-packages/tools"
    check(place)


def test_the_second_time_nothing_is_made(archive: Path, place: Path) -> None:
    first = prepare(archive)
    before = {path: path.lstat().st_ino for path in place.rglob("*") if "plans" not in path.parts}
    second = prepare(archive)
    assert second == first
    assert {path: path.lstat().st_ino for path in place.rglob("*") if "plans" not in path.parts} == before


# 2^40 bytes in blobs of which none is there
BOMB = """
add blob data=x raw_size=0x1000000 encoding=1
repeat blob[1] 65535
add content blob=1 offset=0 size=0x10000000000
"""
MANY = "\n".join(f'add entry kind=1 path="{number:04}" value=5' for number in range(4096))
"""As files of 2^52 bytes together."""


@pytest.mark.parametrize(
    ("more", "megabytes"),
    [
        pytest.param("set entry[5].value = 5\nset layer[1].size = 0x10000000000", 1 << 20, id="one-file"),
        # a slice that names the layer 4096 times: 2^64
        pytest.param(
            f"""{MANY}
set layer[1].first_entry = 7
set layer[1].entry_count = 4096
set layer[1].size = 0x10000000000000
repeat ref[0] 1
repeat ref[2] 1
repeat ref[1] 4096
set slice[0].first_layer = 4
set slice[0].layer_count = 4098
""",
            1 << 44,
            id="more-than-a-number-can-say",
        ),
    ],
)
def test_a_bomb_is_told_by_its_size_before_it_is_unpacked(
    place: Path, tmp_path: Path, more: str, megabytes: int
) -> None:
    """What the files of a slice take is asked of the store first, and it has no such room."""
    archive = tmp_path / "archive"
    archive.write_bytes(vectors.build(vectors.parse("bomb", f"{WRITTEN}{BOMB}{more}"), tmp_path / "work"))
    prepared = prepare(archive)
    assert prepared
    store = place / "store"
    assert prepared.failed == -1
    said = re.match(
        rf"no directory to unpack to: {re.escape(str(store))} \((\d+) MB are needed, \d+ MB are free\)", prepared.fault
    )
    assert said, prepared.fault
    assert megabytes <= int(said[1]) < megabytes + 100
    assert os.listdir(store / "v1" / "layers") == os.listdir(store / "v1" / "views") == []


def hostile(sound: bytes, seed: int) -> list[bytes]:
    """Archives with changed indexes and right digests around them."""
    generator, raw = random.Random(seed), vectors.index_of(sound)
    return [vectors.with_index(sound, vectors.mutated(raw, generator)) for _ in range(150)]


@pytest.mark.parametrize("seed", range(4))
def test_whatever_an_index_says_only_the_store_is_written_to(archive: Path, place: Path, seed: int) -> None:
    """As root, which no mode keeps from anything."""
    outcomes: list[Any] = []
    for content in hostile(archive.read_bytes(), seed):
        archive.write_bytes(content)
        prepared = prepare(archive)
        outcomes.append(prepared and prepared.failed)
        check(place)
        shutil.rmtree(place / "store", ignore_errors=True)
    assert {None, 0, -1} == set(outcomes)
