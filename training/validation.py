"""Errors of validation faces in one line of figures."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from runtime.geometry.nme import yaw_bins
from training.data.labels import FaceLabels

YAW_BINS = ("yaw_0_30", "yaw_30_60", "yaw_60_180")


def nme_table(errors_percent: NDArray[np.floating], labels: FaceLabels, rows: NDArray[np.int64]) -> dict[str, float]:
    """Return means of per-face errors: all, yaw bins, the mean of the bins ("balanced") and by source. Faces with NaN are left out."""
    known = np.isfinite(errors_percent)
    errors, rows = errors_percent[known], rows[known]
    bins = yaw_bins(labels.yaw_deg[rows])
    by_bin = [_mean(errors[bins == number]) for number in range(3)]
    table = {"mean": _mean(errors), **dict(zip(YAW_BINS, by_bin, strict=True))}
    found = [value for value in by_bin if math.isfinite(value)]
    table["balanced"] = sum(found) / len(found) if found else math.nan
    for source in np.unique(labels.source):
        table[str(source)] = _mean(errors[labels.source[rows] == source])
    return table


def _mean(values: NDArray[np.floating]) -> float:
    return float(values.mean()) if len(values) else math.nan
