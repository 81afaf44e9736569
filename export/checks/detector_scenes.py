"""Scenes of the shipped photograph, to compare detectors without other pictures."""

from __future__ import annotations

import numpy as np

from calibration.crops import FacePictures
from calibration.detectors.scenes import Scenes
from calibration.faces import Faces
from runtime.models.shipped import SHIPPED_PICTURE

COUNT = 16


def photograph_scenes(width: int, height: int) -> Scenes:
    """Return scenes of ``width`` x ``height`` px with the photograph's face in `COUNT` sizes."""
    from export.graphs.verify import PHOTOGRAPH_BOX

    faces = Faces(
        origin=SHIPPED_PICTURE.parent,
        names=np.full(COUNT, str(SHIPPED_PICTURE)),
        boxes_xyxy=np.tile(np.array(PHOTOGRAPH_BOX, np.float32), (COUNT, 1)),
        yaw_deg=np.zeros(COUNT, np.float32),
        is_val=np.zeros(COUNT, bool),
        landmarks_xy=None,
    )
    return Scenes(FacePictures(faces, None), width, height)
