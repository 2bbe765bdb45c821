"""packer/develop.py: a program is kept until something that it is made of changes, whoever packs it meanwhile."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from support import index

from packer import develop, pack, resolve, worktree
from packer.config import Config
from packer.job import job_of
from packer.progress import Quiet
from packer.requests import Requests
from packer.targets import running_target

if TYPE_CHECKING:
    from collections.abc import Callable

    from packer.pack import Job

LOCK = """\
lock-version = "1.0"
created-by = "test"

[[packages]]
name = "locked"
directory = {path = "locked"}
"""

CONFIG = Config(
    inputs=("./project", "script.py"), requirement=(Path("need/all.txt"),), constraint=(Path("below.txt"),),
    include=("data:data", "notes:notes.txt"), profile=Path("profile.json"), find_links=("shelf",),
)  # fmt: skip
LOCKED = Config(inputs=("./project",), lock=Path("pylock.toml"))


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Something of everything that a program can be made of, in the working directory."""
    index.forget_pip_configuration(monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    work = tmp_path / "work"
    files = {
        "script.py": "", "need/all.txt": "-r more.txt  # and\n--constraint=\\\nbelow.txt\n", "below.txt": "",
        "need/more.txt": "-r all.txt\n./listed[extra] ; python_version > '3'\napp @ file://{work}/addressed\n",
        "need/below.txt": "", "data/build/a.txt": "", "data/__pycache__/b.txt": "", "shelf/a-1.0.tar.gz": "",
        "notes": "",
        "profile.json": json.dumps({"version": 1, "abis": {}}), "outside/file": "", "outside/directory/file": "",
        "pylock.toml": LOCK,
    }  # fmt: skip
    for name, text in files.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(text.replace("{work}", str(work)))
    for name in ("project", "listed", "addressed", "locked"):
        index.project(work / name, name)
    (work / "project/file").symlink_to("../outside/file")
    (work / "project/directory").symlink_to(work / "outside/directory")
    monkeypatch.chdir(work)
    return work


def job(config: Config) -> Job:
    return develop.job_for(job_of(config, 60)[0], running_target())


def packing(monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], object] = lambda: None, *others: Path) -> None:
    """Write a few words in the place of a program.

    :param meanwhile: what somebody else does before it is put into its place.
    :param others: projects that are built although nobody named them.
    """

    def packed(job: Job, progress: object) -> SimpleNamespace:
        assert job.output
        job.output.write_text("packed")
        directories = {path: worktree.digest(path) for path in others}
        meanwhile()
        written = SimpleNamespace(path=job.output)
        return SimpleNamespace(tools=(SimpleNamespace(name="tool"),), written=written, directories=directories)

    monkeypatch.setattr(pack, "pack", packed)


def put(config: Config) -> Path:
    return develop.pack(job(config), config, Quiet())


@pytest.mark.parametrize(
    "changed",
    [
        *("project/backend.py", "script.py", "need/all.txt", "need/more.txt", "need/below.txt", "below.txt", "notes"),
        *("listed/backend.py", "addressed/backend.py", "data/build/a.txt", "shelf/a-1.0.tar.gz", "profile.json"),
        *("outside/file", "outside/directory/file"),
    ],
)
def test_every_file_counts(work: Path, changed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    packing(monkeypatch)
    program = put(CONFIG)
    assert develop.kept(job(CONFIG), CONFIG) == program
    before = (work / changed).read_text()
    (work / changed).write_text(before + "\n")
    assert develop.kept(job(CONFIG), CONFIG) is None
    (work / changed).write_text(before)
    assert develop.kept(job(CONFIG), CONFIG) == program


@pytest.mark.parametrize("changed", ["pylock.toml", "locked/backend.py"])
def test_so_does_what_is_locked(work: Path, changed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    packing(monkeypatch)
    program = put(LOCKED)
    assert develop.kept(job(LOCKED), LOCKED) == program
    (work / changed).write_text((work / changed).read_text() + "\n")
    assert develop.kept(job(LOCKED), LOCKED) is None


def test_so_does_what_builds_see_and_nothing_else_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    packing(monkeypatch)
    program = put(CONFIG)
    monkeypatch.setenv("GITHUB_RUN_ID", "17")
    assert develop.kept(job(CONFIG), CONFIG) == program
    monkeypatch.setenv("APP_FLAVOUR", "sweet")
    assert develop.kept(job(CONFIG), CONFIG) is None


def test_so_does_a_project_that_a_project_needs(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = index.project(tmp_path / "helper", "helper")

    def change() -> None:
        (helper / "new.txt").write_text("1")

    packing(monkeypatch, lambda: None, work / "project", helper)
    program = put(CONFIG)
    assert develop.kept(job(CONFIG), CONFIG) == program
    change()
    assert develop.kept(job(CONFIG), CONFIG) is None
    (helper / "new.txt").unlink()
    packing(monkeypatch, change, work / "project", helper)
    assert put(CONFIG) == program
    assert develop.kept(job(CONFIG), CONFIG) is None  # of what it was before
    (helper / "new.txt").unlink()
    assert develop.kept(job(CONFIG), CONFIG) == program


def test_what_is_resolved_tells_which_projects_were_built(tmp_path: Path) -> None:
    helper = index.project(tmp_path / "helper", "helper")
    app = index.project(tmp_path / "app", "app", requires=[f"helper @ file://{helper}"])
    (found,) = resolve.resolve(
        Requests((str(app),), no_index=True), [running_target()], cache=tmp_path / "cache", progress=lambda _: None
    )
    assert dict(found.directories) == {path: worktree.digest(path) for path in (app, helper)}


def test_somebody_else_packs_the_same_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    def other() -> None:
        packing(monkeypatch)
        assert put(CONFIG).read_text() == "packed"

    packing(monkeypatch, other)
    program = put(CONFIG)
    assert program.read_text() == "packed"
    assert list(program.parent.iterdir()) == [program]
    assert develop.kept(job(CONFIG), CONFIG) == program
