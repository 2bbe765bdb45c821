"""packer/lock.py and packer/locked.py: what a target gets of a lock, whoever made it, and what is refused."""

from __future__ import annotations

import shutil
import socket
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.specifiers import SpecifierSet
from support import index, locks

from packer import facts, files, lock, locked
from packer.errors import PackError
from packer.model import Platform, Resolution, Target
from packer.requests import Requests

if TYPE_CHECKING:
    from collections.abc import Iterator


def target(tag: str, version: tuple[int, int] = (2, 17)) -> Target:
    return Target(facts.pythons()[tag].abi, Platform("glibc", version, "x86_64"))


CP39, CP311 = target("cp39"), target("cp311")
DIGEST = "0123456789abcdef" * 4


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    index.forget_pip_configuration(monkeypatch)


def written(tmp_path: Path, packages: str, head: str = "") -> lock.Lock:
    path = tmp_path / "pylock.toml"
    start = 'lock-version = "1.0"\ncreated-by = "hand"\n' if "lock-version" not in head else 'created-by = "hand"\n'
    path.write_text(start + textwrap.dedent(head) + textwrap.dedent(packages), encoding="utf-8")
    return lock.read(path)


def package(source: str, name: str = "one", more: str = "") -> str:
    return f'[[packages]]\nname = "{name}"\nversion = "1.0"\n{more}{source}\n'


def wheel(file: str, digest: str = f'sha256 = "{DIGEST}"', base: str = "https://index.example/files") -> str:
    return f'wheels = [{{url = "{base}/{file}", hashes = {{{digest}}}}}]'


ONE = wheel("one-1.0-py3-none-any.whl")


# Samples -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tool", ["pip", "uv", "pdm"])
def test_locks_of_others_are_read(tmp_path: Path, tool: str) -> None:
    path = tmp_path / "pylock.toml"
    path.write_text(locks.sample(tool, "http://127.0.0.1:1/simple"))
    found = lock.pick(lock.read(path), CP311)
    assert [str(one) for one in found] == ["app 1.0", "four 1.0", "made 1.0", "two 2.0"]
    assert found[3].file == "two-2.0-cp311-cp311-manylinux_2_17_x86_64.whl"
    assert found[2].address == "http://127.0.0.1:1/files/made-1.0.tar.gz"


@pytest.mark.parametrize("tool", ["uv", "pdm"])
def test_markers_of_others_are_judged_for_the_target(tmp_path: Path, tool: str) -> None:
    """Both chose the newest of everything: it has no wheel for 3.9, for which ``three`` is needed."""
    path = tmp_path / "pylock.toml"
    path.write_text(locks.sample(tool, "http://127.0.0.1:1/simple"))
    with pytest.raises(PackError, match=r"cp39-.* has no file of two 2\.0 that fits: it has two-2\.0-cp310-") as caught:
        lock.pick(lock.read(path), CP39)
    assert "whatever wrote" in caught.value.hint
    path.write_text(path.read_text().replace("two-2.0-cp310-cp310-", "two-2.0-cp39-cp39-"))
    assert [one.name for one in lock.pick(lock.read(path), CP39)] == ["app", "four", "made", "three", "two"]


@pytest.mark.parametrize(
    ("said", "file", "right"),
    [
        ("one_more-1.0-py2.py3-none-any.whl", "One.More-1.0-py3.py2-none-any.whl", True),
        ("one-1.0.tar.gz", "One-1.0.tar.gz", True), ("one-1.0.tar.gz", "one-1.0.1.tar.gz", False),
        ("one-1.0-py3-none-any.whl", "two-1.0-py3-none-any.whl", False), ("one-1.0-py3-none-any.whl", "one.whl", False),
        ("one-1.0-py3-none-any.whl", "one-1.0.tar.gz", False),
    ],
)  # fmt: skip
def test_names_of_files_may_be_written_otherwise(said: str, file: str, right: bool) -> None:
    """uv writes them normalised, whatever the index calls them."""
    assert lock._alike(said, file) is right


# What is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("packages", "head", "said"),
    [
        pytest.param(
            package('vcs = {type = "git", url = "https://git.example/one", commit-id = "0"}'), "",
            "one comes from git, which cannot be packed", id="vcs",
        ),
        pytest.param(package('directory = {path = "gone"}'), "", "one is the directory .*gone, which is not", id="dir"),
        pytest.param(
            package(f'archive = {{url = "https://a.example/one.tgz", hashes = {{sha256 = "{DIGEST}"}}}}'), "",
            r"one is one\.tgz, neither a wheel nor a source", id="archive",
        ),
        pytest.param(package(ONE) + package(ONE), "", "has one 1.0 and 1.0 for it: only one can be", id="ambiguous"),
        pytest.param(
            package(f'archive = {{url = "https://a.example/two-1.0.tar.gz", hashes = {{sha256 = "{DIGEST}"}}}}'), "",
            r"one 1\.0 is two-1\.0\.tar\.gz, which is two 1\.0", id="another-archive",
        ),
        pytest.param(
            package(wheel("one-1.0-cp312-abi3-any.whl")), "",
            r"no file of one 1\.0 that fits: it has one-1\.0-cp312-abi3-any\.whl", id="no-file",
        ),
        pytest.param(package(ONE), 'requires-python = ">=3.12"\n', "for Python >=3.12, and this is 3.11", id="python"),
        pytest.param(
            package(ONE), """environments = ["sys_platform == 'win32'"]\n""", "was not made for it", id="environment"
        ),
        pytest.param(
            package(ONE, more='requires-python = "<3"\n'), "", r"one 1\.0 needs Python <3, and", id="package-python"
        ),
        pytest.param(
            package(wheel("one-1.0-py3-none-any.whl", 'md5 = "00"')), "", r"\.whl has no SHA-256, but md5", id="md5"
        ),
        pytest.param(
            package(wheel("one-1.0-py3-none-any.whl", base="git+https://x.example")), "",
            "not an address that can be fetched", id="scheme",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_packed_is_named(tmp_path: Path, packages: str, head: str, said: str) -> None:
    made = written(tmp_path, packages, head)
    with pytest.raises(PackError, match=f"cp311-manylinux_2_17_x86_64: .*{said}") as caught:
        lock.pick(made, CP311)
    assert caught.value.hint
    assert str(made.path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('lock-version = "2.0"\npackages = 3\n', r"its lock-version is 2\.0, and this packer knows 1\.0"),
        ("lock-version = ", "Invalid value"),
        ('lock-version = "1.0"\ncreated-by = "x"\n', "not a lock as PEP 751 has it"),
        ('lock-version = "1.0"\ncreated-by = "x"\n[[packages]]\nname = "one"\nversion = "1.0"\n', "has it: one: "),
    ],
    ids=["newer", "not-toml", "no-packages", "no-source"],
)
def test_what_is_no_lock_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "pylock.toml"
    path.write_text(text)
    with pytest.raises(PackError, match=said) as caught:
        lock.read(path)
    assert str(path) in str(caught.value)
    assert caught.value.hint


def test_a_later_minor_version_is_read_and_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made = written(tmp_path, package(ONE), 'lock-version = "1.7"\n')
    assert [one.name for one in lock.pick(made, CP311)] == ["one"]
    assert "its lock-version is 1.7" in made.notes[0]
    assert capfd.readouterr() == ("", "")


def test_a_lock_is_written_as_it_was_read(tmp_path: Path) -> None:
    path = tmp_path / "pylock.toml"
    path.write_text(locks.sample("pdm", "http://127.0.0.1:1/simple"))
    first = lock.text(lock.read(path).content)
    assert lock.write(lock.read(path))
    assert path.read_text() == first
    assert not lock.write(lock.read(path))
    assert not lock.changes(lock.read(path), lock.read(path)).any


# Files -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[tuple[Path, str, list[str]]]:
    """A served shelf with a lock of it, which uv made, without what has to be built."""
    shelf = locks.fill(tmp_path / "shelf")
    with index.serve(shelf) as (url, asked):
        text = locks.sample("uv", url)
        start = text.index('[[packages]]\nname = "made"')
        (tmp_path / "pylock.toml").write_text(text[:start] + text[text.index("[[packages]]", start + 1) :])
        yield shelf, url, asked


def take(tmp_path: Path, *words: str, targets: tuple[Target, ...] = (CP311,)) -> tuple[Resolution, ...]:
    made = lock.read(tmp_path / "pylock.toml")
    return locked.take(made, Requests(words), targets, cache=tmp_path / "cache", progress=lambda _: None)


def test_only_files_are_fetched_and_each_once(tmp_path: Path, shop: tuple[Path, str, list[str]]) -> None:
    found = take(tmp_path, targets=(CP311, target("cp312"), target("cp311", (2, 28))))
    assert [[wheel.path.name.partition("-py")[0] for wheel in one.wheels] for one in found] == [
        [f"two-2.0-cp{minor}-cp{minor}-manylinux_2_17_x86_64.whl", "four-1.0", "app-1.0"] for minor in (311, 312, 311)
    ]
    assert [[wheel.distribution for wheel in one.wheels if wheel.requested] for one in found] == [["app"]] * 3
    assert sorted(path for path in shop[2] if path.startswith("/files/")) == [
        "/files/app-1.0-py2.py3-none-any.whl", "/files/four-1.0-py3-none-any.whl",
        "/files/two-2.0-cp311-cp311-manylinux_2_17_x86_64.whl", "/files/two-2.0-cp312-cp312-manylinux_2_17_x86_64.whl",
    ]  # fmt: skip
    shop[2].clear()
    shutil.rmtree(shop[0])
    assert take(tmp_path)[0] == found[0]
    assert not shop[2]


def test_what_was_asked_for_is_what_counts(tmp_path: Path, shop: tuple[Path, str, list[str]]) -> None:
    (found,) = take(tmp_path, "App[more]>=1", "two ; python_version < '3'")
    assert [wheel.distribution for wheel in found.wheels if wheel.requested] == ["app"]
    assert {wheel.distribution for wheel in found.wheels} == {"app", "two", "four"}
    (part,) = take(tmp_path, "app")  # as a program of several that share a lock
    assert {wheel.distribution for wheel in part.wheels} == {"app", "two"}
    (part,) = take(tmp_path, "four")
    assert [(wheel.distribution, wheel.requested) for wheel in part.wheels] == [("four", True)]
    with pytest.raises(PackError, match=r"pylock\.toml has no missing") as caught:
        take(tmp_path, "missing>1")
    assert caught.value.hint.startswith("whatever wrote ")
    with pytest.raises(PackError, match=r"has app 1\.0, and you ask for app>=2"):
        take(tmp_path, "app>=2")
    with pytest.raises(PackError, match=r"\./two\.whl: with --lock it is the lock that says"):
        take(tmp_path, "./two.whl")


def test_another_file_than_was_locked_is_refused(tmp_path: Path, shop: tuple[Path, str, list[str]]) -> None:
    name = "two-2.0-cp311-cp311-manylinux_2_17_x86_64.whl"
    index.wheel(shop[0], "two", "2.0", tag="cp311-cp311-manylinux_2_17_x86_64", files={"two.py": "steal()\n"})
    with pytest.raises(PackError, match=rf"two 2\.0: {name} is not the file that was locked") as caught:
        take(tmp_path)
    assert "do not use it before you know why" in caught.value.hint
    assert not list((tmp_path / "cache").rglob(name))


def test_a_file_that_was_yanked_since_is_refused(tmp_path: Path, shop: tuple[Path, str, list[str]]) -> None:
    """Whatever its index says why, unless whoever locked it knew."""
    name = "two-2.0-cp311-cp311-manylinux_2_17_x86_64.whl"
    text = (tmp_path / "pylock.toml").read_text()
    old = shop[1].removesuffix("/simple")
    for reason, said in (("it eats files", ": it eats files"), ("", "")):
        with index.serve(shop[0], {name: {"yanked": reason or True}}) as (url, asked):
            (tmp_path / "pylock.toml").write_text(text.replace(old, url.removesuffix("/simple")))
            with pytest.raises(PackError) as caught:
                take(tmp_path)
            assert str(caught.value) == f"cp311-manylinux_2_17_x86_64: two 2.0: {name} was yanked{said}"
            assert caught.value.hint.startswith(f"whatever wrote {tmp_path}/pylock.toml takes another release")
            assert not [path for path in asked if path.startswith("/files/")]
    with index.serve(shop[0], {name: {"yanked": "as was known"}}) as (url, asked):
        known = f'\n[tool.packer]\nyanked = ["{name}"]\n'
        (tmp_path / "pylock.toml").write_text(text.replace(old, url.removesuffix("/simple")) + known)
        (found,) = take(tmp_path)
        assert not [path for path in asked if path.startswith("/simple/two")]
    assert found.wheels[0].path.name == name
    assert take(tmp_path) == (found,)  # what is at hand is not asked for


def test_a_wheel_of_several_slices_is_read_once(
    tmp_path: Path, shop: tuple[Path, str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = (CP311, target("cp312"), target("cp313"))
    before = take(tmp_path, targets=targets)
    read: list[str] = []

    def counted(path: Path) -> bytes:
        read.append(path.name)
        return files.sha256(path)

    monkeypatch.setattr(locked, "sha256", counted)
    assert take(tmp_path, targets=targets) == before
    assert sorted(read) == sorted(set(read))


def test_a_damaged_file_of_the_cache_is_fetched_again(tmp_path: Path, shop: tuple[Path, str, list[str]]) -> None:
    (before,) = take(tmp_path)
    before.wheels[0].path.write_bytes(b"damaged")
    assert take(tmp_path) == (before,)


def test_a_file_that_is_gone_is_named(tmp_path: Path, shop: tuple[Path, str, list[str]]) -> None:
    name = "two-2.0-cp311-cp311-manylinux_2_17_x86_64.whl"
    (shop[0] / name).unlink()
    with pytest.raises(PackError, match=rf"two 2\.0: {name} is gone: there is nothing at http://127") as caught:
        take(tmp_path)
    assert caught.value.hint.startswith(f"whatever wrote {tmp_path}/pylock.toml takes another release")


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_a_file_of_another_size_is_refused(kind: str, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    if kind == "wheel":
        found = index.wheel(tmp_path / "files", "one")
    else:
        found = index.sdist(tmp_path / "files", index.project(tmp_path / "one", "one"), "one")
    said = f'{{path = "files/{found.name}", size = SIZE, hashes = {{sha256 = "{lock.digest(found)}"}}}}'
    source = f"wheels = [{said}]" if kind == "wheel" else f"sdist = {said}"
    size = found.stat().st_size
    written(tmp_path, package(source.replace("SIZE", str(size + 1))))
    for _ in range(2):  # nothing is kept of the first time
        with pytest.raises(PackError, match=rf"{found.name} is not the file that was locked: .* {size + 1:,} bytes"):
            take(tmp_path)
    written(tmp_path, package(source.replace("SIZE", str(size))))
    assert take(tmp_path)[0].wheels[0].distribution == "one"
    if kind == "wheel":
        written(tmp_path, package(source.replace("SIZE", str(size + 1))))
        with pytest.raises(PackError, match="is not the file that was locked"):
            take(tmp_path)  # it is in the cache


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_a_file_that_is_another_distribution_is_refused(kind: str, tmp_path: Path) -> None:
    """Whatever it is called."""
    (tmp_path / "files").mkdir()
    if kind == "wheel":
        found = index.wheel(tmp_path / "files", "two").rename(tmp_path / "files/one-1.0-py3-none-any.whl")
    else:
        found = index.sdist(tmp_path / "files", index.project(tmp_path / "two", "two"), "one")
    said = f'{{path = "files/{found.name}", hashes = {{sha256 = "{lock.digest(found)}"}}}}'
    written(tmp_path, package(f"wheels = [{said}]" if kind == "wheel" else f"sdist = {said}"))
    for _ in range(2):
        with pytest.raises(PackError) as caught:
            take(tmp_path)
        why = "one has an invalid wheel" if kind == "wheel" else "two-1.0-py2.py3-none-any.whl is built of it"
        said = f"{tmp_path}/pylock.toml: one 1.0 is {found.name}, which is another distribution: {why}"
        assert str(caught.value).startswith(f"{CP311.name}: {said}")
        assert caught.value.hint.startswith("do not use it")


@pytest.mark.parametrize("source", [wheel("six-1.0-py3-none-any.whl"), wheel("one-2.0-py3-none-any.whl")])
def test_a_file_that_is_called_as_another_distribution_is_refused(source: str, tmp_path: Path) -> None:
    with pytest.raises(PackError, match=r"in '(six-1|one-2)[^ ]*' is not consistent with package"):
        written(tmp_path, package(source))


# Locking again -----------------------------------------------------------------------------------------------------

OWN = """
[tool.packer]
slices = ["cp39-manylinux_2_17_x86_64"]
requested = ["one[a,b]", "local", "far"]
"""
FAR = f'archive = {{url = "https://a.example/far-1.0.tar.gz", hashes = {{sha256 = "{DIGEST}"}}}}'
ALL = package(ONE) + '[[packages]]\nname = "local"\ndirectory = {path = "."}\n' + package(FAR, "far") + OWN


def test_the_command_that_keeps_what_a_lock_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, ALL)
    made = lock.read(Path("pylock.toml"))
    words = "'one[a,b]' . https://a.example/far-1.0.tar.gz"
    assert lock.again(made) == f"packer lock {words} -o pylock.toml"
    requests = Requests(
        index_url="https://user:secret@index.example/simple", extra_index_urls=("http://more.example",),
        find_links=("a dir",), no_index=True,
    )  # fmt: skip
    made = replace(made, index=requests.public_options())
    index_words = (
        "--no-index --index-url=https://index.example/simple --extra-index-url=http://more.example '--find-links=a dir'"
    )
    assert lock.again(made, more=["six>1"]) == f"packer lock {words} 'six>1' -o pylock.toml {index_words}"
    by_file = replace(made, words=("--workspace", "tools.toml"), index=())
    assert lock.again(by_file, more=["six"]) == "packer lock --workspace tools.toml"
    with pytest.raises(PackError) as caught:
        lock.pick(replace(made, content=replace(made.content, requires_python=SpecifierSet("<3.10"))), CP311)
    slices = "cp39-manylinux_2_17_x86_64,cp311-manylinux_2_17_x86_64"
    assert caught.value.hint == f"packer lock {words} -o pylock.toml --abis {slices} {index_words} locks it, too"


def test_what_another_lock_lost(tmp_path: Path) -> None:
    old = written(tmp_path, ALL)
    new = written(tmp_path, ALL.replace('"one[a,b]", "local"', '"one[b]"').replace("cp39", "cp311"))
    assert lock.lost(old, new) == ({"one": "one[a]", "local": "local"}, ["cp39-manylinux_2_17_x86_64"])
    assert lock.lost(old, old) == ({}, [])
    with pytest.raises(PackError, match=r"requested: not a requirement: 'a b'"):
        lock.lost(old, written(tmp_path, ALL.replace(', "local"', ', "a b"')))


def test_paths_count_from_the_lock(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    found = index.wheel(tmp_path / "wheels", "one")
    digest = lock.digest(found)
    made = written(tmp_path, package(f'wheels = [{{path = "wheels/{found.name}", hashes = {{sha256 = "{digest}"}}}}]'))
    assert lock.pick(made, CP311)[0].address == found.resolve().as_uri()
    assert take(tmp_path)[0].wheels[0].sha256 == digest
    found.unlink()
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(PackError, match=r"one 1\.0: one-1\.0-py3-none-any\.whl is gone"):
        take(tmp_path)


def test_the_environment_is_no_part_of_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip puts variables into files of requirements: no lock may send one to anybody."""
    monkeypatch.setenv("TOKEN", "secret")
    (tmp_path / "shelf").mkdir()
    with index.serve(tmp_path / "shelf") as (url, asked):
        written(tmp_path, package(wheel("one-1.0-py3-none-any.whl", base=url.replace("/simple", "/files/${TOKEN}"))))
        with pytest.raises(PackError, match="is gone"):
            take(tmp_path)
    assert asked == ["/files/${TOKEN}/one-1.0-py3-none-any.whl"]


def test_an_index_that_is_away_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        base = f"http://127.0.0.1:{server.getsockname()[1]}"
    written(tmp_path, package(wheel("one-1.0-py3-none-any.whl", base=base)))
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(PackError, match=rf"one 1\.0: cannot fetch {base}/one-.*: .*[Cc]onnect") as caught:
        take(tmp_path)
    assert caught.value.hint == "is the network there?"


def test_order_is_pips_with_extras_and_cycles() -> None:
    """A chain, a cycle, and ties: what is needed comes before what needs it, names of the same depth backwards."""
    root, a, b, c, d = (("", ()), ("a", ()), ("b", ()), ("c", ()), ("d", ()))
    graph: dict[locked._Node, set[locked._Node]] = {root: {a}, a: {b}, b: {c, d}, c: set(), d: set()}
    weights = locked._weights(graph)
    assert sorted({a, b, c, d}, key=lambda node: (weights[node], node), reverse=True) == [d, c, b, a]
    graph[c] = {a}
    weights = locked._weights(graph)
    assert sorted({a, b, c, d}, key=lambda node: (weights[node], node), reverse=True) == [d, c, b, a]
    assert weights == {root: 0, a: 1, b: 2, c: 3, d: 4}
