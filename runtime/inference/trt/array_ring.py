"""Arrays for results that are used again: a new half megabyte per face and frame would be mapped and paged in anew."""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray


class ArrayRing:
    """Arrays of one shape, float32. Whoever holds one, or a view of it, keeps it for as long as he likes."""

    def __init__(self, shape: tuple[int, ...], most: int) -> None:
        """Keep up to ``most`` arrays for another use."""
        self._shape = shape
        self._most = most
        self._arrays: list[NDArray[np.float32]] = [np.empty(shape, np.float32)]
        self._next = 0
        self._free = self._references(0)  # what Python counts for an array that nobody else holds

    def take(self) -> NDArray[np.float32]:
        """Return an array that nobody holds; its numbers are any."""
        count = len(self._arrays)
        for _ in range(count):
            place, self._next = self._next, (self._next + 1) % count
            if self._references(place) <= self._free:
                return self._arrays[place]
        array = np.empty(self._shape, np.float32)
        if count < self._most:
            self._arrays.append(array)
        return array

    def _references(self, place: int) -> int:
        return sys.getrefcount(self._arrays[place])
