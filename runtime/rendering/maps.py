"""Maps of faces over a picture: depth, normals, PNCC; and the vertices that are seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.compiled import native
from runtime.rendering.colours import vertex_normals
from runtime.types import FaceMesh, MeshTopology

# A surface this much nearer hides a vertex, in sizes of the face: small folds of a noisy mesh hide nothing.
VISIBILITY_MARGIN = 0.005


class MapPainter:
    """Painter of maps for faces of one topology.

    Every map has the size of the picture, (height, width). Larger faces are drawn over smaller ones.
    """

    def __init__(self, topology: MeshTopology) -> None:
        """Compute the coordinate codes of PNCC, the same for all faces."""
        self._topology = topology
        self._codes = coordinate_codes(topology)

    def depth(self, faces: Sequence[FaceMesh], size_wh: tuple[int, int]) -> NDArray[np.float32]:
        """Return depths (H, W) in px, 0 at the farthest vertex of each face and larger when nearer; NaN without face.

        Depth is relative: every face has its own origin.
        """
        canvas = np.full((*size_wh[::-1], 1), np.nan, np.float32)
        for face in faces_by_size(faces):
            z = face.vertices[:, 2:]
            draw_values(canvas, face.vertices, self._topology.triangles, z - _least(z))
        return canvas[..., 0]

    def normals(self, faces: Sequence[FaceMesh], size_wh: tuple[int, int]) -> NDArray[np.float32]:
        """Return unit normals (H, W, 3): x right, y down, z towards the camera; zeros without face."""
        canvas = np.zeros((*size_wh[::-1], 3), np.float32)
        for face in faces_by_size(faces):
            draw_values(canvas, face.vertices, self._topology.triangles, vertex_normals(face.vertices, self._topology))
        return canvas / np.maximum(np.linalg.norm(canvas, axis=2, keepdims=True), 1e-12)

    def pncc(self, faces: Sequence[FaceMesh], size_wh: tuple[int, int]) -> NDArray[np.float32]:
        """Return the projected normalised coordinate code (H, W, 3), 0..1, zeros without face.

        Zhu et al. 2016, "Face Alignment Across Large Poses", equation 6: every vertex is coloured by its place x, y, z
        on the mean face.
        """
        canvas = np.zeros((*size_wh[::-1], 3), np.float32)
        for face in faces_by_size(faces):
            draw_values(canvas, face.vertices, self._topology.triangles, self._codes)
        return canvas


def coordinate_codes(topology: MeshTopology) -> NDArray[np.float32]:
    """Return the normalised coordinate code (V, 3): the mean face in 0..1 per axis, x right, y up, z to the camera.

    Zhu et al. 2016, equation 5.
    """
    mean = topology.canonical_vertices * np.array([1, -1, 1], np.float32)
    return (mean - mean.min(axis=0)) / np.maximum(np.ptp(mean, axis=0), 1e-12)


def visible_vertices(face: FaceMesh, topology: MeshTopology, size_wh: tuple[int, int]) -> NDArray[np.bool_]:
    """Return (V,) True for vertices that the picture of ``size_wh`` shows.

    They lie inside the picture and on a front face, and no other part of the face hides them. Hands, hair and other
    faces are not known.
    """
    margin = max(0.0, VISIBILITY_MARGIN * face_size(face))
    seen = native.visible_vertices(face.vertices, topology.triangles, margin)
    x, y = face.vertices[:, 0], face.vertices[:, 1]
    width, height = size_wh
    # Pixels reach half a pixel beyond their centres.
    return seen & (x >= -0.5) & (x < width - 0.5) & (y >= -0.5) & (y < height - 0.5)


def draw_values(
    canvas: NDArray[np.float32],
    vertices: NDArray[np.float32],
    triangles: NDArray[np.int32],
    values: NDArray[np.float32],
) -> None:
    """Draw vertex ``values`` (V, C) into ``canvas`` (H, W, C) at the pixels that a mesh covers.

    Only the part of the canvas round the mesh is touched, so the time does not grow with the picture. Vertices that are
    not finite are left out, with their triangles.
    """
    region = covered_region(vertices, canvas.shape[1::-1])
    if region is None:
        return
    (left, top), (right, bottom) = region
    moved = vertices - np.array([left, top, 0], np.float32)
    values = np.ascontiguousarray(values, np.float32)
    drawn, depth = native.rasterise(moved, triangles, values, (right - left, bottom - top))
    covered = depth > -np.inf
    canvas[top:bottom, left:right][covered] = drawn[covered]


def covered_region(
    vertices: NDArray[np.float32], size_wh: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Return the first and the end pixel (x, y) of the part of a picture that vertices (V, 3) cover, None if none."""
    points = vertices[:, :2][np.isfinite(vertices).all(axis=1)]
    if not len(points):
        return None
    # Clipped as floats: a float beyond the range of int would become any number.
    low = np.clip(np.floor(points.min(axis=0)), 0, size_wh).astype(np.int64)
    high = np.clip(np.ceil(points.max(axis=0)) + 1, 0, size_wh).astype(np.int64)
    return None if (low >= high).any() else ((int(low[0]), int(low[1])), (int(high[0]), int(high[1])))


def faces_by_size(faces: Sequence[FaceMesh]) -> list[FaceMesh]:
    """Return the faces from the smallest to the largest."""
    return sorted(faces, key=face_size)


def face_size(face: FaceMesh) -> float:
    """Return the mean side of the face's box, px."""
    x1, y1, x2, y2 = face.box_xyxy.tolist()
    return (x2 - x1 + y2 - y1) / 2


def _least(values: NDArray[np.float32]) -> float:
    """Return the least finite number, 0 if there is none."""
    finite = values[np.isfinite(values)]
    return float(finite.min()) if len(finite) else 0.0
