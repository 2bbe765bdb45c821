"""Boot files, run for real by every interpreter that the machine has, in views made by hand."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.layers import SITE, layer
from support.skips import skip_optional
from support.views import View, interpreters, make_view, minor, name

from packer import boot, modules, wheels
from packer.errors import PackError, UsageError
from packer.model import Tool, ToolKind
from packer.pythons import Interpreter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

REPORT = """\
import json, os, sys

def report():
    main = sys.modules["__main__"]
    encode = getattr(os, "fsencode", lambda text: text)
    json.dump({
        "argv": [encode(word).decode("latin-1") for word in sys.argv],
        "path": sys.path,
        "names": sorted(vars(main)),
        "file": getattr(main, "__file__", None),
        "package": main.__package__,
        "spec": getattr(getattr(main, "__spec__", None), "name", None),
        "loader": getattr(getattr(main, "__loader__", None), "path", None),
    }, sys.stdout)
"""

WORKERS = """\
import multiprocessing, os, sys

REGISTERED = []

def work(number):
    return number * 2, os.getpid(), list(REGISTERED)

def spread(method, work=work):
    context = multiprocessing.get_context(method) if method else multiprocessing
    pool = context.Pool(2)
    results = pool.map(work, [1, 2, 3], 1)
    pool.close()
    pool.join()
    assert os.getpid() not in [pid for _, pid, _ in results]
    print([(number, registered) for number, _, registered in results])
"""


@pytest.fixture(params=interpreters(), ids=name)
def view(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> View:
    monkeypatch.setattr(modules, "FEWEST", 1)
    interpreter = request.param
    assert isinstance(interpreter, Interpreter)
    made = make_view(tmp_path / "view", interpreter)
    made.write({"report.py": REPORT, "workers.py": WORKERS})
    return made


def test_the_running_interpreter_is_among_those_found() -> None:
    assert sys.version_info[:2] in [minor(found) for found in interpreters()]


def test_the_function_sees_what_a_console_script_shows_it(view: View) -> None:
    """sys.argv, sys.path and the names in __main__, compared with the script that pip writes."""
    view.install(boot.Function("report", "report"))
    view.write(
        {
            "bin/mytool": (
                "import re\nimport sys\nfrom report import report\nif __name__ == '__main__':\n"
                "    sys.argv[0] = re.sub(r'(-script\\.pyw|\\.exe)?$', '', sys.argv[0])\n    sys.exit(report())\n"
            )
        }
    )
    script = json.loads(view.run("--flag", "a b", flags=("-s",), script="bin/mytool").stdout)
    report = view.report("--flag", "a b")
    assert script["argv"][1:] == ["mytool", "--flag", "a b"]  # run() gives every script a name
    assert report["argv"] == ["mytool", "--flag", "a b"]
    assert [str(view.root / "bin"), *report["path"]] == script["path"]
    assert str(view.site) in report["path"]
    assert set(report["names"]) == set(script["names"]) - {"re"}
    assert report["spec"] is report["package"] is None


def test_a_function_may_be_an_attribute_of_something(view: View) -> None:
    text = "class Cli(object):\n    @staticmethod\n    def run(): return 7\n"
    view.write({"pkg/__init__.py": "", "pkg/cli.py": text})
    view.install(boot.Function("pkg.cli", "Cli.run"))
    assert view.run().returncode == 7


@pytest.mark.parametrize(
    ("body", "status", "stderr"),
    [
        ("return 3", 3, ""),
        ("return None", 0, ""),
        ("return True", 1, ""),
        ("return 'no such thing'", 1, "no such thing\n"),
        ("raise SystemExit(4)", 4, ""),
        ("import os; os._exit(5)", 5, ""),
    ],
)
def test_the_exit_status_is_what_the_function_says(view: View, body: str, status: int, stderr: str) -> None:
    view.write({"ends.py": f"def main():\n    {body}\n"})
    view.install(boot.Function("ends", "main"))
    done = view.run()
    assert (done.returncode, done.stdout, done.stderr) == (status, "", stderr)


RAISE = "def main():\n    raise ValueError('bad')\n"


@pytest.mark.parametrize(
    ("entry", "files"),
    [
        (boot.Function("raises", "main"), {"raises.py": RAISE}),
        (boot.Module("raises"), {"raises.py": f"{RAISE}main()\n"}),
        (boot.Script("app/raises.py"), {"app/raises.py": f"{RAISE}main()\n"}),
    ],
    ids=["function", "module", "script"],
)
def test_a_traceback_shows_one_line_of_the_boot_file(
    view: View, entry: boot.Function | boot.Module | boot.Script, files: Mapping[str, str]
) -> None:
    view.write(files)
    view.install(entry)
    done = view.run()
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("/boot/tool.py") == 1
    assert done.stderr.endswith("    raise ValueError('bad')\nValueError: bad\n")


def test_arguments_and_name_may_be_any_bytes(view: View) -> None:
    view.install(boot.Function("report", "report"))
    report = view.report(b"\xff\xfe", "é", typed=b"tool-\xff")
    assert [word.encode("latin-1") for word in report["argv"]] == [b"tool-\xff", b"\xff\xfe", "é".encode()]


def test_no_argument_is_an_argument_of_the_interpreter(view: View) -> None:
    view.install(boot.Function("report", "report"))
    assert view.report("-c", "--", "-V", typed="-x")["argv"] == ["-x", "-c", "--", "-V"]


def test_a_function_starts_children_by_every_method(view: View) -> None:
    """A child has what the program's module registers when it is imported, as with a console script."""
    view.write(
        {
            "parallel.py": (
                "import sys, workers\n"
                "workers.REGISTERED.append('parallel')\n"
                "def main():\n    workers.spread(sys.argv[1])\n"
            )
        }
    )
    view.install(boot.Function("parallel", "main"))
    expect_children(view, ["parallel"])


def test_a_script_starts_children_by_every_method(view: View) -> None:
    """Functions and classes of the script itself are pickled by their names in __main__."""
    view.write(
        {
            "app/tool-1.py": (
                "import sys, beside\n"
                "class Point(object):\n"
                "    def __init__(self, x): self.x = x\n"
                "def work(number):\n    return Point(beside.work(number)[0]).x, beside.work(number)[1], [__name__]\n"
                "if __name__ == '__main__':\n"
                "    import pickle\n"
                "    assert type(pickle.loads(pickle.dumps(Point(1)))) is Point\n"
                "    beside.spread(sys.argv[1], work)\n"
            ),
            "app/beside.py": WORKERS,
        }
    )
    view.install(boot.Script("app/tool-1.py"))
    for method in view.methods:
        done = view.run(method)
        main = "__mp_main__" if method in ("spawn", "forkserver") else "__main__"
        assert (done.stdout, done.stderr) == (f"{[(number, [main]) for number in (2, 4, 6)]}\n", "")


def test_a_module_starts_children_by_every_method(view: View) -> None:
    """A package's __main__ is not imported again in a child; a plain module is, as by python -m."""
    start = "import sys, workers\nif __name__ == '__main__':\n    workers.spread(sys.argv[1])\n"
    view.write({"pkg/__init__.py": "", "pkg/__main__.py": start, "plain.py": start})
    for module in ("pkg", "plain"):
        view.install(boot.Module(module))
        expect_children(view, [])


def expect_children(view: View, registered: list[str]) -> None:
    for method in view.methods:
        done = view.run(method)
        assert (done.stdout, done.stderr) == (f"{[(number, registered) for number in (2, 4, 6)]}\n", ""), method


def test_a_module_is_main_as_by_python_m(view: View) -> None:
    """Compared with ``python -m`` itself, but for argv[0] and the working directory on sys.path."""
    view.write(
        {
            "pkg/__init__.py": "",
            "pkg/side.py": "",
            "pkg/__main__.py": ("from . import side\nfrom report import report\nreport()\n"),
        }
    )
    view.install(boot.Module("pkg"))
    command = [str(view.root / "bin/python"), *view.flags, "-m", "pkg", "x"]
    real = json.loads(subprocess.run(command, capture_output=True, check=True, cwd=view.root).stdout)
    report = view.report("x")
    assert report["argv"] == ["mytool", "x"]
    assert report["path"] == [entry for entry in real["path"] if entry]
    assert {key: report[key] for key in ("file", "names", "package", "spec", "loader")} == {
        key: real[key] for key in ("file", "names", "package", "spec", "loader")
    }


@pytest.mark.parametrize("entry", [boot.Module("late"), boot.Script("app/late.py")], ids=["module", "script"])
def test_main_is_still_whole_when_exit_handlers_run(view: View, entry: boot.Module | boot.Script) -> None:
    text = "import atexit, sys\nword = 'bye'\ndef last():\n    sys.stdout.write(word)\natexit.register(last)\n"
    view.write({"late.py": text, "app/late.py": text})
    view.install(entry)
    done = view.run()
    assert (done.returncode, done.stdout, done.stderr) == (0, "bye", "")


def test_a_script_is_main_as_by_python_script(view: View) -> None:
    """Compared with ``python app/NAME.py``; the working directory, the user's site and PYTHON* stay out."""
    view.write({"app/main.py": "# -*- coding: latin-1 -*-\n'''doc'''\nfrom report import report\nreport()\n"})
    view.install(boot.Script("app/main.py"))
    flags = () if minor(view.interpreter) >= (3, 4) else view.flags
    real = json.loads(view.run("x", flags=("-s", *flags), script="app/main.py").stdout)
    report = view.report("x")
    assert report["argv"] == ["mytool", "x"]
    for key in ("path", "file", "names", "package", "spec", "loader"):
        assert report[key] == real[key], key


def test_a_script_in_bin_does_not_import_from_there(view: View) -> None:
    view.write({"bin/json": "#!python\nfrom report import report\nreport()\n", "bin/report.py": "raise SystemExit(9)"})
    view.install(boot.Script("bin/json"))
    report = view.report()
    assert str(view.root / "bin") not in report["path"]
    assert report["file"] == str(view.root / "bin/json")


def test_python_2_gets_site_packages_that_its_site_module_did_not_add(tmp_path: Path) -> None:
    """Debian's 2.7 looks for dist-packages only; so does any 2.7 whose prefix is elsewhere."""
    found = [interpreter for interpreter in interpreters() if minor(interpreter) == (2, 7)]
    if not found:
        skip_optional("no Python 2.7 on this machine")
    view = View(tmp_path / "view", found[0])
    view.write({"report.py": REPORT, "more.pth": "extra\n", "extra/module.py": ""})
    (view.root / "bin").mkdir()
    (view.root / "bin/python").symlink_to(found[0].path)
    view.install(boot.Function("report", "report"))
    report = view.report()
    assert report["path"][-2:] == [str(view.site), str(view.site / "extra")]
    assert str(view.root / "boot") not in report["path"]


@pytest.mark.parametrize(
    "entry",
    [boot.Function("a.b", "c.d"), boot.Module("a"), boot.Script("app/it's.py"), boot.Script("bin/x")],
    ids=["function", "module", "script", "bin"],
)
def test_a_boot_file_does_nothing_when_it_is_only_imported(
    entry: boot.Function | boot.Module | boot.Script,
) -> None:
    """But for the function's import, every statement is guarded."""
    tree = ast.parse(boot.boot_source(entry))
    unguarded = [ast.unparse(node) for node in tree.body if not isinstance(node, ast.If)]
    assert unguarded == (["import sys", "from a.b import c"] if isinstance(entry, boot.Function) else ["import sys"])
    guards = {ast.unparse(node.test) for node in tree.body if isinstance(node, ast.If)}
    assert guards == {"__name__ == '__main__'"}


def test_words_of_the_command_line() -> None:
    assert boot.parse_function("pkg.cli:App.run") == boot.Function("pkg.cli", "App.run")
    assert boot.parse_module("pkg.cli") == boot.Module("pkg.cli")
    assert boot.parse_tool("http=httpie.core:main") == ("http", boot.Function("httpie.core", "main"))
    assert boot.parse_tool("http=https") == ("http", boot.Installed("https"))


@pytest.mark.parametrize(
    ("parse", "word"),
    [
        *((boot.parse_function, word) for word in ["", "pkg", "pkg:", ":main", "a:b:c", "a-b:c", "a:b()", "a.:b"]),
        *((boot.parse_module, word) for word in ["", "pkg/cli", "pkg.py.", "a:b", "-m"]),
        *((boot.parse_tool, word) for word in ["", "x", "=x", "x=", "a/b=x", ".x=x", "-x=x", "x=a:", "a b=c"]),
    ],
)
def test_what_is_no_entry_point_is_an_error_that_quotes_it(parse: Callable[[str], object], word: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(word)
    assert any(repr(part) in str(error.value) for part in (word, *word.split("=")))


HTTPIE = """\
[console_scripts]
http = httpie.__main__:main
https = httpie.__main__:main [extra]

[gui_scripts]
httpw = httpie.gui:App.run

[httpie.plugins]
x = 100%
"""


def test_commands_are_entry_points_and_files_in_bin(tmp_path: Path) -> None:
    httpie = layer("httpie", {f"{SITE}/httpie-3.dist-info/entry_points.txt": HTTPIE}, tmp_path / "1")
    aws = layer(
        "awscli",
        {"bin/aws": wheels.relocatable(b"#!python\nimport awscli"), "bin/aws.cmd": "@echo off", "bin/sub/x": ""},
        tmp_path / "2",
    )
    ruff = layer("ruff", {"bin/ruff": b"\x7fELF\0\xff", "bin/env": "#!/usr/bin/env python3.9 -u\n"}, tmp_path / "3")
    late = layer(
        "late",
        {f"{SITE}/late.egg-info/entry_points.txt": "[console_scripts]\nhttps=late:main\n", "bin/https": "#!/bin/sh\n"},
        tmp_path / "4",
    )
    assert boot.installed([httpie, aws, ruff, late]) == {
        "aws": boot.Script("bin/aws"),
        "aws.cmd": boot.Executable("bin/aws.cmd"),
        "env": boot.Script("bin/env"),
        "http": boot.Function("httpie.__main__", "main"),
        "https": boot.Function("late", "main"),
        "httpw": boot.Function("httpie.gui", "App.run"),
        "ruff": boot.Executable("bin/ruff"),
    }
    assert boot.resolve(boot.Installed("http"), [httpie]) == boot.Function("httpie.__main__", "main")
    assert boot.resolve(boot.Module("any"), []) == boot.Module("any")


def test_an_unknown_command_names_the_nearest(tmp_path: Path) -> None:
    httpie = layer("httpie", {f"{SITE}/httpie-3.dist-info/entry_points.txt": HTTPIE}, tmp_path)
    with pytest.raises(UsageError, match="no command 'htpp'") as error:
        boot.resolve(boot.Installed("htpp"), [httpie])
    assert error.value.hint == "there is http, httpw, https"
    with pytest.raises(UsageError) as error:
        boot.resolve(boot.Installed("zzz"), [httpie])
    assert error.value.hint == "there is http, https, httpw"
    with pytest.raises(UsageError) as error:
        boot.resolve(boot.Installed("http"), [])
    assert error.value.hint == "name a function with -e module:function"


@pytest.mark.parametrize("text", ["[console_scripts\n", "[console_scripts]\nx = a b c\n", "[console_scripts]\nx = a\n"])
def test_entry_points_that_cannot_be_read_name_the_wheel(text: str, tmp_path: Path) -> None:
    bad = layer("bad-1.0", {f"{SITE}/bad-1.0.dist-info/entry_points.txt": text}, tmp_path)
    with pytest.raises(PackError, match=r"cannot read the entry points of bad-1\.0: .*entry_points\.txt"):
        boot.installed([bad])


def test_tools_for_the_index() -> None:
    assert boot.tool("http", boot.Function("a", "b")) == Tool("http", ToolKind.PYTHON, "boot/http.py")
    assert boot.tool("rf", boot.Executable("bin/ruff")) == Tool("rf", ToolKind.EXECUTABLE, "bin/ruff")


def test_what_comes_with_setproctitle_names_its_process_itself() -> None:
    tools = (Tool("http", ToolKind.PYTHON, "boot/http.py"), Tool("rf", ToolKind.EXECUTABLE, "bin/ruff"))
    plain, other = (layer(f"{name}-1.0-py3-none-any", {}) for name in ("setproctitled", "setproctitle"))
    assert boot.titled(tools, [plain]) == tools
    assert boot.titled(tools, [plain, other]) == (Tool("http", ToolKind.TITLED, "boot/http.py"), tools[1])


def test_where_execution_begins() -> None:
    assert boot.start(boot.Function("a.b", "c")) == "a.b:c"
    assert boot.start(boot.Module("a")) == "a.__main__"
    assert boot.start(boot.Script("app/x.py")) == "app/x.py"


@pytest.mark.parametrize(
    ("text", "quiet"),
    [("x = 1\n", True), ("x = '\\d'\n", False), ("1 is 1\n", False), ("print 1\n", False), ("x = '\0'\n", False)],
)
def test_a_script_that_is_compiled_with_a_warning_is_not_quiet(tmp_path: Path, text: str, quiet: bool) -> None:
    (tmp_path / "script.py").write_text(text)
    assert boot.is_quiet(tmp_path / "script.py") is quiet
    source = boot.boot_source(boot.Script("app/script.py"), kept=quiet)
    assert ("get_code" in source) is quiet
