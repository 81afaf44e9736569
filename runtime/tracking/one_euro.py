"""One-Euro filters (Casiez, Roussel, Vogel, CHI 2012): little jitter at rest, little lag in motion, causal.

Per step of ``dt`` seconds, as in the paper: the change since the last *filtered* value gives the speed, which has a low
pass of its own; the cutoff frequency of the value's low pass grows with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.compiled import native
from runtime.tracking.options import OneEuro


class NumberFilter:
    """Filter for a few numbers, each with a speed of its own."""

    def __init__(self, settings: OneEuro) -> None:
        """Start without a past: the first values pass as they are."""
        self._settings = settings
        self.values: list[float] = []  # filtered ones
        self.speeds: list[float] = []  # per second

    def __call__(self, values: Sequence[float], dt: float, size: float) -> list[float]:
        """Return the filtered ``values``, ``dt`` seconds after the last ones; ``size`` is the unit of speed."""
        if not self.values:
            self.values = list(values)
            self.speeds = [0.0] * len(values)
            return self.values
        settings = self._settings
        keep = smoothing_factor(settings.speed_cutoff_hz, dt)
        filtered = []
        for number, (value, before) in enumerate(zip(values, self.values, strict=True)):
            change = value - before
            speed = self.speeds[number]
            speed += keep * (change / dt - speed)
            self.speeds[number] = speed
            cutoff = settings.cutoff_hz + settings.beta * abs(speed) / size
            filtered.append(before + smoothing_factor(cutoff, dt) * change)
        self.values = filtered
        return filtered


class PointFilter:
    """Filter for the points of a face. A point's speed is one number, so that it turns with the picture."""

    def __init__(self, settings: OneEuro) -> None:
        """Start without a past: the first points pass as they are."""
        self._settings = settings
        self._filtered: NDArray[np.float32] | None = None  # (N, 3) px
        self._speeds: NDArray[np.float32] | None = None  # (N, 3) px per second

    def __call__(self, points: NDArray[np.float32], dt: float, size: float) -> None:
        """Filter ``points`` (N, 3) float32 px in place; they come ``dt`` s after the last ones, ``size`` px is 1."""
        if self._filtered is None or len(self._filtered) != len(points):
            self._filtered = points.copy()
            self._speeds = np.zeros_like(points)
            return
        settings = self._settings
        gain = settings.beta / size
        native.one_euro(points, self._filtered, self._speeds, dt, settings.cutoff_hz, gain, settings.speed_cutoff_hz)


def smoothing_factor(cutoff_hz: float, dt: float) -> float:
    """Return the weight of a new value in a first-order low pass with steps of ``dt`` seconds."""
    r = 2 * math.pi * cutoff_hz * dt
    return r / (r + 1)
