"""packer/hostimport.py and the table that it reads, beside the finders of every Python that is here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from support.archives import target
from support.hosts import give_up
from support.layers import SITE, layer
from support.skips import skip_optional
from support.views import View, interpreters, make_view, minor, name

from packer import boot, modules
from packer.compilechild import MODIFIED

if TYPE_CHECKING:
    from pathlib import Path


PLAIN = {
    "single.py": "value = 1\n",
    "package/__init__.py": "from . import inner\n",
    "package/inner.py": "'''Words.'''\ndef function():\n    return 1\n",
    "package/deep/__init__.py": "",
    "package/deep/er.py": "class Class: pass\n",
    "space/part.py": "",
    "space/sub/__init__.py": "",
    "both.py": "",
    "both/__init__.py": "",
    "beside.py": "",
    "beside/data.txt": "",
    "beside/thing.py": "",
    "replaced.py": "import sys\nsys.modules[__name__] = sys\n",
    "raises.py": "def fail():\n    raise ValueError(1)\nfail()\n",
    "tells.py": "import warnings\nwarnings.warn('told', stacklevel=2)\n",
    "syntax.py": "def broken(:\n",
    "cookie.py": "# -*- coding: latin-1 -*-\nvalue = '\\u00e4'\n",
    "sn\u00f6.py": "",
}
NAMES = [
    "single", "package", "package.inner", "package.deep", "package.deep.er", "space", "space.part", "space.sub", "both",
    "beside", "beside.thing", "sourceless", "native", "native._heapq", "missing", "package.missing", "single.missing",
    "replaced", "syntax", "cookie", "sn\u00f6", "email.mime.text",
]  # fmt: skip

REPORT = """\
import gc, importlib, importlib.util, inspect, json, pkgutil, sys, traceback, warnings

def of(loader):
    loads = sorted(vars(loader).items()) if hasattr(loader, "__dict__") else []
    return [type(loader).__name__, loads if "Namespace" not in type(loader).__name__ else []]

def report():
    found = {}
    for name in json.loads(sys.argv[1]):
        try:
            module = importlib.import_module(name)
            spec = module.__spec__
            found[name] = [
                spec.name, spec.origin, spec.cached, spec.parent, spec.has_location, of(spec.loader),
                list(spec.submodule_search_locations) if spec.submodule_search_locations is not None else None,
                getattr(module, "__file__", None), getattr(module, "__cached__", None), of(module.__loader__),
                list(getattr(module, "__path__", [])), module.__package__, sorted(vars(module)),
                [one.co_filename for one in [getattr(module, "function", None) and module.function.__code__] if one],
            ]
            again = importlib.util.find_spec(name)
            found[name].append([again.origin, again.cached])
            if hasattr(spec.loader, "get_source"):
                found[name] += [spec.loader.get_source(name), spec.loader.is_package(name)]
                found[name] += [spec.loader.get_code(name) and spec.loader.get_code(name).co_filename]
                found[name] += [importlib.reload(module) is module]
        except Exception as error:
            found[name] = [type(error).__name__, str(error)]
    for name in ("raises", "package.missing", "syntax"):
        try:
            __import__(name)
        except Exception:
            found["traceback of " + name] = traceback.format_exc()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        import tells
    found["told"] = [(one.filename, one.lineno) for one in told]
    import package
    found["in package"] = sorted(one[1:] for one in pkgutil.walk_packages(package.__path__, "package."))
    found["threshold"] = gc.get_threshold()
    found["path"] = sys.path
    found["modules"] = sorted({*sys.modules} | {"atexit"})  # by which a second launch writes down what it compiled
    print(json.dumps(found))
"""


@pytest.fixture(params=[one for one in interpreters() if minor(one) >= (3, 5)], ids=name)
def view(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> View:
    monkeypatch.setattr(modules, "FEWEST", 1)
    view = make_view(tmp_path / "view", request.param)
    view.write({**PLAIN, "report.py": REPORT})
    (view.site / "cookie.py").write_bytes(PLAIN["cookie.py"].encode().decode("unicode_escape").encode("latin-1"))
    source = view.site / "gone.py"
    source.write_text("value = 3\n")
    code = f"import py_compile; py_compile.compile({str(source)!r}, {str(view.site / 'sourceless.pyc')!r})"
    subprocess.run([view.interpreter.path, "-I", "-c", code], check=True)
    source.unlink()
    (view.site / "native").mkdir()
    (view.site / "native/__init__.py").touch()
    for path in view.site.rglob("*.py"):
        os.utime(path, (MODIFIED, MODIFIED))
    return view


def add_extension(view: View) -> None:
    """Copy one of the interpreter's own into the package, if they are files."""
    code = "import _heapq; print(getattr(_heapq, '__file__', ''))"
    found = subprocess.run([view.interpreter.path, "-I", "-c", code], check=True, capture_output=True, text=True).stdout
    if not found.strip():
        skip_optional(f"the extension modules of {view.interpreter.path} are part of it")
    shutil.copy(found.strip(), view.site / "native")


def report(view: View, *, table: bool, names: list[str] = NAMES) -> dict[str, Any]:
    view.install(boot.Function("report", "report"), table=table)
    done = view.run(json.dumps(names))
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def test_modules_are_what_they_are_without_a_table(view: View) -> None:
    for _ in range(2):  # before and after there is bytecode
        for path in view.site.rglob("__pycache__/*.pyc"):
            path.unlink()
        plain = [report(view, table=False) for _ in range(2)]
        known = [report(view, table=True) for _ in range(2)]
        assert known == plain


def test_an_extension_module_is_what_it_is_without_a_table(view: View) -> None:
    add_extension(view)
    plain = report(view, table=False)
    assert plain["native._heapq"][0] == "native._heapq"
    assert report(view, table=True) == plain
    (line,) = [line for line in (view.root / modules.PATH).read_text("utf-8").split("\n") if "/native\t" in line]
    assert line.split("\t")[1].startswith("_heapq.")


def test_what_is_in_the_table_is_not_looked_for(view: View) -> None:
    """Only a module's file and its bytecode are opened; no directory is, and none is asked for its time."""
    view.write({"report.py": "import package.deep.er, single\ndef report(): print(single.value)\n"})
    os.utime(view.site / "report.py", (MODIFIED, MODIFIED))
    view.install(boot.Function("report", "report"))
    assert view.run().stdout == "1\n"
    if not shutil.which("strace"):
        give_up("strace is not installed")
    trace = view.root / "trace"
    traced = ["strace", "-f", "-o", trace, "-e", "trace=file,desc", *view.command()]
    assert subprocess.run(traced, check=True, capture_output=True, text=True).stdout == "1\n"
    _, _, then = trace.read_text().partition("/boot/.modules")  # until there site looks for sitecustomize
    asked = [line for line in then.splitlines() if f'"{view.site}' in line]
    assert all("openat(" in line and ".pyc" in line for line in asked), asked
    assert len(asked) == 6  # package, package.inner, package.deep, package.deep.er, single and report


@pytest.mark.parametrize("damage", [b"", b"\0" * 100, b"short"])
def test_damaged_bytecode_is_made_anew(view: View, damage: bytes) -> None:
    plain = report(view, table=False)
    (kept,) = view.site.rglob("__pycache__/inner.*.pyc")
    whole = kept.read_bytes()
    kept.write_bytes(damage)
    assert report(view, table=True) == plain
    assert kept.read_bytes() == whole


def test_bytecode_of_another_time_is_not_taken(view: View) -> None:
    report(view, table=True)
    view.write({"package/inner.py": "def function():\n    return 2\n"})
    assert "return 2" in report(view, table=True)["package.inner"][15]


def test_what_a_program_puts_before_a_directory_comes_first(view: View, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/single.py").write_text("value = 'mine'\n")
    view.write({
        "report.py": "import sys\n"
        "def report():\n"
        f"    sys.path.insert(0, {str(tmp_path / 'mine')!r})\n"
        "    import single\n"
        "    sys.path[:] = []\n"
        "    try:\n        import package\n    except ImportError as error: print(single.value, error)\n"
    })  # fmt: skip
    view.install(boot.Function("report", "report"))
    assert view.run().stdout == "mine No module named 'package'\n"


def test_a_prefix_for_bytecode_is_honoured(view: View, tmp_path: Path) -> None:
    view.write({
        "report.py": f"import sys\nsys.pycache_prefix = {str(tmp_path / 'kept')!r}\nimport single\n"
        "def report(): print(single.__spec__.cached)\n"
    })  # fmt: skip
    view.install(boot.Function("report", "report"))
    assert view.run().stdout.startswith(str(tmp_path / "kept")) is (minor(view.interpreter) >= (3, 8))


SET = {
    "nothing": ("", "True {before}"),
    "thresholds": ("gc.set_threshold(5, 6, 7)", "True (5, 6, 7)"),
    "disabled": ("gc.disable()", "False {before}"),
}


@pytest.mark.parametrize("what", SET)
def test_garbage_is_collected_as_ever_when_an_import_is_done(view: View, what: str) -> None:
    statement, expected = SET[what]
    view.write({
        "single.py": "import gc, inner\nduring = inner.during + [gc.get_threshold()[0]]\n" + statement + "\n",
        "inner.py": "import gc\nduring = [gc.get_threshold()[0]]\n",
        "report.py": "import gc\n"
        "def report():\n"
        "    import single\n"
        "    print(single.during)\n"
        "    print(gc.isenabled(), gc.get_threshold())\n"
        "    try:\n        import syntax\n    except SyntaxError: print(gc.isenabled(), gc.get_threshold())\n"
    })  # fmt: skip
    view.install(boot.Function("report", "report"))
    code = "import gc; print(gc.get_threshold())"
    before = subprocess.run([view.interpreter.path, "-I", "-c", code], check=True, capture_output=True, text=True)
    wanted = expected.format(before=before.stdout.strip())
    assert view.run().stdout.splitlines() == ["[30011, 30011]", wanted, wanted]


HOOK = """\
import sys
from importlib.machinery import FileFinder, SourceFileLoader

SEEN = []

class Loader(SourceFileLoader):
    def get_code(self, fullname):
        SEEN.append(fullname)
        return super().get_code(fullname)

def hook():
    sys.path_hooks.insert({place}, FileFinder.path_hook((Loader, [".py"])))
    sys.path_importer_cache.clear()
"""
"""As type checkers at run time do it: beartype before FileFinder's, typeguard at the beginning."""


@pytest.mark.parametrize("place", [0, 1, "len(sys.path_hooks) - 1"])
def test_a_hook_that_a_program_puts_anywhere_is_asked(view: View, place: object) -> None:
    view.write({
        "hooks.py": HOOK.format(place=place),
        "report.py": "import hooks\nhooks.hook()\nimport package.inner\ndef report(): print(hooks.SEEN)\n",
    })  # fmt: skip
    view.install(boot.Function("report", "report"))
    assert view.run().stdout == "['package', 'package.inner']\n"


CHANGED = {
    "path-hook": "hook()",
    "get_code": "G = SourceFileLoader.get_code\n"
    "SourceFileLoader.get_code = lambda self, name: SEEN.append(name) or G(self, name)",
    "path-that-is-no-text": "import pathlib\nsys.path.insert(0, pathlib.Path('/nonexistent'))",
}


@pytest.mark.parametrize("what", CHANGED)
def test_what_a_pth_file_has_changed_stays_so(view: View, what: str) -> None:
    view.write({
        "hooks.py": HOOK.format(place=0) + CHANGED[what] + "\n",
        "hooks.pth": "import hooks\n",
        "report.py": "import hooks, package.inner\ndef report(): print(hooks.SEEN[-3:])\n",
    })  # fmt: skip
    view.install(boot.Function("report", "report"))
    seen = "[]" if what == "path-that-is-no-text" else "['report', 'package', 'package.inner']"
    done = view.run()
    assert (done.stdout, done.stderr) == (f"{seen}\n", "")


LOADERS = """\
import gc, os, sys
from importlib.machinery import PathFinder, SourceFileLoader

def twice(of):
    calls = []
    return calls, lambda value: calls.append(1) or of(value)

class Sub(SourceFileLoader):
    def get_code(self, name): return compile("value = 'sub'", "x", "exec")

def report():
    find = lambda name: PathFinder.find_spec(name, sys.path)
    import single
    print(find("single") == single.__spec__)
    loader = find("both").loader
    get = loader.get_code
    print(get("both") == get("both"))
    calls, loader.get_code = twice(loader.get_code)
    print(loader.get_code("both") == loader.get_code("both"), len(calls))
    spec = find("beside")
    spec.loader.__class__ = Sub
    module = type(sys)("beside")
    spec.loader.exec_module(module)
    print(module.value)
    gc.set_threshold(0)
    import asks
    print(asks.FOUND, gc.get_threshold()[0])
    gc.set_threshold(700)
    import forks
    print(forks.CHILD)
"""


def test_loaders_are_used_as_others_are(view: View) -> None:
    fork = "import gc, os\nread, write = os.pipe()\nchild = os.fork()\nif child == 0:\n"
    fork += "    os.write(write, str(gc.get_threshold()[0]).encode())\n    os._exit(0)\n"
    fork += "os.waitpid(child, 0)\nCHILD = int(os.read(read, 9))\n"
    view.write({"report.py": LOADERS, "asks.py": "import gc\nFOUND = gc.get_threshold()[0]\n", "forks.py": fork})
    view.install(boot.Function("report", "report"))
    done = view.run()
    # 3.6 has nothing that is called in a child
    child = 30011 if minor(view.interpreter) < (3, 7) else 700
    assert done.stderr == ""
    assert done.stdout.split("\n") == ["True", "True", "True 2", "sub", "0 0", str(child), ""]


def test_a_program_of_few_modules_needs_no_table() -> None:
    few = {f"{SITE}/m{number}.py": "" for number in range(modules.FEWEST - 1)}
    assert modules.table([layer("few", few)], target("cp311")) == b""
    assert modules.table([layer("more", {**few, f"{SITE}/one.py": ""})], target("cp311")) != b""


def test_the_table_has_what_can_be_found_in_one_way() -> None:
    one = layer("one", {f"{SITE}/{path}": text for path, text in PLAIN.items()} | {
        f"{SITE}/a.cpython-311-x86_64-linux-gnu.so": "", f"{SITE}/a.abi3.so": "", f"{SITE}/b.abi3.so": "",
        f"{SITE}/c.so": "", f"{SITE}/more/__init__.py": "", f"{SITE}/c.py": "", f"{SITE}/d.pyc": "",
        f"{SITE}/other.cpython-39-x86_64-linux-gnu.so": "",
        f"{SITE}/link": "->package", f"{SITE}/one-1.dist-info/RECORD": "", "bin/one.py": "",
        f"{SITE}/e/__init__.so": "", f"{SITE}/e/__init__.py": "", "app/main.py": "", f"{SITE}/tab\there.py": "",
        **{f"{SITE}/more/m{number}.py": "" for number in range(5)},
    })  # fmt: skip
    later = layer("later", {f"{SITE}/package/more.py": "", f"{SITE}/tools/__init__.py": ""})
    assert modules.table([one, later], target("cp27mu")) == b""
    first, *lines = modules.table([one, later], target("cp311")).decode().split("\n")
    assert int(first) == MODIFIED
    assert dict(line.split("\t", 1) for line in lines) == {
        "app": "main.py",
        "lib/python3.11/site-packages": (
            "b.abi3.so\tbeside.py\tboth/\tcookie.py\tmore/\tpackage/\traises.py\treplaced.py\tsingle.py\tsn\u00f6.py\tsyntax.py\ttells.py\ttools/"
        ),
        "lib/python3.11/site-packages/more": "\t".join(f"m{number}.py" for number in range(5)),
        "lib/python3.11/site-packages/beside": "thing.py",
        "lib/python3.11/site-packages/package": "deep/\tinner.py\tmore.py",
        "lib/python3.11/site-packages/package/deep": "er.py",
        "lib/python3.11/site-packages/space": "part.py\tsub/",
    }


BESIDE = """\
import json, os, sys

def value(name):
    try:
        return __import__(name).VALUE
    except ImportError as error:
        return str(error)

def report():
    place = sys.argv[1]
    found = [value("one"), value("pack"), value("later"), value("folder"), value("lost")]
    with open(os.path.join(place, "later.py"), "w") as file:
        file.write("VALUE = 'made'\\n")
    found += [value("later"), type(sys.path_importer_cache[place]).__module__]
    print(json.dumps(found))
"""


def outside(view: View, tmp_path: Path) -> Path:
    """Give the interpreter a directory of its own, by a ``.pth`` file."""
    place = tmp_path / "outside"
    (place / "pack").mkdir(parents=True)
    (place / "folder.py").mkdir()
    (place / "one.py").write_text("VALUE = 1\n")
    (place / "pack/__init__.py").write_text("VALUE = 'package'\n")
    (place / "lost.py").symlink_to("nowhere")
    (view.site / "outside.pth").write_text(f"{place}\n")
    return place


def test_directories_of_the_interpreter_are_as_they_are_at_the_moment(view: View, tmp_path: Path) -> None:
    place = outside(view, tmp_path)
    view.write({"report.py": BESIDE})
    said = {}
    for table in (False, True):
        for made in place.glob("later.py"):
            made.unlink()
        view.install(boot.Function("report", "report"), table=table)
        done = view.run(str(place))
        assert done.stderr == ""
        said[table] = json.loads(done.stdout)
    assert said[False].pop() == "_frozen_importlib_external"
    assert said[True].pop() == "fatpar"
    assert said[True] == said[False]
    assert said[True][:3] == [1, "package", "No module named 'later'"]
    assert said[True][5] == "made"


STALE = ("same time", "same size", "unchecked", "checked")


@pytest.mark.parametrize("what", STALE)
def test_bytecode_of_the_interpreters_is_held_against_its_source(view: View, tmp_path: Path, what: str) -> None:
    if what in ("unchecked", "checked") and minor(view.interpreter) < (3, 7):
        return  # PEP 552
    place = outside(view, tmp_path)
    view.write({"report.py": "import one\ndef report(): print(one.VALUE)\n"})
    view.install(boot.Function("report", "report"))
    assert view.run().stdout == "1\n"
    source = place / "one.py"
    time = source.stat().st_mtime_ns
    if what in ("unchecked", "checked"):
        mode = f"py_compile.PycInvalidationMode.{what.upper()}_HASH"
        code = f"import py_compile; py_compile.compile({str(source)!r}, invalidation_mode={mode})"
        subprocess.run([view.interpreter.path, "-I", "-c", code], check=True)
    source.write_text("VALUE = 22\n" if what == "same time" else "VALUE = 2\n")
    os.utime(source, ns=(time, time if what == "same time" else time + 10**10))
    plain = subprocess.run([*view.command()], check=True, capture_output=True, text=True).stdout
    assert plain == {"same time": "22\n", "unchecked": "1\n"}.get(what, "2\n")


def test_what_an_import_leaves_behind_is_collected_later(view: View) -> None:
    leaves = "import weakref\nclass Knot: pass\nknots = []\nfor _ in range(2000):\n    knot = Knot()\n"
    leaves += "    knot.self = knot\n    knots.append(weakref.ref(knot))\ndel knot\n"
    counts = "import gc, leaves\nbefore = gc.get_count()[0]\n"
    counts += "def report():\n    gc.collect()\n    frozen = getattr(gc, 'get_freeze_count', int)()\n"
    counts += "    print(frozen, sum(1 for one in leaves.knots if one() is not None), len(gc.get_objects()) > 2000)\n"
    view.write({"leaves.py": leaves, "report.py": counts})
    said = []
    for table in (False, True):
        view.install(boot.Function("report", "report"), table=table)
        said.append(view.run().stdout)
    assert said[0] == said[1]
    assert said[0].endswith(" 0 True\n")
