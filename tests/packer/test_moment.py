"""packer/moment.py: what an archive says of the moment it was packed in, and what it must not say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import index, repositories
from support.repositories import git

import packer
from packer import inspect, job, moment, native, pack, progress
from packer.config import Config
from packer.errors import UsageError
from packer.revision import Revision

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
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In a repository, which is the working directory."""
    repository = repositories.make(tmp_path / "repository")
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
