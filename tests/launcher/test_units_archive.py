"""Opening and reading an archive: what the texts in ``vectors/`` cannot say."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import stat
import string
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support import vectors
from support.native import Host, Libc, Python, ffi, lib, new, text
from support.native import described as described_host

from packer import native

pytestmark = pytest.mark.native

READER = [Path(__file__).resolve().parents[2] / "launcher" / name for name in ("archive.c", "tables.c")]
PLAIN = vectors.read("good-plain")
BOOKWORM = Host(libcs=(Libc("glibc", (2, 36), ("GLIBC_2.17",)),), pythons=(Python("cp311", 0x030B02F0),))


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """The archive that most vectors start from."""
    (tmp_path / "work").mkdir()
    path = tmp_path / "archive"
    path.write_bytes(vectors.build(PLAIN, tmp_path / "work"))
    return path


@pytest.fixture
def archive() -> Iterator[Any]:
    """An empty struct, closed afterwards."""
    pointer = new("struct archive *")
    yield pointer
    lib().archiveclose(pointer)


@pytest.fixture
def descriptor(plain: Path) -> Iterator[int]:
    """The archive, open for reading and changing."""
    number = os.open(plain, os.O_RDWR | os.O_CLOEXEC)
    yield number
    os.close(number)


def described(archive: Any, status: int) -> str:
    """The sentence for a status."""
    return text(lib().archivedescribe(archive, status))


def test_trailer_and_tables_are_what_was_written(archive: Any, descriptor: int, plain: Path) -> None:
    assert lib().archiveopen(archive, descriptor) == lib().ARCHIVE_OK
    assert archive.index == ffi().NULL, "a launch that has a plan reads the trailer only"
    assert archive.file_size == plain.stat().st_size
    assert bytes(archive.trailer.id) == plain.read_bytes()[-96:-64]
    assert lib().archiveindex(archive) == lib().ARCHIVE_OK
    names = [text(lib().archivestring(archive, archive.layers[i].name)) for i in range(archive.layer_count)]
    paths = [text(lib().archivestring(archive, archive.entries[i].path)) for i in range(archive.entry_count)]
    assert names == ["modules-1.0", "app"]
    assert paths == [
        "bin/hello", *(f"lib/python/site-packages/{name}" for name in ("app.py", "app_copy.py", "empty", "link.py")),
        "boot/hello.py",
    ]  # fmt: skip
    assert archive.entries[1].value == archive.entries[2].value, "equal files are one content"
    assert bytes(ffi().buffer(archive.manifest, archive.manifest_size)) == b'{"version":1}'


def test_a_blob_is_read_as_it_is_stored(archive: Any, descriptor: int) -> None:
    assert (lib().archiveopen(archive, descriptor), lib().archiveindex(archive)) == (0, 0)
    stored = new("uint8_t[]", archive.blobs[0].stored_size)
    assert lib().archiveblob(archive, 0, stored) == lib().ARCHIVE_OK
    assert bytes(stored) == b"#!/bin/sh\necho hello\nimport app\nprint('hello')\n"


def test_a_file_that_shrinks_meanwhile_is_damaged(archive: Any, descriptor: int) -> None:
    assert lib().archiveopen(archive, descriptor) == lib().ARCHIVE_OK
    os.ftruncate(descriptor, archive.trailer.index_offset + 10)
    status = lib().archiveindex(archive)
    assert described(archive, status) == "archive is damaged: index is cut short"


def test_a_blob_that_goes_away_meanwhile_is_damaged(archive: Any, descriptor: int) -> None:
    assert (lib().archiveopen(archive, descriptor), lib().archiveindex(archive)) == (0, 0)
    stored = new("uint8_t[]", archive.blobs[0].stored_size)
    os.ftruncate(descriptor, archive.blobs[0].offset + 10)
    status = lib().archiveblob(archive, 0, stored)
    assert described(archive, status) == "archive is damaged: blob 0 is cut short"
    fault, blobs = new("struct fault *"), new("struct blobs *")
    lib().blobsopen(blobs, archive)
    assert lib().blobsget(blobs, 0, fault) == ffi().NULL
    assert (fault.status, text(fault.what)) == (lib().STATUS_LAUNCHER, "archive is damaged: blob 0 is cut short")
    lib().blobsclose(blobs)


@pytest.mark.parametrize("how", ["shorter", "longer", "other"])
def test_a_file_that_is_another_meanwhile_is_told_from_a_damaged_one(archive: Any, descriptor: int, how: str) -> None:
    """A network filesystem whose server is gone may say that a file has ended."""
    assert lib().archiveopen(archive, descriptor) == lib().ARCHIVE_OK
    assert lib().archivestill(archive) == 1
    size = archive.file_size
    if how == "other":
        os.pwrite(descriptor, b"x", size - 60)
    else:
        os.ftruncate(descriptor, size - 1 if how == "shorter" else size + 1)
    ffi().errno = 5
    assert (lib().archivestill(archive), ffi().errno) == (0, 0)


def test_what_the_system_does_not_give_is_no_damage(archive: Any, plain: Path) -> None:
    closed = os.open(plain, os.O_RDONLY)
    os.close(closed)
    status = lib().archiveopen(archive, closed)
    assert described(archive, status) == "archive cannot be read: file: Bad file descriptor"
    unreadable = os.open(plain, os.O_WRONLY)
    status = lib().archiveopen(archive, unreadable)
    os.close(unreadable)
    assert described(archive, status) == "archive cannot be read: trailer: Bad file descriptor"


def test_what_is_no_file_is_no_archive(archive: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/null")):
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        status = lib().archiveopen(archive, number)
        os.close(number)
        assert described(archive, status) == "not a fatpar archive: it is no file of at least 128 bytes", path


def test_every_launcher_alone_is_foreign(archive: Any) -> None:
    for name in ("launcher-x86_64", "launcher-aarch64"):
        number = os.open(native.data(name), os.O_RDONLY)
        assert lib().archiveopen(archive, number) == lib().ARCHIVE_FOREIGN
        os.close(number)


def test_every_refusal_of_the_reader_has_a_vector() -> None:
    """By its words in the source; the two that only a changing file can provoke are tested above."""
    source = "".join(path.read_text("utf-8") for path in READER)
    expected = [vector.expectation(verb) for vector in vectors.load() for verb in ("says", "verify")]
    says = "\n".join((one or "").removeprefix("archive is damaged: ") for one in expected)
    tables = re.findall(r'indexdamaged\(ar, "(\w+)", \w+, "([^"]+)"\)', source)
    assert len(tables) == source.count("indexdamaged(") - 1 > 25
    for table, what in tables:
        assert re.search(rf"^index: {table} \d+: {re.escape(what)}$", says, re.MULTILINE), (table, what)
    details = re.findall(r'DETAIL\(ar, "([^"]+)"', source)
    details += [f"index: {what}" for what in re.findall(r'\bdamaged\(ar, "([^"]+)"', source)]
    details += re.findall(r'snprintf\(ar->detail, sizeof\(ar->detail\), "([^"]+)"', source)
    assert len(details) > 15
    for detail in details:
        pattern = re.sub("%[a-z]", ".+", re.escape(detail))
        known = detail in ("%s is cut short", "index: %s %u: %s", "index: %s", "%s: %s")
        assert known or re.search(f"^{pattern}$", says, re.MULTILINE), detail


# Digests and kinds ----------------------------------------------------------------------------------------------

DIGESTS = {
    "trailer.id": (None, "the index's digest is wrong"),
    "trailer.front_digest": (None, "archive is damaged: the launcher has the wrong digest"),
    "blob[0].digest": ("blobs", "archive is damaged: blob 0 has the wrong digest"),
    "layer[0].digest": ("layers", "archive is damaged: layer modules-1.0 has the wrong digest"),
}


def right_digest(archive: Any, field: str) -> bytes:
    """The one that a field has in a sound archive."""
    table, _ = DIGESTS[field]
    record = getattr(archive, table)[0] if table else archive.trailer
    return bytes(record.digest if table else getattr(record, field.removeprefix("trailer.")))


@pytest.mark.parametrize("byte", [0, 3, 4, 7, 8, 15, 16, 19, 20, 30, 31])
@pytest.mark.parametrize("field", DIGESTS)
def test_no_digest_is_compared_by_a_part_of_it(
    tmp_path: Path, archive: Any, plain: Path, field: str, byte: int
) -> None:
    """One bit of a digest is another; all checksums and digests around it are right."""
    with plain.open("rb") as file:
        assert (lib().archiveopen(archive, file.fileno()), lib().archiveindex(archive)) == (0, 0)
        digest = bytearray(right_digest(archive, field))
        lib().archiveclose(archive)
    digest[byte] ^= 1
    said = f"from good-plain\nset {field} = hex:{digest.hex()}\n"
    work = tmp_path / "again"
    work.mkdir()
    plain.write_bytes(vectors.build(vectors.parse("digest", said), work))
    fault = new("struct fault *")
    with plain.open("rb") as file:
        opened = lib().archiveopen(archive, file.fileno()) or lib().archiveindex(archive)
        assert opened or lib().controlverify(archive, fault) == -1
        assert (text(archive.detail) if opened else text(fault.what)) == DIGESTS[field][1]


KINDS = [0, 5, 6, 8, 0x100, 0x10001, 0x80000001, 0xFFFFFFFF, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK]
KINDS += [stat.S_IFREG | 0o4755, stat.S_IFREG | 0o2755, stat.S_IFREG | stat.S_ISVTX, stat.S_IFDIR, stat.S_IFLNK]


@pytest.mark.parametrize("kind", KINDS, ids=hex)
def test_an_entry_is_a_file_a_program_a_link_or_a_directory(tmp_path: Path, archive: Any, kind: int) -> None:
    """Nothing an archive says becomes a device, a socket, or a mode: those are not even numbers that it has."""
    (tmp_path / "work").mkdir()
    said = vectors.parse("kind", f"from good-plain\nset entry[1].kind = {kind}\n")
    (tmp_path / "archive").write_bytes(vectors.build(said, tmp_path / "work"))
    with (tmp_path / "archive").open("rb") as file:
        status = lib().archiveopen(archive, file.fileno()) or lib().archiveindex(archive)
        assert described(archive, status) == "archive is damaged: index: entry 1: its kind is not known"


def test_what_is_extracted_has_no_mode_but_those_of_files_and_programs(
    tmp_path: Path, archive: Any, descriptor: int
) -> None:
    assert (lib().archiveopen(archive, descriptor), lib().archiveindex(archive)) == (0, 0)
    fault = new("struct fault *")
    before = os.umask(0)
    try:
        assert lib().controlextract(archive, os.fsencode(tmp_path / "there"), fault) == 0
    finally:
        os.umask(before)
    modes = {path.lstat().st_mode for path in (tmp_path / "there" / "modules-1.0").rglob("*")}
    assert modes == {stat.S_IFREG | 0o444, stat.S_IFREG | 0o555, stat.S_IFLNK | 0o777, stat.S_IFDIR | 0o755}


@pytest.mark.parametrize("name", ["", ".", "..", "../out", "/tmp/out", "a/b", "app", "n" * 256])
def test_a_layer_s_name_leads_nowhere_else(tmp_path: Path, archive: Any, name: str) -> None:
    """It is for people, but `extract` makes a directory of it; one that stands twice has no place."""
    for directory in ("work", "out"):
        (tmp_path / directory).mkdir()
    said = vectors.parse("name", f"from good-plain\nset layer[0].name = {json.dumps(name)}\n")
    (tmp_path / "archive").write_bytes(vectors.build(said, tmp_path / "work"))
    fault = new("struct fault *")
    with (tmp_path / "archive").open("rb") as file:
        assert (lib().archiveopen(archive, file.fileno()), lib().archiveindex(archive)) == (0, 0)
        assert lib().controlextract(archive, os.fsencode(tmp_path / "out" / "there"), fault) == -1
    improper = "archive is damaged: layer 0 has no proper name"
    assert text(fault.what) == ("make directory app: File exists" if name == "app" else improper)
    assert os.listdir(tmp_path / "out") == []


# Paths ----------------------------------------------------------------------------------------------------------


def is_safe(path: bytes) -> bool:
    """FORMAT.md 5.2, word by word."""
    names = path.split(b"/")
    return len(path) <= 1024 and all(name not in (b"", b".", b"..") and len(name) <= 255 for name in names)


PARTS = st.sampled_from([b"/", b".", b"..", b"a", b"a" * 255])


@given(st.one_of(st.lists(PARTS, max_size=9).map(b"".join), st.binary(max_size=20)))
@example(b"a" * 255)
@example(b"a" * 256)
@example(b"/".join([b"a" * 127] * 8))
@example(b"/".join([b"a" * 127] * 8) + b"a")
@example(b"..a/...")
def test_safe_paths_are_those_of_the_format(path: bytes) -> None:
    path = path.replace(b"\0", b"")
    assert bool(lib().pathissafe(path)) == is_safe(path)


def test_all_flipped_bits_of_an_archive_are_noticed(archive: Any, descriptor: int, plain: Path) -> None:
    """Every bit behind the launcher, and one of each of its bytes; none of them stops the reader."""
    sound = plain.read_bytes()
    start = sound.index(b"#!/bin/sh\necho hello")
    unnoticed = []
    for place in range(len(sound)):
        for bit in range(8) if place >= start else [place % 8]:
            os.pwrite(descriptor, bytes((sound[place] ^ 1 << bit,)), place)
            if is_sound(archive, descriptor):
                unnoticed.append(place)
        os.pwrite(descriptor, sound[place : place + 1], place)
    assert unnoticed == []


def is_sound(archive: Any, descriptor: int) -> bool:
    """Whether nothing is wrong with a file; the struct can be used again."""
    fault = new("struct fault *")
    try:
        opened = lib().archiveopen(archive, descriptor) or lib().archiveindex(archive)
        return not opened and lib().controlverify(archive, fault) == 0
    finally:
        lib().archiveclose(archive)


# Hostile indexes ------------------------------------------------------------------------------------------------


def use(archive: Any, directory: Path) -> None:
    """All that can be done with an archive whose index was found sound."""
    fault, selection = new("struct fault *"), new("struct selection *")
    with described_host(BOOKWORM) as host:
        lib().selectslice(selection, archive, host)
        lib().free(lib().explaintext(archive, host, selection))
        if selection.slice == lib().NONE:
            lib().free(lib().refusaltext(archive, host, selection))
    lib().controlverify(archive, fault)
    text(fault.what)
    lib().controlextract(archive, os.fsencode(directory / "there"), fault)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["good-plain", "good-slices", "good-delta-two-bases", "good-launchers"])
def test_whatever_an_index_says_nothing_is_written_elsewhere(
    tmp_path: Path, archive: Any, name: str, seed: int
) -> None:
    """With digests that are right: what a hostile packer can make, not what a bad disk does."""
    (tmp_path / "work").mkdir()
    (tmp_path / "out" / "in").mkdir(parents=True)
    sound = vectors.build(vectors.read(name), tmp_path / "work")
    raw, generator = vectors.index_of(sound), random.Random(seed)
    accepted = 0
    with (tmp_path / "archive").open("w+b") as file:
        for _ in range(400):
            file.seek(0)
            file.truncate()
            file.write(vectors.with_index(sound, vectors.mutated(raw, generator)))
            file.flush()
            status = lib().archiveopen(archive, file.fileno()) or lib().archiveindex(archive)
            assert status in (lib().ARCHIVE_OK, lib().ARCHIVE_DAMAGED, lib().ARCHIVE_NEWER)
            if status == lib().ARCHIVE_OK:
                accepted += 1
                use(archive, tmp_path / "out" / "in")
                assert os.listdir(tmp_path / "out") == ["in"]
                assert set(os.listdir(tmp_path / "out" / "in")) <= {"there"}
                shutil.rmtree(tmp_path / "out" / "in" / "there", ignore_errors=True)
            lib().archiveclose(archive)
    assert 20 < accepted < 400


def many_contents() -> str:
    """Contents, each of which goes on through all blobs."""
    return """
from good-plain
add blob data=x
repeat blob[1] 59999
add content blob=0 offset=0 size=60047
repeat content[3] 59999
"""


def deep_paths() -> str:
    """Paths of many directories, which take little room since they are the ends of a few strings."""
    generator = random.Random(1)
    strings = "\0".join(["", *("/".join(generator.choices(string.ascii_letters, k=500)) for _ in range(50)), ""])
    ends = [at for at in range(1, len(strings) - 1) if strings[at] not in "/\0" and len(path_at(strings, at)) > 40]
    ends.sort(key=lambda at: path_at(strings, at))
    entries = "\n".join(f"add entry kind=4 path={at}" for at in ends)
    return f"""
from good-plain
set strings = {json.dumps(strings)}
{entries}
set layer[0].entry_count = 0
set layer[0].size = 0
set layer[1].first_entry = 6
set layer[1].entry_count = {len(ends)}
set layer[1].size = 0
remove section[slice]
says "index: no slice or no tool"
"""


def path_at(strings: str, at: int) -> str:
    """The string with a reference."""
    return strings[at : strings.index("\0", at)]


@pytest.mark.parametrize("written", [many_contents, deep_paths])
def test_checking_takes_no_more_time_than_reading(tmp_path: Path, archive: Any, written: Callable[[], str]) -> None:
    """A few megabytes in which a reader that compares everything with everything would be lost for long."""
    (tmp_path / "work").mkdir()
    vector = vectors.parse("hostile", written())
    (tmp_path / "archive").write_bytes(vectors.build(vector, tmp_path / "work"))
    with (tmp_path / "archive").open("rb") as file:
        started = time.process_time()
        status = lib().archiveopen(archive, file.fileno()) or lib().archiveindex(archive)
        took = time.process_time() - started
    assert text(archive.detail) == (vector.expectation("says") or ""), status
    assert took < 2
