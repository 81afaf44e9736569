"""Parquet files of faces and of errors."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from runtime.archives.places import as_text
from runtime.archives.shard import Item, Shard
from runtime.errors import FaceMeshError
from runtime.storage.whole_files import unique_name, whole_file
from runtime.types import LANDMARK_COUNT, FaceMesh

ROWS = 64  # that wait in memory
_PLACE = [("source", pa.string()), ("key", pa.string()), ("frame", pa.int64()), ("time_s", pa.float64())]
_NUMBERS = [(name, pa.float32()) for name in ("score", "confidence", "yaw_deg", "pitch_deg", "roll_deg")]
ERROR_SCHEMA = pa.schema([*_PLACE, ("error", pa.string())])


def face_schema(vertex_count: int | None) -> pa.Schema:
    """Return the columns of faces; ``vertex_count`` None: without vertices."""
    columns = [
        *_PLACE,
        ("face", pa.int32()),
        *_NUMBERS,
        ("box_xyxy", pa.list_(pa.float32(), 4)),
        ("landmarks", pa.list_(pa.float32(), 3 * LANDMARK_COUNT)),
    ]
    if vertex_count is not None:
        columns.append(("vertices", pa.list_(pa.float16(), 3 * vertex_count)))
    return pa.schema(columns)


def packed_vertices(face: FaceMesh) -> NDArray[np.float16]:
    """Return vertices (V, 3) in halves of the longer side of the box, from its middle: px would be too coarse."""
    middle, half = box_frame(face.box_xyxy)
    return ((face.vertices - middle) / half).astype(np.float16)


def unpacked_vertices(packed: NDArray[np.float16], box_xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return vertices (V, 3) px of the picture from a row's ``vertices`` (3 V,) and ``box_xyxy``."""
    middle, half = box_frame(box_xyxy)
    return np.asarray(packed, np.float32).reshape(-1, 3) * half + middle


def box_frame(box_xyxy: NDArray[np.float32]) -> tuple[NDArray[np.float32], np.float32]:
    """Return the middle (x, y, 0) of a box and half its longer side, px."""
    low, high = np.asarray(box_xyxy[:2]), np.asarray(box_xyxy[2:])
    return np.append((low + high) / 2, np.float32(0)), np.float32((high - low).max() / 2)


class RowFiles:
    """The two files of one shard; the one for errors is left out if there are none. A context manager.

    Both appear at its end, whole or, after an exception, not at all.
    """

    def __init__(self, shard: Shard, faces: Path, errors: Path, vertex_count: int | None) -> None:
        """Open the file of faces. Raises `FaceMeshError` if it cannot be written."""
        self._source = as_text(shard.source)
        self._schema = face_schema(vertex_count)
        self._errors_path = errors
        self._rows: list[dict[str, Any]] = []
        self._errors: list[dict[str, Any]] = []
        self._stack = ExitStack()
        file = self._stack.enter_context(whole_file(faces, unique_name(faces)))
        self._writer = self._stack.enter_context(parquet.ParquetWriter(file, self._schema, compression="zstd"))

    def __enter__(self) -> RowFiles:
        return self

    def __exit__(self, *exception: Any) -> None:
        if exception[0] is None:
            with self._stack:
                self._flush()
                self._write_errors()
        else:
            self._stack.__exit__(*exception)

    def add_faces(self, item: Item, faces: list[FaceMesh]) -> None:
        """Add the faces of one picture."""
        for number, face in enumerate(faces):
            row = self._place(item) | {
                "face": number,
                "score": face.score,
                "confidence": face.confidence,
                "yaw_deg": face.pose.yaw_deg,
                "pitch_deg": face.pose.pitch_deg,
                "roll_deg": face.pose.roll_deg,
                "box_xyxy": face.box_xyxy,
                "landmarks": face.landmarks.ravel(),
            }
            if "vertices" in self._schema.names:
                row["vertices"] = packed_vertices(face).ravel()
            self._rows.append(row)
        if len(self._rows) >= ROWS:
            self._flush()

    def add_error(self, item: Item, error: FaceMeshError) -> None:
        """Add a picture that failed."""
        self._errors.append(self._place(item) | {"error": as_text(str(error))})

    def _place(self, item: Item) -> dict[str, Any]:
        return {"source": self._source, "key": as_text(item.key), "frame": item.frame, "time_s": item.time_s}

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(_table(self._rows, self._schema))
            self._rows.clear()

    def _write_errors(self) -> None:
        if self._errors:
            with whole_file(self._errors_path, unique_name(self._errors_path)) as file:
                parquet.write_table(_table(self._errors, ERROR_SCHEMA), file, compression="zstd")


def _table(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    columns = []
    for field in schema:
        values = [row[field.name] for row in rows]
        if pa.types.is_fixed_size_list(field.type):
            flat = pa.array(np.concatenate(values), field.type.value_type)
            columns.append(pa.FixedSizeListArray.from_arrays(flat, type=field.type))
        else:
            columns.append(pa.array(values, field.type))
    return pa.table(columns, schema=schema)
