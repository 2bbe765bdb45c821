"""packer/layout.py: every content lies where it is said to, once, and what looks alike is a delta against its like."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.layers import SITE, layer

from packer import layout, native, pairs
from packer.layout import BLOB_SIZE, Content
from packer.model import Entry, EntryKind, Layer, LayerKind

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from packer.layout import Draft, Layout


def noise(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


def paths(laid: Layout) -> list[list[str]]:
    return [[piece.entry.path for piece in draft.pieces] for draft in laid.drafts]


def bytes_of(draft: Draft) -> bytes:
    parts = [(piece.entry.source, piece.start, piece.size) for piece in draft.pieces]
    return b"".join(source.read_bytes()[start : start + size] for source, start, size in parts if source)


def check(laid: Layout, slices: Sequence[Sequence[Layer]]) -> None:
    """What FORMAT.md asks of blobs and contents."""
    lib = native.lib()
    raw = b"".join(map(bytes_of, laid.drafts))
    starts = [0]
    for draft in laid.drafts:
        starts.append(starts[-1] + draft.size)
    entries = [entry for one in slices for layer in one for entry in layer.entries if entry.source]
    assert set(laid.places) == {pairs.key(entry) for entry in entries}
    assert sum(draft.size for draft in laid.drafts) == layout.raw_size(slices)
    for entry in entries:
        place = laid.places[pairs.key(entry)]
        start = starts[place.blob] + place.offset
        assert hashlib.sha256(raw[start : start + place.size]).digest() == entry.sha256
    for number, draft in enumerate(laid.drafts):
        assert 0 < draft.size <= lib.MAX_BLOB == BLOB_SIZE
        assert len(draft.bases) <= lib.MAX_BASES
        assert sum(laid.drafts[base].size for base in draft.bases) <= lib.MAX_PREFIX
        assert all(base < number and not laid.drafts[base].bases for base in draft.bases)


def lay_out(slices: Sequence[Sequence[Layer]], own: Collection[bytes] = ()) -> Layout:
    laid = layout.lay_out(slices, own=own)
    check(laid, slices)
    return laid


def elf(size: int, seed: int) -> bytes:
    """What begins like a shared object for x86-64."""
    return b"\x7fELF\x02\x01\x01" + bytes(11) + b"\x3e\x00" + noise(size, seed)


def with_bytecode(one: Layer, root: Path, tag: str, code: str = "") -> Layer:
    """Bytecode of every module of a layer, as long as its source."""
    tree = {
        f"{entry.path[:-3]}.{tag}.pyc": f"{tag}{code}{entry.sha256.hex()}".encode() * 20
        for entry in one.entries
        if entry.path.endswith(".py")
    }
    made = layer(f"{one.name} {tag}", tree, root)
    return Layer(made.name, LayerKind.BYTECODE, made.entries, b"", of=one, tag=tag)


# What is shared -------------------------------------------------------------------------------------------------


def test_equal_contents_are_kept_once(tmp_path: Path) -> None:
    one = layer("one", {"a": "same", "b": "other", "bin/run": "same", "link": "->a", "dir": None}, tmp_path / "one")
    two = layer("two", {"c": "same", "d": "", "e": ""}, tmp_path / "two")
    laid = lay_out([[one], [one, two]])
    assert paths(laid) == [["a", "b"]]
    assert laid.places[hashlib.sha256(b"").digest(), 0] == Content(0, 0, 0)


def test_what_one_slice_alone_needs_lies_apart(tmp_path: Path) -> None:
    """So that a launch decodes nothing that it does not write; the first slice's blobs come first."""
    layers = {
        name: layer(name, {f"{name}.py": name * 100}, tmp_path / name) for name in ("all", "first", "second", "both")
    }
    slices = [
        [layers["first"], layers["all"]],
        [layers["all"], layers["second"], layers["both"]],
        [layers["all"], layers["both"]],
    ]
    assert paths(lay_out(slices)) == [["all.py"], ["first.py"], ["both.py"], ["second.py"]]


def test_files_of_one_kind_are_neighbours(tmp_path: Path) -> None:
    tree: dict[str, str | bytes | None] = {
        "z/a.py": "1",
        "b.txt": "2",
        "a/b.py": "3",
        "README": "4",
        "a/c.so": elf(100, 1),
        "a/b.so": elf(100, 2),
    }
    laid = lay_out([[layer("x", tree, tmp_path)]])
    assert paths(laid) == [["README", "a/b.py", "z/a.py", "b.txt"], ["a/b.so", "a/c.so"]]
    assert [draft.code for draft in laid.drafts] == [False, True]


def test_what_is_worked_on_lies_behind_the_rest(tmp_path: Path) -> None:
    app, wheel = layer("app", {"a.py": "app"}, tmp_path / "a"), layer("wheel", {"b.py": "wheel"}, tmp_path / "w")
    app = Layer(app.name, LayerKind.APP, app.entries, b"digest")
    assert paths(lay_out([[app, wheel]])) == [["a.py", "b.py"]]
    assert paths(lay_out([[app, wheel]], own={b"digest"})) == [["b.py"], ["a.py"]]


# How it is cut --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "place"),
    [
        pytest.param(BLOB_SIZE - 3, Content(0, BLOB_SIZE - 3, 3), id="ends-with-the-blob"),
        pytest.param(BLOB_SIZE - 2, Content(1, 0, 3), id="what-fits-in-a-blob-is-in-one"),
        pytest.param(BLOB_SIZE, Content(1, 0, 3), id="begins-with-the-next"),
    ],
)
def test_a_content_at_the_end_of_a_blob(tmp_path: Path, before: int, place: Content) -> None:
    one = layer("x", {"a": noise(before, 1), "b": noise(3, 2)}, tmp_path)
    assert lay_out([[one]]).places[pairs.key(one.entries[1])] == place


def test_a_file_larger_than_two_blobs(tmp_path: Path) -> None:
    laid = lay_out([[layer("x", {"a": b"small", "large": noise(2 * BLOB_SIZE + 7, 4), "z": b"after"}, tmp_path)]])
    assert [draft.size for draft in laid.drafts] == [5, BLOB_SIZE, BLOB_SIZE, 7 + 5]
    assert [place.blob for place in laid.places.values()] == [0, 1, 3]


def test_no_files_make_no_blobs(tmp_path: Path) -> None:
    laid = lay_out([[layer("x", {"dir": None, "link": "->dir"}, tmp_path)], []])
    assert (laid.drafts, laid.places) == ((), {})


# Deltas ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a/x.cpython-39-x86_64-linux-gnu.so", "a/x.cpython-310-x86_64-linux-gnu.so"),
        ("a/x.cpython-38-x86_64-linux-gnu.so", "a/x.cpython-38-x86_64-linux-musl.so"),
        ("a/x.cpython-36m-x86_64-linux-gnu.so", "a/x.abi3.so"),
        ("a/x.so", "a/x.cpython-313t-x86_64-linux-gnu.so"),
        ("a.libs/libblas-r0-0cf96a72.3.23.so", "a.libs/libblas-r0-ff6a3b21.3.23.so"),
        (f"{SITE}/n-1.0.dist-info/METADATA", f"{SITE}/n-1.1.post1.dist-info/METADATA"),
        ("same/path.py", "same/path.py"),
    ],
)
def test_versions_of_one_file_are_found(tmp_path: Path, first: str, second: str) -> None:
    one = layer("n-1-cp39", {first: elf(300, 1) if ".so" in first else "1", "z": "shared"}, tmp_path / "1")
    two = layer("n-1-cp310", {second: elf(300, 2) if ".so" in second else "2", "z": "shared"}, tmp_path / "2")
    laid = lay_out([[one], [two]])
    (delta,) = [draft for draft in laid.drafts if draft.bases]
    assert [piece.entry.path for piece in delta.pieces] == [second]
    assert first in [piece.entry.path for piece in laid.drafts[delta.bases[0]].pieces]


def test_what_has_no_like_stands_for_itself(tmp_path: Path) -> None:
    one = layer("n-1-cp39", {"x/a.py": "1"}, tmp_path / "1")
    two = layer("n-1-cp310", {"y/a.py": "2"}, tmp_path / "2")
    assert all(not draft.bases for draft in lay_out([[one], [two]]).drafts)


def test_compiled_code_of_another_release_is_a_delta_if_that_is_worth_it(tmp_path: Path) -> None:
    name, code = "a.cpython-{}-x86_64-linux-gnu.so", elf(50_000, 1)
    one = layer("n-1.0-cp39", {name.format(39): code}, tmp_path / "1")
    other = layer("n-2.0-cp310", {name.format(310): elf(50_000, 2)}, tmp_path / "2")
    like = layer("n-3.0-cp311", {name.format(311): code[:40_000] + noise(10_000, 3)}, tmp_path / "3")
    laid = lay_out([[one], [other], [like]])
    assert [draft.bases for draft in laid.drafts] == [(), (), (0,)]


def test_a_base_is_never_a_delta(tmp_path: Path) -> None:
    """The third version is compared with the first: the second is a delta itself."""
    versions = [layer(f"n-1-cp3{number}", {"a.py": f"{number}"}, tmp_path / f"{number}") for number in range(3)]
    assert [draft.bases for draft in lay_out([[one] for one in versions]).drafts] == [(), (0,), (0,)]


def test_bytecode_is_a_delta_against_other_bytecode_and_its_source_against_it(tmp_path: Path) -> None:
    one = layer("n-1-py3", {f"{SITE}/a.py": "a" * 100, f"{SITE}/b.py": "b" * 100}, tmp_path / "s")
    first = with_bytecode(one, tmp_path / "1", "cpython-39")
    second = with_bytecode(one, tmp_path / "2", "cpython-310")
    laid = lay_out([[one, first], [one, second]])
    assert [draft.bases for draft in laid.drafts] == [(), (0,), (0,)]
    assert [names[0][len(SITE) + 1 :] for names in paths(laid)] == ["a.cpython-39.pyc", "a.cpython-310.pyc", "a.py"]


def test_a_source_of_which_there_are_versions_is_their_base(tmp_path: Path) -> None:
    """Another version of a source is nearer to a source than to bytecode."""
    one, two = (layer("n-1-py3", {f"{SITE}/a.py": text * 100}, tmp_path / text) for text in ("a", "b"))
    slices = [
        [one, with_bytecode(one, tmp_path / "1", "cpython-39")],
        [two, with_bytecode(two, tmp_path / "2", "cpython-310")],
    ]
    laid = lay_out(slices)
    sources = {piece.entry.sha256: number for number, draft in enumerate(laid.drafts) for piece in draft.pieces}
    base, delta = sources[one.entries[0].sha256], sources[two.entries[0].sha256]
    assert (laid.drafts[base].bases, laid.drafts[delta].bases) == ((), (base,))


def test_deltas_keep_to_the_blobs_of_their_bases(tmp_path: Path) -> None:
    """A base of a whole blob is one prefix; a delta that takes in two would have to decode both."""
    size = BLOB_SIZE // 2
    one = layer("n-1-cp39", {f"{number}.py": noise(size, number) for number in range(4)}, tmp_path / "1")
    two = layer("n-1-cp310", {f"{number}.py": noise(size, number + 10) for number in range(4)}, tmp_path / "2")
    assert [draft.bases for draft in lay_out([[one], [two]]).drafts] == [(), (), (0,), (1,)]


def test_small_deltas_share_a_blob(tmp_path: Path) -> None:
    one = layer("n-1-cp39", {f"{number}.py": noise(BLOB_SIZE - 9, number) for number in range(4)}, tmp_path / "1")
    two = layer("n-1-cp310", {f"{number}.py": f"{number}" for number in range(4)}, tmp_path / "2")
    laid = lay_out([[one], [two]])
    assert [draft.bases for draft in laid.drafts[4:]] == [(0, 1), (2, 3)]


def test_a_delta_larger_than_a_blob(tmp_path: Path) -> None:
    one = layer("n-1-cp39", {"0": "before", "large.py": noise(2 * BLOB_SIZE + 7, 1)}, tmp_path / "1")
    two = layer("n-1-cp310", {"0": "before", "large.py": noise(3 * BLOB_SIZE, 2)}, tmp_path / "2")
    laid = lay_out([[one], [two]])
    assert [draft.bases for draft in laid.drafts] == [(), (), (), (), (1, 2), (1, 2), (2, 3)]


def test_what_is_worked_on_has_no_base_among_the_rest(tmp_path: Path) -> None:
    """Else another release of a wheel would change blobs of the app, and the reverse."""
    wheel = layer("n-1-py3", {f"{SITE}/a.py": "1"}, tmp_path / "1")
    app = Layer("app", LayerKind.APP, layer("app", {f"{SITE}/a.py": "2"}, tmp_path / "2").entries, b"own")
    assert [draft.bases for draft in lay_out([[wheel], [app]], own={b"own"}).drafts] == [(), ()]


NAMES = st.sampled_from([f"{SITE}/{name}" for name in ("a.py", "b.py", "c.txt", "d.so", "e.abi3.so")])
FILES = st.dictionaries(NAMES, st.integers(0, 5), max_size=5)


@settings(max_examples=50, deadline=None)
@given(slices=st.lists(st.lists(FILES, max_size=3), max_size=4), own=st.booleans())
def test_whatever_is_packed_keeps_to_the_format(
    slices: list[list[dict[str, int]]], own: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("files")
    contents = [b"", b"x", elf(200, 1), elf(200, 2), noise(300, 3), b"text " * 100]
    for number, content in enumerate(contents):
        (root / f"{number}").write_bytes(content)

    def made(tree: dict[str, int], name: str) -> Layer:
        entries = [
            Entry(path, EntryKind.FILE, root / f"{one}", len(contents[one]), hashlib.sha256(contents[one]).digest())
            for path, one in tree.items()
        ]
        return Layer(name, LayerKind.WHEEL, tuple(entries), b"%d" % len(entries))

    layers = [[made(tree, f"n{k}-{i}-py3") for k, tree in enumerate(one)] for i, one in enumerate(slices)]
    lay_out(layers, own={b"2"} if own else set())
