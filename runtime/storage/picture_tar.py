"""Sets of pictures: ``faces.npz`` with one row per picture and ``faces.tar`` with the pictures, side by side."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from numpy.typing import NDArray

from runtime.errors import FaceMeshError, one_line, reason
from runtime.storage.bounded_files import file_length, open_bounded
from runtime.storage.label_values import HOLES, check_values
from runtime.storage.limits import MEMBERS, NAME_BYTES
from runtime.storage.npz_files import check_shapes, read_npz

_BLOCK = 512
_PAX_RECORD = re.compile(rb"(\d{1,9}) ([^=]{1,255})=")
PLAIN = b"0\x007"  # kinds of members that are files: 7 is contiguous on systems that know it
PAX_NAMES = 16  # names long may be what pax tells of a member: extended attributes, too
TEXTS = ("names", "source")  # arrays of a set that are no numbers
RowShapes = Mapping[str, tuple[int, ...]]  # name of an array -> shape of one row, -1 for any length


def beside(path: Path, suffix: str) -> Path:
    """Return ``path`` with another suffix; it is given as ``faces``, ``faces.npz`` or ``faces.tar``."""
    stem = path.with_suffix("") if path.suffix in (".npz", ".tar") else path
    return stem.with_name(stem.name + suffix)


def read_rows(
    path: Path, required: RowShapes, optional: RowShapes, *, what: str, holes: Collection[str] = HOLES
) -> dict[str, NDArray[Any]]:
    """Return the arrays of a set, by name; the set is given by its stem, its ``.npz`` or its ``.tar``.

    The array ``names`` must be among ``required``: it has one entry per row. Raises `FaceMeshError` for a set with a
    missing half, a damaged file, an array of another shape and values that cannot be right, NaN outside ``holes`` among
    them; ``what`` names the content in the texts ("face labels").
    """
    labels, archive = beside(path, ".npz"), beside(path, ".tar")
    for half in (labels, archive):
        if not half.is_file():
            form = f"a folder, or as {labels.name} and {archive.name} side by side"
            raise FaceMeshError(f"{half}: no such file; give {what} as {form}")
    arrays = read_npz(labels, tuple(required), tuple(optional), what=what)
    count = arrays["names"].size
    shapes = {**required, **optional}
    for key, array in arrays.items():
        if (array.dtype.kind == "U") != (key in TEXTS):
            kind = "text" if key in TEXTS else "numbers"
            raise FaceMeshError(f"{labels}: {key} holds {array.dtype}, {kind} is wanted; the file is of another kind")
    try:
        check_shapes(arrays, {key: (count, *shapes[key]) for key in arrays})
        check_values(arrays, holes)
    except ValueError as error:
        raise FaceMeshError(f"{labels}: {error}; the file is damaged or of another kind") from None
    return arrays


def read_tar(path: Path, names: Collection[str]) -> dict[str, bytes]:
    """Return the contents of the members ``names``, by name.

    Raises `FaceMeshError` for a missing member and for a damaged archive.
    """
    wanted = set(names)
    found: dict[str, bytes] = {}
    try:
        with open_bounded(path) as file:
            for name, size in tar_members(file, file_length(file)):
                if name in wanted and size is not None:
                    found[name] = file.read(size)
    except (OSError, ValueError) as error:
        raise FaceMeshError(f"{path}: cannot be read as a tar archive ({reason(error)}); copy it again") from None
    missing = sorted(wanted - found.keys())
    if missing:
        lack = f"{len(missing)} of the {len(wanted)} pictures that the labels name, first {one_line(missing[0])}"
        raise FaceMeshError(f"{path}: lacks {lack}; labels and archive must belong together")
    return found


def tar_members(file: BinaryIO, length: int) -> Iterator[tuple[str, int | None]]:
    """Yield name and size of every member of an uncompressed tar but its folders, with ``file`` at its content.

    The size is None for links, devices and pipes, which have no content.

    Formats are ustar, GNU and pax (POSIX.1-2008, "ustar Interchange Format"); `tarfile` follows claimed lengths beyond
    the end of a file and expands sparse members. Raises `ValueError` for a damaged archive and for sparse members.
    """
    position, count = 0, 0
    long_name = ""  # of the member that follows, given by an entry of its own
    while position < length:
        file.seek(position)
        header = file.read(_BLOCK)
        if not any(header):
            return  # the end mark
        kind, size = _kind_and_size(header)
        start = position + _BLOCK
        position = start + -(-size // _BLOCK) * _BLOCK
        count += 1
        if excess := MEMBERS.excess(count):
            raise ValueError(excess)
        if start + size > length:
            raise ValueError(f"a member claims {size:,} bytes and the file ends after {length - start:,}")
        if kind in b"Lx":
            if excess := NAME_BYTES.excess(size if kind == b"L" else size // PAX_NAMES):
                raise ValueError(f"the name of a member has {excess}")
            long_name = _long_name(kind, file.read(size)) or long_name
        elif kind == b"S":
            raise ValueError("a member is sparse; pack it without --sparse")
        elif kind not in b"gK":
            if kind != b"5":
                yield long_name or _short_name(header), size if kind in PLAIN else None
            long_name = ""


def _kind_and_size(header: bytes) -> tuple[bytes, int]:
    """Return the type and the bytes of a member by its block of 512 bytes; raises `ValueError` for anything else."""
    if len(header) < _BLOCK:
        raise ValueError("it ends within a header")
    try:
        checksum = int(header[148:156].strip(b" \0") or b"0", 8)
        field = header[124:136]
        size = int.from_bytes(field[1:], "big") if field[0] == 0x80 else int(field.strip(b" \0") or b"0", 8)
    except ValueError:
        raise ValueError("a header holds no numbers") from None
    if checksum != sum(header) - sum(header[148:156]) + 8 * ord(" ") or size < 0:
        raise ValueError("the checksum of a header does not fit")
    return header[156:157], size


def _short_name(header: bytes) -> str:
    name = header[:100].partition(b"\0")[0].decode("utf-8", "surrogateescape")
    prefix = header[345:500].partition(b"\0")[0].decode("utf-8", "surrogateescape")
    return f"{prefix}/{name}" if prefix and header[257:263] == b"ustar\0" else name


def _long_name(kind: bytes, content: bytes) -> str:
    """Return the name that an entry of GNU or pax gives to the next member, "" if it gives none."""
    if kind == b"L":
        return content.partition(b"\0")[0].decode("utf-8", "surrogateescape")
    records = dict(_pax_records(content))
    if any(key.startswith(b"GNU.sparse") for key in records) or b"size" in records:
        raise ValueError("a member is sparse or larger than 8 GB; pack it without --sparse")
    return records.get(b"path", b"").decode("utf-8", "surrogateescape")


def _pax_records(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield key and value of every record "LENGTH KEY=VALUE", a line each; raises `ValueError` for others."""
    start = 0
    while start < len(content):
        record = _PAX_RECORD.match(content, start)
        end = start + int(record[1]) if record else 0
        if record is None or not record.end() < end <= len(content) or content[end - 1 : end] != b"\n":
            raise ValueError("a member has a damaged pax header")
        yield record[2], content[record.end() : end - 1]
        start = end
