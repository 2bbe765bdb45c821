"""packer/sources.py: what is built by the target's own interpreter when no wheel is there."""

from __future__ import annotations

import os
import shutil
import threading
import zipfile
from pathlib import Path

import pytest
from support import index
from support.skips import skip_optional

from packer import facts, files, pythons, resolve, sources
from packer.errors import PackError
from packer.files import sha256
from packer.model import Platform, Target, Wheel
from packer.pythons import Interpreter
from packer.requests import Requests
from packer.targets import running_target

RUNNING = running_target()


@pytest.fixture(autouse=True)
def own_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    index.forget_pip_configuration(monkeypatch)


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    directory = tmp_path / "shelf"
    directory.mkdir()
    return directory


def run(shelf: Path, *requirements: str, target: Target = RUNNING, files: tuple[Path, ...] = ()) -> tuple[Wheel, ...]:
    requests = Requests(requirements, files, find_links=(str(shelf),), no_index=True)
    (found,) = resolve.resolve(requests, [target], cache=shelf.parent / "cache", progress=lambda line: None)
    assert list((shelf.parent / "cache" / "tmp").iterdir()) == []
    return found.wheels


def built_by(wheel: Wheel) -> str:
    with zipfile.ZipFile(wheel.path) as archive:
        return archive.read("built_by.txt").decode()


def same_platform(tag: str) -> Target:
    return Target(facts.pythons()[tag].abi, RUNNING.platform)


class TestFitting:
    @pytest.mark.parametrize(
        ("tag", "wanted"),
        [
            ("py3-none-any", True),
            ("cp39-cp39-linux_x86_64", True),
            ("cp39-cp39-manylinux_2_36_x86_64", True),
            ("cp36-abi3-linux_x86_64", True),
            ("cp39-cp39-linux_aarch64", False),
            ("cp310-cp310-linux_x86_64", False),
            ("py2-none-any", False),
        ],
    )
    def test_what_was_built_here_may_say_linux(self, tag: str, wanted: bool) -> None:
        target = Target(facts.pythons()["cp39"].abi, Platform("glibc", (2, 17), "x86_64"))
        builder = Interpreter(Path("/usr/bin/python3.9"), "cp39", (3, 9, 1), "x86_64", "glibc", True)
        assert sources.fits(f"app-1.0-{tag}.whl", target, builder) is wanted
        musl = Target(facts.pythons()["cp39"].abi, Platform("musl", (1, 2), "x86_64"))
        assert sources.fits(f"app-1.0-{tag}.whl", musl, builder) is (tag == "py3-none-any")

    @pytest.mark.parametrize(
        ("tag", "wanted"),
        [
            ("py3-none-manylinux_2_17_aarch64", True),
            ("cp39-cp39-manylinux2014_aarch64.manylinux_2_17_aarch64", True),
            ("cp39-cp39-manylinux_2_28_aarch64", False),
            ("cp39-cp39-linux_aarch64", False),
        ],
    )
    def test_what_is_compiled_for_another_machine_says_for_which(self, tag: str, wanted: bool) -> None:
        target = Target(facts.pythons()["cp39"].abi, Platform("glibc", (2, 17), "aarch64"))
        builder = Interpreter(Path("/usr/bin/python3.9"), "cp39", (3, 9, 1), "x86_64", "glibc", True)
        assert sources.fits(f"app-1.0-{tag}.whl", target, builder) is wanted


class TestSourceDistributions:
    def test_is_built_where_there_is_no_wheel(self, shelf: Path, tmp_path: Path) -> None:
        index.wheel(shelf, "base")
        index.sdist(shelf, index.project(tmp_path / "project", "app", requires=["base"]), "app")
        base, app = run(shelf, "app")
        assert (base.distribution, base.built_from) == ("base", "")
        assert (app.distribution, app.version, app.built_from) == ("app", "1.0", "app-1.0.tar.gz")
        assert built_by(app) == ".".join(map(str, RUNNING.python.version))
        assert app.sha256 == sha256(app.path).hex()

    def test_is_built_once(self, shelf: Path, tmp_path: Path) -> None:
        index.sdist(shelf, index.project(tmp_path / "project", "app"), "app")
        (first,) = run(shelf, "app")
        stamp = first.path.stat().st_mtime_ns
        (again,) = run(shelf, "app")
        assert again == first
        assert again.path.stat().st_mtime_ns == stamp

    def test_of_an_index_is_built(self, shelf: Path, tmp_path: Path) -> None:
        index.sdist(shelf, index.project(tmp_path / "project", "app"), "app")
        with index.serve(shelf) as (url, requested):
            for _ in range(2):
                (found,) = resolve.resolve(
                    Requests(("app",), index_url=url), [RUNNING], cache=tmp_path / "cache", progress=lambda line: None
                )
                assert found.wheels[0].built_from == "app-1.0.tar.gz"
        assert requested.count("/files/app-1.0.tar.gz") == 1  # the second time its digest is enough

    def test_named_by_path_is_built(self, shelf: Path, tmp_path: Path) -> None:
        path = index.sdist(tmp_path, index.project(tmp_path / "project", "app"), "app")
        (app,) = run(shelf, str(path))
        assert (app.distribution, app.built_from) == ("app", "app-1.0.tar.gz")

    def test_only_the_newest_that_meets_the_requirement_is_built(self, shelf: Path, tmp_path: Path) -> None:
        index.wheel(shelf, "app", "1.0")
        for version in ("2.0", "2.5", "3.0"):
            index.sdist(shelf, index.project(tmp_path / version, "app", version), "app", version)
        (app,) = run(shelf, "app>=2,<3")
        assert app.version == "2.5"
        assert len(list((tmp_path / "cache" / "built").iterdir())) == 1

    def test_does_not_make_what_depends_on_it_old(self, shelf: Path, tmp_path: Path) -> None:
        index.wheel(shelf, "top", "1.0")
        index.wheel(shelf, "top", "2.0", requires=["app"])
        index.sdist(shelf, index.project(tmp_path / "project", "app"), "app")
        assert [(one.distribution, one.version) for one in run(shelf, "top")] == [("app", "1.0"), ("top", "2.0")]

    def test_extension_modules_are_for_this_platform(self, shelf: Path, tmp_path: Path) -> None:
        index.sdist(shelf, index.project(tmp_path / "project", "app", native=True), "app")
        (app,) = run(shelf, "app")
        assert app.path.name.endswith(f"-{RUNNING.python.tag}-linux_{RUNNING.platform.arch}.whl")
        other = Platform(RUNNING.platform.libc, (2, 17), "aarch64" if RUNNING.platform.arch == "x86_64" else "x86_64")
        with pytest.raises(PackError, match=r"app-1.0-\S+, built with \S+, does not fit"):
            run(shelf, "app", target=Target(RUNNING.python, other))

    def test_a_digest_in_a_requirement_file_is_that_of_the_source_distribution(
        self, shelf: Path, tmp_path: Path
    ) -> None:
        path = index.sdist(shelf, index.project(tmp_path / "project", "app"), "app")
        need = tmp_path / "need.txt"
        need.write_text(f"app==1.0 --hash=sha256:{sha256(path).hex()}\n")
        (app,) = run(shelf, files=(need,))
        assert app.built_from == "app-1.0.tar.gz"
        need.write_text(f"app==1.0 --hash=sha256:{'0' * 64}\n")
        with pytest.raises(PackError, match="DO NOT MATCH THE HASHES"):
            run(shelf, files=(need,))

    def test_without_an_interpreter_the_error_says_what_there_is(
        self, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        index.sdist(shelf, index.project(tmp_path / "project", "app", "2.0"), "app", "2.0")
        index.wheel(shelf, "app", "2.0", tag="cp39-cp39-manylinux_2_28_x86_64")
        index.wheel(shelf, "top", requires=["app>1"])
        only = Interpreter(Path("/usr/bin/python3.6"), "cp36m", (3, 6, 9), "x86_64", "glibc", True)
        monkeypatch.setattr(pythons, "find", lambda: (only,))
        with pytest.raises(PackError) as caught:
            run(shelf, "top", target=Target(facts.pythons()["cp39"].abi, Platform("glibc", (2, 17), "x86_64")))
        assert str(caught.value) == (
            "cp39-manylinux_2_17_x86_64: no wheel fits app>1, and no cp39 interpreter is here "
            "to build app-2.0.tar.gz (found: cp36m)"
        )
        assert caught.value.hint == (
            "app 2.0 has wheels for cp39 on manylinux_2_28_x86_64\ninstall one, or say where it is: --interpreter PATH"
        )

    def test_a_build_that_fails_says_why(self, shelf: Path, tmp_path: Path) -> None:
        project = index.project(tmp_path / "project", "app", backend="raise RuntimeError('no luck today')\n")
        index.sdist(shelf, project, "app")
        with pytest.raises(PackError) as caught:
            run(shelf, "app")
        tag = RUNNING.python.tag
        assert str(caught.value) == f"building app-1.0.tar.gz for {tag} failed: RuntimeError: no luck today"
        assert "backend.py" in caught.value.hint
        assert not (tmp_path / "cache" / "built").exists()

    @pytest.mark.parametrize(
        ("said", "why"),
        [
            ("a/b.pyx:3:9: 'lung' is not a type identifier", "a/b.pyx:3:9: 'lung' is not a type identifier"),
            ("warning: a/b.pyx:3:9: unused entry", "RuntimeError: no luck today"),
            ("a/b.c:7:3: error: unknown type", "a/b.c:7:3: error: unknown type"),
        ],
    )
    def test_what_a_compiler_said_counts_and_what_is_around_it_is_shown(
        self, shelf: Path, tmp_path: Path, said: str, why: str
    ) -> None:
        lines = [*(f"before {number}" for number in range(20)), said, *(f"after {number}" for number in range(40))]
        backend = f"print(*{lines!r}, sep='\\n', flush=True)\nraise RuntimeError('no luck today')\n"
        index.sdist(shelf, index.project(tmp_path / "project", "app", backend=backend), "app")
        with pytest.raises(PackError) as caught:
            run(shelf, "app")
        assert str(caught.value).endswith(f" failed: {why}")
        shown = [line.strip() for line in caught.value.hint.splitlines()]
        assert why in shown
        assert ("before 17" in shown) == (why == said)

    def test_an_old_python_needs_a_pip_that_runs_on_it(
        self, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        index.sdist(shelf, index.project(tmp_path / "project", "app"), "app")
        only = Interpreter(Path("/usr/bin/python3.6"), "cp36m", (3, 6, 9), "x86_64", "glibc", True)
        monkeypatch.setattr(pythons, "find", lambda: (only,))
        with pytest.raises(
            PackError, match=r"^building for cp36m needs a wheel of pip: \S+: no file fits pip: no index"
        ):
            run(shelf, "app", target=same_platform("cp36m"))

    def test_a_build_that_hangs_is_ended_with_all_its_processes(self, shelf: Path, tmp_path: Path) -> None:
        backend = "import subprocess, sys\nsubprocess.call([sys.executable, '-c', 'import time; time.sleep(987654)'])\n"
        index.sdist(shelf, index.project(tmp_path / "project", "app", backend=backend), "app")
        requests = Requests(("app",), find_links=(str(shelf),), no_index=True)
        with pytest.raises(PackError, match="took longer than 5 seconds"):
            resolve.resolve(requests, [RUNNING], cache=tmp_path / "cache", progress=lambda line: None, limit=5)
        running = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if os.access(path, os.R_OK)]
        assert not any(b"987654" in line for line in running)
        assert list((tmp_path / "cache" / "tmp").iterdir()) == []

    between = tuple(pytest.param(tag, marks=pytest.mark.torture) for tag in ("cp311", "cp312"))
    """One pip is for all from cp310 on; the others have their own."""

    @pytest.mark.network
    @pytest.mark.parametrize("tag", ["cp27mu", "cp36m", "cp37m", "cp38", "cp39", "cp310", *between, "cp313"])
    def test_real_one_for_each_interpreter_here(self, tmp_path: Path, tag: str) -> None:
        if tag not in {one.tag for one in pythons.find()}:
            skip_optional(f"no {tag} interpreter on this machine")
        requests = Requests(("docopt==0.6.2",))
        (found,) = resolve.resolve(requests, [same_platform(tag)], cache=tmp_path, progress=lambda line: None)
        (docopt,) = found.wheels
        assert docopt.path.name.startswith("docopt-0.6.2-py")
        assert docopt.built_from == "docopt-0.6.2.tar.gz"


class TestProjects:
    def test_pure_one_is_built_once_for_all(self, shelf: Path, tmp_path: Path) -> None:
        project = index.project(tmp_path / "project", "app")
        before = sorted(path.name for path in project.iterdir())
        targets = [RUNNING, Target(facts.pythons()["cp39"].abi, Platform("musl", (1, 1), "aarch64"))]
        told: list[str] = []
        requests = Requests((str(project),), find_links=(str(shelf),), no_index=True)
        found = resolve.resolve(requests, targets, cache=tmp_path / "cache", progress=told.append)
        first, second = (one.wheels[0] for one in found)
        assert first == second
        assert first.built_from == "project"
        assert sum("building" in line for line in told) == 1
        assert sorted(path.name for path in project.iterdir()) == before

    def test_its_dependencies_and_extras_are_those_of_the_target(self, shelf: Path, tmp_path: Path) -> None:
        for name in ("old", "new", "colour"):
            index.wheel(shelf, name, tag="py2.py3-none-any")
        requires = ["old; python_version < '3'", "new; python_version >= '3'", "colour; extra == 'tty'"]
        project = index.project(tmp_path / "project", "app", requires=requires, extras=["tty"])
        assert {one.distribution for one in run(shelf, f"{project}[tty]")} == {"new", "colour", "app"}
        assert {one.distribution for one in run(shelf, str(project), target=same_platform("cp27mu"))} == {"old", "app"}

    def test_in_the_working_directory_or_in_a_requirement_file(
        self, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        index.project(tmp_path / "project", "app")
        (tmp_path / "need.txt").write_text("./project\n")
        monkeypatch.chdir(tmp_path / "project")
        assert [one.distribution for one in run(shelf, ".")] == ["app"]
        monkeypatch.chdir(tmp_path)
        assert [one.distribution for one in run(shelf, files=(tmp_path / "need.txt",))] == ["app"]

    def test_is_built_anew_each_time(self, shelf: Path, tmp_path: Path) -> None:
        project = index.project(tmp_path / "project", "app", "1.0")
        assert run(shelf, str(project))[0].version == "1.0"
        shutil.rmtree(project)
        index.project(tmp_path / "project", "app", "2.0")
        assert run(shelf, str(project))[0].version == "2.0"

    def test_with_extension_modules_is_built_per_abi(self, shelf: Path, tmp_path: Path) -> None:
        project = index.project(tmp_path / "project", "app", native=True)
        (app,) = run(shelf, str(project))
        assert f"-{RUNNING.python.tag}-linux_" in app.path.name
        with pytest.raises(
            PackError, match=r"no cp35m interpreter is here to build project .*this Python makes app-1.0"
        ):
            run(shelf, str(project), target=same_platform("cp35m"))

    def test_with_extension_modules_for_another_interpreter_here(self, shelf: Path, tmp_path: Path) -> None:
        own = pythons.own()
        other = next((one for one in pythons.find() if one.version >= (3, 10) and one.tag != own.tag), None)
        if other is None:
            skip_optional("no second interpreter of 3.10 or later on this machine")
        project = index.project(tmp_path / "project", "app", native=True)
        (app,) = run(shelf, str(project), target=same_platform(other.tag))
        assert f"-{other.tag}-linux_" in app.path.name
        assert built_by(app) == ".".join(map(str, other.version[:2]))

    @pytest.mark.network
    def test_setuptools_leaves_no_trace_in_it_and_nothing_stale_gets_in(self, tmp_path: Path) -> None:
        project = tmp_path / "project"
        (project / "app").mkdir(parents=True)
        (project / "app" / "__init__.py").write_text("def main(): pass\n")
        (project / "setup.cfg").write_text("[metadata]\nname = app\nversion = 1.0\n[options]\npackages = app\n")
        (project / "setup.py").write_text("from setuptools import setup\nsetup()\n")
        (project / "build/lib/app").mkdir(parents=True)
        (project / "build/lib/app/stale.py").write_text("")
        before = sorted(str(path) for path in project.rglob("*"))
        requests = Requests((str(project),))
        (found,) = resolve.resolve(requests, [RUNNING], cache=tmp_path / "cache", progress=lambda line: None)
        with zipfile.ZipFile(found.wheels[0].path) as archive:
            assert [name for name in archive.namelist() if name.startswith("app/")] == ["app/__init__.py"]
        assert sorted(str(path) for path in project.rglob("*")) == before

    @pytest.mark.network
    def test_for_a_python_whose_setuptools_is_too_old_for_it(self, tmp_path: Path) -> None:
        if "cp27mu" not in {one.tag for one in pythons.find()}:
            skip_optional("no Python 2.7 on this machine")
        project = tmp_path / "project"
        project.mkdir()
        (project / "app.py").write_text("")
        (project / "pyproject.toml").write_text('[project]\nname = "app"\nversion = "1.0"\n')
        requests = Requests((str(project),))
        with pytest.raises(
            PackError, match="building project for cp27mu failed: its build back end does not know its name"
        ):
            resolve.resolve(requests, [same_platform("cp27mu")], cache=tmp_path / "cache", progress=lambda line: None)


def test_a_cache_that_two_fill_at_once_stays_whole(tmp_path: Path) -> None:
    """Whoever comes second finds the place taken and leaves it as it is."""
    place = tmp_path / "place"
    barrier = threading.Barrier(4)

    def publish(number: int) -> None:
        made = tmp_path / f"made-{number}"
        made.mkdir()
        (made / "x.whl").write_text("same")
        barrier.wait()
        files.publish(made, place)

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.name for path in place.iterdir()] == ["x.whl"]
