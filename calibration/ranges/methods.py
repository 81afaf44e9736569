"""Four ways to choose the range of INT8: histogram -> the largest magnitude that is not clipped.

Each returns a positive float in the unit of the tensor, at most its largest magnitude; 0 where the tensor is 0
throughout. ``steps`` is how many steps there are from 0 to that magnitude: 127 in int8, of which -128 stays unused, and
255 in uint8.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibration.ranges.histograms import Histogram

STEPS, UNSIGNED_STEPS = 127, 255
PERCENT = 99.99
NEARLY_NOTHING = 1e-4  # of a count: what stands for 0 where a logarithm is taken


def minmax(histogram: Histogram, steps: int = STEPS) -> float:
    """Nothing is clipped."""
    return histogram.peak


def percentile(histogram: Histogram, steps: int = STEPS, percent: float = PERCENT) -> float:
    """Return the upper edge of the first bin with at least ``percent`` of all values below it."""
    cumulative = np.cumsum(histogram.counts)
    last = int(np.searchsorted(cumulative, percent * cumulative[-1] / 100))
    return min((last + 1) * histogram.width, histogram.peak)


def mse(histogram: Histogram, steps: int = STEPS) -> float:
    """Minimise the mean squared error of rounding and clipping; a bin counts by its centre."""
    counts, width = _filled(histogram), histogram.width
    if not len(counts):
        return histogram.peak
    centres = (np.arange(len(counts)) + 0.5) * width
    ends = np.arange(min(steps, len(counts)), len(counts) + 1) * width
    errors = [
        float(counts @ (centres - np.minimum(np.rint(centres / (end / steps)), steps) * (end / steps)) ** 2)
        for end in ends
    ]
    return min(float(ends[int(np.argmin(errors))]), histogram.peak)


def entropy(histogram: Histogram, steps: int = STEPS) -> float:
    """Minimise the Kullback-Leibler divergence of quantised values (Migacz, 8-bit inference with TensorRT, 2017).

    Zeros are exact in any range; their bin counts as much as its neighbour, or the zeros of a ReLU would hide all the
    rest.
    """
    counts = _filled(histogram).astype(np.float64)
    levels = steps + 1
    if len(counts) <= levels:
        return histogram.peak
    counts[0] = counts[1]
    ends = range(levels, len(counts) + 1)
    divergences = [_divergence(counts, end, levels) for end in ends]
    return min(ends[int(np.argmin(divergences))] * histogram.width, histogram.peak)


METHODS = {"entropy": entropy, "percentile": percentile, "mse": mse, "minmax": minmax}


def _filled(histogram: Histogram) -> NDArray[np.int64]:
    """The bins up to the last that holds anything."""
    filled = np.flatnonzero(histogram.counts)
    return histogram.counts[: filled[-1] + 1] if histogram.width and len(filled) else histogram.counts[:0]


def _divergence(counts: NDArray[np.float64], end: int, levels: int) -> float:
    """Return the KL divergence, nats, of the first ``end`` bins (the last with all clipped ones) from their levels."""
    kept = counts[:end]
    if not kept.any():
        return np.inf
    reference = kept.copy()
    reference[-1] += counts[end:].sum()
    starts = np.arange(levels) * end // levels
    sizes = np.diff(np.append(starts, end))
    is_filled = kept > 0
    sums, filled = np.add.reduceat(kept, starts), np.add.reduceat(is_filled.astype(np.int64), starts)
    quantised = np.repeat(sums / np.maximum(filled, 1), sizes) * is_filled
    known = reference > 0
    reference, quantised = reference[known] / reference.sum(), np.maximum(quantised[known], NEARLY_NOTHING)
    return float(reference @ np.log(reference / (quantised / quantised.sum())))
