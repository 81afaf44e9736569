"""Eyes of photographs with points by hand: features as the runtime computes them, and the openings marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.expressions.eye_opening import OUTER_CORNERS, eye_features, eye_patches
from runtime.pipeline import FaceMeshPipeline
from training.labelling.hand_labels import HandLabels

MOST_YAW_DEG = 35.0
LEAST_CONFIDENCE = 0.5
EYES = ((36, 37, 38, 39, 40, 41), (42, 43, 44, 45, 46, 47))  # the person's right one first, as `eye_patches` has them
VISIBLE = 2
JITTER = 0.04  # of the distance between the outer corners: what landmarks are off


@dataclass(frozen=True, eq=False)
class EyeSamples:
    """N eyes; copies of one follow each other."""

    features: NDArray[np.float32]  # (N, 768)
    openings: NDArray[np.float32]  # (N,) gap between the lids over the width of the eye
    is_val: NDArray[np.bool_]  # (N,) by photograph


def marked_openings(points: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the openings (2,) of the right and left eye of points (68, 2): Soukupová and Čech 2016."""
    found = []
    for outer, upper, upper_inner, inner, lower_inner, lower in EYES:
        gaps = np.linalg.norm(points[[upper, upper_inner]] - points[[lower, lower_inner]], axis=1)
        found.append(gaps.mean() / max(float(np.linalg.norm(points[outer] - points[inner])), 1e-6))
    return np.array(found)


def eye_samples(
    pipeline: FaceMeshPipeline, labels: HandLabels, images: Sequence[NDArray[np.uint8]], copies: int, seed: int
) -> EyeSamples:
    """Return the visible eyes of nearly frontal faces, by the landmarks of ``pipeline`` in each picture.

    Of training eyes there are ``copies`` more, moved as landmarks may be off.
    """
    generator = np.random.default_rng(seed)
    features, openings, is_val = [], [], []
    for row, image in enumerate(images):
        points = labels.hand68[row].astype(np.float64)
        marked = points[np.isfinite(points).all(axis=1)]
        if (labels.visible68[row, 36:48] != VISIBLE).any() or np.ptp(marked, axis=0).min() < 1:
            continue
        (face,) = pipeline.from_boxes(image, [np.concatenate([marked.min(axis=0), marked.max(axis=0)])])
        if abs(face.pose.yaw_deg) > MOST_YAW_DEG or (face.confidence or 1.0) < LEAST_CONFIDENCE:
            continue
        distance = np.linalg.norm(np.subtract(*face.landmarks[list(OUTER_CORNERS)]))
        for copy in range(1 if labels.is_val[row] else 1 + copies):
            moved = face.landmarks.copy()
            if copy:
                moved[36:48, :2] += generator.normal(0, JITTER * distance, 2).astype(np.float32)
                moved[list(OUTER_CORNERS), :2] += generator.normal(0, JITTER * distance, (2, 2)).astype(np.float32)
            patches = eye_patches(moved, image)
            features += [eye_features(patch) for patch in patches]
            openings += marked_openings(points).tolist()
            is_val += [bool(labels.is_val[row])] * 2
    return EyeSamples(
        np.array(features, np.float32).reshape(-1, 768), np.array(openings, np.float32), np.array(is_val, bool)
    )
