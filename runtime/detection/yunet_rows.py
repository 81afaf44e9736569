"""Decoding of YuNet's outputs to rows of faces, the same that OpenCV's FaceDetectorYN gives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.compiled import native
from runtime.models.detector_spec import STRIDES

INPUT = "picture"  # (1, H, W, 3) uint8 BGR, both sides multiples of STRIDES[-1]
ROW = 15  # x, y, w, h, five points (x, y), score
DEFAULT_SCORE = 0.6  # of a face that counts, unless a user says otherwise
MOST_CANDIDATES = 5000  # this and the next as in runtime/native/detection/rows.cpp
NMS_IOU = 0.3


def face_rows(levels: Sequence[NDArray[np.floating]], score_threshold: float) -> NDArray[np.float32]:
    """Return rows (N, 15) float32 of the faces that score at least ``score_threshold``, best first.

    ``levels`` are the outputs LEVELS: at each place the logits of class and object, then box and five points in units
    of the stride (Wu, Peng, Yu 2023). The score is the root of the product of both probabilities. Of overlapping faces
    the best is kept, by boxes of whole px as in OpenCV.
    """
    return native.best_faces(candidates(levels, score_threshold), score_threshold)


def candidates(levels: Sequence[NDArray[np.floating]], score_threshold: float) -> NDArray[np.float32]:
    """Return rows (N, 15) before any is suppressed, in the order of levels, rows and columns; see `face_rows`."""
    found = [_of_level(level[0], stride, score_threshold) for level, stride in zip(levels, STRIDES, strict=True)]
    return np.ascontiguousarray(np.concatenate(found))


def _of_level(level: NDArray[np.floating], stride: int, score_threshold: float) -> NDArray[np.float32]:
    """Return the rows of one level (16, H, W) before any is suppressed."""
    # The score is at most the root of either probability, so few places pass the first, cheap test.
    least = score_threshold**2
    passes = level[:2].min(axis=0) >= (np.log(least / (1 - least)) if 0 < least < 1 else -np.inf)
    ys, xs = np.nonzero(passes)
    values = level[:, ys, xs].astype(np.float64)
    scores = np.sqrt(1 / ((1 + np.exp(-values[0])) * (1 + np.exp(-values[1]))))
    size = np.exp(values[4:6]) * stride
    centre = (values[2:4] + (xs, ys)) * stride
    points = (values[6:].reshape(5, 2, -1) + (xs, ys)) * stride
    rows = np.concatenate([centre - size / 2, size, points.reshape(10, -1), scores[None]]).T.astype(np.float32)
    return rows[rows[:, 14] >= score_threshold]
