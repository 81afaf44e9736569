"""The checksum against published values and its definition."""

from __future__ import annotations

import numpy as np
import pytest

from export.checkpoints.crc32c import POLYNOMIAL, ROW_WORDS, crc32c

ROW = 4 * ROW_WORDS


@pytest.mark.parametrize(
    ("data", "checksum"),
    [  # RFC 3720, B.4, and the check value of the catalogues
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_published_values(data, checksum):
    assert crc32c(data) == checksum


@pytest.mark.parametrize("size", [1, 3, ROW - 1, ROW, 2 * ROW - 1, 2 * ROW, 2 * ROW + 1, 5 * ROW + 1003])
def test_any_length_by_the_definition(size):
    data = np.random.default_rng(size).bytes(size)
    register = 0xFFFFFFFF
    for byte in data:  # one bit after the other
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (POLYNOMIAL if register & 1 else 0)
    assert crc32c(data) == register ^ 0xFFFFFFFF
    assert crc32c(memoryview(data)) == crc32c(data)
