"""``packer lock`` and ``packer fat --lock``: whoever packs from a lock, wherever and when, gets the same bytes."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import index, locks
from support.hosts import USER
from support.packing import ROOT, Place, run_program, watched
from support.skips import skip_optional

from packer import inspect, lock

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("offline")]

RUNNING = f"cp{sys.version_info[0]}{sys.version_info[1]}"
ABI = f"{RUNNING}-manylinux_2_17_x86_64"
SAID = "two 2.0 made 1\n"


@pytest.fixture
def goods(tmp_path: Path) -> Path:
    """What is served."""
    return locks.fill(tmp_path / "goods" / "shelf")


@pytest.fixture
def served(goods: Path) -> Iterator[tuple[str, list[str]]]:
    """Its index, and what is asked of it."""
    with index.serve(goods) as found:
        yield found


def ran(program: Path, place: Place) -> str:
    ended = run_program(program, store=place.root / "store")
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_same_bytes_for_everybody(place: Place, tmp_path: Path, goods: Path, served: tuple[str, list[str]]) -> None:
    """As without a lock; and another user, mask, locale and zone, nothing cached, and an index that has moved on."""
    ended = place.packed("lock", "app[more]", "--abis", ABI, "--index-url", served[0])
    added = ["added app 1.0", "added four 1.0", "added made 1.0", "added two 2.0"]
    assert ended.stdout.splitlines() == [*added, f"pylock.toml: 4 packages for {ABI}"]
    place.packed("fat", "app[more]", "--abis", ABI, "--index-url", served[0], "-o", "plain")
    served[1].clear()
    place.packed("fat", "--lock", "pylock.toml", "--index-url", served[0], env={"LC_ALL": "C.UTF-8"})
    locked, plain = (inspect.describe(place.work / name) for name in ("app", "plain"))
    assert locked["manifest"].pop("lock") == lock.digest(place.work / "pylock.toml")
    assert all(locked[key] == plain[key] for key in ("layers", "slices", "tools", "manifest"))
    assert not served[1]  # all of it is in the cache
    assert ran(place.work / "app", place) == SAID
    if os.geteuid() != 0:
        skip_optional("only root can be another user")
    locks.two(goods, "3.0", f"{RUNNING}-{RUNNING}-manylinux_2_17_x86_64")
    index.sdist(goods, index.project(tmp_path / "newer", "made", "2.0"), "made", "2.0")
    index.wheel(goods, "app", "2.0", scripts=["app=app:main"], files={"app.py": "def main(): pass\n"})
    other = Place(tmp_path / "other")
    shutil.copy(place.work / "pylock.toml", other.work)
    for path in (other.root, *other.root.rglob("*")):
        os.chown(path, USER, USER)
    reading = ("--bounding-set=-all,+dac_read_search", "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    someone = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *reading)
    somewhere = {"LC_ALL": "C", "TZ": "Asia/Kathmandu", "HOME": str(other.root), "USER": "somebody"}
    other.packed("fat", "--lock", "pylock.toml", prefix=someone, umask=0o077, env=somewhere)
    assert (other.work / "app").stat().st_uid == USER
    assert (other.work / "app").read_bytes() == (place.work / "app").read_bytes()
    assert sorted(path for path in served[1] if path.startswith("/files/")) == [
        "/files/app-1.0-py2.py3-none-any.whl", "/files/four-1.0-py3-none-any.whl", "/files/made-1.0.tar.gz",
        f"/files/two-2.0-{RUNNING}-{RUNNING}-manylinux_2_17_x86_64.whl",
    ]  # fmt: skip


def test_a_sample_of_pdm_is_packed(place: Place, served: tuple[str, list[str]]) -> None:
    (place.work / "pylock.toml").write_text(locks.sample("pdm", served[0]))
    place.packed("fat", "--lock", "pylock.toml", "app", "--abis", ABI)
    assert ran(place.work / "app", place) == SAID
    assert not [path for path in served[1] if path.startswith("/simple/")]


@pytest.mark.parametrize("tool", ["pip", "uv", pytest.param("pdm", marks=pytest.mark.torture)])
def test_what_others_lock_now_is_packed(place: Place, tmp_path: Path, served: tuple[str, list[str]], tool: str) -> None:
    beside = Path(sys.executable).with_name(tool)
    found = str(beside) if beside.exists() else shutil.which(tool)
    program = [sys.executable, "-m", "pip"] if tool == "pip" else [found or ""]
    if not program[0]:
        pytest.skip(f"no {tool} here: python -m pip install --group test")
    (place.work / "pylock.toml").write_text(locks.made_by(tool, program, served[0], tmp_path / "theirs"))
    place.packed("fat", "--lock", "pylock.toml", "--abis", ABI)
    assert ran(place.work / "app", place) == SAID


def test_a_project_says_where_its_lock_is(place: Place, goods: Path) -> None:
    project = index.project(place.work / "program", "program", requires=["four"])
    settings = f'[tool.packer]\nlock = "pylock.toml"\nfind-links = ["{goods}"]\nno-index = true\n'
    (project / "pyproject.toml").write_text(
        (project / "pyproject.toml").read_text() + settings + f'abis = "{RUNNING}"\nmodule = "program"\n'
    )
    made = json.loads(place.packed("lock", "--json", cwd=project).stdout)
    assert made["added"] == [{"name": "four", "versions": ["1.0"]}, {"name": "program", "versions": []}]
    assert [(one["name"], one["version"]) for one in made["packages"]] == [("four", "1.0"), ("program", None)]
    assert 'path = "."' in (project / "pylock.toml").read_text()
    place.packed("fat", "-o", "out", cwd=project)
    backend = project / "backend.py"
    backend.write_text(backend.read_text().replace("Requires-Dist: four", "Requires-Dist: three"))
    ended = place.run("fat", "-o", "out", cwd=project)
    assert ended.status == 1
    assert f"{project} needs three, and pylock.toml has no three" in ended.stderr
    assert "the project has changed since: packer lock again\n" in ended.stderr


def test_a_lock_loses_nothing_unasked(place: Place, goods: Path) -> None:
    """And what is refused names the command that keeps all."""
    options = ("--find-links", str(goods), "--no-index")
    place.packed("lock", "app[more]", "four", "--abis", "manylinux2014,cp311,cp312", *options)
    before = (place.work / "pylock.toml").read_bytes()
    slices = lock.read(place.work / "pylock.toml").texts("slices")
    ended = place.run("lock", "app", "--abis", "manylinux2014,cp312", *options)
    assert (ended.status, ended.stdout) == (2, "")
    assert ended.stderr == (
        f"packer: pylock.toml: app[more], four, {slices[0]} would go: asked for before, and not now\n"
        f"packer: hint: packer lock app 'app[more]' four --abis {','.join(slices)} --no-index --find-links={goods} "
        "keeps all of it; --drop lets it go\n"
    )
    assert (place.work / "pylock.toml").read_bytes() == before
    place.packed(*shlex.split(ended.stderr.partition("hint: packer ")[2].partition(" keeps")[0]))
    assert (place.work / "pylock.toml").read_bytes() == before
    # what is missing is added by what the hint says
    ended = place.run("fat", "two", "three", "--lock", "pylock.toml", *options)
    assert ended.status == 1
    command = shlex.split(ended.stderr.partition("hint: packer ")[2].partition(" locks it, too")[0])
    assert command == ["lock", "app[more]", "four", "three", "-o", "pylock.toml", "--no-index", f"--find-links={goods}"]
    place.packed(*command)
    place.packed("lock", "four", "--abis", "manylinux2014,cp312", "--drop", *options)
    assert lock.read(place.work / "pylock.toml").texts("slices") == slices[1:]


def test_a_lock_of_another_tool_is_not_replaced_unasked(place: Place, goods: Path) -> None:
    (place.work / "pylock.toml").write_text(locks.sample("uv", "http://127.0.0.1:1/simple"))
    options = ("lock", "four", "--abis", "cp312", "--find-links", str(goods), "--no-index")
    ended = place.run(*options)
    assert (ended.status, ended.stdout) == (2, "")
    assert ended.stderr == (
        "packer: pylock.toml was written by uv: what it was asked for is not known, and it would be lost\n"
        "packer: hint: -o pylock.NAME.toml writes another file, --drop replaces this one\n"
    )
    place.packed(*options, "--drop")
    assert lock.read(place.work / "pylock.toml").own


def test_an_interruption_leaves_the_lock_as_it_was(place: Place, goods: Path) -> None:
    place.packed("lock", "four", "--abis", "cp311", "--find-links", goods, "--no-index")
    before = (place.work / "pylock.toml").read_bytes()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/simple"
        with watched(place.start("lock", "four", "--upgrade-all", "--index-url", url)) as process:
            silent.settimeout(60)
            connection, _ = silent.accept()
            with connection:
                os.kill(process.pid, signal.SIGINT)
                assert process.communicate(timeout=60)[1] == "packer: interrupted\n"
            assert process.returncode == 130
        assert not place.processes()
    failed = place.run("lock", "four>1", "--find-links", goods, "--no-index")
    assert failed.status == 1
    assert (place.work / "pylock.toml").read_bytes() == before
    assert place.left() == ["cache", "tmp", "work", "work/pylock.toml"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["fat", "--lock", "gone.toml"],
            "no lock gone.toml: there is no such file\npacker: hint: packer lock -o pylock.gone",
        ),
        (["lock", "app", "-o", "lock.toml"], "not a lock's name: lock.toml\npacker: hint: PEP 751 has pylock.toml"),
        (["lock", "app", "--upgrade", "app"], "--upgrade: there is no lock pylock.toml yet"),
        (["lock", "app", "--as-of", "tomorrow"], "not a date: 'tomorrow'"),
        (["lock"], "nothing to lock: no requirement or project directory"),
    ],
    ids=["no-lock", "name", "upgrade", "date", "nothing"],
)
def test_wrong_usage_is_told(place: Place, arguments: list[str], said: str) -> None:
    ended = place.run(*arguments)
    assert (ended.status, ended.stdout) == (2, "")
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_documented_keys_are_those_that_are_printed(place: Place, goods: Path) -> None:
    """docs/json.md has each of them."""
    made = json.loads(
        place.packed("lock", "four", "--abis", "cp311", "--find-links", goods, "--no-index", "--json").stdout
    )
    text = (ROOT / "docs/json.md").read_text("utf-8").partition("## lock\n")[2].partition("\n## ")[0]
    assert [key for key in made if f"`{key}`" not in text] == []
