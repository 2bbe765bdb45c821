"""Every archive of ``vectors/`` gets the answer that its text expects: from the C reader, and from a launcher."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import sanitized, vectors
from support.native import lib, new, text
from support.vectors import PLACE, Vector

VECTORS = vectors.load()
SOUND = [vector for vector in VECTORS if vector.expectation("says") is None]
GOOD = [vector for vector in VECTORS if vector.expected == "good"]
LOST_END = "strip, objcopy and downloads that broke off take a file's end away: get it again"
REFUSALS = {"bad": "archive is damaged", "newer": "archive is newer than its reader", "foreign": "not a fatpar archive"}


def named(chosen: list[Vector]) -> pytest.MarkDecorator:
    """One test for each, by its name."""
    return pytest.mark.parametrize("vector", chosen, ids=[vector.name for vector in chosen])


def test_every_vector_is_explained_and_expects_something() -> None:
    listed = re.findall(r"^- `([a-z0-9-]+)`: \S", (PLACE / "README").read_text("utf-8"), re.MULTILINE)
    assert listed == [vector.name for vector in VECTORS]
    assert len(VECTORS) > 150
    for vector in VECTORS:
        if vector.expected == "good":
            assert vector.expectation("id"), vector.name
            assert vector.expectation("lists"), vector.name
        else:
            assert vector.expected in REFUSALS, vector.name
            assert any(vector.expectation(verb) for verb in ("says", "verify")), vector.name


# The reader -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[Any, int]]:
    """The C reader's struct and its answer."""
    archive = new("struct archive *")
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield archive, lib().archiveopen(archive, descriptor) or lib().archiveindex(archive)
    finally:
        lib().archiveclose(archive)
        os.close(descriptor)


@pytest.fixture
def built(tmp_path: Path, vector: Vector) -> Path:
    """The vector's archive behind something small that stands for a launcher."""
    (tmp_path / "work").mkdir()
    path = tmp_path / "archive"
    path.write_bytes(vectors.build(vector, tmp_path / "work"))
    return path


@pytest.mark.native
@named(VECTORS)
def test_reader_answers(built: Path, vector: Vector) -> None:
    words = {"good": "ARCHIVE_OK", "bad": "ARCHIVE_DAMAGED", "newer": "ARCHIVE_NEWER", "foreign": "ARCHIVE_FOREIGN"}
    says = vector.expectation("says")
    with opened(built) as (archive, status):
        assert text(archive.detail) == (says or "")
        assert status == getattr(lib(), "ARCHIVE_OK" if says is None else words[vector.expected])
        if says is not None:
            assert text(lib().archivedescribe(archive, status)) == f"{REFUSALS[vector.expected]}: {says}"


@pytest.mark.native
@named(SOUND)
def test_reader_checks_every_byte(built: Path, vector: Vector) -> None:
    fault = new("struct fault *")
    with opened(built) as (archive, status):
        assert status == lib().ARCHIVE_OK
        failed = lib().controlverify(archive, fault)
        assert (failed, text(fault.what)) == ((0, "") if vector in GOOD else (-1, vector.expectation("verify")))


@pytest.mark.native
@named(GOOD)
def test_archive_id_is_the_one_that_was_noted(built: Path, vector: Vector) -> None:
    """A difference is a change of the format or of what the writer writes; if it is meant, the text gets the new id."""
    with opened(built) as (archive, status):
        assert status == lib().ARCHIVE_OK
        assert bytes(archive.trailer.id).hex() == vector.expectation("id")


# The launcher ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def launcher() -> bytes:
    """The launcher with the sanitizers in it."""
    return sanitized.require(sanitized.LAUNCHER).read_bytes()


@pytest.fixture
def program(tmp_path: Path, vector: Vector, launcher: bytes) -> Iterator[Path]:
    """The vector's archive as a program called ``mytool``."""
    (tmp_path / "work").mkdir()
    path = tmp_path / "mytool"
    path.write_bytes(vectors.build(vector, tmp_path / "work", launcher))
    path.chmod(0o755)
    yield path
    # each is some megabytes, and pytest keeps the directories of three runs
    path.unlink()


def run(program: Path, word: str, *arguments: str) -> tuple[int, str, str]:
    """Status, output and messages, with a home and a store that are not there yet."""
    environment = {"HOME": f"{program.parent}/home", "FATPAR_STORE": f"{program.parent}/store", "FATPAR": word}
    done = subprocess.run(
        [program, *arguments], env=environment, cwd=program.parent, capture_output=True, timeout=60, check=False
    )
    return done.returncode, os.fsdecode(done.stdout), os.fsdecode(done.stderr)


@named([vector for vector in VECTORS if vector not in SOUND and not vector.alone])
def test_process_refuses_and_writes_nothing(program: Path, vector: Vector) -> None:
    hint = f"mytool: hint: {LOST_END}\n" if vector.expected == "foreign" else ""
    refusal = (125, "", f"mytool: {REFUSALS[vector.expected]}: {vector.expectation('says')}\n{hint}")
    assert run(program, "") == refusal
    # help is printed whatever the rest of the file is like, but not if it is no archive
    assert run(program, "extract", "there") == refusal
    assert sorted(path.name for path in program.parent.iterdir()) == ["mytool", "work"]


@named([vector for vector in SOUND if vector not in GOOD])
def test_process_finds_what_is_wrong_with_blobs(program: Path, vector: Vector) -> None:
    assert run(program, "list")[0] == 0
    assert run(program, "verify") == (125, "", f"mytool: {vector.expectation('verify')}\n")
    extract = vector.expectation("extract")
    extracted = run(program, "extract", "there")
    assert extracted == ((125, "", f"mytool: {extract}\n") if extract else (0, "", ""))
    assert (program.parent / "there").exists() == (extract is None)
    assert sorted(path.name for path in program.parent.iterdir() if path.name != "there") == ["mytool", "work"]


@named(GOOD)
def test_process_lists_verifies_and_extracts(program: Path, vector: Vector, tmp_path: Path) -> None:
    status, out, err = run(program, "list")
    first, _, rest = out.partition("\n")
    assert (status, rest, err) == (0, vector.expectation("lists"), "")
    assert re.fullmatch(rf"archive [0-9a-f]{{64}}, {program.stat().st_size} bytes", first)
    with opened(program) as (archive, _):
        counts = f"{archive.blob_count} blobs and {archive.layer_count} layers"
    assert run(program, "verify") == (0, f"{counts} are as they were packed\n", "")
    assert run(program, "extract", "there") == (0, "", "")
    for name, tree in vectors.trees(vector).items():
        assert contents(tmp_path / "there" / name) == tree, name


def contents(root: Path) -> dict[bytes, tuple[str, bytes]]:
    """What is below a directory: path -> kind of entry, bytes or target."""
    found: dict[bytes, tuple[str, bytes]] = {}
    for place, directories, files in os.walk(os.fsencode(root)):
        below = os.path.relpath(place, os.fsencode(root))
        for name in (*files, *directories):
            full, path = os.path.join(place, name), os.path.normpath(os.path.join(below, name))
            if os.path.islink(full):
                found[path] = "link", os.readlink(full)
            elif name in files:
                content = Path(os.fsdecode(full)).read_bytes()
                found[path] = "exec" if os.stat(full).st_mode & 0o111 else "file", content
        if not directories and not files:
            found[below] = "dir", b""
    return found
