"""packer/hostcompiled.py: what modules compile while they are imported is compiled once; on every Python here."""

from __future__ import annotations

import json
import marshal
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
        "missed": [sorted(map(str, one._missed)) for one in held()],
        "known": [[len(one.patterns), len(one.sources)] for one in held()],
        "modules": sorted({*sys.modules} | {"gc"}),
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
    patterns, sources = eval(shown.stdout)
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
    assert third["missed"] == [[]]
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
    (view.root / "boot/__pycache__").write_text("no directory")
    for _ in range(3):
        assert json.loads(launch(view))["known"] == [[0, 0]]


LIMITED = "import resource, sys\nfor size in sys.argv[1:]: resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), -1))\n"
FAULTS = {"the name is taken": (), "no room": ("0",), "room for a part": ("100",)}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_written_is_no_error(view: View, fault: str) -> None:
    install(view, {"compiles.py": COMPILES, "report.py": LIMITED + REPORT})
    launch(view)
    boots = view.root / "boot/__pycache__"
    if not FAULTS[fault]:
        code = f"space = {{}}; exec(open({str(SOURCE)!r}).read(), space); print(space['_place']('/b/tool.py'))"
        command = [str(view.root / "bin/python"), "-I", "-c", code]
        shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        (boots / f"{shown.strip().rpartition('/')[2]}.new").mkdir()
    for _ in range(2):
        assert json.loads(launch(view, *FAULTS[fault]))["known"] == [[0, 0]]
    assert not FAULTS[fault] or not [*boots.glob("*.new")]
    for place in boots.glob("*.new"):
        place.rmdir()
    assert [json.loads(launch(view))["known"] for _ in range(2)][1] != [[0, 0]]


def test_only_so_much_is_kept(view: View) -> None:
    many = "import re\nPATTERNS = [re.compile('x{1,%d}' % (number + 1)) for number in range(450)]\n"
    install(view, {"report.py": many + "def report(): print(PATTERNS[-1].pattern)\n"})
    for _ in range(3):
        assert launch(view) == "x{1,450}\n"
    patterns, _ = content(view)
    assert 300 < len(patterns) <= 400
    before = kept(view).stat().st_mtime_ns
    launch(view)
    assert kept(view).stat().st_mtime_ns == before


def test_another_interpreter_has_another_file(monkeypatch: pytest.MonkeyPatch) -> None:
    space: dict[str, Any] = {"__name__": "fatpar"}
    code = SourceFileLoader("fatpar", str(SOURCE)).get_code("fatpar")
    assert code is not None
    exec(code, space)
    here = space["_place"]("/boot/tool.py")
    assert here == space["_place"]("/boot/tool.py")
    assert here != space["_place"]("/boot/other.py")
    monkeypatch.setattr(sys, "version", "4.0")
    assert here != space["_place"]("/boot/tool.py")
    monkeypatch.undo()
    monkeypatch.setattr(os, "__file__", "/nowhere/os.py")
    assert here != space["_place"]("/boot/tool.py")
    assert marshal.loads(marshal.dumps(here)) == here


def test_errors_of_what_is_made_up_are_what_they_are(view: View) -> None:
    wrong = (
        "import collections, dataclasses, typing\n"
        "def tried(of):\n"
        "    try: of()\n"
        "    except Exception as error: return type(error).__name__ + str(error)\n"
        "def report():\n"
        "    print(tried(lambda: typing.ForwardRef('not python')), tried(lambda: collections.namedtuple('A', 'def')))\n"
        "    print(tried(lambda: dataclasses.make_dataclass('A', [('x', int, []) ])), eval(' 1'), dataclasses.exec)\n"
    )
    install(view, {"report.py": wrong}, table=False)
    plain = view.run()
    assert plain.returncode == 1  # dataclasses has no exec of its own
    install(view, {"report.py": wrong.replace(", dataclasses.exec", "")}, table=False)
    said = launch(view)
    install(view, {})
    assert launch(view) == said
