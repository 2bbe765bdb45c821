"""packer/built.py: a wheel that was built serves again where all that decided its bytes is the same."""

from __future__ import annotations

import os
import re
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from support import compiled, index, repositories
from support.skips import skip_optional

from packer import built, facts, pythons, repair, rust, sources, worktree
from packer.errors import PackError
from packer.model import Platform, Target
from packer.targets import running_target
from packer.toolchain import Building

RUNNING = running_target()

ANSWER = "int answer(void) { return 42; }"


@pytest.fixture(autouse=True)
def own_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    index.forget_pip_configuration(monkeypatch)


class Bench:
    """Builds, each time as a run of its own, and counts."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.told: list[str] = []

    def builder(self, *options: str, as_of: str = "") -> sources.Builder:
        def no_pip(target: Target) -> Path:
            raise PackError(f"no pip for {target.name}")

        return sources.Builder(
            self.cache, find_pip=no_pip, index_options=["--no-index", *options], limit=300, stop=threading.Event(),
            progress=self.told.append, building=Building(), as_of=as_of,
        )  # fmt: skip

    def build(self, source: Path, *options: str, target: Target = RUNNING, as_of: str = "") -> Path:
        return self.builder(*options, as_of=as_of).build(source, target)

    @property
    def count(self) -> int:
        return sum("building" in line for line in self.told)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "cache")


@pytest.fixture(params=["project", "sdist"])
def shape(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def shaped(shape: str, project: Path) -> Path:
    return project if shape == "project" else index.sdist(project.parent, project, "app")


def built_by(wheel: Path) -> str:
    with zipfile.ZipFile(wheel) as archive:
        return archive.read("built_by.txt").decode()


def another_here() -> Target:
    own = pythons.own()
    found = next((one for one in pythons.find() if one.version >= (3, 8) and one.tag != own.tag), None)
    if found is None:
        skip_optional("no second interpreter of 3.8 or later on this machine")
    return Target(facts.pythons()[found.tag].abi, RUNNING.platform)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("speedups.c", ""),
        ("setup.py", "try:\n    setup(ext_modules=[])\nexcept Exception:\n    setup()\n"),
        ("setup.cfg", "[options]\nsetup_requires = Cython\n"),
    ],
)
def test_a_pure_wheel_of_what_might_have_native_code_serves_only_its_own_python(
    bench: Bench, tmp_path: Path, shape: str, file: str, text: str
) -> None:
    other = another_here()
    project = index.project(tmp_path / "project", "app")
    (project / file).write_text(text)
    source = shaped(shape, project)
    for _ in range(2):
        for target in (RUNNING, other):
            wheel = bench.build(source, target=target)
            assert wheel.name == "app-1.0-py2.py3-none-any.whl"
            assert built_by(wheel) == ".".join(map(str, target.python.version[:2]))
    assert bench.count == 2


def test_any_other_pure_wheel_serves_all(bench: Bench, tmp_path: Path, shape: str) -> None:
    source = shaped(shape, index.project(tmp_path / "project", "app"))
    far = Target(facts.pythons()["cp39"].abi, Platform("musl", (1, 1), "aarch64"))
    first = far if shape == "project" else RUNNING  # it takes no interpreter of cp39
    wheel = bench.build(source, target=first)
    for target in (RUNNING, far, another_here()):
        assert bench.build(source, target=target) == wheel
    assert bench.count == 1


class TestPureByNameOnly:
    """A wheel that is called ``py3-none-any`` and has native code in it."""

    @pytest.fixture
    def project(self, tmp_path: Path) -> Path:
        library = compiled.shared_library(tmp_path, "plain", ANSWER, f"{RUNNING.platform.arch}-linux-gnu.2.17")
        project = index.project(tmp_path / "project", "app")
        backend = (project / "backend.py").read_text()
        (project / "payload").write_bytes(library.read_bytes())
        adds = "files = dict(FILES)\n    files['app_data/plain.so'] = open('payload', 'rb').read()"
        (project / "backend.py").write_text(backend.replace("files = dict(FILES)", adds))
        return project

    def test_is_built_for_each_platform(self, bench: Bench, project: Path) -> None:
        other = another_here()
        wheel = bench.build(project, target=other)
        assert wheel.name.startswith("app-1.0-py2.py3-none-")
        assert not wheel.name.endswith("-any.whl")
        assert bench.build(project, target=RUNNING) == wheel  # no Python has a say
        assert {place.parent.name for place in bench.cache.glob("built/*/*/*.whl")} == {wheel.parent.name}

    @pytest.mark.parametrize("first", ["another", "running"])
    def test_is_no_wheel_of_another_machine(self, bench: Bench, project: Path, first: str) -> None:
        other = another_here()
        bench.build(project, target=other if first == "another" else RUNNING)
        arch = "aarch64" if RUNNING.platform.arch == "x86_64" else "x86_64"
        far = Target(other.python, replace(RUNNING.platform, arch=arch))
        with pytest.raises(PackError, match=r"app_data/plain\.so"):
            bench.build(project, target=far)

    def test_that_a_cache_has_for_all_serves_none(
        self, bench: Bench, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other = another_here()
        with monkeypatch.context() as patched:
            patched.setattr(repair, "native_files", lambda archive: [])
            assert bench.build(project, target=other).name.endswith("-any.whl")
        built._native_in.cache_clear()  # another process
        assert not bench.build(project, target=other).name.endswith("-any.whl")


@pytest.mark.parametrize("native", [False, True], ids=["pure", "native"])
def test_what_a_build_may_read_decides(
    bench: Bench, tmp_path: Path, shape: str, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = index.project(tmp_path / "project", "app", native=native)
    if native:
        (project / "mod.c").write_text("")
    source = shaped(shape, project)

    def builds(*options: str, as_of: str = "") -> int:
        """How many builds it takes, and that the next time it takes none."""
        before = bench.count
        wheel = bench.build(source, *options, as_of=as_of)
        after = bench.count
        assert bench.build(source, *options, as_of=as_of) == wheel
        assert bench.count == after
        return after - before

    assert builds() == 1
    for name in ("MSGPACK_PUREPYTHON", "CARGO_HOME", "CFLAGS"):
        monkeypatch.setenv(name, "1")
        assert builds() == 1
    monkeypatch.setenv("GITHUB_RUN_ID", "17")
    assert builds() == 0
    assert builds("--extra-index-url=http://127.0.0.1:9/simple") == 1
    assert builds(as_of="2024-03-01T00:00:00+00:00") == 1
    found = pythons.find()
    monkeypatch.setattr(pythons, "find", lambda: tuple(replace(one, build=f"{one.build} patched") for one in found))
    assert builds() == (1 if native else 0)


def test_what_is_named_to_pip_decides(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = index.project(tmp_path / "project", "app")
    for name in ("shelf", "other", "third"):
        (tmp_path / name).mkdir()
    for name in ("all.txt", "more.txt", "build.txt", "said.txt"):
        (tmp_path / name).write_text("")
    (tmp_path / "all.txt").write_text("-c more.txt\n")
    (tmp_path / "pip.conf").write_text(
        f"[wheel]\nfind-links =\n    {tmp_path}/third\n[global]\nbuild_constraint = {tmp_path}/said.txt\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("PIP_CONSTRAINT", str(tmp_path / "all.txt"))
    monkeypatch.setenv("PIP_BUILD_CONSTRAINT", f"file://{tmp_path}/build.txt")
    monkeypatch.setenv("PIP_FIND_LINKS", f"{tmp_path}/nowhere {tmp_path}/other")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".pydistutils.cfg").write_text("")

    def builds() -> int:
        before = bench.count
        bench.build(project, f"--find-links={tmp_path / 'shelf'}")
        return bench.count - before

    assert [builds(), builds()] == [1, 0]
    (tmp_path / "shelf/notes").write_text("")
    assert builds() == 0
    for name in ("more.txt", "build.txt", "said.txt", ".pydistutils.cfg"):
        (tmp_path / name).write_text("# another\n")
        assert [name, builds(), builds()] == [name, 1, 0]
    for name in ("shelf", "other", "third"):
        index.wheel(tmp_path / name, "base")
        assert [name, builds(), builds()] == [name, 1, 0]


@pytest.mark.parametrize("name", ["cc", "CXX", "rustc", "maturin"])
def test_which_compilers_there_are_decides_what_is_not_pure(
    bench: Bench, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "bin" / name
    tool.parent.mkdir()
    monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CC", "env cc")
    monkeypatch.setenv("CXX", "CXX")
    monkeypatch.setattr(rust, "_path", lambda: os.environ["PATH"])
    project = index.project(tmp_path / "project", "app", native=True)
    built: list[int] = []
    for version in (1, 1, 2):
        tool.write_text(f"#!/bin/sh\necho {version}\n")
        tool.chmod(0o755)
        before = bench.count
        bench.build(project)
        built.append(bench.count - before)
    assert built == [1, 0, 1]


@pytest.mark.parametrize("damage", ["cut", "another", "gone", "noted"])
def test_a_wheel_that_is_damaged_is_built_again(bench: Bench, tmp_path: Path, shape: str, damage: str) -> None:
    source = shaped(shape, index.project(tmp_path / "project", "app"))
    wheel = bench.build(source)
    whole = wheel.read_bytes()
    if damage == "cut":
        wheel.write_bytes(whole[:-30])
    elif damage == "another":
        (tmp_path / "other").mkdir()
        index.wheel(tmp_path / "other", "app", tag="py2.py3-none-any").replace(wheel)
    elif damage == "gone":
        wheel.unlink()
    else:
        (wheel.parent / "sha256").write_bytes(b"\xff")
    assert bench.build(source) == wheel
    assert wheel.read_bytes() == whole
    assert bench.count == 2
    assert bench.build(source) == wheel
    assert bench.count == 2


def test_a_build_does_not_see_what_changes_from_run_to_run(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_RUN_ID", "17")
    monkeypatch.setenv("APP_FLAVOUR", "sweet")
    project = index.project(tmp_path / "project", "app")
    asks = "import os\nassert 'GITHUB_RUN_ID' not in os.environ\nassert os.environ['APP_FLAVOUR'] == 'sweet'\n"
    (project / "backend.py").write_text(asks + (project / "backend.py").read_text())
    assert bench.build(project).name == "app-1.0-py2.py3-none-any.whl"


class TestProjectThatChanges:
    """What is kept under the digest of a project was built of it; an archive is of one state of it."""

    def appending(self, project: Path, words: str) -> Path:
        """Make a project whose build writes into a file of it."""
        index.project(project, "app")
        (project / "speedups.c").write_text("")  # for each Python by itself
        writes = f"import sys\nwith open('notes.txt', {words}) as file:\n    file.write(sys.version)\n"
        (project / "backend.py").write_text(writes + (project / "backend.py").read_text())
        return project

    def kept(self, bench: Bench) -> set[str]:
        return {place.name for place in (bench.cache / "built").glob("*")}

    @pytest.mark.parametrize("kept", [False, True], ids=["nowhere", "in-git"])
    def test_by_each_build_is_built_in_a_copy(self, bench: Bench, tmp_path: Path, kept: bool) -> None:
        """As Cython does, which writes down where numpy's headers were."""
        project = self.appending(tmp_path / "project", "'a'")
        if kept:
            repositories.git(project, "init", "-q")
            repositories.commit(project)
        builder = bench.builder()
        builder.build(project, RUNNING)
        changed = worktree.digest(project)
        builder.build(project, another_here())
        assert (bench.count, self.kept(bench)) == (3, {changed})
        assert worktree.digest(project) == changed

    def test_by_each_build_where_a_copy_would_hide_its_repository(self, bench: Bench, tmp_path: Path) -> None:
        project = self.appending(repositories.make(tmp_path / "repository") / "lib", "'a'")
        with pytest.raises(PackError, match=rf"^{re.escape(str(project))} was changed while it was packed$") as caught:
            bench.build(project)
        assert caught.value.hint.startswith("pack it again while nothing writes into it")
        assert self.kept(bench) == set()

    def test_once_as_by_what_writes_down_a_version(self, bench: Bench, tmp_path: Path) -> None:
        project = self.appending(tmp_path / "project", "'w'")
        wheel = bench.build(project)
        assert bench.count == 2
        assert self.kept(bench) == {worktree.digest(project)}
        assert bench.build(project) == wheel
        assert bench.count == 2

    def test_between_two_slices(self, bench: Bench, tmp_path: Path) -> None:
        project = index.project(tmp_path / "project", "app")
        builder = bench.builder()
        wheel = builder.build(project, RUNNING)
        (project / "new.txt").write_text("")
        with pytest.raises(PackError, match="was changed while it was packed"):
            builder.build(project, another_here())
        (project / "new.txt").unlink()
        assert builder.build(project, RUNNING) == wheel

    def test_during_the_build_of_a_later_slice(self, bench: Bench, tmp_path: Path) -> None:
        project = self.appending(repositories.make(tmp_path / "repository") / "lib", "'w'")
        builder, other = bench.builder(), another_here()
        builder.build(project, RUNNING)
        with pytest.raises(PackError, match="was changed while it was packed"):
            builder.build(project, other)

    def test_and_is_changed_back_in_time(self, bench: Bench, tmp_path: Path) -> None:
        project = index.project(tmp_path / "project", "app")
        (project / "notes.txt").write_text("ours")
        changes = f"""
import os
os.chdir({str(project)!r})
before = os.stat("notes.txt")
if not os.path.exists({str(tmp_path / "done")!r}):
    open({str(tmp_path / "done")!r}, "w").close()
    FILES["notes.txt"] = "another"
    open("notes.txt", "w").write("none")
    open("notes.txt", "w").write("ours")
    os.utime("notes.txt", ns=(before.st_atime_ns, before.st_mtime_ns))
"""
        backend = (project / "backend.py").read_text()
        (project / "backend.py").write_text(backend.replace("\n\n\ndef", f"\n{changes}\ndef"))
        wheel = bench.build(project)
        with zipfile.ZipFile(wheel) as archive:
            assert "notes.txt" not in archive.namelist()
        assert bench.count == 2

    def test_to_the_same_by_each_build(self, bench: Bench, tmp_path: Path) -> None:
        project = index.project(repositories.make(tmp_path / "repository") / "lib", "app")
        (project / "speedups.c").write_text("")
        writes = "import os, sys\nfor name in ('version.txt', os.environ['ALSO'] + str(sys.version_info[1])):\n"
        backend = (project / "backend.py").read_text()
        (project / "backend.py").write_text(f"{writes}    open(name, 'a').close(); os.utime(name)\n{backend}")
        other = another_here()
        for one in (RUNNING, other):
            (project / f"also{one.python.version[1]}").write_text("")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ALSO", "also")
            builder = bench.builder()
            (project / "version.txt").write_text("")
            for target in (RUNNING, other, other):
                builder.build(project, target)
        assert bench.count == 4
