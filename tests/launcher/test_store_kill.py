"""Whatever a launch is stopped by, at whatever moment: the next one works, and what is in the store is whole."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import slices
from support.layers import SITE
from support.process import Inside, Store, traced, watched

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .conftest import Enter

pytestmark = pytest.mark.hosts

TOOL = "/opt/tool"
KILLS = 50

APP = """\
import os
import sys


def main():
    places = [path for path in sys.path if path.endswith("site-packages")]
    names = [name for place in places for _, _, names in os.walk(place, followlinks=True) for name in names]
    print(sum(name.endswith(".bin") for name in names))
"""


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six wheels of 250 files each, some 6 MB."""
    numbers = random.Random(1)
    wheels: dict[str, dict[str, str | bytes | None]] = {
        f"part{part}": {
            f"{SITE}/part{part}/{number % 10}/{number}.bin": numbers.randbytes(numbers.randrange(100, 8000))
            for number in range(250)
        }
        for part in range(6)
    }
    wheels["app"] = {f"{SITE}/app.py": APP}
    return slices.write(tmp_path_factory.mktemp("big") / "tool", [slices.Wanted(wheels)])


RIGHT = (0, b"1500\n", b"")


def store_at(home: Path, name: str) -> Store:
    return Store(home / name)


def enter_in_memory(enter: Enter, tool: Path) -> tuple[Inside, Path]:
    """A host whose user has his home on a tmpfs, so that the disk of the machine has no part in it."""
    far = enter("bookworm", {tool: TOOL}, tmpfs={"/home/u": "size=100m"})
    far.root("chown 4242:4242 /home/u")
    return far, Path(f"/proc/{far.pid}/root/home/u")


def test_killed_at_any_moment_of_the_first_launch_the_next_one_works(big: Path, enter: Enter) -> None:
    far, home = enter_in_memory(enter, big)
    killed: dict[str, list[float]] = {}
    whole = timed(far, home, "time")
    while sum(map(len, killed.values())) < KILLS or not {"nothing", "some layers"} <= killed.keys():
        assert sum(map(len, killed.values())) < 10 * KILLS, killed
        delay = moment(killed, whole)
        store = store_at(home, "store")
        env = {"FATPAR_STORE": "/home/u/store"}
        if far.run([TOOL], env=env, kill_after=delay).status == -9:
            killed.setdefault(state_of(store), []).append(delay)
        assert store.broken() == []
        assert far.run([TOOL], env=env).whole == RIGHT, delay
        assert (len(store.names("layers")), len(store.names("views")), store.broken()) == (8, 1, [])
        shutil.rmtree(store.base)


def moment(killed: Mapping[str, Sequence[float]], whole: float) -> float:
    """Seconds: anywhere in the launch; every other time while something is being published, as far as one can tell."""
    kills = sum(map(len, killed.values()))
    if not {"nothing", "view"} <= killed.keys() or kills % 2:
        return random.random() * whole
    return random.uniform(0.8 * min(killed["view"]), 1.2 * max(killed["nothing"]))


def timed(far: Inside, home: Path, name: str) -> float:
    """Seconds of a first launch."""
    start = time.monotonic()
    assert far.run([TOOL], env={"FATPAR_STORE": f"/home/u/{name}"}).whole == RIGHT
    shutil.rmtree(home / name)
    return time.monotonic() - start


def state_of(store: Store) -> str:
    if store.names("views"):
        return "view"
    layers = len(store.names("layers"))
    return "nothing" if layers == 0 else "some layers" if layers < 8 else "all layers"


# At chosen moments ----------------------------------------------------------------------------------------------

SMALL = {
    "data": {f"{SITE}/data/{name}/x": name for name in "abc"},
    "app": {f"{SITE}/app.py": "def main():\n    print('ran')\n", f"{SITE}/more/__init__.py": ""},
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return slices.write(tmp_path_factory.mktemp("small") / "tool", [slices.Wanted(SMALL)])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_store_that_becomes_full_gives_way_to_the_next(
    small: Path, enter: Enter, user_home: Path, number: int
) -> None:
    far = enter("bookworm", {small: TOOL})
    command = f"FATPAR_STORE=/home/u/full exec {TOOL}"
    ended, _ = traced(far, user_home, command, "-e", f"inject=write:error={errno.errorcode[number]}:when=2")
    assert ended.whole == (0, b"ran\n", b"")
    assert store_at(user_home, "full").leftovers() == store_at(user_home, "full").names("views") == []
    assert len(store_at(user_home, ".cache/fatpar").names("views")) == 1


# What is left behind --------------------------------------------------------------------------------------------


def test_what_a_killed_launch_left_is_removed_when_it_is_old_and_nobody_s(
    small: Path, enter: Enter, user_home: Path, store: Store
) -> None:
    """A minute old, since a launch may not have locked what it has just begun; never while its lock is held."""
    far = enter("bookworm", {small: TOOL})
    ended, _ = traced(far, user_home, f"exec {TOOL}", "-e", "inject=utimensat:signal=KILL:when=2")
    assert ended.status == -9
    left = store.leftovers()
    assert left
    directories = [store.base / "v1" / name for name in left]
    held = store.base / "v1/views/.tmp-held"
    shutil.copytree(directories[0], held)
    far.root("chown -R 4242 /home/u/.cache/fatpar/v1/views/.tmp-held")
    for directory in (*directories, held):
        os.utime(directory, (time.time() - 120,) * 2)
    lock = os.open(held, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert far.run([TOOL]).whole == (0, b"ran\n", b"")
    assert store.leftovers() == ["views/.tmp-held"]
    os.close(lock)
    far.root("rm -rf /home/u/.cache/fatpar/v1/plans/* /home/u/.cache/fatpar/v1/views/[0-9a-f]*")
    assert far.run([TOOL]).whole == (0, b"ran\n", b"")
    assert store.leftovers() == []


def test_what_was_begun_a_moment_ago_is_left_alone(small: Path, enter: Enter, user_home: Path, store: Store) -> None:
    far = enter("bookworm", {small: TOOL})
    far.root(
        "mkdir -p /home/u/.cache/fatpar/v1/layers/.tmp-1/tree; chown -R 4242 /home/u; chmod 700 /home/u/.cache/fatpar"
    )
    assert far.run([TOOL]).whole == (0, b"ran\n", b"")
    assert store.leftovers() == ["layers/.tmp-1"]


# Many at once ---------------------------------------------------------------------------------------------------

SIXTEEN = f"for i in $(seq 16); do {TOOL} > ~/out.$i 2>&1 & done; wait; cat ~/out.*"


def make_empty(far: Inside, store: Store) -> tuple[Path, Path]:
    """A store with nothing in it: its directories of layers and views."""
    far.root("mkdir -p /home/u/.cache/fatpar/v1/layers /home/u/.cache/fatpar/v1/views; chown -R 4242 /home/u/.cache")
    far.root("chmod 700 /home/u/.cache/fatpar")
    return store.base / "v1/layers", store.base / "v1/views"


def test_sixteen_first_launches_at_once_unpack_once(big: Path, enter: Enter, store: Store) -> None:
    far = enter("bookworm", {big: TOOL})
    with watched(*make_empty(far, store)) as names:
        assert far.run(["sh", "-c", SIXTEEN]).whole == (0, b"1500\n" * 16, b"")
    assert names.pop("begun") == 9
    assert set(names) == {*store.names("layers"), *store.names("views")}
    assert set(names.values()) == {1}
    assert (len(store.names("layers")), len(store.names("views"))) == (8, 1)
    assert store.leftovers() == store.broken() == []


def test_sixteen_first_launches_at_once_are_right_without_locks(
    small: Path, enter: Enter, user_home: Path, store: Store
) -> None:
    """As on filesystems that have none: work is done more than once, and published once."""
    far = enter("bookworm", {small: TOOL})
    with watched(*make_empty(far, store)) as names:
        ended, lines = traced(far, user_home, SIXTEEN, "-e", "trace=flock", "-e", "inject=flock:error=ENOLCK")
    assert ended.whole == (0, b"ran\n" * 16, b"")
    # one launch that makes everything locks each of four objects, and the store; how many do is chance
    assert sum("flock(" in line for line in lines) >= 5
    assert names.pop("begun") >= 4
    assert set(names) == {*store.names("layers"), *store.names("views")}
    assert set(names.values()) == {1}
    assert store.leftovers() == store.broken() == []


def test_launches_that_race_with_kills_are_right(big: Path, enter: Enter, store: Store) -> None:
    """Half of them are killed while the others wait for them, or unpack."""
    far = enter("bookworm", {big: TOOL})
    script = (
        f'for i in $(seq 8); do {TOOL} > ~/dead.$i & killed="$killed $!"; '
        f'{TOOL} > ~/out.$i 2>&1 & live="$live $!"; done;'
        "for pid in $killed; do sleep 0.03; kill -9 $pid; done 2>/dev/null; wait $live; cat ~/out.*"
    )
    assert far.run(["bash", "-c", script]).stdout == b"1500\n" * 8
    assert (len(store.names("layers")), len(store.names("views"))) == (8, 1)
    assert store.broken() == []
