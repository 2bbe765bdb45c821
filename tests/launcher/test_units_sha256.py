"""SHA-256, with the CPU's instructions and without, is the one that Python has."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.native import ffi, lib, new, text

pytestmark = pytest.mark.native


@pytest.fixture(params=[0, 1], ids=["fast", "portable"], autouse=True)
def code(request: pytest.FixtureRequest) -> Iterator[int]:
    """Each test with each implementation; on a CPU without the instructions they are the same."""
    portable: int = request.param
    lib().sha256portable(portable)
    yield portable
    lib().sha256portable(0)


def digest(data: Any, size: int) -> bytes:
    """Of one run of bytes."""
    out = new("uint8_t[32]")
    lib().sha256(data, size, out)
    return bytes(out)


def chunked(chunks: list[bytes]) -> bytes:
    """Of a run that comes in pieces."""
    state, out = new("struct sha256 *"), new("uint8_t[32]")
    lib().sha256start(state)
    for chunk in chunks:
        lib().sha256add(state, chunk, len(chunk))
    lib().sha256end(state, out)
    return bytes(out)


def test_every_length_around_the_blocks() -> None:
    data = random.Random(1).randbytes(300)
    for size in range(301):
        assert digest(data, size) == hashlib.sha256(data[:size]).digest(), size


def test_bytes_at_any_alignment() -> None:
    buffer = ffi().from_buffer(random.Random(2).randbytes(1100))
    for offset in range(64):
        wanted = hashlib.sha256(ffi().buffer(buffer)[offset : offset + 1000]).digest()
        assert digest(buffer + offset, 1000) == wanted, offset


@given(st.lists(st.binary(max_size=200), max_size=20))
@settings(max_examples=200, deadline=None)
def test_pieces_give_the_digest_of_the_whole(chunks: list[bytes]) -> None:
    assert chunked(chunks) == hashlib.sha256(b"".join(chunks)).digest()


def test_large_input_in_random_pieces() -> None:
    generator = random.Random(3)
    data = generator.randbytes(5_000_000)
    cuts = sorted(generator.sample(range(len(data)), 500))
    pieces = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    assert chunked(pieces) == hashlib.sha256(data).digest()


def test_length_whose_bits_need_more_than_32(code: int) -> None:
    """The length in bits is part of what is hashed: 513 MiB are more than 2**32 bits."""
    if code:
        # the counting is not in the part that differs, and portable code would take seconds
        piece, times = bytes(1 << 16), 3
    else:
        piece, times = bytes(1 << 20), 513
    wanted = hashlib.sha256()
    for _ in range(times):
        wanted.update(piece)
    assert chunked([piece] * times) == wanted.digest()


@pytest.mark.parametrize("data", [b"", b"\x00\x7f\x80\xff", bytes(range(256))])
def test_hexadecimal_is_lower_case(data: bytes) -> None:
    out = new("char[]", 2 * len(data) + 1)
    lib().hexof(data, len(data), out)
    assert text(out) == data.hex()
