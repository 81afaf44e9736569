"""CRC-32C (Castagnoli), the checksum of TensorFlow's checkpoints, fast enough in NumPy for tens of megabytes."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

POLYNOMIAL = 0x82F63B78  # bit-reversed, as the register runs
# a row is folded onto the next in one NumPy call; longer rows are faster to fold, but what is left goes byte by byte
ROW_WORDS = 1024


def crc32c(data: bytes | memoryview) -> int:
    """Checksum of RFC 3720, appendix B.4."""
    table = _byte_table()
    start, register = 0, 0xFFFFFFFF
    rows = len(data) // (4 * ROW_WORDS)
    if rows > 1:
        start, register = rows * 4 * ROW_WORDS, 0
        data = _fold(np.frombuffer(data, "<u4", rows * ROW_WORDS).reshape(rows, ROW_WORDS)) + bytes(data[start:])
    for byte in bytes(data):
        register = table[(register ^ byte) & 0xFF] ^ (register >> 8)
    return register ^ 0xFFFFFFFF


def masked_crc32c(data: bytes | memoryview) -> int:
    """Return the checksum as checkpoints store it, rotated and offset: data may hold checksums themselves."""
    value = crc32c(data)
    return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _fold(rows: NDArray[np.uint32]) -> bytes:
    """Fold rows (R, ROW_WORDS) into one: its register, begun at 0, ends like that of all rows, begun at all ones.

    A checksum is a remainder modulo the polynomial, and so is every word of a row carried over the length of a row: it
    may be added (exclusive or) to the word below it in the next row.
    """
    low, high = _row_tables()
    folded = rows[0].copy()
    folded[0] ^= np.uint32(0xFFFFFFFF)
    for row in rows[1:]:
        folded = low[folded & 0xFFFF] ^ high[folded >> 16] ^ row
    return folded.tobytes()


@functools.cache
def _byte_table() -> list[int]:
    table = []
    for register in range(256):
        for _ in range(8):
            register = register >> 1 ^ (POLYNOMIAL if register & 1 else 0)
        table.append(register)
    return table


@functools.cache
def _row_tables() -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Tabulate a register's low and high 16 bits, (65536,) each, after the zeros of a whole row."""
    table = np.array(_byte_table(), np.uint32)
    images = np.uint32(1) << np.arange(32, dtype=np.uint32)  # of the single bits; the rest follows by exclusive or
    for _ in range(4 * ROW_WORDS):
        images = table[images & 0xFF] ^ (images >> 8)
    halves = []
    for half in images.reshape(2, 16):
        values = np.zeros(1, np.uint32)
        for image in half:
            values = np.concatenate([values, values ^ image])
        halves.append(values)
    return halves[0], halves[1]
