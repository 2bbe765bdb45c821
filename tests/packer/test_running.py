"""packer/running.py: which packed programs run; the launcher's code finds the same views and layers in use."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.native import lib, new, text

from packer import running
from packer.errors import PackError

if TYPE_CHECKING:
    from collections.abc import Iterator

VIEW, LAYER, ARCHIVE = "0123456789abcdef" * 2, "fedcba9876543210" * 4, "a1" * 32


@contextmanager
def process(*argv: str | Path) -> Iterator[int]:
    """A process that was started with these arguments, and waits."""
    code = "import sys, time; print(); sys.stdout.flush(); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, *argv], stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()
        yield child.pid
        child.kill()


def view(base: Path, *tools: str, scripts: str = "") -> Path:
    """A view whose distribution is called ``dist``."""
    place = base / "v1/views" / VIEW
    info = place / "tree/lib/python3.11/site-packages/dist-2.5.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: Dist\nVersion: 2.5\n")
    (info / "entry_points.txt").write_text(scripts)
    named = "".join(f"tool {tool}\n" for tool in tools)
    (place / "about").write_text(
        f"archive {ARCHIVE}\nslice cp311-manylinux_2_17_x86_64\n{named}layer {LAYER} dist-2.5\n"
    )
    return place


def only(pid: int) -> running.Process:
    (found,) = [one for one in running.processes().processes if one.pid == pid]
    return found


def test_a_process_of_a_packed_program(tmp_path: Path) -> None:
    base = tmp_path / "a store"
    place = view(base, "one", "two", scripts="[console_scripts]\none = one:main\n")
    with process(place / "tree/bin/python", f"--x={base}/v1/layers/{LAYER}/tree") as pid:
        found = only(pid)
    assert (found.tool, found.version, found.archive, found.slice) == (
        "one",
        "2.5",
        ARCHIVE,
        "cp311-manylinux_2_17_x86_64",
    )
    assert (found.store, found.view, found.layers, found.user) == (str(base), VIEW, (LAYER,), os.geteuid())
    assert found.command[:2] == (sys.executable, "-c")
    said = running.as_json(running.Running((found,), 3))
    assert (said["version"], said["hidden"], said["processes"][0]["tool"]) == (1, 3, "one")
    head, row = running.table(running.Running((found,), 0)).splitlines()
    assert head.split() == ["PID", "TOOL", "VERSION", "ARCHIVE", "SLICE", "VIEW"]
    assert row.split()[:5] == [str(pid), "one", "2.5", ARCHIVE[:12], "cp311-manylinux_2_17_x86_64"]
    assert row.endswith(f"{base}/v1/views/{VIEW}")


@pytest.mark.parametrize(("tool", "version"), [("dist", "2.5"), ("other", "")])
def test_the_version_of_a_program_that_no_wheel_installs(tmp_path: Path, tool: str, version: str) -> None:
    place = view(tmp_path, tool, scripts="this is not what entry points are\n")
    with process(place / "tree/bin/python") as pid:
        assert (only(pid).tool, only(pid).version) == (tool, version)


def test_a_process_whose_view_is_gone_and_one_that_shows_none() -> None:
    with process(f"/s/v1/views/{VIEW}/tree") as pid:
        found = only(pid)
        assert (found.view, found.store, found.archive, found.version) == (VIEW, "/s", "", "")
    with process(f"/s/v1/layers/{LAYER}/tree", f"/s/v1/views/{VIEW[:8]}") as pid:
        found = only(pid)
        assert (found.view, found.store, found.layers, found.tool) == ("", "/s", (LAYER,), Path(sys.executable).name)
        assert re.fullmatch(rf"{pid} .* /s", running.table(running.Running((found,), 0)).splitlines()[1])


def used() -> set[str]:
    """What the launcher's code finds."""
    uses = new("struct uses *")
    assert lib().usesread(uses, os.geteuid()) == 0
    found = {text(uses.list[number].name) for number in range(uses.count)}
    lib().usesfree(uses)
    return found


@pytest.mark.native
def test_the_launcher_finds_the_same(tmp_path: Path) -> None:
    """What is not removed from stores is what is shown."""
    place, other = view(tmp_path / "store", "one"), "ab" * 32
    argv = (f"{place}/tree", f"a{place}:/b/v1/layers/{LAYER}x", f"/c/v1/layers/{other}/tree", "/v1/views/" + VIEW[:31])
    with process(*argv) as pid:
        found = only(pid)
        theirs = used()
        ours = {VIEW, LAYER, other}
    assert theirs & ours == ours
    assert {found.view, *found.layers} == ours


def test_what_another_user_runs_is_hidden() -> None:
    """Told in a child that is nobody; this very process is root's."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    with process(f"/s/v1/views/{VIEW}/tree") as pid:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.setresgid(4242, 4242, 4242)
            os.setresuid(4242, 4242, 4242)
            found = running.processes()
            os.write(writing, f"{found.hidden > 0} {pid in {one.pid for one in found.processes}}".encode())
            os._exit(0)
        os.waitpid(child, 0)
        # the command line is no secret
        assert os.read(reading, 100) == b"True True"
        os.close(reading)
        os.close(writing)


@pytest.mark.native
@pytest.mark.parametrize("name", ["tree/lib/python3.11/site-packages/dist-2.5.dist-info/METADATA", "about"])
@pytest.mark.parametrize("kind", ["pipe", "endless", "large"])
def test_what_somebody_made_up_does_not_hinder(name: str, kind: str, tmp_path: Path) -> None:
    """Anybody can name a view of his in a command line."""
    place = view(tmp_path, "dist")
    (place / name).unlink()
    if kind == "pipe":
        os.mkfifo(place / name)
    elif kind == "endless":
        (place / name).symlink_to("/dev/zero")
    else:
        (place / name).touch()
        os.truncate(place / name, 1 << 42)
    with process(place / "tree/bin/python") as pid:
        found = only(pid)
        assert VIEW in used()
    assert (found.view, found.version, found.store) == (VIEW, "", str(tmp_path))


def test_a_command_line_without_end_names_nothing() -> None:
    """A path is not that long, and all beginnings of such a line would fill the memory."""
    names = [f"{number:032x}" for number in range(3000)]
    found = list(running._used("/s" + "".join(f"/v1/views/{name}" for name in names)))
    assert ("/s", names[0], "") in found
    assert sum(len(base) for base, _, _ in found) < 1_000_000


def test_no_proc(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(PackError, match="/proc is not mounted"):
            running.processes(place)


def test_a_name_that_would_disturb_a_terminal(tmp_path: Path) -> None:
    with process(view(tmp_path, "a\x1b[2Jb") / "tree") as pid:
        assert "\x1b" not in running.table(running.Running((only(pid),), 0))


@pytest.mark.parametrize(
    ("user", "who", "may"),
    [
        (1000, "1 process was", "only its user and root may read"),
        (0, "2 processes were", "this root may not read, as in a container"),
    ],
)
def test_why_some_may_be_missing(user: int, who: str, may: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    said = f"{who} not looked into: what a process has loaded (/proc/PID/maps) {may}"
    assert running.unseen(int(who[0])) == said
