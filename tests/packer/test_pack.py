"""packer/job.py and packer/pack.py: what the user said becomes a job, and the job an archive."""

from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from support import index

from packer import blobs, inspect, job, pack, progress, pythons, targets, wheels
from packer.blobs import Level
from packer.boot import Function, Installed, Module, Script
from packer.config import Config
from packer.errors import PackError, UsageError

if TYPE_CHECKING:
    from packer.pack import Job, Packed

RUNNING = targets.running_target()
APP = {"app.py": "def main(): 1"}


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working directory, a cache, and nobody else's index."""
    index.forget_pip_configuration(monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    directory = tmp_path / "shelf"
    directory.mkdir()
    return directory


def job_of(*inputs: str, **said: Any) -> Job:
    return job.job_of(Config(inputs=inputs, **said), 60)[0]


def refusal(*inputs: str, **said: Any) -> tuple[str, str]:
    with pytest.raises(UsageError) as caught:
        job_of(*inputs, **said)
    return str(caught.value), caught.value.hint


class TestJob:
    def test_what_is_not_said_is_filled_in(self, tmp_path: Path) -> None:
        made, notes = job.job_of(Config(inputs=("httpie",)), 60)
        assert made.targets == (RUNNING,)
        assert (made.tools, made.output, made.include, made.level) == ((), None, (), Level.DEFAULT)
        assert made.cache == tmp_path / "cache/fatpar-packer"
        assert notes == (
            f"no --abis: packing for the running Python, {RUNNING.python.tag}",
            f"no platform named: packing for this machine's, {RUNNING.platform.tag}",
        )

    def test_another_architecture_is_for_the_running_python_too(self) -> None:
        (target,) = job_of("httpie", arch=("aarch64",)).targets
        assert (target.python, target.platform.arch) == (RUNNING.python, "aarch64")

    def test_nothing_to_pack(self) -> None:
        message = "nothing to pack: no requirement, project directory or script"
        assert refusal(entry="a:b") == (message, "see packer fat --help")

    def test_script_is_the_program_and_tools_come_after_it(self) -> None:
        Path("my-script.py").touch()
        assert job_of("my-script.py").tools == (("my-script", Script("app/my-script.py")),)
        assert job_of("my-script.py", output=Path("x/tool")).tools == (("tool", Script("app/my-script.py")),)
        assert job_of("./my-script.py", tool=("a=b:c",)).tools == (
            ("my-script", Script("app/my-script.py")),
            ("a", Function("b", "c")),
        )

    def test_a_script_and_another_entry_contradict(self) -> None:
        Path("a.py").touch()
        assert refusal("a.py", module="b") == ("a.py and b: only one of them can be what runs", "")

    def test_two_scripts_contradict(self) -> None:
        assert refusal("a.py", "b.py") == ("a.py and b.py: a program has one script", "add the other with --include")

    def test_a_script_that_is_not_there(self) -> None:
        Path("directory.py").mkdir()
        assert refusal("a.py") == ("no script a.py: there is no such file", "")
        assert refusal("directory.py") == ("no script directory.py: there is no such file", "")

    def test_a_directory_that_holds_no_project(self) -> None:
        Path("dist").mkdir()
        message = "dist is no project: it has neither pyproject.toml nor setup.py"
        assert refusal("dist/") == refusal("./dist[extra]") == (message, "name the directory of the project")
        Path("dist/x-1-py3-none-any.whl").touch()
        assert refusal("dist/") == (message, "for a wheel in it: NAME --find-links dist")

    @pytest.mark.parametrize(
        ("said", "tool"),
        [
            ({"entry": "pkg.cli:main"}, ("pkg", Function("pkg.cli", "main"))),
            ({"entry": "pkg.cli:main", "output": Path("d/tool")}, ("tool", Function("pkg.cli", "main"))),
            ({"module": "pkg.sub"}, ("pkg", Module("pkg.sub"))),
            ({"console_script": "run", "output": Path("tool")}, ("run", Installed("run"))),
        ],
    )
    def test_the_first_tool_is_what_runs(self, said: dict[str, Any], tool: object) -> None:
        made = job_of("x", **said, tool=("other=run",))
        assert made.tools == (tool, ("other", Installed("run")))
        assert made.output == said.get("output")

    def test_two_tools_of_one_name(self) -> None:
        assert refusal("x", tool=("a=b", "c=d", "a=e:f")) == ("two tools are called 'a'", "")
        assert refusal("x", entry="a:b", tool=("a=b",)) == ("two tools are called 'a'", "")

    @pytest.mark.parametrize("word", ["a", ":a", "a:", "a:/b", "a:../b", "a:b/../../c", "a:."])
    def test_an_include_that_makes_no_sense(self, word: str) -> None:
        Path("a").touch()
        message = f"not an --include: {word!r}: write SRC:DEST, DEST relative to the program's modules"
        assert refusal("x", include=(word,)) == (message, "")

    def test_an_include_that_is_not_there(self) -> None:
        assert refusal("x", include=("no:where",)) == ("cannot include no: there is no such file or directory", "")

    def test_an_include_with_colons(self) -> None:
        Path("a:b").touch()
        assert job_of("x", include=("a:b:c/./d/",)).include == ((Path("a:b"), "c/d"),)

    def test_no_place_for_the_cache(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setenv("HOME", "/home/somebody")
        assert job_of("x").cache == Path("/home/somebody/.cache/fatpar-packer")
        monkeypatch.setenv("XDG_CACHE_HOME", "relative")
        assert job_of("x").cache == Path("/home/somebody/.cache/fatpar-packer")
        monkeypatch.delenv("HOME")
        assert refusal("x") == ("no place for the cache: HOME is not set", "set XDG_CACHE_HOME")

    def test_which_words_are_project_directories(self) -> None:
        for name in ("project", "plain", "old"):
            Path(name).mkdir()
        Path("project/pyproject.toml").touch()
        Path("old/setup.py").touch()
        Path("x-1.0-py3-none-any.whl").touch()
        words = (
            "project", "project[a,b]", "old", "plain", "./plain", "./plain[a]", ".", ".[a]", "x-1.0-py3-none-any.whl",
            "y[a]>1",
        )  # fmt: skip
        meant = {word: job.project_of(word) for word in words}
        assert {word: str(path) for word, path in meant.items() if path} == {
            "project": "project", "project[a,b]": "project", "old": "old", "./plain": "plain", "./plain[a]": "plain",
            ".": ".", ".[a]": ".",
        }  # fmt: skip
        for name in (".", "plain"):
            Path(name, "pyproject.toml").touch()
        named = [word for word in words if word != "plain"]  # it would be one now
        assert job_of(*named).requests.requirements == (
            "./project", "./project[a,b]", "./old", "./plain", "./plain[a]", ".", ".[a]",
            "x-1.0-py3-none-any.whl", "y[a]>1",
        )  # fmt: skip


def packed(shelf: Path, *inputs: str, abis: str = "manylinux2014,cp311", **said: Any) -> Packed:
    made = job_of(*inputs, abis=abis, no_index=True, find_links=(str(shelf),), fast=True, **said)
    return pack.pack(made, progress.Quiet())


def refused(shelf: Path, *inputs: str, **said: Any) -> tuple[str, str]:
    before = sorted(Path().iterdir())
    with pytest.raises(PackError) as caught:
        packed(shelf, *inputs, **said)
    assert sorted(Path().iterdir()) == before
    return str(caught.value), caught.value.hint


class TestDefaultTool:
    """Which command an archive is when nobody says."""

    WHICH = "which command shall the archive be?"

    def test_the_only_one(self, shelf: Path) -> None:
        index.wheel(shelf, "app", scripts=["run=app:main"], requires=["dep"], files=APP)
        index.wheel(shelf, "dep", scripts=["other=dep:main", "app=dep:main"], files={"dep.py": "def main(): 1"})
        assert [tool.name for tool in packed(shelf, "app").tools] == ["run"]
        assert Path("run").is_file()

    def test_the_one_that_is_called_like_the_requirement(self, shelf: Path) -> None:
        index.wheel(shelf, "App_X", scripts=["run=app:main", "app-x=app:main"], files=APP)
        assert [tool.name for tool in packed(shelf, "app.x").tools] == ["app-x"]

    def test_the_one_that_is_called_like_the_output(self, shelf: Path) -> None:
        index.wheel(shelf, "app", scripts=["run=app:main", "app=app:main"], files=APP)
        assert [tool.name for tool in packed(shelf, "app", output=Path("run")).tools] == ["run"]
        assert [tool.name for tool in packed(shelf, "app", output=Path("x")).tools] == ["app"]

    def test_what_requirement_files_and_paths_ask_for_counts(self, shelf: Path) -> None:
        index.wheel(shelf, "app", scripts=["run=app:main"], requires=["dep"], files=APP)
        index.wheel(shelf, "dep", scripts=["other=dep:main"], files={"dep.py": "def main(): 1"})
        Path("reqs.txt").write_text("app\n")
        assert [tool.name for tool in packed(shelf, requirement=(Path("reqs.txt"),)).tools] == ["run"]
        assert [tool.name for tool in packed(shelf, str(shelf / "app-1.0-py3-none-any.whl")).tools] == ["run"]
        index.project(Path("project"), "project")
        hint = "say it with -c, -m or -e; what is asked for installs none"
        assert refused(shelf, "./project", output=Path("out")) == (self.WHICH, hint)
        assert [tool.name for tool in packed(shelf, "./project", "app").tools] == ["run"]

    def test_several(self, shelf: Path) -> None:
        index.wheel(shelf, "app", scripts=["a=app:main", "b=app:main"], files=APP)
        assert refused(shelf, "app") == (self.WHICH, "say it with -c, -m or -e; there is a, b")


class TestOutput:
    def test_the_default_is_the_first_tool(self, shelf: Path) -> None:
        index.wheel(shelf, "app", scripts=["run=app:main"], files=APP)
        assert packed(shelf, "app", entry="app:main").written.path == Path("app")
        assert packed(shelf, "app", tool=("x=run", "y=run")).written.path == Path("x")

    def test_where_a_directory_has_that_name_it_goes_to_dist(self, shelf: Path) -> None:
        """As in a project whose package is called like its command."""
        index.wheel(shelf, "app", scripts=["app=app:main"], files=APP)
        Path("app").mkdir()
        assert packed(shelf, "app").written.path == Path("dist/app")
        assert packed(shelf, "app").written.path == Path("dist/app")
        message = "cannot write dist/app: it is a directory"
        Path("dist/app").unlink()
        Path("dist/app").mkdir()
        assert refused(shelf, "app") == (message, "name another file with -o")

    def test_dist_is_not_made_for_what_fails(self, shelf: Path) -> None:
        index.wheel(shelf, "app", scripts=["app=app:main"], files=APP)
        Path("app").mkdir()
        refused(shelf, "app", tool=("app=app:main", "x=nowhere:main"))


class TestSlices:
    def test_a_command_that_one_slice_has_not(self, shelf: Path) -> None:
        index.wheel(shelf, "app", "2.0", requires_python=">=3.10", scripts=["run=app:main"], files=APP)
        index.wheel(shelf, "app", "1.0", scripts=["ran=app:main"], files=APP)
        message = "cp39-manylinux_2_17_x86_64: no command 'run': none of the wheels installs it"
        assert refused(shelf, "app", abis="manylinux2014,cp311,cp39") == (message, "there is ran")

    def test_a_command_that_is_another_kind_of_program_in_one_slice(self, shelf: Path) -> None:
        index.wheel(shelf, "app", "2.0", requires_python=">=3.10", files={"app-2.0.data/scripts/run": b"\x7fELF"})
        index.wheel(shelf, "app", "1.0", scripts=["run=app:main"], files=APP)
        message, hint = refused(shelf, "app", abis="manylinux2014,cp311,cp39")
        names = "cp311-manylinux_2_17_x86_64 and in cp39-manylinux_2_17_x86_64"
        assert (message, hint) == (f"run is not the same kind of program in {names}: Python or not", "")

    def test_warnings_and_manifest_tell_what_was_packed(self, shelf: Path) -> None:
        files = {**APP, "both.py": "1", "same.py": "1"}
        index.wheel(shelf, "app", scripts=["app=app:main"], requires=["dep"], files=files)
        index.wheel(shelf, "dep", files={"both.py": "2", "same.py": "1"}, omit=["RECORD"])
        made = packed(shelf, "app", abis="manylinux2014,cp311,cp39")
        conflict = (
            "lib/python3.{}/site-packages/both.py comes with dep-1.0-py3-none-any and, different, with "
            "app-1.0-py3-none-any: the latter is used"
        )
        assert made.warnings == ("dep-1.0-py3-none-any.whl: it has no RECORD", conflict.format(11), conflict.format(9))
        manifest = inspect.describe(Path("app"))["manifest"]
        assert manifest["warnings"] == list(made.warnings)
        assert (manifest["version"], manifest["tools"]) == (1, ["app"])
        assert [one["name"] for one in manifest["slices"]] == [one.target.name for one in made.slices]
        for one in manifest["slices"]:
            assert [(wheel["name"], wheel["version"], wheel["wheel"]) for wheel in one["distributions"]] == [
                ("dep", "1.0", "dep-1.0-py3-none-any.whl"), ("app", "1.0", "app-1.0-py3-none-any.whl"),
            ]  # fmt: skip
            assert all(set(wheel) == {"name", "version", "wheel", "sha256"} for wheel in one["distributions"])

    def test_slices_share_the_layers_of_pure_wheels(self, shelf: Path) -> None:
        index.wheel(shelf, "app", scripts=["app=app:main"], files=APP)
        packed(shelf, "app", abis="manylinux2014,cp311,cp39,cp313")
        described = inspect.describe(Path("app"))
        assert [one["layers"] for one in described["slices"]] == [[0, 1]] * 3

    def test_a_built_wheel_tells_what_it_was_built_from(self, shelf: Path) -> None:
        index.project(Path("project"), "project")
        packed(shelf, "./project", abis=f"manylinux2014,{RUNNING.python.tag}", module="project", output=Path("out"))
        (one,) = inspect.describe(Path("out"))["manifest"]["slices"]
        assert [wheel["built_from"] for wheel in one["distributions"]] == ["project"]


class TestEntries:
    """A function that surely is not there is an error now, not on the first host."""

    @pytest.mark.parametrize(
        ("source", "hint"),
        [
            ("def main(): 1", "did you mean main?"),
            ("class Mein: 1", "did you mean Mein?"),
            ("import sys", ""),
            ("print 'not python 3'", ""),
        ],
    )
    def test_a_function_that_is_not_there(self, shelf: Path, source: str, hint: str) -> None:
        index.wheel(shelf, "app", files={"app/__init__.py": "", "app/cli.py": source})
        message = "cp311-manylinux_2_17_x86_64: no function mein in app.cli"
        assert refused(shelf, "app", entry="app.cli:mein.run") == (message, hint)

    @pytest.mark.parametrize(
        "source",
        [
            "from os import *",
            "from os import (\n    path as mein)",
            "for mein in (print,): pass",
            "def f():\n    global mein\n    mein = 1",
            "def __getattr__(name): return print",
            "globals()['me' + 'in'] = 1",
            "import sys\nsys.modules[__name__] = 1",
        ],
    )
    def test_a_function_that_may_be_there_in_another_way(self, shelf: Path, source: str) -> None:
        index.wheel(shelf, "app", files={"app.py": source})
        assert [tool.name for tool in packed(shelf, "app", entry="app:mein").tools] == ["app"]

    def test_a_function_of_what_is_included(self, shelf: Path, tmp_path: Path) -> None:
        index.wheel(shelf, "app", files=APP)
        (tmp_path / "own.py").write_text("def main(): 1")
        made = packed(shelf, "app", entry="own:main", include=(f"{tmp_path}/own.py:own.py",))
        assert [tool.target for tool in made.tools] == ["boot/own.py"]

    def test_a_package_that_cannot_be_run(self, shelf: Path) -> None:
        index.wheel(shelf, "app", files={"app/__init__.py": ""})
        message = "no module app.__main__ to begin with: app is a package that cannot be run"
        assert refused(shelf, "app", module="app") == (message, "")


class TestIncludes:
    def test_includes_go_beside_modules_or_the_script(self, shelf: Path, tmp_path: Path) -> None:
        index.wheel(shelf, "app", scripts=["app=app:main"], files=APP)
        (tmp_path / "data").mkdir()
        (tmp_path / "data/x.txt").write_text("x")
        (tmp_path / "script.py").write_text("print(1)")
        include = (f"{tmp_path}/data:assets", f"{tmp_path}/data/x.txt:assets/y.txt")
        inspect.extract(packed(shelf, "app", include=include).written.path, tmp_path / "one")
        beside = tmp_path / "one/app/lib/python/site-packages"
        assert sorted(path.relative_to(beside).as_posix() for path in beside.rglob("*.txt")) == [
            "assets/x.txt", "assets/y.txt",
        ]  # fmt: skip
        inspect.extract(packed(shelf, f"{tmp_path}/script.py", include=include).written.path, tmp_path / "two")
        assert (tmp_path / "two/app/app/assets/y.txt").read_text() == "x"

    def test_two_includes_at_one_place(self, shelf: Path, tmp_path: Path) -> None:
        (tmp_path / "script.py").write_text("print(1)")
        message, _ = refused(shelf, f"{tmp_path}/script.py", include=(f"{tmp_path}/script.py:script.py",))
        assert message == f"two files would go to app/script.py: {tmp_path}/script.py is one of them"


def test_a_job_without_wheels_needs_no_cache_and_no_index(shelf: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import json")
    made = replace(job_of(f"{tmp_path}/script.py", abis="cp39"), cache=Path("/proc/nowhere"))
    assert pack.pack(made, progress.Quiet()).tools[0].name == "script"
    with pytest.raises(PackError) as caught:
        pack.pack(replace(job_of("x", abis="cp39"), cache=Path("/proc/nowhere")), progress.Quiet())
    said = str(caught.value), caught.value.hint
    assert said == ("cannot make the cache /proc/nowhere: No such file or directory", "set XDG_CACHE_HOME")


class TestWhatIsLeftOut:
    FILES: ClassVar = {**APP, "pkg/__init__.py": "", "pkg/tests/x.py": "1", "pkg/x.a": "2"}

    def test_it_is_told_and_another_layer(self, shelf: Path) -> None:
        index.wheel(shelf, "app", scripts=["app=app:main"], files=self.FILES)
        packed(shelf, "app", output=Path("whole"))
        packed(shelf, "app", output=Path("trimmed"), trim=True)
        packed(shelf, "app", output=Path("chosen"), exclude=("pkg/tests/*",))
        whole, trimmed, chosen = (inspect.describe(Path(name)) for name in ("whole", "trimmed", "chosen"))
        assert "left_out" not in whole["manifest"]
        site = "lib/python/site-packages/pkg"
        assert trimmed["manifest"]["left_out"] == {"app-1.0-py3-none-any.whl": [f"{site}/tests/x.py", f"{site}/x.a"]}
        assert chosen["manifest"]["left_out"] == {"app-1.0-py3-none-any.whl": [f"{site}/tests/x.py"]}
        assert len({one["layers"][0]["digest"] for one in (whole, trimmed, chosen)}) == 3

    def test_a_pattern_that_matches_nothing(self, shelf: Path) -> None:
        index.wheel(shelf, "app", scripts=["app=app:main"], files=self.FILES)
        made = packed(shelf, "app", exclude=("pkg/test/*", "*.a"), trim=True)
        assert made.warnings == ("--exclude 'pkg/test/*' matches no file",)
        assert made.notes == ("left out of 1 wheels: 2 files; packer inspect --json lists them",)
        assert refusal("x", exclude=("",)) == ("--exclude '': an empty pattern matches nothing", "")

    def test_the_program_itself(self, shelf: Path) -> None:
        index.wheel(shelf, "app", scripts=["app=app:main"], files=self.FILES)
        message = "no module app to begin with: no wheel of cp311-manylinux_2_17_x86_64 has it"
        assert refused(shelf, "app", exclude=("app.py",)) == (message, "was it left out by --exclude or --trim?")


class TestBytecode:
    def test_policies_that_contradict_each_other(self) -> None:
        hint = "--bytecode used is what a recorded run imports: --profile-run 'ARGUMENTS'"
        assert refusal("x", bytecode="used") == ("--bytecode used and no --profile-run", hint)
        assert refusal("x", bytecode="all", profile_run=("",)) == ("--bytecode all and a --profile-run", hint)
        assert refusal("x", bytecode="most") == ("not a policy for bytecode: 'most'", "all, used or none")
        assert refusal("x", profile_run=("'",)) == ('--profile-run "\'": No closing quotation', "")
        assert refusal("x", fast=True, small=True) == ("--fast and --small: only one of them can be", "")

    def test_the_defaults(self) -> None:
        assert job_of("x").bytecode is pack.Bytecode.NONE
        assert job_of("x", profile_run=("--help",)).bytecode is pack.Bytecode.USED
        assert (job_of("x").level, job_of("x", small=True).level) == (Level.DEFAULT, Level.SMALL)

    def test_all_of_it(self, shelf: Path) -> None:
        index.wheel(shelf, "app", scripts=["app=app:main"], files={**APP, "other.py": "x = 1"})
        tag = RUNNING.python.tag
        made = packed(shelf, "app", abis=f"manylinux2014,{tag}", bytecode="all")
        described = inspect.describe(Path("app"))
        assert [layer["kind"] for layer in described["layers"]] == ["wheel", "app", "bytecode"]
        assert described["layers"][2]["files"] == 2
        assert made.notes == ()
        name = made.slices[0].target.name
        said = described["manifest"]["bytecode"]
        assert said == {"policy": "all", "compiled_by": {name: platform.python_version()}}
        assert inspect.verify(Path("app"))[1] == 3

    def test_a_python_that_is_not_here(self, shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        index.wheel(shelf, "app", scripts=["app=app:main"], files=APP)
        monkeypatch.setattr(pythons, "find", lambda: ())
        made = packed(shelf, "app", abis="manylinux2014,cp39,cp311", bytecode="all")
        assert made.notes == ("no interpreter here for cp39, cp311: its bytecode is made at first launches",)
        assert inspect.describe(Path("app"))["manifest"]["bytecode"] == {"policy": "all", "compiled_by": {}}

    def test_what_a_recorded_run_imports(self, shelf: Path) -> None:
        files = {
            "app.py": "import sys\ndef main():\n    if sys.argv[1:] == ['a b']: import used\n",
            "used.py": "x = 1", "unused.py": "x = 1",
        }  # fmt: skip
        index.wheel(shelf, "app", scripts=["app=app:main"], files=files)
        abis = f"manylinux2014,{RUNNING.python.tag}"
        found = {}
        for run in ("", "'a b'"):
            packed(shelf, "app", abis=abis, profile_run=(run,))
            inspect.extract(Path("app"), Path(f"out{run}"))
            found[run] = {path.name.partition(".")[0] for path in Path(f"out{run}").rglob("*.pyc")}
        assert found == {"": {"app"}, "'a b'": {"app", "used"}}

    @pytest.mark.parametrize(
        ("source", "how"),
        [
            ("raise SystemExit(3)", "status 3"),
            ("raise SystemExit('no such file')", "status 1: no such file"),
            ("import os; os.kill(os.getpid(), 9)", "SIGKILL"),
        ],
    )
    def test_a_run_that_fails(self, shelf: Path, source: str, how: str) -> None:
        index.wheel(shelf, "app", scripts=["app=app:main"], files={"app.py": f"def main():\n    {source}"})
        abis = f"manylinux2014,{RUNNING.python.tag}"
        message = f"--profile-run '--x': it ended with {how}"
        assert refused(shelf, "app", abis=abis, profile_run=("--x",)) == (
            message,
            "name a run that succeeds; packer profile --run takes any",
        )

    def test_a_run_that_no_slice_is_for(self, shelf: Path) -> None:
        index.wheel(shelf, "app", scripts=["app=app:main"], files=APP)
        message = "--profile-run '': no slice runs on this machine"
        hint = "add the ABI of a Python that is here"
        assert refused(shelf, "app", abis="manylinux2014,cp35", profile_run=("",)) == (message, hint)


class TestPackingAgain:
    def test_only_what_changed_is_made_anew(self, shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """No wheel is installed again, no blob of another layer is compressed again, and the bytes are the same."""
        index.wheel(shelf, "dep", files={"dep.py": "x = 1\n" * 100})
        Path("app.py").write_text("import dep\n" * 100)
        first = packed(shelf, "app.py", "dep")
        before = Path("app").read_bytes()
        monkeypatch.setattr(wheels, "install", None)
        made = []
        compress = blobs._compress

        def count(raw: bytes, *others: Any) -> bytes:
            made.append(raw)
            return compress(raw, *others)

        monkeypatch.setattr(blobs, "_compress", count)
        assert packed(shelf, "app.py", "dep").written == first.written
        assert (Path("app").read_bytes(), made) == (before, [])
        Path("app.py").write_text("import dep  # changed\n" * 100)
        packed(shelf, "app.py", "dep")
        assert len(made) == 1
        assert b"changed" in made[0]

    def test_a_damaged_cache(self, shelf: Path, tmp_path: Path) -> None:
        index.wheel(shelf, "app", scripts=["app=app:main"], files=APP)
        packed(shelf, "app")
        (place,) = (tmp_path / "cache/fatpar-packer/installed").iterdir()
        (place / "layer.json").write_text("{")
        message, hint = refused(shelf, "app", output=Path("again"))
        assert message.startswith(f"{place}/layer.json is damaged: ")
        assert hint == f"remove {place}"
