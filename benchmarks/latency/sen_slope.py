"""The slope of a series with its confidence interval (Sen 1968). Home of SciPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import theilslopes

from benchmarks.records.latency_statistics import Interval


def sen_slope(times: ArrayLike, values: ArrayLike, error: float) -> Interval:
    """Estimate the slope of (N,) ``values`` over (N,) ``times``: the median of the slopes of all pairs.

    The true slope lies beyond each end of the interval with probability ``error`` (Kendall's distribution). Nothing
    is assumed about the noise but independence: hand in medians of long batches. A single step is no slope.
    """
    x = np.asarray(times, np.float64)
    y = np.asarray(values, np.float64)
    slope, _, low, high = theilslopes(y, x, alpha=1 - 2 * error)
    return Interval(float(slope), float(low), float(high))
