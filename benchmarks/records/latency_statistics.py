"""Statistics of latencies: pure functions, each tested against distributions with a known answer.

Latencies are not normal (they have a long tail) and not independent (a machine is slow for a while). So locations
are medians and trimmed means, and intervals come from resampling whole blocks (Künsch 1989; Efron and Tibshirani 1993).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 2000
TRIMMED = 0.25  # of the pairs on each side
CHUNK = 2**21  # numbers resampled at a time


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval."""

    estimate: float
    low: float
    high: float


def summarise(milliseconds: ArrayLike) -> dict[str, float]:
    """Compute percentiles, largest value, mean and coefficient of variation of (N,) latencies, N >= 1.

    Percentiles are linear between the samples.
    """
    values = np.asarray(milliseconds, np.float64)
    p50, p90, p99 = np.percentile(values, (50, 90, 99)).tolist()
    mean = float(values.mean())
    variation = float(values.std(ddof=1)) / mean if len(values) > 1 and mean > 0 else 0.0
    largest = float(values.max())
    return {"p50_ms": p50, "p90_ms": p90, "p99_ms": p99, "max_ms": largest, "mean_ms": mean, "cv": variation}


def thin(values: NDArray, most: int) -> NDArray:
    """Choose at most ``most`` of (N,) values, evenly spread, in their order."""
    if len(values) <= most:
        return values
    return values[np.linspace(0, len(values) - 1, most).round().astype(int)]


def median_ratio(new: ArrayLike, baseline: ArrayLike, error: float, rng: np.random.Generator) -> Interval:
    """Return the ratio median(new) / median(baseline) with its confidence interval.

    ``new`` (M,) and ``baseline`` (N,) are in the order of measuring. The true ratio lies beyond each end with
    probability ``error``. The interval covers the noise within the two series alone, not the differences between
    one start of a process and the next.
    """
    new_medians = _resampled(np.asarray(new, np.float64), _row_medians, error, rng)
    baseline_medians = _resampled(np.asarray(baseline, np.float64), _row_medians, error, rng)
    low, high = np.quantile(new_medians / baseline_medians, (error, 1 - error))
    return Interval(float(np.median(new) / np.median(baseline)), float(low), float(high))


def paired_ratio(new: ArrayLike, baseline: ArrayLike, error: float, rng: np.random.Generator) -> Interval:
    """Return the ratio new / baseline with its confidence interval, from pairs (N,) of neighbouring times; N >= 2.

    ``new`` comes first in every second pair (ABBA). Two neighbouring pairs make one observation: steady drift and
    the advantage of going second cancel in it. The estimate is the trimmed mean of the logarithms of the ratios.
    The true ratio lies beyond each end with probability ``error``.
    """
    logs = np.log(np.asarray(new, np.float64) / np.asarray(baseline, np.float64))
    even = len(logs) // 2 * 2
    observations = logs[:even].reshape(-1, 2).mean(axis=1)
    estimate = float(_trimmed_means(observations[None])[0])
    low, high = np.quantile(_resampled(observations, _trimmed_means, error, rng), (error, 1 - error))
    return Interval(math.exp(estimate), math.exp(low), math.exp(high))


def block_length(series: NDArray[np.float64]) -> int:
    """Choose the length of the blocks for resampling (N,) observations: several times their correlation time.

    Independent observations get 1. Correlations are those of being above or below the median, which single outliers
    cannot move. They are added up in pairs of lags until a pair is not clearly positive (after Geyer 1992).
    """
    # Above or below the median, as +1 and -1.
    above = np.where(series > np.median(series), 1.0, -1.0)
    above -= above.mean()
    count = len(series)
    power = float((above**2).mean())
    if power == 0 or count < 8:
        return 1

    # Autocorrelations by the Fourier transform, and their sum.
    spectrum = np.abs(np.fft.rfft(above, 2 * count)) ** 2
    correlations = np.fft.irfft(spectrum)[: count // 2] / (count * power)
    total = 0.0
    for lag in range(1, len(correlations) - 1, 2):
        pair = correlations[lag] + correlations[lag + 1]
        if pair <= 2 / math.sqrt(count):
            break
        total += pair
    return max(1, min(math.ceil(10 * total), count // 10))


def batch_medians(values: ArrayLike, batches: int) -> NDArray[np.float64]:
    """Return the medians (B,) of (N,) values cut into B = ``batches`` stretches of equal length, as far as possible."""
    return np.array([np.median(part) for part in np.array_split(np.asarray(values, np.float64), batches)])


def _resampled(
    series: NDArray[np.float64],
    statistic: Callable[[NDArray], NDArray[np.float64]],
    error: float,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Compute the statistic of resampled series; there are enough of them for ``error``.

    Series are drawn in circular blocks, so that neighbours stay together.
    """
    count = len(series)
    length = block_length(series)
    steps = np.arange(length)
    resamples = max(RESAMPLES, math.ceil(20 / error))
    rows = max(1, CHUNK // count)
    results = []
    for start in range(0, resamples, rows):
        starts = rng.integers(0, count, (min(rows, resamples - start), math.ceil(count / length), 1))
        places = ((starts + steps) % count).reshape(len(starts), -1)[:, :count]
        results.append(statistic(series[places]))
    return np.concatenate(results)


def _row_medians(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.median(rows, axis=1)


def _trimmed_means(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    cut = int(TRIMMED * rows.shape[1])
    return np.sort(rows, axis=1)[:, cut : rows.shape[1] - cut].mean(axis=1)
