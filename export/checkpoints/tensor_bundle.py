"""TensorFlow checkpoints ("tensor bundles", format V2) without TensorFlow.

    PREFIX.index                   a LevelDB table: name -> BundleEntryProto (type, shape, place, checksum)
    PREFIX.data-00000-of-00001     the values, back to back; a bundle may have several such shards

A table is a row of blocks and a footer that says where the index block is; the index block says where the others are.
Keys in a block are sorted and store what differs from the key before them. Formats: ``table_format.txt`` of LevelDB,
``tensor_bundle.proto`` and ``tensor_shape.proto`` of TensorFlow. Nothing in these files is ever executed.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.checkpoints.crc32c import masked_crc32c
from runtime.errors import FaceMeshError, one_line, reason
from runtime.storage.bounded_files import file_length, open_bounded, read_bounded
from runtime.storage.limits import DOCUMENT_BYTES, EXPANSION, MEMBERS, NAME_BYTES

FOOTER_BYTES = 48
MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)
COMPRESSIONS = {0: "none", 1: "Snappy"}
FORMAT_VERSION = 1
# Numbers of TensorFlow's DataType; little-endian as the files are.
TYPES = {
    1: "<f4",
    2: "<f8",
    3: "<i4",
    4: "u1",
    5: "<i2",
    6: "i1",
    9: "<i8",
    10: "?",
    17: "<u2",
    19: "<f2",
    22: "<u4",
    23: "<u8",
}
MOST_AXES = 32
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class TensorEntry:
    """The place of one tensor. ``type_number`` is TensorFlow's DataType, offset and size are bytes of the shard."""

    type_number: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int

    @property
    def type_name(self) -> str:
        """NumPy's name (float32, …), or DataType N if NumPy has no such type."""
        return np.dtype(TYPES[self.type_number]).name if self.type_number in TYPES else f"DataType {self.type_number}"


def bundle_prefix(path: Path) -> Path | None:
    """Return the prefix of a bundle for one of its files or for itself, None if it is not a bundle."""
    stem = re.sub(r"\.(index|data-\d{5}-of-\d{5})$", "", path.name)
    if stem and (stem != path.name or (not path.is_file() and index_path(path).is_file())):
        return path.with_name(stem)
    return None


def index_path(prefix: Path) -> Path:
    """The index of the bundle ``prefix``."""
    return prefix.with_name(prefix.name + ".index")


def read_index(path: Path) -> dict[str, TensorEntry]:
    """Return the tensors of a ``.index`` file by name.

    Raises `FaceMeshError` if it is missing, damaged or of another kind.
    """
    return _read_index(path)[0]


class TensorBundle(Mapping[str, NDArray]):
    """A checkpoint by its prefix: ``bundle[name]`` reads that tensor alone, and checks it."""

    def __init__(self, prefix: Path) -> None:
        self.prefix = prefix
        self.entries, self.shards = _read_index(index_path(prefix))

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, name: str) -> NDArray:
        """Return a fresh array. Raises `FaceMeshError` for missing or damaged values and for types unknown to NumPy."""
        entry = self.entries[name]
        path = self.prefix.with_name(f"{self.prefix.name}.data-{entry.shard:05}-of-{self.shards:05}")
        try:
            return _read_tensor(path, entry, self.shards)
        except FileNotFoundError:
            raise FaceMeshError(
                f"{path}: no such file; the values of {name} are in it: put it beside {index_path(self.prefix).name}"
            ) from None
        except OSError as error:
            raise FaceMeshError(f"{path}: cannot be read ({reason(error)}); the values of {name} are in it") from None
        except ValueError as error:
            problem = f"{one_line(name, 200)} cannot be read: {reason(error)}"
            raise FaceMeshError(f"{path}: {problem}; fetch the file again, or save the checkpoint again") from None


def _read_tensor(path: Path, entry: TensorEntry, shards: int) -> NDArray:
    if entry.type_number not in TYPES:
        raise ValueError(f"its type, {entry.type_name} of TensorFlow, is not supported")
    dtype = np.dtype(TYPES[entry.type_number])
    if (
        min(entry.shape, default=0) < 0
        or len(entry.shape) > MOST_AXES
        or entry.size != math.prod(entry.shape) * dtype.itemsize
    ):
        raise ValueError(f"the index says {entry.size} bytes for shape {one_line(entry.shape, 120)} of {dtype.name}")
    if not 0 <= entry.shard < shards:
        raise ValueError(f"the index places it in shard {entry.shard} of {shards}")
    with open_bounded(path) as file:
        length = file_length(file)
        if entry.offset < 0 or entry.offset + entry.size > length:
            raise ValueError(
                f"it should lie at bytes {entry.offset} to {entry.offset + entry.size}, but the file has {length}"
            )
        file.seek(entry.offset)
        data = file.read(entry.size)
    if masked_crc32c(data) != entry.checksum:
        raise ValueError("its checksum does not fit its bytes, so the file is damaged or belongs to another index")
    return np.frombuffer(data, dtype).reshape(entry.shape).astype(dtype.newbyteorder("="))


def _read_index(path: Path) -> tuple[dict[str, TensorEntry], int]:
    """Tensors by name, and the number of shards."""
    try:
        records = list(_table(read_bounded(path, DOCUMENT_BYTES)))
        if not records or records[0][0] != b"":
            raise ValueError("it has no header")
        shards = _parse_header(records[0][1])
        entries = [(key, _parse_entry(key, value)) for key, value in records[1:]]
        return {key.decode(): entry for key, entry in entries}, shards
    except FileNotFoundError:
        raise FaceMeshError(
            f"{path}: no such file; a TensorFlow checkpoint is an .index and its .data-… side by side"
        ) from None
    except OSError as error:
        raise FaceMeshError(
            f"{path}: cannot be read ({reason(error)}); give the .index of a TensorFlow checkpoint"
        ) from None
    except ValueError as error:
        problem = f"cannot be read as the index of a TensorFlow checkpoint: {reason(error)}"
        raise FaceMeshError(f"{path}: {problem}; fetch the file or save it again") from None


class _Reader:
    """A position in bytes; everything it gives out lies inside them, or it raises `ValueError`."""

    def __init__(self, data: bytes) -> None:
        self.data, self.position = data, 0

    def take(self, count: int) -> bytes:
        if count > len(self.data) - self.position:
            raise ValueError("a record ends beyond its block")
        self.position += count
        return self.data[self.position - count : self.position]

    def varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            (byte,) = self.take(1)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise ValueError("a number has more than ten bytes")

    @property
    def at_end(self) -> bool:
        return self.position == len(self.data)


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of a LevelDB table, in order.

    Blocks may not overlap, and keys may not grow beyond measure by continuing each other.
    """
    if len(data) < FOOTER_BYTES or data[-8:] != MAGIC:
        raise ValueError("the mark at its end is missing, so it is cut short or something else")
    footer = _Reader(data[-FOOTER_BYTES:])
    footer.varint(), footer.varint()  # the meta index, which bundles leave empty
    count = block_bytes = key_bytes = 0
    for _, handle in _block_records(_block(data, footer)):
        block = _block(data, _Reader(handle))
        block_bytes += len(block)
        if block_bytes > len(data):
            raise ValueError("its blocks overlap")
        for key, value in _block_records(block):
            count += 1
            key_bytes += len(key)
            excess = MEMBERS.excess(count) or EXPANSION.excess(key_bytes // len(data))
            if excess:
                raise ValueError(f"its names: {excess}")
            yield key, value


def _block(data: bytes, handle: _Reader) -> bytes:
    """Return a block by its handle (offset, size); its compression (one byte) and a checksum over both follow it."""
    offset, size = handle.varint(), handle.varint()
    end = offset + size + 1
    if end + 4 + FOOTER_BYTES > len(data):
        raise ValueError(f"a block of {size} bytes at {offset} ends beyond the file")
    if masked_crc32c(data[offset:end]) != struct.unpack_from("<I", data, end)[0]:
        raise ValueError(f"the checksum of the block at {offset} does not fit its bytes, so the file is damaged")
    if data[end - 1] != 0:
        compression = COMPRESSIONS.get(data[end - 1], f"number {data[end - 1]}")
        raise ValueError(f"its compression ({compression}) is not supported, TensorFlow's Saver uses none")
    return data[offset : end - 1]


def _block_records(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Split a block: records, then offsets of records with whole keys (4 bytes each, for searching), their number."""
    restarts = int.from_bytes(block[-4:], "little")
    if len(block) < 4 * (restarts + 1):
        raise ValueError("a block is shorter than its table of restarts")
    reader, key = _Reader(block[: len(block) - 4 * (restarts + 1)]), b""
    while not reader.at_end:
        shared, unshared, length = reader.varint(), reader.varint(), reader.varint()
        if shared > len(key):
            raise ValueError("a key continues one that is shorter")
        if excess := NAME_BYTES.excess(shared + unshared):
            raise ValueError(excess)
        key = key[:shared] + reader.take(unshared)
        yield key, reader.take(length)


def _fields(message: bytes) -> Iterator[tuple[tuple[int, int], int | bytes]]:
    """((field number, wire type), value) of a protocol buffer message; integers are signed 64 bit."""
    reader = _Reader(message)
    while not reader.at_end:
        tag = reader.varint()
        wire = tag & 7
        if wire == VARINT:
            value = reader.varint()
            value -= (value >> 63 & 1) << 64
        elif wire == BYTES:
            value = reader.take(reader.varint())
        elif wire in (FIXED32, FIXED64):
            value = int.from_bytes(reader.take(4 if wire == FIXED32 else 8), "little")
        else:
            raise ValueError(f"a message has a field of wire type {wire}")
        yield (tag >> 3, wire), value


def _parse_header(message: bytes) -> int:
    """Return the number of shards. BundleHeaderProto: num_shards 1, endianness 2, version 3 (min_consumer 2)."""
    fields = dict(_fields(message))
    if fields.get((2, VARINT), 0) != 0:
        raise ValueError("its values are big-endian, which is not supported")
    oldest = dict(_fields(fields.get((3, BYTES), b""))).get((2, VARINT), 0)
    if oldest > FORMAT_VERSION:
        raise ValueError(f"it needs a reader of format version {oldest}, this one knows {FORMAT_VERSION}")
    return fields.get((1, VARINT), 0)


def _parse_entry(key: bytes, message: bytes) -> TensorEntry:
    """Read a BundleEntryProto: dtype 1, shape 2 (dim 2, size 1), shard_id 3, offset 4, size 5, crc32c 6, slices 7."""
    fields = dict(_fields(message))
    if (7, BYTES) in fields:
        raise ValueError(
            f"{key.decode(errors='replace')!r} is saved in slices (partitioned), which is not supported: "
            "save it as one variable"
        )
    dimensions = [dict(_fields(value)) for field, value in _fields(fields.get((2, BYTES), b"")) if field == (2, BYTES)]
    return TensorEntry(
        type_number=fields.get((1, VARINT), 0),
        shape=tuple(dimension.get((1, VARINT), 0) for dimension in dimensions),
        shard=fields.get((3, VARINT), 0),
        offset=fields.get((4, VARINT), 0),
        size=fields.get((5, VARINT), 0),
        checksum=fields.get((6, FIXED32), 0),
    )
