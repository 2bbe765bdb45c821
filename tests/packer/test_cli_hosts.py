"""``packer hosts``: what it prints, what it writes where, and what it says of mistakes."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any

import pytest

from packer import cli, hosts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without hosts of their own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root filesystem with nothing that is loaded, which is read quickly."""
    if os.geteuid() != 0:
        pytest.skip("optional: entering as a user is tested in test_hostread.py")
    made = tmp_path / "root"
    (made / "etc").mkdir(parents=True)
    (made / "etc/os-release").write_text("PRETTY_NAME='Made up'\n")
    return made


def packer(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    """Run a command: its status, and what it wrote to both streams."""
    status = cli.main(["hosts", *map(str, words)])
    said = capsys.readouterr()
    return status, said.out, said.err


def wrong(capsys: pytest.CaptureFixture[str], *words: str | Path, status: int = 2) -> list[str]:
    """What is said of a mistake, its lines."""
    ended, out, err = packer(capsys, *words)
    assert (ended, out) == (status, "")
    return [line.removeprefix("packer: ") for line in err.splitlines()]


def cells(table: str) -> list[list[str]]:
    return [re.split(r"\s{2,}", line) for line in table.splitlines()]


def test_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = packer(capsys, "list")
    rows = cells(out)
    assert (status, err) == (0, "")
    assert rows[0] == ["name", "is", "machine", "C library", "Linux", "CPU", "Pythons"]
    assert [row[0] for row in rows[1:]] == list(hosts.shipped())
    assert ["bookworm", "Debian 12 (bookworm)", "x86_64", "glibc 2.36", "6.1.0", "x86-64-v1", "cp311 3.11.2"] in rows
    assert ["distroless-static", "distroless static", "x86_64", "none", "5.10.0?", "x86-64-v1", "none"] in rows
    assert max(map(len, out.splitlines())) < 160


def test_json_has_all_that_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = packer(capsys, "list", "--json")
    said = json.loads(out)
    assert (status, said["version"]) == (0, 1)
    assert [one["name"] for one in said["hosts"]] == list(hosts.shipped())
    status, out, _ = packer(capsys, "show", "bookworm", "--json")
    one = json.loads(out)["host"]
    assert one in said["hosts"]
    assert one == {
        "name": "bookworm", "title": "Debian 12 (bookworm)", "file": str(hosts.shipped()["bookworm"]),
        "machine": "x86_64", "cpu": "x86-64-v1", "kernel": "6.1.0", "libc": "glibc 2.36",
        "libraries": {soname: list(nodes) for soname, nodes in hosts.find("bookworm").libraries.items()},
        "pythons": [{
            "path": "/usr/bin/python3.11", "abi": "cp311", "version": "3.11.2",
            "lacks": ["ensurepip", "idlelib", "lib2to3", "tkinter", "turtledemo"],
        }],
        "also": ["debian-12"], "assumed": [],
    }  # fmt: skip


def test_a_description_is_shown_as_it_is_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = hosts.shipped()["alpine-3.12"]
    assert packer(capsys, "show", "alpine-3.12") == (0, path.read_text(), "")
    (tmp_path / "own.toml").write_bytes(path.read_bytes())
    assert packer(capsys, "show", tmp_path / "own.toml") == (0, path.read_text(), "")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("debian", r"known are bookworm, .*and others: packer hosts list"),
        ("jellyfish", r"known are ubuntu-22.04, ubuntu-22.04-aarch64, and others: packer hosts list"),
        ("alpine", r"known are alpine-3.12, .*and others: packer hosts list"),
        ("windows", r"packer hosts list shows those there are"),
    ],
)
def test_a_host_that_is_unknown_is_told_with_those_that_may_be_meant(
    name: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    message, said = wrong(capsys, "show", name)
    assert message == f"no host {name!r}: neither a name nor a file"
    assert re.fullmatch(f"hint: {hint}", said), said


def test_a_host_that_is_added_is_known_by_its_name(
    capsys: pytest.CaptureFixture[str], config: Path, root: Path
) -> None:
    path = config / "fatpar/hosts/rescue-1.0.toml"
    words = ("add", "rescue-1.0", "--from-root", root, "--kernel", "5.10.3", "--cpu", "x86-64-v2")
    status, out, err = packer(capsys, *words)
    assert (status, out) == (0, f"{path}: 'Made up', none, Linux 5.10.3, x86-64-v2, Python none\n")
    assert err == "packer: no C library was found there, so that only static programs run\n"
    assert ["rescue-1.0", "'Made up'", "x86_64", "none", "5.10.3", "x86-64-v2", "none"] in cells(
        packer(capsys, "list")[1]
    )
    assert packer(capsys, "show", "rescue-1.0")[1] == path.read_text()
    assert wrong(capsys, *words) == [
        f"there is a host rescue-1.0 already: {path}",
        "hint: --replace lets this one stand for it; or choose another name",
    ]
    status, out, err = packer(capsys, *words, "--kernel", "6.1.0", "--replace", "--json")
    said = json.loads(out)["host"]
    assert (status, said["kernel"], said["name"], said["file"]) == (0, "6.1.0", "rescue-1.0", str(path))


def test_a_shipped_name_is_taken_only_on_purpose(capsys: pytest.CaptureFixture[str], config: Path, root: Path) -> None:
    words = ("add", "bookworm", "--from-root", root)
    assert wrong(capsys, *words)[0] == f"there is a host bookworm already: {hosts.shipped()['bookworm']}"
    assert not config.exists()
    assert packer(capsys, *words, "--replace", "-q") == (0, "", "")
    assert hosts.find("bookworm").title == "'Made up'"
    assert hosts.shipped()["bookworm"].read_text().startswith("# Debian bookworm")


def test_a_file_that_is_named_is_no_host_of_the_users(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, config: Path, root: Path
) -> None:
    path = tmp_path / "x.toml"
    assert packer(capsys, "add", "bookworm", "--from-root", root, "-o", path)[0] == 0
    assert hosts.find(str(path)).family == "none"
    assert not config.exists()


def test_this_machine_is_added(capsys: pytest.CaptureFixture[str], config: Path) -> None:
    status, out, _ = packer(capsys, "add", "here", "--from-machine", "--json")
    said: dict[str, Any] = json.loads(out)["host"]
    assert (status, said["kernel"], said["machine"]) == (0, os.uname().release, os.uname().machine)
    assert (config / "fatpar/hosts/here.toml").exists()


LETTERS = "letters, digits and . _ + - can stand in one"

MISTAKES: dict[str, tuple[Sequence[str], str, str]] = {
    "slash": (["a/b", "--from-machine"], "'a/b' cannot be a host's name", LETTERS),
    "dot": ([".x", "--from-machine"], "'.x' cannot be a host's name", LETTERS),
    "kernel-of-this-machine": (
        ["x", "--from-machine", "--kernel", "6.1.0"],
        "--kernel and --cpu are for --from-root: this machine tells its own", "",
    ),
    "static-machine": (
        ["x", "--from-machine", "--static"], "--static is for --from-root: this machine has programs", "",
    ),
    "level": (
        ["x", "--from-root", "/", "--cpu", "v3"], "--cpu: 'v3' is no CPU level",
        "known are x86-64-v1, x86-64-v2, x86-64-v3, x86-64-v4, armv8.0-a, armv8.1-a",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("words", "message", "hint"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_told(
    words: Sequence[str], message: str, hint: str, capsys: pytest.CaptureFixture[str], config: Path
) -> None:
    assert wrong(capsys, "add", *words) == [message, *([f"hint: {hint}"] if hint else [])]
    assert not config.exists()


def test_what_cannot_be_read_is_told_and_nothing_is_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, config: Path, root: Path
) -> None:
    (tmp_path / "text").write_text("text")
    said = wrong(capsys, "add", "x", "--from-root", tmp_path / "text", status=1)
    assert said[0].startswith(f"cannot read {tmp_path}/text: it is neither a directory nor a whole tar file or image: ")
    assert said[1] == "hint: docker export, docker save and skopeo copy to oci-archive: write what is understood"
    said = wrong(capsys, "add", "x", "--from-root", root, "--kernel", "new", status=1)
    assert said == [f"cannot describe {root}: kernel must be like '5.10.0', is 'new'"]
    assert list((config / "fatpar/hosts").iterdir()) == []


def test_a_broken_host_of_the_users_is_told(capsys: pytest.CaptureFixture[str], config: Path) -> None:
    (config / "fatpar/hosts").mkdir(parents=True)
    (config / "fatpar/hosts/bad.toml").write_text("cpu = 1\n")
    status, out, err = packer(capsys, "list")
    assert (status, [row[0] for row in cells(out)[1:]]) == (0, list(hosts.shipped()))
    assert err == f"packer: warning: host {config}/fatpar/hosts/bad.toml: machine is missing; it is left out\n"
    assert set(hosts.of_kind("x86_64")) | set(hosts.of_kind("aarch64")) == set(hosts.shipped())
    assert wrong(capsys, "show", "bad", "--json", status=1) == [
        f"host {config}/fatpar/hosts/bad.toml: machine is missing"
    ]


def test_what_is_taken_from_the_packing_machine_is_told(
    capsys: pytest.CaptureFixture[str], config: Path, root: Path
) -> None:
    told = "are taken from this machine, so that predictions may be too optimistic: say"
    err = packer(capsys, "add", "x", "--from-root", root)[2]
    assert f"packer: warning: CPU and kernel {told} --cpu and --kernel\n" in err
    row = next(row for row in cells(packer(capsys, "list")[1]) if row[0] == "x")
    assert [cell[-1] for cell in row[4:6]] == ["?", "?"]
    words = ("add", "x", "--from-root", root, "--replace", "--kernel", "5.10.3")
    assert f"packer: warning: CPU {told} --cpu\n" in packer(capsys, *words)[2]
    assert told not in packer(capsys, *words, "--cpu", "x86-64-v1")[2]


def test_one_of_the_users_is_removed_and_a_shipped_one_is_not(capsys: pytest.CaptureFixture[str], config: Path) -> None:
    path = config / "fatpar/hosts/bookworm.toml"
    path.parent.mkdir(parents=True)
    path.write_text("broken")
    assert packer(capsys, "remove", "bookworm") == (0, f"removed {path}\n", "")
    assert not path.exists()
    assert wrong(capsys, "remove", "bookworm") == ["no host of your own is called 'bookworm': it comes with the packer"]
    assert wrong(capsys, "remove", "nothing") == ["no host of your own is called 'nothing': there is none"]
