"""Colours and normals of a mesh's vertices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from runtime.types import MeshTopology


def vertex_colours(image: NDArray[np.uint8], vertices: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the colours (V, 3) RGB 0..255 of the picture (H, W, 3) BGR at every vertex.

    They are interpolated bilinearly; vertices beyond the border get the border's colour.
    """
    height, width = image.shape[:2]
    x = np.clip(vertices[:, 0], 0, width - 1)
    y = np.clip(vertices[:, 1], 0, height - 1)
    left, top = x.astype(np.int64), y.astype(np.int64)
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    to_right, to_bottom = (x - left)[:, None], (y - top)[:, None]
    upper = image[top, left] * (1 - to_right) + image[top, right] * to_right
    lower = image[bottom, left] * (1 - to_right) + image[bottom, right] * to_right
    return (upper * (1 - to_bottom) + lower * to_bottom)[:, ::-1]


def vertex_normals(vertices: NDArray[np.float32], topology: MeshTopology) -> NDArray[np.float32]:
    """Return unit normals (V, 3) in the axes of the frame, z > 0 towards the camera.

    They are averaged over neighbouring vertices by the topology's `smooth`.
    """
    a, b, c = (vertices[topology.triangles[:, corner]] for corner in range(3))
    of_triangles = np.cross(b - a, c - a)
    sums = np.zeros((len(vertices), 3), np.float32)
    for axis in range(3):
        weights = np.repeat(of_triangles[:, axis], 3)
        sums[:, axis] = np.bincount(topology.triangles.ravel(), weights, len(vertices))
    sums = topology.smooth(sums)
    return sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
