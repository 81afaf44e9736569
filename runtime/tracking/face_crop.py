"""The crop for a face's next frame, from its landmarks in this one."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from runtime.families.family import Family
from runtime.geometry.crop import turned_crop, upright_box
from runtime.tracking.motion import Place
from runtime.tracking.one_euro import NumberFilter
from runtime.tracking.options import OneEuro

# Turned crops take longer, and the network reads faces that are turned a little as well as upright ones. The two limits
# keep a face in between from changing all the time.
TURN_BEYOND_DEG = 15.0
STRAIGHT_BELOW_DEG = 11.0


class FaceCrop:
    """Crop that follows one face: round the box of its landmarks once they are upright, turned with its roll.

    It lies where the face will be in the next frame if it keeps its speed.
    """

    def __init__(self, family: Family, smoothing: OneEuro | None) -> None:
        """Start without a face; ``smoothing`` None takes every box as it is."""
        self._family = family
        self._smoothing = smoothing
        self._filter: NumberFilter | None = None
        self._numbers: list[float] = []  # x, y of the middle, width and height, px; then the roll's arc, px
        self._size = 1.0  # px, unit of the arc
        self._is_turned = False

    def reset(self) -> None:
        """Forget the past: the next box counts as it is."""
        self._filter = None if self._smoothing is None else NumberFilter(self._smoothing)

    def follow(self, landmarks: NDArray[np.float32], roll_deg: float, dt: float, size: float) -> None:
        """Move to ``landmarks`` (68, 3) px of a face of ``size`` px and ``roll_deg``, ``dt`` s after the last ones."""
        if self._filter is None:
            self.reset()
        (x, y), width, height = upright_box(landmarks, roll_deg)
        roll = math.radians(roll_deg)
        if self._filter is None:
            self._size = size
            self._numbers = [x, y, width, height, roll * size]
            return
        # The arc is that of the nearest turn, in the unit of the first frame, so that it does not grow with the face.
        if not self._filter.values:
            self._size = size
        else:
            before = self._filter.values[4] / self._size
            roll = before + math.remainder(roll - before, math.tau)
        self._numbers = list(self._filter([x, y, width, height, roll * self._size], dt, size))
        # The filter's speed is that of the way from its own last place, so that its lag is made up for, too.
        for axis in (0, 1):
            self._numbers[axis] += dt * self._filter.speeds[axis]

    def rescale(self, factor: float) -> None:
        """Follow a change of the frame's size by ``factor``."""
        self._numbers = [factor * number for number in self._numbers]
        self._size *= factor
        self.reset()

    def matrix(self) -> NDArray[np.float64]:
        """Return the crop matrix (2, 3), frame px -> crop px, round the last box."""
        x, y, width, height, arc = self._numbers
        roll_deg = math.degrees(math.remainder(arc / self._size, math.tau))
        self._is_turned = abs(roll_deg) > (STRAIGHT_BELOW_DEG if self._is_turned else TURN_BEYOND_DEG)
        return self._matrix((x, y), width, height, roll_deg if self._is_turned else 0.0)

    def matrix_at(self, place: Place, roll_deg: float) -> NDArray[np.float64]:
        """Return the crop matrix for a face that is expected at a place, turned by ``roll_deg``."""
        return self._matrix(place[:2], place.size, place.size, roll_deg)

    def _matrix(
        self, centre_xy: tuple[float, float], width: float, height: float, roll_deg: float
    ) -> NDArray[np.float64]:
        x, y = centre_xy
        box = x - width / 2, y - height / 2, x + width / 2, y + height / 2
        return turned_crop(self._family.crop_matrix(box), centre_xy, roll_deg)
