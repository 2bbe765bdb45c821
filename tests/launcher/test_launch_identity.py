"""A process looks from outside as the user started it, whatever runs in it. That it does so under every condition of
its start is in test_launch_transparency.py; here are the hosts, and what can be in the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.hosts import require_host
from support.packing import Place
from support.process import inside

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.process import Ended, Inside

    from .conftest import Pack

pytestmark = pytest.mark.hosts

TOOL = "/opt/tool"

APP = """\
import ctypes, json, os, subprocess, sys


def text(pid, name):
    with open("/proc/%s/%s" % (pid, name), "rb") as file:
        return file.read().decode("latin-1")


def looks(pid="self"):
    return [text(pid, "comm"), text(pid, "cmdline"), text(pid, "environ")]


def child():
    read, write = os.pipe()
    if os.fork() == 0:
        os.write(write, json.dumps(looks()).encode())
        os._exit(0)
    os.wait()
    return json.loads(os.read(read, 100000).decode())


def name(word):
    return ctypes.c_char_p.in_dll(ctypes.CDLL(None), word).value.decode()


def main():
    code = "import os; print(os.environ.get('LD_PRELOAD')); print(open('/proc/self/comm').read())"
    started = [sys.executable, "-c", code]
    print(json.dumps({
        "looks": looks(),
        "fork": child(),
        "names": [name("program_invocation_name"), name("program_invocation_short_name")],
        "started": subprocess.check_output(started).decode().split(),
        "variable": os.environ.get("LD_PRELOAD"),
        "preloaded": "/shim.so" in text("self", "maps"),
    }))


if __name__ == "__main__":
    main()
"""

HOSTS = {
    "bullseye-2.7": ("bullseye", "cp27mu"), "bullseye": ("bullseye", "cp39"), "bookworm": ("bookworm", "cp311"),
    "trixie": ("trixie", "cp313"), "forky": ("forky", "cp314"), "sid": ("sid", "cp315"),
}  # fmt: skip
"""With musl, and with a carried interpreter and C library: tests/e2e."""


@pytest.fixture(scope="module", params=HOSTS)
def far(request: pytest.FixtureRequest, pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    host, tag = HOSTS[request.param]
    directory = tmp_path_factory.mktemp(host)
    tool = pack("tool", {"app.py": APP}, tags=[tag])
    python = "python3.15" if host == "sid" else "python3"
    with inside(require_host(host), directory / "home", {tool: TOOL}, python) as entered:
        yield entered


def told(ended: Ended) -> dict[str, object]:
    assert (ended.status, ended.stderr) == (0, b"")
    said: dict[str, object] = json.loads(ended.stdout)
    return said


def environment(far: Inside, **variables: str) -> str:
    """What /proc shows of the environment of a program that is started with these."""
    done = far.run(["cat", "/proc/self/environ"], executable="/bin/cat", env=variables)
    return done.stdout.decode()


def test_name_arguments_and_environment_are_the_users(far: Inside) -> None:
    wanted = ["tool\n", f"{TOOL}\0--flag\0a b\0\0", environment(far, LD_BIND_NOW="1", Z="last")]
    said = told(far.run([TOOL, "--flag", "a b", ""], env={"LD_BIND_NOW": "1", "Z": "last"}))
    python = said.pop("started")
    assert said == {
        "looks": wanted, "fork": wanted, "names": [TOOL, "tool"], "variable": None, "preloaded": True,
    }  # fmt: skip
    assert isinstance(python, list)
    assert python[0] == "None"
    assert python[1].startswith("python")


@pytest.mark.parametrize("typed", ["tool", "./tool", "-a-login-shell", "a-name-of-more-than-15-bytes", "of two words"])
def test_the_name_is_the_one_typed(far: Inside, typed: str) -> None:
    looks = told(far.run([typed, "a"], executable=TOOL))["looks"]
    assert isinstance(looks, list)
    assert looks[:2] == [typed.rpartition("/")[2][:15] + "\n", f"{typed}\0a\0"]


# What can be in the way -----------------------------------------------------------------------------------------

FILTER = """
# bpf: of system call 157, prctl, fail those with 35, PR_SET_MM, as kernels without CONFIG_CHECKPOINT_RESTORE do
import struct
steps = [(0x20, 0, 0, 0), (0x15, 0, 3, 157), (0x20, 0, 0, 16), (0x15, 0, 1, 35)]
steps += [(6, 0, 0, 0x50016), (6, 0, 0, 0x7fff0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code)))
assert ctypes.CDLL(None).prctl(38, 1, 0, 0, 0) == 0
assert ctypes.CDLL(None).prctl(22, 2, program) == 0
"""


@pytest.fixture
def bookworm(pack: Pack, tmp_path: Path) -> Iterator[Inside]:
    tool = pack("tool", {"app.py": APP}, tags=["cp311"])
    with inside(require_host("bookworm"), tmp_path / "home", {tool: TOOL}) as entered:
        yield entered


def test_a_kernel_that_does_not_know_the_call_pads_the_arguments(bookworm: Inside) -> None:
    wanted = environment(bookworm)
    said = told(bookworm.run([TOOL, "a"], before=FILTER))
    assert isinstance(said["looks"], list)
    comm, cmdline, environ = said["looks"]
    assert (comm, cmdline.rstrip("\0"), environ.rstrip("\0")) == ("tool\n", f"{TOOL}\0a", wanted.rstrip("\0"))
    assert len(cmdline) > len(f"{TOOL}\0a\0")  # or it knows the call


@pytest.mark.parametrize("value", ["", "libm.so.6", "libm.so.6:libz.so.1", "libm.so.6 libz.so.1"])
def test_the_users_own_preloaded_libraries_stay(bookworm: Inside, value: str) -> None:
    wanted = environment(bookworm, A="1", LD_PRELOAD=value, Z="last")
    said = told(bookworm.run([TOOL, "a"], env={"A": "1", "LD_PRELOAD": value, "Z": "last"}))
    assert said["looks"] == ["tool\n", f"{TOOL}\0a\0", wanted]
    assert said["variable"] == value
    assert isinstance(said["started"], list)
    assert said["started"][:-1] == value.split()  # its children have it, too


def test_what_only_we_name_so_is_not_passed_on(bookworm: Inside) -> None:
    wanted = environment(bookworm, A="1")
    said = told(bookworm.run([TOOL, "a"], env={"A": "1", "\1D_PRELOAD": "libm.so.6"}))
    assert (said["looks"], said["variable"]) == (["tool\n", f"{TOOL}\0a\0", wanted], None)


def test_an_interpreter_with_capabilities_gets_no_shim(bookworm: Inside) -> None:
    """Its loader obeys nothing, so nobody would take it out of the environment again. /proc hides such a process."""
    capability = "bytes.fromhex('0100000200200000000000000000000000000000')"  # cap_net_raw+ep
    code = f"import os; os.setxattr('/usr/bin/python3.11', 'security.capability', {capability})"
    bookworm.root(f'python3 -c "{code}"')
    assert b"PermissionError" in bookworm.run([TOOL, "a"]).stderr
    assert bookworm.root("ls /home/u/.cache/fatpar/v1/views/*").split() == [b"about", b"made", b"pyc", b"tree"]


def test_without_the_shim_it_runs_as_python(bookworm: Inside) -> None:
    assert told(bookworm.run([TOOL, "a"]))["preloaded"]
    bookworm.root("rm /home/u/.cache/fatpar/v1/views/*/shim.so")
    said = told(bookworm.run([TOOL, "a"]))
    assert (said["preloaded"], said["variable"]) == (False, None)
    assert isinstance(said["looks"], list)
    assert said["looks"][0] == "python\n"
    assert said["looks"][1].endswith(f"\0{TOOL}\0a\0")


@pytest.mark.parametrize("place", ["of two words", "a:b", "$LIB"])
def test_a_store_whose_path_no_loader_can_be_told(bookworm: Inside, place: str) -> None:
    """It runs, as python, and says nothing."""
    said = told(bookworm.run([TOOL, "a"], env={"FATPAR_STORE": f"/home/u/{place}"}))
    assert (said["preloaded"], said["variable"]) == (False, None)


def test_in_another_program_the_shim_does_nothing(bookworm: Inside) -> None:
    assert told(bookworm.run([TOOL]))["preloaded"]
    view = bookworm.root("echo /home/u/.cache/fatpar/v1/views/*/shim.so").decode().strip()
    done = bookworm.run(["/bin/cat", "/proc/self/cmdline", "/proc/self/comm"], env={"LD_PRELOAD": view})
    assert done.whole == (0, b"/bin/cat\0/proc/self/cmdline\0/proc/self/comm\0cat\n", b"")


@pytest.mark.network
def test_a_program_that_sets_its_title_is_left_alone(tmp_path: Path) -> None:
    place = Place(tmp_path)
    (place.work / "app.py").write_text(
        "import setproctitle\n"
        "print(setproctitle.getproctitle().split()[-2:])\n"
        "setproctitle.setproctitle('worker')\n"
        "print(open('/proc/self/cmdline').read().strip('\\0'))\n"
    )
    place.packed("fat", "app.py", "setproctitle", "--abis", "manylinux2014,cp311", "--fast", "-o", "tool")
    done = require_host("bookworm").run([TOOL, "a"], binds={place.work / "tool": TOOL})
    assert (done.status, done.stdout.decode(), done.stderr) == (0, f"['{TOOL}', 'a']\nworker\n", b"")
