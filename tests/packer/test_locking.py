"""packer/locking.py: what is chosen for all slices goes into one lock, and stays until it is upgraded."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from support import index

from packer import facts, lock, locking
from packer.errors import PackError, UsageError
from packer.job import moment
from packer.model import Platform, Target
from packer.requests import Requests

if TYPE_CHECKING:
    from pathlib import Path

    from packer.lock import Lock


def target(tag: str, version: tuple[int, int] = (2, 17), libc: str = "glibc", arch: str = "x86_64") -> Target:
    return Target(facts.pythons()[tag].abi, Platform(libc, version, arch))


CP39, CP311 = target("cp39"), target("cp311")
OLD_ARM = 'python_version == "3.9" and platform_machine == "aarch64"'
NEW_X86 = 'python_version == "3.11" and platform_machine == "x86_64"'


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    index.forget_pip_configuration(monkeypatch)


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    (tmp_path / "shelf").mkdir()
    return tmp_path / "shelf"


def make(shelf: Path, *words: str, targets: tuple[Target, ...] = (CP311,), **more: Any) -> tuple[Lock, tuple[str, ...]]:
    """Lock from a directory."""
    requests = more.pop("requests", Requests(words, find_links=(str(shelf),), no_index=True))
    wanted = locking.Wanted(requests, targets, shelf.parent / "pylock.toml", **more)
    return locking.make(wanted, cache=shelf.parent / "cache", progress=lambda _: None)


def versions(made: Lock) -> list[str]:
    return [f"{one.name} {one.version} {one.marker or ''}".rstrip() for one in made.content.packages]


def test_markers_say_which_slice_gets_what(shelf: Path) -> None:
    index.wheel(shelf, "app", requires=["old; python_version < '3.10'", "arm; platform_machine == 'aarch64'", "two"])
    for name in ("old", "arm"):
        index.wheel(shelf, name)
    index.wheel(shelf, "two", "1.0")
    index.wheel(shelf, "two", "2.0", requires_python=">=3.10")
    targets = (CP311, CP39, target("cp39", arch="aarch64"), target("cp311", arch="aarch64"))
    made, notes = make(shelf, "app", targets=targets)
    assert versions(made) == [
        "app 1.0", 'arm 1.0 platform_machine == "aarch64"', 'old 1.0 python_version == "3.9"',
        'two 1.0 python_version == "3.9"', 'two 2.0 python_version == "3.11"',
    ]  # fmt: skip
    assert not notes
    assert made.texts("slices") == tuple(one.name for one in targets)
    assert made.texts("requested") == ("app",)
    assert [str(one) for one in lock.pick(made, targets[2])] == ["app 1.0", "arm 1.0", "old 1.0", "two 1.0"]
    with pytest.raises(PackError, match=r"cp310-.* was not made for it"):
        lock.pick(made, target("cp310"))


@pytest.mark.parametrize(
    ("keys", "marker"),
    [
        ("39x 39a 311x 311a", "None"),
        ("39x 39a", 'python_version == "3.9"'),
        ("39a 311a", 'platform_machine == "aarch64"'),
        ("39a", OLD_ARM),
        ("39a 311x", f"{OLD_ARM} or {NEW_X86}"),
    ],
)
def test_a_marker_says_no_more_than_it_has_to(keys: str, marker: str) -> None:
    archs = {"x": "x86_64", "a": "aarch64"}
    every = {word: ((3, int(word[1:-1])), archs[word[-1]]) for word in ("39x", "39a", "311x", "311a")}
    assert str(locking._marker({every[word] for word in keys.split()}, every.values())) == marker


def test_slices_that_markers_cannot_tell_apart_get_the_older_version(shelf: Path) -> None:
    index.wheel(shelf, "app", "1.0", tag="cp311-cp311-manylinux_2_17_x86_64")
    index.wheel(shelf, "app", "2.0", tag="cp311-cp311-manylinux_2_28_x86_64", requires=["more"])
    index.wheel(shelf, "more")
    made, notes = make(shelf, "app", targets=(target("cp311", (2, 28)), CP311))
    assert versions(made) == ["app 1.0"]
    slices = "cp311-manylinux_2_28_x86_64 and cp311-manylinux_2_17_x86_64"
    assert notes == (f"app is 1.0 for {slices} alike: a lock cannot tell them apart",)


def test_slices_that_need_what_no_lock_can_say_are_refused(shelf: Path) -> None:
    index.wheel(shelf, "app", "1.0", tag="cp311-cp311-manylinux_2_17_x86_64")
    index.wheel(shelf, "app", "2.0", tag="cp311-cp311-musllinux_1_2_x86_64")
    with pytest.raises(PackError, match=r"no marker .* can tell these slices apart.*: app 1\.0") as caught:
        make(shelf, "app", targets=(CP311, target("cp311", (1, 2), "musl")))
    assert "musllinux" in str(caught.value)
    assert "pylock.NAME.toml" in caught.value.hint


def test_files_are_those_that_a_slice_takes(shelf: Path) -> None:
    """All wheels of the version for any of the slices, from an index with sizes and times, and the source."""
    for tag in ("cp39-cp39-manylinux_2_17_x86_64", "cp311-cp311-manylinux_2_17_x86_64", "py3-none-any"):
        index.wheel(shelf, "app", tag=tag, requires_python=">=3.9")
    index.wheel(shelf, "app", tag="cp311-cp311-win_amd64")
    index.wheel(shelf, "app", tag="cp313-cp313-manylinux_2_17_x86_64")
    index.sdist(shelf, index.project(shelf.parent / "app", "app"), "app")
    about = {"app-1.0-py3-none-any.whl": {"upload-time": "2024-03-01T10:11:12.5Z"}}
    with index.serve(shelf, about) as (url, _):
        secret = url.replace("http://", "http://user:secret@")
        made, _ = make(shelf, requests=Requests(("app",), index_url=secret), targets=(CP39, CP311))
        (package,) = made.content.packages
        assert package.index == f"{url}/"
        files = url.removesuffix("/simple") + "/files"
        assert [one.url for one in package.wheels or ()] == [
            f"{files}/app-1.0-{tag}.whl"
            for tag in ("cp311-cp311-manylinux_2_17_x86_64", "cp39-cp39-manylinux_2_17_x86_64", "py3-none-any")
        ]
        assert package.sdist is not None
        assert package.sdist.url == f"{files}/app-1.0.tar.gz"
    every = [(one.filename, one.size, one.hashes) for one in package.wheels or ()]
    for name, size, hashes in (*every, (package.sdist.filename, package.sdist.size, package.sdist.hashes)):
        path = shelf / name
        assert (size, hashes) == (path.stat().st_size, {"sha256": lock.digest(path)})
    times = [str(one.upload_time) for one in package.wheels or () if one.upload_time]
    assert times == ["2024-03-01 10:11:12.500000+00:00"]
    assert str(package.requires_python) == ">=3.9"
    assert "secret" not in lock.text(made.content)
    lock.write(made)
    assert lock.text(lock.read(made.path).content) == lock.text(made.content)


def test_what_comes_from_directories_is_named_by_its_path(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index.wheel(shelf, "one")
    index.wheel(shelf.parent, "two")
    index.project(shelf.parent / "project", "program", requires=["one"])
    monkeypatch.chdir(shelf.parent)
    made, _ = make(shelf, "./project", "./two-1.0-py3-none-any.whl")
    one, program, two = made.content.packages
    assert [file.path for file in one.wheels or ()] == ["shelf/one-1.0-py3-none-any.whl"]
    assert program.directory is not None
    assert (program.directory.path, program.version) == ("project", None)
    assert two.archive is not None
    assert two.archive.path == "two-1.0-py3-none-any.whl"
    assert [one.directory for one in lock.pick(made, CP311)] == [None, shelf.parent / "project", None]
    assert made.texts("requested") == ("program", "two")


# Again ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def once(shelf: Path) -> Lock:
    """A lock; all of it has a newer release since."""
    index.wheel(shelf, "app", "2.0", requires=["two>=2", "three"])
    for name in ("two", "three"):
        index.wheel(shelf, name, "2.0")
    return lock_of(
        shelf,
        index.wheel(shelf, "app", "1.0", requires=["two", "three"]),
        *(index.wheel(shelf, name, "1.0") for name in ("three", "two")),
    )


def lock_of(shelf: Path, *wheels: Path) -> Lock:
    """Write a lock as :func:`make` would."""
    lines = [
        'lock-version = "1.0"', 'created-by = "fatpar"', "[tool.packer]", f'slices = ["{CP311.name}"]',
        'requested = ["app"]',
    ]  # fmt: skip
    for one in wheels:
        name, version, _ = one.name.split("-", 2)
        file = f'{{path = "shelf/{one.name}", size = {one.stat().st_size}, name = "{one.name}", '
        hashes = f'hashes = {{sha256 = "{lock.digest(one)}"}}}}'
        lines += ["[[packages]]", f'name = "{name}"', f'version = "{version}"', f"wheels = [{file}{hashes}]"]
    path = shelf.parent / "pylock.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return lock.read(path)


@pytest.mark.parametrize(
    ("upgrade", "expected"),
    [
        ([], ["app 1.0", "three 1.0", "two 1.0"]),
        (["Three"], ["app 1.0", "three 2.0", "two 1.0"]),
        (["app"], ["app 2.0", "three 1.0", "two 2.0"]),  # it needs a newer one
        (None, ["app 2.0", "three 2.0", "two 2.0"]),
    ],
    ids=["none", "one", "with-what-it-needs", "all"],
)
def test_versions_are_kept_unless_they_are_upgraded(
    shelf: Path, once: Lock, upgrade: list[str] | None, expected: list[str]
) -> None:
    names = None if upgrade is None else locking.refuse_unknown(once, once.path, upgrade)
    made, _ = make(shelf, "app", old=once, upgrade=names)
    assert versions(made) == expected
    found = lock.changes(once, made)
    assert found.changed == {
        name: (["1.0"], ["2.0"]) for name, version, *_ in map(str.split, expected) if version == "2.0"
    }


def test_another_slice_gets_what_the_others_have(shelf: Path, once: Lock) -> None:
    made, _ = make(shelf, "app", old=once, targets=(CP311, CP39))
    assert versions(made) == ["app 1.0", "three 1.0", "two 1.0"]
    assert lock.changes(once, made) == lock.Changes({}, {}, {}, [])
    made, _ = make(shelf, "three", "app>=2", old=once)  # a requirement counts for more
    assert versions(made) == ["app 2.0", "three 1.0", "two 2.0"]
    found = lock.changes(once, replace(made, content=replace(made.content, packages=made.content.packages[:1])))
    assert found == lock.Changes({}, {"three": ["1.0"], "two": ["1.0"]}, {"app": (["1.0"], ["2.0"])}, [])


def test_only_what_is_locked_can_be_upgraded(once: Lock) -> None:
    with pytest.raises(UsageError, match=r"--upgrade tow: .* has none") as caught:
        locking.refuse_unknown(once, once.path, ["tow"])
    assert "app, three, two" in caught.value.hint
    with pytest.raises(UsageError, match="there is no lock"):
        locking.refuse_unknown(None, once.path, ["two"])


def test_a_yanked_version_is_left(shelf: Path) -> None:
    old = index.wheel(shelf, "app", "1.0")
    made = lock_of(shelf, old)
    index.wheel(shelf, "app", "0.9")
    with index.serve(shelf, {old.name: {"yanked": "it eats files"}}) as (url, _):
        again, notes = make(shelf, requests=Requests(("app",), index_url=url), old=made)
        assert (versions(again), notes) == (["app 0.9"], ())
        with pytest.raises(PackError, match=r"app-1\.0-py3-none-any\.whl was yanked: it eats files \(==1\.0 takes it"):
            make(shelf, requests=Requests(("app>=1",), index_url=url), old=made)
        again, notes = make(shelf, requests=Requests(("app==1.0",), index_url=url))
        assert versions(again) == ["app 1.0"]
        assert notes == ("app 1.0 was yanked: it eats files; it is required as it is",)


# As of ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2024-03-01", "2024-03-01T00:00:00+00:00"),
        ("2024-03-01T12:00:00Z", "2024-03-01T12:00:00+00:00"),
        ("2024-03-01T12:00:00+02:00", "2024-03-01T12:00:00+02:00"),
        ("2024-03-01 12:00", "2024-03-01T12:00:00+00:00"),
    ],
)
def test_dates_are_in_utc(text: str, meant: str) -> None:
    assert moment(text) == meant


@pytest.mark.parametrize("text", ["yesterday", "2024-13-01", "P3D", ""])
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a date"):
        moment(text)


def test_an_index_is_as_it_was(shelf: Path) -> None:
    files = [index.wheel(shelf, "app", f"{number}.0") for number in (1, 2, 3)]
    about = {file.name: {"upload-time": f"2024-0{number}-01T00:00:00Z"} for number, file in enumerate(files, 1)}
    with index.serve(shelf, about) as (url, _):
        made, _ = make(shelf, requests=Requests(("app",), index_url=url, as_of=moment("2024-03-01")))
        assert versions(made) == ["app 2.0"]
        assert made.own["as-of"] == "2024-03-01T00:00:00+00:00"
        with pytest.raises(PackError, match=r"no file fits app: app 1\.0 was uploaded later"):
            make(shelf, requests=Requests(("app",), index_url=url, as_of=moment("2023-12-31")))
        nearby = Requests(("app",), index_url=url, find_links=(str(shelf),), as_of=moment("2024-03-01"))
        made, notes = make(shelf, requests=nearby)
        assert versions(made) == ["app 3.0"]
        assert notes == ("--as-of does not count for what comes from directories: app",)
    with (
        index.serve(shelf) as (url, _),
        pytest.raises(PackError, match=r"the index does not tell when app-.* was uploaded, so --as-of cannot be"),
    ):
        make(shelf, requests=Requests(("app",), index_url=url, as_of=moment("2024-03-01")))
