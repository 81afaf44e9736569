"""Motion of a face over the last second, and the place that it leads to."""

from __future__ import annotations

import math
from collections import deque
from typing import Any, NamedTuple

from numpy.typing import NDArray

REMEMBERED_S = 1.0
# Before a face in front hides another one, the landmarks of the hidden face slide over to it. So the last moments do
# not count for the place where a face is expected.
IGNORED_S = 0.2
SPEED_LASTS_S = 0.7  # time constant with which a speed that is not seen any more fades
LEAST_SPAN_S = 0.1  # of the moments that count; a shorter one tells no speed


class Place(NamedTuple):
    """Middle and size of a face, px."""

    x: float
    y: float
    size: float

    def scaled(self, factor: float) -> Place:
        """Return the place in a picture that is ``factor`` times as large."""
        return Place(factor * self.x, factor * self.y, factor * self.size)

    def inside(self, size_wh: tuple[int, int]) -> Place:
        """Return the place, or the nearest one in a picture: people who leave it come back where they went."""
        return Place(min(max(self.x, 0.0), size_wh[0]), min(max(self.y, 0.0), size_wh[1]), self.size)

    def distance(self, other: Place) -> float:
        """Return how far the places are apart, in sizes; a size that differs by a factor of e counts as 1."""
        size = math.sqrt(self.size * other.size)
        return math.hypot(self.x - other.x, self.y - other.y) / size + abs(math.log(self.size / other.size))


def place_of(box_xyxy: NDArray[Any]) -> Place:
    """Return the place of a box (4,) px."""
    x1, y1, x2, y2 = box_xyxy.tolist()
    return Place((x1 + x2) / 2, (y1 + y2) / 2, max(1e-3, (x2 - x1 + y2 - y1) / 2))


class Motion:
    """Places of one face over the last second."""

    def __init__(self) -> None:
        """Start without a past."""
        self._past: deque[tuple[float, Place]] = deque()

    def __bool__(self) -> bool:
        """Return True if there is a past."""
        return bool(self._past)

    def add(self, time_s: float, place: Place) -> None:
        """Add the place at a time later than all before."""
        self._past.append((time_s, place))
        while self._past[0][0] < time_s - REMEMBERED_S:
            self._past.popleft()

    def rescale(self, factor: float) -> None:
        """Follow a change of the frame's size by ``factor``."""
        self._past = deque((time_s, place.scaled(factor)) for time_s, place in self._past)

    def expected(self, time_s: float) -> Place:
        """Return the place at a time: straight on as before the last moments, and slower and slower from then on."""
        last = self._past[-1][0]
        counted = [moment for moment in self._past if moment[0] <= last - IGNORED_S]
        if not counted or counted[-1][0] - counted[0][0] < LEAST_SPAN_S:
            return self._past[max(0, len(self._past) - 2)][1]  # the place before this one: a jump still shows
        n = len(counted)
        middle = sum(moment for moment, _ in counted) / n
        spread = sum((moment - middle) ** 2 for moment, _ in counted)
        ahead = last - middle + SPEED_LASTS_S * (1 - math.exp((last - time_s) / SPEED_LASTS_S))

        def straight_on(axis: int) -> float:
            mean = sum(place[axis] for _, place in counted) / n
            speed = sum((moment - middle) * place[axis] for moment, place in counted) / spread
            return mean + speed * ahead

        return Place(straight_on(0), straight_on(1), sum(place.size for _, place in counted) / n)
