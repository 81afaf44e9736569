"""Reading NumPy arrays and archives of them, with errors that name the file.

`numpy.load` allocates whatever a header claims. Here the claims of headers and of the archive are compared with the
bytes that the file holds, before anything is allocated.
"""

from __future__ import annotations

import io
import math
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from runtime.errors import FaceMeshError, one_line, reason
from runtime.storage.bounded_files import open_bounded, read_bounded
from runtime.storage.limits import EXPANSION, FILE_BYTES, MEMBERS, unpacked_bytes

_STORED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the methods of NumPy and PyTorch
_READ_HEADER = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_SURROGATES = [block for block in range(0xD800 >> 7, 0xE000 >> 7) if block != 0xDC80 >> 7]


def read_npz(
    path: Path, required: Sequence[str], optional: Sequence[str] = (), *, what: str
) -> dict[str, NDArray[Any]]:
    """Return the arrays ``required`` and, as far as they are there, ``optional`` of an ``.npz`` file, by name.

    ``what`` names the content in error texts ("a face model"). Pickled objects are refused. Raises `FaceMeshError` for
    a file that is missing or damaged, claims more than it holds, and for arrays that are missing.
    """
    try:
        with open_bounded(path) as file:
            arrays = read_archive(file, (*required, *optional))
    except FileNotFoundError:
        raise FaceMeshError(f"{path}: no such file; give {what} as .npz") from None
    except (OSError, ValueError) as error:
        fault = f"cannot be read as {what} in an .npz file ({reason(error)})"
        raise FaceMeshError(f"{path}: {fault}; get the file again") from None
    missing = [key for key in required if key not in arrays]
    if missing:
        raise FaceMeshError(f"{path}: lacks {', '.join(missing)}; {what} has the arrays {', '.join(required)}")
    return arrays


def read_npy(path: Path) -> NDArray[Any]:
    """Return the array of an ``.npy`` file. Raises `OSError` or `ValueError` with one line."""
    content = read_bounded(path)
    return read_array(io.BytesIO(content), len(content))


def read_archive(file: BinaryIO, keys: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
    """Return the arrays of an open .npz by name, those of ``keys`` alone if given. Raises `OSError` or `ValueError`."""
    try:
        with open_zip(file) as archive:
            members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
            names = members.keys() if keys is None else [key for key in keys if key in members]
            return {name: _read_member(archive, members[name]) for name in names}
    except (OSError, ValueError):
        raise
    except Exception as error:  # zipfile and zlib raise a dozen types for damaged archives
        raise ValueError(f"{type(error).__name__}: {one_line(error, 200)}") from None


def open_zip(file: BinaryIO) -> zipfile.ZipFile:
    """Open an archive whose members are stored or deflated and unpack to no more than their size justifies.

    Raises `ValueError`, and whatever `zipfile` raises for damaged archives.
    """
    length = file.seek(0, io.SEEK_END)
    archive = zipfile.ZipFile(file)
    members = archive.infolist()
    unpacked = sum(member.file_size for member in members)
    if excess := MEMBERS.excess(len(members)):
        raise ValueError(excess)
    if unpacked > unpacked_bytes(length):
        limits = f"{FILE_BYTES.variable} and {EXPANSION.variable} are the limits"
        raise ValueError(f"its {length:,} bytes would unpack to {unpacked:,}; {limits}")
    for member in members:
        if member.compress_type not in _STORED:
            raise ValueError(f"{member.filename[:200]!r} is compressed by method {member.compress_type}, not deflate")
        if member.compress_type == zipfile.ZIP_STORED and member.file_size != member.compress_size:
            raise ValueError(f"{member.filename[:200]!r} has two sizes")
        if member.compress_size > length:
            raise ValueError(f"{member.filename[:200]!r} claims {member.compress_size:,} bytes of a file of {length:,}")
    return archive


def read_array(file: IO[bytes], length: int) -> NDArray[Any]:
    """Return the array of an open .npy of ``length`` bytes. Raises `ValueError` for anything else."""
    try:
        version = np.lib.format.read_magic(file)
        if version not in _READ_HEADER:
            raise ValueError(f"its format version is {version[0]}.{version[1]}")
        shape, by_column, dtype = _READ_HEADER[version](file)
    except Exception as error:  # the header is a Python expression, and its parser raises a dozen types
        raise ValueError(f"no header of an array ({type(error).__name__}: {one_line(error, 120)})") from None
    if dtype.kind not in "biufU":
        raise ValueError(f"it holds {one_line(dtype, 120)}, neither numbers nor text")
    if len(shape) > 32 or not all(type(side) is int and 0 <= side <= sys.maxsize for side in shape):
        raise ValueError(f"no shape of an array: {one_line(shape, 120)}")
    claimed, held = math.prod(shape) * dtype.itemsize, length - file.tell()
    if claimed > held or dtype.itemsize == 0:
        raise ValueError(f"the shape {one_line(shape, 120)} of {dtype} does not fit the {held:,} bytes of its values")
    values = bytearray(claimed)
    view = memoryview(values)
    done = 0
    while done < claimed:
        count = cast(io.BufferedIOBase, file).readinto(view[done:])
        if not count:
            raise ValueError(f"its values end after {done:,} of {claimed:,} bytes")
        done += count
    array = np.ndarray(shape, dtype, values, order="F" if by_column else "C")
    if dtype.kind == "U" and array.size:
        characters = np.frombuffer(values, dtype.byteorder + "u4")
        late = characters[characters >= 0xD800]
        # Of the surrogates those alone that stand for bytes of file names which are no UTF-8.
        if (late > sys.maxunicode).any() or np.isin(late >> 7, _SURROGATES).any():
            raise ValueError("its text has characters that do not exist")
    return array


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(member) as file:
        try:
            array = read_array(file, member.file_size)
        except ValueError as error:
            raise ValueError(f"{member.filename[:200]}: {error}") from None
        file.read(1)  # the checksum is compared at the end alone
        return array


def check_shapes(arrays: Mapping[str, NDArray[Any]], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise `ValueError` with the name of the first array of another shape than given; -1 stands for any length."""
    for key, shape in shapes.items():
        actual = arrays[key].shape
        if len(actual) != len(shape) or any(want not in (-1, got) for want, got in zip(shape, actual, strict=True)):
            raise ValueError(f"{key} has shape {one_line(actual, 120)}, expected {shape} (-1: any)")
