"""An application sees and does what a plain script would: compared, fact by fact, with the same file run by the host's
Python; on the first launch, which unpacks, and on the second, which does not."""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.conditions import BEHAVE, CONDITIONS, REPORT, Condition
from support.hosts import require_host
from support.process import Ended, Inside, inside

from packer.model import Need, NeedKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Pack

pytestmark = pytest.mark.hosts


@dataclass(frozen=True)
class Case:
    """A host, and one of its Pythons."""

    host: str
    tag: str
    python: str
    more: tuple[Need, ...] = ()


CASES = {
    "3.11": Case("bookworm", "cp311", "/usr/bin/python3.11"),
    "2.7": Case("bullseye", "cp27mu", "/usr/bin/python2.7"),
}
ASKED = Case("bullseye", "cp39", "/usr/bin/python3.9", (Need(NeedKind.PYTHON_NOT, number=0x030900F0),))
"""A Python that the first launch has to run to learn its version."""

TOOL, PLAIN = "/opt/dir/tool", "/opt/plain.py"


STARTS = {
    **{f"{name}-umask-{mask:03o}": (case, mask) for name, case in CASES.items() for mask in (0o022, 0o077)},
    "3.9-asked-for-its-version": (ASKED, 0o022),
}


@pytest.fixture(scope="module", params=STARTS)
def started(request: pytest.FixtureRequest, pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    case, mask = STARTS[request.param]
    directory = tmp_path_factory.mktemp(case.host)
    plain = directory / "plain.py"
    plain.write_text(REPORT)
    tool = pack("tool", {"app.py": REPORT}, tags=[case.tag], more=case.more)
    binds = {tool: TOOL, plain: PLAIN}
    with inside(require_host(case.host), directory / "home", binds) as far:
        yield Started(far, case, mask, directory / "home")


@dataclass(frozen=True)
class Started:
    """A host that was entered, and what is run there."""

    far: Inside
    case: Case
    mask: int
    home: Path

    def report(self, argv: list[str | bytes], condition: Condition) -> dict[str, Any]:
        options = {"umask": self.mask, **condition.options}
        done = self.far.run(argv, **options)
        assert done.whole == (0, b"", b"")
        path = self.home / "report.json"
        report: dict[str, Any] = json.loads(path.read_text())
        path.unlink()
        assert report.pop("pid") == done.pid
        return report

    def plain(self, condition: Condition) -> dict[str, Any]:
        return self.report([self.case.python, PLAIN, *condition.arguments], condition)

    def forget(self) -> None:
        """Remove every store."""
        self.far.root("rm -rf /home/u/.cache /var/tmp/* /dev/shm/*")


@pytest.mark.parametrize("condition", CONDITIONS.values(), ids=CONDITIONS)
def test_first_and_second_launch_see_what_a_plain_script_sees(started: Started, condition: Condition) -> None:
    argv = [TOOL, *condition.arguments]
    expected = started.plain(condition)
    expected["argv"] = [(word if isinstance(word, bytes) else word.encode()).decode("latin-1") for word in argv]
    if "FATPAR" in condition.options.get("env", {}):
        expected["environ"] = expected["environ"].replace("FATPAR=\0", "")
        del expected["os.environ"]["FATPAR"]
    expected["cmdline"] = "".join(word + "\0" for word in expected["argv"])
    expected["comm"] = "tool\n"
    assert expected["children"] == []
    started.forget()
    assert started.report(argv, condition) == expected
    assert started.report(argv, condition) == expected


# How it ends ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=CASES)
def behaving(request: pytest.FixtureRequest, pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    case = CASES[request.param]
    directory = tmp_path_factory.mktemp(case.host)
    plain = directory / "plain.py"
    plain.write_text(BEHAVE)
    tool = pack("tool", {"app.py": BEHAVE}, tags=[case.tag])
    with inside(require_host(case.host), directory / "home", {tool: TOOL, plain: PLAIN}) as far:
        yield Started(far, case, 0o022, directory / "home")


def test_every_exit_status_is_the_application_s(behaving: Started) -> None:
    for status in range(0, 256, 1 if behaving.case.tag == "cp311" else 15):
        assert behaving.far.run([TOOL, "status", str(status)]).whole == (status, b"", b"")


@pytest.mark.parametrize("first", [True, False], ids=["first-launch", "second-launch"])
@pytest.mark.parametrize(
    "what", ["return", "text", "error", "abort", "sleep-term", "sleep-int", "sleep-hup", "handle-term"]
)
def test_it_ends_as_a_plain_script_ends(behaving: Started, what: str, first: bool) -> None:
    """Status or signal, and what is said; but for the lines of a traceback, which names other files."""
    word, _, name = what.partition("-")
    number = getattr(signal, f"SIG{name.upper()}") if name else 0
    if first:
        behaving.forget()
    plain = behaving.far.run([behaving.case.python, PLAIN, word], signal=number)
    packed = behaving.far.run([TOOL, word], signal=number)
    assert (packed.status, packed.stdout) == (plain.status, plain.stdout)
    assert said(packed) == said(plain)


def said(done: Ended) -> list[bytes]:
    """Standard error without the frames of tracebacks."""
    return [line for line in done.stderr.splitlines() if not line.startswith(b"  ")]


def test_how_a_plain_script_ends_is_what_we_think(behaving: Started) -> None:
    """Guards the test above: both sides wrong alike would be equal, too."""
    run = behaving.far.run
    assert run([TOOL, "return"]).whole == (7, b"", b"")
    assert run([TOOL, "text"]).whole == (1, b"", b"it is over\n")
    error = run([TOOL, "error"])
    assert (error.status, said(error)) == (1, [b"Traceback (most recent call last):", b"ValueError: never caught"])
    assert run([TOOL, "abort"]).status == -signal.SIGABRT
    assert run([TOOL, "sleep"], signal=signal.SIGTERM).whole == (-signal.SIGTERM, b"ready\n", b"")
    assert run([TOOL, "sleep"], signal=signal.SIGKILL).whole == (-signal.SIGKILL, b"ready\n", b"")
    assert run([TOOL, "handle"], signal=signal.SIGTERM).whole == (99, b"ready\n", b"")


def test_input_and_output_are_pipes_as_any(behaving: Started) -> None:
    run = behaving.far.run
    assert run([TOOL, "count"], input=b"x" * 1_000_000).whole == (0, b"1000000", b"")
    packed = run(["bash", "-c", f"{TOOL} pipe | head -n 1; exit ${{PIPESTATUS[0]}}"])
    plain = run(["bash", "-c", f"{behaving.case.python} {PLAIN} pipe | head -n 1; exit ${{PIPESTATUS[0]}}"])
    assert (packed.status, packed.stdout, said(packed)) == (plain.status, plain.stdout, said(plain))
    assert packed.stdout == b"y\n"


@pytest.mark.parametrize("first", [True, False], ids=["first-launch", "second-launch"])
def test_a_socket_of_a_service_manager_is_taken_over(behaving: Started, first: bool) -> None:
    """LISTEN_PID names the process that was started, and descriptor 3 is the socket."""
    if first:
        behaving.forget()
    script = f"LISTEN_PID=$$ exec {TOOL} listen"
    listening = "import socket\nserver = socket.socket()\nserver.listen()\nos.dup2(server.fileno(), 3)"
    done = behaving.far.run(["sh", "-c", script], before=listening, env={"LISTEN_FDS": "1"})
    assert done.whole == (0, b"True socket:\n", b"")


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_no_process_is_left_behind(case: Case, pack: Pack, tmp_path: Path) -> None:
    """All that runs in the session that the launch leads is the application: while it runs, and nothing afterwards."""
    tool = pack("tool", {"app.py": BEHAVE}, tags=[case.tag])
    host = require_host(case.host)
    with host.start([TOOL, "sleep"], binds={tool: TOOL}, state=tmp_path / "state") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert session_of(process.pid) == [process.pid]
        process.terminate()
        assert process.wait(10) == -signal.SIGTERM
        assert session_of(process.pid) == []


def session_of(leader: int) -> list[int]:
    """The processes of a session; field 6 of proc(5)'s stat, after the name, which may hold anything."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


# By which name --------------------------------------------------------------------------------------------------

NAMES = """\
import sys


def main():
    sys.stdout.write("%s %r %s\\n" % (__name__, sys.argv, sys.executable != ""))
"""

EMPTY_ARGV = """\
nothing = (ctypes.c_char_p * 1)(None)
variables = [name.encode() + b"=" + value.encode() for name, value in {env!r}.items()]
ctypes.CDLL(None).execve(b"{path}", nothing, (ctypes.c_char_p * 3)(*variables, None))
"""


@pytest.fixture(scope="module", params=CASES)
def tools(request: pytest.FixtureRequest, pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """An archive of two tools at /opt/dir/first, with links to it from everywhere."""
    case = CASES[request.param]
    modules = {"first.py": NAMES, "second.py": NAMES}
    named = {"first": "first:main", "second": "second:main"}
    archive = pack("first", modules, tools=named, tags=[case.tag])
    with inside(
        require_host(case.host), tmp_path_factory.mktemp(case.host) / "home", {archive: "/opt/dir/first"}
    ) as far:
        far.root(
            "mkdir /opt/links; cd /opt/links; ln -s ../dir/first second; ln -s second third;"
            "mkdir '/opt/a b'; ln -s /opt/dir/first '/opt/a b/second'"
        )
        yield far


@pytest.mark.parametrize(
    ("typed", "executable", "cwd", "tool"),
    [
        pytest.param("/opt/dir/first", None, "/", "first", id="absolute"),
        pytest.param("dir/first", None, "/opt", "first", id="relative"),
        pytest.param("./first", None, "/opt/dir", "first", id="in-the-working-directory"),
        pytest.param("../dir//first", None, "/opt/links", "first", id="with-dots"),
        pytest.param("first", "/opt/dir/first", "/", "first", id="by-path"),
        pytest.param("/opt/links/second", None, "/", "second", id="link-with-a-tool-s-name"),
        pytest.param("/opt/a b/second", None, "/", "second", id="link-in-a-directory-with-a-space"),
        pytest.param("/opt/links/third", None, "/", "first", id="link-to-a-link-with-another-name"),
        pytest.param("second", "/opt/dir/first", "/", "second", id="argv-0-alone-decides"),
        pytest.param("-first", "/opt/dir/first", "/", "first", id="login-shell-s-dash"),
        pytest.param("/nowhere/at/all", "/opt/dir/first", "/", "first", id="argv-0-is-anything"),
        pytest.param("", "/opt/dir/first", "/", "first", id="argv-0-is-empty"),
        pytest.param("-c", "/opt/dir/first", "/", "first", id="argv-0-is-an-option"),
    ],
)
def test_it_is_the_tool_it_is_called_by(tools: Inside, typed: str, executable: str | None, cwd: str, tool: str) -> None:
    conditions: dict[str, Any] = {"cwd": cwd, **({"executable": executable} if executable else {})}
    done = tools.run([typed, "x"], **conditions)
    assert done.whole == (0, f"{tool} {[typed, 'x']!r} True\n".encode(), b"")


def test_it_is_found_on_path(tools: Inside) -> None:
    env = {"PATH": "/usr/bin:/opt/links:/opt/dir"}
    for name in ("first", "second"):
        done = tools.run(["env", name], env=env)
        assert done.whole == (0, f"{name} ['{name}'] True\n".encode(), b"")


def test_a_same_named_file_in_the_working_directory_is_not_taken_for_it(tools: Inside) -> None:
    tools.root("echo none > /tmp/first")
    done = tools.run(["first"], executable="/opt/dir/first", cwd="/tmp")
    assert done.whole == (0, b"first ['first'] True\n", b"")


def test_no_argument_vector_at_all(tools: Inside) -> None:
    """Linux 5.18 and later make it one empty word."""
    env = {"HOME": "/home/u", "PATH": "/usr/bin"}
    done = tools.run(
        ["never"], executable="/bin/false", env=env, before=EMPTY_ARGV.format(path="/opt/dir/first", env=env)
    )
    assert done.whole == (0, b"first [''] True\n", b"")


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_it_runs_without_proc(case: Case, pack: Pack, tmp_path: Path) -> None:
    """By an absolute name, by a relative one and by PATH; the first launch and the second."""
    tool = pack("first", {"app.py": NAMES}, tags=[case.tag])
    with inside(
        require_host(case.host), tmp_path / "home", {tool: "/opt/dir/first"}, tmpfs={"/proc": "size=4k"}
    ) as far:
        assert far.root("ls -A /proc") == b""
        for argv, cwd in ((["/opt/dir/first"], "/"), (["dir/first"], "/opt"), (["env", "first"], "/")):
            done = far.run(argv, cwd=cwd, env={"PATH": "/usr/bin:/opt/dir"})
            assert done.whole == (0, f"app {argv[-1:]!r} True\n".encode(), b"")


@pytest.mark.parametrize("bit", ["u", "g"])
def test_a_set_id_program_is_refused(pack: Pack, tmp_path: Path, bit: str) -> None:
    tool = pack("first", {"app.py": NAMES})
    script = f"cp /mnt/first /opt/first; chmod 755 /opt/first; chmod {bit}+s /opt/first"
    with inside(require_host("bookworm"), tmp_path / "home", {tool: "/mnt/first"}) as far:
        far.root(script)
        message = b"first: a packed program cannot be set-user-ID, set-group-ID or have capabilities\n"
        assert far.run(["/opt/first"]).whole == (125, b"", message)
        assert far.root("ls -A /home/u") == b""
