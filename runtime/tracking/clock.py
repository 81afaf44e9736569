"""Time between frames, whatever their time stamps say."""

from __future__ import annotations

import math

USUAL_STEP_S = 1 / 30  # until the first two time stamps that differ
LONGEST_STEP_S = 1.0  # beyond it a face's past says nothing about how it moves


class Clock:
    """A time that always goes forward. Time stamps may repeat, be missing, jump or go back."""

    def __init__(self) -> None:
        """Start at 0 s."""
        self.time_s = 0.0
        self.step_s = USUAL_STEP_S  # since the frame before, always above 0
        self.has_jumped = False  # the last step says nothing about speeds
        self._stamp: float | None = None
        self._usual = USUAL_STEP_S

    def tick(self, timestamp_s: float | None) -> None:
        """Go on to a frame; a time stamp that repeats, goes back, is None or not finite counts as the usual step."""
        stamp = timestamp_s if timestamp_s is not None and math.isfinite(timestamp_s) else None
        step = 0.0 if stamp is None or self._stamp is None else stamp - self._stamp
        self.has_jumped = step < 0 or step > LONGEST_STEP_S
        if 0 < step <= LONGEST_STEP_S:
            self._usual = step
        self.step_s = step if step > 0 else self._usual
        self.time_s += self.step_s
        self._stamp = self._stamp if stamp is None else stamp
