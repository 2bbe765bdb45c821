"""A file for several machines, which begins with a shell script, is the program that a file for one of them is: under
the shells that are /bin/sh somewhere, on a first launch and later ones; and no launcher runs but the archive's."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.conditions import BEHAVE, CONDITIONS, REPORT, Condition
from support.hosts import require_host
from support.process import Inside, Store, inside

from packer import front
from packer.reader import reading

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Enter, Pack

pytestmark = pytest.mark.hosts

MACHINES = ("x86_64", "aarch64")

TOOL, ALONE = "/opt/both/tool", "/opt/one/tool"

SHELLS = {"dash": None, "bash": ("bookworm", "usr/bin/bash"), "busybox": ("musl", "usr/bin/busybox")}
"""What is put where the host's /bin/sh is, which is dash."""

BY_ALL = ("arguments-that-are-no-text", "input", "all-three-are-closed", "descriptors-3-to-9", "signals-are-ignored",
          "no-environment")  # fmt: skip
"""Conditions that depend on the shell."""

BY_DASH = (*BY_ALL, "empty-argument", "options-of-python", "many-arguments", "environment-that-is-no-text", "no-path",
           "control-word-is-empty", "working-directory-is-gone", "input-is-closed", "errors-are-closed",
           "descriptors-5-and-200", "signals-are-blocked", "limits")  # fmt: skip

SHELL_S = {"PWD", "OLDPWD", "SHLVL", "_", "PATH"}
"""Variables that shells set whatever they were; PATH only busybox, where there is none."""

STARTS = [(shell, name) for shell in SHELLS for name in (BY_DASH if shell == "dash" else BY_ALL)]


@dataclass(frozen=True)
class Place:
    """A host that was entered, with the program in it twice."""

    far: Inside
    home: Path

    @property
    def store(self) -> Store:
        return Store(self.home / ".cache/fatpar")

    @property
    def launchers(self) -> list[str]:
        """Those that are kept."""
        return self.store.names("launchers")

    def forget(self) -> None:
        """Remove every store."""
        self.far.root("rm -rf /home/u/.cache /var/tmp/* /dev/shm/*")

    def report(self, tool: str, condition: Condition) -> dict[str, Any]:
        done = self.far.run([tool, *condition.arguments], **{"cwd": "/home/u", **condition.options})
        assert (done.status, done.stdout) == (0, b""), done
        # a shell that does not know where it is says so
        assert done.stderr == b"" or (b"getcwd" in done.stderr and "gone" in str(condition.options)), done
        path = self.home / "report.json"
        report: dict[str, Any] = json.loads(path.read_text())
        path.unlink()
        assert report.pop("pid") == done.pid
        del report["environ"]  # in another order
        report |= {line.partition(":")[0]: line.partition(":")[2].strip() for line in report.pop("status")}
        for name in SHELL_S:
            report["os.environ"].pop(name, None)
        # bash has used a number above 200 for the script; and no shell lets SIGCHLD be ignored
        del report["FDSize"]
        report["SigIgn"] = int(report["SigIgn"], 16) & ~(1 << signal.SIGCHLD - 1)
        return report


def shell(name: str) -> dict[Path, str]:
    """What has to be bound so that /bin/sh is this shell."""
    host, path = SHELLS[name] or ("", "")
    return {require_host(host).root / path: "/bin/sh"} if host else {}


@pytest.fixture(scope="module")
def tools(pack: Pack) -> dict[Path, str]:
    both = pack("tool", {"app.py": REPORT}, tags=["cp311"], machines=MACHINES)
    return {both: TOOL, pack("tool", {"app.py": REPORT}, tags=["cp311"]): ALONE}


@pytest.fixture(scope="module")
def places(tools: dict[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Place]]:
    entered: dict[str, Place] = {}
    managers = []
    for name in SHELLS:
        home = tmp_path_factory.mktemp(name) / "home"
        managers.append(inside(require_host("bookworm"), home, {**tools, **shell(name)}))
        entered[name] = Place(managers[-1].__enter__(), home)
    yield entered
    for manager in managers:
        manager.__exit__(None, None, None)


def launcher_of(archive: Path, machine: str = "x86_64") -> tuple[int, int, str]:
    """Offset, size and digest."""
    made = next(one for one in front.make(launchers()).launchers if one.machine == machine)
    content = archive.read_bytes()[made.offset : made.offset + made.size]
    assert hashlib.sha256(content).hexdigest() == made.digest
    return made.offset, made.size, made.digest


def launchers() -> dict[str, Path]:
    from packer import native

    return {machine: native.data(f"launcher-{machine}") for machine in MACHINES}


# A program like any other ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "condition"), STARTS)
def test_it_sees_what_it_sees_in_a_file_for_one_machine(places: dict[str, Place], name: str, condition: str) -> None:
    place, what = places[name], CONDITIONS[condition]
    expected = place.report(ALONE, what)
    assert expected["argv"][0] == ALONE
    expected["argv"][0] = TOOL
    expected["cmdline"] = expected["cmdline"].replace(ALONE, TOOL, 1)
    place.forget()
    for _ in range(2):
        found = place.report(TOOL, what)
        assert {key: (value, expected[key]) for key, value in found.items() if value != expected[key]} == {}


@pytest.mark.parametrize("name", SHELLS)
def test_shells_are_these(places: dict[str, Place], name: str) -> None:
    """Guards the tests here."""
    said = (
        places[name].far.run(["/bin/sh", "-c", "readlink /proc/$$/exe; echo ${BASH_VERSION:+bash}; help 2>&1"]).stdout
    )
    assert {"dash": b"dash\n\n" in said, "bash": b"\nbash\n" in said, "busybox": b"Built-in" in said}[name]


@pytest.mark.parametrize("name", SHELLS)
def test_it_is_found_however_it_is_called(places: dict[str, Place], name: str) -> None:
    far = places[name].far
    odd = "/home/u/a b\n'\"$x*"
    far.root(f"mkdir -p '/home/u/link' && ln -sf {TOOL} /home/u/link/other && ln -sf {TOOL} /home/u/-tool")
    far.run(["sh", "-c", 'mkdir -p "$1" && cp "$2" "$1/tool"', "sh", odd, TOOL])

    def called(argv: list[str], **conditions: Any) -> str:
        done = far.run(argv, **conditions)
        assert (done.status, done.stderr) == (0, b""), done
        report = json.loads((places[name].home / "report.json").read_text())
        assert report["pid"] == done.pid
        assert report["argv"][1:] == ["x"]
        return str(report["argv"][0])

    for _ in range(2):
        assert called([TOOL, "x"]) == TOOL
        assert called(["./tool", "x"], cwd="/opt/both") == "./tool"
        assert called(["both/tool", "x"], cwd="/opt") == "both/tool"
        assert called(["tool", "x"], env={"PATH": "/opt/both:/usr/bin"}) == TOOL
        assert called(["/home/u/link/other", "x"]) == "/home/u/link/other"
        assert called(["sh", "./tool", "x"], cwd="/opt/both") == "./tool"
        assert called(["sh", "tool", "x"], cwd="/opt/both") == "tool"
        assert called(["sh", "--", "-tool", "x"], cwd="/home/u") == "-tool"
        assert called([f"{odd}/tool", "x"]) == f"{odd}/tool"
        assert called(["./tool", "x"], cwd=odd) == "./tool"
        # nothing but a shell is needed once the launcher is kept
        assert called([TOOL, "x"], env={"PATH": "/nowhere"}) == TOOL
        places[name].forget()


@pytest.mark.parametrize("name", SHELLS)
def test_one_that_is_a_tool_by_its_name(name: str, pack: Pack, enter: Enter) -> None:
    apps = {"app.py": "def main():\n    print('one')\n\n\ndef other():\n    print('other')\n"}
    tool = pack("tool", apps, tags=["cp311"], machines=MACHINES, tools={"tool": "app:main", "other": "app:other"})
    far = enter("bookworm", {tool: TOOL, **shell(name)})
    far.root(f"ln -s {TOOL} /usr/local/bin/other")
    for _ in range(2):
        assert far.run([TOOL]).whole == (0, b"one\n", b"")
        assert far.run(["other"]).whole == (0, b"other\n", b"")


def test_signals_and_status_are_the_program_s(pack: Pack, enter: Enter) -> None:
    far = enter("bookworm", {pack("tool", {"app.py": BEHAVE}, tags=["cp311"], machines=MACHINES): TOOL})
    for _ in range(2):
        assert far.run([TOOL, "status", "99"]).status == 99
        for number in (signal.SIGTERM, signal.SIGHUP):
            assert far.run([TOOL, "sleep"], signal=number).status == -number
        assert far.run([TOOL, "handle"], signal=signal.SIGTERM).status == 99


# What is kept ---------------------------------------------------------------------------------------------------


@pytest.fixture
def program(pack: Pack) -> Path:
    return pack("tool", {"app.py": "def main():\n    print('ran')\n"}, tags=["cp311"], machines=MACHINES)


RAN = (0, b"ran\n", b"")


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_first_launch_keeps_the_launcher_and_nothing_else(
    program: Path, enter: Enter, store: Store, mask: int
) -> None:
    far = enter("bookworm", {program: TOOL})
    assert far.run([TOOL], umask=mask).whole == RAN
    digest = launcher_of(program)[2]
    kept = store.base / "v1/launchers" / digest
    assert store.names("launchers") == sorted([digest, "time"])
    assert [oct(path.stat().st_mode) for path in (kept, kept.parent)] == ["0o100555", "0o40755"]
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == digest
    inode = kept.stat().st_ino
    assert far.run([TOOL], umask=mask).whole == RAN
    assert kept.stat().st_ino == inode
    assert far.root("ls -A /tmp /var/tmp /dev/shm; ls -A /home/u").split() == [
        b"/dev/shm:", b"/tmp:", b"/var/tmp:", b".cache",
    ]  # fmt: skip


@pytest.mark.parametrize("word", ["help", "list", "verify", "explain"])
def test_who_only_looks_at_it_leaves_nothing(program: Path, enter: Enter, user_home: Path, word: str) -> None:
    far = enter("bookworm", {program: TOOL})
    done = far.run([TOOL], env={"FATPAR": word})
    assert (done.status, done.stderr) == (0, b"")
    assert done.stdout
    assert far.root("ls -A /home/u /tmp /var/tmp /dev/shm").split() == [
        b"/dev/shm:",
        b"/home/u:",
        b"/tmp:",
        b"/var/tmp:",
    ]


def test_one_that_does_not_fit_leaves_nothing(pack: Pack, enter: Enter) -> None:
    far = enter("bookworm", {pack("tool", {"app.py": ""}, tags=["cp36m"], machines=MACHINES): TOOL})
    done = far.run([TOOL])
    assert (done.status, done.stdout) == (126, b"")
    assert done.stderr.startswith(b"tool: this machine cannot run it: ")
    assert far.root("ls -A /home/u /tmp /var/tmp /dev/shm").split() == [
        b"/dev/shm:",
        b"/home/u:",
        b"/tmp:",
        b"/var/tmp:",
    ]


def test_first_launches_at_once_all_run(program: Path, enter: Enter, store: Store, tmp_path: Path) -> None:
    far = [enter("bookworm", {program: TOOL}) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert {done.whole for done in pool.map(lambda one: one.run([TOOL]), far)} == {RAN}
    assert store.names("launchers") == sorted([launcher_of(program)[2], "time"])
    assert [name for name in os.listdir(store.base / "v1/launchers") if name.startswith(".")] == []


EVIL = b"#!/bin/sh\ntouch /home/u/evil\n"

DAMAGES: dict[str, Any] = {
    "empty": lambda content: b"",
    "cut": lambda content: content[:5000],
    "zeros": lambda content: bytes(len(content)),
    "bit": lambda content: content[:70_000] + bytes([content[70_000] ^ 1]) + content[70_001:],
    "another-program": lambda content: EVIL,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_launcher_that_was_written_to_is_put_right_and_not_run(
    program: Path, enter: Enter, store: Store, user_home: Path, damage: Any
) -> None:
    far = enter("bookworm", {program: TOOL})
    assert far.run([TOOL]).whole == RAN
    kept = store.base / "v1/launchers" / launcher_of(program)[2]
    good = kept.read_bytes()
    kept.write_bytes(damage(good))
    assert far.run([TOOL]).whole == RAN
    assert kept.read_bytes() == good
    assert not (user_home / "evil").exists()
    assert far.run([TOOL]).whole == RAN


@pytest.mark.parametrize("what", ["launcher", "time", "launchers"])
def test_a_launcher_that_is_lost_is_kept_again(program: Path, enter: Enter, store: Store, what: str) -> None:
    far = enter("bookworm", {program: TOOL})
    assert far.run([TOOL]).whole == RAN
    digest = launcher_of(program)[2]
    path = {"launcher": f"launchers/{digest}", "time": "launchers/time", "launchers": "launchers"}[what]
    far.root(f"rm -r {'/home/u/.cache/fatpar/v1/' + path}")
    assert far.run([TOOL]).whole == RAN
    assert store.names("launchers") == sorted([digest, "time"])


def test_a_launcher_notes_twice_a_day_that_it_is_used(program: Path, tmp_path: Path) -> None:
    """Its access time says it, where the kernel says nothing by it as well."""
    tmpfs = {"/home/u": "size=64m,noatime"}
    with inside(require_host("bookworm"), tmp_path / "home", {program: TOOL}, tmpfs=tmpfs) as far:
        assert far.run([TOOL]).whole == RAN
        kept = f"/home/u/.cache/fatpar/v1/launchers/{launcher_of(program)[2]}"
        for hours, noted in ((11, False), (13, True), (-13, True)):
            far.root(f"touch -a -d '{hours} hours ago' {kept}")
            before = far.root(f"stat -c %X {kept}")
            assert far.run([TOOL]).whole == RAN
            assert (far.root(f"stat -c %X {kept}") != before) == noted
        assert far.root(f"stat -c %Y {kept}") == b"315532800\n"


PLANT = """
mkdir -p "$1/v1/launchers"
printf '#!/bin/sh\ntouch /home/u/evil\n' >"$1/v1/launchers/$2"
: >"$1/v1/launchers/time"
touch -d 1980-01-01 "$1/v1/launchers/time" "$1/v1/launchers/$2"
chmod 755 "$1/v1/launchers/$2"
chown -R "$3" "$1"
"""


def test_stores_of_others_are_not_trusted(program: Path, enter: Enter, user_home: Path) -> None:
    """Whoever can make a directory where a store may be has no program executed from it."""
    far = enter("bookworm", {program: TOOL})
    digest = launcher_of(program)[2]
    for place, owner in (("/var/lib/fatpar", 1234), ("/var/tmp/fatpar-4242", 1234), ("/opt/named", 0)):
        assert far.run(["sh", "-euc", PLANT, "sh", place, digest, str(owner)], user=0).whole == (0, b"", b"")
    env = {"FATPAR_STORE": "/opt/named"}
    for _ in range(2):
        done = far.run([TOOL], env=env)
        assert done.whole == RAN
    far.root("chown -R 4242 /opt/named; chown 1234 /opt/named /opt/named/v1")
    assert far.run([TOOL], env=env).whole == RAN
    assert not (user_home / "evil").exists()


def test_a_launcher_of_a_store_is_no_program(program: Path, enter: Enter, store: Store) -> None:
    far = enter("bookworm", {program: TOOL})
    assert far.run([TOOL]).whole == RAN
    digest = launcher_of(program)[2]
    path = f"/home/u/.cache/fatpar/v1/launchers/{digest}"
    hint = f"{digest}: hint: start the packed program itself\n".encode()
    for arguments in ([], ["run"], ["other", TOOL], [TOOL]):
        done = far.run([path, *arguments])
        assert (done.status, done.stdout) == (125, b"")
        assert (
            done.stderr
            == f"{digest}: this is a launcher that packed programs have in common, and no program\n".encode() + hint
        )
    assert far.run([path, "run", "/etc/passwd"]).stderr.startswith(b"passwd: not a fatpar archive: ")
    assert far.run([path, "run", "/etc/none"]).whole == (
        125, b"", b"none: open the program's own file: No such file or directory\n",
    )  # fmt: skip


def test_a_file_for_one_machine_is_told_nothing_by_its_arguments(
    pack: Pack, program: Path, enter: Enter, tmp_path: Path
) -> None:
    """One that lost its end, too: it is no launcher behind a front, whatever it is told."""
    alone = pack("tool", {"app.py": "import sys\n\n\ndef main():\n    print(sys.argv[1:])\n"}, tags=["cp311"])
    cut = tmp_path / "cut"
    cut.write_bytes(alone.read_bytes()[:-1])
    cut.chmod(0o755)
    far = enter("bookworm", {alone: ALONE, program: TOOL, cut: "/opt/cut"})
    assert far.run([ALONE, "run", TOOL]).whole == (0, f"['run', '{TOOL}']\n".encode(), b"")
    for arguments in (["run", TOOL], ["once", TOOL], ["check", launcher_of(program)[2]]):
        assert far.run(["/opt/cut", *arguments]).stderr.startswith(b"cut: not a fatpar archive: ")


# What stands in the way -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dash", "bash"])  # busybox is its own uname
def test_another_machine_is_named_with_those_there_are(name: str, program: Path, enter: Enter, tmp_path: Path) -> None:
    uname = tmp_path / "uname"
    uname.write_text("#!/bin/sh\necho riscv64\n")
    uname.chmod(0o755)
    far = enter("bookworm", {program: TOOL, uname: "/usr/bin/uname", **shell(name)})
    said = b"tool: this machine is riscv64, and it was packed for x86_64 and aarch64\n"
    assert far.run([TOOL]).whole == (126, b"", said)


@pytest.mark.parametrize("name", SHELLS)
def test_no_place_for_the_launcher(name: str, program: Path, enter: Enter) -> None:
    far = enter("bookworm", {program: TOOL, **shell(name)})
    far.root("chmod 755 /tmp /var/tmp /dev/shm")
    places = (b"/tmp", b"/var/tmp", b"/dev/shm", b"/nowhere")
    done = far.run([TOOL], env={"HOME": "/nowhere"})
    assert (done.status, done.stdout) == (125, b"")
    assert done.stderr.splitlines() == [
        b"tool: no directory to unpack its launcher to: "
        + b", ".join(place + b" is not for everybody" for place in places),
        b"tool: hint: set TMPDIR to a directory of your own, on a filesystem with room that is not mounted noexec",
    ]


@pytest.mark.parametrize("name", SHELLS)
def test_filesystems_that_allow_no_execution_are_passed_over(name: str, program: Path, enter: Enter) -> None:
    tmpfs = {"/tmp": "noexec,mode=1777,uid=0", "/var/tmp": "noexec,mode=1777,uid=0"}
    far = enter("bookworm", {program: TOOL, **shell(name)}, tmpfs=tmpfs)
    for _ in range(2):
        assert far.run([TOOL]).whole == RAN
    far.root("mount -o remount,noexec /dev/shm 2>/dev/null || chmod 755 /dev/shm; rm -rf /home/u/.cache")
    done = far.run([TOOL], env={"HOME": None})
    assert (done.status, done.stdout) == (125, b"")
    assert b"/tmp does not allow execution, /var/tmp does not allow execution" in done.stderr
    assert far.root("ls -A /tmp /var/tmp").split() == [b"/tmp:", b"/var/tmp:"]


def test_no_room_for_the_launcher(program: Path, enter: Enter) -> None:
    small = "size=100k,mode=1777,uid=0"
    far = enter("bookworm", {program: TOOL}, tmpfs={"/tmp": small, "/var/tmp": small})
    far.root("chmod 755 /dev/shm")
    done = far.run([TOOL], env={"HOME": None})
    said = b"tool: no directory to unpack its launcher to: /tmp has no room, /var/tmp has no room, "
    assert (done.status, done.stdout, done.stderr.startswith(said)) == (125, b"", True), done
    assert far.root("ls -A /tmp /var/tmp").split() == [b"/tmp:", b"/var/tmp:"]


@pytest.mark.parametrize("at", ["first", "middle", "last"])
def test_a_launcher_that_is_damaged_in_the_archive_is_not_kept(
    program: Path, enter: Enter, tmp_path: Path, at: str
) -> None:
    offset, size, _ = launcher_of(program)
    where = {"first": offset + 100, "middle": offset + size // 2, "last": offset + size - 1}[at]
    content = bytearray(program.read_bytes())
    content[where] ^= 0xFF
    damaged = tmp_path / "tool"
    damaged.write_bytes(content)
    damaged.chmod(0o755)
    far = enter("bookworm", {damaged: TOOL})
    done = far.run([TOOL])
    assert (done.status, done.stdout) == (125, b"")
    assert done.stderr.startswith(b"tool: archive is damaged: the launcher in it does not work")
    assert far.root("ls -A /home/u /tmp /var/tmp /dev/shm").split() == [
        b"/dev/shm:",
        b"/home/u:",
        b"/tmp:",
        b"/var/tmp:",
    ]


def test_the_file_may_be_another_one_by_now(pack: Pack, program: Path, enter: Enter, store: Store) -> None:
    """It is replaced as packages do it, between two launches and while one runs."""
    other = pack("tool", {"app.py": "def main():\n    print('other')\n"}, tags=["cp311"], machines=MACHINES)
    far = enter("bookworm", {program: "/opt/one", other: "/opt/other"})
    run = "cp /opt/one tool; ./tool; cp /opt/other new; mv new tool; ./tool"
    assert far.run(["sh", "-euc", run], cwd="/home/u").whole == (0, b"ran\nother\n", b"")
    script = "while [ ! -e stop ]; do for file in /opt/one /opt/other; do cp $file new; mv new tool; done; done"
    writing = ThreadPoolExecutor(1).submit(far_of(enter, program, other).run, ["sh", "-euc", script], cwd="/home/u")
    try:
        found = [far.run(["./tool"], cwd="/home/u").whole for _ in range(20)]
    finally:
        far.root("touch /home/u/stop")
        assert writing.result().status == 0
    assert {*found} <= {RAN, (0, b"other\n", b"")}
    assert store.names("launchers") == sorted([launcher_of(program)[2], "time"])


def far_of(enter: Enter, program: Path, other: Path) -> Inside:
    return enter("bookworm", {program: "/opt/one", other: "/opt/other"})


def test_records_say_what_the_text_says(program: Path) -> None:
    made = front.make(launchers()).launchers
    with reading(program) as archive:
        found = [(int(one.machine), int(one.offset), int(one.size)) for one in archive.records("launcher")]
    assert found == [(one.record["machine"], one.offset, one.size) for one in made]
    assert program.read_bytes().startswith(b"#!/bin/sh\n")
    assert all(one.offset % 4096 == one.size % 4096 == 0 for one in made)
