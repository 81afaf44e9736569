"""Jitter, lag and closing of the eyes, from points over time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.films.scenes import SETTLE

LAGS = np.arange(-1.0, 6.01, 0.05)  # frames

Points = NDArray[np.floating]  # (T, N, 2) px


def jitter(points: Points, size: float) -> float:
    """Return the RMS distance of the points from their means over time, in % of the face's ``size`` px."""
    counted = points[SETTLE:]
    deviation = counted - counted.mean(axis=0)
    return float(100 * np.sqrt((deviation**2).sum(axis=2).mean()) / size)


def lag_and_rest(points: Points, signals: NDArray[np.float64], size: float) -> tuple[float, float]:
    """Return the lag behind the signals (T, S), in frames, and what they do not explain, in % of the face.

    Every coordinate is fitted as a linear function of the signals that are delayed by the lag; the lag with the least
    squares of what is left counts. So the two may have any scale and offset.
    """
    values = points.reshape(len(points), -1)
    times = np.arange(len(values), dtype=float)
    rests = []
    for lag in LAGS:
        delayed = [np.interp(times - lag, times, signal) for signal in signals.T]
        basis = np.stack([*delayed, np.ones(len(times))], axis=1)[SETTLE:]
        left = values[SETTLE:] - basis @ np.linalg.lstsq(basis, values[SETTLE:], rcond=None)[0]
        rests.append((left**2).sum() / (left.size / 2))
    best = int(np.argmin(rests))
    lag = LAGS[best]
    if 0 < best < len(LAGS) - 1:  # the lowest point of the parabola through three values
        before, least, after = rests[best - 1 : best + 2]
        lag += 0.5 * (LAGS[1] - LAGS[0]) * (before - after) / max(1e-12, before - 2 * least + after)
    return float(lag), float(100 * np.sqrt(rests[best]) / size)


def openings(points: Points, eyes: tuple[tuple[int, ...], ...]) -> NDArray[np.float64]:
    """Return the opening of the eyes (T,), relative to their width, mean of both.

    An eye is its two corners, then pairs of an upper and a lower point.
    """
    found = []
    for first, second, *lids in eyes:
        width = np.linalg.norm(points[:, first] - points[:, second], axis=1)
        heights = [
            np.linalg.norm(points[:, upper] - points[:, lower], axis=1)
            for upper, lower in zip(lids[::2], lids[1::2], strict=True)
        ]
        found.append(np.mean(heights, axis=0) / width)
    return np.mean(found, axis=0)


def closing_seen(opening: NDArray[np.float64], closing: NDArray[np.float64]) -> float:
    """Return how far the eyes close in the mean blink, in % of their opening before."""
    starts = np.flatnonzero((closing > 0) & (np.roll(closing, 1) == 0))
    before = np.median([opening[start - 4 : start].mean() for start in starts])
    deepest = np.mean([opening[start : start + 10].min() for start in starts])
    return float(100 * (1 - deepest / before))
