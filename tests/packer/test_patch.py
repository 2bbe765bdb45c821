"""packer/diff.py and packer/patch.py: the patched file is the new one to the last byte, or there is none."""

from __future__ import annotations

import hashlib
import os
import random
import re
import struct
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import archives, vectors
from support.layers import SITE, write_tree

from packer import archive, diff, layers, layout, native, patch, reader, view
from packer.blobs import Level
from packer.errors import PackError, UsageError
from packer.model import LayerKind, Slice, Tool, ToolKind
from packer.progress import Quiet

if TYPE_CHECKING:
    from collections.abc import Mapping

    from support.layers import Content

FRONT = random.Random(0).randbytes(30_000)
"""Stands for a launcher."""

PLAIN: dict[str, str | bytes] = {
    **{f"pkg/m{number}.py": f"def f{number}(x):\n    return x * {number} + 1\n" * 40 for number in range(30)},
    "pkg/noise": random.Random(1).randbytes(20_000),
}


def write(
    output: Path,
    modules: Mapping[str, Content],
    *,
    front: bytes = FRONT,
    level: Level = Level.DEFAULT,
    tags: tuple[str, ...] = ("cp39",),
) -> Path:
    """An archive of modules; the last tag's slice has one more layer, whose files lie in blobs of their own."""
    with tempfile.TemporaryDirectory(dir=output.parent) as work:
        root = Path(work)
        (root / "front").write_bytes(front)
        write_tree({f"{SITE}/{path}": content for path, content in modules.items()}, root / "wheel")
        write_tree({f"{SITE}/own.py": "own = 1\n" * 50, "bin/x": "#!/bin/sh\n"}, root / "own")
        wheel = layers.layer("modules", LayerKind.WHEEL, layers.tree(root / "wheel"))
        own = layers.layer("own", LayerKind.APP, layers.tree(root / "own"))
        slices = []
        for tag in tags:
            target = archives.target(tag)
            chosen = (wheel, own) if tag == tags[-1] else (wheel,)
            slices.append(Slice(target, archives.needs(target), chosen, view.links(chosen, target)[0], ("-I",)))
        tools = [Tool("app", ToolKind.PYTHON, f"{SITE}/own.py")]
        archive.write(output, root / "front", slices, tools, {"version": 1}, lambda _: None, level=level)
    return output


def signed(path: Path, signature: bytes) -> Path:
    """The same archive with a signature block."""
    content = path.read_bytes()
    record: Any = native.ffi().new("struct trailer *")
    native.ffi().memmove(record, content[-128:], 128)
    record.signature_size = len(signature)
    checked = native.ffi().offsetof("struct trailer", "checksum")
    record.checksum = zlib.crc32(bytes(native.ffi().buffer(record))[:checked])
    path.write_bytes(content[:-128] + signature + bytes(native.ffi().buffer(record)))
    return path


def patched(old: Path, new: Path, work: Path) -> dict[str, Any]:
    """Make a patch and apply it; what ``diff`` said of it, which must be true."""
    said = diff.diff(old, new, work / "patch", Quiet())
    made = patch.apply(old, work / "patch", work / "out", Quiet())
    assert (work / "out").read_bytes() == new.read_bytes()
    assert (made.path, made.size, made.archive_id) == (work / "out", said["new_size"], said["new_id"])
    assert said["size"] == (work / "patch").stat().st_size
    assert said["copied"] + said["literal"] + said["recompressed"] == said["new_size"] == new.stat().st_size
    return said


def refusal(old: Path, changed: bytes, work: Path) -> str:
    """Why a patch is refused; nothing is left then."""
    (work / "changed").write_bytes(changed)
    with pytest.raises(PackError) as caught:
        patch.apply(old, work / "changed", work / "none", Quiet())
    assert sorted(path.name for path in work.iterdir() if path.name.startswith((".", "none"))) == []
    return str(caught.value).removeprefix(f"{work / 'changed'}: ")


def resealed(content: bytes) -> bytes:
    """A patch whose digest is right whatever it says."""
    return content[:-32] + hashlib.sha256(content[:-32]).digest()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, bytes]:
    """Two archives that differ in one line, and the patch."""
    root = tmp_path_factory.mktemp("pair")
    old, new = write(root / "old", PLAIN), write(root / "new", {**PLAIN, "pkg/m7.py": "print('changed')\n"})
    diff.diff(old, new, root / "patch", Quiet())
    return old, new, (root / "patch").read_bytes()


# The same bytes, and few of them -----------------------------------------------------------------------------------


def test_one_changed_line_takes_next_to_nothing(pair: tuple[Path, Path, bytes], tmp_path: Path) -> None:
    said = patched(*pair[:2], tmp_path)
    assert said["size"] < 1500
    assert said["literal"] == 128
    assert said["zstd"] == ".".join(map(str, zstandard.ZSTD_VERSION))


@pytest.mark.parametrize("level", Level)
@pytest.mark.parametrize("other", Level)
def test_however_the_two_were_compressed(tmp_path: Path, level: Level, other: Level) -> None:
    old = write(tmp_path / "old", PLAIN, level=level)
    new = write(tmp_path / "new", {**PLAIN, "a.py": "1"}, level=other)
    assert patched(old, new, tmp_path)["size"] < 2000


def test_nothing_changed(pair: tuple[Path, Path, bytes], tmp_path: Path) -> None:
    said = patched(pair[0], pair[0], tmp_path)
    assert (said["size"], said["copied"], said["zstd"]) == (168 + 40 + 32, said["new_size"], None)


def test_another_launcher(pair: tuple[Path, Path, bytes], tmp_path: Path) -> None:
    """Most of its bytes are those of the one before."""
    new = write(tmp_path / "new", PLAIN, front=FRONT[:9000] + b"inserted" + FRONT[9000:])
    said = patched(pair[0], new, tmp_path)
    assert said["size"] < 1000
    assert said["literal"] == 32768 + 128


def test_other_slices(pair: tuple[Path, Path, bytes], tmp_path: Path) -> None:
    """The files lie in other blobs then, and another one of NEW is like the only one of OLD."""
    new = write(tmp_path / "new", PLAIN, tags=("cp39", "cp311"))
    assert patched(pair[0], new, tmp_path)["size"] < 2500
    assert patched(new, pair[0], tmp_path)["size"] < 2500


def test_nothing_in_common(pair: tuple[Path, Path, bytes], tmp_path: Path) -> None:
    generator = random.Random(2)
    new = write(tmp_path / "new", {"other": generator.randbytes(50_000)}, front=generator.randbytes(5000))
    said = patched(pair[0], new, tmp_path)
    assert said["size"] < said["new_size"] + 500


def test_files_larger_than_a_blob(tmp_path: Path) -> None:
    """What is inserted at the front moves the end of one blob into the next."""
    noise = random.Random(3).randbytes(layout.BLOB_SIZE + 5000)
    old = write(tmp_path / "old", {"a.bin": noise, "b.py": "1"}, level=Level.FAST)
    new = write(tmp_path / "new", {"a.bin": noise[:100] + b"!" * 90_000 + noise[100:], "b.py": "2"}, level=Level.FAST)
    said = patched(old, new, tmp_path)
    assert said["size"] < 8000
    with reader.reading(new) as opened:
        assert [bool(blob.encoding) for blob in opened.records("blob")] == [False, True, False]


def test_signatures_are_copied_or_brought(pair: tuple[Path, Path, bytes], tmp_path: Path) -> None:
    plain = pair[0].read_bytes()
    for name in "ab":
        (tmp_path / name).write_bytes(plain)
        signed(tmp_path / name, name.encode() * 1000)
    assert patched(tmp_path / "a", tmp_path / "b", tmp_path)["literal"] == 1128
    assert patched(tmp_path / "a", pair[0], tmp_path)["literal"] == 128
    assert patched(pair[0], tmp_path / "a", tmp_path)["recompressed"] == 0


def test_every_sound_index_there_is(tmp_path: Path) -> None:
    """Deltas, longer records, sections and blobs that overlap or do not decode: what is not understood is brought."""
    found = {}
    for number, vector in enumerate(vectors.load()):
        (tmp_path / f"{number}").mkdir()
        path = tmp_path / f"{number}" / "archive"
        path.write_bytes(vectors.build(vector, tmp_path / f"{number}"))
        try:
            with reader.reading(path):
                found[vector.name] = path
        except PackError:
            continue
    assert {"good-delta", "good-longer-records", "bad-blob-bit", "good-no-front"} <= found.keys()
    for path in found.values():
        patched(found["good-frame"], path, tmp_path)
        patched(path, found["good-delta"], tmp_path)


TREES = st.dictionaries(
    st.sampled_from([f"p{number}.py" for number in range(6)]),
    st.one_of(st.text("abc\n", max_size=300), st.binary(max_size=300), st.just("line = 1\n" * 200)),
    min_size=1,
)


@given(TREES, TREES, st.sampled_from(Level), st.booleans(), st.sampled_from([FRONT, FRONT[:5000], b""]))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_change(old: dict[str, Content], new: dict[str, Content], level: Level, grow: bool, front: bytes) -> None:
    with tempfile.TemporaryDirectory() as work:
        root = Path(work)
        before = write(root / "old", old, tags=("cp39", "cp311"))
        after = write(root / "new", {**(old if grow else {}), **new}, level=level, front=front)
        patched(before, after, root)


# Compressing again ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", Level)
def test_the_packers_own_ways_are_known(tmp_path: Path, level: Level) -> None:
    """If this fails, the packer compresses in a new way: ``RECIPES`` needs one more, beside the older ones."""
    content = b"".join(f"{number * number}\n".encode() for number in range(120_000))
    path = write(tmp_path / "app", {"a.txt": content}, level=level)
    with reader.reading(path) as opened:
        (first, *_) = opened.records("blob")
        assert first.raw_size > 1 << 20
        stored = opened.read(first.offset, first.stored_size)
        recipe = diff.recipe_of(opened.blob(0), stored)
        assert recipe
        assert patch.RECIPES[recipe] is level
        trailer = opened.pointer.trailer
        stored = opened.read(trailer.index_offset, trailer.index_size)
        assert diff.recipe_of(opened.raw_index(), stored, index=True) == 3


def test_what_was_compressed_in_a_way_not_known_is_brought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patch, "RECIPES", {})
    old, new = write(tmp_path / "old", PLAIN), write(tmp_path / "new", {**PLAIN, "a.py": "1"})
    assert patched(old, new, tmp_path)["recompressed"] == 0


def test_another_zstd_is_named_if_it_compresses_otherwise(
    pair: tuple[Path, Path, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patch, "RECIPES", dict.fromkeys(patch.RECIPES, Level.FAST))
    assert refusal(pair[0], pair[2], tmp_path) == "patch is damaged: what it makes is not the new file"
    monkeypatch.setattr(patch, "ZSTD_VERSION", 1 << 16 | 4 << 8 | 9)
    needed = ".".join(map(str, zstandard.ZSTD_VERSION))
    assert refusal(pair[0], pair[2], tmp_path) == (
        f"{tmp_path / 'changed'} needs zstd {needed} to compress as the packer of the new file did; "
        "this packer has 1.4.9"
    )


def test_another_zstd_that_compresses_alike_will_do(
    pair: tuple[Path, Path, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patch, "ZSTD_VERSION", 1 << 16 | 4 << 8 | 9)
    (tmp_path / "patch").write_bytes(pair[2])
    patch.apply(pair[0], tmp_path / "patch", tmp_path / "out", Quiet())
    assert (tmp_path / "out").read_bytes() == pair[1].read_bytes()


# Wrong files ------------------------------------------------------------------------------------------------------


def test_another_old_file(pair: tuple[Path, Path, bytes], tmp_path: Path) -> None:
    old, new, made = pair
    other = write(tmp_path / "other", {"a.py": "1"})
    wrong = "is not the file this patch was made for"
    ids = {}
    for path in (old, new, other):
        with reader.reading(path) as opened:
            ids[path] = opened.id
    assert refusal(other, made, tmp_path) == f"{other} {wrong}: it needs archive {ids[old]}, this is {ids[other]}"
    assert refusal(new, made, tmp_path) == f"{new} {wrong}: it needs archive {ids[old]}, this is {ids[new]}"
    changed = bytearray(old.read_bytes())
    changed[40_000] ^= 1
    (tmp_path / "flipped").write_bytes(changed)
    same = "it is that archive, but with another launcher or signature, or damaged"
    assert refusal(tmp_path / "flipped", made, tmp_path) == f"{tmp_path / 'flipped'} {wrong}: {same}"
    assert refusal(tmp_path / "changed", made, tmp_path).endswith("not a fatpar archive: it does not end in a trailer")


def test_output_over_an_input(pair: tuple[Path, Path, bytes], tmp_path: Path) -> None:
    old, new, made = pair
    (tmp_path / "patch").write_bytes(made)
    (tmp_path / "link").symlink_to(old)
    for output in (old, tmp_path / "patch", tmp_path / "link"):
        with pytest.raises(UsageError, match="is both what is read and where it would be written"):
            patch.apply(old, tmp_path / "patch", output, Quiet())
    with pytest.raises(UsageError):
        diff.diff(old, new, new, Quiet())


def test_mode_is_that_of_a_program(pair: tuple[Path, Path, bytes], tmp_path: Path) -> None:
    (tmp_path / "patch").write_bytes(pair[2])
    before = os.umask(0o027)
    try:
        patch.apply(pair[0], tmp_path / "patch", tmp_path / "out", Quiet())
    finally:
        os.umask(before)
    assert (tmp_path / "out").stat().st_mode & 0o7777 == 0o750


# Wrong patches ----------------------------------------------------------------------------------------------------


def test_three_refusals(pair: tuple[Path, Path, bytes], tmp_path: Path) -> None:
    old, _, made = pair
    assert refusal(old, b"", tmp_path) == "not a fatpar patch: it does not begin as one"
    assert refusal(old, old.read_bytes(), tmp_path) == "not a fatpar patch: it does not begin as one"
    assert refusal(old, made[:100], tmp_path) == "patch is damaged: it is cut short"
    assert refusal(old, made + b"\n", tmp_path) == "patch is damaged: its digest is wrong"
    later = made[:8] + b"\2" + made[9:]
    assert refusal(old, later, tmp_path) == "patch is damaged: its digest is wrong"
    assert refusal(old, resealed(later), tmp_path) == "patch is newer than this packer: version 2; known is 1"
    with pytest.raises(PackError, match="not a fatpar patch"), patch.opened(tmp_path):
        pass


def test_every_truncation_and_every_flip(pair: tuple[Path, Path, bytes], tmp_path: Path) -> None:
    old, _, made = pair
    for size in range(len(made)):
        refusal(old, made[:size], tmp_path)
    for at in range(len(made)):
        refusal(old, made[:at] + bytes((made[at] ^ 1 << at % 8,)) + made[at + 1 :], tmp_path)


def _numbers(made: bytes) -> list[tuple[int, int]]:
    """Where the numbers of a patch are, and their sizes."""
    head = patch.Head._make(patch.HEAD.unpack_from(made))
    found = [(8, 4), (12, 4), (16, 8), (88, 8), (160, 4), (164, 4)]
    at = len(made) - 32 - head.step_count * patch.STEP.size - head.source_count * patch.SOURCE.size
    for count, sizes in ((head.step_count, (4, 4, 8, 8, 4, 4, 4, 4)), (head.source_count, (4, 4, 8, 8))):
        for size in sizes * count:
            found.append((at, size))
            at += size
    return found


@given(st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_hostile_numbers_give_an_error_or_the_right_file(
    pair: tuple[Path, Path, bytes], tmp_path: Path, data: st.DataObject
) -> None:
    old, new, made = pair
    changed = bytearray(made)
    for at, size in data.draw(st.lists(st.sampled_from(_numbers(made)), min_size=1, max_size=3)):
        top = (1 << 8 * size) - 1
        value = st.one_of(st.integers(0, 40), st.integers(0, top), st.sampled_from([top, top >> 1, 1 << 25, 1 << 31]))
        changed[at : at + size] = data.draw(value).to_bytes(size, "little")
    _error_or_new(old, new, resealed(bytes(changed)), tmp_path)


@given(st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_hostile_bytes_give_an_error_or_the_right_file(
    pair: tuple[Path, Path, bytes], tmp_path: Path, data: st.DataObject
) -> None:
    old, new, made = pair
    at = data.draw(st.integers(0, len(made) - 33))
    changed = made[:at] + data.draw(st.binary(min_size=1, max_size=4)) + made[at + 1 :]
    _error_or_new(old, new, resealed(changed), tmp_path)


def _error_or_new(old: Path, new: Path, changed: bytes, work: Path) -> None:
    (work / "changed").write_bytes(changed)
    (work / "out").unlink(missing_ok=True)
    try:
        patch.apply(old, work / "changed", work / "out", Quiet())
    except PackError:
        assert sorted(path.name for path in work.iterdir()) == ["changed"]
    else:
        assert (work / "out").read_bytes() == new.read_bytes()


def built(old: Path, steps: list[patch.Step], frames: bytes = b"", sources: list[patch.Source] | None = None) -> bytes:
    """A patch of these steps."""
    sources = sources or []
    with reader.reading(old) as opened:
        size, digest, name = old.stat().st_size, hashlib.sha256(old.read_bytes()).digest(), bytes.fromhex(opened.id)
    counts = len(steps), len(sources)
    total = sum(step.size for step in steps)
    head = patch.HEAD.pack(patch.MAGIC, 1, 0, size, digest, name, total, bytes(32), bytes(32), *counts)
    tables = [patch.STEP.pack(*step) for step in steps] + [patch.SOURCE.pack(*source) for source in sources]
    return resealed(head + frames + b"".join(tables) + bytes(32))


def test_what_a_frame_says_of_itself_is_not_believed(pair: tuple[Path, Path, bytes], tmp_path: Path) -> None:
    """A bomb is refused before there is memory for it."""
    wrong = "patch is damaged: a frame does not decode"
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 27))
    frames = {
        "larger": (bomb, 1 << 20, f"{wrong} to the size that is stated"),
        "stated": (bomb, 1 << 27, "patch is damaged: a step makes too much at once"),
        "unstated": (
            zstandard.ZstdCompressor(write_content_size=False).compress(b"x" * 9), 9,
            f"{wrong} to the size that is stated",
        ),
        "two": (zstandard.ZstdCompressor().compress(b"x") * 2, 1, wrong),
        "none": (b"x" * 20, 20, wrong),
        "empty": (b"", 0, wrong),
    }  # fmt: skip
    for frame, raw_size, said in frames.values():
        step = patch.Step(patch.MAKE, 0, raw_size, patch.HEAD.size, len(frame), raw_size)
        assert refusal(pair[0], built(pair[0], [step], frame), tmp_path) == said


def test_what_is_compressed_again_does_not_exceed_its_step(pair: tuple[Path, Path, bytes], tmp_path: Path) -> None:
    frame = zstandard.ZstdCompressor().compress(random.Random(5).randbytes(5000))
    step = patch.Step(patch.MAKE, 1, 100, patch.HEAD.size, len(frame), 5000)
    said = refusal(pair[0], built(pair[0], [step], frame), tmp_path)
    assert said == "patch is damaged: what it makes is not the new file"


def test_sources_that_are_not_there(pair: tuple[Path, Path, bytes], tmp_path: Path) -> None:
    frame = zstandard.ZstdCompressor().compress(b"x")
    size = pair[0].stat().st_size
    none = "patch is damaged: a source is none of the old file's"
    outside = "patch is damaged: a source lies outside the old file's bytes"
    for source, said in (
        (patch.Source(patch.FILE, 0, size, 1), none),
        (patch.Source(patch.BLOB, 99, 0, 1), none),
        (patch.Source(4, 0, 0, 1), none),
        (patch.Source(patch.BLOB, 0, 1 << 24, 1), outside),
        (patch.Source(patch.INDEX, 0, 1 << 40, 1), outside),
        (patch.Source(patch.INDEX, 0, 0, 1 << 26), "patch is damaged: a step's sources are too many or too large"),
    ):
        step = patch.Step(patch.MAKE, 0, 1, patch.HEAD.size, len(frame), 1, 0, 1)
        assert refusal(pair[0], built(pair[0], [step], frame, [source]), tmp_path) == said


def test_a_file_that_no_disk_holds_is_not_begun(pair: tuple[Path, Path, bytes], tmp_path: Path) -> None:
    size = pair[0].stat().st_size
    steps = [patch.Step(patch.COPY, 0, size, 0)] * (patch.MAX_FILE // size + 1)
    said = refusal(pair[0], built(pair[0], steps), tmp_path)
    assert said == "patch is damaged: a number in its head is too large"


# The document -----------------------------------------------------------------------------------------------------

DOCUMENT = (Path(__file__).resolve().parents[2] / "abi" / "PATCH.md").read_text("utf-8")


def rows(place: int) -> list[list[str]]:
    """The cells of the table behind a place in the document, without its head."""
    table = re.compile(r"\s*((?:\|.*\|\n)+)").match(DOCUMENT, place)
    assert table
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table[1].splitlines()[2:]]


RECORDS: dict[str, tuple[Any, struct.Struct]] = {
    "head": (patch.Head, patch.HEAD), "step": (patch.Step, patch.STEP), "source": (patch.Source, patch.SOURCE),
}  # fmt: skip


def test_records_are_documented() -> None:
    found = {match[1]: rows(match.end()) for match in re.finditer(r"<!-- record: (\w+) -->\n", DOCUMENT)}
    assert found.keys() == RECORDS.keys()
    for name, (fields, packed) in RECORDS.items():
        at, sizes = 0, [int(size) for _, _, size, _ in found[name]]
        assert [field for field, *_ in found[name]] == list(fields._fields)
        for (_, offset, _, _), size in zip(found[name], sizes, strict=True):
            assert (int(offset), int(offset) % min(size, 8)) == (at, 0)
            at += size
        assert at == packed.size
        words = {4: "I", 8: "Q", 32: "32s"}
        assert packed.format == "<" + "".join(
            "8s" if at == "magic" else words[int(size)] for at, _, size, _ in found[name]
        )


def test_limits_and_constants_are_documented() -> None:
    limits = {name: int(value) for name, value, _ in rows(DOCUMENT.index("<!-- limits -->") + len("<!-- limits -->"))}
    assert limits == {name: value for name, value in vars(patch).items() if name.startswith("MAX_")}
    assert limits["MAX_PREFIX"] == native.lib().MAX_PREFIX
    magic = re.search(r"\| magic \| 0 \| 8 \| `([0-9a-f ]+)` \|", DOCUMENT)
    assert magic
    assert bytes.fromhex(magic[1]) == patch.MAGIC
    assert f"\nPatch version {patch.VERSION}. " in DOCUMENT
    assert f"\n0      {patch.HEAD.size}   " in DOCUMENT


def test_recipes_are_documented() -> None:
    head = "| recipe | level | how |\n"
    found = {int(number): int(level) for number, level, _ in rows(DOCUMENT.index(head))}
    known = {number: level.value if level else archive._INDEX_LEVEL for number, level in patch.RECIPES.items()}
    assert found == known
