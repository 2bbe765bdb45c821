"""``packer fat`` and what comes of it: every kind of input is packed, and the file runs on real hosts."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import index
from support.hosts import Result, require_host
from support.packing import ROOT, Ended, Place, run_program
from support.skips import skip_optional

from packer import inspect, pythons

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.e2e

RUNNING = f"cp{sys.version_info[0]}{sys.version_info[1]}"
TOOL = "/opt/tool"
CACHE: dict[str, str | None] = {"XDG_CACHE_HOME": str(ROOT / ".cache")}
"""What comes from the network is kept with the repository."""

ESCAPES = """\
import json
import sys

import markupsafe
import markupsafe._speedups


def main():
    print(json.dumps({
        "python": list(sys.version_info[:2]),
        "native": markupsafe._speedups.__file__.rsplit(".", 1)[1],
        "inside": markupsafe.__file__.startswith(sys.prefix),
        "escaped": markupsafe.escape("<%s>" % sys.argv[1]),
    }, sort_keys=True))
"""


def escaped(python: tuple[int, int]) -> dict[str, object]:
    return {"python": list(python), "native": "so", "inside": True, "escaped": "&lt;a&amp;b&gt;"}


@pytest.fixture(scope="module")
def escapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of a program that needs a native dependency."""
    directory = tmp_path_factory.mktemp("escapes")
    files = {"escapes.py": ESCAPES}
    scripts = ["escapes=escapes:main"]
    return index.wheel(
        directory, "escapes", tag="py2.py3-none-any", files=files, scripts=scripts, requires=["markupsafe"]
    )


def network_place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("place"))


def run_on(host: str, archive: Path, *arguments: str, word: str | None = None) -> Result:
    return require_host(host).run([TOOL, *arguments], binds={archive: TOOL}, env={"FATPAR": word})


# Real hosts -------------------------------------------------------------------------------------------------------

PYTHONS = {"bullseye": (3, 9), "bookworm": (3, 11), "trixie": (3, 13), "forky": (3, 14), "sid": (3, 15)}
"""Debian's hosts and the Python 3 of each."""


@pytest.fixture(scope="module")
def old_pythons(tmp_path_factory: pytest.TempPathFactory, escapes: Path) -> Path:
    place = network_place(tmp_path_factory)
    ended = place.packed("fat", "--abis", "manylinux2014,cp35,cp27", escapes, env=CACHE)
    assert "cp35m-manylinux_2_17_x86_64, cp27mu-manylinux_2_17_x86_64" in ended.stdout
    return place.work / "escapes"


@pytest.mark.network
@pytest.mark.hosts
class TestOldPythons:
    """``--abis manylinux2014,cp35,cp27``, as it is asked for."""

    def test_python_2_runs_where_nothing_else_fits(self, old_pythons: Path) -> None:
        ended = run_on("bullseye", old_pythons, "a&b")
        assert (ended.status, ended.stderr) == (0, b"")
        assert json.loads(ended.stdout) == escaped((2, 7))

    def test_explain_tells_why(self, old_pythons: Path) -> None:
        told = run_on("bullseye", old_pythons, word="explain").stdout.decode()
        first, *rest = told.partition("slices, most preferred first\n")[2].splitlines()
        assert first.startswith("  cp35m-manylinux_2_17_x86_64: needs CPython cp35m, found ")
        name = "cp27mu-manylinux_2_17_x86_64"
        assert rest == [f"  {name}: fits /usr/bin/python2.7 (chosen)", "choice", f"  {name}"]

    def test_each_python_got_the_last_release_that_supports_it(self, old_pythons: Path) -> None:
        slices = inspect.describe(old_pythons)["manifest"]["slices"]
        wheels = [wheel["wheel"] for one in slices for wheel in one["distributions"] if wheel["name"] == "markupsafe"]
        assert wheels == [
            "MarkupSafe-1.1.1-cp35-cp35m-manylinux1_x86_64.whl", "MarkupSafe-1.1.1-cp27-cp27mu-manylinux1_x86_64.whl",
        ]  # fmt: skip


@pytest.fixture(scope="module")
def all_debians(tmp_path_factory: pytest.TempPathFactory, escapes: Path) -> Path:
    place = network_place(tmp_path_factory)
    place.packed("fat", "--abis", "manylinux2014,cp39,cp311,cp313,cp314,cp315", escapes, env=CACHE)
    return place.work / "escapes"


@pytest.mark.network
@pytest.mark.hosts
class TestEveryDebian:
    @pytest.mark.parametrize("host", PYTHONS)
    def test_one_file_runs(self, host: str, all_debians: Path) -> None:
        ended = run_on(host, all_debians, "a&b")
        assert (ended.status, ended.stderr) == (0, b"")
        assert json.loads(ended.stdout) == escaped(PYTHONS[host])

    @pytest.mark.parametrize("host", PYTHONS)
    def test_the_slice_that_runs_is_the_one_predicted_for_the_described_host(
        self, host: str, all_debians: Path, place: Place
    ) -> None:
        told = run_on(host, all_debians, word="explain").stdout.decode()
        predicted = place.packed("explain", all_debians, "--host", host).stdout
        assert fits(predicted) == fits(told)
        assert predicted.splitlines()[-1] == told.splitlines()[-1]
        assert f"cp{PYTHONS[host][0]}{PYTHONS[host][1]}-" in told.splitlines()[-1]

    @pytest.mark.parametrize(
        ("host", "reason"),
        [
            ("bookworm-nopython", "needs CPython cp39, found no Python at all"),
            ("bookworm-minimal", "needs standard library module json, not found in /usr/lib/python3.11"),
        ],
    )
    def test_a_host_that_lacks_something_says_what(self, host: str, reason: str, all_debians: Path) -> None:
        ended = require_host(host).run(
            ["sh", "-c", f"{TOOL} a; status=$?; ls -A; exit $status"], binds={all_debians: TOOL}, cwd="/home/u"
        )
        assert (ended.status, ended.stdout) == (126, b"")
        assert ended.stderr.decode().startswith(f"tool: this machine cannot run it: {reason}")


def fits(text: str) -> list[str]:
    """Lines of explain about slices that fit, with the interpreter each would run with."""
    return [line for line in text.splitlines() if ": fits " in line]


PLOTS = """\
import json
import sys

import contourpy
import numpy


def main():
    x, y = numpy.meshgrid(numpy.linspace(-1, 1, 101), numpy.linspace(-1, 1, 101))
    lines = contourpy.contour_generator(x, y, x ** 2 + y ** 2).lines(0.25)
    radius = round(float(numpy.hypot(*lines[0].T).mean()), 2)
    print(json.dumps([sys.version_info[1], len(lines), radius, contourpy.__file__.startswith(sys.prefix)]))
"""
CIRCLE = [1, 0.5, True]


@pytest.fixture(scope="module")
def plots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """numpy, and what is compiled against it, for six Pythons; for 3.14 it has no manylinux2014 wheels."""
    place = network_place(tmp_path_factory)
    index.wheel(place.work, "plots", files={"plots.py": PLOTS}, scripts=["plots=plots:main"], requires=["contourpy"])
    abis = "manylinux2014,cp39,cp310,cp311,cp312,cp313,cp314-manylinux_2_28"
    place.packed("fat", "--abis", abis, "plots-1.0-py3-none-any.whl", "--fast", env=CACHE, timeout=600)
    return place.work / "plots"


def cplusplus(host: str) -> dict[Path, str]:
    """The C++ library of a host, to be lent to another that has none: what to bind."""
    path = "/usr/lib/x86_64-linux-gnu/libstdc++.so.6"
    return {(require_host(host).root / path[1:]).resolve(): path}


def at_its_own_path(python: pythons.Interpreter, room: Path) -> dict[Path, str]:
    """An interpreter of this machine where its libraries expect it: what to bind.

    :param room: an empty directory, in which anybody can find the way.
    """
    prefix = python.path.parents[1]
    room.mkdir(mode=0o755)
    return {room: f"/{prefix.parts[1]}", prefix: str(prefix)}


@pytest.mark.network
@pytest.mark.hosts
@pytest.mark.slow
class TestNumpy:
    @pytest.mark.parametrize("host", ["bullseye", "bookworm", "trixie"])
    def test_runs_with_the_python_of_the_host(self, host: str, plots: Path) -> None:
        ended = run_on(host, plots)
        assert (ended.status, ended.stderr) == (0, b"")
        assert json.loads(ended.stdout) == [PYTHONS[host][1], *CIRCLE]

    def test_a_host_without_the_library_that_it_needs_says_so(self, plots: Path) -> None:
        ended = run_on("forky", plots)
        assert (ended.status, ended.stdout) == (126, b"")
        said = ended.stderr.decode().splitlines()
        assert said[0].startswith("tool: this machine cannot run it: needs ")
        told = run_on("forky", plots, word="explain").stdout.decode()
        (line,) = [line for line in told.splitlines() if line.startswith("  cp314-manylinux_2_28_x86_64: ")]
        assert line.endswith("needs library libstdc++.so.6, found none")
        lent = require_host("forky").run([TOOL], binds={plots: TOOL, **cplusplus("trixie")})
        assert (lent.status, lent.stderr) == (0, b"")
        assert json.loads(lent.stdout) == [14, *CIRCLE]

    @pytest.mark.parametrize("tag", ["cp39", "cp310", "cp311", "cp312", "cp313", "cp314"])
    def test_runs_with_every_interpreter_of_this_machine(self, tag: str, plots: Path, tmp_path: Path) -> None:
        """Each alone, in a host that has no other; with a C++ library, which an older host lends to it."""
        host = require_host("bookworm-nopython")
        here = [one for one in pythons.find() if (one.tag, one.arch, one.libc) == (tag, "x86_64", "glibc")]
        tried = 0
        for number, python in enumerate(here):
            if python.path.parent in (Path("/usr/bin"), Path("/usr/local/bin")):
                continue  # a host has its own
            binds = {**at_its_own_path(python, tmp_path / f"{number}"), plots: TOOL, **cplusplus("bullseye")}
            if host.run([python.path, "-c", "import json"], binds=binds, cwd="/").status != 0:
                continue  # made for a newer C library, or others that a host has not
            path = f"{python.path.parent}:/usr/bin:/bin"
            ended = host.run([TOOL], binds=binds, env={"PATH": path}, cwd="/")
            assert (ended.status, ended.stderr) == (0, b"")
            assert json.loads(ended.stdout) == [python.version[1], *CIRCLE]
            tried += 1
        if not tried:
            skip_optional(f"no {tag} on this machine that runs in a bookworm host")


# Inputs -----------------------------------------------------------------------------------------------------------

ECHO = """\
import sys


def main():
    print("%s:", *sys.argv[1:])
    return len(sys.argv) - 1


if __name__ == "__main__":
    sys.exit(main())
"""


@dataclass(frozen=True)
class Packer:
    """Packs for the Python that runs the test, without a network, and runs what came of it."""

    place: Place

    @property
    def shelf(self) -> Path:
        """Where wheels come from; the working directory is another."""
        return self.place.root / "shelf"

    def fat(self, *words: str | Path, **options: Any) -> Ended:
        common = ("--no-index", "--find-links", self.shelf, "--abis", f"manylinux2014,{RUNNING}", "--fast")
        return self.place.packed("fat", *common, *words, **options)

    def run(self, name: str | Path, *arguments: str) -> tuple[int, str, str]:
        done = run_program(self.place.work / name, *arguments, store=self.place.root / "store")
        return done.returncode, done.stdout, done.stderr

    def add(self, name: str, *versions: str, **options: Any) -> None:
        """Put wheels of a distribution with one module, which says its name and version, on the shelf."""
        for version in versions or ("1.0",):
            files = {f"{name}.py": ECHO % f"{name} {version}", **options.get("files", {})}
            index.wheel(self.shelf, name, version, **{**options, "files": files})


@pytest.fixture
def pack(place: Place, offline: None) -> Packer:
    packer = Packer(place)
    packer.shelf.mkdir()
    return packer


def project(
    directory: Path, name: str, files: Mapping[str, str], requires: tuple[str, ...] = (), extra: str = ""
) -> Path:
    """Make a project that builds without anything else, with its entry points and what else it says."""
    about = index.metadata(name, "1.0", requires=requires, extras=["more"])
    directory.mkdir(parents=True)
    facts = (name, "1.0", about, {**files}, False)
    (directory / "backend.py").write_text(index.BACKEND.replace("{facts!r}", repr(facts)))
    system = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    (directory / "pyproject.toml").write_text(system + extra)
    return directory


ENTRY_POINTS = "[console_scripts]\n{0}={0}:main\n"


class TestInputs:
    def test_a_requirement(self, pack: Packer) -> None:
        pack.add("app", scripts=["app=app:main"])
        pack.fat("app")
        assert pack.run("app", "a", "b c") == (2, "app 1.0: a b c\n", "")

    def test_several_requirements_before_and_behind_options(self, pack: Packer) -> None:
        pack.add("app", scripts=["app=app:main"])
        pack.add("more", scripts=["more=more:main"])
        pack.fat("app", "-c", "more", "more>=1")
        assert pack.run("more") == (0, "more 1.0:\n", "")

    def test_a_requirements_file_and_a_constraint(self, pack: Packer) -> None:
        pack.add("app", requires=["dep"], scripts=["app=dep:main"])
        pack.add("dep", "1.0", "2.0", "3.0")
        (pack.place.work / "reqs.txt").write_text("# comment\napp\ndep < 3\n")
        pack.fat("-r", "reqs.txt", "-o", "two")
        assert pack.run("two") == (0, "dep 2.0:\n", "")
        (pack.place.work / "limits.txt").write_text("dep == 1.0\n")
        pack.fat("-r", "reqs.txt", "--constraint", "limits.txt", "-o", "one")
        assert pack.run("one") == (0, "dep 1.0:\n", "")

    def test_a_project_directory(self, pack: Packer) -> None:
        files = {"prog.py": ECHO % "prog", "prog-1.0.dist-info/entry_points.txt": ENTRY_POINTS.format("prog")}
        project(pack.place.work / "src", "prog", files)
        for word in ("src", "./src", str(pack.place.work / "src")):
            pack.fat(word)
            assert pack.run("prog", "x") == (1, "prog: x\n", "")
            (pack.place.work / "prog").unlink()

    def test_a_project_directory_with_extras(self, pack: Packer) -> None:
        files = {"prog.py": ECHO % "prog", "prog-1.0.dist-info/entry_points.txt": ENTRY_POINTS.format("prog")}
        project(pack.place.work / "src", "prog", files, requires=("dep; extra == 'more'",))
        pack.add("dep")
        pack.fat("src[more]", "--tool", "dep=dep:main")
        assert pack.run("dep") == (0, "dep 1.0:\n", "")

    def test_what_the_project_says_counts_and_the_command_line_wins(self, pack: Packer) -> None:
        files = {
            "prog.py": ECHO % "prog",
            "prog-1.0.dist-info/entry_points.txt": "[console_scripts]\nx=prog:main\ny=prog:main\n",
        }
        said = (
            f'[tool.packer]\nabis = ["manylinux2014", "{RUNNING}"]\nconsole-script = "y"\noutput = "dist/tool"\n'
            'include = ["notes.txt:notes/read.me"]\nno-index = true\n'
        )
        src = project(pack.place.work / "src", "prog", files, extra=said)
        (src / "notes.txt").write_text("notes")
        (src / "dist").mkdir()
        said_out = pack.place.packed("fat", cwd=src).stdout
        assert said_out.startswith("dist/tool: ")
        assert said_out.endswith(f" for {RUNNING}-manylinux_2_17_x86_64\n")
        assert pack.run("src/dist/tool") == (0, "prog:\n", "")
        described = inspect.describe(src / "dist/tool")
        assert [tool["name"] for tool in described["tools"]] == ["y"]
        pack.place.packed("fat", "src", "-c", "x", "-o", "other")
        assert [tool["name"] for tool in inspect.describe(pack.place.work / "other")["tools"]] == ["x"]
        inspect.extract(pack.place.work / "other", pack.place.work / "out")
        assert (pack.place.work / "out/app/lib/python/site-packages/notes/read.me").read_text() == "notes"

    def test_a_project_that_says_nothing_is_packed_for_the_running_python(self, pack: Packer) -> None:
        files = {"prog.py": ECHO % "prog", "prog-1.0.dist-info/entry_points.txt": ENTRY_POINTS.format("prog")}
        src = project(pack.place.work / "src", "prog", files)
        assert f" for {RUNNING}-" in pack.place.packed("fat", "--no-index", cwd=src).stdout
        assert pack.run("src/prog") == (0, "prog:\n", "")

    def test_a_wheel(self, pack: Packer) -> None:
        pack.add("app", requires=["dep"], scripts=["app=dep:main"])
        pack.add("dep")
        shutil.copy(pack.shelf / "app-1.0-py3-none-any.whl", pack.place.work)
        pack.fat("app-1.0-py3-none-any.whl")
        assert pack.run("app") == (0, "dep 1.0:\n", "")

    def test_a_script_alone(self, pack: Packer) -> None:
        (pack.place.work / "my-script.py").write_text(ECHO % "script")
        pack.fat("my-script.py")
        assert pack.run("my-script", "--version") == (1, "script: --version\n", "")

    def test_a_script_with_requirements_and_files(self, pack: Packer) -> None:
        pack.add("dep")
        (pack.place.work / "data").mkdir()
        (pack.place.work / "data/text").write_text("from data")
        (pack.place.work / "helper.py").write_text("WORD = 'from helper'\n")
        (pack.place.work / "script.py").write_text(
            "import os, dep, helper\n"
            "here = os.path.dirname(os.path.abspath(__file__))\n"
            "print(open(os.path.join(here, 'assets', 'text')).read(), helper.WORD, dep.__name__, __name__)\n"
        )
        (pack.place.work / "reqs.txt").write_text("dep\n")
        pack.fat("script.py", "-r", "reqs.txt", "--include", "data:assets", "--include", "helper.py:helper.py")
        assert pack.run("script") == (0, "from data from helper dep __main__\n", "")

    def test_a_function_a_module_and_a_package(self, pack: Packer) -> None:
        files = {"pkg/__init__.py": "", "pkg/__main__.py": "import sys\nprint('main of pkg', *sys.argv[1:])\n"}
        pack.add("app", files=files)
        pack.fat("app", "-e", "app:main", "-o", "function")
        pack.fat("app", "-m", "app", "-o", "module")
        pack.fat("app", "-m", "pkg", "-o", "package")
        assert pack.run("function", "x") == (1, "app 1.0: x\n", "")
        assert pack.run("module", "x") == (1, "app 1.0: x\n", "")
        assert pack.run("package", "x") == (0, "main of pkg x\n", "")


class TestTools:
    @pytest.fixture
    def tools(self, pack: Packer) -> Packer:
        pack.add("one", scripts=["one=one:main"])
        pack.add("two", scripts=["second=two:main"])
        pack.fat("one", "two", "--tool", "first=one:main", "--tool", "two=second", "-o", "both")
        return pack

    def test_the_name_it_is_called_by_chooses(self, tools: Packer) -> None:
        for name in ("first", "two", "other"):
            (tools.place.work / name).symlink_to("both")
        assert tools.run("first", "x") == (1, "one 1.0: x\n", "")
        assert tools.run("two", "x") == (1, "two 1.0: x\n", "")
        assert tools.run("other", "x") == (1, "one 1.0: x\n", "")
        assert tools.run("both", "x") == (1, "one 1.0: x\n", "")

    def test_a_copy_is_called_by_its_own_name(self, tools: Packer) -> None:
        shutil.copy(tools.place.work / "both", tools.place.work / "two")
        assert tools.run("two") == (0, "two 1.0:\n", "")


class TestWheels:
    def test_a_script_of_a_wheel(self, pack: Packer) -> None:
        """As it was before there were entry points."""
        script = "#!python\nimport sys, dep\nprint('script', __name__, *sys.argv[1:])\nsys.exit(dep.main())\n"
        index.wheel(pack.shelf, "app", files={"app-1.0.data/scripts/tool.py": script}, requires=["dep"])
        pack.add("dep")
        pack.fat("app", "-o", "app")
        assert pack.run("app", "x") == (1, "script __main__ x\ndep 1.0: x\n", "")

    def test_a_shell_script_of_a_wheel_finds_python(self, pack: Packer) -> None:
        script = '#!/bin/sh\nexec "$(dirname "$0")/python" -c "import dep; print(dep.__name__)"\n'
        index.wheel(pack.shelf, "app", files={"app-1.0.data/scripts/tool": script}, requires=["dep"])
        pack.add("dep")
        pack.fat("app")
        assert pack.run("tool") == (0, "dep\n", "")

    def test_a_namespace_package_in_two_wheels(self, pack: Packer) -> None:
        index.wheel(pack.shelf, "ns-one", files={"ns/one.py": "X = 1\n"})
        index.wheel(pack.shelf, "ns-two", files={"ns/two/__init__.py": "X = 2\n", "ns/two/data/text": "in ns"})
        source = (
            "import importlib.resources, os, ns.one, ns.two\n\n\ndef main():\n"
            "    text = os.path.join(os.path.dirname(ns.two.__file__), 'data', 'text')\n"
            "    print(ns.one.X, ns.two.X, open(text).read(), len(list(ns.__path__)))\n"
        )
        index.wheel(
            pack.shelf, "app", files={"app.py": source}, requires=["ns-one", "ns-two"], scripts=["app=app:main"]
        )
        pack.fat("app")
        assert pack.run("app") == (0, "1 2 in ns 1\n", "")

    def test_data_files_headers_and_package_data(self, pack: Packer) -> None:
        files = {
            "app/__init__.py": "", "app/data/a.txt": "package data", "app-1.0.data/data/share/app/b.txt": "shared",
            "app-1.0.data/headers/app.h": "header", "app-1.0.data/purelib/pure.py": "X = 'pure'\n",
            "app-1.0.data/platlib/plat.py": "X = 'plat'\n",
            "app/main.py": (
                "import os, sys, pkgutil, pure, plat\n\n\ndef main():\n"
                "    shared = os.path.join(sys.prefix, 'share', 'app', 'b.txt')\n"
                "    include = os.walk(os.path.join(sys.prefix, 'include'), followlinks=True)\n"
                "    headers = [name for _, _, names in include for name in names]\n"
                "    data = pkgutil.get_data('app', 'data/a.txt').decode()\n"
                "    print(data, open(shared).read(), headers, pure.X, plat.X)\n"
            ),
        }  # fmt: skip
        index.wheel(pack.shelf, "app", files=files, scripts=["app=app.main:main"])
        pack.fat("app")
        assert pack.run("app") == (0, "package data shared ['app.h'] pure plat\n", "")

    def test_plugins_are_found_through_metadata(self, pack: Packer) -> None:
        source = (
            "from importlib import metadata\n\n\ndef main():\n"
            "    points = metadata.entry_points()\n"
            "    found = points.select(group='app.plugins') if hasattr(points, 'select') else points['app.plugins']\n"
            "    print(sorted(point.load()() for point in found), metadata.version('plugin-b'))\n"
        )
        index.wheel(
            pack.shelf, "app", files={"app.py": source}, scripts=["app=app:main"], requires=["plugin-a", "plugin-b"]
        )
        for name in ("a", "b"):
            points = f"[app.plugins]\n{name} = plugin_{name}:hook\n"
            files = {
                f"plugin_{name}.py": f"def hook(): return 'hook {name}'\n",
                f"plugin_{name}-1.0.dist-info/entry_points.txt": points,
            }
            index.wheel(pack.shelf, f"plugin-{name}", files=files)
        pack.fat("app")
        assert pack.run("app") == (0, "['hook a', 'hook b'] 1.0\n", "")

    @pytest.mark.network
    @pytest.mark.hosts
    def test_a_wheel_that_is_nothing_but_a_program(self, place: Place) -> None:
        place.packed("fat", "ruff", "--abis", "manylinux2014,cp311", "--fast", env=CACHE)
        (place.work / "bad.py").write_text("import os\n")
        binds = {place.work / "ruff": TOOL, place.work / "bad.py": "/opt/bad.py"}
        ended = require_host("bookworm").run(
            [TOOL, "check", "--no-cache", "--output-format=concise", "/opt/bad.py"], binds=binds
        )
        assert (ended.status, ended.stderr) == (1, b"")
        assert ended.stdout.decode().startswith("/opt/bad.py:1:8: F401 ")


# Several ABIs -----------------------------------------------------------------------------------------------------


@pytest.mark.hosts
class TestDifferentVersions:
    """One program, whose dependencies differ with the Python: bullseye has two."""

    SOURCE = """\
import sys

import dep

found = ["%d.%d" % sys.version_info[:2], dep.VERSION]
for name in ("backport", "modern"):
    try:
        found.append(__import__(name).__name__)
    except ImportError:
        pass


def main():
    print(" ".join(found))
"""

    @pytest.fixture
    def shelf(self, pack: Packer) -> Packer:
        requires = ["dep", "backport; python_version < '3.4'", "modern; python_full_version >= '3.9.1'"]
        files = {"app.py": self.SOURCE}
        index.wheel(pack.shelf, "app", tag="py2.py3-none-any", files=files, requires=requires, scripts=["app=app:main"])
        for version, python in (("2.0", ">=3.6"), ("1.0", ">=2.7, !=3.0.*")):
            files = {"dep.py": f"VERSION = '{version}'\n"}
            index.wheel(pack.shelf, "dep", version, tag="py2.py3-none-any", files=files, requires_python=python)
        for name in ("backport", "modern"):
            index.wheel(pack.shelf, name, tag="py2.py3-none-any", files={f"{name}.py": ""})
        return pack

    @pytest.mark.parametrize(
        ("abis", "said"),
        [
            ("cp39,cp27", b"3.9 2.0 modern\n"),
            ("cp27,cp39", b"2.7 1.0 backport\n"),
            ("cp27,cp311", b"2.7 1.0 backport\n"),
        ],
    )
    def test_versions_and_markers_are_those_of_the_python_that_runs(
        self, abis: str, said: bytes, shelf: Packer
    ) -> None:
        shelf.place.packed("fat", "app", "--abis", f"manylinux2014,{abis}", "--no-index", "--find-links", shelf.shelf)
        ended = run_on("bullseye", shelf.place.work / "app")
        assert (ended.status, ended.stdout, ended.stderr) == (0, said, b"")


CRYPTS = """\
import sys

from cryptography.fernet import Fernet


def main():
    fernet = Fernet(Fernet.generate_key())
    same = fernet.decrypt(fernet.encrypt(b"secret")) == b"secret"
    print("%s %s" % (same, sys.version_info[0]))
"""


@pytest.mark.network
@pytest.mark.hosts
@pytest.mark.slow
@pytest.mark.parametrize(("abis", "said"), [("cp27,cp39", b"True 2\n"), ("cp39,cp27", b"True 3\n")])
def test_a_program_whose_dependencies_needed_backports(abis: str, said: bytes, place: Place) -> None:
    index.wheel(
        place.work, "crypts", tag="py2.py3-none-any", files={"crypts.py": CRYPTS}, requires=["cryptography"],
        scripts=["crypts=crypts:main"],
    )  # fmt: skip
    wheel = "crypts-1.0-py2.py3-none-any.whl"
    place.packed("fat", wheel, "--abis", f"manylinux2014,{abis}", "--fast", env=CACHE)
    slices = inspect.describe(place.work / "crypts")["manifest"]["slices"]
    names = {one["name"].partition("-")[0]: {wheel["name"] for wheel in one["distributions"]} for one in slices}
    assert names["cp27mu"] - names["cp39"] >= {"enum34", "ipaddress", "six"}
    ended = run_on("bullseye", place.work / "crypts")
    # cryptography warns of 2.7's end
    assert (ended.status, ended.stdout, ended.stderr if said == b"True 3\n" else b"") == (0, said, b"")


# Source distributions ---------------------------------------------------------------------------------------------


@pytest.mark.network
class TestSourceDistributions:
    """docopt never had a wheel."""

    def test_it_is_built_where_an_interpreter_is(self, place: Place) -> None:
        source = "import docopt\n\n\ndef main():\n    print(docopt.docopt('Usage: tool [--word=W]')['--word'])\n"
        index.wheel(place.work, "tool", files={"tool.py": source}, requires=["docopt"], scripts=["tool=tool:main"])
        wheel = place.work / "tool-1.0-py3-none-any.whl"
        ended = place.packed("fat", wheel, "--abis", f"manylinux2014,{RUNNING}")
        assert ended.stderr == ""
        (one,) = inspect.describe(place.work / "tool")["manifest"]["slices"]
        assert {wheel["name"]: wheel.get("built_from") for wheel in one["distributions"]} == {
            "docopt": "docopt-0.6.2.tar.gz", "tool": None,
        }  # fmt: skip
        done = run_program(place.work / "tool", "--word=built", store=place.root / "store")
        assert (done.returncode, done.stdout, done.stderr) == (0, "built\n", "")

    def test_the_error_names_distribution_abi_and_what_exists(self, place: Place) -> None:
        if any(one.tag == "cp35m" for one in pythons.find()):
            skip_optional("this machine could build for cp35m")
        before = place.left()
        ended = place.run("fat", "docopt==0.6.2", "--abis", "manylinux2014,cp35", "-m", "docopt", env=CACHE)
        here = ", ".join(sorted({one.tag for one in pythons.find()}))
        said = (
            "packer: cp35m-manylinux_2_17_x86_64: no wheel fits docopt==0.6.2, and no cp35m interpreter is here to "
            f"build docopt-0.6.2.tar.gz (found: {here})\n"
            "packer: hint: docopt 0.6.2 is there as a source distribution only\n"
            "packer: install one, or say where it is: --interpreter PATH\n"
        )
        assert ended.whole == (1, "", said)
        assert place.left() == before


# The same bytes ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project, a wheel with names beyond ASCII, a script's data, some of it large."""
    directory = tmp_path_factory.mktemp("sources")
    files = {"prog.py": ECHO % "prog", "prog-1.0.dist-info/entry_points.txt": ENTRY_POINTS.format("prog")}
    project(directory / "src", "prog", files, requires=("dep",))
    both = "py2.py3-none-any"
    index.wheel(directory, "dep", tag=both, files={f"dep/{n}.py": f"X = {n}\n" * 500 for n in range(300)})
    index.wheel(directory, "unicode", tag=both, files={"unicode/\u00fc\u20ac.txt": "x", "unicode/__init__.py": ""})
    (directory / "data").mkdir()
    (directory / "data/large").write_bytes(bytes(range(256)) * (1 << 17))
    (directory / "data/run").write_text("#!/bin/sh\n")
    (directory / "data/run").chmod(0o755)
    return directory


@pytest.fixture(scope="module")
def first(originals: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What all are compared with."""
    with pytest.MonkeyPatch.context() as patch:
        index.forget_pip_configuration(patch)
        return packed_copy(originals, Place(tmp_path_factory.mktemp("first")))


def packed_copy(originals: Path, place: Place, **options: Any) -> bytes:
    """Pack a copy of the sources, which lies in another place each time."""
    copy = place.work / "copy"
    shutil.copytree(originals, copy)
    for path in copy.rglob("*"):
        os.utime(path)
    common = ("--no-index", "--find-links", ".", "--abis", "manylinux2014,cp39,cp27", "-o", "../out")
    place.packed("fat", "src", "unicode", "--include", "data:data", *common, cwd=copy, **options)
    return (place.work / "out").read_bytes()


class TestReproducible:
    """Nothing of where, when and by whom it was packed is in the file."""

    CIRCUMSTANCES: Mapping[str, Mapping[str, Any]] = {
        "again": {},
        "private": {"umask": 0o077},
        "hash-seed": {"env": {"PYTHONHASHSEED": "12345"}},
        "locale": {"env": {"LC_ALL": "C", "LANG": "de_DE"}},
        "time-zone": {"env": {"TZ": "Asia/Tokyo"}},
        "one-processor": {"prefix": ("taskset", "1")},
        "terminal": {"env": {"COLUMNS": "20", "TERM": "xterm"}},
    }

    @pytest.mark.parametrize("circumstance", CIRCUMSTANCES.values(), ids=CIRCUMSTANCES)
    def test_packing_twice_gives_the_same_bytes(
        self, originals: Path, first: bytes, tmp_path: Path, circumstance: Mapping[str, Any], offline: None
    ) -> None:
        assert packed_copy(originals, Place(tmp_path / "another" / "place"), **circumstance) == first

    @pytest.mark.network
    @pytest.mark.slow
    @pytest.mark.parametrize("system", ["setuptools", "hatchling", "flit_core"])
    def test_a_project_with_a_common_build_system(self, system: str, tmp_path: Path) -> None:
        backends = {
            "setuptools": "setuptools.build_meta",
            "hatchling": "hatchling.build",
            "flit_core": "flit_core.buildapi",
        }
        text = (
            f'[build-system]\nrequires = ["{system}"]\nbuild-backend = "{backends[system]}"\n'
            '[project]\nname = "prog"\nversion = "1.0"\ndescription = "x"\n[project.scripts]\nprog = "prog:main"\n'
        )
        made = []
        for name, mask in (("one", 0o022), ("two", 0o077)):
            place = Place(tmp_path / name)
            before = os.umask(mask)
            (place.work / "prog").mkdir()
            (place.work / "pyproject.toml").write_text(text)
            (place.work / "prog/__init__.py").write_text(ECHO % "prog")
            os.umask(before)
            place.packed("fat", "-o", "out", "--abis", f"manylinux2014,{RUNNING}", umask=mask)
            made.append((place.work / "out").read_bytes())
            assert not (place.work / "build").exists()
        assert made[0] == made[1]
