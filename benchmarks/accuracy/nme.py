"""Normalised mean error (NME) and its summary; arithmetic on arrays, nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

YAW_BINS_DEG = ("0-30", "30-60", "60-90")


@dataclass(frozen=True)
class Score:
    """NME in % of a set of faces. An empty bin is NaN and makes ``balanced`` NaN."""

    faces: int
    mean: float  # over all faces
    bins: tuple[float, float, float]  # mean of each yaw bin, see YAW_BINS_DEG
    balanced: float  # mean of the three bins: the number papers give for AFLW2000-3D


def point_nme(predicted: NDArray, truth: NDArray, box_xyxy: NDArray) -> NDArray[np.float64]:
    """Compute the mean Euclidean distance over P points, in % of sqrt(width × height) of the box.

    ``predicted`` and ``truth`` are (N, P, D), ``box_xyxy`` is (N, 4), the result (N,). D = 2 compares x and y as they
    are. With D = 3 the mean z of prediction and truth are made equal first: under weak perspective z has no origin.
    Nothing else is aligned, no rotation, scale or shift in the image plane.
    """
    difference = predicted.astype(np.float64) - truth.astype(np.float64)
    if difference.shape[2] == 3:
        difference[:, :, 2] -= difference[:, :, 2].mean(axis=1, keepdims=True)
    box = box_xyxy.astype(np.float64)
    size = np.sqrt((box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]))
    return 100 * np.linalg.norm(difference, axis=2).mean(axis=1) / size


def yaw_bins(yaw_deg: NDArray) -> NDArray[np.int64]:
    """Return the yaw bins (N,) 0, 1 or 2 of angles (N,); beyond 90 degrees counts as the last bin."""
    return np.digitize(np.abs(yaw_deg), (30, 60))


def summarise(nme: NDArray[np.float64], bins: NDArray[np.integer]) -> Score:
    """Summarise NME (N,) % by bins (N,); missed faces, with an NME of NaN, are left out."""
    found = np.isfinite(nme)
    nme = nme[found]
    bins = bins[found]
    means = tuple(_mean(nme[bins == number]) for number in range(3))
    return Score(faces=len(nme), mean=_mean(nme), bins=means, balanced=float(np.mean(means)))


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else float("nan")
