"""``packer profile`` as people use it, and what ``packer fat`` makes of a profile."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest
from support import index
from support.packing import Place

from packer import inspect

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.e2e

TAG = f"cp{sys.version_info[0]}{sys.version_info[1]}"

APP = {
    "app.py": """
import os
import sys


def main():
    print(sys.argv[1:], sys.stdin.isatty(), os.getcwd())
    if sys.argv[1:] == ["--a", "b c"]:
        import used
    return len(sys.argv) > 3
""",
    "used.py": "",
    "unused.py": "",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Where the program is packed, as ``tool``."""
    place = Place(tmp_path_factory.mktemp("profile"))
    shelf = place.root / "shelf"
    shelf.mkdir()
    index.wheel(shelf, "app", scripts=["tool=app:main"], files=APP)
    place.packed("fat", *words(place), "-o", "tool")
    return place


def words(place: Place) -> tuple[str | Path, ...]:
    return (
        "app",
        "--no-index",
        "--find-links",
        place.root / "shelf",
        "-c",
        "tool",
        "--abis",
        f"manylinux2014,{TAG}",
        "--fast",
    )


def test_a_profile_grows_with_each_run_and_decides_what_bytecode_is_packed(made: Place) -> None:
    ended = made.packed("profile", "./tool", "--", "--a", "b")
    assert ended.stdout.startswith(f"['--a', 'b'] False {made.work}\ntool.profile.json: {TAG}: ")
    made.packed("profile", "-q", "./tool", "--run=--a 'b c'", "-o", "tool.profile.json")
    said = json.loads((made.work / "tool.profile.json").read_text())["abis"][TAG]
    assert said["runs"] == ["--a b", "--a 'b c'"]
    own = [one["name"] for one in said["modules"] if one["path"]]
    assert own == ["app", "used"]
    made.packed("fat", *words(made), "--profile", "tool.profile.json", "-o", "small")
    inspect.extract(made.work / "small", made.work / "out")
    assert {path.name.partition(".")[0] for path in (made.work / "out").rglob("*.pyc")} == {"app", "used"}


def test_a_profile_of_another_program_is_told(made: Place) -> None:
    modules = [{"name": "other", "path": "lib/python/site-packages/other.py"}]
    startup = {"python": "3.11.2", "runs": [], "modules": modules}
    (made.work / "other.json").write_text(json.dumps({"version": 1, "abis": {TAG: startup}}))
    ended = made.packed("fat", *words(made), "--profile", "other.json", "-o", "other")
    assert "packer: no module of the profile is packed: is it another program's?\n" in ended.stderr


def test_a_run_that_fails_is_recorded_and_told(made: Place) -> None:
    ended = made.packed("profile", "./tool", "-o", "fails.json", "--", "1", "2", "3")
    assert "packer: tool 1 2 3: it ended with status 1\n" in ended.stderr
    assert (made.work / "fails.json").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["./tool", "--check", "true"], 1, f"packer: {TAG} runs here, which has no lazy imports\n"),
        (["./tool", "--run", "'"], 2, "packer: --run: No closing quotation\n"),
        (["./not-there"], 1, "not-there: No such file or directory\n"),
        (["./tool", "-o", "bad.json"], 1, "packer: bad.json is no profile: "),
    ],
)  # fmt: skip
def test_what_cannot_be_done(made: Place, arguments: list[str], status: int, message: str) -> None:
    (made.work / "bad.json").write_text("[]")
    ended = made.run("profile", *arguments)
    assert (ended.status, ended.stdout) == (status, "")
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr
