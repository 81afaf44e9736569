"""Expression of a face: openings of eyes and mouth, blinks, and weights by the names of ARKit's blendshapes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.expressions.eye_opening import OUTER_CORNERS, eye_openings
from runtime.geometry.pose import pose_to_rotation
from runtime.types import FaceMesh

BLINK_BELOW = 0.18  # eye opening
# Measures of the relaxed face, and of the expression at weight 1. Lengths are in distances between the outer corners of
# both eyes. The relaxed values are those of AFLW's frontal faces, see docs/outputs.md.
EYE_OPEN, EYE_CLOSED = 0.26, 0.12
MOUTH_CLOSED, MOUTH_OPEN = 0.02, 0.40
CORNERS_RELAXED, CORNERS_RAISED = 0.0, 0.08
WIDTH_RELAXED, WIDTH_PUCKERED = 0.54, 0.42
BLENDSHAPES = (
    *("eyeBlinkLeft", "eyeBlinkRight", "jawOpen", "mouthPucker"),
    *("mouthSmileLeft", "mouthSmileRight"),
)


@dataclass(frozen=True)
class Expression:
    """Expression of one face; left and right are the person's."""

    eye_opening_left: float  # lids' gap over the width of the eye: 0 closed, about 0.35 open
    eye_opening_right: float
    mouth_opening: float  # gap between the lips in distances between the outer corners of the eyes
    blendshapes: dict[str, float]  # the names of `BLENDSHAPES`, 0..1

    @property
    def blink_left(self) -> bool:
        return self.eye_opening_left < BLINK_BELOW

    @property
    def blink_right(self) -> bool:
        return self.eye_opening_right < BLINK_BELOW


def read_expression(face: FaceMesh, image: NDArray[np.uint8]) -> Expression:
    """Return the expression of a face in its picture (H, W, 3) uint8 BGR.

    Eyes are read from the picture, the rest from the landmarks with the pose removed. Both corners of the mouth get one
    weight: the mesh does not know one-sided smiles.
    """
    left, right = eye_openings(face, image)
    points = face.landmarks.astype(np.float64) @ pose_to_rotation(face.pose)
    first, last = OUTER_CORNERS
    points /= max(float(np.linalg.norm(points[last] - points[first])), 1e-9)
    mouth = float(np.linalg.norm(points[[61, 62, 63]] - points[[67, 66, 65]], axis=1).mean())
    # The corners of the mouth against the middle of its outer lips, y down.
    raised = float(points[[51, 57], 1].mean() - points[[48, 54], 1].mean())
    width = float(np.linalg.norm(points[54] - points[48]))
    smile = _weight(raised, CORNERS_RELAXED, CORNERS_RAISED)
    blendshapes = {
        "eyeBlinkLeft": _weight(left, EYE_OPEN, EYE_CLOSED),
        "eyeBlinkRight": _weight(right, EYE_OPEN, EYE_CLOSED),
        "jawOpen": _weight(mouth, MOUTH_CLOSED, MOUTH_OPEN),
        "mouthPucker": _weight(width, WIDTH_RELAXED, WIDTH_PUCKERED),
        "mouthSmileLeft": smile,
        "mouthSmileRight": smile,
    }
    return Expression(left, right, mouth, blendshapes)


def _weight(value: float, relaxed: float, full: float) -> float:
    """Return 0 for a relaxed value, 1 for a full one, linear between."""
    return float(np.clip((value - relaxed) / (full - relaxed), 0, 1))
