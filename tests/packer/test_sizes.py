"""packer/sizes.py, treemap.py and sizes_html.py: every byte has a place, none has two, and the page can be read."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support import archives, vectors

from packer import sizes, sizes_html, sizes_text
from packer.errors import PackError
from packer.reader import reading
from packer.sizes import Sizes, Stored, divide, measure
from packer.treemap import Rectangle, squarify

if TYPE_CHECKING:
    from collections.abc import Sequence


def written(text: str, root: Path) -> Path:
    """Write an archive that is described in text."""
    (root / "work").mkdir()
    (root / "app").write_bytes(vectors.build(vectors.parse("good-x", text), root / "work"))
    return root / "app"


def check(path: Path) -> Sizes:
    """Measure an archive; whatever it is, its sums are exact."""
    found = measure(path)
    assert found.total == path.stat().st_size == sum(asdict(found.parts).values())
    with reading(path) as archive:
        stored = sum(blob.stored_size for blob in archive.records("blob"))
    added = sum(layer.adds + layer.bytecode for layer in found.layers)
    assert added + found.other == stored
    assert added == sum(file.stored for file in found.files)
    used = [file for file in found.files if file.slices]
    assert sum(one.adds.total for one in found.slices) == sum(file.stored for file in used)
    assert found.shared == sum(file.stored for file in used if len(file.slices) > 1)
    for number, one in enumerate(found.slices):
        assert one.stored == sum(file.stored for file in used if number in file.slices)
        assert one.fetches >= one.stored >= one.adds.total
    ElementTree.fromstring(sizes_html.page("app", found))
    json.dumps(sizes_text.as_json(found))
    assert sizes_text.table(found).replace("\n", "").isprintable()
    return found


@pytest.mark.parametrize("name", [one.name for one in vectors.load() if one.expected == "good"])
def test_sums_are_exact(name: str, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "app").write_bytes(vectors.build(vectors.read(name), tmp_path / "work"))
    check(tmp_path / "app")


# Vectors --------------------------------------------------------------------------------------------------------

TWO = """
layer both-1.0-py3-none-any wheel
  file a "0123456789"
  file b "abcdefghijklmnopqrst"
layer first-1.0-cp39-cp39-any wheel
  file c "ABCDE"
  file again "0123456789"
layer second-1.0-cp311-cp311-any wheel
  file d "FGHIJKLMNO"
slice cp39 manylinux_2_17_x86_64
  layers both-1.0-py3-none-any first-1.0-cp39-cp39-any
  need python name=cp39
slice cp311 manylinux_2_17_x86_64
  layers both-1.0-py3-none-any second-1.0-cp311-cp311-any
  need python name=cp311
tool a executable a
"""
"""Three blobs: what both slices use, what the first one alone, what the second one alone."""


def test_slices_that_share_a_layer(tmp_path: Path) -> None:
    found = check(written(TWO, tmp_path))
    first, second = found.slices
    assert (first.layers, first.unpacked, first.stored, first.fetches) == (2, 45, 35, 35)
    assert (first.adds, second.adds) == (Stored(35, 0, 0, 0), Stored(10, 0, 0, 0))
    assert (second.unpacked, second.stored, second.fetches) == (40, 40, 40)
    assert (found.shared, found.delta_stored, found.delta_raw, found.other) == (30, 0, 0, 0)
    assert found.labels == ["cp39", "cp311"]
    assert [(layer.unpacked, layer.stored, layer.adds, layer.slices) for layer in found.layers] == [
        (30, 30, 30, (0, 1)), (15, 15, 5, (0,)), (10, 10, 10, (1,)),
    ]  # fmt: skip
    assert [(file.layer, file.path, file.stored, file.slices) for file in found.files] == [
        (0, "b", 20, (0, 1)), (0, "a", 10, (0, 1)), (2, "d", 10, (1,)), (1, "c", 5, (0,)),
    ]  # fmt: skip


def test_a_delta(tmp_path: Path) -> None:
    """The second slice's own blob is made from the first slice's, which it does not need otherwise."""
    third = (
        "set blob[2].stored_size = 3\nset blob[2].encoding = 1\nset blob[2].base_count = 1\nset blob[2].bases[0] = 1\n"
    )
    found = check(written(TWO + third, tmp_path))
    assert [one.adds for one in found.slices] == [Stored(35, 0, 0, 0), Stored(0, 3, 0, 0)]
    assert [one.fetches for one in found.slices] == [35, 30 + 3 + 5]
    assert (found.delta_stored, found.delta_raw) == (3, 10)
    assert [(file.path, file.stored, file.delta) for file in found.files if file.delta] == [("d", 3, 3)]


def test_bases_that_are_needed_anyway_are_fetched_once(tmp_path: Path) -> None:
    third = "set blob[2].stored_size = 3\nset blob[2].encoding = 1\nset blob[2].base_count = 2\n"
    found = check(written(f"{TWO}{third}set blob[2].bases[0] = 1\nset blob[2].bases[1] = 0\n", tmp_path))
    assert [one.fetches for one in found.slices] == [35, 38]


BYTECODE = """
layer x-1.0-py3-none-any wheel
  file x.py "0123456789"
layer code bytecode
  file x.py "0123456789"
  file x.pyc "01234567890123456789"
  file y.pyc "abc"
slice cp39 manylinux_2_17_x86_64
  need python name=cp39
tool a executable x.py
"""


def test_bytecode_is_listed_under_its_layer(tmp_path: Path) -> None:
    found = check(written(BYTECODE, tmp_path))
    (layer,) = found.layers
    assert found.unpacked == 10 + 20 + 13
    assert (layer.name, layer.unpacked, layer.adds, layer.bytecode) == ("x-1.0-py3-none-any", 10, 10, 23)
    assert found.slices[0].adds == Stored(10, 0, 23, 0)
    assert {file.path: file.bytecode for file in found.files} == {"x.pyc": True, "x.py": False, "y.pyc": True}
    assert "faint: bytecode" in sizes_html.page("app", found)


def test_bytecode_as_a_delta(tmp_path: Path) -> None:
    blob = "add blob data=zz raw_size=23 encoding=1 base_count=1 bases[0]=0\n"
    lies = "set blob[0].data = 0123456789\nset content[0].blob = 2\nset content[0].offset = 0\n"
    lies += "set content[1].blob = 2\nset content[1].offset = 20\nset content[2].blob = 0\n"
    found = check(written(f"{BYTECODE}{lies}{blob}", tmp_path))
    assert found.slices[0].adds == Stored(10, 0, 0, 2)
    assert found.slices[0].fetches == 12
    assert found.layers[0].bytecode == 2


def test_a_content_in_several_blobs(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "app").write_bytes(vectors.build(vectors.read("good-spanning"), tmp_path / "work"))
    found = check(tmp_path / "app")
    assert {file.path.rpartition("/")[2]: file.stored for file in found.files} == {
        "hello": 21, "hello.py": 11, "app.py": 15,
    }  # fmt: skip
    assert found.slices[0].fetches == 47


def test_bytes_of_no_file_are_other(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "app").write_bytes(vectors.build(vectors.read("good-unused-bytes"), tmp_path / "work"))
    found = check(tmp_path / "app")
    assert found.other == len("nobody's") + len("nobody's either")
    assert " %  stored for no file of a layer\n" in sizes_text.table(found)


def test_a_carried_interpreter_is_one_of_the_layers(tmp_path: Path) -> None:
    text = """
layer x wheel
  file x 12345
layer python interpreter
  exec bin/python3.9 1234567890
slice cp39 manylinux_2_17_x86_64
  carries python bin/python3.9
tool x executable x
"""
    (one,) = check(written(text, tmp_path)).slices
    assert (one.layers, one.unpacked, one.stored) == (2, 15, 15)


def test_slices_of_one_python_are_named_in_full(tmp_path: Path) -> None:
    text = TWO.replace("slice cp311 manylinux_2_17", "slice cp39 musllinux_1_2").replace("name=cp311", "name=cp39")
    found = check(written(text, tmp_path))
    assert found.labels == ["cp39-manylinux_2_17_x86_64", "cp39-musllinux_1_2_x86_64"]


@st.composite
def laid(draw: st.DrawFn) -> tuple[list[int], list[tuple[int, int]], list[tuple[int, int, int]]]:
    """Sizes of files; raw and stored size of each blob; where each file lies: blob, offset. Files may overlap."""
    blobs = draw(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 60)), min_size=3, max_size=6))
    whole = sum(raw for raw, _ in blobs)
    assume(whole)
    count = draw(st.integers(1, 5))
    files, places = [], []
    for number in range(count):
        start = draw(st.integers(0, whole - 1))
        files.append(draw(st.integers(1, min(whole - start, 90))))
        blob = 0
        while start >= blobs[blob][0]:
            start -= blobs[blob][0]
            blob += 1
        places.append((number, blob, start))
    return files, blobs, places


@settings(max_examples=25, deadline=None)
@given(laid(), st.lists(st.booleans(), min_size=6, max_size=6), st.sampled_from(["one", "one two"]))
def test_sums_are_exact_however_contents_lie(
    drawn: tuple[list[int], list[tuple[int, int]], list[tuple[int, int, int]]], deltas: list[bool], used: str
) -> None:
    files, blobs, places = drawn
    contents = {number: bytes([65 + number]) * size for number, size in enumerate(files)}
    lines = []
    for name, kind in (("one", "wheel"), ("two", "bytecode")):
        lines.append(f"layer {name} {kind}")
        chosen = [number for number in contents if name == "one" or number % 2]
        lines += [f'  file {number} "{contents[number].decode()}"' for number in chosen]
    for tag, layers in (("cp39", "one"), ("cp311", used)):
        lines += [f"slice {tag} manylinux_2_17_x86_64", f"  layers {layers}", f"  need python name={tag}"]
    lines.append("tool x executable 0")
    with TemporaryDirectory() as root:
        Path(root, "plain").mkdir()
        with reading(written("\n".join(lines), Path(root, "plain"))) as archive:
            sizes_there = [content.size for content in archive.records("content")]
            there = len(archive.records("blob"))
        for number, (raw, stored) in enumerate(blobs):
            data = f"hex:{'00' * stored}"
            lines.append(f"set blob[{number}].data = {data}" if number < there else f"add blob data={data}")
            lines += [f"set blob[{number}].raw_size = {raw}", f"set blob[{number}].encoding = 1"]
            if number and deltas[number] and not deltas[0]:
                lines += [f"set blob[{number}].base_count = 1", f"set blob[{number}].bases[0] = 0"]
        for number, size in enumerate(sizes_there):
            # a place that is right for one file is right for a smaller one
            _, blob, start = next(place for place in places if files[place[0]] >= size)
            lines += [f"set content[{number}].blob = {blob}", f"set content[{number}].offset = {start}"]
        Path(root, "changed").mkdir()
        check(written("\n".join(lines), Path(root, "changed")))


@given(st.integers(0, 10**12), st.lists(st.integers(0, 10**9), min_size=1).filter(any))
def test_dividing_is_exact_and_fair(total: int, weights: list[int]) -> None:
    parts = divide(total, weights)
    assert sum(parts) == total
    whole = sum(weights)
    for part, weight in zip(parts, weights, strict=True):
        assert 0 <= part - total * weight // whole <= 1
        assert weight or not part


def test_the_packers_own_archives(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    modules = {f"m{number}.py": f"X = {number}\n" * 100 for number in range(50)}
    found = check(archives.write(tmp_path / "app", tmp_path / "work", modules))
    assert len({one.stored for one in found.slices}) == 1
    assert [one.adds.total for one in found.slices[1:]] == [0] * (len(archives.PYTHONS) - 1)
    assert len(sizes_text.as_json(found)["files"]) == sizes_text.LARGEST


# Table ----------------------------------------------------------------------------------------------------------


def test_table(tmp_path: Path) -> None:
    found = check(written(TWO, tmp_path))
    table = sizes_text.table(replace(found, total=1000, parts=sizes.Parts(5, 1234567, 0, 0, 128)))
    assert table.splitlines()[:5] == [
        "          5       0.5 %  launcher and padding",
        "  1,234,567  123456.7 %  blobs",
        "        128      12.8 %  trailer",
        "      1,000     100.0 %  the file",
        "",
    ]
    assert table.splitlines()[5:] == [
        "  30  3.0 %  stored for more than one slice",
        "   0  0.0 %  stored as deltas, for 0 bytes",
        "",
        "slices, most preferred first; adds: own + delta, in no slice above; fetches: what a first launch reads",
        "  layers  unpacked  stored  adds  own  delta  bytecode  fetches  slice",
        "       2        45      35    35   35      0         0       35  cp39-manylinux_2_17_x86_64",
        "       2        40      40    10   10      0         0       40  cp311-manylinux_2_17_x86_64",
        "",
        "layers, largest first; adds: each file once; share: of the file",
        "  unpacked  stored  adds  bytecode  share  slices  layer",
        "        30      30    30         0  3.0 %  all     both-1.0-py3-none-any",
        "        10      10    10         0  1.0 %  cp311   second-1.0-cp311-cp311-any",
        "        15      15     5         0  0.5 %  cp39    first-1.0-cp39-cp39-any",
        "",
        "files with the most stored bytes; inside a blob these are an estimate",
        "  unpacked  stored  share  file  layer",
        "        20      20  2.0 %  b     both-1.0-py3-none-any",
        "        10      10  1.0 %  a     both-1.0-py3-none-any",
        "        10      10  1.0 %  d     second-1.0-cp311-cp311-any",
        "         5       5  0.5 %  c     first-1.0-cp39-cp39-any",
    ]


# Page -----------------------------------------------------------------------------------------------------------

STRANGE = """
layer "<b>&amp;\\"'x-1.0" wheel
  file "share/</title><script>alert(1)</script>" "11"
  file "share/\\u00ff\\u0007&lt;" "222"
slice cp39 manylinux_2_17_x86_64
  need python name=cp39
tool x executable x
set tool[0].target = "share"
set slice[0].name = "<i>cp39"
set layer[0].name = "<b>&amp;\\"'x-1.0"
"""


def test_every_name_is_escaped(tmp_path: Path) -> None:
    page = sizes_html.page(
        "<u>", check(written(STRANGE.replace('layer "<b>&amp;\\"\'x-1.0" wheel', "layer x wheel"), tmp_path))
    )
    tree = ElementTree.fromstring(page)
    assert {one.tag for one in tree.iter()} & {"script", "u", "b>", "img"} == set()
    texts = {line for one in tree.iter() if one.text for line in one.text.splitlines()}
    assert {
        "<u>",
        "<i>cp39",
        "<b>&amp;\"'x-1.0",
        "share/</title><script>alert(1)</script>",
        r"share/\xff\x07&lt;",
    } <= texts
    assert page.isascii()


def test_the_page_asks_for_nothing(tmp_path: Path) -> None:
    page = sizes_html.page("app", check(written(TWO, tmp_path)))
    for word in ("http:", "https:", "<script", "<link", "@import", "src="):
        assert word not in page


def test_the_page_has_the_numbers(tmp_path: Path) -> None:
    third = (
        "set blob[2].stored_size = 3\nset blob[2].encoding = 1\nset blob[2].base_count = 1\nset blob[2].bases[0] = 1\n"
    )
    found = check(written(TWO + third, tmp_path))
    tree = ElementTree.fromstring(sizes_html.page("app", found))
    bars = [[(part.get("class"), part.get("title")) for part in bar] for bar in tree.iterfind(".//div[@class='bar']")]
    assert bars == [
        [("own", "stored on its own: 35 bytes")],
        [("delta", "delta: 3 bytes"), ("before", "already in a slice above: 30 bytes")],
    ]
    titles = [title.text or "" for title in tree.iterfind(".//svg//title")]
    first = f"a\nboth-1.0-py3-none-any\n10 bytes, {100 * 10 / found.total:.1f} %\nunpacked 10, slices: all"
    assert first in titles
    assert len(tree.findall(".//rect[@class='stripes']")) == 1
    assert "striped: delta" in {one.tail for one in tree.iterfind(".//div[@class='legend']/span/i")}


def test_small_files_are_one(tmp_path: Path) -> None:
    files = "".join(f"  file f{number:03} {1000 + number}\n" for number in range(300))
    slice_and_tool = "slice cp39 manylinux_2_17_x86_64\n  need python name=cp39\ntool x executable large\n"
    found = check(written(f"layer x wheel\n  file large {'x' * 200_000}\n{files}{slice_and_tool}", tmp_path))
    tree = ElementTree.fromstring(sizes_html.page("app", found))
    names = [(title.text or "").splitlines()[0] for title in tree.iterfind(".//svg//title")]
    assert "300 smaller files" in names
    assert "f000" not in names


class TestWrite:
    def found(self, root: Path) -> tuple[Path, Sizes]:
        path = written(TWO, root)
        return path, measure(path)

    def test_a_page_that_is_there_is_replaced(self, tmp_path: Path) -> None:
        path, found = self.found(tmp_path)
        (tmp_path / "out.html").write_text("before")
        sizes_html.write(tmp_path / "out.html", path, found)
        assert (tmp_path / "out.html").read_text("utf-8") == sizes_html.page("app", found)

    @pytest.mark.parametrize("link", [False, True])
    def test_the_archive_is_not_replaced(self, tmp_path: Path, link: bool) -> None:
        path, found = self.found(tmp_path)
        output = path
        if link:
            output = tmp_path / "link"
            output.symlink_to(path)
        with pytest.raises(PackError) as caught:
            sizes_html.write(output, path, found)
        assert str(caught.value) == f"cannot write {output}: it is the archive"
        assert measure(path) == found


# Treemap --------------------------------------------------------------------------------------------------------


def overlap(one: Rectangle, other: Rectangle) -> float:
    width = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    height = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    return max(width, 0) * max(height, 0)


PLACES = st.builds(Rectangle, st.integers(0, 99), st.integers(0, 99), st.integers(1, 2000), st.integers(1, 2000))


@given(st.lists(st.integers(0, 10**6), max_size=25), PLACES)
def test_areas_are_in_proportion_and_apart(weights: list[int], place: Rectangle) -> None:
    found = squarify(weights, place)
    assert len(found) == len(weights)
    near = 1e-6 * place.area
    for weight, one in zip(weights, found, strict=True):
        assert one.area == pytest.approx(place.area * weight / (sum(weights) or 1), abs=near)
        assert overlap(one, place) == pytest.approx(one.area, abs=near)
    assert all(overlap(one, other) <= near for one, other in combinations(found, 2))


def test_the_example_of_the_paper() -> None:
    found = squarify([6, 6, 4, 3, 2, 2, 1], Rectangle(0, 0, 6, 4))
    assert [round(max(one.width / one.height, one.height / one.width), 2) for one in found] == [
        1.5, 1.5, 1.36, 1.81, 1.39, 1.39, 2.78,
    ]  # fmt: skip


def ratios(found: Sequence[Rectangle]) -> list[float]:
    return [max(one.width / one.height, one.height / one.width) for one in found]


def test_many_equal_ones_are_nearly_square() -> None:
    assert max(ratios(squarify([1] * 100, Rectangle(0, 0, 1200, 720)))) < 2
