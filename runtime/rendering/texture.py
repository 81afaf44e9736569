"""Texture maps: the picture's colours on a face, unwrapped to the plane of its UV coordinates."""

from __future__ import annotations

from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.compiled import native
from runtime.errors import FaceMeshError
from runtime.rendering.colours import vertex_normals
from runtime.rendering.maps import covered_region, visible_vertices
from runtime.types import FaceMesh, MeshTopology

LEAST_SIDE, LARGEST_SIDE = 16, 8192  # px of a texture
GRAZING = 0.4  # cosine to the camera below which a surface is seen too much from aside to be trusted


class TextureMapper:
    """Unwrapper of faces of one topology into square textures of ``size`` px.

    The middle of pixel x, y of a texture lies at u = (x + 0.5) / size, v = 1 - (y + 0.5) / size of
    `runtime.types.MeshTopology.uv`, as OBJ has it; glTF counts v downwards. Raises `FaceMeshError` for a size outside
    16..8192.
    """

    def __init__(self, topology: MeshTopology, size: int) -> None:
        """Take the topology and the side of the textures, px."""
        if not LEAST_SIDE <= size <= LARGEST_SIDE:
            fault = f"a texture of {size} px cannot be made"
            raise FaceMeshError(f"{fault}; choose a size from {LEAST_SIDE} to {LARGEST_SIDE}")
        self.size = size
        self._topology = topology
        uv = topology.uv
        self._flat = np.zeros((len(uv), 3), np.float32)
        self._flat[:, 0] = uv[:, 0] * size - 0.5
        self._flat[:, 1] = (1 - uv[:, 1]) * size - 0.5
        self._triangles = _turned_to_the_viewer(self._flat, topology.triangles)

    def spread(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Interpolate vertex ``values`` (V, C) over the texture: (size, size, C).

        Pixels outside the face have the value of their nearest neighbour on it, so that no seam shows.
        """
        drawn, _ = self._draw(values)
        return drawn.reshape(-1, drawn.shape[2])[self._nearest_covered]

    def texture(self, image: NDArray[np.uint8], face: FaceMesh) -> NDArray[np.uint8]:
        """Return the texture (size, size, 3) uint8 BGR of a face in its picture (H, W, 3) uint8 BGR.

        Parts that the picture does not show have the colours of what hides them: `visible` tells which.
        """
        return sample(image, self.spread(face.vertices[:, :2]), self.size)

    def visible(self, face: FaceMesh, size_wh: tuple[int, int]) -> NDArray[np.float32]:
        """Return (size, size) 1 where the picture of ``size_wh`` shows the face, 0 where it is hidden or not a face."""
        seen = visible_vertices(face, self._topology, size_wh).astype(np.float32)[:, None]
        drawn, covered = self._draw(seen)
        return np.where(covered, drawn[..., 0], 0)

    def completed(self, image: NDArray[np.uint8], face: FaceMesh) -> NDArray[np.uint8]:
        """Return the texture, with parts hidden or seen from aside taken from the other half of the face."""
        texture = self.texture(image, face).astype(np.float32)
        seen = visible_vertices(face, self._topology, image.shape[1::-1])
        towards = vertex_normals(face.vertices, self._topology)[:, 2]
        drawn, covered = self._draw((seen * np.clip(towards / GRAZING, 0, 1))[:, None])
        trust = cv2.erode(np.where(covered, drawn[..., 0], 0), None, iterations=self.size // 128 + 1)
        trust = cv2.GaussianBlur(trust, (0, 0), self.size / 64)
        mirrored = (trust[:, ::-1] * (1 - trust))[..., None]
        return np.rint(texture + mirrored * (texture[:, ::-1] - texture)).astype(np.uint8)

    def _draw(self, values: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        values = np.ascontiguousarray(values, np.float32)
        drawn, depth = native.rasterise(self._flat, self._triangles, values, (self.size, self.size))
        return drawn, depth > -np.inf

    @cached_property
    def _nearest_covered(self) -> NDArray[np.int64]:
        """(size, size) flat number of the nearest pixel that a triangle covers."""
        _, covered = self._draw(np.zeros((len(self._flat), 1), np.float32))
        if not covered.any():
            raise FaceMeshError("the UV coordinates of this topology cover no pixel of a texture; choose a larger size")
        _, labels = cv2.distanceTransformWithLabels(
            (~covered).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
        )
        number = np.zeros(labels.max() + 1, np.int64)
        number[labels[covered]] = np.flatnonzero(covered)
        return number[labels]


def sample(image: NDArray[np.uint8], xy: NDArray[np.float32], size: int) -> NDArray[np.uint8]:
    """Return the colours of a picture (H, W, 3) at the places ``xy`` (h, w, 2) px, interpolated bilinearly.

    A face much larger than ``size`` px is made smaller first, by the mean of its pixels, so that no detail flickers.
    Places beyond the border have the border's colour.
    """
    height, width = image.shape[:2]
    points = np.clip(np.nan_to_num(xy), 0, (width - 1, height - 1)).astype(np.float32)
    flat = np.insert(points.reshape(-1, 2), 2, 0, axis=1)
    whole = (0, 0), (width, height)
    (left, top), (right, bottom) = covered_region(flat, (width, height)) or whole
    region = image[top:bottom, left:right]
    factor = max(1, round(max(region.shape[:2]) / size))
    points = points - np.array([left, top], np.float32)
    if factor > 1:
        smaller = -(-region.shape[1] // factor), -(-region.shape[0] // factor)
        ratio = np.array(smaller, np.float32) / region.shape[1::-1]
        region = cv2.resize(region, smaller, interpolation=cv2.INTER_AREA)
        points = ((points + 0.5) * ratio - 0.5).astype(np.float32)
    places = np.ascontiguousarray(points, np.float32)
    return cv2.remap(np.ascontiguousarray(region), places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _turned_to_the_viewer(flat: NDArray[np.float32], triangles: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the triangles with their corners in the order that makes each a front face on the plane."""
    a, b, c = (flat[triangles[:, corner], :2] for corner in range(3))
    u, v = b - a, c - a
    is_back = u[:, 0] * v[:, 1] < u[:, 1] * v[:, 0]
    return np.ascontiguousarray(np.where(is_back[:, None], triangles[:, ::-1], triangles))
