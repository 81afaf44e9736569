"""Appearance of a face: colours at fixed places of it, which tell the people of one film apart.

It is no recognition of faces: light, pose and years change these colours. It settles who is who after a crossing or a
cut, where places alone do not.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.types import LANDMARK_COUNT

# Places between two landmarks, and their share of the way: rows of the face from the brows down to the chin.
_PAIRS = (
    *((first, 44 - first) for first in range(17, 22)),  # between the brows
    *((0, 36), (16, 45), (36, 39), (42, 45), (39, 42), (37, 19), (44, 24), (41, 31), (46, 35)),
    *((1, 31), (15, 35), (2, 31), (14, 35), (3, 48), (13, 54), (27, 41), (27, 46), (30, 3), (30, 13)),
    *((31, 48), (35, 54), (33, 51), (48, 54), (51, 57), (4, 48), (12, 54), (5, 57), (11, 57), (6, 57), (10, 57)),
    *((8, 57), (7, 59), (9, 55)),
)
_SHARES = (0.3, 0.5, 0.7)
_SPREAD = 0.02  # of the face's size: neighbours of a place that are averaged with it
NEWS = 0.3  # share of a new look in an appearance
_OFFSETS = np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]], np.float32)


def _weights() -> NDArray[np.float32]:
    """Return the (P, 68) weights of the landmarks for every place."""
    weights = np.zeros((len(_PAIRS) * len(_SHARES), LANDMARK_COUNT), np.float32)
    places = ((first, second, share) for first, second in _PAIRS for share in _SHARES)
    for row, (first, second, share) in zip(weights, places, strict=True):
        row[first] += 1 - share
        row[second] += share
    return weights


_WEIGHTS = _weights()


def appearance_of(image: NDArray[np.uint8], landmarks: NDArray[np.float32], size: float) -> NDArray[np.float32] | None:
    """Return the appearance, a vector of length 1, of a face with ``landmarks`` (68, 3) and ``size`` px in a frame.

    Brightness and contrast of the frame do not matter. A face of one colour has none.
    """
    places = (_WEIGHTS @ landmarks[:, :2])[:, None] + np.float32(_SPREAD * size) * _OFFSETS
    colours = cv2.remap(image, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    colours = colours.mean(axis=1, dtype=np.float32)
    vector = (colours - colours.mean()).ravel()
    length = float(np.linalg.norm(vector))
    return vector / np.float32(length) if length > 1 else None


def blend(old: NDArray[np.float32] | None, new: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
    """Return the appearance after another look at the same face; None where there is none."""
    if old is None or new is None:
        return new if old is None else old
    vector = (1 - NEWS) * old + NEWS * new
    return vector / np.linalg.norm(vector)


def difference(first: NDArray[np.float32] | None, second: NDArray[np.float32] | None) -> float:
    """Return how much two appearances differ: 0 not at all, about 1 in everything; 0 where one is not known."""
    return 0.0 if first is None or second is None else 1 - float(first @ second)
