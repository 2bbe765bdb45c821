"""``packer fat --workspace``: tools of one file are packed at once, and what fails takes no other with it."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

import pytest
from support import index
from support.elf import elf
from support.packing import Place, run_program, wait_for, watched

from packer import inspect, lock

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.e2e

CP311 = "cp311-manylinux_2_17_x86_64"
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


def test_mistakes_of_the_file_are_named_before_anything_is_packed(two: Place) -> None:
    """All of them."""
    (two.work / "pylock.toml").write_text(
        'lock-version = "1.0"\ncreated-by = "x"\nenvironments = ["python_version < \'3\'"]\npackages = []'
    )
    text = """
[tools.three]
requirements = ["three.py"]
[tools.four]
module = "x y"
requirements = ["./missing"]
[tools.five]
lock = "pylock.toml"
requirements = ["x"]
[tools.seven]
lock = "pylock.none.toml"
requirements = ["x"]
[tools.six]
requirements = ["one.py"]
output = "two"
"""
    tools(two, TWO + text)
    before = two.left()
    status, stdout, stderr = two.run("fat", "--workspace").whole
    assert (status, stdout) == (2, "")
    assert stderr.replace("packer: tools.toml: ", "").splitlines() == [
        "[tools.six] output: two is where two goes",
        "[tools.three] no script three.py: there is no such file",
        "[tools.four] cannot read missing: there is no such file or directory",
        f"[tools.five] {CP311}: pylock.toml was not made for it (whatever wrote pylock.toml can lock for it, too)",
        "[tools.seven] no lock pylock.none.toml: there is no such file (packer lock --workspace tools.toml writes one)",
    ]
    assert two.left() == before


def test_one_failure_does_not_lose_the_others(two: Place) -> None:
    text = '[tools.three]\nrequirements = ["three"]\n[tools.four]\nrequirements = ["four"]\n'
    tools(two, TWO + text)
    ended = two.run("fat", "--workspace", "--json", env={"PIP_CONFIG_FILE": "/dev/null"})
    assert ended.status == 1
    missing = {
        name: f"{CP311}: no file fits {name}: no index or directory has a distribution called {name}"
        for name in ("three", "four")
    }
    assert ended.stderr.splitlines() == [
        f"packer: three: {missing['three']}", f"packer: four: {missing['four']}",
        "packer: 2 of 4 were not packed: three, four",
    ]  # fmt: skip
    told = json.loads(ended.stdout)
    assert [(one["name"], one["error"], one["archive"] is None) for one in told["tools"]] == [
        ("one", None, False), ("two", None, False), ("three", missing["three"], True), ("four", missing["four"], True),
    ]  # fmt: skip
    assert told["tools"][0]["archive"] == json.loads(two.packed("inspect", "one", "--json").stdout)
    assert (told["version"], told["workspace"], told["problems"]) == (1, "tools.toml", [])
    assert told["shared"]["slices"][0]["archives"] == 2
    assert ran(two, "two") == (0, "two\n", "")


def test_some_are_named(two: Place) -> None:
    assert two.packed("fat", "--workspace", "two", "--label", "a=c").stdout.startswith("two: ")
    assert not (two.work / "one").exists()
    assert inspect.describe(two.work / "two")["manifest"]["labels"] == {"a": "c"}
    (two.work / "two").rename(two.work / "before")
    two.packed("fat", "--workspace", "two")
    told = two.packed("diff", "--contents", "before", "two").stdout
    assert told.splitlines()[1:] == ["  label a c -> b"]
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


@pytest.fixture
def pair(place: Place) -> Place:
    """Tools with another library each."""
    goods = place.work / "goods"
    goods.mkdir()
    files: dict[str, bytes] = {}
    for name, soname in (("one", "libx.so.1"), ("two", "libx.so.2")):
        files = {"p.libs/libx.so.1": elf(soname=soname)}
        index.wheel(goods, f"p-{name}", tag="py3-none-manylinux_2_17_x86_64", files=files)
        source = {f"{name}.py": f"import sys\ndef main(): print('{name}', *sys.argv[1:])\n"}
        index.wheel(goods, name, files=source, scripts=[f"{name}={name}:main"], requires=[f"p-{name}"])
    settings = SETTINGS.replace("no-index", 'find-links = ["goods"]\nno-index')
    text = "".join(f'[tools.{name}]\nrequirements = ["{name}"]\n' for name in ("one", "two"))
    (place.work / "tools.toml").write_text(f'lock = "pylock.toml"\n{settings}\n{text}')
    return place


def test_one_lock_is_for_all_and_each_gets_its_part_of_it(pair: Place) -> None:
    names = ["one", "p-one", "p-two", "two"]
    said = json.loads(pair.packed("lock", "--workspace", "work/tools.toml", "--json", cwd=pair.root).stdout)
    assert [one["name"] for one in said["packages"]] == names
    digest = lock.digest(pair.work / "pylock.toml")
    pair.packed("fat", "--workspace", "-q")
    for name in ("one", "two"):
        manifest = inspect.describe(pair.work / name)["manifest"]
        assert manifest["lock"] == digest
        assert {wheel["name"] for wheel in manifest["slices"][0]["distributions"]} == {name, f"p-{name}"}
        assert ran(pair, name, "a") == (0, f"{name} a\n", "")
    assert pair.run("lock", "x", "--workspace").whole == (
        2, "", "packer: --workspace and requirements: the file says what is locked\npacker: hint: write them into it\n"
    )  # fmt: skip


def test_libraries_are_what_was_pinned_or_nothing_is_written(pair: Place) -> None:
    text = (pair.work / "tools.toml").read_text().replace('lock = "pylock.toml"\n', "")
    (pair.work / "tools.toml").write_text(f'{text}[libraries]\n"p.libs/*" = "same"\nliby = "2"\n')
    ended = pair.run("fat", "--workspace", "--json")
    told = json.loads(ended.stdout)
    (problem,) = told["problems"]
    assert problem.startswith("p.libs/*: the same everywhere is wanted, found of p.libs/libx.so.1 ")
    slices = [f"{name} cp311-manylinux_2_17_x86_64" for name in ("one", "two")]
    assert f"p_one-1.0 ({slices[0]})" in problem
    assert f"p_two-1.0 ({slices[1]})" in problem
    assert (ended.status, told["unmatched"]) == (1, ["liby"])
    assert ended.stderr.splitlines() == [
        "packer: warning: tools.toml: liby: there is no such library in any of them", f"packer: {problem}",
        "packer: no archive was written: together they are not what [libraries] asks for",
        ("packer: hint: ask for releases whose wheels bring what is wanted (NAME==VERSION in requirements; packer lock "
        "--workspace), or allow more in [libraries]"),
        "packer: 2 of 2 were not packed: one, two",
    ]  # fmt: skip
    assert not any((pair.work / name).exists() for name in ("one", "two"))
    # one that is wrong by itself hinders no other
    (pair.work / "tools.toml").write_text(f'{text}[libraries]\n"libx.so.1" = "1.*"\n')
    ended = pair.run("fat", "--workspace", "-q")
    assert (ended.status, ended.stdout) == (1, "")
    first, hint, last = ended.stderr.splitlines()
    assert first.startswith(
        "packer: one: libx.so.1: 1.* is wanted, found an unknown version in p.libs/libx.so.1 of p_one"
    )
    assert hint.startswith("packer: one: hint: ask for releases whose wheels bring what is wanted")
    assert last == "packer: 1 of 2 were not packed: one"
    assert not (pair.work / "one").exists()
    assert ran(pair, "two") == (0, "two\n", "")


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
