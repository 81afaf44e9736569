"""Errors of the landmarks that a network is given beside the picture, as another network makes them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

# Contour, brows, nose, eyes, mouth: a network that misjudges one of them moves all of its points.
PARTS = np.repeat(np.arange(7), (17, 5, 5, 9, 6, 6, 20))


def draw_noise(generator: np.random.Generator, faces: int, mean_distance: float) -> NDArray[np.float32]:
    """Return offsets (N, 68, 2) float32 whose lengths have the mean ``mean_distance``, in its unit.

    A third of the variance is common to a face, a third to each of its parts, a third is each point's own.
    """
    if not mean_distance:
        return np.zeros((faces, 68, 2), np.float32)
    deviation = mean_distance / math.sqrt(math.pi / 2) / math.sqrt(3)  # of one third, along one axis
    face, part, point = (generator.normal(0, deviation, (faces, count, 2)) for count in (1, PARTS[-1] + 1, 68))
    return (face + part[:, PARTS] + point).astype(np.float32)
