"""Texture editing: a face, or a part of it, of one picture on the head of another (PRNet's ``demo_texture.py``)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.rendering.colours import vertex_normals
from runtime.rendering.maps import draw_values
from runtime.rendering.texture import GRAZING, TextureMapper
from runtime.types import FaceMesh, MeshTopology

Ranges = tuple[tuple[int, int], ...]
# Landmarks round each part, and by how much its mask reaches beyond them, in shares of the texture.
PARTS: dict[str, tuple[tuple[Ranges, ...], float]] = {
    "eyes": ((((17, 22), (36, 42)), ((22, 27), (42, 48))), 0.02),
    "nose": ((((27, 36),),), 0.03),
    "mouth": ((((48, 60),),), 0.04),
}
PART_NAMES = ("face", *PARTS)
SOFT_BORDER = 24  # steps between vertices over which the mask of a whole face fades out


class FaceSwapper:
    """Painter of one face's texture on another face of the same topology."""

    def __init__(self, topology: MeshTopology, size: int = 1024) -> None:
        """Take the topology of both faces and the side of the textures between them, px."""
        self._topology = topology
        self._mapper = TextureMapper(topology, size)
        distance = np.minimum(topology.border_distance(), SOFT_BORDER) / SOFT_BORDER
        self._fade = (distance**2 * (3 - 2 * distance)).astype(np.float32)

    def swap(
        self,
        image: NDArray[np.uint8],
        face: FaceMesh,
        reference: NDArray[np.uint8],
        reference_face: FaceMesh,
        part: str = "face",
    ) -> NDArray[np.uint8]:
        """Return a copy of ``image`` (H, W, 3) uint8 BGR with a part of ``reference_face`` painted on ``face``.

        ``part`` is one of `PART_NAMES`. Colours are brought to those of the face below, hidden parts of the reference
        come from its other half. Hands and hair over the face are painted over. Raises `KeyError` for another part.
        """
        mask, whole = self._mask(part), self._mask("face")
        below = self._mapper.texture(image, face)
        seen = self._mapper.visible(face, image.shape[1::-1])
        above = self._mapper.completed(reference, reference_face)
        above = _recoloured(above, below, whole * seen)  # by the light on the whole face
        return self._painted(image, face, above, mask)

    def _mask(self, part: str) -> NDArray[np.float32]:
        """Return the mask (size, size) of a part on the texture, 0..1 with a soft border."""
        size = self._mapper.size
        if part == "face":
            return self._mapper.spread(self._fade[:, None])[..., 0]
        groups, margin = PARTS[part]
        uv = self._topology.uv[self._topology.landmark_vertices]
        places = np.stack([uv[:, 0] * size - 0.5, (1 - uv[:, 1]) * size - 0.5], axis=1)
        mask = np.zeros((size, size), np.float32)
        for ranges in groups:
            points = np.concatenate([places[first:end] for first, end in ranges])
            cv2.fillConvexPoly(mask, cv2.convexHull(np.rint(points).astype(np.int32)), 1.0)
        reach = max(1, round(margin * size))
        mask = cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1,) * 2))
        return cv2.GaussianBlur(mask, (0, 0), reach / 2)

    def _painted(
        self, image: NDArray[np.uint8], face: FaceMesh, texture: NDArray[np.uint8], mask: NDArray[np.float32]
    ) -> NDArray[np.uint8]:
        """Draw a texture over a picture as far as ``mask`` lets it."""
        size = self._mapper.size
        towards = vertex_normals(face.vertices, self._topology)[:, 2:]
        uv = self._topology.uv
        values = np.hstack([uv[:, :1] * size - 0.5, (1 - uv[:, 1:]) * size - 0.5, np.clip(towards / GRAZING, 0, 1)])
        canvas = np.zeros((*image.shape[:2], 3), np.float32)
        draw_values(canvas, face.vertices, self._topology.triangles, values)
        places = np.ascontiguousarray(canvas[..., :2])
        colours = cv2.remap(texture, places, None, cv2.INTER_LINEAR)
        alpha = (cv2.remap(mask, places, None, cv2.INTER_LINEAR) * canvas[..., 2])[..., None]
        return np.rint(image + alpha * (colours.astype(np.float32) - image)).astype(np.uint8)


def _recoloured(above: NDArray[np.uint8], below: NDArray[np.uint8], weight: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return ``above`` with the mean and spread of ``below`` in each channel of Lab (Reinhard et al. 2001)."""
    total = weight.sum()
    if total < 1:
        return above  # nothing to go by
    lab_above, lab_below = (
        cv2.cvtColor(texture.astype(np.float32) / 255, cv2.COLOR_BGR2LAB) for texture in (above, below)
    )
    weight = (weight / total)[..., None]
    mean_above, mean_below = ((lab * weight).sum(axis=(0, 1)) for lab in (lab_above, lab_below))
    spreads = [
        np.sqrt(((lab - mean) ** 2 * weight).sum(axis=(0, 1)))
        for lab, mean in ((lab_above, mean_above), (lab_below, mean_below))
    ]
    gain = np.clip(spreads[1] / np.maximum(spreads[0], 1e-3), 0.5, 2)
    lab = ((lab_above - mean_above) * gain + mean_below).astype(np.float32)
    return np.rint(np.clip(cv2.cvtColor(lab, cv2.COLOR_LAB2BGR), 0, 1) * 255).astype(np.uint8)
