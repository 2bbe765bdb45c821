"""The hosts are what their names say, and entering them does what support.hosts promises."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import roots
from support.hosts import USER, Host, HostError, require_host

pytestmark = pytest.mark.hosts


@dataclass(frozen=True)
class Facts:
    """What a host's name stands for."""

    glibc: tuple[int, int]
    pythons: dict[str, tuple[int, int]]
    """Command -> version."""
    moving: bool = False
    """The suite is not released: its glibc is this one or a newer one."""


BOOKWORM = {"python3": (3, 11), "python3.11": (3, 11)}

# of musl there is a test of its own: it has next to nothing of what Debian's have
FACTS = {
    "bullseye": Facts((2, 31), {"python2.7": (2, 7), "python3": (3, 9), "python3.9": (3, 9)}),
    "bookworm": Facts((2, 36), BOOKWORM),
    "trixie": Facts((2, 41), {"python3": (3, 13), "python3.13": (3, 13)}),
    "forky": Facts((2, 43), {"python3": (3, 14), "python3.14": (3, 14)}, moving=True),
    "sid": Facts((2, 43), {"python3.15": (3, 15)}, moving=True),
    "bookworm-minimal": Facts((2, 36), BOOKWORM),
    "bookworm-nopython": Facts((2, 36), {}),
}


@pytest.fixture(params=FACTS)
def any_host(request: pytest.FixtureRequest) -> Host:
    """Every host in turn."""
    return require_host(request.param)


@pytest.fixture
def host() -> Host:
    """One host, for what does not depend on which."""
    return require_host("bookworm")


def shell(host: Host, script: str, **options: object) -> str:
    """What a shell script that succeeds writes in a host."""
    result = host.run(["sh", "-euc", script], **options)  # type: ignore[arg-type]
    assert (result.status, result.stderr) == (0, b"")
    return result.stdout.decode()


# What the hosts are ---------------------------------------------------------------------------------------------


def test_every_host_is_described() -> None:
    assert {
        *FACTS,
        "musl",
        "arm64",
        "sshd",
        "kernel",
        "rust",
        "kernel-bullseye",
        "kernel-trixie",
    } == roots.DEFINITIONS.keys()


def test_musl_has_no_other_c_library() -> None:
    host = require_host("musl")
    libraries = {path.name for path in host.root.rglob("*.so*") if "dynload" not in str(path)}
    assert libraries == {"libc.so", "ld-musl-x86_64.so.1"}
    assert shell(host, "python3 -c 'import sys; print(sys.implementation._multiarch)'") == "x86_64-linux-musl\n"
    assert {path.name for path in host.root.glob("usr/bin/python*")} == {"python3", "python3.13"}


def test_arm64_is_another_machine() -> None:
    host = require_host("arm64")
    assert shell(host, "uname -m; id -u") == f"aarch64\n{USER}\n"
    code = (
        "import platform, sysconfig; print(platform.python_version_tuple()[:2], sysconfig.get_config_var('MULTIARCH'))"
    )
    assert shell(host, f'python3 -c "{code}"') == "('3', '11') aarch64-linux-gnu\n"


def test_glibc_is_the_release_s(any_host: Host) -> None:
    name, version = shell(any_host, "getconf GNU_LIBC_VERSION").split()
    facts = FACTS[any_host.name]
    found = tuple(int(part) for part in version.split("."))
    assert name == "glibc"
    assert found >= facts.glibc if facts.moving else found == facts.glibc


def test_pythons_are_these_and_no_others(any_host: Host) -> None:
    script = 'for dir in $(echo "$PATH" | tr : " "); do ls "$dir" 2> /dev/null || :; done'
    pythons = FACTS[any_host.name].pythons
    assert {name for name in shell(any_host, script).split() if name.startswith(("python", "pypy"))} == pythons.keys()
    for name, version in pythons.items():
        assert shell(any_host, f"{name} -c 'import sys; print(tuple(sys.version_info[:2]))'") == f"{version}\n"


def test_no_python_hides_where_there_should_be_none() -> None:
    root = require_host("bookworm-nopython").root
    named = [path for path in root.rglob("*python*") if stat.S_ISREG(path.lstat().st_mode)]
    assert [path for path in named if path.read_bytes().startswith((b"\x7fELF", b"#!"))] == []
    assert list(root.rglob("*.py")) == []


def test_no_stock_python_has_a_libpython(any_host: Host) -> None:
    assert list(any_host.root.rglob("libpython*.so*")) == []


@pytest.mark.parametrize("module", ["json", "http", "ctypes"])
def test_minimal_lacks_what_the_whole_library_has(module: str) -> None:
    argv = ["python3", "-c", f"import {module}"]
    result = require_host("bookworm-minimal").run(argv)
    assert (result.status, result.stdout) == (1, b"")
    assert b"ModuleNotFoundError" in result.stderr
    assert require_host("bookworm").run(argv).status == 0


def test_localhost_has_an_address(any_host: Host) -> None:
    assert shell(any_host, "getent hosts localhost").split() == ["127.0.0.1", "localhost"]


# Who runs there -------------------------------------------------------------------------------------------------


def test_user_is_unprivileged_and_unknown(any_host: Host) -> None:
    assert shell(any_host, "id -u; id -g; id -G").split() == [str(USER)] * 3
    assert shell(any_host, "grep ^CapEff: /proc/self/status").split()[1].strip("0") == ""
    assert any_host.run(["getent", "passwd", str(USER)]).status == 2
    for forbidden in ("touch /usr/bin/x", "ls /root", "mkdir /x", "chroot / true"):
        assert any_host.run(["sh", "-c", forbidden]).status != 0


def test_user_can_write_where_users_can(host: Host) -> None:
    shell(host, 'for dir in "$HOME" /tmp /var/tmp /dev/shm; do echo x > "$dir/x"; done; echo x > /dev/null')


def test_every_user_has_a_home(host: Host) -> None:
    for user, home in ((USER, "/home/u"), (0, "/root"), (5001, "/home/5001")):
        assert shell(host, 'echo x > x; stat -c "%n %u" "$HOME" x', user=user) == f"{home} {user}\nx {user}\n"


def test_environment_is_clean(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    result = host.run(["/usr/bin/env"], env={"A": b"\xff b", "LD_PRELOAD": "", "PATH": None})
    assert set(result.stdout.splitlines()) == {b"HOME=/home/u", b"A=\xff b", b"LD_PRELOAD="}


def test_preload_reaches_the_program_alone(host: Host) -> None:
    result = host.run(["true"], env={"LD_PRELOAD": "/absent.so"})
    assert result.status == 0
    assert result.stderr.count(b"/absent.so") == 1


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o000])
def test_umask_is_honoured(host: Host, mask: int) -> None:
    assert shell(host, "touch x; stat -c %a x", umask=mask) == f"{0o666 & ~mask:o}\n"
    assert shell(host, 'stat -c %a "$HOME" /', umask=mask).split() == ["755", "755"]


# How a program runs ---------------------------------------------------------------------------------------------


def test_input_arguments_and_output_are_bytes(host: Host) -> None:
    script = 'cat; printf %s "$1" >&2; exit 7'
    result = host.run(["sh", "-c", script, "sh", b"\xfe \n"], input=b"\x00\xff")
    assert (result.status, result.stdout, result.stderr) == (7, b"\x00\xff", b"\xfe \n")


def test_directory_is_the_one_asked_for(host: Host) -> None:
    assert shell(host, "pwd") == "/home/u\n"
    assert shell(host, "pwd", cwd="/var/tmp") == "/var/tmp\n"


def test_absent_program_ends_as_in_a_shell(host: Host) -> None:
    result = host.run(["absent"])
    assert result.status == 127
    assert b"absent" in result.stderr


def test_no_descriptor_is_added(host: Host) -> None:
    with host.start(["cat"], stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"x")
        process.stdin.flush()
        assert process.stdout.read(1) == b"x"
        assert sorted(path.name for path in Path(f"/proc/{process.pid}/fd").iterdir()) == ["0", "1", "2"]


def test_pid_is_the_one_started_and_signals_reach_it(host: Host) -> None:
    with host.start(["sh", "-c", "echo $$; exec sleep 60"]) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) == process.pid
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == -signal.SIGTERM


def test_timeout_ends_what_was_started(host: Host) -> None:
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        host.run(["sh", "-c", "sleep 61 & echo $!; exit 0"], timeout=1)
    pid = int(caught.value.output)
    deadline = time.monotonic() + 10
    while alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether a process is running; one that nobody has waited for yet is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


# What it leaves -------------------------------------------------------------------------------------------------


def test_changes_are_dropped(host: Host) -> None:
    shell(host, "rm -r /usr/lib/python3.11; echo x > /usr/x; echo x > /home/x", user=0)
    assert shell(host, "ls -d /home/* /usr/lib/python3.11").split() == ["/home/u", "/usr/lib/python3.11"]
    assert not (host.root / "usr/x").exists()


def test_changes_are_kept_in_a_state(host: Host, tmp_path: Path) -> None:
    shell(host, "echo kept > x; mkdir .cache", state=tmp_path)
    shell(host, "rm /usr/bin/python3.11", state=tmp_path, user=0)
    script = 'cat x; stat -c %u .cache; command -v python3 || echo "no python3"'
    assert shell(host, script, state=tmp_path) == f"kept\n{USER}\nno python3\n"
    assert host.run(["python3", "-V"]).status == 0


def test_state_is_free_as_soon_as_a_run_has_ended(host: Host, tmp_path: Path) -> None:
    for number in range(20):
        assert shell(host, "echo x >> x; wc -l < x", state=tmp_path) == f"{number + 1}\n"


def test_state_in_use_is_refused(host: Host, tmp_path: Path) -> None:
    with host.start(["sleep", "60"], state=tmp_path), pytest.raises(HostError, match="one run at a time"):
        host.run(["true"], state=tmp_path)
    assert host.run(["true"], state=tmp_path).status == 0


def test_nothing_is_mounted_outside(host: Host, tmp_path: Path) -> None:
    before = Path("/proc/self/mounts").read_text()
    with host.start(["sleep", "60"], state=tmp_path / "state", binds={tmp_path: "/srv"}):
        assert Path("/proc/self/mounts").read_text() == before
    with pytest.raises(HostError):
        host.run(["true"], binds={tmp_path / "absent": "/srv"})
    assert Path("/proc/self/mounts").read_text() == before
    assert roots.mounts_below(roots.cache()) == []
    assert list((roots.cache() / "mount").iterdir()) == []


# What it sees ---------------------------------------------------------------------------------------------------


def test_binds_are_the_things_themselves(host: Host, tmp_path: Path) -> None:
    tool, store = tmp_path / "a,b:c tool", tmp_path / "store"
    tool.write_text("#!/bin/sh\necho ran > $HOME/.cache/fatpar/by\necho beside > $HOME/.cache/x\necho $0\n")
    tool.chmod(0o755)
    store.mkdir()
    os.chown(store, USER, USER)
    result = host.run(["tool"], binds={tool: "/usr/bin/tool", store: "/home/u/.cache/fatpar"})
    assert (result.status, result.stdout, result.stderr) == (0, b"/usr/bin/tool\n", b"")
    assert (store / "by").read_text() == "ran\n"
    assert (store / "by").stat().st_uid == USER


def test_binds_stay_in_the_host_when_a_link_leads_out(host: Host, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "x").write_text("seen")
    assert shell(host, "cat /run/place/x; readlink /var/run", binds={tmp_path: "/var/run/place"}) == "seen/run\n"


def test_tmpfs_has_its_options(host: Host) -> None:
    tmpfs = {"/home/u/.cache": "noexec,size=64k"}
    assert shell(host, "cp /bin/true .cache; .cache/true || echo no", tmpfs={"/home/u/.cache": "size=1m"}) == ""
    result = host.run(["sh", "-c", "echo exit > .cache/x; chmod +x .cache/x; .cache/x"], tmpfs=tmpfs)
    assert (result.status, b"Permission denied" in result.stderr) == (126, True)
    result = host.run(["dd", "if=/dev/zero", "of=.cache/x", "bs=64k", "count=2"], tmpfs=tmpfs)
    assert (result.status, b"No space left" in result.stderr) == (1, True)


# Which are there ------------------------------------------------------------------------------------------------


def test_absent_host_is_skipped_or_fails_as_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FATPAR_TEST_HOSTS", str(tmp_path))
    monkeypatch.delenv("FATPAR_REQUIRE_HOSTS", raising=False)
    with pytest.raises(pytest.skip.Exception):
        require_host("bookworm")
    monkeypatch.setenv("FATPAR_REQUIRE_HOSTS", "1")
    with pytest.raises(pytest.fail.Exception):
        require_host("bookworm")
    with pytest.raises(HostError, match="unknown host buster"):
        require_host("buster")


def test_host_from_another_definition_is_not_finished(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FATPAR_TEST_HOSTS", str(tmp_path))
    stamp = roots.stamp_of("sid")
    stamp.parent.mkdir()
    stamp.write_text(roots.DEFINITIONS["forky"].digest)
    assert not roots.finished("sid")
    stamp.write_text(roots.DEFINITIONS["sid"].digest)
    assert roots.finished("sid")
