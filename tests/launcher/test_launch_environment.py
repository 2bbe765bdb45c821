"""What becomes of Python's own environment variables: docs/environment.md has the table, and here it is run.

Each variable is given to a plain script and to a packed one, both of which look at what the variable changes. That the
plain script sees a change proves that the look is a good one."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.hosts import Options, require_host
from support.process import Inside, inside

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Pack

pytestmark = pytest.mark.hosts

TABLE = Path(__file__).parents[2] / "docs/environment.md"
TOOL, PLAIN = "/opt/tool", "/opt/plain.py"
APP = "import sys\n\n\ndef main():\n    exec(sys.argv[1])\n\n\nif __name__ == '__main__':\n    main()\n"


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    variable: str
    first: tuple[int, int]
    last: tuple[int, int]
    fate: str
    """``ignored``, ``honoured`` or ``no effect``."""


def rows() -> list[Row]:
    found = []
    for line in TABLE.read_text("utf-8").splitlines():
        match = re.fullmatch(r"\| `(PYTHON\w+)` \| (\d)\.(\d+)( only)? ?\|.*\| (ignored|honoured|no effect) \|", line)
        if match:
            first = int(match[2]), int(match[3])
            found.append(Row(match[1], first, first if match[4] else (9, 0), match[5]))
    return found


FLAG = "print(sys.flags.{})"
LOOKS: dict[str, tuple[str, str]] = {
    "PYTHONASYNCIODEBUG": ("1", "import asyncio\none = asyncio.new_event_loop()\nprint(one.get_debug())\none.close()"),
    "PYTHONBREAKPOINT": ("os.getpid", "import pdb\npdb.set_trace = lambda **_: None\nprint(type(breakpoint()))"),
    "PYTHONCASEOK": ("1", "try:\n    import JSON\nexcept ImportError:\n    print('no')"),
    "PYTHONCOERCECLOCALE": ("warn", ""),
    "PYTHONDEBUG": ("1", FLAG.format("debug")),
    "PYTHONDEVMODE": ("1", FLAG.format("dev_mode")),
    "PYTHONDONTWRITEBYTECODE": ("1", "print(sys.dont_write_bytecode)"),
    "PYTHONFAULTHANDLER": ("1", "import faulthandler\nprint(faulthandler.is_enabled())"),
    "PYTHONHASHSEED": ("0", FLAG.format("hash_randomization")),
    "PYTHONHOME": ("/nowhere", ""),
    "PYTHONHTTPSVERIFY": ("0", "import ssl\nprint(ssl._create_default_https_context)"),
    "PYTHONINTMAXSTRDIGITS": ("0", "print(sys.get_int_max_str_digits())"),
    "PYTHONIOENCODING": ("latin-1", "print(sys.stdout.encoding)"),
    "PYTHONMALLOC": ("nonsense", ""),
    "PYTHONMALLOCSTATS": ("1", ""),
    "PYTHONNODEBUGRANGES": ("1", "print(next((lambda: 0).__code__.co_positions()))"),
    "PYTHONNOUSERSITE": ("1", FLAG.format("no_user_site")),
    "PYTHONOLDPARSER": ("1", "compile('with (open(1) as a, open(2) as b): pass', '', 'exec')"),
    "PYTHONOPTIMIZE": ("2", FLAG.format("optimize")),
    "PYTHONPATH": ("/nowhere", "print('/nowhere' in sys.path)"),
    "PYTHONPERFSUPPORT": ("1", "print(sys.is_stack_trampoline_active())"),
    "PYTHONPLATLIBDIR": ("nowhere", "print(sys.platlibdir)"),
    "PYTHONPROFILEIMPORTTIME": ("1", ""),
    "PYTHONPYCACHEPREFIX": ("/tmp/pyc", "print(sys.pycache_prefix)"),
    "PYTHONSAFEPATH": ("1", FLAG.format("safe_path")),
    "PYTHONSTARTUP": ("/opt/plain.py", ""),
    "PYTHONTRACEMALLOC": ("1", "import tracemalloc\nprint(tracemalloc.is_tracing())"),
    "PYTHONTZPATH": ("/nowhere", "import zoneinfo\nprint(zoneinfo.TZPATH)"),
    "PYTHONUNBUFFERED": ("1", "import os\nsys.stdout.write('1')\nos.write(2, b'2')\nos.dup2(2, 1)\nos._exit(0)"),
    "PYTHONUSERBASE": ("/nowhere", "import site\nprint(site.getuserbase())"),
    "PYTHONUTF8": ("1", FLAG.format("utf8_mode")),
    "PYTHONVERBOSE": ("1", ""),
    "PYTHONWARNDEFAULTENCODING": ("1", FLAG.format("warn_default_encoding")),
    "PYTHONWARNINGS": ("error", "print(sys.warnoptions)"),
    "PYTHONY2K": ("1", "import time\nprint(time.accept2dyear)"),
    "PYTHON_BASIC_REPL": ("1", ""),
    "PYTHON_COLORS": ("1", "import _colorize\nprint(_colorize.can_colorize())"),
    "PYTHON_CONTEXT_AWARE_WARNINGS": ("1", FLAG.format("context_aware_warnings")),
    "PYTHON_CPU_COUNT": ("77", "import os\nprint(os.cpu_count())"),
    "PYTHON_DISABLE_REMOTE_DEBUG": ("1", "print(sys.is_remote_debug_enabled())"),
    "PYTHON_FROZEN_MODULES": ("off", "import os\nprint(os.__spec__.origin)"),
    "PYTHON_HISTORY": ("/tmp/history", ""),
    "PYTHON_LAZY_IMPORTS": ("all", "print(sys.get_lazy_imports())"),
    "PYTHON_PERF_JIT_SUPPORT": ("1", "print(sys.is_stack_trampoline_active())"),
    "PYTHON_THREAD_INHERIT_CONTEXT": ("1", FLAG.format("thread_inherit_context")),
}
"""Variable -> a value, and what a script does that differs with it."""

VALUES = {((2, 7), "PYTHONHASHSEED"): "random", ((3, 15), "PYTHONUTF8"): "0"}
"""Where the default is the value above."""

HOSTS = {
    (2, 7): ("bullseye", "cp27mu", "python2.7"), (3, 9): ("bullseye", "cp39", "python3.9"),
    (3, 11): ("bookworm", "cp311", "python3.11"), (3, 13): ("trixie", "cp313", "python3.13"),
    (3, 14): ("forky", "cp314", "python3.14"), (3, 15): ("sid", "cp315", "python3.15"),
}  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """A host that was entered, and one of its Pythons."""

    far: Inside
    version: tuple[int, int]
    python: str

    def run(self, argv: list[str], row: Row, value: str | None) -> tuple[int, bytes, bytes]:
        """Have a look at what the variable changes."""
        locale = "C" if row.variable == "PYTHONCOERCECLOCALE" else "C.UTF-8"
        env = {"LC_CTYPE": locale, "TERM": "dumb", row.variable: value}
        return self.far.run([*argv, LOOKS[row.variable][1]], env=env).whole


@pytest.fixture(scope="module", params=HOSTS, ids=lambda version: f"{version[0]}.{version[1]}")
def subject(request: pytest.FixtureRequest, pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    host, tag, python = HOSTS[request.param]
    directory = tmp_path_factory.mktemp(host)
    plain = directory / "plain.py"
    plain.write_text(APP)
    tool = pack("tool", {"app.py": APP}, tags=[tag])
    server = "python3.9" if host == "bullseye" else python
    with inside(require_host(host), directory / "home", {tool: TOOL, plain: PLAIN}, python=server) as far:
        yield Subject(far, request.param, python)


def test_every_variable_of_a_python_is_in_the_table(subject: Subject) -> None:
    """As the Python itself lists them."""
    option = "--help-env" if subject.version >= (3, 11) else "--help"
    done = subject.far.run([subject.python, option])
    named = {name.decode() for name in re.findall(rb"\bPYTHON[A-Z_0-9]{3,}", done.stdout)}
    assert len(named) > 8
    assert named <= {row.variable for row in rows() if row.first <= subject.version <= row.last}


def test_the_table_and_the_looks_are_about_the_same_variables() -> None:
    assert [row.variable for row in rows()] == sorted([*LOOKS, "PYTHONINSPECT"])


def test_each_variable_has_the_fate_that_the_table_says(subject: Subject) -> None:
    wrong = {}
    applicable = [row for row in rows() if row.first <= subject.version <= row.last and row.variable in LOOKS]
    assert len(applicable) > 15
    for row in applicable:
        value = VALUES.get((subject.version, row.variable), LOOKS[row.variable][0])
        fates = []
        for argv in ([subject.python, PLAIN], [TOOL]):
            without = subject.run(argv, row, None)
            assert without[0] == 0, (row.variable, without)
            fates.append(subject.run(argv, row, value) != without)
        expected = {"ignored": [True, False], "honoured": [True, True], "no effect": [False, False]}[row.fate]
        if fates != expected:
            wrong[row.variable] = fates
    assert wrong == {}


@pytest.mark.parametrize("version", HOSTS, ids=lambda version: f"{version[0]}.{version[1]}")
def test_no_prompt_follows_the_application(pack: Pack, tmp_path: Path, version: tuple[int, int]) -> None:
    """PYTHONINSPECT, which needs a terminal to be seen."""
    host, tag, python = HOSTS[version]
    plain = tmp_path / "plain.py"
    plain.write_text(APP)
    tool = pack("tool", {"app.py": APP}, tags=[tag])
    fate = {row.variable: row.fate for row in rows()}["PYTHONINSPECT"]
    said = []
    for argv in ([python, PLAIN], [TOOL]):
        terminal, other = os.openpty()
        os.write(terminal, b"print(6 * 7)\n\4")
        options: Options = {"env": {"PYTHONINSPECT": "1", "TERM": "dumb"}, "binds": {tool: TOOL, plain: PLAIN}}
        with require_host(host).start([*argv, ""], stdin=other, stderr=subprocess.STDOUT, **options) as process:
            said.append(process.communicate(timeout=60)[0])
        os.close(terminal)
        os.close(other)
    assert b"42" in said[0]
    assert (said[1] == b"") is (fate == "ignored")
