"""Trends of a soak test: leaks of memory and drifts of latency."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.records.latency_statistics import Interval, batch_medians, sen_slope
from runtime.errors import FaceMeshError

WARMING_UP = 0.1  # of the time
BATCHES = 20
ERROR = 0.0005  # of each end of an interval


@dataclass(frozen=True)
class Line:
    """What is kept of one interval."""

    time_s: float  # its middle, since the start
    frames: int
    p50_ms: float
    p99_ms: float
    memory_mb: float | None
    temperature_c: float | None  # of the hottest sensor
    power_w: float | None


@dataclass(frozen=True)
class Trend:
    """How a quantity went, and why that is too much (None: it is not)."""

    per_hour: Interval
    problem: str | None


def judge(lines: list[Line], leak: float, drift: float) -> dict[str, Trend]:
    """The trends of memory and latency. Tolerated are ``leak`` MB per hour and ``drift`` percent of the median latency."""
    judged = lines[round(WARMING_UP * len(lines)) :]
    if len(judged) < 2 * BATCHES:
        raise FaceMeshError(f"{len(lines)} lines are too few to see a trend in, {2 * BATCHES} are needed after the first tenth; soak for longer")
    hours = np.array([line.time_s for line in judged]) / 3600
    trends = {}
    if all(line.memory_mb is not None for line in judged):
        slope = _slope(hours, [line.memory_mb for line in judged])
        problem = f"memory leaks: {slope.estimate:+.1f} MB per hour, at least {slope.low:.1f}; {leak:g} are tolerated"
        trends["memory_mb"] = Trend(slope, problem if slope.low > leak else None)
    latency = _slope(hours, [line.p50_ms for line in judged])
    span, middle = float(hours[-1] - hours[0]), float(np.median([line.p50_ms for line in judged]))
    gained, least = (100 * value * span / middle for value in (latency.estimate, latency.low))
    problem = f"latency drifts: {gained:+.1f} % in this time, at least {least:.1f}; {drift:g} are tolerated"
    trends["p50_ms"] = Trend(latency, problem if least > drift else None)
    return trends


def _slope(hours: np.ndarray, values: list[float]) -> Interval:
    return sen_slope(batch_medians(hours, BATCHES), batch_medians(values, BATCHES), ERROR)
