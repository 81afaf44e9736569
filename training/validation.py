"""Scores of validation faces: their table by yaw and source, and the log with a row per epoch."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.geometry.nme import balanced_mean, bin_means, mean_or_nan, yaw_bins
from training.data.labels import FaceLabels

# Columns of log.csv for the bins of runtime.geometry.nme; fixed, since a run appends to the log that it began with.
YAW_COLUMNS = ("yaw_0_30", "yaw_30_60", "yaw_60_180")


def nme_table(errors_percent: NDArray[np.floating], labels: FaceLabels, rows: NDArray[np.int64]) -> dict[str, float]:
    """Return means of the errors (N,) of ``rows`` (N,): all, yaw bins, the mean of the bins ("balanced") and by source.

    Faces with NaN are left out. A bin or source without faces is NaN; the mean of the bins leaves it out.
    """
    known = np.isfinite(errors_percent)
    errors, rows = errors_percent[known], rows[known]
    by_bin = bin_means(errors, yaw_bins(labels.yaw_deg[rows]))
    table = {"mean": mean_or_nan(errors), **dict(zip(YAW_COLUMNS, by_bin, strict=True))}
    table["balanced"] = balanced_mean(by_bin, skip_empty=True)
    for source in np.unique(labels.source):
        table[str(source)] = mean_or_nan(errors[labels.source[rows] == source])
    return table


def append_row(log: Path, row: Mapping[str, float]) -> None:
    """Append a row to a CSV file, with the names of the columns above the first one."""
    fresh = not log.exists()
    with log.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, row.keys())
        if fresh:
            writer.writeheader()
        writer.writerow(row)
