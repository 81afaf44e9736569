"""The pictures of a shard, one after the other; a damaged one becomes an error of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from runtime.archives.places import ARROW_ERRORS, is_remote, is_web, open_place, read_whole, suffix_of
from runtime.archives.shard import Item, Shard
from runtime.errors import FaceMeshError, reason
from runtime.sources.address import VIDEO_SUFFIXES
from runtime.sources.frame_source import FrameSource
from runtime.sources.photos import PHOTO_SUFFIXES, RAW_SUFFIXES
from runtime.sources.video import ReadOptions
from runtime.storage.limits import EXPANSION, FILE_BYTES, unpacked_bytes
from runtime.storage.picture_tar import tar_members

ROWS = 16  # of a Parquet file's row group handed over at once; Arrow itself holds the whole group
NAMES = ("image", "picture", "photo", "jpg", "jpeg", "png", "bytes", "content")


def pictures_of(shard: Shard, is_last: bool, column: str | None, every: int) -> Iterator[Item]:
    """Yield the pictures of a shard, and its errors. ``is_last``: a film goes on to its end.

    ``column`` is that of a Parquet file, None: the one that holds pictures. Of films every ``every``-th frame of a
    segment is taken.
    """
    try:
        if shard.kind == "photos":
            yield from _photos(shard)
        elif shard.kind == "film":
            yield from _frames(shard, is_last, every)
        elif shard.kind == "tar":
            yield from _tar(shard)
        else:
            yield from _rows(shard, column)
    except FaceMeshError as error:
        yield Item("", error)


def picture_column(schema: pa.Schema, wanted: str | None, place: str) -> str:
    """Return the column with pictures: bytes, or a struct with a field ``bytes``. Raises `FaceMeshError`."""
    fitting = [field.name for field in schema if _holds_bytes(field.type)]
    if wanted is not None:
        if wanted not in fitting:
            raise FaceMeshError(f"{place}: no column {wanted!r} of bytes; there are {', '.join(fitting) or 'none'}")
        return wanted
    known = [name for name in NAMES if name in fitting]
    if len(fitting) != 1 and not known:
        found = f"has {len(fitting)} columns of bytes ({', '.join(fitting)})" if fitting else "has no column of bytes"
        raise FaceMeshError(f"{place}: {found}; name the one with pictures by --column")
    return known[0] if known else fitting[0]


def _photos(shard: Shard) -> Iterator[Item]:
    for place in shard.photos:
        try:
            if suffix_of(place) in RAW_SUFFIXES:
                raise _raw(place)
            yield Item(place, read_whole(place))
        except FaceMeshError as error:
            yield Item(place, error)


def _raw(name: str) -> FaceMeshError:
    return FaceMeshError(f"{name}: a camera's raw file, which is not read; develop it to JPEG or PNG")


def _frames(shard: Shard, is_last: bool, every: int) -> Iterator[Item]:
    if is_remote(shard.source) and not is_web(shard.source):
        raise FaceMeshError(f"{shard.source}: films are read from local and http addresses alone; copy it to a folder")
    options = ReadOptions(start_s=shard.first, stop_s=math.inf if is_last else shard.end, every=every)
    damages: list[FaceMeshError] = []
    with FrameSource(shard.source, damages.append, options) as source:
        frames = iter(source)
        first = next(frames, None) if shard.first == 0 else _next_if_any(frames)
        while first is not None:
            yield Item("", first.image, first.index, first.timestamp_s)
            first = next(frames, None)
    yield from (Item("", damage) for damage in damages)


def _next_if_any(frames: Iterator[Any]) -> Any:
    """Return the first frame of a later segment, None for a film that is shorter than its header says."""
    try:
        return next(frames, None)
    except FaceMeshError:
        return None


def _tar(shard: Shard) -> Iterator[Item]:
    with open_place(shard.source) as file:
        if not file.size():
            raise FaceMeshError(f"{shard.source}: the file is empty (0 bytes); copy it again")
        try:
            for number, (name, size) in enumerate(tar_members(file, file.size())):
                if number >= shard.end:
                    return
                suffix = PurePosixPath(name).suffix.lower()
                if number < shard.first or suffix not in PHOTO_SUFFIXES | RAW_SUFFIXES | VIDEO_SUFFIXES:
                    continue
                if size is None:
                    fault = "a link, a device or a pipe, which holds no picture; pack the archive with --dereference"
                    yield Item(name, FaceMeshError(f"{name}: {fault}"))
                elif suffix in RAW_SUFFIXES:
                    yield Item(name, _raw(name))
                elif suffix in VIDEO_SUFFIXES:
                    yield Item(name, FaceMeshError(f"{name}: a film, which is not read from a tar; unpack it"))
                elif excess := FILE_BYTES.excess(size):
                    yield Item(name, FaceMeshError(f"{name}: {excess}"))
                else:
                    yield Item(name, file.read(size))
        except (OSError, ValueError) as error:
            fault = f"cannot be read as a tar archive from here on ({reason(error)})"
            raise FaceMeshError(f"{shard.source}: {fault}; copy it again") from None


def _rows(shard: Shard, column: str | None) -> Iterator[Item]:
    with open_place(shard.source) as file:
        try:
            table = parquet.ParquetFile(file)
            name = picture_column(table.schema_arrow, column, shard.source)
            group = int(shard.first)
            row = sum(table.metadata.row_group(number).num_rows for number in range(group))
            _check_expansion(table.metadata.row_group(group), name)
            table = parquet.ParquetFile(file, read_dictionary=_byte_columns(table, name))
            for batch in table.iter_batches(ROWS, [group], [name]):
                for value in batch.column(0):
                    yield _row(str(row), value.as_py())
                    row += 1
        except (*ARROW_ERRORS, IndexError) as error:
            fault = f"cannot be read as a Parquet file ({reason(error)})"
            raise FaceMeshError(f"{shard.source}: {fault}; copy it again") from None


def _byte_columns(table: parquet.ParquetFile, name: str) -> list[str]:
    """Return the columns of ``name`` that hold bytes: a value that all rows share is then in memory once."""
    paths = (table.schema.column(number) for number in range(len(table.schema)))
    return [each.path for each in paths if each.physical_type == "BYTE_ARRAY" and each.path.split(".")[0] == name]


def _check_expansion(group: parquet.RowGroupMetaData, name: str) -> None:
    """Raise `ValueError` for a row group whose pictures take far more bytes than it has in the file."""
    columns = (group.column(number) for number in range(group.num_columns))
    chunks = [each for each in columns if each.path_in_schema.split(".")[0] == name]
    packed = sum(each.total_compressed_size for each in chunks)
    unpacked = sum(each.total_uncompressed_size for each in chunks)
    if unpacked > unpacked_bytes(packed):
        variables = f"{EXPANSION.variable} or {FILE_BYTES.variable}"
        raise ValueError(f"a row group unpacks {packed:,} bytes to {unpacked:,}; {variables} raise the limit")


def _row(key: str, value: Any) -> Item:
    """Return a picture of a column of bytes or of structs with ``bytes``; a path beside them becomes its key."""
    if isinstance(value, dict):
        key, value = str(value.get("path") or key), value["bytes"]
    if value is None:
        return Item(key, FaceMeshError(f"row {key}: holds no picture"))
    return Item(key, value)


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _holds_bytes(kind.field("bytes").type)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
