"""A second look at turned faces: networks are best at upright ones, and their meshes tell how far a face is turned."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.families.family import Family
from runtime.geometry.crop import crop_roll_deg, turned_crop, upright_points
from runtime.geometry.pose import PoseEstimator, picture_roll_deg
from runtime.inference.interface import MeshedFace, Mesher
from runtime.types import Pose

UPRIGHT_DEG = 20.0  # a face that is turned further in its crop is looked at again
MOST_LOOKS = 3


class Look:
    """A face as one crop shows it."""

    def __init__(self, face: MeshedFace, pose: Pose, matrix: NDArray[np.float64]) -> None:
        """Measure the roll that ``matrix`` (2, 3), frame px -> crop px, has left."""
        self.face = face
        self.pose = pose
        self.roll_deg = (picture_roll_deg(pose) - crop_roll_deg(matrix) + 180) % 360 - 180


class SecondLook:
    """Crops faces again, upright by their own meshes, until the crops are upright. Upright faces cost nothing."""

    def __init__(self, mesher: Mesher, family: Family) -> None:
        self._mesher = mesher
        self._family = family
        self._pose = PoseEstimator(family.topology)

    def __call__(
        self, image: NDArray[np.uint8], faces: Sequence[MeshedFace], matrices: Sequence[NDArray[np.float64]]
    ) -> list[Look]:
        """Return the best look at each of ``faces``, which ``mesher.collect`` gave for ``image`` and ``matrices``."""
        looks = [self._look(*pair) for pair in zip(faces, matrices, strict=True)]
        turned = _turned(looks, range(len(looks)))
        for _ in range(1, MOST_LOOKS):
            if not turned:
                break
            crops = [self._upright_crop(looks[number]) for number in turned]
            new = map(self._look, self._mesher.again(image, crops), crops)
            better = {n: look for n, look in zip(turned, new, strict=True) if _is_better(look, looks[n])}
            for number, look in better.items():
                looks[number] = look
            turned = _turned(looks, better)
        return looks

    def _look(self, face: MeshedFace, matrix: NDArray[np.float64]) -> Look:
        return Look(face, self._pose(face.landmarks), matrix)

    def _upright_crop(self, look: Look) -> NDArray[np.float64]:
        """Return the crop matrix for the box round the landmarks of ``look`` once they are upright."""
        points, roll_deg = look.face.landmarks[:, :2].astype(np.float64), picture_roll_deg(look.pose)
        centre = points.mean(axis=0)
        points = upright_points(points, centre, roll_deg)
        matrix = self._family.crop_matrix(np.concatenate([points.min(axis=0), points.max(axis=0)]))
        return turned_crop(matrix, centre, roll_deg)


def _turned(looks: Sequence[Look], numbers: Iterable[int]) -> list[int]:
    return [number for number in numbers if abs(looks[number].roll_deg) > UPRIGHT_DEG]


def _is_better(new: Look, old: Look) -> bool:
    return abs(new.roll_deg) < abs(old.roll_deg)
