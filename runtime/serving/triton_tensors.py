"""Names, shapes and types of the tensors of the Triton model, and faces as such tensors.

Faces of all pictures of a request follow one another in every output, first those of the first picture; ``faces`` says
how many belong to each picture.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import FaceMeshError
from runtime.serving.face_service import Picture
from runtime.types import LANDMARK_COUNT, FaceMesh


@dataclass(frozen=True)
class Tensor:
    """A tensor of the model; ``shape`` without its first axis, -1: any length."""

    name: str
    data_type: str  # Triton's word
    shape: tuple[int, ...]


ENCODED = Tensor("encoded", "TYPE_STRING", (1,))
PIXELS = Tensor("pixels", "TYPE_UINT8", (-1, -1, 3))
BOXES = Tensor("boxes", "TYPE_FP32", (-1, 4))
INPUTS = (ENCODED, PIXELS, BOXES)
FACES = "faces"
VERTICES = "vertices"

# Outputs with one row for each face.
_ROWS: dict[str, tuple[tuple[int, ...], Callable[[FaceMesh], object]]] = {
    "landmarks": ((LANDMARK_COUNT, 3), lambda face: face.landmarks),
    "face_boxes": ((4,), lambda face: face.box_xyxy),
    "pose": ((3,), lambda face: (face.pose.yaw_deg, face.pose.pitch_deg, face.pose.roll_deg)),
    "score": ((1,), lambda face: (face.score,)),
    "confidence": ((1,), lambda face: (np.nan if face.confidence is None else face.confidence,)),
    VERTICES: ((-1, 3), lambda face: face.vertices),
}


def outputs(vertex_count: int) -> tuple[Tensor, ...]:
    """Return the outputs of a model whose faces have ``vertex_count`` vertices."""
    rows = (Tensor(name, "TYPE_FP32", shape) for name, (shape, _) in _ROWS.items())
    fitted = (
        Tensor(row.name, row.data_type, tuple(vertex_count if side < 0 else side for side in row.shape)) for row in rows
    )
    return (Tensor(FACES, "TYPE_INT32", (1,)), *fitted)


def face_tensors(
    pictures: Sequence[Sequence[FaceMesh]], names: Collection[str], vertex_count: int
) -> dict[str, NDArray[Any]]:
    """Return the outputs ``names``: ``faces`` (B, 1) int32, the others (F, …) float32 of all F faces in order."""
    faces = [face for found in pictures for face in found]
    arrays: dict[str, NDArray[Any]] = {}
    for name in names:
        if name == FACES:
            arrays[name] = np.array([[len(found)] for found in pictures], np.int32)
            continue
        shape, value = _ROWS[name]
        shape = tuple(vertex_count if side < 0 else side for side in shape)
        arrays[name] = np.array([value(face) for face in faces], np.float32).reshape(len(faces), *shape)
    return arrays


def requested_pictures(
    encoded: NDArray[Any] | None, pixels: NDArray[np.uint8] | None, boxes: NDArray[np.float32] | None
) -> list[Picture]:
    """Return the pictures of one request from its inputs, None where one was left out.

    ``encoded`` (B, 1) bytes or ``pixels`` (B, H, W, 3); ``boxes`` (B, N, 4), rows of NaN fill up for pictures with
    fewer. Raises `FaceMeshError` for a request that gives both kinds of pictures, or none, or other boxes.
    """
    contents: list[Any]
    if encoded is not None and pixels is None:
        contents = [row[0] for row in encoded.reshape(-1, 1)]
    elif pixels is not None and encoded is None:
        contents = list(pixels)
    else:
        raise FaceMeshError(f"a request gives pictures as {ENCODED.name} or as {PIXELS.name}, one of the two")
    if boxes is not None and len(boxes) != len(contents):
        raise FaceMeshError(f"boxes are for {len(boxes)} pictures, the request has {len(contents)}; give both alike")
    given = [None] * len(contents) if boxes is None else [rows[~np.isnan(rows).all(axis=1)] for rows in boxes]
    return [
        Picture(content, f"picture {number} of the request", rows)
        for number, (content, rows) in enumerate(zip(contents, given, strict=True))
    ]
