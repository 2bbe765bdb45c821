"""The program that runs others on hosts, here on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from packer import native
from packer.agent import Agent, Ended, HostError, started
from packer.process import StoppedError

if TYPE_CHECKING:
    from collections.abc import Iterator

AGENT = native.data(f"agent-{os.uname().machine}")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The directory that an agent may write to."""
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


@pytest.fixture
def agent(place: Path) -> Iterator[Agent]:
    """One that runs."""
    with started([str(AGENT), str(place)], stop=threading.Event(), patience=60) as one:
        yield one


def shell(agent: Agent, script: str, *, fresh: bool = True, timeout: float = 60, stdin: str = "") -> Ended:
    """Run a script."""
    return agent.launch(["/bin/sh", "-c", script], {}, stdin=stdin, fresh=fresh, timeout=timeout)


def test_status_signal_and_both_streams(agent: Agent) -> None:
    ended = shell(agent, "echo out; echo err >&2; exit 3")
    assert (ended.how, ended.number, ended.output) == ("exited", 3, "out\nerr\n")
    assert ended.seconds > 0
    ended = shell(agent, "kill -SEGV $$")
    assert (ended.how, ended.number) == ("killed", 11)


def test_what_cannot_be_executed(agent: Agent, tmp_path: Path) -> None:
    assert agent.launch(["/nonexistent"], {}, fresh=True, timeout=60).number == 2
    foreign = tmp_path / "foreign"
    foreign.write_bytes(b"\x7fELF" + bytes(200))
    foreign.chmod(0o755)
    ended = agent.launch([str(foreign)], {}, fresh=True, timeout=60)
    assert (ended.how, os.strerror(ended.number)) == ("failed", "Exec format error")


def test_input_arguments_and_variables(agent: Agent) -> None:
    text = "line ä\n" * 50000
    assert shell(agent, "cat | wc -c", stdin=text).output.strip() == str(len(text.encode()))
    assert shell(agent, "cat | wc -c").output.strip() == "0"
    words = ["/bin/sh", "-c", 'printf "%s|" "$@" "$A" "${B-unset}" "$HOME"', "sh", "", "a b", "\udcff"]
    ended = agent.launch(words, {"A": "x=y", "PATH": None, "B": None}, fresh=True, timeout=60)
    assert ended.output.startswith("|a b|�|x=y|unset|/")


def test_a_home_that_is_kept_or_made_anew(agent: Agent, place: Path) -> None:
    # as a store is: not even its owner may write to it
    script = "pwd; mkdir -p store/layer; echo x >store/layer/file; chmod -R a-w store; ls"
    assert shell(agent, script).output == f"{place}/home\nstore\n"
    assert shell(agent, "ls store/layer", fresh=False).output == "file\n"
    assert shell(agent, "ls; pwd").output == f"{place}/home\n"


def test_of_long_output_the_end(agent: Agent) -> None:
    ended = shell(agent, "i=0; while [ $i -lt 400 ]; do printf '%010000d' $i; i=$((i+1)); done; echo; echo end")
    assert len(ended.output) == 1 << 20
    assert ended.output.endswith("399\nend\n")


def alive(mark: str) -> list[str]:
    """The processes that have a word in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


DAEMONS = "(setsid sh -c '(sleep 4711 &) ; sleep 4711' &) ; sleep 0.1;"
"""Processes in sessions and groups of their own, some of them orphans."""


def test_what_takes_too_long_is_killed_with_all_that_came_of_it(agent: Agent) -> None:
    words = ["/bin/sh", "-c", f"{DAEMONS} echo begun; sleep 4711"]
    ended = agent.launch(words, {"MARK": "late-one"}, fresh=True, timeout=3)
    assert (ended.how, ended.output) == ("late", "begun\n")
    assert alive("MARK=late-one") == []
    assert shell(agent, "echo on").output == "on\n"


def test_what_a_program_leaves_behind_is_killed(agent: Agent) -> None:
    ended = agent.launch(["/bin/sh", "-c", f"{DAEMONS} exit 5"], {"MARK": "leaver"}, fresh=True, timeout=60)
    assert (ended.how, ended.number) == ("exited", 5)
    assert alive("MARK=leaver") == []


def test_it_ends_with_those_who_ask(place: Path) -> None:
    """However they end: its input does."""
    process = subprocess.Popen([AGENT, place], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin
    assert process.stdout
    words = b"/bin/sh\0-c\0%s touch begun; sleep 4711\0MARK=orphaned\0" % DAEMONS.encode()
    process.stdin.write(b"1 100000 3 1 %d\n" % len(words) + words)
    process.stdin.flush()
    while not (place / "home/begun").exists():
        assert process.poll() is None
        time.sleep(0.01)
    assert alive("MARK=orphaned")
    process.stdin.close()
    assert process.wait(60) == 0
    process.stdout.close()
    assert alive("MARK=orphaned") == []
    assert not place.exists()


def test_giving_up(place: Path) -> None:
    stop = threading.Event()
    command = [str(AGENT), str(place)]
    with pytest.raises(StoppedError), started(command, stop=stop, patience=60) as agent:  # noqa: PT012
        threading.Timer(0.3, stop.set).start()
        shell(agent, "sleep 4711")
    assert not place.exists()


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (["/nonexistent/agent"], "cannot run /nonexistent/agent: No such file or directory"),
        (["sh", "-c", "echo no; echo first >&2; echo last >&2; exit 1"], "last"),
        (["sh", "-c", "exit 0"], "it said nothing"),
        (["sh", "-c", "echo motd; echo ready; read line; echo nonsense"], "its answer makes no sense: nonsense"),
        (["sh", "-c", "echo ready; read line; echo gone >&2"], "gone"),
    ],
)
def test_a_host_that_cannot_be_used(command: list[str], error: str) -> None:
    with (
        pytest.raises(HostError, match=f"^{error}$"),
        started(command, stop=threading.Event(), patience=60) as agent,
    ):
        shell(agent, "true")


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("exec yes", "it says much, and never that it is ready: y"),
        ("exec tr '\\0' x </dev/zero", "its answer makes no sense: x{200}"),
        ("(exec yes >&2) ; true", "it does not stop talking: y"),
        ("echo ready; read line; exec tr '\\0' x </dev/zero", "its answer makes no sense: x{200}"),
        ("echo ready; read line; echo exited 0 1 99999999; exec yes", "its answer makes no sense: exited 0 1 99999999"),
        ("echo ready; read line; echo exited 0 1 -1", "its answer makes no sense: exited 0 1 -1"),
    ],
)
def test_a_host_that_never_stops_talking(script: str, error: str) -> None:
    with (
        pytest.raises(HostError, match=f"^{error}$"),
        started(["sh", "-c", script], stop=threading.Event(), patience=600) as agent,
    ):
        shell(agent, "true")


@pytest.mark.parametrize(("set_first", "patience"), [(True, 600), (False, 0)])
def test_neither_time_nor_giving_up_waits_for_silence(set_first: bool, patience: float) -> None:
    """What is said here is little enough, and never ends."""
    stop = threading.Event()
    if set_first:
        stop.set()
    with (
        pytest.raises(StoppedError if set_first else HostError, match=r"^$|no answer in time"),
        started(["yes"], stop=stop, patience=patience, listens=False),
    ):
        pass


def test_a_host_that_says_nothing() -> None:
    words = [sys.executable, "-c", "import time; time.sleep(4711)"]
    with (
        pytest.raises(HostError, match="no answer in time: it said nothing"),
        started(words, stop=threading.Event(), patience=0.1, listens=False),
    ):
        pass
