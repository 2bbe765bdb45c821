"""packer/layers.py: what is on disk becomes a layer, named by what it holds, or an error that names the file."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from support.process import tree_digest

from packer import layers
from packer.errors import PackError
from packer.model import Entry, EntryKind, Layer, LayerKind


def read(*places: tuple[Path, str]) -> Layer:
    return layers.read("app", LayerKind.APP, places)


def listing(layer: Layer) -> list[tuple[str, str]]:
    return [(entry.path, entry.kind.name.lower()) for entry in layer.entries]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "sub" / "empty").mkdir(parents=True)
    (root / "a.txt").write_text("a")
    (root / "sub-x").write_text("sorts between sub and sub/")
    (root / "sub" / "run").write_text("#!/bin/sh\n")
    (root / "sub" / "run").chmod(0o755)
    (root / "sub" / "link").symlink_to("../a.txt")
    return root


def test_files_programs_links_and_empty_directories(tree: Path) -> None:
    assert listing(read((tree, "data"))) == [
        ("data/a.txt", "file"), ("data/sub-x", "file"), ("data/sub/empty", "dir"), ("data/sub/link", "link"),
        ("data/sub/run", "exec"),
    ]  # fmt: skip
    assert [entry.size for entry in read((tree, "data")).entries] == [1, 26, 0, 0, 10]


def test_digest_is_what_the_launcher_computes_from_the_same_tree_on_disk(tree: Path) -> None:
    layer = layers.layer("x", LayerKind.APP, layers.tree(tree))
    assert layer.digest.hex() == tree_digest(tree)
    (tree / "a.txt").write_text("b")
    assert layers.layer("x", LayerKind.APP, layers.tree(tree)).digest != layer.digest


def test_files_one_by_one_are_the_same_as_their_directory(tree: Path) -> None:
    (tree / "sub" / "link").unlink()
    children = [(child, f"data/{child.name}") for child in tree.iterdir()]
    assert read(*children[1:], children[0]) == read((tree, "data"))


def test_a_link_that_is_named_is_followed(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").symlink_to("tree/a.txt")
    (tmp_path / "directory").symlink_to("tree")
    assert listing(read((tmp_path / "script.py", "app/script.py"))) == [("app/script.py", "file")]
    assert read((tmp_path / "directory", "data")) == read((tree, "data"))


@pytest.mark.parametrize("target", ["/etc/passwd", "../../outside", "../..", "sub/../../../x"])
def test_a_link_out_of_what_is_packed_is_refused(tree: Path, target: str) -> None:
    (tree / "sub" / "bad").symlink_to(target)
    with pytest.raises(PackError) as caught:
        read((tree, "app/data"))
    said = f"cannot pack {tree}/sub/bad: it is a link to {target}, which is not packed with it"
    assert str(caught.value) == said
    with pytest.raises(PackError, match="it is a link to"):
        list(layers.tree(tree))


def test_a_dangling_link_inside_stays(tree: Path) -> None:
    (tree / "sub" / "later").symlink_to("made-at-run-time")
    assert ("data/sub/later", "link") in listing(read((tree, "data")))


def test_what_is_no_file_is_refused(tree: Path) -> None:
    os.mkfifo(tree / "pipe")
    with pytest.raises(PackError, match=r"pipe: it is neither a file, a directory nor a link$"):
        read((tree, "data"))
    (tree / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tree / "socket"))
        with pytest.raises(PackError, match=r"socket: it is neither a file, a directory nor a link$"):
            read((tree, "data"))


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PackError) as caught:
        read((tmp_path / "gone", "data"))
    assert str(caught.value) == f"cannot read {tmp_path}/gone: No such file or directory"


@pytest.mark.parametrize(
    ("other", "clash"), [("data/a.txt", "data/a.txt"), ("data/a.txt/below", "data/a.txt"), ("data", "data")]
)
def test_two_things_at_one_path_are_refused(tree: Path, tmp_path: Path, other: str, clash: str) -> None:
    (tmp_path / "file").write_text("other")
    with pytest.raises(PackError, match=rf"^two files would go to {clash}: "):
        read((tree, "data"), (tmp_path / "file", other))


def test_a_path_that_the_format_has_no_room_for_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in ("/".join(["d" * 200] * 6), "n" * 256):
        with pytest.raises(PackError) as caught:
            read((tmp_path / "file", path))
        assert str(caught.value) == f"cannot pack app: the path {path} is too long or not a proper one"


def test_bytecode_is_left_out_but_not_a_module_that_is_nothing_else(tmp_path: Path) -> None:
    root = tmp_path / "package"
    (root / "__pycache__").mkdir(parents=True)
    for name in ("with.py", "with.pyc", "with.pyo", "without.pyc", "__pycache__/with.cpython-39.pyc"):
        (root / name).write_text(name)
    assert [path for path, _ in listing(read((root, "package")))] == ["package/with.py", "package/without.pyc"]


def test_paths_sort_by_their_bytes() -> None:
    names = ["\u20ac", "\U0001f600", "\udcff", "z", "a/b", "a-b", "a.b"]
    entries = [Entry(name, EntryKind.FILE, Path("x"), 0, bytes(32)) for name in names]
    ordered = layers.layer("x", LayerKind.WHEEL, entries).entries
    assert [entry.path for entry in ordered] == ["a-b", "a.b", "a/b", "z", "\u20ac", "\U0001f600", "\udcff"]


def test_digest_does_not_depend_on_order_mode_or_time(tree: Path) -> None:
    entries = list(layers.tree(tree))
    before = layers.layer("x", LayerKind.APP, entries).digest
    assert layers.layer("y", LayerKind.WHEEL, reversed(entries)).digest == before
    (tree / "a.txt").chmod(0o600)
    os.utime(tree / "a.txt", (0, 0))
    assert layers.layer("x", LayerKind.APP, layers.tree(tree)).digest == before
    (tree / "a.txt").chmod(0o700)
    assert layers.layer("x", LayerKind.APP, layers.tree(tree)).digest != before
