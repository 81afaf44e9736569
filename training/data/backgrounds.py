"""Crops without a face, for a network to learn that it sees none."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.geometry.crop import crop_matrix, warp_crop
from training.data.augment import Augmentation, photometric

Image = NDArray[np.uint8]
TRIES = 8


def background_crop(
    generator: np.random.Generator,
    images: Sequence[Image],
    boxes_xyxy: NDArray[np.floating],
    rows: NDArray[np.int64],
    size: int,
) -> Image:
    """Return a crop (size, size, 3) beside the face of one of the pictures; boxes (N, 4) px are those of their faces.

    Places without overlap are looked for in a few pictures. Then it is noise, smooth or of one colour.
    """
    crop = None
    if generator.random() < 0.9:
        for row in generator.choice(rows, TRIES):
            crop = _beside_face(generator, images[row], boxes_xyxy[row], size)
            if crop is not None:
                break
    if crop is None:
        cells = int(generator.integers(1, 33))
        crop = cv2.resize(
            generator.integers(0, 256, (cells, cells, 3), np.uint8), (size, size), interpolation=cv2.INTER_CUBIC
        )
    if generator.random() < 0.5:
        crop = crop[:, ::-1]
    return photometric(generator, np.ascontiguousarray(crop), Augmentation())


def _beside_face(generator: np.random.Generator, image: Image, box: NDArray[np.floating], size: int) -> Image | None:
    """Return a crop beside the box, at least half inside the picture; None if a draw finds no place."""
    height, width = image.shape[:2]
    side = float((box[2:] - box[:2]).mean()) * generator.uniform(0.3, 1.5)
    x, y = generator.uniform(0, width), generator.uniform(0, height)
    low, high = np.array([x, y]) - side / 2, np.array([x, y]) + side / 2
    if (np.minimum(high, box[2:]) > np.maximum(low, box[:2])).all():
        return None
    inside = np.clip(np.minimum(high, (width, height)) - np.maximum(low, 0), 0, None).prod()
    if inside < 0.5 * side**2:
        return None
    return warp_crop(image, crop_matrix(np.concatenate([low, high]), 1.0, size), size)
