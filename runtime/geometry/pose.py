"""Head pose from 68 landmarks."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtime.compiled import native
from runtime.errors import FaceMeshError
from runtime.types import LANDMARK_COUNT, MeshTopology, Pose


class PosedCrop(NamedTuple):
    """A head and how a crop shows it."""

    pose: Pose
    picture_roll_deg: float  # see `picture_roll_deg`
    crop_roll_deg: float  # what the crop leaves of it, -180..180
    box_xyxy: NDArray[np.float32]  # (4,) px of the frame, tight box of the landmarks


class PoseEstimator:
    """Estimator of the rotation from a topology's canonical landmarks to predicted ones (Horn 1987).

    Brows, nose and eyes count most, the contour less, the mouth least: jaw and lips move with the expression, the rest
    with the skull. The work is done by runtime/native/geometry/pose.cpp.
    """

    def __init__(self, topology: MeshTopology) -> None:
        """Take the canonical landmarks of ``topology``."""
        canonical = topology.canonical_vertices[topology.landmark_vertices].astype(np.float64)
        self._native = native.PoseEstimator(canonical)

    def __call__(self, landmarks: NDArray[np.float32]) -> Pose:
        """Return the pose of (68, 3) landmarks: x right, y down, z to the camera, one unit for all three.

        Scale and place do not matter. Raises `ValueError` for another shape and `FaceMeshError` for points that are not
        finite or have no extent.
        """
        if landmarks.shape != (LANDMARK_COUNT, 3):
            raise ValueError(f"landmarks must have shape ({LANDMARK_COUNT}, 3), have {landmarks.shape}")
        angles = self._native(np.ascontiguousarray(landmarks, np.float32))
        if angles is None:
            raise _unusable_landmarks()
        return Pose(*angles)

    def look(self, landmarks: NDArray[np.float32], matrix: NDArray[np.float64]) -> PosedCrop:
        """Return the pose of contiguous (68, 3) landmarks in px of the frame, and how a crop shows it.

        ``matrix`` is (2, 3), frame px -> crop px. Raises `FaceMeshError` as a call does.
        """
        found = self._native.look(landmarks, matrix)
        if found is None:
            raise _unusable_landmarks()
        (yaw, pitch, roll, in_picture, in_crop), box = found
        return PosedCrop(Pose(yaw, pitch, roll), in_picture, in_crop, box)


def _unusable_landmarks() -> FaceMeshError:
    fault = "the landmarks are not finite or all the same: the model's output is unusable"
    return FaceMeshError(f"{fault}; check the engine with another picture")


def rotation_to_pose(rotation: NDArray[np.float64]) -> Pose:
    """Return the angles of a (3, 3) proper rotation, canonical face -> image.

    Yaw and pitch are the direction of the nose; roll is the rest. The order rotation = yaw @ pitch @ roll has its
    singularity at a look straight up or down. The order of 300W-LP (pitch @ yaw @ roll) has it at the profile: its
    pitch and roll become meaningless there.
    """
    (_, _, nose_x), (side_y, up_y, nose_y), (_, _, nose_z) = rotation.tolist()
    yaw = math.atan2(nose_x, nose_z)
    pitch = math.asin(min(1.0, max(-1.0, -nose_y)))
    roll = math.atan2(side_y, up_y)
    return Pose(math.degrees(yaw), math.degrees(pitch), math.degrees(roll))


def picture_roll_deg(pose: Pose) -> float:
    """Return how far the head is turned in the plane of the picture, degrees clockwise, -180..180.

    It is the direction of the head's vertical axis in the picture. Turning the picture adds to it whatever the yaw,
    which is not so for ``pose.roll_deg``: turning a picture of a profile moves the nose up or down, so it adds to the
    pitch.
    """
    yaw, pitch, roll = map(math.radians, pose.angles_deg)
    left = math.cos(yaw) * math.sin(roll) - math.sin(yaw) * math.sin(pitch) * math.cos(roll)
    return math.degrees(math.atan2(left, math.cos(pitch) * math.cos(roll)))


def pose_to_rotation(pose: Pose) -> NDArray[np.float64]:
    """Return the (3, 3) rotation, canonical face -> image, of ``pose``: the inverse of `rotation_to_pose`."""
    angles = np.radians(pose.angles_deg)
    sin_y, sin_p, sin_r = np.sin(angles)
    cos_y, cos_p, cos_r = np.cos(angles)
    yaw = np.array([[cos_y, 0, sin_y], [0, 1, 0], [-sin_y, 0, cos_y]])
    pitch = np.array([[1, 0, 0], [0, cos_p, -sin_p], [0, sin_p, cos_p]])
    roll = np.array([[cos_r, -sin_r, 0], [sin_r, cos_r, 0], [0, 0, 1]])
    return yaw @ pitch @ roll


def rotation_to_quaternion(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the unit quaternion (4,) x, y, z, w of a (3, 3) proper rotation, w >= 0.

    It is the dominant eigenvector of a symmetric matrix (Bar-Itzhack 2000), so no angle is singular.
    """
    (a, b, c), (d, e, f), (g, h, i) = rotation.tolist()
    matrix = np.array(
        [
            [a - e - i, b + d, c + g, h - f],
            [b + d, e - a - i, f + h, c - g],
            [c + g, f + h, i - a - e, d - b],
            [h - f, c - g, d - b, a + e + i],
        ]
    )
    quaternion = np.linalg.eigh(matrix)[1][:, -1]
    return quaternion if quaternion[3] >= 0 else -quaternion
