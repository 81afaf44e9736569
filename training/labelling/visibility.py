"""Landmarks that the head itself does not hide, and contour landmarks that lie on the visible outline."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from runtime.families.face_model import FaceModel
from training.labelling.landmark_fit import FaceFit, observed_vertices
from training.labelling.point_model import CONTOUR, PointModel

CELL = 0.02  # of the box side: pixels of the coarse depth map; larger for meshes with too few vertices for that
ON_OUTLINE = 0.04  # face sizes between a contour landmark and the outline's point
IN_FRONT = 0.08  # of the box side: a vertex that much nearer to the camera hides what shares its cell


def contour_on_outline(model: PointModel, fit: FaceFit) -> NDArray[np.bool_]:
    """Return (N, 17) True where the contour landmark lies on the visible outline, False where the head turns it away.

    Depth cannot tell that: on the outline the surface is seen edge-on.
    """
    outline, landmarks = (observed_vertices(model, fit, outline=choice)[0][:, :CONTOUR, :2] for choice in (True, False))
    return np.linalg.norm(outline - landmarks, axis=2) < ON_OUTLINE * fit.scale[:, None]


def visible_landmarks(model: FaceModel, labels: Mapping[str, NDArray]) -> NDArray[np.bool_]:
    """Return (N, 68) True where no vertex lies clearly in front; for inner points, see `contour_on_outline`.

    ``labels`` has scale, rotation, shape, exp and box as in ``train.npz``.
    """
    count = len(labels["scale"])
    visible = np.zeros((count, 68), bool)
    for row in range(count):
        coefficients = np.concatenate([labels["shape"][row], labels["exp"][row]])
        vertices = labels["scale"][row] * model.vertices(coefficients) @ labels["rotation"][row].T
        x0, y0, x1, y1 = labels["box"][row]
        visible[row] = _in_front(vertices, model.keypoints68, float(np.sqrt((x1 - x0) * (y1 - y0))))
    return visible


def _in_front(vertices: NDArray, keypoints: NDArray, side: float) -> NDArray[np.bool_]:
    """Return (68,) by comparing each key point with the nearest vertex of its cell."""
    cell = side * max(CELL, 2 / np.sqrt(len(vertices)))
    cells = np.floor((vertices[:, :2] - vertices[:, :2].min(axis=0)) / cell).astype(np.int64)
    nearest = np.full(cells.max(axis=0) + 1, -np.inf)
    np.maximum.at(nearest, (cells[:, 0], cells[:, 1]), vertices[:, 2])
    column, line = cells[keypoints].T
    return nearest[column, line] - vertices[keypoints, 2] < IN_FRONT * side
