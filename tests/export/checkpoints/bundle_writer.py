"""A small writer of TensorFlow checkpoints, for checkpoints that must be large, or wrong in one place."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from export.checkpoints.crc32c import masked_crc32c

TYPE_NUMBERS = {"float32": 1, "float64": 2, "int32": 3, "int64": 9, "float16": 19}
HEADER = b"\x08\x01\x1a\x02\x08\x01"  # one shard, little-endian, format version 1


def write_bundle(
    prefix: Path,
    tensors: dict[str, np.ndarray],
    offsets: dict[str, int] | None = None,
    more_records: dict[str, bytes] | None = None,
) -> None:
    """``prefix``.index and its one data file; values lie at ``offsets`` (bytes, what is between them stays a hole)
    or back to back."""
    records, end = {"": HEADER, **(more_records or {})}, 0
    with Path(f"{prefix}.data-00000-of-00001").open("wb") as file:
        for name, value in sorted(tensors.items()):
            offset = end if offsets is None else offsets[name]
            file.seek(offset)
            file.write(value.tobytes())
            end = offset + value.nbytes
            records[name] = entry(
                value.shape, offset, value.nbytes, masked_crc32c(value.tobytes()), TYPE_NUMBERS[value.dtype.name]
            )
    write_index(prefix, records)


def write_index(prefix: Path, records: dict[str, bytes], records_per_block: int = 16, compression: int = 0) -> None:
    """A table of ``records`` with shared key prefixes, restarts every fourth record, and as many blocks as it takes."""
    items = sorted((name.encode("latin1"), value) for name, value in records.items())
    chunks = [items[start : start + records_per_block] for start in range(0, len(items), records_per_block)]
    write_table(Path(f"{prefix}.index"), {chunk[-1][0]: block(chunk) for chunk in chunks}, compression)


def write_table(path: Path, blocks: dict[bytes, bytes], compression: int = 0) -> None:
    """Write `table_bytes`."""
    path.write_bytes(table_bytes(blocks, compression))


def table_bytes(blocks: dict[bytes, bytes], compression: int = 0) -> bytes:
    """A LevelDB table of finished blocks, by their last keys; ``compression`` is what it claims, nothing is
    compressed."""
    data, handles = b"", []
    for last_key, contents in blocks.items():
        handles.append((last_key, varint(len(data)) + varint(len(contents))))
        data += _trailed(contents, compression)
    footer = b""
    for contents in (block([]), block(handles)):
        footer += varint(len(data)) + varint(len(contents))
        data += _trailed(contents)
    return data + footer.ljust(40, b"\0") + bytes.fromhex("57fb808b247547db")


def entry(shape: tuple[int, ...], offset: int, size: int, checksum: int, type_number: int = 1, shard: int = 0) -> bytes:
    """BundleEntryProto."""
    dimensions = b"".join(_field(2, b"\x08" + varint(dimension)) for dimension in shape)
    numbers = zip((b"\x08", b"\x18", b"\x20", b"\x28"), (type_number, shard, offset, size), strict=True)
    return (
        _field(2, dimensions)
        + b"".join(tag + varint(number) for tag, number in numbers)
        + b"\x35"
        + struct.pack("<I", checksum)
    )


def varint(number: int) -> bytes:
    """Negative numbers as their 64-bit complement."""
    number &= 2**64 - 1
    result = b""
    while number > 127:
        result += bytes([number & 127 | 128])
        number >>= 7
    return result + bytes([number])


def block(items: list[tuple[bytes, bytes]]) -> bytes:
    """One block of (key, value), without compression and checksum."""
    data, restarts, last = b"", [], b""
    for index, (key, value) in enumerate(items):
        if index % 4 == 0:
            restarts.append(len(data))
            last = b""
        shared = next((i for i, (a, b) in enumerate(zip(key, last, strict=False)) if a != b), min(len(key), len(last)))
        data += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    restarts = restarts or [0]
    return data + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def _field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def _trailed(contents: bytes, compression: int = 0) -> bytes:
    contents += bytes([compression])
    return contents + struct.pack("<I", masked_crc32c(contents))
