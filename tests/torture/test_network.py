"""The network filesystem goes away: its server is killed or frozen, while the program runs and while it is launched.

A real sftp-server and sshfs, real wheels. Some run with all other tests, the whole with ``make torture``.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import netfs, roots
from support.hosts import USER, Host, give_up, home, require_host
from support.packing import ROOT, Place
from support.process import Store
from support.skips import skip_optional

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from support.netfs import NetworkFilesystem

pytestmark = [pytest.mark.e2e, pytest.mark.hosts, pytest.mark.network]

SURVIVOR = Path(netfs.__file__).with_name("survivor.py")
WHEELS = ("regex==2025.11.3", "markupsafe==3.0.3", "jinja2==3.1.6", "pygments==2.19.2", "certifi==2025.10.5")
TOOL = "/net/tool"
LIMIT = 60.0
"""Seconds in which everything has to be over."""

HOSTS = {
    "bookworm": "cp311",
    "bullseye": "cp39",
    "trixie": "cp313",
    "musl": "cp313-musllinux",
    "bookworm-nopython": "carried cp39",
}
"""Host -> what runs there; the first in every test run."""
FIRST = "bookworm"


def later(value: object) -> object:
    """A parameter that is left to ``-m torture``."""
    return pytest.param(value, marks=pytest.mark.torture)


# What all need --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session", autouse=True)
def machine() -> None:
    reason = netfs.missing()
    if reason:
        give_up(f"no network filesystem can be mounted: {reason}")


def pack(place: Place, *words: str | Path) -> Path:
    """The survivor, packed as a user does it, with the wheels that earlier runs have fetched."""
    output = place.work / "tool"
    environment = {"XDG_CACHE_HOME": str(ROOT / ".cache")}
    place.packed("fat", SURVIVOR, *WHEELS, *words, "--fast", "-o", output, env=environment, timeout=900)
    return output


@pytest.fixture(scope="session")
def for_one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(Place(tmp_path_factory.mktemp("network")), "--abis", "manylinux2014,cp311")


@pytest.fixture(scope="session")
def for_all(tmp_path_factory: pytest.TempPathFactory) -> Path:
    carried = f"cp39={roots.root_of('bullseye')}/usr/bin/python3.9"
    words = ("--abis", "manylinux2014,cp39,cp311,cp313,cp313-musllinux_1_2", "--runtime", carried)
    return pack(Place(tmp_path_factory.mktemp("networks")), *words)


@dataclass(frozen=True)
class Scene:
    """A host, a user's home that is kept between launches, and the directory that a server has."""

    host: Host
    home: Path
    served: Path
    mount: Path

    @property
    def store(self) -> Store:
        """Looked at from outside."""
        return Store(self.home / ".cache/fatpar")

    @contextmanager
    def network(self) -> Iterator[NetworkFilesystem]:
        """Have the directory mounted."""
        with netfs.mounted(self.served, self.mount) as made:
            yield made

    @contextmanager
    def launched(self, *argv: str, place: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
        """Have a program running.

        :param place: directory of the tool, if it is not the mounted one.
        """
        binds = {place or self.mount: "/net", self.home: home(USER)}
        with self.host.start(argv, stdin=subprocess.PIPE, binds=binds) as process:
            yield process

    def quick(self) -> tuple[int, bytes, bytes]:
        """Launch from a server that is well: the program only says that it is there."""
        with self.network(), self.launched(TOOL, "quick") as process:
            stdout, stderr = process.communicate(timeout=LIMIT)
            return process.returncode, stdout, stderr


QUICK = (0, b"child itself\n", b"")


def scene_of(host: str, tool: Path, directory: Path) -> Scene:
    made = Scene(require_host(host), directory / "home", directory / "served", directory / "mount")
    for path in (made.home, made.served, made.mount):
        path.mkdir()
    os.chown(made.home, USER, USER)
    made.home.chmod(0o755)
    os.link(tool, made.served / "tool")
    return made


def is_up(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == b"up %d\n" % process.pid


def finished(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    """Have it go on to its end."""
    stdout, stderr = process.communicate(b"\n", timeout=LIMIT)
    return process.returncode, stdout.decode(), stderr.decode()


# While the program runs -----------------------------------------------------------------------------------------


def unmount(net: NetworkFilesystem, process: subprocess.Popen[bytes]) -> None:
    """Not lazily: it succeeds only if nothing of the program lies there, is open or mapped."""
    there = roots.cache() / "mount/root/net"
    subprocess.run(["nsenter", f"--mount=/proc/{process.pid}/ns/mnt", "umount", str(there)], check=True)


LOSSES: dict[str, Callable[[NetworkFilesystem, subprocess.Popen[bytes]], None]] = {
    "killed": lambda net, process: net.kill(),
    "frozen": lambda net, process: net.freeze(),
    "client-killed": lambda net, process: net.kill_client(),
    "unmounted": unmount,
}


def lose(scene: Scene, how: str) -> tuple[int, str, str]:
    """Launch the tool, take its filesystem away when it is up, and see how it ends."""
    with scene.network() as net, scene.launched(TOOL) as process:
        is_up(process)
        netfs.forget(scene.mount / "tool")
        LOSSES[how](net, process)
        return finished(process)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Path], tuple[int, str, str]]:
    """What the program comes to from a directory of the machine, by host and tool."""
    known: dict[tuple[str, Path], tuple[int, str, str]] = {}

    def give(host: str, tool: Path) -> tuple[int, str, str]:
        if (host, tool) not in known:
            scene = scene_of(host, tool, tmp_path_factory.mktemp("undisturbed"))
            with scene.launched(TOOL, place=scene.served) as process:
                is_up(process)
                known[host, tool] = finished(process)
        return known[host, tool]

    return give


def all_steps_work(outcome: tuple[int, str, str]) -> None:
    status, stdout, stderr = outcome
    steps = re.findall(r"^(\w+) \.\.\.$", stdout, re.MULTILINE)
    assert len(steps) == 9
    assert re.findall(r"^(\w+) ok ", stdout, re.MULTILINE) == steps, stdout
    assert "child ok (0, 'child &lt;', '')" in stdout
    assert status == 1
    assert '    raise RuntimeError("the end")\nRuntimeError: the end\n' in stderr


def check_losses(scene: Scene, how: str, expected: tuple[int, str, str]) -> None:
    """On the first launch, and on one that finds everything there."""
    all_steps_work(expected)
    assert lose(scene, how) == expected
    assert lose(scene, how) == expected
    assert (len(scene.store.names("views")), scene.store.broken(), scene.store.leftovers()) == (1, [], [])


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_a_program_goes_on_without_its_filesystem(
    for_one: Path, undisturbed: Callable[[str, Path], tuple[int, str, str]], tmp_path: Path, how: str
) -> None:
    """Modules, native code, data, source, workers and children that it had not touched before."""
    check_losses(scene_of(FIRST, for_one, tmp_path), how, undisturbed(FIRST, for_one))


@pytest.mark.torture
@pytest.mark.parametrize("how", LOSSES)
@pytest.mark.parametrize("host", HOSTS)
def test_a_program_goes_on_without_its_filesystem_on_every_host(
    for_all: Path, undisturbed: Callable[[str, Path], tuple[int, str, str]], tmp_path: Path, host: str, how: str
) -> None:
    check_losses(scene_of(host, for_all, tmp_path), how, undisturbed(host, for_all))


# While it is launched for the first time ------------------------------------------------------------------------

LOADED = 700_000
"""Bytes after which the launcher is in memory, whatever the kernel reads ahead; before, the kernel itself may end the
process, as it ends any executable whose pages cannot be had."""

MOMENTS = 30

GONE = re.compile(
    rb"tool: archive cannot be read to its end: [A-Z][\w ]+\n"
    rb"tool: hint: is the filesystem that it lies on still there\? the next launch begins anew\n"
)
EARLY = {-signal.SIGBUS, -signal.SIGSEGV, 125, 126}


@contextmanager
def stopped_at(
    scene: Scene, part: float, action: Callable[[NetworkFilesystem], None]
) -> Iterator[tuple[NetworkFilesystem, subprocess.Popen[bytes]]]:
    """Have something happen in the middle of a launch: when that part of the file was read."""
    moment = max(1, int(part * (scene.served / "tool").stat().st_size))
    with scene.network() as net, scene.launched("sh", "-c", f"read go; exec {TOOL} quick") as process:
        net.at(moment, lambda: action(net))
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
        deadline = time.monotonic() + LIMIT
        while net.moment is not None and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        assert net.moment is None, f"it ended before: {process.communicate()}"
        yield net, process


def killed_at(scene: Scene, part: float) -> None:
    """Kill the server then: the launch ends with one line, and the next one works."""
    with stopped_at(scene, part, lambda net: net.kill()) as (_, process):
        stdout, stderr = process.communicate(timeout=LIMIT)
    assert stdout == b""
    if part * (scene.served / "tool").stat().st_size >= LOADED:
        assert (process.returncode, bool(GONE.fullmatch(stderr))) == (125, True), (process.returncode, stderr)
    else:
        assert process.returncode in EARLY
        assert stderr.count(b"\n") == (process.returncode > 0) + stderr.count(b"hint:"), stderr
    is_well_again(scene, leftovers=False)


def is_well_again(scene: Scene, *, leftovers: bool) -> None:
    """Nothing published is broken, and the next launch does all that there is to do."""
    assert (scene.store.broken(), scene.store.names("views")) == ([], [])
    assert leftovers or scene.store.leftovers() == []
    for name in scene.store.leftovers():
        os.utime(scene.store.base / "v1" / name, (0, 0))  # younger than a minute, they might still be worked on
    assert scene.quick() == QUICK
    assert (scene.store.broken(), len(scene.store.names("views")), scene.store.leftovers()) == ([], 1, [])


@pytest.mark.parametrize("part", [0.05, 0.7])
def test_the_server_is_killed_while_a_launch_reads_the_file(for_one: Path, tmp_path: Path, part: float) -> None:
    killed_at(scene_of(FIRST, for_one, tmp_path), part)


@pytest.mark.torture
@pytest.mark.parametrize("host", HOSTS)
def test_the_server_is_killed_at_any_moment(for_all: Path, tmp_path: Path, host: str) -> None:
    """As far as this host's slice is read: the rest of the file nobody asks for."""
    needed = served_to(scene_of(host, for_all, made(tmp_path, "whole")))
    size = for_all.stat().st_size
    for number in range(MOMENTS):
        scene = scene_of(host, for_all, made(tmp_path, str(number)))
        killed_at(scene, 0.97 * needed / size * number / MOMENTS)
        shutil.rmtree(scene.home)


def made(directory: Path, name: str) -> Path:
    (directory / name).mkdir()
    return directory / name


def served_to(scene: Scene) -> int:
    """Bytes that a first launch takes."""
    with scene.network() as net, scene.launched(TOOL, "quick") as process:
        before = net.served
        process.communicate(timeout=LIMIT)
        return net.served - before


# The server hangs -----------------------------------------------------------------------------------------------


def hangs(process: subprocess.Popen[bytes], seconds: float = 0.5) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(seconds)


def executed_from_files(process: subprocess.Popen[bytes]) -> list[str]:
    """What of the process's code the kernel would have to fetch."""
    lines = Path(f"/proc/{process.pid}/maps").read_text().splitlines()
    return [line for line in lines if "x" in line.split()[1] and line.split()[4] != "0"]


@pytest.mark.parametrize("part", [later(0.1), 0.6, later(0.9)])
def test_a_launch_waits_for_a_server_that_hangs(for_one: Path, tmp_path: Path, part: float) -> None:
    scene = scene_of(FIRST, for_one, tmp_path)
    with stopped_at(scene, part, lambda net: net.freeze()) as (net, process):
        hangs(process)
        assert part < 0.5 or executed_from_files(process) == []
        net.thaw()
        stdout, stderr = process.communicate(timeout=LIMIT)
        assert (process.returncode, stdout, stderr) == QUICK
    assert (scene.store.broken(), len(scene.store.names("views")), scene.store.leftovers()) == ([], 1, [])


def by_signal(number: int) -> Callable[[NetworkFilesystem, subprocess.Popen[bytes]], None]:
    return lambda net, process: process.send_signal(number)


ENDS: dict[str, tuple[Callable[[NetworkFilesystem, subprocess.Popen[bytes]], None], int]] = {
    "Ctrl-C": (by_signal(signal.SIGINT), -signal.SIGINT),
    "SIGTERM": (by_signal(signal.SIGTERM), -signal.SIGTERM),
    "SIGKILL": (by_signal(signal.SIGKILL), -signal.SIGKILL),
    "aborted": (lambda net, process: net.kill_client(), 125),
}


@pytest.mark.parametrize("how", [later("Ctrl-C"), "SIGTERM", later("SIGKILL"), "aborted"])
def test_a_launch_that_waits_can_be_ended(for_one: Path, tmp_path: Path, how: str) -> None:
    """By signals; and when the client gives up, it says so."""
    scene = scene_of(FIRST, for_one, tmp_path)
    end, status = ENDS[how]
    with stopped_at(scene, 0.6, lambda net: net.freeze()) as (net, process):
        hangs(process)
        end(net, process)
        stdout, stderr = process.communicate(timeout=5)
    assert (process.returncode, stdout) == (status, b"")
    assert GONE.fullmatch(stderr) if status > 0 else stderr == b""
    is_well_again(scene, leftovers=status < 0)


@pytest.mark.torture
def test_other_first_launches_wait_a_minute_for_one_that_hangs(for_one: Path, tmp_path: Path) -> None:
    """It holds the lock, with which first launches wait for each other; not longer than that."""
    scene = scene_of(FIRST, for_one, tmp_path)
    with stopped_at(scene, 0.6, lambda net: net.freeze()) as (_, process):
        hangs(process)
        began = time.monotonic()
        with scene.launched(TOOL, "quick", place=scene.served) as other:
            stdout, stderr = other.communicate(timeout=120)
        assert (other.returncode, stdout, stderr) == QUICK
        assert 55 < time.monotonic() - began < 80
        hangs(process)
        # what is there is there for all
        began = time.monotonic()
        with scene.launched(TOOL, "quick", place=scene.served) as other:
            assert other.communicate(timeout=LIMIT) == (QUICK[1], b"")
        assert time.monotonic() - began < 5
    assert (scene.store.broken(), len(scene.store.names("views"))) == ([], 1)


# Other filesystems ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "called"), [("nfs4", "NFS"), ("cifs", "SMB"), ("9p", "9P")])
def test_another_network_filesystem(name: str, called: str) -> None:
    """Told by name, so that nobody believes that it was tried."""
    known: Sequence[str] = Path("/proc/filesystems").read_text().split()
    has = "has" if name in known else "lacks"
    skip_optional(f"{called} was not tried: this kernel {has} {name} (/proc/filesystems); sshfs was")
