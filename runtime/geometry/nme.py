"""Normalised mean error (NME) of points and its means by yaw, as papers on face alignment report it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

YAW_BINS_DEG = ("0-30", "30-60", "60-90")  # of the absolute yaw; the last one has no upper end
YAW_EDGES_DEG = (30, 60)


def box_size(box_xyxy: NDArray[Any]) -> NDArray[np.float64]:
    """Return sqrt(width × height) of boxes (N, 4), the unit of the error, (N,)."""
    box = box_xyxy.astype(np.float64)
    return np.sqrt((box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]))


def point_nme(predicted: NDArray[Any], truth: NDArray[Any], size: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean Euclidean distance over P points in % of ``size``, (N,).

    ``predicted`` and ``truth`` are (N, P, D); ``size`` (N,) is the `box_size` of the face in their unit. D = 2 compares
    x and y as they are. With D = 3 the mean z of prediction and truth are made equal first: under weak perspective z
    has no origin. Nothing else is aligned, no rotation, scale or shift in the image plane.
    """
    difference = predicted.astype(np.float64) - truth.astype(np.float64)
    if difference.shape[2] == 3:
        difference[:, :, 2] -= difference[:, :, 2].mean(axis=1, keepdims=True)
    return 100 * np.linalg.norm(difference, axis=2).mean(axis=1) / size


def yaw_bins(yaw_deg: NDArray[Any]) -> NDArray[np.int64]:
    """Return the yaw bins (N,) 0, 1 or 2 of angles (N,); beyond 90 degrees counts as the last bin."""
    return np.digitize(np.abs(yaw_deg), YAW_EDGES_DEG)


def bin_means(nme: NDArray[np.floating], bins: NDArray[np.integer]) -> tuple[float, float, float]:
    """Return the mean of ``nme`` (N,) in each yaw bin, NaN in an empty one."""
    near, middle, far = (mean_or_nan(nme[bins == number]) for number in range(3))
    return near, middle, far


def balanced_mean(means: tuple[float, float, float], skip_empty: bool = False) -> float:
    """Return the mean of the bins' means: the number papers give for AFLW2000-3D.

    It is NaN if a bin is empty, unless ``skip_empty`` leaves such bins out.
    """
    kept = [mean for mean in means if not (skip_empty and np.isnan(mean))]
    return float(np.mean(kept)) if kept else float("nan")


def mean_or_nan(values: NDArray[np.floating]) -> float:
    """Return the mean of values (N,), NaN if there are none."""
    return float(values.mean()) if len(values) else float("nan")
