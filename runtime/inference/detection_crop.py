"""Crops by detections."""

from __future__ import annotations

from collections.abc import Sequence

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


def sure_faces(confidences: Sequence[float | None], is_turned: bool) -> list[int]:
    """Return the numbers of the faces that count; one of a turned picture must convince the network."""
    least = TURNED_CONFIDENCE if is_turned else 0.0
    return [number for number, value in enumerate(confidences) if value is None or value >= least]
