"""The view shows what a plain copy of all layers, one over the other, would show."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.layers import SITE, Content, layer, write_tree

from packer.errors import PackError
from packer.model import Entry, EntryKind, Layer, LayerKind, Link, Platform, PythonAbi, Target
from packer.view import Conflict, links

CP39 = Target(PythonAbi("cp39", (3, 9), 25), Platform("glibc", (2, 17), "x86_64"))
CP27 = Target(PythonAbi("cp27mu", (2, 7), 18), Platform("glibc", (2, 5), "x86_64"))

Tree = dict[str, Content]


def renamed(tree: Tree, target: Target) -> list[tuple[str, Content]]:
    """A layer's paths as a view has them, in the layer's order, in which two spellings of one directory may meet."""
    python = f"lib/{target.python.directory}/"
    return [(path.replace("lib/python/", python, 1), tree[path]) for path in sorted(tree, key=os.fsencode)]


def contents(root: Path) -> Tree:
    """What a program sees below ``root``: files by their content, links followed, and the empty directories."""
    found: Tree = {}
    for place, directories, files in os.walk(root, followlinks=True):
        for name in files:
            path = Path(place, name)
            found[str(path.relative_to(root))] = path.read_text()
        if not directories and not files and Path(place) != root:
            found[str(Path(place).relative_to(root))] = None
    return found


def make(view: Path, made: tuple[Link, ...], store: Path) -> None:
    """Link a view as the launcher does: parents first, every link a new name."""
    for link in made:
        at = view / link.path
        at.parent.mkdir(parents=True, exist_ok=True)
        assert not any(parent.is_symlink() for parent in at.parents if parent.is_relative_to(view)), link.path
        at.symlink_to(os.path.relpath(store / link.layer.name / link.target, at.parent))


def shape(made: tuple[Link, ...]) -> dict[str, str]:
    return {link.path: f"{link.layer.name}:{link.target}" for link in made}


NUMPY: Tree = {
    f"{SITE}/numpy/__init__.py": "numpy",
    f"{SITE}/numpy/core/_core.so": "elf",
    f"{SITE}/numpy.libs/libblas-1.so": "blas",
    f"{SITE}/numpy-2.0.dist-info/METADATA": "Name: numpy",
    "bin/f2py": "f2py",
}


def test_what_one_layer_has_alone_is_one_link_at_the_shallowest_directory() -> None:
    made, conflicts = links([layer("numpy", NUMPY)], CP39)
    assert shape(made) == {
        "bin/f2py": "numpy:bin/f2py",
        "lib/python3.9/site-packages/numpy": f"numpy:{SITE}/numpy",
        "lib/python3.9/site-packages/numpy-2.0.dist-info": f"numpy:{SITE}/numpy-2.0.dist-info",
        "lib/python3.9/site-packages/numpy.libs": f"numpy:{SITE}/numpy.libs",
    }
    assert conflicts == ()


def test_a_namespace_package_of_two_layers_is_a_real_directory() -> None:
    first = layer("auth", {f"{SITE}/google/auth/__init__.py": "a", f"{SITE}/google/auth/x.py": "x"})
    second = layer("proto", {f"{SITE}/google/protobuf/__init__.py": "p", "share/man/man1/protoc.1": "man"})
    assert shape(links([first, second], CP39)[0]) == {
        "lib/python3.9/site-packages/google/auth": f"auth:{SITE}/google/auth",
        "lib/python3.9/site-packages/google/protobuf": f"proto:{SITE}/google/protobuf",
        "share/man": "proto:share/man",
    }


def test_a_directory_under_both_spellings_of_the_library_directory_is_real() -> None:
    """A wheel's data scheme may say ``lib/python3.9`` where its packages are in ``lib/python``."""
    odd = layer("odd", {f"{SITE}/p/a.py": "a", "lib/python3.9/site-packages/p/b.py": "b"})
    assert shape(links([odd], CP39)[0]) == {
        "lib/python3.9/site-packages/p/a.py": f"odd:{SITE}/p/a.py",
        "lib/python3.9/site-packages/p/b.py": "odd:lib/python3.9/site-packages/p/b.py",
    }


def test_python_2_links_importable_files_one_by_one_and_the_rest_by_directory() -> None:
    made, _ = links([layer("m", {f"{SITE}/m/a.py": "", f"{SITE}/m/t": None, "app/x.py": "", "share/doc/m": ""})], CP27)
    assert [link.path for link in made] == [
        "app/x.py",
        "lib/python2.7/site-packages/m/a.py",
        "lib/python2.7/site-packages/m/t",
        "share/doc",
    ]


def test_equal_files_are_no_conflict_and_different_ones_go_to_the_later_layer() -> None:
    first = layer("one", {f"{SITE}/same.py": "s", f"{SITE}/tests/__init__.py": "1", "bin/x": "1"})
    second = layer("two", {f"{SITE}/same.py": "s", f"{SITE}/tests/__init__.py": "2", "bin/x": "1"})
    made, conflicts = links([first, second], CP39)
    path = "lib/python3.9/site-packages/tests/__init__.py"
    assert conflicts == (Conflict(path, winner="two", loser="one"),)
    assert shape(made)[path] == f"two:{SITE}/tests/__init__.py"
    assert len(made) == 3


def test_a_file_that_only_one_layer_may_execute_is_a_conflict() -> None:
    plain = Entry("share/x", EntryKind.FILE, sha256=b"same")
    executable = Entry("share/x", EntryKind.EXEC, sha256=b"same")
    pair = [Layer("one", LayerKind.WHEEL, (plain,), b""), Layer("two", LayerKind.WHEEL, (executable,), b"")]
    assert links(pair, CP39)[1] == (Conflict("share/x", winner="two", loser="one"),)


@pytest.mark.parametrize("turned", [False, True], ids=["file-first", "directory-first"])
def test_a_file_against_a_directory_names_both_layers(turned: bool) -> None:
    pair = [layer("plain", {f"{SITE}/x": "file"}), layer("deep", {f"{SITE}/x/y.py": "y"})]
    with pytest.raises(PackError) as error:
        links(pair[::-1] if turned else pair, CP39)
    assert str(error.value) == (
        "plain and deep cannot share a view: lib/python3.9/site-packages/x is a file in the former"
        " and a directory in the latter"
    )


@pytest.mark.parametrize("path", ["bin", "lib", "lib/python", "lib/python3.9/site-packages", "share"])
def test_a_file_where_every_view_has_a_directory_is_refused(path: str) -> None:
    with pytest.raises(PackError, match="bad and every view cannot share a view"):
        links([layer("bad", {path: "file"})], CP39)


@pytest.mark.parametrize("path", ["bin/python", "bin/python3", "bin/python3.13t", "pyvenv.cfg", "lib64", "lib64/x.so"])
def test_what_the_launcher_makes_is_refused(path: str) -> None:
    with pytest.raises(PackError, match="the launcher makes"):
        links([layer("bad", {path: "x"})], CP39)


@pytest.mark.parametrize("path", ["bin/python-argcomplete", "bin/python3-config", "share/pyvenv.cfg", "lib64x/a"])
def test_names_that_only_look_like_the_launchers_are_linked(path: str) -> None:
    made, _ = links([layer("good", {path: "x"})], CP39)
    assert len(made) == 1
    assert path.startswith(made[0].path)


def test_links_are_in_the_order_of_bytes() -> None:
    made, _ = links([layer("m", {"bin/é": "", "bin/z": "", "bin/\udcff": "", "bin/Z": "", "bin/z-": ""})], CP39)
    assert [link.path for link in made] == ["bin/Z", "bin/z", "bin/z-", "bin/é", "bin/\udcff"]


def test_a_layers_own_links_keep_their_meaning(tmp_path: Path) -> None:
    tree: Tree = {"share/d/file": "text", "share/d/alias": "->file", "bin/tool": "->../share/d/file"}
    own = layer("own", tree, tmp_path / "store/own")
    more = layer("more", {"share/d/other": "o"}, tmp_path / "store/more")
    made, _ = links([own, more], CP39)
    make(tmp_path / "view", made, tmp_path / "store")
    assert contents(tmp_path / "view") == {
        "bin/tool": "text",
        "share/d/alias": "text",
        "share/d/file": "text",
        "share/d/other": "o",
    }


# Few names, so that layers meet; directories begin with a capital, so that a file never meets one
NAMES = st.sampled_from(["a", "b", "c", "é"])
PATHS = st.builds(
    lambda top, directories, name: "/".join([top, *directories, name]),
    st.sampled_from([SITE, "lib", "bin", "share", "include", "Etc", "app", "lib/python3.9/site-packages"]),
    st.lists(st.sampled_from(["A", "B"]), max_size=3),
    NAMES,
)
EMPTY = st.builds(lambda path: path + "/E", PATHS.map(lambda path: path.rpartition("/")[0]))
TREES = st.builds(
    lambda files, empty: {**files, **dict.fromkeys(empty)},
    st.dictionaries(PATHS, st.sampled_from(["one", "two", ""]), max_size=8),
    st.lists(EMPTY, max_size=2),
)


@settings(max_examples=150, deadline=None)
@given(trees=st.lists(TREES, min_size=1, max_size=4), target=st.sampled_from([CP39, CP27]))
def test_the_view_shows_what_a_copy_of_all_layers_shows(
    trees: list[Tree], target: Target, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("view")
    copy, view, store = place / "copy", place / "view", place / "store"
    layers = [layer(f"layer{number}", tree, store / f"layer{number}") for number, tree in enumerate(trees)]
    for tree in trees:
        write_tree(dict(renamed(tree, target)), copy)
    made, conflicts = links(layers, target)
    make(view, made, store)
    assert contents(view) == contents(copy)
    paths = [link.path.encode() for link in made]
    assert paths == sorted(set(paths))
    assert {conflict.path for conflict in conflicts} == differing(trees, target)


def differing(trees: list[Tree], target: Target) -> set[str]:
    """Paths at which a layer differs from the last one before it that has the path; judged without the view."""
    found: set[str] = set()
    seen: dict[str, Content] = {}
    for tree in trees:
        for path, text in renamed(tree, target):
            if text is not None and seen.setdefault(path, text) != text:
                found.add(path)
            seen[path] = text
    return found
