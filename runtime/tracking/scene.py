"""Cuts of a film: frames whose picture has nothing to do with the one before."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

GRID = (9, 16)  # rows and columns of the pixels that are compared
LEAST_LIKENESS = 0.5  # correlation of two frames of one scene
# Something that passes before a plain background changes the likeness, but few pixels; a cut changes many.
CHANGE = 10  # grey levels
LEAST_CHANGED = 0.3  # share of the pixels in a cut


class Scene:
    """Comparison of every frame with the one before, by a grid of its pixels."""

    def __init__(self) -> None:
        """Start without a frame."""
        self.is_cut = False  # the last frame begins another scene
        self._before: NDArray[np.uint8] | None = None

    def look(self, image: NDArray[np.uint8]) -> None:
        """Take the next frame (H, W, 3)."""
        height, width = image.shape[:2]
        rows, columns = max(1, height // GRID[0]), max(1, width // GRID[1])
        grid = np.ascontiguousarray(image[rows // 2 :: rows, columns // 2 :: columns, 1][: GRID[0], : GRID[1]])
        before, self._before = self._before, grid
        self.is_cut = False
        if before is None or before.shape != grid.shape:
            return
        if np.count_nonzero(cv2.absdiff(grid, before) > CHANGE) < LEAST_CHANGED * grid.size:
            return
        grid, before = grid.ravel() - np.float32(grid.mean()), before.ravel() - np.float32(before.mean())
        norms = float(np.sqrt((grid @ grid) * (before @ before)))
        self.is_cut = norms > 0 and float(grid @ before) < LEAST_LIKENESS * norms
