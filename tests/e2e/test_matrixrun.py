"""An archive on real hosts: root filesystems as root and as a mere user, ssh, images, a kernel under qemu."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import uuid
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import archives, roots, slices
from support.hosts import give_up, require_host
from support.layers import SITE
from support.machines import machine
from support.skips import skip_optional

from packer import agent, enterchild, matrixrun, native
from packer.errors import UsageError
from packer.model import Need, NeedKind
from packer.progress import Quiet
from packer.results import from_json, merged

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from packer.results import Matrix, Row

pytestmark = pytest.mark.hosts

APP = """\
import os, subprocess, sys, time


def main():
    sys.stdout.write("%s %d in %s: %s\\n" % (sys.argv[1:], os.geteuid(), os.getcwd(), sys.stdin.read()))
    sys.stdout.flush()
    if sys.argv[1:2] == ["hang"]:
        subprocess.Popen(["setsid", "sleep", sys.argv[2]])
        time.sleep(4711)
    if sys.argv[1:2] == ["write"]:
        for place in ("/", "/etc", "/fatpar", "/usr/bin", "/var", "/sys"):
            assert not os.access(place, os.W_OK), place
        for place in ("/tmp", "/var/tmp", "/dev/shm", "."):
            open(os.path.join(place, "probe"), "w").close()
    return len(sys.argv) - 1
"""

CASES = """
[[case]]
name = "read"
args = ["a", "b c"]
status = 2
stdin = "typed"
output = "^\\\\['a', 'b c'\\\\] 4242 in /home/fatpar/home: typed$"

[[case]]
name = "write"
args = ["write"]
status = 1
"""


@pytest.fixture(scope="session")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program for the hosts' glibc Pythons, and one for musl's."""
    room = tmp_path_factory.mktemp("matrixrun")
    return archives.write(room / "tool", room / "work", {"app.py": APP})


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """See that neither a mount nor a temporary file stays behind."""
    (tmp_path / "tmp").mkdir()
    tmp_path.chmod(0o755)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    before = Path("/proc/self/mounts").read_text().count("\n")
    yield
    assert list((tmp_path / "tmp").iterdir()) == []
    assert Path("/proc/self/mounts").read_text().count("\n") == before


PLAIN = '[[case]]\nname = "plain"\n'


def run(tool: Path, room: Path, hosts: str, *arguments: str, cases: str = "", **options: Any) -> Matrix:
    """Run a program on the hosts of a file; plainly, if nothing else is said."""
    (room / "hosts.toml").write_text(hosts + (cases or ("" if arguments else PLAIN)))
    given: dict[str, Any] = {"at_once": 2, "shard": None, "again": None, "timeout": 120, "progress": Quiet(), **options}
    return matrixrun.run(tool, room / "hosts.toml", arguments, **given)


def root(name: str, more: str = "") -> str:
    """A host of the file."""
    require_host(name)
    return f'[[host]]\nname = "{name}"\nroot = "{roots.root_of(name)}"\n{more}\n'


def cells(matrix: Matrix) -> list[tuple[str, bool, str | None, str]]:
    """Host, whether it passed, what was chosen there, what is wrong with it."""
    return [(row.host, row.passed, _chosen(row), row.seen.error if row.seen else "not seen") for row in matrix.rows]


def _chosen(row: Row) -> str | None:
    return row.seen.choice.slice if row.seen and row.seen.choice else None


NO_PYTHON = "bookworm-nopython", "required = false"
SLICE = "{}-manylinux_2_17_x86_64"


def test_roots(tool: Path, tmp_path: Path) -> None:
    hosts = root("bookworm", 'describes = "bookworm"') + root("bullseye") + root(*NO_PYTHON)
    found = run(tool, tmp_path, hosts, "one", "more", "case", cases=CASES)
    assert cells(found) == [
        ("bookworm", False, SLICE.format("cp311"), ""),
        ("bullseye", False, SLICE.format("cp39"), ""),
        ("bookworm-nopython", True, None, ""),
    ]
    assert from_json(json.loads(json.dumps(found.json()))) == found
    bookworm, bullseye, nothing = (row.seen for row in found.rows)
    assert bookworm
    assert bullseye
    assert nothing
    assert nothing.cases == ()
    assert nothing.choice
    assert nothing.choice.reasons[SLICE.format("cp311")] == ("needs CPython cp311, found no Python at all",)
    predicted = found.rows[0].predicted
    assert predicted == bookworm.choice
    assert [(ran.case, ran.passed, ran.why, ran.status) for ran in bookworm.cases[:2]] == [
        ("read", True, "", 2), ("write", True, "", 1)
    ]  # fmt: skip
    last = bullseye.cases[2]
    assert (last.case, last.arguments, last.passed) == ("one more case", ("one", "more", "case"), False)
    assert last.why == "it ended with status 3 instead of ending with status 0"
    assert all(ran.first and ran.warm for ran in bookworm.cases)


def test_a_wrong_description_is_a_disagreement(tool: Path, tmp_path: Path) -> None:
    found = run(tool, tmp_path, root("bookworm", 'describes = "trixie"'), cases=CASES)
    (row,) = found.rows
    assert (row.agrees, row.passed, found.passed) == (False, False, False)
    assert row.predicted
    assert (row.predicted.slice, _chosen(row)) == (SLICE.format("cp313"), SLICE.format("cp311"))
    # nothing else is wrong
    assert replace(row, predicted=None).passed


def test_a_required_host_without_a_slice(tool: Path, tmp_path: Path) -> None:
    assert not run(tool, tmp_path, root("bookworm-nopython")).passed
    assert not run(tool, tmp_path, root(*NO_PYTHON), required=["bookworm-nopython"]).passed


def test_a_host_that_is_required_and_not_there(tool: Path, tmp_path: Path) -> None:
    hosts = '[[host]]\nname = "here"\nlocal = true\n[[host]]\nname = "other"\nlocal = true\n'
    for shard in (None, (1, 2)):
        with pytest.raises(UsageError, match=r"hosts.toml names no host 'hear', but here, other$"):
            run(tool, tmp_path, hosts, required=["other", "hear"], shard=shard)


def test_nothing_to_run(tool: Path, tmp_path: Path) -> None:
    (tmp_path / "hosts.toml").write_text('[[host]]\nname = "here"\nlocal = true\n')
    with pytest.raises(UsageError, match=r"^no case was run: give -- ARGUMENTS or \[\[case\]\]$"):
        matrixrun.run(
            tool, tmp_path / "hosts.toml", [], at_once=1, shard=None, again=None, timeout=9, progress=Quiet()
        )  # fmt: skip


def test_this_machine(tool: Path, tmp_path: Path) -> None:
    (row,) = run(tool, tmp_path, '[[host]]\nname = "here"\nlocal = true\nrequired = false\n').rows
    assert row.passed
    assert row.seen
    assert row.seen.choice


def test_what_takes_too_long_is_killed(tool: Path, tmp_path: Path) -> None:
    mark = f"4711.{uuid.uuid4().int % 10**9}"
    hosts = root("bookworm") + '[[case]]\nname = "after"\nargs = []\n'
    found = run(tool, tmp_path, hosts, "hang", mark, timeout=5)
    seen = found.rows[0].seen
    assert seen
    assert [(ran.passed, ran.status, ran.why) for ran in seen.cases] == [
        (True, 0, ""), (False, None, "it took longer than 5 seconds and was killed")
    ]  # fmt: skip
    assert "hang" in seen.cases[1].output
    assert seen.cases[1].first
    assert (seen.cases[1].first >= 5, seen.cases[1].warm) == (True, None)
    assert processes(mark) == []


def processes(word: str) -> list[str]:
    """Those that have a word in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


class Interrupts(Quiet):
    """Interrupts the run as soon as a process has a word in its command line."""

    def __init__(self, word: str) -> None:
        self.word = word

    def say(self, text: str) -> None:
        """Is called when all hosts have been started."""
        while not processes(self.word):
            threading.Event().wait(0.01)
        raise KeyboardInterrupt


def test_an_interrupt_kills_all(tool: Path, tmp_path: Path) -> None:
    mark = f"4711.{uuid.uuid4().int % 10**9}"
    with pytest.raises(KeyboardInterrupt):
        run(tool, tmp_path, root("bookworm") + root("bullseye"), "hang", mark, progress=Interrupts(mark))
    assert processes(mark) == []


def test_what_passed_is_not_run_again(tool: Path, tmp_path: Path) -> None:
    hosts = root("bookworm") + root("bullseye") + root(*NO_PYTHON)
    first = run(tool, tmp_path, hosts)
    assert first.passed
    assert first.rows[0].seen
    gone = replace(first.rows[0], seen=replace(first.rows[0].seen, error="gone"))
    before = replace(first, rows=(gone, *(replace(row, title="stale") for row in first.rows[1:])))

    def again(hosts: str, *arguments: str, cases: str = "") -> list[bool]:
        """Say which hosts were run again."""
        found = run(tool, tmp_path, hosts, *arguments, cases=cases, again=before)
        assert "stale" not in [row.title for row in found.rows]
        earlier = {row.host: row.seen for row in before.rows}
        return [row.seen is not earlier[row.host] for row in found.rows]

    assert again(hosts) == [True, False, False]
    # what the file says now: one is required, one is described wrongly, one is elsewhere
    assert again(root("bullseye", 'title = "Ours"') + root("bookworm-nopython")) == [False, True]
    assert again(root("bullseye", 'describes = "trixie"')) == [True]
    assert again(f'[[host]]\nname = "bullseye"\nroot = "{roots.root_of("bookworm")}"\n') == [True]
    # a case of the same name and arguments may ask for something else
    assert again(root("bullseye"), cases=PLAIN + 'output = "never"\n') == [True]
    assert again(root("bullseye"), "one", cases=PLAIN) == [True]
    with pytest.raises(UsageError, match=r"tool is not what the earlier run was of: that was archive 00$"):
        run(tool, tmp_path, hosts, again=replace(before, id="00"))


def test_shards(tool: Path, tmp_path: Path) -> None:
    hosts = root("bookworm") + root("bullseye") + root(*NO_PYTHON)
    parts = [run(tool, tmp_path, hosts, shard=(number, 2)) for number in (1, 2)]
    assert [[row.host for row in part.rows] for part in parts] == [["bookworm", "bookworm-nopython"], ["bullseye"]]
    with pytest.raises(UsageError, match="there is no shard 3 of 2: they are counted from 1"):
        run(tool, tmp_path, hosts, shard=(3, 2))
    assert [part.shard for part in parts] == [(1, 2), (2, 2)]
    whole = merged(parts)
    assert [row.host for row in whole.rows] == ["bookworm", "bullseye", "bookworm-nopython"] == list(whole.plan)
    empty = run(tool, tmp_path, hosts, shard=(4, 4))
    assert (empty.rows, empty.shard, empty.plan) == ((), (4, 4), whole.plan)


def test_a_mere_user_may_run_in_a_root(tool: Path) -> None:
    """What comes with the packer enters with the namespaces of a user; his processes have no more rights than he."""
    require_host("bookworm")
    with tempfile.TemporaryDirectory(dir="/tmp") as work:
        place = Path(work)
        (place / "stage").mkdir()
        (place / "mount").mkdir()
        for source, name in ((tool, "tool"), (native.data("agent-x86_64"), "agent"), (enterchild.__file__, "enter.py")):
            shutil.copy(source, place / "stage" / name)
        for path in (place, *place.rglob("*")):
            path.chmod(0o755)
        os.chown(place / "mount", 4243, 4243)
        command = [
            "setpriv", "--reuid", "4243", "--regid", "4243", "--clear-groups", "--inh-caps=-all",
            python_for_all(), "-I", f"{place}/stage/enter.py", str(roots.root_of("bookworm").resolve()),
            f"{place}/stage", f"{place}/mount", "4242", "/fatpar/agent", "/home/fatpar",
        ]  # fmt: skip
        with agent.started(command, stop=threading.Event(), patience=60) as one:
            said = one.launch(["/fatpar/tool", "write"], {}, stdin="typed", fresh=True, timeout=60)
            status = one.launch(["/bin/cat", "/proc/self/status"], {}, fresh=True, timeout=60).output
            processes = one.launch(["/bin/sh", "-c", "echo /proc/[0-9]*"], {}, fresh=True, timeout=60).output
    assert (said.how, said.number) == ("exited", 1), said.output
    assert said.output == "['write'] 4242 in /home/fatpar/home: typed\n"
    assert [line.split()[1] for line in status.splitlines() if line.startswith(("CapEff", "CapPrm"))] == ["0" * 16] * 2
    assert len(processes.split()) == 2  # the agent and this shell


def python_for_all() -> str:
    """A Python that any user may run."""
    words = ["setpriv", "--reuid", "4243", "--regid", "4243", "--clear-groups"]
    for python in (sys.executable, "/usr/bin/python3"):
        if subprocess.run([*words, python, "-c", ""], capture_output=True, check=False).returncode == 0:
            break
    else:
        give_up("no Python here can be run by others than root")
    return python


# Hosts elsewhere ------------------------------------------------------------------------------------------------


def test_ssh(tool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "machine").mkdir()
    with machine(tmp_path / "machine") as there:
        monkeypatch.setenv("PATH", str(there.programs), prepend=os.pathsep)
        hosts = '[[host]]\nname = "machine"\nssh = "machine"\ndescribes = "bookworm"\n'
        found = run(tool, tmp_path, hosts, cases=CASES)
        left = there.shell("ls /tmp; cat /proc/[0-9]*/comm")
    assert cells(found) == [("machine", False, SLICE.format("cp311"), "")]
    assert found.rows[0].agrees
    seen = found.rows[0].seen
    assert seen
    read, write = seen.cases
    assert read.why.startswith("nothing that it wrote matches")
    assert "['a', 'b c'] 0 in /tmp/tmp." in read.output
    assert write.status == 1  # it is root there, and asserts that it may not write
    assert "tmp." not in left
    assert not {"agent", "tool"} & set(left.split())


def test_a_machine_that_ssh_does_not_reach(tool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = "ssh: connect to host far port 22: No route to host"
    (tmp_path / "ssh").write_text(f"#!/bin/sh\necho '{refusal}' >&2\nexit 255\n")
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    found = run(tool, tmp_path, '[[host]]\nname = "far"\nssh = "user@far"\n')
    assert cells(found) == [("far", False, None, refusal)]


def test_a_machine_whose_shell_never_stops_talking(tool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ssh").write_text("#!/bin/sh\nexec yes\n")
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    ((_, passed, _, error),) = cells(run(tool, tmp_path, '[[host]]\nname = "far"\nssh = "user@far"\n'))
    assert not passed
    assert error.startswith("it does not stop talking: y")


def test_what_is_not_installed_is_named(tool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = tmp_path / "vmlinuz"
    kernel.touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    hosts = f"""
        host = [
            {{name = "a", image = "debian:12"}},
            {{name = "b", kernel = "{kernel}", root = "{roots.root_of("musl")}"}},
            {{name = "c", ssh = "host"}},
        ]
        """
    assert [error for *_, error in cells(run(tool, tmp_path, hosts))] == [
        "neither podman nor docker is installed, which run images",
        "qemu-system-x86_64 is missing, which starts kernels: install the package qemu-system-x86",
        "ssh is not installed",
    ]


ENGINE = """\
#!/bin/sh
# what podman and docker do, as far as it is asked for: nothing is isolated
echo "$*" >>"$0.log"
[ "$1" = run ] || exit 0
while [ "$1" != --volume ]; do shift; done
stage=${2%:/fatpar:ro,z}
while [ "$1" != --entrypoint ]; do shift; done
[ "$3" = image:there ] || { echo "Error: no such image" >&2; exit 125; }
mkdir "$0.home"
exec "$stage/agent" "$0.home"
"""


def test_how_docker_is_called(tool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real one is seldom to be had where tests run; the next test has it."""
    engine = tmp_path / "docker"
    engine.write_text(ENGINE)
    engine.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "podman" else str(tmp_path / name))
    hosts = '[[host]]\nname = "a"\nimage = "image:there"\n[[host]]\nname = "b"\nimage = "image:gone"\n'
    found = run(tool, tmp_path, hosts, at_once=1)
    # its paths are those of a container, so the program is not where it would be there
    assert [error for *_, error in cells(found)] == [
        "the launcher could not be executed: No such file or directory and so does not say what it selects",
        "docker: Error: no such image",
    ]
    first, removed, *_ = (tmp_path / "docker.log").read_text().splitlines()
    name = removed.removeprefix("rm --force ")
    stage = first.split(" --volume ")[1].split(":")[0]
    assert first == (
        f"run --rm --interactive --name {name} --network none --user 4242:4242 --volume {stage}:/fatpar:ro,z "
        "--tmpfs /fatpar-home:rw,exec,mode=1777 --workdir /fatpar-home --entrypoint /fatpar/agent "
        "image:there /fatpar-home"
    )


CONTAINERS = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
events_logger = "none"
{runtime}
"""
"""Where tests run there is seldom the right to raise a limit."""


@pytest.mark.torture
def test_podman(tool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not shutil.which("podman"):
        skip_optional("podman is not installed")
    require_host("bookworm")
    runtime = 'runtime = "runc"' if shutil.which("runc") else ""
    (tmp_path / "containers.conf").write_text(CONTAINERS.format(runtime=runtime))
    (tmp_path / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{tmp_path}/graph"\nrunroot = "{tmp_path}/run"\n'
    )
    monkeypatch.setenv("CONTAINERS_CONF", str(tmp_path / "containers.conf"))
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(tmp_path / "storage.conf"))
    packing = subprocess.Popen(["tar", "-C", roots.root_of("bookworm"), "-c", "."], stdout=subprocess.PIPE)
    made = subprocess.run(
        ["podman", "import", "-q", "-", "ours"], stdin=packing.stdout, capture_output=True, check=False
    )
    assert packing.stdout
    packing.stdout.close()
    packing.wait()
    try:
        probe = subprocess.run(["podman", "run", "--rm", "--network", "none", "ours", "true"], capture_output=True)
        if made.returncode or probe.returncode:
            skip_optional(f"this machine allows no containers: {(made.stderr + probe.stderr).decode()[-200:]}")
        hosts = '[[host]]\nname = "a"\nimage = "localhost/ours"\ndescribes = "bookworm"\n'
        cases = CASES.replace("/home/fatpar/home", "/fatpar-home/home")
        found = run(tool, tmp_path, hosts, "hang", "4711.2", cases=cases, timeout=20)
        left = subprocess.run(["podman", "ps", "--all", "--quiet"], capture_output=True, check=True).stdout
    finally:
        subprocess.run(["podman", "system", "reset", "--force"], capture_output=True, check=False)
    assert cells(found) == [("a", False, SLICE.format("cp311"), "")]
    assert found.rows[0].seen
    assert [(ran.case, ran.status) for ran in found.rows[0].seen.cases] == [
        ("read", 2), ("write", 1), ("hang 4711.2", None)
    ]  # fmt: skip
    assert left == b""
    assert processes("4711.2") == []


# Kernels --------------------------------------------------------------------------------------------------------


def started_by(kernel: str, name: str, more: str = "") -> str:
    """A host of the file: a root with a kernel."""
    if not shutil.which("qemu-system-x86_64"):
        give_up("qemu-system-x86_64 is missing: install the package qemu-system-x86")
    require_host(name)
    (image,) = (require_host(kernel).root / "boot").glob("vmlinuz-*")
    return f'[[host]]\nname = "{kernel}"\nkernel = "{image}"\nroot = "{roots.root_of(name)}"\n{more}\n'


DESCRIPTION = """\
machine = "x86_64"
cpu = {cpu}
kernel = "{kernel}"
libc = "{libc}"
{pythons}
"""

PYTHON = '[[python]]\npath = "/usr/bin/python{0}.{1}"\nabi = "cp{0}{1}{2}"\nversion = "{0}.{1}.{3}"\n'


def test_a_kernel(tmp_path: Path) -> None:
    """A machine with a kernel and a CPU that are not those of this machine; input and output go over a serial line."""
    needs = [Need(NeedKind.CPU, number=3), Need(NeedKind.KERNEL, number=6 << 16)]
    tool = slices.write(tmp_path / "tool", [slices.Wanted({"app": {f"{SITE}/app.py": APP}}, "cp311", needs)])
    described = DESCRIPTION.format(cpu=3, kernel="6.12.0", libc="glibc 2.36", pythons=PYTHON.format(3, 11, "", 2))
    (tmp_path / "ours.toml").write_text(described)
    text = "0123456789" * 3000
    cases = f"[[case]]\nname = \"long\"\nstdin = '{text}'\noutput = ': {text}$'\n"
    found = run(tool, tmp_path, started_by("kernel-trixie", "bookworm", 'describes = "ours.toml"'), cases=cases)
    (row,) = found.rows
    assert row.seen
    assert (row.seen.error, [ran.why for ran in row.seen.cases]) == ("", [""])
    assert row.passed
    assert _chosen(row) == SLICE.format("cp311")


@pytest.mark.torture
def test_the_kernel_selects(tmp_path: Path) -> None:
    """Preferred is a slice that Linux 5.15 is needed for: one root, two kernels, two slices."""
    app = {"app": {f"{SITE}/app.py": APP}}
    new = slices.Wanted(app, "cp39", [Need(NeedKind.KERNEL, number=5 << 16 | 15 << 8)])
    tool = slices.write(tmp_path / "tool", [new, slices.Wanted(app, "cp27mu")])
    pythons = PYTHON.format(3, 9, "", 2) + PYTHON.format(2, 7, "mu", 18)
    for kernel in ("5.10.0", "6.12.0"):
        described = DESCRIPTION.format(cpu=1, kernel=kernel, libc="glibc 2.31", pythons=pythons)
        (tmp_path / f"{kernel}.toml").write_text(described)
    hosts = started_by("kernel-bullseye", "bullseye", 'describes = "5.10.0.toml"')
    hosts += started_by("kernel-trixie", "bullseye", 'describes = "6.12.0.toml"')
    found = run(tool, tmp_path, hosts, cases=CASES)
    assert cells(found) == [
        ("kernel-bullseye", True, SLICE.format("cp27mu"), ""),
        ("kernel-trixie", True, SLICE.format("cp39"), ""),
    ]
    assert found.rows[0].seen
    assert found.rows[0].seen.choice
    (why,) = found.rows[0].seen.choice.reasons[SLICE.format("cp39")]
    assert why.startswith("needs Linux 5.15, found 5.10.")


def test_a_kernel_that_does_not_start(tool: Path, tmp_path: Path) -> None:
    if not shutil.which("qemu-system-x86_64"):
        give_up("qemu-system-x86_64 is missing: install the package qemu-system-x86")
    (tmp_path / "vmlinuz").write_bytes(b"no kernel")
    hosts = f'[[host]]\nname = "a"\nkernel = "vmlinuz"\nroot = "{roots.root_of("musl")}"\n'
    ((_, passed, _, error),) = cells(run(tool, tmp_path, hosts))
    assert not passed
    assert "kernel" in error
