"""After a crash of the host: what was not on disk yet is found out and made anew, what was is not unpacked again.

The crash is played: a store is told that it was made in another boot, and parts of it are spoilt in the ways in which
filesystems lose what was not written yet."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import slices
from support.hosts import USER
from support.layers import SITE, Content
from support.process import Inside, Store, traced, watched

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Enter

pytestmark = pytest.mark.hosts

TOOL = "/opt/tool"
OTHER = "00000000-0000-4000-8000-000000000000"
APP = "import lib.part\n\n\ndef main():\n    print(lib.part.word)\n"

WHEELS: dict[str, dict[str, Content]] = {
    "lib": {
        f"{SITE}/lib/__init__.py": "",
        f"{SITE}/lib/part.py": "word = 'right'\n",
        f"{SITE}/lib/link.py": "->part.py",
        f"{SITE}/lib/empty": None,
        "bin/run": "#!/bin/sh\n",
    },
    "app": {f"{SITE}/app.py": APP},
}

RIGHT = (0, b"right\n", b"")


def write(directory: Path, tag: str = "cp311") -> Path:
    return slices.write(directory / "tool", [slices.Wanted(WHEELS, tag)])


def boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def crash(store: Store) -> None:
    """Make it look as if the machine had been started again since: objects are older, and no plan is for this boot."""
    for kind in ("layers", "views"):
        for name in store.names(kind):
            if store.made(kind, name) != "durable":
                set_made(store, kind, name, OTHER)
    for name in store.names("plans"):
        (store.base / "v1/plans" / name).unlink()


def set_made(store: Store, kind: str, name: str, made: str | None) -> None:
    link = store.base / "v1" / kind / name / "made"
    link.unlink()
    if made:
        link.symlink_to(made)
        os.lchown(link, USER, USER)


def state(store: Store) -> dict[str, tuple[int, str]]:
    """Of each layer and view: when its tree was made (inode numbers are used again), and what ``made`` says."""
    return {
        f"{kind}/{name}": ((store.base / "v1" / kind / name / "tree").stat().st_ctime_ns, store.made(kind, name))
        for kind in ("layers", "views")
        for name in store.names(kind)
    }


def layer_with(store: Store, path: str) -> Path:
    """The layer that holds a file."""
    (found,) = (store.base / "v1/layers").glob(f"*/tree/{path}")
    return found.parents[len(Path(path).parts)]


def launched_once(enter: Enter, tool: Path) -> Inside:
    far = enter("bookworm", {tool: TOOL})
    assert far.run([TOOL]).whole == RIGHT
    return far


def test_what_survived_is_kept_and_not_looked_at_again(enter: Enter, store: Store, tmp_path: Path) -> None:
    far = launched_once(enter, write(tmp_path))
    assert {made for _, made in state(store).values()} == {boot()}
    before = state(store)
    crash(store)
    assert far.run([TOOL]).whole == RIGHT
    assert state(store) == {name: (since, "durable") for name, (since, _) in before.items()}
    for name in store.names("plans"):
        (store.base / "v1/plans" / name).unlink()
    assert far.run([TOOL]).whole == RIGHT
    assert state(store) == {name: (since, "durable") for name, (since, _) in before.items()}
    assert store.leftovers() == store.broken() == []


def test_durable_layers_are_not_read_again(enter: Enter, store: Store, tmp_path: Path) -> None:
    """What would be found, if they were, is not."""
    far = launched_once(enter, write(tmp_path))
    crash(store)
    assert far.run([TOOL]).whole == RIGHT
    spoil(layer_with(store, f"{SITE}/lib/part.py") / f"tree/{SITE}/lib/part.py", b"word = 'other'\n")
    for name in store.names("plans"):
        (store.base / "v1/plans" / name).unlink()
    assert far.run([TOOL]).whole == (0, b"other\n", b"")


def spoil(path: Path, content: bytes) -> None:
    """Other bytes in a file whose mode forbids it; the interpreter's bytecode of it goes."""
    path.write_bytes(content)
    for compiled in path.parent.glob("__pycache__/*"):
        compiled.unlink()


def rewrite(path: str, content: bytes) -> Callable[[Path], None]:
    return lambda tree: spoil(tree / path, content)


def replace_link(tree: Path) -> None:
    (tree / f"{SITE}/lib/link.py").unlink()
    (tree / f"{SITE}/lib/link.py").symlink_to("__init__.py")


def replace_by_pipe(tree: Path) -> None:
    (tree / "bin/run").unlink()
    os.mkfifo(tree / "bin/run")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "file-without-its-bytes": rewrite(f"{SITE}/lib/part.py", b""),
    "file-with-zeros": rewrite(f"{SITE}/lib/part.py", bytes(len("word = 'right'\n"))),
    "file-that-is-cut": rewrite(f"{SITE}/lib/part.py", b"word = 'wrong'"),
    "file-that-is-not-there": lambda tree: (tree / f"{SITE}/lib/part.py").unlink(),
    "file-that-was-never-there": lambda tree: (tree / f"{SITE}/lib/more.py").write_text("x = 1\n"),
    "file-that-cannot-be-executed": lambda tree: (tree / "bin/run").chmod(0o444),
    "file-that-can-be-executed": lambda tree: (tree / f"{SITE}/lib/part.py").chmod(0o555),
    "directory-that-is-not-there": lambda tree: (tree / f"{SITE}/lib/empty").rmdir(),
    "link-that-leads-elsewhere": replace_link,
    "pipe-for-a-file": replace_by_pipe,
    "tree-that-is-not-there": lambda tree: tree.rename(tree.with_name("lost")),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_layer_is_made_anew_and_the_others_are_kept(
    enter: Enter, store: Store, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    far = launched_once(enter, write(tmp_path))
    before = state(store)
    crash(store)
    damaged = layer_with(store, f"{SITE}/lib/part.py")
    name = f"layers/{damaged.name}"
    damage(damaged / "tree")
    assert far.run([TOOL]).whole == RIGHT
    after = state(store)
    assert after.keys() == before.keys()
    for one, (since, made) in after.items():
        assert (made, since == before[one][0]) == ((boot(), False) if one == name else ("durable", True)), one
    assert store.leftovers() == store.broken() == []
    assert far.run([TOOL]).whole == RIGHT


@pytest.mark.parametrize("kind", ["layers", "views"])
def test_an_object_that_lost_its_mark_is_made_anew(enter: Enter, store: Store, tmp_path: Path, kind: str) -> None:
    """It could be whole; nobody knows."""
    far = launched_once(enter, write(tmp_path))
    crash(store)
    damaged = layer_with(store, f"{SITE}/lib/part.py").name
    before = state(store)
    name = damaged if kind == "layers" else store.names("views")[0]
    set_made(store, kind, name, None)
    if kind == "layers":
        spoil(store.base / "v1/layers" / name / f"tree/{SITE}/lib/part.py", b"")
    else:
        (store.base / "v1/views" / name / "tree/bin/python").unlink()
    assert far.run([TOOL]).whole == RIGHT
    after = state(store)
    assert after.keys() == before.keys()
    assert {one for one in after if after[one][0] != before[one][0]} == {f"{kind}/{name}"}
    assert after[f"{kind}/{name}"][1] == boot()
    assert store.leftovers() == store.broken() == []


def test_a_layer_that_was_made_anew_is_looked_at_after_the_next_crash(
    enter: Enter, store: Store, tmp_path: Path
) -> None:
    """Though the view, which survived the first one, need not be."""
    far = launched_once(enter, write(tmp_path))
    damaged = layer_with(store, f"{SITE}/lib/part.py")
    for _ in range(3):
        crash(store)
        spoil(damaged / f"tree/{SITE}/lib/part.py", b"")
        assert far.run([TOOL]).whole == RIGHT
        assert store.broken() == []
        assert {made for _, made in state(store).values()} == {boot(), "durable"}


def test_what_is_whole_in_the_boot_it_was_made_in_is_not_durable(enter: Enter, store: Store, tmp_path: Path) -> None:
    """It was read from memory: where a part is missing all is looked at, and that says nothing of the disk."""
    far = launched_once(enter, write(tmp_path))
    layer_with(store, f"{SITE}/lib/part.py").rename(store.base / "taken")
    assert far.run([TOOL]).whole == RIGHT
    assert {made for _, made in state(store).values()} == {boot()}


def mislead(tree: Path) -> None:
    (tree / "boot").unlink()
    (tree / "boot").symlink_to("/tmp")


VIEW_DAMAGES: dict[str, Callable[[Path], object]] = {
    "configuration-without-its-bytes": lambda tree: (tree / "pyvenv.cfg").write_bytes(b""),
    "configuration-that-is-not-there": lambda tree: (tree / "pyvenv.cfg").unlink(),
    "interpreter-that-is-not-there": lambda tree: (tree / "bin/python").unlink(),
    "link-that-is-not-there": lambda tree: (tree / "boot").unlink(),
    "link-that-leads-elsewhere": mislead,
    "tree-that-is-not-there": lambda tree: tree.rename(tree.with_name("lost")),
}


@pytest.mark.parametrize("damage", VIEW_DAMAGES.values(), ids=VIEW_DAMAGES)
def test_a_damaged_view_is_linked_anew(
    enter: Enter, store: Store, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    far = launched_once(enter, write(tmp_path))
    before = state(store)
    crash(store)
    (view,) = store.names("views")
    damage(store.base / "v1/views" / view / "tree")
    assert far.run([TOOL]).whole == RIGHT
    after = state(store)
    assert after.keys() == before.keys()
    assert after.pop(f"views/{view}")[1] == boot()
    assert after == {name: (since, "durable") for name, (since, _) in before.items() if name in after}


def test_a_view_for_python_2_is_linked_anew(enter: Enter, store: Store, tmp_path: Path) -> None:
    """Its interpreter is a copy, which it is cheaper to make than to compare."""
    far = enter("bullseye", {write(tmp_path, "cp27mu"): TOOL})
    assert far.run([TOOL]).whole == RIGHT
    crash(store)
    (view,) = store.names("views")
    (store.base / "v1/views" / view / "tree/bin/python").write_bytes(b"")
    assert far.run([TOOL]).whole == RIGHT
    assert store.made("views", view) == boot()
    assert {store.made("layers", name) for name in store.names("layers")} == {"durable"}


def test_a_plan_without_its_bytes_is_made_anew(enter: Enter, store: Store, tmp_path: Path) -> None:
    far = launched_once(enter, write(tmp_path))
    (plan,) = store.names("plans")
    path = store.base / "v1/plans" / plan
    for content in (b"", bytes(path.stat().st_size)):
        path.write_bytes(content)
        assert far.run([TOOL]).whole == RIGHT
        assert path.read_bytes().startswith(b"fatpar plan 1\0")


def test_sixteen_launches_after_a_crash_repair_once(enter: Enter, store: Store, tmp_path: Path) -> None:
    """None removes what another has just made anew."""
    far = launched_once(enter, write(tmp_path))
    script = f"for i in $(seq 16); do {TOOL} > ~/out.$i 2>&1 & done; wait; cat ~/out.*"
    for _ in range(5):
        before = state(store)
        crash(store)
        damaged = layer_with(store, f"{SITE}/lib/part.py").name
        spoil(store.base / "v1/layers" / damaged / f"tree/{SITE}/lib/part.py", b"")
        assert far.run(["sh", "-c", script]).whole == (0, b"right\n" * 16, b"")
        after = state(store)
        assert {name for name in after if after[name][0] != before[name][0]} == {f"layers/{damaged}"}
        assert store.leftovers() == store.broken() == []


def test_a_launch_does_not_remove_what_another_has_made_anew(
    enter: Enter, store: Store, tmp_path: Path, user_home: Path
) -> None:
    """Both find a layer damaged; the one that is slow to move it away finds that it is not damaged any more."""
    tool = write(tmp_path)
    far, slow = launched_once(enter, tool), enter("bookworm", {tool: TOOL})
    crash(store)
    damaged = layer_with(store, f"{SITE}/lib/part.py").name
    spoil(store.base / "v1/layers" / damaged / f"tree/{SITE}/lib/part.py", b"")
    delay = "inject=renameat:delay_enter=500000:when=1"
    with watched(store.base / "v1/layers") as names, ThreadPoolExecutor() as pool:
        first = pool.submit(traced, slow, user_home, f"exec {TOOL}", "-e", delay)
        time.sleep(0.3)
        assert far.run([TOOL]).whole == RIGHT
        assert first.result()[0].whole == RIGHT
    assert names == {"begun": names["begun"], damaged: 1}


def test_a_damaged_layer_that_cannot_be_repaired_is_not_used(enter: Enter, store: Store, tmp_path: Path) -> None:
    """In a store of root: a user unpacks it into his own."""
    far = enter("bookworm", {write(tmp_path): TOOL})
    far.root(f"mkdir /var/lib/fatpar; {TOOL}")
    theirs = Store(Path(f"/proc/{far.pid}/root/var/lib/fatpar"))
    crash(theirs)
    damaged = layer_with(theirs, f"{SITE}/lib/part.py").name
    spoil(theirs.base / "v1/layers" / damaged / f"tree/{SITE}/lib/part.py", b"")
    for _ in range(2):
        assert far.run([TOOL]).whole == RIGHT
    assert store.names("layers") == [damaged]
    assert {made for _, made in state(theirs).values()} == {OTHER}
    far.root(TOOL)
    assert theirs.broken() == []
    assert theirs.made("layers", damaged) == boot()
