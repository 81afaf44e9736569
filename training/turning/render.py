"""Drawing a turned mesh with the texture of its photograph."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.compiled import native
from training.turning.turned_mesh import PhotoMesh, WeakPerspective

MAX_SIDE = 256  # px of a stored picture
OVERSAMPLING = 2  # pixels drawn per stored pixel, in x and in y
INPAINT_RADIUS = 3  # px


def resized_pose(pose: WeakPerspective, factor: float) -> WeakPerspective:
    """Return ``pose`` in a picture ``factor`` times as large, with 0 for z of the translation.

    Integers are pixel centres before and after.
    """
    x, y = (pose.translation[:2] + 0.5) * factor - 0.5
    return WeakPerspective(pose.scale * factor, pose.rotation, np.array([x, y, 0.0]))


def render_turned(picture: NDArray[np.uint8], mesh: PhotoMesh, pose: WeakPerspective, side: int) -> NDArray[np.uint8]:
    """Return ``picture`` (S, S, 3) uint8 with its face in ``pose`` (px of ``picture``), (side, side, 3)."""
    fine = side * OVERSAMPLING
    factor = fine / len(picture)
    corners = mesh.turn(pose) * np.float32(factor)
    corners[:, :2] += 0.5 * factor - 0.5
    source, depth = native.rasterise(corners, mesh.triangles, mesh.texture, (fine, fine))
    image = cv2.remap(picture, source[..., 0], source[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    if (holes := ~np.isfinite(depth)).any():
        image = cv2.inpaint(image, holes.astype(np.uint8), INPAINT_RADIUS, cv2.INPAINT_TELEA)
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
