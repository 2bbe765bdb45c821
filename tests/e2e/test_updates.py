"""``packer diff`` and ``packer patch``: a program that is there becomes the next one, from a small file."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from support import index
from support.packing import ROOT, Place, run_program

from packer import inspect

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A place with two archives of one project, whose source differs in a line, and the patch."""
    place = Place(tmp_path_factory.mktemp("patched"))
    lines = "".join(f"def f{number}(x):\n    return x + {number}\n" for number in range(2000))
    for name, word in (("old", "hello"), ("new", "good-bye")):
        source = f"{lines}\ndef main():\n    print({word!r})\n"
        index.wheel(place.work, "app", files={"app.py": source}, scripts=["app=app:main"])
        place.packed(
            "fat", "app-1.0-py3-none-any.whl", "--abis", "manylinux2014,cp39,cp310,cp311,cp312,cp313", "--no-index",
            "-c", "app", "-o", name, env={"PIP_CONFIG_FILE": "/dev/null"},
        )  # fmt: skip
    place.packed("diff", "old", "new", "-o", "patch")
    return place


def test_the_patched_program_is_the_new_one_and_runs(programs: Place, tmp_path: Path) -> None:
    size = (programs.work / "new").stat().st_size
    assert programs.run("patch", "old", "patch", "-o", tmp_path / "out").whole == (
        0, f"{tmp_path / 'out'}: {size:,} bytes, archive {inspect.describe(programs.work / 'new')['id']}\n", "",
    )  # fmt: skip
    assert (tmp_path / "out").read_bytes() == (programs.work / "new").read_bytes()
    assert (tmp_path / "out").stat().st_mode == (programs.work / "new").stat().st_mode
    for path in (programs.work / "new", tmp_path / "out"):
        done = run_program(path, "x", store=tmp_path / "store")
        assert (done.returncode, done.stdout, done.stderr) == (0, "good-bye\n", "")


def test_what_diff_prints(programs: Place, tmp_path: Path) -> None:
    old, new, output = programs.work / "old", programs.work / "new", tmp_path / "patch"
    size, new_size = (programs.work / "patch").stat().st_size, new.stat().st_size
    said = f"{output}: {size:,} bytes for new, {new_size:,} bytes\n"
    assert programs.run("diff", "old", "new", "-o", output).whole == (0, said, "")
    assert programs.run("diff", "old", "new", "-o", output, "-q").whole == (0, "", "")
    printed = json.loads(programs.packed("diff", "old", "new", "-o", output, "--json").stdout)
    text = (ROOT / "docs" / "json.md").read_text("utf-8").split("\n## diff\n")[1].partition("\n## ")[0]
    assert set(printed) == set(re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE))
    assert output.read_bytes() == (programs.work / "patch").read_bytes()
    assert printed["size"] == size < 2500
    assert printed["copied"] + printed["literal"] + printed["recompressed"] == printed["new_size"] == new_size
    assert (printed["old_id"], printed["old_size"]) == (inspect.describe(old)["id"], old.stat().st_size)


def test_what_patch_prints(programs: Place, tmp_path: Path) -> None:
    new, output = programs.work / "new", tmp_path / "made"
    printed = json.loads(programs.packed("patch", "old", "patch", "-o", output, "--json").stdout)
    text = (ROOT / "docs" / "json.md").read_text("utf-8").split("\n## patch\n")[1].partition("\n## ")[0]
    assert set(printed) == set(re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE))
    described = inspect.describe(new)
    assert printed == {"version": 1, "file": str(output), "size": described["size"], "id": described["id"]}


def test_mistakes(programs: Place) -> None:
    before = programs.left()
    ids = {name: inspect.describe(programs.work / name)["id"] for name in ("old", "new")}
    wrong, hint = "is not the file this patch was made for", "it is what the patch makes already"
    for words, status, said in (
        (
            ("patch", "new", "patch", "-o", "out"), 1,
            f"packer: new {wrong}: it needs archive {ids['old']}, this is {ids['new']}\npacker: hint: {hint}\n",
        ),
        (("patch", "old", "new", "-o", "out"), 1, "packer: new: not a fatpar patch: it does not begin as one\n"),
        (
            ("diff", "old", "patch", "-o", "out"), 1,
            "packer: patch: not a fatpar archive: it does not end in a trailer\n",
        ),
        (("patch", "none", "patch", "-o", "out"), 1, "packer: cannot read none: No such file or directory\n"),
        (("patch", "old", "none", "-o", "out"), 1, "packer: cannot read none: No such file or directory\n"),
        (
            ("patch", "old", "patch", "-o", "old"), 2,
            "packer: old is both what is read and where it would be written\n",
        ),
        (
            ("diff", "old", "new", "-o", "no/out"), 1,
            "packer: cannot write no/out: No such file or directory\npacker: hint: name another file with -o\n",
        ),
    ):  # fmt: skip
        assert programs.run(*words).whole == (status, "", said)
    assert programs.run("patch", "old", "patch").status == 2
    assert programs.left() == before
