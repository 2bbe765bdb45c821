"""Output is whole or not there, and what killed runs left does not stay for ever."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from support.hosts import USER

from packer import cache, files

DAY = 24 * 3600


def old(path: Path, seconds: float) -> Path:
    """Make something that was last changed some time ago."""
    if path.suffix == ".d":
        path.mkdir(parents=True)
        (path / "inside").touch()
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    os.utime(path, (time.time() - seconds,) * 2)
    return path


def test_what_a_killed_run_left_beside_an_output_goes_after_a_day(tmp_path: Path) -> None:
    left = old(tmp_path / ".out.tmp-abcd_123", DAY + 60)
    kept = [
        old(tmp_path / ".out.tmp-abcd_124", DAY - 60),
        old(tmp_path / ".out.settings", 9 * DAY),
        old(tmp_path / ".out.tmp-of-the-user", 9 * DAY),
        old(tmp_path / ".other.tmp-abcd_123", 9 * DAY),
    ]
    with files.replacing(tmp_path / "out") as stream:
        stream.write(b"new")
        beside = [path.name for path in tmp_path.iterdir() if path.name.startswith(".out.tmp-") and path not in kept]
        assert len(beside) == 1
    assert sorted(tmp_path.iterdir()) == sorted([*kept, tmp_path / "out"])
    assert not left.exists()


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_a_killed_run_left_in_the_cache_goes_after_a_day(tmp_path: Path, kind: str) -> None:
    names = {"file": ("a-12345678", "b-12345678"), "directory": ("install-12345678", "pip-12345678")}[kind]
    gone, kept = (tmp_path / "tmp" / name for name in names)
    for path, seconds in ((gone, DAY + 60), (kept, DAY - 60)):
        made = old(path.with_suffix(".d" if kind == "directory" else ""), seconds)
        made.rename(path)
    assert files.scratch(tmp_path) == tmp_path / "tmp"
    assert (gone.exists(), kept.exists()) == (False, True)


def test_temporary_files_of_the_cache_go_sooner_than_what_is_kept(tmp_path: Path) -> None:
    gone = [old(tmp_path / "ab" / ".x1", DAY + 60), old(tmp_path / "ab" / "cd", 31 * DAY)]
    kept = [old(tmp_path / "ab" / ".x2", DAY - 60), old(tmp_path / "ab" / "ce", 29 * DAY)]
    cache.Cache(tmp_path).sweep()
    assert [path.exists() for path in (*gone, *kept)] == [False, False, True, True]


def test_what_links_lead_to_stays_as_it_is_when_a_store_goes(tmp_path: Path) -> None:
    """A user's own interpreter, to which a view leads: as root, nothing of it would be seen."""
    tmp_path.chmod(0o777)
    for path in tmp_path.parents:
        path.chmod(path.stat().st_mode | 0o011)
    target = tmp_path / "python"
    target.touch(0o755)
    os.chown(target, USER, USER)
    child = os.fork()
    if child == 0:
        try:
            os.setgid(USER)
            os.setuid(USER)
            with files.working() as work:
                (work / "view").mkdir()
                (work / "view/python").symlink_to(target)
                (work / "view").chmod(0o555)
            (tmp_path / "went").write_text(str(work.exists()))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert (tmp_path / "went").read_text() == "False"
    assert target.stat().st_mode & 0o777 == 0o755


def test_files_that_anybody_may_have_put_there(tmp_path: Path) -> None:
    """A pipe would let its reader wait, a link to a device has no end."""
    (tmp_path / "file").write_bytes(b"x" * (3 << 20))
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "zero").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe")
    with files.regular(tmp_path / "file") as file:
        assert len(file.read()) == 3 << 20
    assert files.small(tmp_path / "file") == b"x" * (1 << 20)
    before = len(os.listdir("/proc/self/fd"))
    for path in (tmp_path / "link", tmp_path / "zero", tmp_path / "pipe", tmp_path, Path("/dev/zero"), tmp_path / "no"):
        with pytest.raises(OSError, match=r"link|regular|No such|levels|device"):
            files.regular(path)
        assert files.small(path) == b""
    assert len(os.listdir("/proc/self/fd")) == before
