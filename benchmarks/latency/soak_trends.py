"""Trends of a soak test: leaks of memory and drifts of latency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.records.latency_statistics import Interval, batch_medians
from runtime.errors import FaceMeshError

WARMING_UP = 0.1  # of the time
BATCHES = 20
ERROR = 0.0005  # of each end of an interval


@dataclass(frozen=True)
class Line:
    """The figures that are kept of one interval."""

    time_s: float  # its middle, since the start
    frames: int
    p50_ms: float
    p99_ms: float
    memory_mb: float | None
    temperature_c: float | None  # of the hottest sensor
    power_w: float | None


@dataclass(frozen=True)
class Trend:
    """The slope of a quantity, and the problem if it is too steep (None: it is not)."""

    per_hour: Interval
    problem: str | None


def find_trends(lines: Sequence[Line], leak: float, drift: float) -> dict[str, Trend]:
    """Find the trends of memory and latency after warming up.

    ``leak`` MB per hour and ``drift`` percent of the median latency are tolerated. Raises `FaceMeshError` if there
    are too few lines.
    """
    # Leave out the first tenth.
    kept = lines[round(WARMING_UP * len(lines)) :]
    if len(kept) < 2 * BATCHES:
        needed = f"{2 * BATCHES} are needed after the first tenth"
        raise FaceMeshError(f"{len(lines)} lines are too few to see a trend in, {needed}; soak for longer")
    hours = np.array([line.time_s for line in kept]) / 3600
    trends = {}

    # Memory, if the system tells it.
    if all(line.memory_mb is not None for line in kept):
        memory = _slope(hours, [line.memory_mb for line in kept])
        amounts = f"{memory.estimate:+.1f} MB per hour, at least {memory.low:.1f}; {leak:g} are tolerated"
        trends["memory_mb"] = Trend(memory, f"memory leaks: {amounts}" if memory.low > leak else None)

    # Latency, in percent of its median over the whole time.
    medians = [line.p50_ms for line in kept]
    latency = _slope(hours, medians)
    percent_per_slope = 100 * float(hours[-1] - hours[0]) / float(np.median(medians))
    gained = percent_per_slope * latency.estimate
    least = percent_per_slope * latency.low
    amounts = f"{gained:+.1f} % in this time, at least {least:.1f}; {drift:g} are tolerated"
    trends["p50_ms"] = Trend(latency, f"latency drifts: {amounts}" if least > drift else None)
    return trends


def _slope(hours: NDArray[np.float64], values: list[float]) -> Interval:
    from benchmarks.latency.sen_slope import sen_slope

    return sen_slope(batch_medians(hours, BATCHES), batch_medians(values, BATCHES), ERROR)
