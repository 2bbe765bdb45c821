"""Objects of the store: put together out of sight, published whole, never changed, and swept when left behind."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.native import lib, new, text

pytestmark = pytest.mark.native

NAME, BOOT = b"0123456789abcdef", b"3d0a7b5e-boot"


@dataclass(frozen=True)
class Shelf:
    """A directory of objects."""

    path: Path
    descriptor: int

    def start(self) -> Any:
        """An object that is being made."""
        one, fault = new("struct object *"), new("struct fault *")
        assert lib().objectstart(one, self.descriptor, fault) == 0, text(fault.what)
        return one

    def publish(self, one: Any, *, writable: int = 0) -> None:
        """Make it visible."""
        fault = new("struct fault *")
        assert lib().objectpublish(one, NAME, BOOT, writable, fault) == 0, text(fault.what)

    def made(self, name: bytes = NAME) -> str:
        """What is noted of an object."""
        said = new("char[64]")
        lib().objectmade(self.descriptor, name, said)
        return text(said)

    def names(self) -> list[str]:
        """What lies in the directory."""
        return sorted(os.listdir(self.path))


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    """An empty one."""
    (tmp_path / "shelf").mkdir()
    descriptor = os.open(tmp_path / "shelf", os.O_RDONLY | os.O_DIRECTORY)
    yield Shelf(tmp_path / "shelf", descriptor)
    os.close(descriptor)


def put(one: Any, path: str, content: str) -> None:
    """Write a file into the tree as unpacking does."""
    with open(path, "x", opener=lambda name, flags: os.open(name, flags, 0o444, dir_fd=one.tree)) as file:
        file.write(content)


def parents(one: Any, path: str, before: str = "") -> None:
    fault = new("struct fault *")
    assert lib().makeparents(one.tree, path.encode(), before.encode(), fault) == 0, text(fault.what)


def test_nothing_is_seen_before_it_is_published(shelf: Shelf) -> None:
    one = shelf.start()
    assert [name.startswith(".tmp-") for name in shelf.names()] == [True]
    assert shelf.made() == ""
    parents(one, "pkg/sub/mod.py")
    put(one, "pkg/sub/mod.py", "x = 1\n")
    shelf.publish(one)
    assert shelf.names() == [NAME.decode()]
    assert shelf.made() == BOOT.decode()
    root = shelf.path / NAME.decode()
    assert (root / "tree/pkg/sub/mod.py").read_text() == "x = 1\n"
    assert sorted(os.listdir(root)) == ["made", "tree"]
    assert (one.fd, one.tree) == (-1, -1)


def test_nobody_may_add_to_a_published_tree(shelf: Shelf) -> None:
    one = shelf.start()
    parents(one, "pkg/sub/mod.py")
    shelf.publish(one)
    root = shelf.path / NAME.decode()
    found = [path for path in (root, *root.rglob("*")) if not path.is_symlink()]
    modes = {str(path.relative_to(root)): path.stat().st_mode & 0o7777 for path in found}
    assert modes == {".": 0o755, "tree": 0o555, "tree/pkg": 0o555, "tree/pkg/sub": 0o555}


def test_a_tree_that_bytecode_is_written_into_stays_the_owner_s(shelf: Shelf) -> None:
    one = shelf.start()
    parents(one, "lib/mod.py")
    shelf.publish(one, writable=1)
    assert (shelf.path / NAME.decode() / "tree/lib").stat().st_mode & 0o777 == 0o755


def test_who_comes_second_has_made_nothing(shelf: Shelf) -> None:
    first, second = shelf.start(), shelf.start()
    put(first, "who", "first")
    put(second, "who", "second")
    shelf.publish(first)
    shelf.publish(second)
    assert shelf.names() == [NAME.decode()]
    assert (shelf.path / NAME.decode() / "tree/who").read_text() == "first"


def test_what_is_given_up_leaves_nothing(shelf: Shelf) -> None:
    one = shelf.start()
    parents(one, "a/b/c/d")
    put(one, "a/b/c/d", "x")
    os.fchmod(one.tree, 0o555)
    lib().objectdiscard(one)
    assert shelf.names() == []
    assert (one.fd, one.tree) == (-1, -1)


@pytest.mark.parametrize(
    ("before", "path", "there"),
    [
        ("", "file", []),
        ("", "a/b/c", ["a", "a/b"]),
        ("a/b/c", "a/b/d", ["a", "a/b"]),
        ("a/b", "a/bc/d", ["a", "a/bc"]),
        ("a-b/c", "a/c", ["a", "a-b"]),
        ("ab/c", "a/c", ["a", "ab"]),
    ],
)
def test_directories_above_a_path(shelf: Shelf, before: str, path: str, there: list[str]) -> None:
    one = shelf.start()
    if before:
        parents(one, before)
    parents(one, path, before)
    tree = shelf.path / text(one.name) / "tree"
    assert sorted(str(found.relative_to(tree)) for found in tree.rglob("*")) == there
    lib().objectdiscard(one)


@pytest.mark.parametrize("directory", ["", "pkg", "pkg/sub/deep", "/".join("d" * 255), "n" * 255])
def test_bytecode_has_a_place_beside_the_tree(shelf: Shelf, directory: str) -> None:
    one, fault = shelf.start(), new("struct fault *")
    parents(one, f"{directory}/" if directory else "")
    for _ in range(2):
        assert lib().objectbytecode(one, directory.encode(), fault) == 0, text(fault.what)
    shelf.publish(one)
    root = shelf.path / NAME.decode()
    link = root / "tree" / directory / "__pycache__"
    assert link.is_symlink()
    assert not os.path.isabs(os.readlink(link))
    assert link.resolve() == (root / "pyc" / directory).resolve()
    (link / "mod.pyc").write_bytes(b"")


def test_what_is_noted_of_an_object_can_change(shelf: Shelf) -> None:
    shelf.publish(shelf.start())
    assert lib().objectmark(shelf.descriptor, NAME, b"durable") == 0
    assert shelf.made() == "durable"
    assert sorted(os.listdir(shelf.path / NAME.decode())) == ["made", "tree"]
    assert lib().objectmark(shelf.descriptor, b"another", b"durable") == -1


def test_a_note_that_is_too_long_is_cut(shelf: Shelf) -> None:
    (shelf.path / "strange").mkdir()
    (shelf.path / "strange" / "made").symlink_to("x" * 500)
    assert shelf.made(b"strange") == "x" * 63


def test_removing(shelf: Shelf) -> None:
    one = shelf.start()
    parents(one, "a/b/c")
    put(one, "a/b/c", "x")
    shelf.publish(one)
    assert lib().objectremove(shelf.descriptor, NAME) == 0
    assert shelf.names() == []
    assert lib().objectremove(shelf.descriptor, NAME) == 0, "it is gone, whoever removed it"


def test_removing_does_not_follow_links(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    one = shelf.start()
    os.symlink(tmp_path / "precious", "link", dir_fd=one.tree)
    shelf.publish(one)
    assert lib().objectremove(shelf.descriptor, NAME) == 0
    assert (tmp_path / "precious" / "file").exists()


def test_sweeping_takes_what_nobody_works_on(shelf: Shelf) -> None:
    """A killed launch's directory has no lock; one of a moment ago may just not have it yet."""
    working = shelf.start()
    for name in (".tmp-killed", ".tmp-moment", ".other", "published"):
        (shelf.path / name / "tree" / "pkg").mkdir(parents=True)
    old = time.time() - 120
    for name in (".tmp-killed", ".other", "published", text(working.name)):
        os.utime(shelf.path / name, (old, old))
    lib().objectsweep(shelf.descriptor)
    assert shelf.names() == sorted([".tmp-moment", ".other", "published", text(working.name)])
    lib().objectdiscard(working)


def test_an_object_is_locked_while_it_is_made(shelf: Shelf) -> None:
    one = shelf.start()
    other = os.open(shelf.path / text(one.name), os.O_RDONLY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    lib().objectdiscard(one)
    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(other)


def test_a_store_that_is_gone_is_a_fault_and_no_crash(tmp_path: Path) -> None:
    one, fault = new("struct object *"), new("struct fault *")
    (tmp_path / "gone").mkdir()
    descriptor = os.open(tmp_path / "gone", os.O_RDONLY)
    (tmp_path / "gone").rmdir()
    assert lib().objectstart(one, descriptor, fault) == -1
    assert text(fault.what) == "make directory in store: No such file or directory"
    os.close(descriptor)
