"""``packer fat --workspace``: tools of one file are packed at once, and what fails takes no other with it."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

import pytest
from support.packing import Place, run_program, wait_for, watched

from packer import inspect

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.e2e

SETTINGS = '[settings]\nabis = "manylinux2014,cp311"\nfast = true\nno-index = true\n'


def script(place: Place, name: str) -> None:
    (place.work / f"{name}.py").write_text(f"import sys\nprint({name!r}, *sys.argv[1:])\n")


def tools(place: Place, text: str, head: str = "") -> None:
    (place.work / "tools.toml").write_text(f"{head}\n{SETTINGS}\n{text}")


def ran(place: Place, name: str, *arguments: str) -> tuple[int, str, str]:
    done = run_program(place.work / name, *arguments, store=place.root / "store")
    return done.returncode, done.stdout, done.stderr


TWO = '[tools.one]\nrequirements = ["one.py"]\n[tools.two]\nrequirements = ["two.py"]\nlabels = {a = "b"}\n'


@pytest.fixture
def two(place: Place) -> Place:
    """A place with two tools."""
    for name in ("one", "two"):
        script(place, name)
    tools(place, TWO)
    return place


def test_all_are_packed_and_what_they_share_is_told(two: Place) -> None:
    # what lies there must not answer to the packer's imports
    for name in ("json", "packer", "lief"):
        (two.work / f"{name}.py").write_text("raise SystemExit('not this one')\n")
    status, stdout, stderr = two.run("fat", "--workspace", cwd=two.root).whole
    assert (status, stdout) == (2, "")
    assert stderr == (
        "packer: cannot read tools.toml: there is no such file\npacker: hint: --workspace FILE.toml names another\n"
    )
    status, stdout, stderr = two.run("fat", "--workspace", "work/tools.toml", cwd=two.root).whole
    assert (status, stderr) == (0, "")
    lines = stdout.splitlines()
    for line, name in zip(lines, ("one", "two"), strict=False):
        size = (two.work / name).stat().st_size
        assert line == f"work/{name}: {size:,} bytes for cp311-manylinux_2_17_x86_64"
        assert ran(two, name, "x") == (0, f"{name} x\n", "")
    assert lines[2] == "shared layers: 0, 0 bytes unpacked"
    assert [line.split(":")[0] for line in lines[3:]] == ["  cp311-manylinux_2_17_x86_64", "files"]
    assert inspect.describe(two.work / "two")["manifest"]["labels"] == {"a": "b"}
    assert two.left() == sorted([
        "cache", "store", *two_files(two), "tmp", "work", "work/one", "work/two",
        *(f"work/{name}.py" for name in ("json", "lief", "one", "packer", "two")), "work/tools.toml",
    ])  # fmt: skip


def two_files(place: Place) -> list[str]:
    """What launches left in the store."""
    return [f"store/{path.relative_to(place.root / 'store')}" for path in (place.root / "store").rglob("*")]


def test_each_is_what_it_would_be_alone(two: Place) -> None:
    two.packed("fat", "--workspace", "-j", "2", "-q")
    (two.work / "alone").mkdir()
    options = ("--abis", "manylinux2014,cp311", "--fast", "--no-index", "-q")
    for name, more in (("one", ()), ("two", ("--label", "a=b"))):
        two.packed("fat", f"{name}.py", *options, *more, "-o", f"alone/{name}")
        assert (two.work / "alone" / name).read_bytes() == (two.work / name).read_bytes()


def test_one_failure_does_not_lose_the_others(two: Place) -> None:
    tools(two, f'{TWO}[tools.three]\nrequirements = ["three.py"]\n[tools.four]\nmodule = "x y"\nrequirements = ["x"]\n')
    ended = two.run("fat", "--workspace", "--json", env={"PIP_CONFIG_FILE": "/dev/null"})
    assert ended.status == 1
    assert ended.stderr.splitlines() == [
        "packer: three: no script three.py: there is no such file", "packer: four: not a module name: 'x y'",
        "packer: 2 of 4 were not packed: three, four",
    ]  # fmt: skip
    told = json.loads(ended.stdout)
    assert [(one["name"], one["error"], one["archive"] is None) for one in told["tools"]] == [
        ("one", None, False), ("two", None, False), ("three", "no script three.py: there is no such file", True),
        ("four", "not a module name: 'x y'", True),
    ]  # fmt: skip
    assert told["tools"][0]["archive"] == json.loads(two.packed("inspect", "one", "--json").stdout)
    assert (told["version"], told["workspace"], told["problems"]) == (1, "tools.toml", [])
    assert told["shared"]["slices"][0]["archives"] == 2
    assert ran(two, "two") == (0, "two\n", "")


def test_some_are_named(two: Place) -> None:
    assert two.packed("fat", "--workspace", "two", "--label", "a=c").stdout.startswith("two: ")
    assert not (two.work / "one").exists()
    assert inspect.describe(two.work / "two")["manifest"]["labels"] == {"a": "c"}
    status, stdout, stderr = two.run("fat", "--workspace", "tools.toml", "three").whole
    assert (status, stdout) == (2, "")
    assert stderr.startswith("packer: tools.toml: tool three: there is no such key\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--workspace", "-o", "x"), "--workspace and -o: the file says that of each tool"),
        (("--workspace", "-e", "x:y"), "--workspace and -e: the file says that of each tool"),
        (("x.py", "-j", "2"), "-j is for --workspace: one archive is packed on all processors anyway"),
    ],
)
def test_wrong_usage(words: tuple[str, ...], message: str, two: Place) -> None:
    assert two.run("fat", *words).whole == (2, "", f"packer: {message}\n")


def test_one_archive_is_every_tool_by_its_name(place: Place, shelf: Path, offline: None) -> None:
    text = '[tools.hello]\nrequirements = ["hello"]\n[tools.two]\nrequirements = ["several"]\nentry = "several:main"\n'
    tools(place, text, 'as-one = "kit"\noutput = "dist"\n[libraries]\n')
    settings = (place.work / "tools.toml").read_text()
    (place.work / "tools.toml").write_text(settings.replace("no-index", f'find-links = ["{shelf}"]\nno-index'))
    place.packed("fat", "--workspace")
    assert [one["name"] for one in inspect.describe(place.work / "dist/kit")["tools"]] == ["hello", "two"]
    os.symlink("kit", place.work / "dist/two")
    assert ran(place, "dist/kit", "a") == ran(place, "dist/two", "a") == (0, "hello a\n", "")


def test_pins_that_nobody_can_check_are_no_archive(two: Place) -> None:
    """Or those that do not hold: nothing is written before they are looked at."""
    tools(two, TWO, "[libraries]\nopenssl = '0.0.1'")
    ended = two.run("fat", "--workspace")
    if "this packer does not read libraries" in ended.stderr:
        assert ended.whole == (
            1, "", "packer: [libraries]: this packer does not read libraries\npacker: hint: get a newer packer\n"
        )  # fmt: skip
        assert not (two.work / "one").exists()
    else:  # a script has none
        assert ended.status == 0, ended.stderr


def test_an_interrupt_ends_all(two: Place) -> None:
    """And nothing is left of those that were not done."""
    (two.work / "large").write_bytes(os.urandom(1 << 26))
    tools(two, TWO.replace('["one.py"]', '["one.py"]\ninclude = ["large:large"]\nfast = false\nsmall = true'))
    before = set(two.left())
    with watched(two.start("fat", "--workspace", "one")) as process:
        wait_for(lambda: len([*(two.root / "tmp").glob("packer-*")]) > 1, process)  # the child's, too
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout, stderr) == (143, "", "packer: ended by SIGTERM\n")
    assert two.processes() == []
    assert set(two.left()) == before
