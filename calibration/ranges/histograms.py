"""Histograms of the magnitudes of a tensor, filled batch by batch in constant memory."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

BINS = 2048
EXACT_FLOAT32 = 1 << 24  # cv2.calcHist counts in float32


class Histogram:
    """Counts of each magnitude |x|, and the extremes of x.

    Bins have the width 2**k / `BINS`, with the least k that has room for the largest magnitude: when the range grows,
    neighbouring bins are merged. So the result is exact and does not depend on the order of the batches, and its upper
    half is never empty.
    """

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros(BINS, np.int64)  # bin i: i * width <= |x| < (i + 1) * width
        self.width = 0.0  # of a bin; 0 as long as all values are 0
        self.minimum, self.maximum = math.inf, -math.inf

    @property
    def peak(self) -> float:
        """Largest magnitude seen."""
        return max(-self.minimum, self.maximum, 0.0)

    def add(self, values: NDArray[np.float32]) -> None:
        """Count all elements of an array of any shape. Raises `ValueError` when one of them is NaN or infinite."""
        if values.size == 0:
            return
        low, high = float(values.min()), float(values.max())  # NaN wins both
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError("NaN or infinity")
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
        self._make_room(max(-low, high))
        magnitudes = np.abs(values, dtype=np.float32).reshape(-1, 1)
        end = BINS * self.width or 1.0
        for start in range(0, len(magnitudes), EXACT_FLOAT32):
            counted = cv2.calcHist([magnitudes[start : start + EXACT_FLOAT32]], [0], None, [BINS], [0.0, end])
            self.counts += counted.reshape(BINS).astype(np.int64)

    def _make_room(self, peak: float) -> None:
        if peak == 0:
            return
        wanted = math.ldexp(1.0, math.frexp(peak)[1]) / BINS  # frexp: peak < 2**exponent
        if self.width == 0:
            self.width = wanted  # the zeros so far are in bin 0 of any width
        while self.width < wanted:
            self.counts[: BINS // 2] = self.counts[0::2] + self.counts[1::2]
            self.counts[BINS // 2 :] = 0
            self.width *= 2
