"""packer/moment.py: what an archive says of the moment it was packed in, and what it must not say."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import index
from support.hosts import give_up

import packer
from packer import inspect, job, moment, native, pack, progress
from packer.config import Config
from packer.errors import UsageError
from packer.moment import Revision

if TYPE_CHECKING:
    from collections.abc import Mapping

ZSTD = {"zstd": native.text(native.lib().archivezstd())}


# Labels -----------------------------------------------------------------------------------------------------------


def test_labels_are_read() -> None:
    assert moment.labels(["a=1", "org.example/x-y_z=b c=\u00fc"]) == {"a": "1", "org.example/x-y_z": "b c=\u00fc"}
    assert moment.labels([]) == {}
    assert moment.labels([f"{'a' * 128}={'b' * 1024}"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a"], "not a label: 'a': write NAME=TEXT"),
        (["=x"], "not a label: '=x': write NAME=TEXT"),
        ([".a=x"], "not a label: '.a=x': write NAME=TEXT"),
        (["a b=x"], "not a label: 'a b=x': write NAME=TEXT"),
        (["\u00fc=x"], "not a label: '\u00fc=x': write NAME=TEXT"),
        ([f"{'a' * 129}=x"], f"not a label: '{'a' * 129}=x': write NAME=TEXT"),
        (["a=1", "a=2"], "two labels are called 'a'"),
        (["a="], "label a: its text must be one line of at most 1024 bytes that can be shown"),
        (["a=x\ny"], "label a: its text must be one line of at most 1024 bytes that can be shown"),
        (["a=\x1b[31m"], "label a: its text must be one line of at most 1024 bytes that can be shown"),
        (["a=\udcff"], "label a: its text must be one line of at most 1024 bytes that can be shown"),
        (["a=" + "\u00fc" * 513], "label a: its text must be one line of at most 1024 bytes that can be shown"),
        ([f"a{n}={'x' * 1000}" for n in range(40)], "labels: together they are longer than 32768 bytes"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else None,
)  # fmt: skip
def test_labels_that_make_no_sense(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        moment.labels(words)
    assert str(caught.value) == message


# SOURCE_DATE_EPOCH ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "value"), [("", None), ("0", 0), ("1700000000", 1700000000)])
def test_the_epoch(text: str, value: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
    assert moment.epoch() == value


@pytest.mark.parametrize("text", ["now", "-1", "1.5", "\u0663", "1" * 13])
def test_an_epoch_that_is_none(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
    with pytest.raises(UsageError, match=r"SOURCE_DATE_EPOCH is '.*', not a number of seconds since 1970"):
        moment.epoch()


# Revisions --------------------------------------------------------------------------------------------------------


def git(directory: Path, *words: str) -> str:
    """Let the real one work, with nobody's settings."""
    if not shutil.which("git"):
        give_up("git is not installed")
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"}
    who = ("-c", "user.name=x", "-c", "user.email=x@example.com")
    command = ["git", *who, "-C", str(directory), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a project in it."""
    root = tmp_path / "repository"
    (root / "project").mkdir(parents=True)
    (root / "project/app.py").write_text("1")
    (root / "shared.py").write_text("1")
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "x")
    return root


def test_a_revision_without_changes(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = Revision(git(repository, "rev-parse", "HEAD"), False), ""
    for path in (repository, repository / "project", repository / "project/app.py"):
        assert moment.revision(path, []) == expected
    monkeypatch.setenv("GIT_DIR", "/nonexistent")  # as in a hook
    monkeypatch.chdir(repository / "project")
    assert moment.revision(Path(), []) == moment.revision(Path("app.py"), []) == expected


def modified(repository: Path, *outputs: Path) -> bool:
    revision, unknown = moment.revision(repository / "project", outputs)
    assert revision is not None
    assert unknown == ""
    return revision.modified


@pytest.mark.parametrize("name", ["project/app.py", "shared.py", "project/new.py", "new/deep/new.py"])
def test_changes_of_the_repository_are_seen(name: str, repository: Path) -> None:
    (repository / name).parent.mkdir(parents=True, exist_ok=True)
    (repository / name).write_text("2")
    assert modified(repository)
    assert modified(repository, Path("/elsewhere/tool"))


def test_staged_is_changed_ignored_is_not(repository: Path) -> None:
    (repository / ".git/info/exclude").write_text("build/\n")
    (repository / "build").mkdir()
    (repository / "build/x").write_text("1")
    assert not modified(repository)
    (repository / "shared.py").write_text("2")
    git(repository, "add", "shared.py")
    assert modified(repository)


@pytest.mark.parametrize("name", ["tool", "dist/tool", "dist/a[b]*", "a\\b", ":(top)x"])
def test_what_packing_writes_is_no_change(name: str, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or else the second archive would not be the first."""
    output = repository / name
    output.parent.mkdir(exist_ok=True)
    for path in (output, output.with_name(f".{output.name}.tmp-abcdefgh")):
        path.write_text("1")
    assert modified(repository)
    assert not modified(repository, output)
    monkeypatch.chdir(repository)
    assert not modified(repository, Path(name), Path("/elsewhere/tool"))
    output.with_name("b").write_text("1")
    assert modified(repository, output)


def test_a_directory_that_a_repository_does_not_keep(repository: Path) -> None:
    """As one in a home directory that somebody keeps versions of."""
    (repository / "scratch").mkdir()
    (repository / "scratch/script.py").write_text("1")
    for path in ("scratch", "scratch/script.py"):
        assert moment.revision(repository / path, []) == (None, "")


def test_no_repository_no_commit_no_git(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert moment.revision(tmp_path, []) == (None, "")
    (tmp_path / "new").mkdir()
    git(tmp_path / "new", "init", "-q")
    assert moment.revision(tmp_path / "new", []) == (None, "")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert moment.revision(repository, []) == (None, "")


def test_a_repository_that_is_broken_is_told(repository: Path) -> None:
    (repository / ".git/config").write_text("[")
    revision, unknown = moment.revision(repository, [])
    assert revision is None
    assert unknown.startswith(f"no revision of {repository} is stated: fatal: bad config line ")


# What is stated ---------------------------------------------------------------------------------------------------


def test_what_there_is_is_stated() -> None:
    whole = moment.said("ab" * 32, 5, Revision("c" * 40, True), {"b": "2", "a": "1"})
    assert whole == {
        "packer": packer.__version__, "launcher": ZSTD, "lock": "ab" * 32, "source_date_epoch": 5,
        "revision": {"system": "git", "id": "c" * 40, "modified": True}, "labels": {"a": "1", "b": "2"},
    }  # fmt: skip
    assert moment.lines(whole) == [
        f"packer: {packer.__version__}", f"lock: {'ab' * 32}", "source_date_epoch: 5",
        f"revision: {'c' * 40} with changes", "label a: 1", "label b: 2",
    ]  # fmt: skip
    assert moment.said("", None, None, {}) == {"packer": packer.__version__, "launcher": ZSTD}
    assert moment.said("", 0, None, {})["source_date_epoch"] == 0


@pytest.mark.parametrize(
    "manifest",
    [
        {}, {"packer": None, "lock": [], "source_date_epoch": True, "revision": "x", "labels": "x"},
        {"revision": {"modified": True}, "labels": {"x": {"y": 1}}}, {"revision": {"id": {}}, "labels": [1]},
    ],
)  # fmt: skip
def test_a_manifest_that_makes_no_sense_says_nothing(manifest: Mapping[str, Any]) -> None:
    assert moment.lines(manifest) == []


# Packed -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def script(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In the repository, which is the working directory."""
    index.forget_pip_configuration(monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(repository)
    return Path("project/app.py")


def packed(config: Config, **more: Any) -> Mapping[str, Any]:
    made = pack.pack(job.job_of(config, 60, **more)[0], progress.Quiet())
    manifest = inspect.describe(made.written.path)["manifest"]
    return {key: manifest[key] for key in ("revision", "labels", "source_date_epoch") if key in manifest}


def test_an_archive_states_it_and_is_the_same_again(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    config = Config(inputs=(str(script),), abis="manylinux2014,cp311", label=("team=x",))
    first = packed(config)
    assert first == {
        "revision": {"system": "git", "id": git(Path(), "rev-parse", "HEAD"), "modified": False},
        "labels": {"team": "x"}, "source_date_epoch": 1700000000,
    }  # fmt: skip
    before = Path("app").read_bytes()
    assert packed(config) == first
    assert Path("app").read_bytes() == before
    script.write_text("2")
    assert packed(config)["revision"]["modified"] is True


def test_where_no_project_is_packed_the_file_that_says_what_is_counts(script: Path, tmp_path: Path) -> None:
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    index.wheel(shelf, "other", scripts=["other=other:main"], files={"other.py": "def main(): 1"})
    config = Config(inputs=("other",), abis="manylinux2014,cp311", no_index=True, find_links=(str(shelf),))
    assert packed(config) == {}
    Path("noted").write_text("by others")
    assert packed(config, home=Path("project"), beside=[Path("noted"), Path("other")])["revision"]["modified"] is False
