"""What can be concluded from latencies: pure functions, each tested against distributions whose answer is known.

Latencies are not normal (they have a long tail) and not independent (a machine is slow for a while). So locations are medians and trimmed
means, and intervals come from resampling whole blocks (Künsch 1989; Efron and Tibshirani 1993).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

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
    """Percentiles (linear between the samples), largest value and coefficient of variation of (N,) latencies, N >= 1."""
    values = np.asarray(milliseconds, np.float64)
    p50, p90, p99 = np.percentile(values, (50, 90, 99)).tolist()
    mean = float(values.mean())
    variation = float(values.std(ddof=1)) / mean if len(values) > 1 and mean > 0 else 0.0
    return {"p50_ms": p50, "p90_ms": p90, "p99_ms": p99, "max_ms": float(values.max()), "mean_ms": mean, "cv": variation}


def thin(values: NDArray, most: int) -> NDArray:
    """At most ``most`` of (N,) values, evenly spread, in their order."""
    return values if len(values) <= most else values[np.linspace(0, len(values) - 1, most).round().astype(int)]


def median_ratio(new: ArrayLike, baseline: ArrayLike, error: float, rng: np.random.Generator) -> Interval:
    """How many times the median of ``baseline`` (N,) the median of ``new`` (M,) is; series in the order in which they were taken.

    Each end of the interval is passed with probability ``error``. It knows the noise within the two series alone, not what differs from one
    start of a process to the next.
    """
    medians = [_resampled(np.asarray(series, np.float64), _row_medians, error, rng) for series in (new, baseline)]
    low, high = np.quantile(medians[0] / medians[1], (error, 1 - error))
    return Interval(float(np.median(new) / np.median(baseline)), float(low), float(high))


def paired_ratio(new: ArrayLike, baseline: ArrayLike, error: float, rng: np.random.Generator) -> Interval:
    """How many times ``baseline`` ``new`` is, from pairs (N,) measured one right after the other; N >= 2.

    ``new`` comes first in every second pair (ABBA). Two neighbouring pairs make one observation, in which steady drift and the advantage of
    going second cancel. The estimate is the trimmed mean of the logarithms of the ratios. Each end is passed with probability ``error``.
    """
    logs = np.log(np.asarray(new, np.float64) / np.asarray(baseline, np.float64))
    even = len(logs) // 2 * 2
    observations = logs[:even].reshape(-1, 2).mean(axis=1)
    low, high = np.quantile(_resampled(observations, _trimmed_means, error, rng), (error, 1 - error))
    return Interval(*(math.exp(value) for value in (float(_trimmed_means(observations[None])[0]), float(low), float(high))))


def block_length(series: NDArray[np.float64]) -> int:
    """Length of the blocks to resample (N,) observations in: several times the time over which they remember, 1 where they do not.

    Taken from being above or below the median, which single outliers cannot move. Correlations are added up in pairs of neighbouring
    lags until a pair is not clearly positive (after Geyer 1992).
    """
    above = np.where(series > np.median(series), 1.0, -1.0)
    above -= above.mean()
    count, power = len(series), float((above**2).mean())
    if power == 0 or count < 8:
        return 1
    spectrum = np.abs(np.fft.rfft(above, 2 * count)) ** 2
    correlations = np.fft.irfft(spectrum)[: count // 2] / (count * power)
    total = 0.0
    for lag in range(1, len(correlations) - 1, 2):
        pair = correlations[lag] + correlations[lag + 1]
        if pair <= 2 / math.sqrt(count):
            break
        total += pair
    return max(1, min(math.ceil(10 * total), count // 10))


def sen_slope(times: ArrayLike, values: ArrayLike, error: float) -> Interval:
    """Slope of (N,) ``values`` over (N,) ``times``: the median of the slopes of all pairs, and an interval from Kendall's distribution.

    Sen 1968. No assumption about the noise but that it is independent: hand in medians of long batches. A single step is no slope.
    """
    x, y = np.asarray(times, np.float64), np.asarray(values, np.float64)
    first, second = np.triu_indices(len(x), 1)
    slopes = np.sort((y[second] - y[first]) / (x[second] - x[first]))
    spread = NormalDist().inv_cdf(1 - error) * math.sqrt(len(x) * (len(x) - 1) * (2 * len(x) + 5) / 18)
    place = max(0, math.floor((len(slopes) - spread) / 2))
    return Interval(float(np.median(slopes)), float(slopes[place]), float(slopes[-1 - place]))


def batch_medians(values: ArrayLike, batches: int) -> NDArray[np.float64]:
    """Medians (B,) of (N,) values cut into ``batches`` stretches of equal length, as far as N goes."""
    return np.array([np.median(part) for part in np.array_split(np.asarray(values, np.float64), batches)])


def _resampled(
    series: NDArray[np.float64], statistic: Callable[[NDArray], NDArray[np.float64]], error: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """The statistic of resampled series, drawn in circular blocks so that neighbours stay together; enough of them for ``error``."""
    count, length = len(series), block_length(series)
    resamples = max(RESAMPLES, math.ceil(20 / error))
    steps = np.arange(length)
    results = []
    for start in range(0, resamples, rows := max(1, CHUNK // count)):
        starts = rng.integers(0, count, (min(rows, resamples - start), math.ceil(count / length), 1))
        places = ((starts + steps) % count).reshape(len(starts), -1)[:, :count]
        results.append(statistic(series[places]))
    return np.concatenate(results)


def _row_medians(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.median(rows, axis=1)


def _trimmed_means(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    cut = int(TRIMMED * rows.shape[1])
    return np.sort(rows, axis=1)[:, cut : rows.shape[1] - cut].mean(axis=1)
