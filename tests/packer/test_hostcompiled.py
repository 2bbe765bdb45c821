"""packer/hostcompiled.py: what modules compile while they are imported is compiled once; on every Python here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.views import View, interpreters, make_view, minor, name

from packer import boot, modules
from packer.compilechild import MODIFIED

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCE = Path(modules.__file__).with_name("hostcompiled.py")

COMPILES = """\
import collections, dataclasses, re, typing

WORDS = re.compile(r"(?P<first>\\w+)\\s(?P<second>\\w+)", re.IGNORECASE | re.VERBOSE)
OTHERS = [re.compile("[%d-9]+" % number) for number in range(8)]
BYTES = re.compile(rb"\\xff|(a)(?=b)", re.DOTALL)
LOCAL = re.compile(rb"\\w", re.LOCALE)

Pair = collections.namedtuple("Pair", "one two", defaults=[2])

@dataclasses.dataclass(order=True)
class Point:
    x: "typing.List[int]"
    y: int = 5

HINTS = [typing.List["Point"], typing.Optional["Pair"], typing.List["no such thing at all" and "int"]]
"""

REPORT = """\
import json, sys

def held():
    import dataclasses
    cells = getattr(vars(dataclasses).get("exec"), "__closure__", None) or ()
    return [cell.cell_contents for cell in cells if type(cell.cell_contents).__name__ == "Compiled"]

def report():
    import compiles, typing
    of = lambda one: [str(one.pattern), one.flags, one.groups, sorted(one.groupindex.items())]
    point, pair = compiles.Point([1]), compiles.Pair(1)
    try:
        compiles.Pair()
    except TypeError as error:
        missing = str(error)
    print(json.dumps({
        "patterns": [of(one) for one in (compiles.WORDS, *compiles.OTHERS, compiles.BYTES, compiles.LOCAL)],
        "found": [compiles.WORDS.sub(r"\\g<second>", "Ab cd"), bool(compiles.BYTES.match(b"ab"))],
        "made": [repr(point), point < compiles.Point([2]), repr(pair), missing, Point_code(compiles)],
        "hints": str(typing.get_type_hints(compiles.Point)),
        "missed": [len(one._missed_patterns) + len(one._missed_sources) for one in held()],
        "known": [[len(one.patterns), len(one.sources)] for one in held()],
        "modules": sorted({*sys.modules} | {"atexit", "gc"}),
    }))

def Point_code(compiles):
    code = compiles.Point.__init__.__code__
    return [code.co_filename, code.co_varnames, code.co_firstlineno]
"""


@pytest.fixture(params=[one for one in interpreters() if minor(one) >= (3, 7)], ids=name)
def view(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> View:
    monkeypatch.setattr(modules, "FEWEST", 1)
    return make_view(tmp_path / "view", request.param)


def install(view: View, files: dict[str, str], *, table: bool = True) -> None:
    view.write(files)
    for path in view.site.rglob("*.py"):
        os.utime(path, (MODIFIED, MODIFIED))
    view.install(boot.Function("report", "report"), table=table)


def launch(view: View, *arguments: str) -> str:
    done = view.run(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def kept(view: View) -> Path:
    (file,) = (view.root / "boot/__pycache__").glob("tool.*.compiled")
    return file


def content(view: View) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Read the file with the interpreter's own marshal, whose format may be newer than ours."""
    code = f"import marshal; print(ascii(marshal.loads(open({str(kept(view))!r}, 'rb').read()[8:])))"
    shown = subprocess.run([view.interpreter.path, "-I", "-c", code], check=True, capture_output=True, text=True)
    _, patterns, sources = eval(shown.stdout)
    assert isinstance(patterns, dict)
    assert isinstance(sources, dict)
    return patterns, sources


def test_what_modules_compile_is_compiled_once(view: View) -> None:
    install(view, {"compiles.py": COMPILES, "report.py": REPORT}, table=False)
    plain = json.loads(launch(view))
    install(view, {})
    first, second, third = (json.loads(launch(view)) for _ in range(3))
    for one in (first, second, third):
        assert {**one, "missed": [], "known": []} == plain
    # the first launch takes long enough, the second one writes it down, the third one has it
    assert first["known"] == second["known"] == [[0, 0]]
    ((patterns, sources),) = third["known"]
    assert patterns >= 11
    assert sources >= 3
    assert second["missed"] >= [14]
    assert third["missed"] == [0]
    before = kept(view).stat()
    launch(view)
    assert kept(view).stat().st_mtime_ns == before.st_mtime_ns


def test_what_depends_on_the_locale_is_compiled_each_time(view: View) -> None:
    install(view, {"compiles.py": COMPILES, "report.py": REPORT})
    for _ in range(2):
        launch(view)
    patterns, _ = content(view)
    assert {key[1]: bool(compiled[1]) for key, compiled in patterns.items()}[rb"\w"] is False
    assert any(compiled[1] for compiled in patterns.values())


WARNS = """\
import re, typing, warnings
warnings.simplefilter("always")
PATTERNS = [re.compile("[[%d]" % number) for number in range(6)]
HINT = typing.List["1 is 1"]
def report(): pass
"""


def test_what_is_compiled_with_a_warning_warns_in_each_run(view: View) -> None:
    install(view, {"report.py": WARNS}, table=False)
    plain = view.run().stderr
    assert plain.count("FutureWarning") == 6
    assert plain.count("SyntaxWarning") == (minor(view.interpreter) >= (3, 8))
    install(view, {})
    for _ in range(4):
        assert view.run().stderr == plain
    patterns, sources = content(view)
    assert [bool(compiled[1]) for key, compiled in patterns.items() if str(key[1]).startswith("[[")] == [False] * 6
    warned = [bool(code) for key, code in sources.items() if key[2] == "1 is 1"]
    # ForwardRef compiles until 3.13
    assert warned == [minor(view.interpreter) < (3, 8)] * (minor(view.interpreter) < (3, 14))


LATER = """\
import collections, dataclasses, re, sys
PATTERNS = [re.compile("import %d" % number) for number in range(6)]
def report():
    for number in range(9):
        re.compile("secret%d%s" % (number, sys.argv[1]))
        collections.namedtuple("Secret%d" % number, sys.argv[1])
    import other
    print(other.PATTERNS[0].pattern)
"""


def test_what_a_program_compiles_after_its_imports_is_not_written_down(view: View) -> None:
    other = 'import re\nPATTERNS = [re.compile("other %d" % number) for number in range(6)]\n'
    install(view, {"report.py": LATER, "other.py": other})
    for _ in range(3):
        assert launch(view, "password") == "other 0\n"
    patterns, sources = content(view)
    assert {key[1] for key in patterns} >= {"import 0", "import 5", "other 0", "other 5"}
    assert "ecret" not in str(patterns) + str(sources)
    assert b"password" not in kept(view).read_bytes()


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "short": lambda whole: whole[:5],
    "cut": lambda whole: whole[: len(whole) // 2],
    "zeros": lambda whole: bytes(len(whole)),
    "a bit": lambda whole: whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:],
    "noise": lambda whole: bytes(range(256)) * (len(whole) // 256),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_not_used_and_made_anew(view: View, damage: str) -> None:
    install(view, {"compiles.py": COMPILES, "report.py": REPORT})
    whole = [json.loads(launch(view)) for _ in range(3)][-1]
    file = kept(view)
    good = file.read_bytes()
    file.write_bytes(DAMAGES[damage](good))
    again = json.loads(launch(view))
    assert again["known"] == [[0, 0]]
    assert again["patterns"] == whole["patterns"]
    assert json.loads(launch(view))["known"] == whole["known"]


def test_where_nothing_can_be_written_all_is_compiled(view: View) -> None:
    install(view, {"compiles.py": COMPILES, "report.py": REPORT})
    launch(view)
    boots = view.root / "boot/__pycache__"
    before = set(boots.iterdir())
    boots.chmod(0o555)
    # root may write everywhere, unless it has no capabilities
    unable = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.getuid() == 0 else []
    for _ in range(3):
        done = subprocess.run([*unable, *view.command()], capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)["known"] == [[0, 0]]
    boots.chmod(0o755)
    assert set(boots.iterdir()) == before


LIMITED = "import resource, sys\nfor size in sys.argv[1:]: resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), -1))\n"


@pytest.mark.parametrize("room", ["0", "100"])
def test_a_full_disk_is_no_error(view: View, room: str) -> None:
    install(view, {"compiles.py": COMPILES, "report.py": LIMITED + REPORT})
    launch(view)
    before = set((view.root / "boot/__pycache__").iterdir())
    for _ in range(2):
        assert json.loads(launch(view, room))["known"] == [[0, 0]]
    assert set((view.root / "boot/__pycache__").iterdir()) == before
    assert [json.loads(launch(view))["known"] for _ in range(2)][1] != [[0, 0]]


def test_only_so_much_is_kept(view: View) -> None:
    many = "import re\nPATTERNS = [re.compile('x{1,%d}' % (number + 1)) for number in range(450)]\n"
    many += "LARGE = [re.compile('|'.join('%d%d' % (one, two) for one in range(2000))) for two in range(9)]\n"
    install(view, {"report.py": many + "def report(): print(PATTERNS[-1].pattern)\n"})
    for _ in range(3):
        assert launch(view) == "x{1,450}\n"
    patterns, _ = content(view)
    assert 200 < len(patterns) <= 256
    assert kept(view).stat().st_size < 300_000


def test_what_is_new_in_each_run_is_written_down_a_few_times(view: View) -> None:
    install(view, {
        "report.py": "import os, re\n"
        "PATTERNS = [re.compile('%d-%s' % (one, os.urandom(9).hex())) for one in range(6)]\n"
        "class Text(str): pass\nOTHERS = [re.compile(Text('text %d' % one)) for one in range(9)]\n"
        "def report(): pass\n"
    })  # fmt: skip
    for _ in range(11):
        launch(view)
    patterns, _ = content(view)
    assert len([key for key in patterns if "-" in str(key[1])]) == 6 * 8
    before = kept(view).stat().st_mtime_ns
    launch(view)
    assert kept(view).stat().st_mtime_ns == before


def code_of(name: str) -> dict[str, Any]:
    """Run one of the files as the boot file does."""
    space: dict[str, Any] = {"__name__": "fatpar"}
    code = SourceFileLoader("fatpar", str(SOURCE.with_name(name))).get_code("fatpar")
    assert code is not None
    exec(code, space)
    return space


def test_the_modules_that_compile_are_the_same_in_both_files() -> None:
    compiled = code_of("hostcompiled.py")["_BUILTINS"]
    assert code_of("hostimport.py")["COMPILING"] == tuple(sorted({"re", *compiled}))


def test_another_interpreter_has_another_file(monkeypatch: pytest.MonkeyPatch) -> None:
    space = code_of("hostcompiled.py")
    here = space["_place"]("/boot/tool.py")
    assert here == space["_place"]("/boot/tool.py")
    assert here != space["_place"]("/boot/other.py")
    monkeypatch.setattr(sys, "version", "4.0")
    assert here != space["_place"]("/boot/tool.py")
    monkeypatch.undo()
    monkeypatch.setattr(os, "__file__", "/nowhere/os.py")
    assert here != space["_place"]("/boot/tool.py")


SEARCHES = """\
import collections, os, re, sys, threading

def search():
    for number in range(9):
        re.compile("secret %d %s" % (number, sys.argv[1]))
        collections.namedtuple("Secret%d" % number, sys.argv[1])

def report():
    import other
    if hasattr(other, "end"):
        other.end.set()
    print(other.DONE)
"""


@pytest.mark.parametrize("when", ["in a child", "in an import that fails", "while there are threads"])
def test_what_others_compile_is_not_written_down(view: View, when: str) -> None:
    other = "import collections, os, re, report, threading\n"
    later = "PATTERNS = [re.compile('import %d' % number) for number in range(6)]\nDONE = True\n"
    if when == "in a child":
        other += "child = os.fork()\nif not child:\n    report.search()\nelse:\n    os.waitpid(child, 0)\n"
    if when == "while there are threads":
        other += "end = threading.Event()\nthreading.Thread(target=end.wait).start()\nreport.search()\n"
    fails = "import report\nreport.search()\nraise SystemExit\n"
    report = SEARCHES
    if when == "in an import that fails":
        report = report.replace("    import other\n", "    try: import fails\n    except SystemExit: import other\n")
    install(view, {"report.py": report, "other.py": other + later, "fails.py": fails})
    for _ in range(3):
        assert launch(view, "password").endswith("True\n")
    for file in (view.root / "boot/__pycache__").glob("tool.*.compiled"):
        assert b"password" not in file.read_bytes()
        assert (b"import 5" in file.read_bytes()) is (when != "while there are threads")
    assert when == "while there are threads" or kept(view).exists()


ODD = {
    "a compiler of re that was replaced": """\
import re
compiler = getattr(re, "_compiler", None) or re.sre_compile
real = compiler.compile
compiler.compile = lambda pattern, flags=0: real(pattern, flags | re.IGNORECASE)
import compiles
print([bool(one.match("AB")) for one in compiles.PATTERNS])
""",
    "a module that is not in sys.modules": """\
import importlib.util, sys
for name in ("typing", "dataclasses", "re"):
    sys.modules.pop(name, None)
    spec = importlib.util.find_spec(name)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
print("fine")
""",
    "another re": """\
import collections, re, sys
class Fake:
    def __getattr__(self, name): return lambda *given: None
sys.modules["re"] = Fake()
import colorsys
print(colorsys.ONE_THIRD > 0)
""",
    "re twice": """\
import re, sys
import compiles
del sys.modules["re"], sys.modules["compiles"]
import re as other, compiles
print(re is other, compiles.PATTERNS[2].match("abbb").span())
""",
    "a lazy re": """\
import collections, importlib.util, sys, types
spec = importlib.util.find_spec("re")
sys.modules.pop("re", None)
spec.loader = importlib.util.LazyLoader(spec.loader)
module = sys.modules["re"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
import colorsys
print(object.__getattribute__(module, "__class__").__name__, module.match("a", "a").span())
""",
    "warnings that are told once": """\
import warnings
def told(): warnings.warn("told once")
told()
import compiles
told()
print("fine")
""",
    "an exec of its own": """\
import collections, sys
sys.modules["dataclasses"] = module = type(sys)("dataclasses")
module.exec = 1
import compiles
print(module.exec)
""",
}


@pytest.mark.parametrize("what", ODD)
def test_odd_programs_do_what_they_do_without(view: View, what: str) -> None:
    compiles = "import re\nPATTERNS = [re.compile('a+b{%d}' % number) for number in range(1, 7)]\n"
    install(
        view, {"compiles.py": compiles, "odd.py": ODD[what], "report.py": "def report(): import odd\n"}, table=False
    )
    plain = view.run()
    assert plain.returncode == 0, plain.stderr
    install(view, {})
    for _ in range(4):
        done = view.run()
        assert (done.returncode, done.stdout, done.stderr) == (plain.returncode, plain.stdout, plain.stderr)


def test_errors_of_what_is_made_up_are_what_they_are(view: View) -> None:
    wrong = (
        "import collections, dataclasses, typing\n"
        "def tried(of):\n"
        "    try: return str(of())\n"
        "    except Exception as error: return type(error).__name__ + str(error)\n"
        "def report():\n"
        "    print(tried(lambda: typing.ForwardRef('no such')), tried(lambda: collections.namedtuple('A', 'def')))\n"
        "    print(tried(lambda: dataclasses.make_dataclass('A', [('x', int, []) ])), eval(' 1'))\n"
    )
    install(view, {"report.py": wrong}, table=False)
    said = launch(view)
    install(view, {})
    for _ in range(3):
        assert launch(view) == said
