"""MATLAB 5 files: the real numeric arrays in them, and structs of such arrays.

SciPy follows lengths of a damaged file without a check, which ends the process. Here every part lies inside the one
round it, and unpacking is bounded. Format: "MAT-File Format", MathWorks, chapter 1.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from runtime.errors import FaceMeshError, reason
from runtime.storage.bounded_files import read_bounded
from runtime.storage.limits import MEMBERS, NAME_BYTES, unpacked_bytes

Variables = dict[str, "NDArray[Any] | dict[str, NDArray[Any]]"]

_HEADER_BYTES = 128
_INT8, _INT32, _UINT32, _MATRIX, _COMPRESSED = 1, 5, 6, 14, 15
_STRUCT, _LAST_CLASS = 2, 18
# Numbers of the types of values, and of the classes of arrays, -> NumPy's type without byte order.
_VALUES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_COMPLEX, _ATTRIBUTES = 0x08, 0x0E  # complex; that, global and logical


def read_mat(path: Path) -> Variables:
    """Return the numeric variables of a MATLAB 5 file by name, those of a single struct as a dictionary.

    Text, cells, sparse and complex arrays are left out. Raises `FaceMeshError` for any other or damaged file.
    """
    try:
        return _read(read_bounded(path))
    except (OSError, ValueError) as error:
        fault = f"cannot be read as a MATLAB 5 file ({reason(error)})"
        raise FaceMeshError(f"{path}: {fault}; download it again or take it out of the folder") from None


def _read(content: bytes) -> Variables:
    mark = content[126:128]
    if len(content) < _HEADER_BYTES or mark not in (b"IM", b"MI"):
        raise ValueError("the mark in its header is missing")
    order = "<" if mark == b"IM" else ">"
    allowance = unpacked_bytes(len(content))
    variables: Variables = {}
    for kind, data in _elements(memoryview(content)[_HEADER_BYTES:], order):
        if kind == _COMPRESSED:
            unpacked = _unpack(data, allowance)
            allowance -= len(unpacked)
            ((kind, data),) = _elements(memoryview(unpacked), order)
        if kind != _MATRIX:
            raise ValueError(f"an element of type {kind} is no variable")
        name, value = _matrix(data, order, top=True)
        if value is not None:
            variables[name] = value
        if excess := MEMBERS.excess(len(variables)):
            raise ValueError(excess)
    return variables


def _unpack(data: memoryview, allowance: int) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        unpacked = unpacker.decompress(data, max(1, allowance))
    except zlib.error as error:
        raise ValueError(f"a variable cannot be unpacked: {error}") from None
    if not unpacker.eof:
        raise ValueError(f"a variable is cut off, or unpacks to more than {allowance:,} bytes")
    return unpacked


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Yield type and content of the elements in ``data``, one behind the other."""
    byte_order: Literal["little", "big"] = "little" if order == "<" else "big"
    position = 0
    while position < len(data):
        if len(data) - position < 8:
            raise ValueError("it ends within the tag of an element")
        kind = int.from_bytes(data[position : position + 4], byte_order)
        size = int.from_bytes(data[position + 4 : position + 8], byte_order)
        start = position + 8
        if kind >> 16:  # at most four bytes, in the tag itself
            kind, size, start = kind & 0xFFFF, kind >> 16, position + 4
            if size > 4:
                raise ValueError(f"a small element claims {size} bytes")
        if size > len(data) - start:
            raise ValueError(f"an element claims {size:,} bytes of {len(data) - start:,}")
        yield kind, data[start : start + size]
        end = start + size
        position = end if kind == _COMPRESSED else position + -(-(end - position) // 8) * 8


def _matrix(data: memoryview, order: str, *, top: bool) -> tuple[str, NDArray[Any] | dict[str, NDArray[Any]] | None]:
    """Return name and value of an array element; None for a kind that is not read. ``top`` lets a struct be read."""
    parts = _elements(data, order)
    flags = _values(next(parts, None), order, _UINT32)
    shape = tuple(_values(next(parts, None), order, _INT32).tolist())
    name = _values(next(parts, None), order, _INT8).tobytes().decode("ascii", "replace")
    if len(flags) != 2 or not 2 <= len(shape) <= 32 or min(shape) < 0 or NAME_BYTES.excess(len(name)):
        raise ValueError("an array has no sound header")
    number, attributes = int(flags[0]) & 0xFF, int(flags[0]) >> 8
    if not 1 <= number <= _LAST_CLASS or attributes & ~_ATTRIBUTES:
        raise ValueError(f"an array has the unknown class {number} or attributes {attributes:#x}")
    if number == _STRUCT and top and math.prod(shape) == 1:
        return name, _struct(parts, order)
    if number not in _CLASSES or attributes & _COMPLEX:
        return name, None
    values = _values(next(parts, None), order)
    if len(values) != math.prod(shape):
        raise ValueError(f"{name[:80]!r} holds {len(values)} values, its shape is {shape}")
    return name, values.astype(_CLASSES[number]).reshape(shape, order="F")


def _struct(parts: Iterator[tuple[int, memoryview]], order: str) -> dict[str, NDArray[Any]]:
    """Return the numeric fields of a struct by name."""
    length = _values(next(parts, None), order, _INT32)
    names = _values(next(parts, None), order, _INT8).tobytes()
    width = int(length[0]) if len(length) == 1 else 0
    if not 0 < width <= NAME_BYTES.value or len(names) % width:
        raise ValueError("a struct has no sound list of fields")
    fields = {}
    for start in range(0, len(names), width):
        kind, data = next(parts, (0, memoryview(b"")))
        if kind != _MATRIX:
            raise ValueError("a struct has fewer values than fields")
        value = _matrix(data, order, top=False)[1] if len(data) else None
        if isinstance(value, np.ndarray):
            fields[names[start : start + width].partition(b"\0")[0].decode("ascii", "replace")] = value
    return fields


def _values(element: tuple[int, memoryview] | None, order: str, wanted: int | None = None) -> NDArray[Any]:
    """Return the numbers of an element. Raises `ValueError` if it is missing or of another type than ``wanted``."""
    if element is None or element[0] not in _VALUES or (wanted is not None and element[0] != wanted):
        raise ValueError("a part of an array is missing or of another type")
    dtype = np.dtype(order + _VALUES[element[0]])
    if len(element[1]) % dtype.itemsize:
        raise ValueError("the values of an array are cut off")
    return np.frombuffer(element[1], dtype)
