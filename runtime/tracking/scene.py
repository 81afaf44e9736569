"""Cuts of a film: frames whose picture has nothing to do with the one before."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from runtime.compiled import native

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
        self._grid: NDArray[np.uint8] | None = None  # of the frame before

    def look(self, image: NDArray[np.uint8]) -> None:
        """Take the next frame (H, W, 3)."""
        shape = min(GRID[0], image.shape[0]), min(GRID[1], image.shape[1])
        before, grid = self._grid, self._grid
        if grid is None or grid.shape != shape:
            before, grid = None, np.zeros(shape, np.uint8)
        if image.strides[1:] != (3, 1):
            image = np.ascontiguousarray(image)
        changed, likeness = native.scene_change(image, grid, CHANGE)
        self._grid = grid
        self.is_cut = before is not None and changed >= LEAST_CHANGED and likeness < LEAST_LIKENESS
