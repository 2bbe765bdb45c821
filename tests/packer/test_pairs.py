"""packer/pairs.py: which of many versions of a file stand for themselves, and what the others are compared with."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

import pytest
from support.layers import SITE, layer

from packer import pairs
from packer.cache import Cache
from packer.errors import PackError
from packer.model import Layer, LayerKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

HEAD = b"\x7fELF\x02\x01\x01" + bytes(11) + b"\x3e\x00"
"""What begins like a shared object for x86-64."""


def noise(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


def versions(likes: str, size: int = 60_000) -> list[bytes]:
    """Contents of which those of one letter have nine tenths in common, and those of two letters nothing."""
    return [HEAD + noise(size * 9 // 10, ord(like)) + noise(size // 10, number) for number, like in enumerate(likes)]


def modules(contents: Iterable[bytes], root: Path) -> list[list[Layer]]:
    """A module per slice."""
    return [
        [layer(f"n-1-cp3{n}", {f"a.cpython-3{n}-x86_64-linux-gnu.so": content}, root / f"{n}")]
        for n, content in enumerate(contents)
    ]


def bytecode(contents: Iterable[bytes], root: Path) -> list[list[Layer]]:
    """A wheel's source for all slices, and its bytecode for each."""
    source = layer("n-1-py3", {f"{SITE}/a.py": "pass\n" * 50}, root / "source")
    made = []
    for n, content in enumerate(contents):
        entries = layer("compiled", {f"{SITE}/a.cpython-3{n}.pyc": content}, root / f"{n}").entries
        made.append([source, Layer(f"n-1-py3 3{n}", LayerKind.BYTECODE, entries, b"", of=source, tag=f"cpython-3{n}")])
    return made


def bases(slices: Sequence[Sequence[Layer]], cache: Cache | None = None) -> list[int | None]:
    """By slice, the slice whose file is the base of its last layer's only file."""
    paired = pairs.pair(pairs.files(slices, own=()), cache)
    number = {pairs.key(one[-1].entries[0]): n for n, one in enumerate(slices)}
    assert not set(paired) & set(paired.values()), "a base is a delta"
    return [number.get(paired.get(key, (b"", 0))) for key in number]


@pytest.mark.parametrize("make", [modules, bytecode])
@pytest.mark.parametrize(
    ("likes", "expected"),
    [
        pytest.param("aaaaa", [None, 0, 0, 0, 0], id="all-alike"),
        pytest.param("aabbb", [None, 0, None, 2, 2], id="the-second-kind-has-a-base-of-its-own"),
        pytest.param("abbab", [None, None, 1, 0, 1], id="whatever-their-order"),
        pytest.param("aabbccc", [None, 0, None, 2, None, 4, 4], id="three-kinds"),
    ],
)
def test_what_has_little_in_common_with_the_first_has_another_base(
    make: type[object], likes: str, expected: list[int | None], tmp_path: Path
) -> None:
    assert bases(make(versions(likes), tmp_path)) == expected  # type: ignore[call-arg, arg-type]


def test_few_versions_of_one_release_have_the_first_as_base_unseen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs, "_size", None)
    assert bases(modules(versions("aab"), tmp_path)) == [None, 0, 0]


@pytest.mark.parametrize("make", [modules, bytecode])
def test_an_estimate_is_made_once(make: type[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slices: list[list[Layer]] = make(versions("aabbb"), tmp_path)  # type: ignore[call-arg, assignment]
    cache = Cache(tmp_path / "cache")
    first = bases(slices, cache)
    monkeypatch.setattr(pairs, "_size", None)
    assert bases(slices, cache) == first == [None, 0, None, 2, 2]


def test_large_files_are_compared_by_parts(tmp_path: Path) -> None:
    """Whose places may have moved; one part would mislead: all have the same table in the middle."""
    half, table = 2 << 20, noise(1 << 20, 99)

    def version(like: int, number: int) -> bytes:
        return HEAD + noise(100_000 + number, number) + noise(half, like) + table + noise(half, like + 1)

    likes = [50, 60, 50, 60, 60]
    contents = [version(like, number + 1) for number, like in enumerate(likes)]
    assert bases(modules(contents, tmp_path)) == [None, None, 0, 1, 1]


@pytest.mark.parametrize("content", [None, b"another"])
def test_nothing_is_kept_of_a_file_that_is_not_what_it_was(tmp_path: Path, content: bytes | None) -> None:
    slices, cache = modules(versions("aabbb"), tmp_path), Cache(tmp_path / "cache")
    source = slices[2][0].entries[0].source
    assert source
    found, before = pairs.files(slices, own=()), source.read_bytes()
    source.unlink() if content is None else source.write_bytes(content)
    with pytest.raises(PackError, match=re.escape(str(source))):
        pairs.pair(found, cache)
    source.write_bytes(before)
    assert bases(slices, cache) == [None, 0, None, 2, 2]
