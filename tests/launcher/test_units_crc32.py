"""The trailer's checksum is zlib's CRC-32."""

from __future__ import annotations

import random
import zlib

import pytest
from support.native import lib

pytestmark = pytest.mark.native


def test_every_length_up_to_more_than_a_trailer() -> None:
    data = random.Random(1).randbytes(300)
    for size in range(301):
        assert lib().crc32(data, size) == zlib.crc32(data[:size]), size


def test_check_value_of_the_standard() -> None:
    assert lib().crc32(b"123456789", 9) == 0xCBF43926


def test_every_flipped_bit_of_a_trailer_is_noticed() -> None:
    data = bytearray(random.Random(2).randbytes(116))
    right = lib().crc32(bytes(data), 116)
    for bit in range(8 * 116):
        data[bit // 8] ^= 1 << bit % 8
        assert lib().crc32(bytes(data), 116) != right, bit
        data[bit // 8] ^= 1 << bit % 8
