"""Judgement of the fit where dense labels are known: hide them, fit their visible landmarks with noise, compare."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from runtime.errors import FaceMeshError
from runtime.families.face_model import FaceModel
from training.data.labels import FaceLabels
from training.labelling.definition_offsets import no_offsets
from training.labelling.face_fits import box_sides, fit_of_labels, hand_points, label_arrays
from training.labelling.landmark_fit import FitSettings, fit_points
from training.labelling.point_model import CONTOUR, PointModel
from training.labelling.visibility import contour_on_outline, visible_landmarks

POINT_NOISE = 0.015  # of the box side, standard deviation in x and in y
VERTICES = 2000  # compared, drawn by the seed
YAW_BINS_DEG = ((0, 15), (15, 30), (30, 45), (45, 60), (60, 75), (75, 180))


def check_fit(
    labels: FaceLabels, source: str, face_model: FaceModel, model: PointModel, settings: FitSettings, seed: int
) -> None:
    """Print the error of dense vertices by yaw; rows of ``source`` for validation, all its rows where none is.

    The landmarks are vertices here, so contour points are fitted as vertices.
    """
    rows = labels.source == source
    if not rows.any():
        raise FaceMeshError(
            f"--check {source}: no such rows; the sources are {', '.join(sorted(set(labels.source.tolist())))}"
        )
    labels = labels.select(rows & labels.is_val if (rows & labels.is_val).any() else rows)
    errors_2d, errors_3d = dense_errors(labels, face_model, model, replace(settings, outline=False), seed)
    yaw = np.abs(labels.yaw_deg)
    print(
        f"{source}: {len(labels)} faces; dense vertices after hiding the labels, "
        "mean distance in % of the box (3D: depth up to a shift)"
    )
    for low, high in ((0, 180), *YAW_BINS_DEG):
        chosen = (yaw >= low) & (yaw < high)
        if chosen.any():
            print(
                f"yaw {low:>2}-{high:<3} {chosen.sum():>6} faces   "
                f"2D {errors_2d[chosen].mean():5.2f}   3D {errors_3d[chosen].mean():5.2f}"
            )


def dense_errors(
    labels: FaceLabels, face_model: FaceModel, model: PointModel, settings: FitSettings, seed: int
) -> tuple[NDArray, NDArray]:
    """Return the mean distances (N,) in 2D and 3D, in % of the box, between labels and fits to noisy landmarks."""
    generator = np.random.default_rng(seed)
    known = fit_of_labels(labels, model)
    truth = label_arrays(known, model, face_model)
    side = box_sides(labels.box)
    noise = POINT_NOISE * side[:, None, None] * generator.normal(size=(len(labels), 68, 2))
    points = hand_points(labels.pts68[..., :2] + noise, None)
    weights = np.zeros(points.shape[:2])
    weights[:, :68] = visible_landmarks(face_model, truth)
    weights[:, :CONTOUR] = contour_on_outline(model, known)
    fitted = label_arrays(fit_points(model, points, weights, no_offsets(), settings), model, face_model)

    vertices = generator.choice(len(face_model.mean), min(VERTICES, len(face_model.mean)), replace=False)
    difference = _vertices(fitted, face_model, vertices) - _vertices(truth, face_model, vertices)
    difference[..., 2] -= difference[..., 2].mean(axis=1, keepdims=True)
    return tuple(100 * np.linalg.norm(part, axis=2).mean(axis=1) / side for part in (difference[..., :2], difference))


def _vertices(labels: dict[str, NDArray], model: FaceModel, chosen: NDArray) -> NDArray[np.float64]:
    """Return (N, len(chosen), 3) px."""
    basis = model.basis.reshape(len(model.mean), 3, -1)[chosen].astype(np.float64)
    coefficients = np.concatenate([labels["shape"], labels["exp"]], axis=1).astype(np.float64)
    face = model.mean[chosen] + np.einsum("kdc,nc->nkd", basis, coefficients, optimize=True)
    return (
        labels["scale"][:, None, None] * face @ labels["rotation"].transpose(0, 2, 1) + labels["translation"][:, None]
    )
