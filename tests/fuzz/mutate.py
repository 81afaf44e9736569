"""Bytes changed at random, reproducibly: the case is given by seed and number alone."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

# Numbers that readers forget: limits of types, and lengths that wrap round.
EXTREMES = [
    struct.pack(order + form, value)
    for order in "<>"
    for form, values in {
        "B": (0, 0x7F, 0x80, 0xFF),
        "H": (0, 0x7FFF, 0x8000, 0xFFFF),
        "I": (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF),
        "Q": (0, 2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1),
        "f": (float("nan"), float("inf"), 1e38),
        "d": (float("nan"), float("inf"), 1e300),
    }.items()
    for value in values
]
TOKENS = [b"9" * 30, b"[" * 80, b"(" * 80, b"\0", b"\xff\xfe", b"-1", b"1e999", b"NaN", b"\n", b'"', b"../" * 4]


def mutated(seeds: Sequence[bytes], seed: int, number: int) -> bytes:
    """Return case ``number`` of ``seed``: one of ``seeds`` after one to five changes."""
    chance = np.random.default_rng([seed, number])
    content = bytearray(seeds[chance.integers(len(seeds))])
    for _ in range(chance.integers(1, 6)):
        _change(content, seeds, chance)
    return bytes(content)


def _change(content: bytearray, seeds: Sequence[bytes], chance: np.random.Generator) -> None:
    # Headers are where lengths are: half of the changes hit the first hundred bytes.
    reach = min(len(content), 100) if chance.random() < 0.5 else len(content)
    place = int(chance.integers(reach + 1))
    length = int(min(2 ** chance.integers(0, 9), len(content)))
    kind = chance.integers(8)
    if kind == 0 and content:
        content[min(place, len(content) - 1)] ^= 1 << int(chance.integers(8))
    elif kind == 1:
        value = EXTREMES[chance.integers(len(EXTREMES))]
        content[place : place + len(value)] = value
    elif kind == 2:
        del content[place : place + length]
    elif kind == 3:
        content[place:place] = content[place : place + length]
    elif kind == 4:
        content[place:place] = TOKENS[chance.integers(len(TOKENS))]
    elif kind == 5:
        other = seeds[chance.integers(len(seeds))]
        start = int(chance.integers(len(other) + 1))
        content[place : place + length] = other[start : start + length]
    elif kind == 6:
        content[place : place + length] = chance.bytes(length)
    else:
        del content[place + length :]
