"""``FaceModelTopology``: the vertices and triangles of a face model, and its UV position map."""

from __future__ import annotations

from functools import cached_property, lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.compiled import native
from runtime.errors import FaceMeshError
from runtime.families.face_model import FaceModel, load_face_model

UV_RESOLUTION = 256  # side of a UV position map; distances and grid lines are in its pixels
SMOOTHINGS = 2  # averages over direct neighbours: about the 1.5 px Gaussian of a UV grid


class FaceModelTopology:
    """`runtime.types.MeshTopology` of a face model; all of its vertices are in the mesh."""

    def __init__(self, model: FaceModel) -> None:
        """Keep ``model``; anything else is computed when it is first asked for."""
        self.model = model
        self.triangles = model.triangles
        self.canonical_vertices = model.mean * np.array([1, -1, 1], np.float32)
        self.canonical_vertices.setflags(write=False)

    @property
    def landmark_vertices(self) -> NDArray[np.int32]:
        """(68,) the landmarks as indices into the V vertices."""
        return self.model.keypoints68

    @property
    def uv(self) -> NDArray[np.float32]:
        """(V, 2) texture coordinates 0..1, u right, v up: the places of the vertices on the UV map."""
        return ((self.model.uv * (UV_RESOLUTION - 1) + 0.5) / UV_RESOLUTION).astype(np.float32)

    def border_distance(self) -> NDArray[np.float32]:
        """Return (V,) steps from vertex to vertex to the nearest edge that only one triangle has."""
        edges, count = self._edges
        distance = np.full(len(self.canonical_vertices), np.inf, np.float32)
        distance[edges[count == 1]] = 0
        if not np.isfinite(distance).any():
            return distance  # a closed surface
        step = 0
        while True:
            reached = (distance[edges] == step).any(axis=1)
            new = edges[reached].ravel()
            new = new[np.isinf(distance[new])]
            if not len(new):
                return distance
            step += 1
            distance[new] = step

    def grid_lines(self, step: int) -> NDArray[np.bool_]:
        """Return (V,) True for vertices next to every ``step``-th row or column of pixels of the UV map."""
        off_line = np.abs((self._uv_pixels + step / 2) % step - step / 2)
        return (off_line <= 0.5).any(axis=1)

    def smooth(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (V, C) ``values`` averaged over the vertex and its direct neighbours, twice."""
        source, target, weight = self._neighbours
        for _ in range(SMOOTHINGS):
            sums = np.empty_like(values)
            for channel in range(values.shape[1]):
                sums[:, channel] = np.bincount(target, values[source, channel], len(values))
            values = (values + sums) * weight
        return values

    def position_map(self, vertices: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the UV position map (256, 256, 3) of (V, 3) ``vertices``, in their unit.

        Map pixels are PRNet's: x = 255 u, y = 255 - 255 v. Between vertices positions are interpolated; pixels that no
        triangle covers have those of their nearest covered neighbour.
        """
        return self._drawn_on_uv(vertices)[0].reshape(-1, 3)[self._nearest_covered]

    def _drawn_on_uv(self, values: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Draw values (V, C) on the plane of the UV map: image (256, 256, C) and depth, -inf where nothing is."""
        flat, triangles = self._uv_mesh
        return native.rasterise(flat, triangles, np.ascontiguousarray(values, np.float32), (UV_RESOLUTION,) * 2)

    @cached_property
    def _nearest_covered(self) -> NDArray[np.int64]:
        """(256, 256) flat number of the nearest pixel of the UV map that a triangle covers."""
        covered = np.isfinite(self._drawn_on_uv(self.model.mean)[1])
        if not covered.any():
            raise FaceMeshError("the UV coordinates of the face model cover no pixel of a map; convert it again")
        _, labels = cv2.distanceTransformWithLabels(
            (~covered).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
        )
        number = np.zeros(labels.max() + 1, np.int64)
        number[labels[covered]] = np.flatnonzero(covered)
        return number[labels]

    @cached_property
    def _uv_pixels(self) -> NDArray[np.float32]:
        """(V, 2) x and y of the vertices in pixels of the UV map."""
        uv = self.model.uv * (UV_RESOLUTION - 1)
        return np.stack([uv[:, 0], UV_RESOLUTION - 1 - uv[:, 1]], axis=1)

    @cached_property
    def _uv_mesh(self) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """(V, 3) the vertices on the plane of the UV map, and (T, 3) the triangles, all of them facing the viewer."""
        flat = np.zeros((len(self._uv_pixels), 3), np.float32)
        flat[:, :2] = self._uv_pixels
        a, b, c = (self._uv_pixels[self.triangles[:, corner]] for corner in range(3))
        u, v = b - a, c - a
        is_back = u[:, 0] * v[:, 1] < u[:, 1] * v[:, 0]
        return flat, np.where(is_back[:, None], self.triangles[:, ::-1], self.triangles)

    @cached_property
    def _edges(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(E, 2) the vertices of every edge, and (E,) the number of triangles that have it."""
        ends = np.sort(self.triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1).astype(np.int64)
        keys, count = np.unique(ends[:, 0] * len(self.canonical_vertices) + ends[:, 1], return_counts=True)
        return np.stack(np.divmod(keys, len(self.canonical_vertices)), axis=1), count

    @cached_property
    def _neighbours(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """Both ends of every edge in both directions, and (V, 1) the weight of a vertex in the mean with its own."""
        edges, _ = self._edges
        source = np.concatenate([edges[:, 0], edges[:, 1]])
        target = np.concatenate([edges[:, 1], edges[:, 0]])
        count = np.bincount(target, minlength=len(self.canonical_vertices))
        return source, target, (1 / (1 + count)).astype(np.float32)[:, None]


@lru_cache(maxsize=2)
def _loaded(path: Path) -> FaceModelTopology:
    return FaceModelTopology(load_face_model(path))


def load_model_topology(path: str | Path) -> FaceModelTopology:
    """Load a face model; the result is kept for the next call. Raises `FaceMeshError`."""
    return _loaded(Path(path).absolute())
