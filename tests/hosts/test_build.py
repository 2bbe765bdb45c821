"""tests/hosts/build.py: where packages come from, and that no failure leaves anything behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import roots
from support.hosts import give_up, require_host

from hosts import build

pytestmark = pytest.mark.hosts

SCRIPT = Path(build.__file__)

ABSENT = "file:/absent/debian"
"""An archive that fails at once: apt tries a server again and again."""

DEB822 = """\
# a comment
Types: deb deb-src
URIs: http://archive.test/debian-security
Suites: bookworm-security
Components: main

Types: deb
URIs: https://archive.test/other
Suites: stable
Components: main

Enabled: no
Types: deb
URIs: https://archive.test/disabled
Suites: bookworm
Components: main

Types: deb
# where it is
URIs: https://archive.test/debian
 https://second.test/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /keys/debian.gpg
"""

ONE_LINERS = """\
# deb http://archive.test/comment bookworm main
deb-src http://archive.test/source bookworm main
deb [signed-by=/keys/docker.asc] https://archive.test/docker bookworm stable
deb [ arch=amd64 signed-by=/keys/debian.gpg ] http://archive.test/debian/ trixie main # why
deb cdrom:[Debian]/ bookworm main
"""


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty /etc/apt in place of this machine's, with no setting in the environment."""
    monkeypatch.setattr(build, "APT", tmp_path)
    monkeypatch.delenv("FATPAR_TEST_MIRROR", raising=False)
    monkeypatch.delenv("FATPAR_TEST_KEYRING", raising=False)
    (tmp_path / "sources.list.d").mkdir()
    return tmp_path


def test_archive_is_the_first_debian_one_of_deb822_sources(etc: Path) -> None:
    (etc / "sources.list.d" / "debian.sources").write_text(DEB822)
    assert build.archive() == build.Archive("https://archive.test/debian", "/keys/debian.gpg")


def test_archive_is_the_first_debian_one_of_one_line_sources(etc: Path) -> None:
    (etc / "sources.list").write_text(ONE_LINERS)
    (etc / "sources.list.d" / "debian.sources").write_text(DEB822)
    assert build.archive() == build.Archive("http://archive.test/debian/", "/keys/debian.gpg")


def test_archive_is_mmdebstrap_s_own_where_apt_has_none(etc: Path) -> None:
    (etc / "sources.list").write_text("deb http://archive.test/ubuntu noble main\n")
    assert build.archive() == build.Archive(None, None)


def test_archive_of_the_environment_comes_first(etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (etc / "sources.list").write_text(ONE_LINERS)
    monkeypatch.setenv("FATPAR_TEST_MIRROR", "http://mine.test/debian")
    monkeypatch.setenv("FATPAR_TEST_KEYRING", "/keys/mine.gpg")
    assert build.archive() == build.Archive("http://mine.test/debian", "/keys/mine.gpg")


# As a program ---------------------------------------------------------------------------------------------------


def start(cache: Path, *argv: str, **env: str) -> subprocess.Popen[str]:
    """Start build.py with a cache directory."""
    given = {**os.environ, "FATPAR_TEST_HOSTS": str(cache), **env}
    command = [sys.executable, str(SCRIPT), *argv]
    return subprocess.Popen(command, env=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(cache: Path, *argv: str, **env: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of build.py."""
    with start(cache, *argv, **env) as process:
        stdout, stderr = process.communicate(timeout=120)
    return process.returncode, stdout, stderr


def needs_mmdebstrap() -> None:
    """Skip, or fail where hosts are required, on a machine that cannot build."""
    try:
        build.check_machine()
    except build.BuildError as error:
        give_up(str(error))


def processes_of(cache: Path) -> list[str]:
    """Command lines of running processes that name a directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if os.fsencode(cache) in line:
            found.append(os.fsdecode(line).replace("\0", " "))
    return found


def test_finished_roots_are_left_alone() -> None:
    names = list(roots.DEFINITIONS)
    before = {name: require_host(name).root.stat() for name in names}
    needs_mmdebstrap()
    status, stdout, stderr = run(roots.cache())
    assert (status, sorted(stdout.splitlines()), stderr) == (0, sorted(f"{name}: up to date" for name in names), "")
    assert {name: roots.root_of(name).stat().st_ino for name in names} == {name: before[name].st_ino for name in names}


def test_unknown_name_is_wrong_usage(tmp_path: Path) -> None:
    status, stdout, stderr = run(tmp_path / "cache", "buster")
    assert (status, stdout) == (2, "")
    assert "unknown host buster: choose from bullseye, bookworm" in stderr
    assert not (tmp_path / "cache").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="another message comes first for other users than root")
def test_missing_mmdebstrap_is_named_with_its_package(tmp_path: Path) -> None:
    for tool in ("unshare", "setpriv"):
        (tmp_path / tool).symlink_to(str(shutil.which(tool)))
    status, stdout, stderr = run(tmp_path / "cache", "sid", PATH=str(tmp_path))
    assert (status, stdout) == (1, "")
    assert stderr == "build.py: mmdebstrap is missing: install the package mmdebstrap (apt-get install mmdebstrap)\n"
    assert not (tmp_path / "cache").exists()


def test_failed_build_leaves_its_log_and_no_root(tmp_path: Path) -> None:
    needs_mmdebstrap()
    status, stdout, stderr = run(tmp_path, "sid", FATPAR_TEST_MIRROR=ABSENT)
    assert (status, stdout) == (1, "sid: building\n")
    said = rf"build\.py: sid: mmdebstrap failed with status \d+, its log is {tmp_path}/sid\.log:\n  "
    assert re.match(said, stderr)
    assert "file:/absent/debian" in stderr
    assert {path.name for path in tmp_path.iterdir()} == {"sid.lock", "sid.log"}
    assert roots.mounts_below(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted_build_is_not_finished_and_is_swept(tmp_path: Path, number: signal.Signals) -> None:
    """The archive takes the connection and never answers, so mmdebstrap is in the middle of its work."""
    needs_mmdebstrap()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        silent = f"http://127.0.0.1:{server.getsockname()[1]}/debian"
        with start(tmp_path, "sid", FATPAR_TEST_MIRROR=silent) as process, server.accept()[0]:
            assert (tmp_path / "sid.building" / "root").exists()
            process.send_signal(number)
            _, stderr = process.communicate(timeout=10)
    said = "" if number == signal.SIGKILL else "build.py: interrupted: what was being built will be done again\n"
    assert stderr == said
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    deadline = time.monotonic() + 10
    while processes_of(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert roots.mounts_below(tmp_path) == []
    assert not (tmp_path / "sid").exists()
    assert run(tmp_path, "sid", FATPAR_TEST_MIRROR=ABSENT)[0] == 1
    assert not (tmp_path / "sid.building").exists()


def test_sweep_refuses_where_something_is_mounted(tmp_path: Path) -> None:
    needs_mmdebstrap()
    script = f"""
mkdir -p {tmp_path}/sid.building/root/proc && echo kept > {tmp_path}/kept
mount --bind {tmp_path} {tmp_path}/sid.building/root/proc
FATPAR_TEST_HOSTS={tmp_path} exec {sys.executable} {SCRIPT} sid
"""
    done = subprocess.run(["unshare", "--mount", "sh", "-ec", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        f"build.py: cannot remove {tmp_path}/sid.building: {tmp_path}/sid.building/root/proc is mounted\n"
    )
    assert (tmp_path / "kept").exists()
