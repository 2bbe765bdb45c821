"""Where less is there than on a machine: no /proc, no shell, nothing that can be written to, a user that nobody knows,
system calls that are forbidden, little memory. It works, or says what to set. Places for a store: test_store_places."""

from __future__ import annotations

import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import slices
from support.layers import SITE
from support.process import Store
from support.skips import skip_optional

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.process import Ended, Inside

    from .conftest import Enter

pytestmark = pytest.mark.hosts

TOOL = "/opt/tool"
RIGHT = (0, b"2000000\n", b"")

APP = """\
import os, pkgutil, subprocess, sys


def main():
    child = [sys.executable, "-c", "import data, os; print(os.path.getsize(data.__path__[0] + '/2.bin'))"]
    print(len(pkgutil.get_data("data", "1.bin")) + int(subprocess.check_output(child)))
"""


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files of a megabyte, that do not become smaller, and a child."""
    numbers = random.Random(1)
    data: dict[str, str | bytes | None] = {f"{SITE}/data/{name}.bin": numbers.randbytes(1_000_000) for name in "12"}
    app: dict[str, str | bytes | None] = {f"{SITE}/app.py": APP, f"{SITE}/data/__init__.py": ""}
    return slices.write(tmp_path_factory.mktemp("confined") / "tool", [slices.Wanted({"data": data, "app": app})])


def unmount(far: Inside, path: str) -> None:
    far.root(f"""python3 -c "import ctypes; assert ctypes.CDLL(None).umount2(b'{path}', 2) == 0" """)


def twice(far: Inside, store: Store | None = None, **options: object) -> None:
    """A first launch and a second one."""
    for _ in range(2):
        assert far.run([TOOL], **options).whole == RIGHT  # type: ignore[arg-type]
    if store:
        assert (len(store.names("views")), store.broken(), store.leftovers()) == (1, [], [])


def test_without_proc(tool: Path, enter: Enter, store: Store) -> None:
    """A boot is known by the time it began at; after another one what is there is looked at."""
    far = enter("bookworm", {tool: TOOL})
    unmount(far, "/proc")
    twice(far, store)
    (view,) = store.names("views")
    began = store.made("views", view)
    assert began.startswith("began-")
    assert abs(time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) - int(began[6:])) < 5
    damaged = next((store.base / "v1/layers").glob("*/tree/lib/python/site-packages/data/1.bin"))
    damaged.write_bytes(b"x")
    for made in (path / "made" for kind in ("layers", "views") for path in (store.base / "v1" / kind).iterdir()):
        made.unlink()
        made.symlink_to("began-1000000000")
    for plan in (store.base / "v1/plans").iterdir():
        plan.unlink()
    twice(far, store)


def test_without_proc_a_program_that_is_found_in_the_path_is_found(tool: Path, enter: Enter) -> None:
    far = enter("bookworm", {tool: TOOL})
    unmount(far, "/proc")
    env = {"PATH": "/usr/bin:/opt"}
    assert far.run(["tool"], executable=TOOL, env=env).whole == RIGHT


def test_without_a_shell_or_any_other_program(tool: Path, enter: Enter, store: Store) -> None:
    """As in images that hold an interpreter and nothing else."""
    far = enter("bookworm", {tool: TOOL})
    far.root("cd /usr/bin; rm -rf [!p]* p[!y]*")
    twice(far, store)


READ_ONLY = """\
import ctypes
c = ctypes.CDLL(None)
bind, remount, read_only, recursive = 4096, 32, 1, 16384
assert c.mount(b"/", b"/mnt", None, bind | recursive, None) == 0
assert c.mount(None, b"/mnt", None, bind | remount | read_only, None) == 0
"""


@pytest.mark.parametrize("memory", [True, False], ids=["shared-memory", "nothing-at-all"])
def test_where_nothing_can_be_written_to_but_memory(tool: Path, enter: Enter, memory: bool) -> None:
    far = enter("bookworm", {tool: TOOL})
    far.root(
        f"mkdir -p /root/x; echo '{READ_ONLY}' >/root/x/mount.py; python3 /root/x/mount.py; ls /mnt/opt >/dev/null"
    )
    far.root("cp /opt/tool /mnt/dev/shm/tool")
    inside = "import os; os.chroot('/mnt'); os.chdir('/')"
    program = ["/usr/bin/python3", "-c", f"{inside}; os.setgid(4242); os.setuid(4242); os.execv('/opt/tool', ['tool'])"]
    if not memory:
        far.root("chmod 755 /dev/shm")
    for _ in range(2):
        ended = far.run(program, user=0, env={"HOME": "/nonexistent"})
        if memory:
            assert ended.whole == RIGHT
        else:
            assert (ended.status, ended.stdout) == (125, b"")
            said = ended.stderr.decode().splitlines()
            assert said[0].startswith("tool: no directory to unpack to: /var/lib/fatpar (")
            assert " /var/tmp/fatpar-4242 (Read-only file system)," in said[0]
            assert said[1].startswith("tool: hint: set FATPAR_STORE")
            assert len(said) == 2


def test_a_user_that_nobody_knows(tool: Path, enter: Enter) -> None:
    """As containers run programs: by a number, with no home and no entry in passwd."""
    far = enter("bookworm", {tool: TOOL})
    assert b"77777" not in far.root("cat /etc/passwd")
    twice(far, user=77777, env={"HOME": None})
    twice(far, user=77777, env={"HOME": "/"})
    far.root("rm /etc/passwd /etc/group")
    twice(far, user=77778, env={"HOME": None})


def test_where_programs_cannot_be_run_from_tmp(tool: Path, enter: Enter, store: Store) -> None:
    far = enter("bookworm", {tool: TOOL}, tmpfs={"/tmp": "noexec", "/run": "noexec", "/dev/shm": "noexec"})
    twice(far, store)


FORBIDDEN = """
# bpf: what sandboxes forbid, or know nothing of, is not there (ENOSYS) or not permitted (EPERM)
import struct
numbers = {318: 38, 319: 1, 323: 1, 326: 38, 332: 38, 425: 1, 434: 38, 435: 38, 436: 38, 437: 38, 439: 38, 157: 1}
steps = [(0x20, 0, 0, 0)]
for number, error in numbers.items():
    steps += [(0x15, 0, 1, number), (6, 0, 0, 0x50000 | error)]
steps.append((6, 0, 0, 0x7fff0000))
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code)))
assert ctypes.CDLL(None).prctl(38, 1, 0, 0, 0) == 0
assert ctypes.CDLL(None).prctl(22, 2, program) == 0
"""
"""getrandom, memfd_create, userfaultfd, copy_file_range, statx, io_uring_setup, pidfd_open, clone3, close_range,
openat2, faccessat2, prctl."""


def test_in_a_sandbox_that_forbids_newer_system_calls(tool: Path, enter: Enter, store: Store) -> None:
    far = enter("bookworm", {tool: TOOL})
    twice(far, store, before=FORBIDDEN)


# Memory ---------------------------------------------------------------------------------------------------------

CGROUPS = Path("/sys/fs/cgroup")


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group of memory, with nothing in it."""
    parent = CGROUPS / "memory" if (CGROUPS / "memory").is_dir() else CGROUPS
    made = parent / f"fatpar-{os.getpid()}"
    try:
        made.mkdir()
    except OSError as error:
        skip_optional(f"no control group can be made: {error}")
    yield made
    made.rmdir()


def run_within(group: Path, size: int, far: Inside, home: Path, store: str) -> Ended:
    """A launch whose memory, the kernel's for it included, is limited to so many bytes."""
    try:
        next(group / name for name in LIMITS if (group / name).exists()).write_text(str(size))
    except (OSError, StopIteration):
        skip_optional("no control group here limits memory")
    script = f"echo $$ > ~/new; mv ~/new ~/pid; kill -STOP $$; FATPAR_STORE={store} exec {TOOL}"
    with ThreadPoolExecutor() as pool:
        running = pool.submit(far.run, ["sh", "-c", script])
        while not (home / "pid").exists():
            time.sleep(0.005)
        pid = (home / "pid").read_text().strip()
        (home / "pid").unlink()
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            time.sleep(0.005)
        (group / "cgroup.procs").write_text(pid)
        os.kill(int(pid), signal.SIGCONT)
        return running.result()


LIMITS = ("memory.limit_in_bytes", "memory.max")
"""Of the first version of control groups, and of the second."""

PEAK = 48 << 20
"""Bytes that suffice: for the launch, and for Python and its child."""


def test_with_less_and_less_memory(tool: Path, enter: Enter, user_home: Path, group: Path) -> None:
    """With less than that it may be killed; and the next one works."""
    far = enter("bookworm", {tool: TOOL})
    ends = []
    for size in (PEAK, PEAK // 2, PEAK // 4, PEAK // 8, PEAK // 12, PEAK // 16, PEAK // 24, PEAK // 48):
        ended = run_within(group, size, far, user_home, f"/home/u/{size}")
        ends.append(ended.status)
        # the launch, or Python, or its child
        assert ended.status in (0, -9, 125) or b"SIGKILL: 9" in ended.stderr, ended
        assert ended.status != 125 or ended.stderr.startswith(b"tool: ")
        place = Store(user_home / str(size))
        assert not (place.base / "v1").exists() or place.broken() == []
        assert far.run([TOOL], env={"FATPAR_STORE": f"/home/u/{size}"}).whole == RIGHT
        assert (len(place.names("views")), place.broken()) == (1, [])
    print(ends)
    assert ends[0] == 0
    assert ends[-1] != 0  # or the limit is none


def test_with_limits_on_address_space(tool: Path, enter: Enter, user_home: Path) -> None:
    """Where memory is refused, it says so in a line."""
    far = enter("bookworm", {tool: TOOL})
    ends = []
    for megabytes in (64, 16, 8, 4, 2, 1):
        before = f"resource.setrlimit(resource.RLIMIT_AS, ({megabytes} << 20, {megabytes} << 20))"
        ended = far.run([TOOL], before=before, env={"FATPAR_STORE": f"/home/u/{megabytes}"})
        ends.append(ended.status)
        if ended.status == 125:
            assert ended.stderr == b"tool: out of memory\n" or b": Cannot allocate memory" in ended.stderr
            assert ended.stderr.count(b"\n") == 1
        place = Store(user_home / str(megabytes))
        assert not (place.base / "v1").exists() or place.broken() == []
        assert far.run([TOOL], env={"FATPAR_STORE": f"/home/u/{megabytes}"}).whole == RIGHT
    print(ends)
    assert 125 in ends
