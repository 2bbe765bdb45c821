"""On aarch64, under an emulator, a program runs as on x86_64: from a file for that machine, and from one for both."""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import roots
from support.hosts import require_host
from support.packing import Place
from support.process import Inside, Store, inside
from support.skips import skip_optional

from packer import front, native

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Enter, Pack

pytestmark = pytest.mark.hosts

MACHINES = ("x86_64", "aarch64")

APP = """\
import os, platform, sys

import part


def main():
    print(platform.machine(), part.__file__.startswith(sys.prefix), part.__cached__.endswith(".pyc"), sys.argv[1:])
    sys.exit(3)
"""
MODULES = {"app.py": APP, "part.py": ""}


def ran(machine: str) -> tuple[int, bytes, bytes]:
    return 3, f"{machine} True True ['a', '', 'x y']\n".encode(), b""


@pytest.fixture(scope="module")
def files(pack: Pack) -> dict[Path, str]:
    """The program for both machines, and for each of them."""
    both = {pack("tool", MODULES, tags=["cp311"], machines=MACHINES): "/opt/both/tool"}
    return both | {pack("tool", MODULES, tags=["cp311"], machine=one): f"/opt/{one}/tool" for one in MACHINES}


@pytest.fixture(scope="module")
def far(files: dict[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Inside, Store]]:
    home = tmp_path_factory.mktemp("arm64") / "home"
    with inside(require_host("arm64"), home, files) as entered:
        yield entered, Store(home / ".cache/fatpar")


@pytest.mark.parametrize("kind", ["aarch64", "both"])
def test_it_runs_and_leaves_a_store_as_elsewhere(far: tuple[Inside, Store], kind: str) -> None:
    entered, store = far
    entered.root("rm -rf /home/u/.cache")
    for _ in range(2):
        assert entered.run([f"/opt/{kind}/tool", "a", "", "x y"]).whole == ran("aarch64")
    assert [len(store.names(one)) for one in ("layers", "views", "plans")] == [2, 1, 1]
    assert (store.broken(), store.leftovers()) == ([], [])
    assert [path.name for path in (store.base / "v1/views").glob("*/pyc/**/part*.pyc")] == ["part.cpython-311.pyc"]
    kept = {path.name: path for path in (store.base / "v1").glob("launchers/*") if path.name != "time"}
    assert {hashlib.sha256(path.read_bytes()).hexdigest() for path in kept.values()} == kept.keys()
    placed = front.make({one: native.data(f"launcher-{one}") for one in MACHINES}).launchers
    assert list(kept) == [one.digest for one in placed if one.machine == "aarch64" and kind == "both"]


@pytest.mark.parametrize("kind", ["aarch64", "both"])
def test_it_can_be_looked_at(far: tuple[Inside, Store], kind: str) -> None:
    run = far[0].run
    lines = run([f"/opt/{kind}/tool"], env={"FATPAR": "explain"}).stdout.decode().splitlines()
    assert lines[1].startswith("  machine  aarch64, ARMv8.")
    assert "  libc     glibc 2.36 (/usr/lib/aarch64-linux-gnu/libc.so.6)" in lines
    assert "  cp311-manylinux_2_17_aarch64: fits /usr/bin/python3.11 (chosen)" in lines
    refused = [line for line in lines if line.startswith("  cp311-manylinux_2_17_x86_64: ")]
    assert [line.partition(";")[0] for line in refused] == [
        "  cp311-manylinux_2_17_x86_64: needs machine x86_64, found aarch64"
    ] * (kind == "both")
    said = run([f"/opt/{kind}/tool"], env={"FATPAR": "verify"})
    assert said.whole == (0, b"1 blobs and 2 layers are as they were packed\n", b"")


def test_a_file_for_the_other_machine_does_not_fit(far: tuple[Inside, Store]) -> None:
    """Its launcher runs, where the emulated machine is this one's guest, and finds nothing for itself."""
    if platform.machine() != "x86_64":
        skip_optional("the machine itself is aarch64")
    done = far[0].run(["/opt/x86_64/tool"])
    assert (done.status, done.stdout) == (126, b"")
    assert b"needs glibc 2.17, found no C library" in done.stderr


def test_one_file_and_one_home_serve_both_machines(files: dict[Path, str], enter: Enter, store: Store) -> None:
    """The shell is not fooled by the kernel's own machine, whichever launchers are kept."""
    arms, here = enter("arm64", files), enter("bookworm", files)
    for _ in range(2):
        assert here.run(["/opt/both/tool", "a", "", "x y"]).whole == ran("x86_64")
        assert arms.run(["/opt/both/tool", "a", "", "x y"]).whole == ran("aarch64")
    assert len(store.names("launchers")) == 3
    # the app and the modules are the same for both
    assert [len(store.names(one)) for one in ("layers", "views")] == [2, 2]


@pytest.mark.e2e
@pytest.mark.network
def test_a_native_wheel_runs_on_both(tmp_path: Path, enter: Enter) -> None:
    place = Place(tmp_path / "place")
    (place.work / "tool.py").write_text(
        "import msgpack._cmsgpack as it, platform\nprint(platform.machine(), it.unpackb(it.Packer().pack([1])))\n"
    )
    place.packed("fat", "tool.py", "msgpack", "--abis", "manylinux2014,cp311", "--arch", "x86_64,aarch64", "--fast")
    for host, machine in (("bookworm", "x86_64"), ("arm64", "aarch64")):
        assert roots.MACHINES.get(host, "x86_64") == machine
        far = enter(host, {place.work / "tool": "/opt/tool"})
        for _ in range(2):
            assert far.run(["/opt/tool"]).whole == (0, f"{machine} [1]\n".encode(), b"")
