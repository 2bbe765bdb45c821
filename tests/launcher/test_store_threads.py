"""Unpacking in several threads: the same as in one, also where there is no second one, no room, or damage."""

from __future__ import annotations

import os
import random
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import calls, slices
from support.calls import Case
from support.hosts import require_host
from support.layers import SITE
from support.process import Store, inside

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.layers import Content
    from support.process import Inside

pytestmark = pytest.mark.hosts

TOOL = "/opt/tool"


def wheel(seed: int, word: str) -> dict[str, Content]:
    """Small files, large ones that several blobs are needed for, and one twice."""
    numbers = random.Random(seed)
    large = numbers.randbytes(3000) * 6000
    tree: dict[str, Content] = {f"{SITE}/part/{n}.txt": numbers.randbytes(300 + n).hex() for n in range(300)}
    return tree | {
        f"{SITE}/part/__init__.py": f"word = {word!r}\n",
        f"{SITE}/part/large.bin": large + word.encode(),
        f"{SITE}/part/again.bin": large + word.encode(),
        f"{SITE}/part/empty": "",
    }


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive whose second slice, the one that is launched, is deltas."""
    app: dict[str, Content] = {f"{SITE}/app.py": "import part\n\n\ndef main():\n    print(part.word)\n"}
    wanted = [
        slices.Wanted({"app": app, "part": wheel(1, word)}, tag) for word, tag in (("no", "cp36m"), ("yes", "cp311"))
    ]
    return slices.write(tmp_path_factory.mktemp("threads") / "tool", wanted)


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory, tool: Path) -> Iterator[Inside]:
    root = tmp_path_factory.mktemp("host")
    binds = {tool: TOOL, calls.portable(root / "strace"): calls.PORTABLE}
    with inside(require_host("bookworm"), root / "home", binds) as entered:
        yield entered


def place(far: Inside, name: str) -> tuple[dict[str, str], Store, Store]:
    """The environment of a launch with stores of its own: one that is named, and the one to fall back to."""
    home = f"/proc/{far.pid}/root/home/u/{name}"
    env = {"FATPAR_STORE": f"/home/u/{name}/store", "HOME": f"/home/u/{name}/home"}
    return env, Store(Path(home, "store")), Store(Path(home, "home/.cache/fatpar"))


ALONE = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"


def test_files_are_written_in_small_pieces(far: Inside) -> None:
    """Else the page cache has them in large folios, and processes more of them in memory than they use."""
    env, _, _ = place(far, "pieces")
    trace = Path(f"/proc/{far.pid}/root/home/u/pieces.trace")
    ended = far.run([*calls.command("-e", "trace=write", "-b", "execve", "-o", "/home/u/pieces.trace"), TOOL], env=env)
    assert ended.whole == (0, b"yes\n", b"")
    written = [int(number) for number in re.findall(r" = (\d+)$", trace.read_text(errors="replace"), re.MULTILINE)]
    assert sum(written) > 18_000_000
    assert max(written) == 16384


def test_one_thread_and_several_unpack_the_same(far: Inside) -> None:
    found = []
    for name, before in (("alone", ALONE), ("together", "pass")):
        env, store, _ = place(far, name)
        ended = far.run([TOOL], env=env, before=before)
        assert ended.whole == (0, b"yes\n", b"")
        assert store.broken() == []
        assert store.leftovers() == []
        found.append(store.names("layers"))
    assert found[0] == found[1] != []


def test_a_thread_that_cannot_be_made_is_done_without(far: Inside) -> None:
    """The first clone asks an interpreter for its version, the others are threads."""
    env, store, _ = place(far, "refused")
    trace = store.base.parents[1] / "trace"
    threads = 0
    for number in range(1, 6):
        env, store, _ = place(far, f"refused{number}")
        ended = calls.disturbed(far, trace, TOOL, env, Case("clone", number, "EAGAIN"))
        if ended is None:
            continue
        if "CLONE_THREAD" in trace.read_text(errors="replace").partition("(INJECTED)")[0].rpartition("clone(")[2]:
            threads += 1
            assert ended.whole == (0, b"yes\n", b"")
            assert store.broken() == []
    assert threads >= 1 or len(os.sched_getaffinity(0)) == 1


@pytest.mark.parametrize("number", [5])
def test_a_store_that_becomes_full_gives_way_to_the_next(far: Inside, number: int) -> None:
    env, store, other = place(far, f"full{number}")
    trace = store.base.parents[1] / "trace"
    ended = calls.disturbed(far, trace, TOOL, env, Case("utimensat", number, "ENOSPC"))
    assert ended is not None
    # of each thread: so in the next store, too, if another thread is the first to come so far
    assert ended.status in (0, 125), ended
    assert store.names("layers") == []
    assert store.leftovers() == other.leftovers() == []
    assert store.broken() == other.broken() == []


@pytest.mark.parametrize("part", [0, 2])
def test_damage_ends_all_threads(far: Inside, tool: Path, tmp_path: Path, part: int) -> None:
    data = bytearray(tool.read_bytes())
    front = 320_000
    at = front + (len(data) - front) * (2 * part + 1) // 10
    data[at : at + 64] = bytes(byte ^ 0x5A for byte in data[at : at + 64])
    env, store, other = place(far, f"damaged{part}")
    name = f"damaged-{part}"
    outside = store.base.parents[1] / name
    outside.write_bytes(data)
    outside.chmod(0o755)
    ended = far.run([f"/home/u/{name}"], env=env)
    assert ended.status == 125, ended
    assert ended.stderr.startswith(f"{name}: archive is damaged: ".encode()), ended
    assert [store.names("layers"), store.leftovers(), other.names("layers")] == [[], [], []]
