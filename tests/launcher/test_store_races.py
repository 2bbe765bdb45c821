"""Many launches at once, of programs that share layers, while others prune or remove the store."""

from __future__ import annotations

import os
import shlex
import signal
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from support import calls, slices
from support.layers import SITE
from support.native import lib, new
from support.process import Store, watched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from support.process import Inside

    from .conftest import Enter

pytestmark = pytest.mark.hosts

USER = 4242
TOOLS = ("one", "two", "three", "four")
PARTS = 5

APP = """\
import os, {name}.late
{imports}


def main():
    print({name}.late.word, sum(len(os.listdir(part.__path__[0])) for part in ({parts},)))
"""


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Mapping[Path, str]:
    """Four archives of five wheels in common, with 30 files each, and one of their own: where they are in a host."""
    root = tmp_path_factory.mktemp("races")
    names = [f"part{part}" for part in range(PARTS)]
    common: dict[str, dict[str, str | bytes | None]] = {
        part: {f"{SITE}/{part}/__init__.py": "", **{f"{SITE}/{part}/{n}.bin": os.urandom(5000) for n in range(30)}}
        for part in names
    }
    binds = {}
    for name in TOOLS:
        app = APP.format(name=name, imports="\n".join(f"import {part}" for part in names), parts=", ".join(names))
        own: dict[str, str | bytes | None] = {
            f"{SITE}/app.py": app, f"{SITE}/{name}/__init__.py": "", f"{SITE}/{name}/late.py": f"word = {name!r}\n",
        }  # fmt: skip
        binds[slices.write(root / name, [slices.Wanted({**common, name: own})])] = f"/opt/{name}"
    return binds


def many(count: int, tools: tuple[str, ...] = TOOLS) -> str:
    """A shell command: so many launches at once; what each said, and its status where it is not 0."""
    words = " ".join(tools)
    return (
        f"rm -f out.*; i=0; while [ $i -lt {count // len(tools)} ]; do for tool in {words}; do"
        " { /opt/$tool >out.$i.$tool 2>&1 || echo status $? >>out.$i.$tool; } & done; i=$((i+1)); done; wait; cat out.*"
    )


def run_many(far: Inside, count: int, tools: tuple[str, ...] = TOOLS) -> Counter[str]:
    ended = far.run(["sh", "-c", many(count, tools)], cwd="/home/u", timeout=300)
    assert (ended.status, ended.stderr) == (0, b"")
    return Counter(ended.stdout.decode().splitlines())


def right(count: int, tools: tuple[str, ...] = TOOLS) -> dict[str, int]:
    # 30 files, __init__.py and the link to bytecode
    return {f"{name} {PARTS * 32}": count // len(tools) for name in tools}


COUNTS = [32, pytest.param(64, marks=pytest.mark.torture), pytest.param(256, marks=pytest.mark.torture)]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("names", [TOOLS, TOOLS[:1]], ids=["that-share-layers", "of-one-archive"])
def test_first_launches_at_once_unpack_nothing_twice(
    tools: Mapping[Path, str], enter: Enter, store: Store, count: int, names: tuple[str, ...]
) -> None:
    far = enter("bookworm", tools)
    far.root("mkdir -p /home/u/.cache/fatpar/v1/layers /home/u/.cache/fatpar/v1/views; chown -R 4242 /home/u/.cache")
    far.root("chmod 700 /home/u/.cache/fatpar")
    with watched(store.base / "v1/layers", store.base / "v1/views") as made:
        assert run_many(far, count, names) == right(count, names)
    # the wheels in common, and of each tool its wheel, its application and its view
    objects = PARTS + 3 * len(names)
    assert made.pop("begun") == objects
    assert len(made) == objects
    assert set(made.values()) == {1}
    assert store.broken() == store.leftovers() == []


@contextmanager
def beside(work: Callable[[], None]) -> Iterator[None]:
    """Do something over and over in a process of the user's while the block runs."""
    child = os.fork()
    if child == 0:
        try:
            os.setresgid(USER, USER, USER)
            os.setresuid(USER, USER, USER)
            while True:
                work()
        finally:
            os._exit(1)
    try:
        yield
    finally:
        ended = os.waitpid(child, os.WNOHANG)
        os.kill(child, signal.SIGKILL)
        if ended == (0, 0):
            ended = os.waitpid(child, 0)
        assert os.WIFSIGNALED(ended[1]), "the other process ended by itself"


def prune_all(store: Store) -> None:
    """Whatever is not in use and was not used today."""
    stores, limits, pruned = new("struct stores *"), new("struct limits *"), new("struct pruned *")
    lib().storesonly(stores, os.fsencode(store.base))
    lib().storesopen(stores, 0)
    if stores.list[0].fd >= 0:
        lib().prune(stores.list, limits, 0, 0, pruned)
        lib().free(pruned.list)
    lib().storesclose(stores)


def age(store: Store) -> None:
    """Let all that is published be unused for three days."""
    then = time.time() - 3 * 24 * 3600
    for kind in ("layers", "views"):
        for name in store.names(kind):
            os.utime(store.base / "v1" / kind / name, (then, then))


@pytest.mark.parametrize("rounds", [6, pytest.param(60, marks=pytest.mark.torture)])
def test_launches_that_race_with_pruning_all_run(
    tools: Mapping[Path, str], enter: Enter, store: Store, tmp_path: Path, rounds: int
) -> None:
    """What is pruned is what the launches are about to use, after three days; a pruner that takes no lock."""
    far = enter("bookworm", tools)
    assert run_many(far, 4) == right(4)
    removed = 0
    for path in (tmp_path, *tmp_path.parents):  # so that the user gets there
        path.chmod(path.stat().st_mode | 0o011)
    with beside(lambda: prune_all(store)):
        for number in range(rounds):
            names = TOOLS[number % 4 :][:2] or TOOLS[:2]
            before = set(store.names("views"))
            age(store)
            assert run_many(far, 8, names) == right(8, names), number
            removed += len(before - set(store.names("views")))
    assert removed > 0
    assert store.broken() == []
    assert run_many(far, 4) == right(4)


def test_a_store_that_is_removed_before_python_starts_is_made_anew(
    tools: Mapping[Path, str], enter: Enter, store: Store, tmp_path: Path
) -> None:
    far = enter("bookworm", {**tools, calls.portable(tmp_path / "strace"): calls.PORTABLE})
    slow = shlex.join(calls.command("-o", "trace", "-e", "trace=execve", "-e", "inject=execve:delay_enter=2000000"))
    script = f"""
        {slow} /opt/one & launch=$!
        until ls .cache/fatpar/v1/plans/* >/dev/null 2>&1; do sleep 0.05; done
        chmod -R u+w .cache && rm -rf .cache
        wait $launch"""
    ended = far.run(["sh", "-c", script], cwd="/home/u", timeout=60)
    assert (ended.status, ended.stdout.decode(), ended.stderr) == (0, f"one {PARTS * 32}\n", b"")
    trace = far.run(["cat", "trace"], cwd="/home/u").stdout.decode()
    assert trace.count("/tree/bin/python") >= 2  # the first of which did not find it
    assert (store.broken(), len(store.names("views"))) == ([], 1)


@pytest.mark.parametrize("rounds", [6, pytest.param(60, marks=pytest.mark.torture)])
def test_launches_that_race_with_the_removal_of_the_store(
    tools: Mapping[Path, str], enter: Enter, store: Store, rounds: int
) -> None:
    """The launcher never fails by it. Python may: its modules may be gone from under it."""
    far = enter("bookworm", tools)
    remove = "for i in 1 2 3; do sleep 0.1; chmod -R u+w .cache 2>/dev/null; rm -rf .cache 2>/dev/null; done & "
    wrong: Counter[str] = Counter()
    for _ in range(rounds):
        script = f"{remove} {many(8)}"
        ended = far.run(["sh", "-c", script], cwd="/home/u", timeout=300)
        lines = ended.stdout.decode().splitlines()
        assert not [line for line in lines if line.startswith(("one: ", "two: ", "three: ", "four: "))], lines
        assert not {"status 125", "status 126"}.intersection(lines)
        wrong.update(line for line in lines if line.startswith("status"))
    print(wrong)
    far.root("rm -rf /var/tmp/fatpar-4242 /dev/shm/fatpar-4242")  # where some went meanwhile
    assert run_many(far, 8) == right(8)
    assert (store.broken(), len(store.names("views"))) == ([], 4)
