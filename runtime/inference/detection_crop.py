"""Crops by detections."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from runtime.families.family import Family
from runtime.geometry.crop import turned_crop
from runtime.types import Detections

# Searches in turned pictures find more that is no face, so what they find must convince the network, too.
TURNED_CONFIDENCE = 0.5


def detection_crop(family: Family, found: Detections, number: int) -> NDArray[np.float64]:
    """Return the crop matrix (2, 3), frame px -> crop px, of one detection, turned by its roll."""
    box = found.boxes_xyxy[number]
    matrix = family.crop_matrix(box)
    if found.rolls_deg is None:
        return matrix
    return turned_crop(matrix, (box[:2] + box[2:]) / 2, float(found.rolls_deg[number]))


def is_sure_when_turned(confidence: float | None) -> bool:
    """Return True if a face that only a turned picture showed is one; True for a network without confidence."""
    return confidence is None or confidence >= TURNED_CONFIDENCE
