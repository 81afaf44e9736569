"""Pixels of a crop beyond its picture: black as at inference, or filled in several ways so that edges carry no hint."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

KINDS = ("black", "replicated", "reflected", "colour", "noise", "photograph")
SHARES = (0.4, 0.15, 0.15, 0.1, 0.1, 0.1)


def draw_kind(generator: np.random.Generator) -> str:
    """Return one of KINDS by its share."""
    return KINDS[generator.choice(len(KINDS), p=SHARES)]


def fill_outside(
    generator: np.random.Generator,
    kind: str,
    image: Image,
    picture: Image,
    matrix: NDArray[np.float64],
    photograph: Image | None = None,
) -> Image:
    """Return ``image`` (S, S, 3), the crop of ``picture`` by ``matrix`` (2, 3), with its outside filled.

    ``kind`` is one of KINDS; ``photograph`` is another picture, the filling of the kind of that name.
    """
    if kind == "black":
        return image
    size = image.shape[0]
    inside = cv2.warpAffine(np.ones(picture.shape[:2], np.uint8), matrix, (size, size), flags=cv2.INTER_NEAREST)
    if inside.all():
        return image
    return np.where(inside[..., None] > 0, image, _filling(generator, kind, size, picture, matrix, photograph))


def _filling(
    generator: np.random.Generator,
    kind: str,
    size: int,
    picture: Image,
    matrix: NDArray[np.float64],
    photograph: Image | None,
) -> Image:
    if kind in ("replicated", "reflected"):
        mode = cv2.BORDER_REPLICATE if kind == "replicated" else cv2.BORDER_REFLECT
        return cv2.warpAffine(picture, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=mode)
    if kind == "photograph" and photograph is not None:
        return random_part(generator, photograph, size)
    cells = 8 if kind == "noise" else 1
    colours = generator.integers(0, 256, (cells, cells, 3), np.uint8)
    return cv2.resize(colours, (size, size), interpolation=cv2.INTER_CUBIC)


def random_part(generator: np.random.Generator, photograph: Image, size: int) -> Image:
    """Return a square part of a picture, half to all of its shorter side, as (size, size, 3)."""
    height, width = photograph.shape[:2]
    side = int(min(height, width) * generator.uniform(0.5, 1))
    x, y = int(generator.integers(0, width - side + 1)), int(generator.integers(0, height - side + 1))
    return cv2.resize(photograph[y : y + side, x : x + side], (size, size), interpolation=cv2.INTER_AREA)
