"""``packer matrix`` as a user types it."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
from support import archives, matrices
from support.packing import Place, wait_for, watched

from packer import results
from packer.cli import main

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.e2e

ROUTER = 'title = "The router"\nmachine = "aarch64"\ncpu = 80\nkernel = "4.4.0"\nlibc = "musl 1.2"\n'


def write(place: Place, *tags: str) -> Path:
    (place.root / "files").mkdir()
    (place.work / "router.toml").write_text(ROUTER)
    return archives.write(place.work / "app", place.root / "files", {"app.py": ""}, tags=tags)


def test_predicting_in_all_forms(place: Place) -> None:
    write(place, "cp313", "cp39")
    hosts = ("--hosts", "bullseye,trixie", "--hosts", "router.toml", "--required", "trixie")
    ended = place.run(
        "matrix", "app", "--predict", *hosts, "--html", "out.html", "--junit", "out.xml"
    )  # fmt: skip
    assert (ended.status, ended.stderr) == (0, "")
    lines = [line.split() for line in ended.stdout.splitlines()]
    assert lines[1:5] == [
        ["host", "slice", "python"],
        ["bullseye", "cp39-manylinux_2_17_x86_64", "/usr/bin/python3.9"],
        ["trixie", "(required)", "cp313-manylinux_2_17_x86_64", "/usr/bin/python3.13"],
        ["router.toml", "none"],
    ]
    assert "needs machine x86_64, found aarch64\n" in ended.stdout
    assert "    --abis ...,cp313-musllinux_1_2_aarch64 --bundle cp313\n" in ended.stdout
    assert "\x1b" not in ended.stdout
    assert ElementTree.parse(place.work / "out.xml").getroot().get("tests") == "3"
    assert len(ElementTree.parse(place.work / "out.html").findall(".//summary/span/i")) == 6
    again = place.run("matrix", "app", "--predict", *hosts, "--json")
    said = results.from_json(json.loads(again.stdout))
    assert [row.host for row in said.rows] == ["bullseye", "trixie", "router.toml"]
    assert said.rows[2].title == "The router"
    assert [one.hosts for one in said.additions] == [("router.toml",)]
    assert list((place.root / "tmp").iterdir()) == []


def test_a_required_host_without_a_slice(place: Place) -> None:
    write(place, "cp39")
    ended = place.run("matrix", "app", "--predict", "--hosts", "bullseye", "--required", "trixie")
    assert (ended.status, ended.stderr) == (1, "")
    assert ended.stdout.endswith("a slice runs on 1 of 2 hosts; none on trixie, where one is required\n")


def test_planning(place: Place) -> None:
    words = ("--abis", "manylinux2014,cp39", "--arch", "x86_64", "--hosts", "bullseye,trixie")
    ended = place.run("matrix", "--plan", *words, "--bundle", "cp39", "--required", "trixie")
    assert (ended.status, ended.stderr) == (0, (
        "packer: no cp39 was captured for x86_64 and glibc: supposed is one that runs wherever manylinux_2_17 does; "
        "packer runtime add captures one\n"
    ))  # fmt: skip
    assert [line.split() for line in ended.stdout.splitlines()[:4]] == [
        ["manylinux2014,cp39:", "not", "packed", "yet,", "judged", "by", "tags"],
        ["host", "slice", "python"],
        ["bullseye", "cp39-manylinux_2_17_x86_64", "/usr/bin/python3.9"],
        ["trixie", "(required)", "cp39-manylinux_2_17_x86_64-carried", "its", "own"],
    ]
    (place.work / "pyproject.toml").write_text('[tool.packer]\nabis = ["manylinux_2_28_x86_64", "cp313"]\n')
    said = json.loads(place.run("matrix", "--plan", "--hosts", "trixie", "--json").stdout)
    assert (said["file"], said["id"], said["slices"]) == (
        "manylinux_2_28_x86_64,cp313", "", ["cp313-manylinux_2_28_x86_64"]
    )  # fmt: skip


def test_merging(place: Place) -> None:
    parts = [matrices.matrix(*matrices.ROWS[:3]), matrices.matrix(*matrices.ROWS[3:])]
    for number, part in enumerate(parts):
        (place.work / f"{number}.json").write_text(json.dumps(part.json()))
    ended = place.run("matrix", "--merge", "0.json", "1.json", "--json")
    assert (ended.status, ended.stderr) == (1, "")
    said = json.loads(ended.stdout)
    assert results.from_json(said) == matrices.matrix()
    assert list(said["hosts"][0]["predicted"]["reasons"]) == list(matrices.SLICES)
    assert place.run("matrix", "--merge", "0.json").status == 0
    hint = "packer: hint: merge all shards of one run of one archive\n"
    several = f"packer: cannot merge: host good is in two of them\n{hint}"
    assert place.run("matrix", "--merge", "0.json", "0.json").whole == (1, "", several)
    part = replace(parts[0], shard=(1, 2), plan=tuple(row.host for row in matrices.ROWS))
    (place.work / "part.json").write_text(json.dumps(part.json()))
    few = f"packer: cannot merge: it is a part of a run: of 2 shards there is no 2\n{hint}"
    assert place.run("matrix", "--merge", "part.json").whole == (1, "", few)


def test_a_result_with_odd_text_is_shown(place: Place) -> None:
    row = replace(matrices.GOOD, title="\ud800\0<b>\ufffe")
    (place.work / "odd.json").write_text(json.dumps(matrices.matrix(row, matrices.NONE).json()))
    for more in ((), ("--json",), ("--html", "out.html", "--junit", "out.xml")):
        ended = place.run("matrix", "--merge", "odd.json", *more)
        assert (ended.status, ended.stderr) == (0, "")
    assert "\\ud800\\x00&lt;b&gt;\\ufffe" in (place.work / "out.html").read_text()
    assert ElementTree.parse(place.work / "out.xml").getroot().get("tests") == "3"


NO_RESULT = {
    "{}": "key 'version' is missing",
    "[]": "it is no JSON object",
    "": "Expecting value: line 1 column 1 (char 0)",
    '{"version": 2}': "its version is 2, not 1",
    '{"version": 1, "file": "x", "id": "", "slices": 1, "hosts": [], "additions": []}': "slices must be a list, is 1",
    '{"version": 1, "file": "x", "id": "", "slices": [], "hosts": ["h"]}': "one of rows must be an object, is 'h'",
    "[" * 100_000: "it is nested too deep",
}


def test_what_is_no_result_is_not_merged(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    path = place.work / "bad.json"
    for text, said in NO_RESULT.items():
        path.write_text(text)
        assert main(["matrix", "--merge", str(path)]) == 1
        assert capsys.readouterr() == ("", f"packer: {path} is not what packer matrix --json prints: {said}\n")
    assert main(["matrix", "--merge", str(place.work / "none.json")]) == 1
    assert capsys.readouterr().err.endswith("none.json: No such file or directory\n")


def test_definitions_of_jobs(place: Place) -> None:
    (place.work / "hosts.toml").write_text('[[host]]\nname = "a"\nroot = "made-later"\n')
    ended = place.run("matrix", "app", "--run", "hosts.toml", "--emit", "gitlab", "--shards", "7", "--", "--version")
    assert (ended.status, ended.stderr) == (0, "")
    assert "  parallel: 7\n" in ended.stdout
    assert "packer matrix app --run hosts.toml --timeout 120 " in ended.stdout
    assert " --json -- --version > matrix-parts/" in ended.stdout


def test_what_no_run_can_be_made_of(place: Place) -> None:
    write(place, "cp39")
    for words in ((), ("--emit", "github")):
        ended = place.run("matrix", "app", "--run", "none.toml", *words, "--", "x")
        assert ended.whole == (2, "", "packer: cannot read the hosts none.toml: No such file or directory\n")
        (place.work / "hosts.toml").write_text('[[host]]\nname = "a"\nlocal = true\n')
        ended = place.run("matrix", "app", "--run", "hosts.toml", *words)
        assert ended.whole == (2, "", "packer: no case was run: give -- ARGUMENTS or [[case]]\n")
        ended = place.run("matrix", "app", "--run", "hosts.toml", "--required", "b", *words, "--", "x")
        assert ended.whole == (2, "", "packer: --required: hosts.toml names no host 'b', but a\n")
    ended = place.run("matrix", "app", "--run", "hosts.toml", "--shard", "2/2", "--json", "--", "x")
    assert (ended.status, ended.stderr) == (
        0, "packer: nothing was run: shard 2 of 2 has no hosts: hosts.toml has 1\n"
    )  # fmt: skip
    assert json.loads(ended.stdout)["shard"] == [2, 2]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT])
def test_a_signal_ends_it_and_leaves_nothing(place: Place, number: signal.Signals) -> None:
    write(place, "cp39")
    (place.work / "hosts.toml").write_text('[[host]]\nname = "far"\nssh = "far"\n')
    (place.work / "ssh").write_text(f"#!/bin/sh\ntouch {place.root}/begun\nexec sleep 4711\n")
    (place.work / "ssh").chmod(0o755)
    before = place.left()
    path = f"{place.work}:{os.environ['PATH']}"
    with watched(place.start("matrix", "app", "--run", "hosts.toml", "--", "x", env={"PATH": path})) as process:
        wait_for((place.root / "begun").exists, process)
        (place.root / "begun").unlink()
        assert list((place.root / "tmp").glob("packer-matrix-*"))
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
    said = "interrupted" if number == signal.SIGINT else f"ended by {number.name}"
    assert (process.returncode, stderr) == (128 + number, f"packer: {said}\n")
    assert place.left() == before
    assert place.processes() == []


USAGE = {
    "nothing": ((), "one of the arguments --predict --plan --run --merge is required"),
    "no-file": (("--predict",), "--predict: of which archive?"),
    "file-of-a-plan": (("app", "--plan", "--abis", "cp39"), "--plan takes no FILE: what is app?"),
    "words-of-a-plan": (("app", "--predict", "--abis", "cp39"), "--abis is for --plan"),
    "hosts-of-a-run": (("app", "--run", "x", "--hosts", "sid"), "--hosts is for --predict and --plan"),
    "arguments": (("app", "--predict", "--", "x"), "-- is for --run"),
    "setup": (("app", "--run", "x", "--setup", "true"), "--setup is for --emit"),
    "shard": (("app", "--run", "x", "--shard", "5/4"), "not a shard: '5/4'; the second of four is 2/4"),
    "no-seconds": (("app", "--run", "x", "--timeout", "0"), "not a number of seconds up to 86400: '0'"),
    "endless": (("app", "--run", "x", "--timeout", "inf"), "not a number of seconds up to 86400: 'inf'"),
    "timeout": (("app", "--predict", "--timeout", "5"), "--timeout is for --run and --emit"),
    "emit": (("app", "--predict", "--emit", "github"), "--emit is for --run"),
    "emit-shard": (
        ("app", "--run", "x", "--emit", "github", "--shard", "1/2"), "--shard is for --run, not for --emit"
    ),
    "emit-html": (("app", "--run", "x", "--emit", "github", "--html", "y"), " and --merge, not for --emit"),
    "emit-json": (("app", "--run", "x", "--emit", "github", "--json"), "--json is for --predict and --plan and "),
    "merge-shards": (("--merge", "x", "--shards", "2"), "--shards is for --emit"),
    "no-number": (("app", "--run", "x", "--at-once", "0"), "not a number from 1 on: '0'"),
    "no-shards": (("--merge", "x", "--at-once", "2"), "--at-once is for --run"),
}  # fmt: skip


@pytest.mark.parametrize(("words", "said"), USAGE.values(), ids=USAGE)
def test_wrong_usage(words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = main(["matrix", *words])
    except SystemExit as ended:  # argparse
        status = int(str(ended.code))
    out, err = capsys.readouterr()
    assert (status, out) == (2, "")
    assert said in err


def test_a_report_replaces_nothing_that_is_read(place: Place) -> None:
    app = write(place, "cp39")
    before = app.read_bytes()
    for option in ("--html", "--junit"):
        ended = place.run("matrix", "app", "--predict", "--hosts", "bullseye", option, "./app")
        said = f"packer: cannot write app: it is read\npacker: hint: name another file with {option}\n"
        assert ended.whole == (1, "", said)
    assert app.read_bytes() == before
    assert "no host 'bookwurm'" in place.run("matrix", "app", "--predict", "--hosts", "bookwurm").stderr
    ended = place.run("matrix", "app", "--predict", "--html", "none/out.html")
    assert ended.status == 1
    assert ended.stderr.startswith("packer: cannot write none/out.html: ")


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["matrix", "--help"])
    said = capsys.readouterr().out
    for word in ("--predict", "--plan", "--merge", "--emit", "--rerun-failed", "examples:", "exit status:"):
        assert word in said
