"""The tree digest is what FORMAT.md 5.2 says, and a tree on disk has the digest that the packer gave the layer."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.layers import Content, write_tree
from support.native import lib, new, text

from packer import layers
from packer.model import LayerKind

pytestmark = pytest.mark.native

Tree = Mapping[str, Content]


def defined(tree: Tree, executable: frozenset[str] = frozenset()) -> bytes:
    """The digest by the table in FORMAT.md, from a tree as :func:`support.layers.write_tree` takes it."""
    whole = hashlib.sha256()
    for path in sorted(tree, key=os.fsencode):
        content = tree[path]
        raw = os.fsencode(path) + b"\0"
        if content is None:
            whole.update(b"d" + raw)
        elif isinstance(content, str) and content.startswith("->"):
            whole.update(b"l" + raw + os.fsencode(content[2:]) + b"\0")
        else:
            data = content.encode() if isinstance(content, str) else content
            whole.update((b"x" if path in executable else b"f") + raw)
            whole.update(len(data).to_bytes(8, "little") + hashlib.sha256(data).digest())
    return whole.digest()


def packed(root: Path) -> bytes:
    """What the packer calls a layer of these files."""
    return layers.layer("any", LayerKind.WHEEL, layers.tree(root)).digest


def on_disk(root: Path) -> bytes | str:
    """What the launcher makes of a directory: its digest, or why not."""
    digest, fault = new("uint8_t[32]"), new("struct fault *")
    directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return text(fault.what) if lib().treeread(directory, digest, fault) else bytes(digest)
    finally:
        os.close(directory)


TREES: dict[str, dict[str, Content]] = {
    "nothing": {},
    "one-file": {"a": "text"},
    "empty-file": {"a": ""},
    "nested": {"a/b/c/d.py": "d", "a/b.py": "b", "a.py": "a"},
    "links": {"lib/x.so.1": b"\x7fELF", "lib/x.so": "->x.so.1", "up": "->./lib/x.so", "dangling": "->nothing/here"},
    "empty-directories": {"a": None, "b/c": None, "b/d": "d"},
    # a slash is a higher byte than those in between: the order of names is not the order of paths
    "names-around-the-slash": {"a/x": "1", "a-b/x": "2", "a.b": "3", "a b/y": "4", "a0": "5"},
    "empty-directory-before-its-siblings": {"a": None, "a-b": "1", "a.b": None, "a b": "2", "a0": "3"},
    "names-that-are-not-utf-8": {os.fsdecode(b"caf\xe9/\xff"): "1", "caf\N{LATIN SMALL LETTER E WITH ACUTE}": "2"},
    "large-file": {"a": bytes(200_000)},
}


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES.keys())
def test_disk_packer_and_definition_agree(tmp_path: Path, tree: dict[str, Content]) -> None:
    write_tree(tree, tmp_path)
    assert packed(tmp_path) == defined(tree)
    assert on_disk(tmp_path) == defined(tree)


NAMES = st.text("ab-./ 0", min_size=1, max_size=3).filter(lambda name: name not in (".", "..") and "/" not in name)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)


@given(st.dictionaries(PATHS, st.one_of(st.none(), st.just("file"), st.just("->a")), max_size=12))
@settings(max_examples=150, deadline=None)
def test_any_tree_of_awkward_names(tree: dict[str, Content]) -> None:
    above = {path for path in tree for other in tree if other.startswith(f"{path}/")}
    kept = {path: tree[path] for path in tree if path not in above}
    with tempfile.TemporaryDirectory() as root:
        write_tree(kept, Path(root))
        assert on_disk(Path(root)) == defined(kept) == packed(Path(root))


def test_who_may_execute_counts(tmp_path: Path) -> None:
    write_tree({"run": "x", "read": "x"}, tmp_path)
    (tmp_path / "run").chmod(0o555)
    assert on_disk(tmp_path) == packed(tmp_path) == defined({"run": "x", "read": "x"}, frozenset({"run"}))
    (tmp_path / "run").chmod(0o444)
    assert on_disk(tmp_path) == defined({"run": "x", "read": "x"})


def test_times_and_other_modes_do_not_count(tmp_path: Path) -> None:
    write_tree({"a": "x"}, tmp_path)
    before = on_disk(tmp_path)
    (tmp_path / "a").chmod(0o400)
    os.utime(tmp_path / "a", (1, 1))
    assert on_disk(tmp_path) == before


def test_links_to_bytecode_are_not_part_of_it(tmp_path: Path) -> None:
    tree: Tree = {"a.py": "1", "pkg/b.py": "2"}
    write_tree(tree, tmp_path)
    (tmp_path / "__pycache__").symlink_to("../pyc")
    (tmp_path / "pkg" / "__pycache__").symlink_to("../../pyc/pkg")
    assert on_disk(tmp_path) == defined(tree)


def test_directories_of_bytecode_are(tmp_path: Path) -> None:
    """Only the launcher's own link is passed over: what somebody put into a layer is a change."""
    write_tree({"a.py": "1"}, tmp_path)
    before = on_disk(tmp_path)
    write_tree({"__pycache__/a.cpython-311.pyc": b"1"}, tmp_path)
    assert on_disk(tmp_path) != before


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda root: (root / "a").write_text("y"), id="content"),
        pytest.param(lambda root: (root / "a").rename(root / "A"), id="name"),
        pytest.param(lambda root: (root / "more").mkdir(), id="empty-directory"),
        pytest.param(lambda root: (root / "d" / "b").unlink(), id="missing-file"),
        pytest.param(lambda root: ((root / "l").unlink(), (root / "l").symlink_to("b")), id="link"),
        pytest.param(lambda root: os.truncate(root / "a", 0), id="cut-by-a-crash"),
    ],
)
def test_every_change_is_noticed(tmp_path: Path, change: object) -> None:
    write_tree({"a": "x", "d/b": "b", "l": "->a"}, tmp_path)
    before = on_disk(tmp_path)
    assert callable(change)
    change(tmp_path)
    assert on_disk(tmp_path) != before


def test_what_a_layer_cannot_hold_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert on_disk(tmp_path) == "pipe is neither a file, a directory nor a link"


def test_deep_trees_do_not_run_out(tmp_path: Path) -> None:
    """As deep as a path of the greatest length can be, with the descriptors a process usually has."""
    path = "/".join("d" * 255)
    write_tree({f"{path}/file": "x"}, tmp_path)
    assert on_disk(tmp_path) == defined({f"{path}/file": "x"})
