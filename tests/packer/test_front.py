"""packer/front.py: one file for several machines is an archive like any other to everything that handles archives."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from support import archives, keys
from support.hosts import give_up
from support.packing import Place

from packer import diff, front, inspect, install, native, patch, reader, targets
from packer.errors import PackError
from packer.progress import Quiet

if TYPE_CHECKING:
    from pathlib import Path

MACHINES = ("x86_64", "aarch64")
LAUNCHERS = {machine: native.data(f"launcher-{machine}") for machine in MACHINES}

pytestmark = pytest.mark.native


@pytest.fixture
def running_tag() -> str:
    return targets.running_target().python.tag


def write(output: Path, text: str = "ran", machines: tuple[str, ...] = MACHINES, tag: str = "cp311") -> Path:
    work = output.with_name(f"{output.name}.work")
    work.mkdir()
    modules = {"app.py": f"def main():\n    print({text!r})\n", "more.py": "x = 1\n" * 5000}
    return archives.write(output, work, modules, tools={"app": "app:main"}, tags=[tag], machines=machines)


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    one, two = (write(tmp_path / name) for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    other = write(tmp_path / "other", machines=MACHINES[::-1])
    assert other.read_bytes() != one.read_bytes()
    assert [launcher.machine for launcher in front.make(dict(reversed(LAUNCHERS.items()))).launchers] == [
        "aarch64",
        "x86_64",
    ]


def test_one_machine_has_no_front(tmp_path: Path) -> None:
    alone = write(tmp_path / "alone", machines=("x86_64",))
    assert alone.read_bytes().startswith(LAUNCHERS["x86_64"].read_bytes())
    with reader.reading(alone) as archive:
        assert archive.records("launcher") == []


def test_it_begins_with_text_that_says_where_launchers_are() -> None:
    made = front.make(LAUNCHERS)
    assert made.content.startswith(b"#!/bin/sh\n")
    text, rest = made.content[: made.launchers[0].offset], made.content[made.launchers[0].offset :]
    assert text.isascii()
    for launcher in made.launchers:
        row = f"{launcher.machine} +{launcher.digest} +{launcher.offset} +{launcher.size} *'?"
        assert re.search(f"^{row}$", text.decode(), re.MULTILINE)
        content = made.content[launcher.offset : launcher.offset + launcher.size]
        assert hashlib.sha256(content).hexdigest() == launcher.digest
        plain = LAUNCHERS[launcher.machine].read_bytes()
        assert content == plain + bytes(launcher.size - len(plain) - 8) + b"\x89fplnch\n"
    assert len(rest) == sum(launcher.size for launcher in made.launchers)


def test_what_machines_share_is_there_once(tmp_path: Path) -> None:
    both = write(tmp_path / "both").stat().st_size
    apart = [write(tmp_path / machine, machines=(machine,)).stat().st_size for machine in MACHINES]
    blobs = []
    for name in ("both", *MACHINES):
        with reader.reading(tmp_path / name) as archive:
            blobs.append([bytes(blob.digest) for blob in archive.records("blob")])
    assert blobs[0] == blobs[1] == blobs[2]
    assert both < sum(apart) + front.make(LAUNCHERS).launchers[0].offset


def test_everything_that_reads_archives_reads_it(tmp_path: Path) -> None:
    place = Place(tmp_path / "place")
    write(place.work / "app")
    said = place.packed("verify", "app").stdout
    assert "are as they were packed" in said
    assert (
        place.packed("inspect", "app").stdout.splitlines()[1] == "launchers: x86_64 and aarch64, behind a shell front"
    )
    assert inspect.describe(place.work / "app")["launchers"] == list(MACHINES)
    place.packed("inspect", "--sizes", "app")
    place.packed("extract", "app", "out")
    assert (place.work / "out/modules-1.0-py2.py3-none-any/lib/python/site-packages/app.py").exists()
    assert "cp311-manylinux_2_17_x86_64: fits" in place.run("explain", "app", "--host", "bookworm").stdout


@pytest.mark.parametrize("where", ["text", "launcher"])
def test_damage_before_the_blobs_is_found(tmp_path: Path, where: str) -> None:
    content = bytearray(write(tmp_path / "app").read_bytes())
    content[200 if where == "text" else 100_000] ^= 1
    (tmp_path / "app").write_bytes(content)
    with pytest.raises(PackError, match="the launcher has the wrong digest"):
        inspect.verify(tmp_path / "app")


def test_it_is_signed_and_patched(tmp_path: Path) -> None:
    old, new = write(tmp_path / "old", "old"), write(tmp_path / "new", "new")
    keys.make(tmp_path / "key")
    keys.allow(tmp_path / "signers", tmp_path / "key")
    place = Place(tmp_path / "place")
    place.packed("sign", new, "--key", tmp_path / "key")
    place.packed("verify", new, "--allowed-signers", tmp_path / "signers")
    diff.diff(old, new, tmp_path / "patch", Quiet())
    assert (tmp_path / "patch").stat().st_size < 5000
    patch.apply(old, tmp_path / "patch", tmp_path / "made", Quiet())
    assert (tmp_path / "made").read_bytes() == new.read_bytes()
    content = bytearray(new.read_bytes())
    content[300] ^= 1
    (tmp_path / "changed").write_bytes(content)
    assert place.run("verify", tmp_path / "changed", "--allowed-signers", tmp_path / "signers").status == 1


def test_the_front_comes_from_one_machine_s_file_by_a_patch(tmp_path: Path) -> None:
    alone, both = write(tmp_path / "alone", machines=("x86_64",)), write(tmp_path / "both")
    diff.diff(alone, both, tmp_path / "patch", Quiet())
    patch.apply(alone, tmp_path / "patch", tmp_path / "made", Quiet())
    assert (tmp_path / "made").read_bytes() == both.read_bytes()


def test_install_keeps_the_launcher_of_this_machine(tmp_path: Path, running_tag: str) -> None:
    app = write(tmp_path / "app", tag=running_tag)
    install.install(app, tmp_path / "store", None, Quiet())
    kept = {path.name: path.read_bytes() for path in (tmp_path / "store/v1/launchers").iterdir()}
    assert kept.pop("time") == b""
    [(name, content)] = kept.items()
    assert hashlib.sha256(content).hexdigest() == name
    done = subprocess.run([app], env={"FATPAR_STORE": str(tmp_path / "store")}, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"ran\n", b"")


def test_architectures_may_be_one_word_or_several(tmp_path: Path) -> None:
    place = Place(tmp_path / "place")
    (place.work / "tool.py").write_text("print(1)\n")
    words = ["tool.py", "--abis", "manylinux2014,cp311"]
    place.packed("fat", *words, "--arch", "x86_64,aarch64", "-o", "one")
    place.packed("fat", *words, "--arch", "x86_64", "--arch", "aarch64", "-o", "two")
    assert inspect.describe(place.work / "one")["launchers"] == list(MACHINES)
    assert [one["name"] for one in inspect.describe(place.work / "one")["slices"]] == [
        "cp311-manylinux_2_17_x86_64", "cp311-manylinux_2_17_aarch64",
    ]  # fmt: skip
    ended = place.run("fat", *words, "--arch", "x86_64,x86_64")
    assert (ended.status, ended.stderr) == (2, "packer: arch: 'x86_64' is there twice\n")


def test_the_front_s_text_has_no_faults_that_can_be_seen() -> None:
    if not shutil.which("shellcheck"):
        give_up("shellcheck is not installed")
    done = subprocess.run(["shellcheck", front.source()], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
