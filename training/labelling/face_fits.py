"""Between labels in pixels (y down, coefficients) and fits (y up, latent numbers)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from runtime.families.face_model import FaceModel
from training.data.labels import FaceLabels
from training.labelling.landmark_fit import FaceFit
from training.labelling.point_model import PointModel, point_combinations

FLIP_Y = np.diag([1.0, -1.0, 1.0])


def fit_of_labels(labels: FaceLabels, model: PointModel) -> FaceFit:
    """Return the labels' faces as fits; z of their translation is left out."""
    scale = labels.scale.astype(np.float64)
    rotation = FLIP_Y @ labels.rotation.astype(np.float64)
    translation = labels.translation[:, :2].astype(np.float64) * (1, -1)
    translation = translation + scale[:, None] * (rotation @ model.middle)[:, :2]
    return FaceFit(
        scale * model.size, rotation, translation, model.prior.latent(labels.coefficients.astype(np.float64))
    )


def label_arrays(fit: FaceFit, model: PointModel, face_model: FaceModel) -> dict[str, NDArray[np.float32]]:
    """Return scale, rotation, translation, shape, exp, pts68, box and yaw_deg in the layout of ``train.npz``."""
    scale = fit.scale / model.size
    rotation = FLIP_Y @ fit.rotation
    translation = np.concatenate([fit.translation * (1, -1), np.zeros((len(scale), 1))], axis=1)
    translation[:, :2] -= scale[:, None] * (rotation @ model.middle)[:, :2]
    coefficients = model.prior.coefficients(fit.latent)
    points = (
        scale[:, None, None] * face_model.landmarks(coefficients) @ rotation.transpose(0, 2, 1) + translation[:, None]
    )
    arrays = {
        "scale": scale,
        "rotation": rotation,
        "translation": translation,
        "shape": coefficients[:, : face_model.shape_count],
        "exp": coefficients[:, face_model.shape_count :],
        "pts68": points,
        "box": np.concatenate([points[..., :2].min(axis=1), points[..., :2].max(axis=1)], axis=1),
        "yaw_deg": np.rad2deg(fit.yaw),
    }
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def hand_points(hand68: NDArray | None, hand21: NDArray | None) -> NDArray[np.float64]:
    """Return (N, 89, 2) with y up of points in pixels, NaN where missing or without landmark (ears)."""
    count = len(hand68 if hand68 is not None else hand21)
    parts = [np.full((count, size, 2), np.nan) if part is None else part for part, size in ((hand68, 68), (hand21, 21))]
    points = np.concatenate(parts, axis=1).astype(np.float64) * (1, -1)
    points[:, ~point_combinations().any(axis=1)] = np.nan
    return points


def box_sides(boxes: NDArray) -> NDArray[np.float64]:
    """Return sqrt(width * height) (N,) of boxes (N, 4)."""
    return np.sqrt((boxes[:, 2] - boxes[:, 0]).astype(np.float64) * (boxes[:, 3] - boxes[:, 1]))
