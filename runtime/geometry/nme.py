"""Normalised mean error (NME) of landmarks, and the yaw bins that it is reported by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

YAW_EDGES_DEG = (30, 60)


def point_nme(predicted: NDArray, truth: NDArray, box_xyxy: NDArray) -> NDArray[np.float64]:
    """(N, P, D), (N, P, D), (N, 4) -> (N,) %: mean Euclidean distance over the P points, in units of sqrt(width × height) of the box.

    D = 2 compares x and y as they are. With D = 3 the mean z of prediction and truth are made equal first: under weak perspective z
    has no origin. Nothing else is aligned, no rotation, scale or shift in the image plane.
    """
    difference = predicted.astype(np.float64) - truth.astype(np.float64)
    if difference.shape[2] == 3:
        difference[:, :, 2] -= difference[:, :, 2].mean(axis=1, keepdims=True)
    return 100 * np.linalg.norm(difference, axis=2).mean(axis=1) / box_size(box_xyxy)


def box_size(box_xyxy: NDArray) -> NDArray[np.float64]:
    """(N, 4) px -> (N,) px: sqrt(width × height), the unit of the NME."""
    box = box_xyxy.astype(np.float64)
    return np.sqrt((box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]))


def yaw_bins(yaw_deg: NDArray) -> NDArray[np.int64]:
    """(N,) degrees -> (N,) 0, 1 or 2; beyond 90 counts as the last bin."""
    return np.digitize(np.abs(yaw_deg), YAW_EDGES_DEG)
