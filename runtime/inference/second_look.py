"""A second look at faces whose first crop did not fit: they were turned, or their box was off. The mesh tells both."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.families.family import Family
from runtime.geometry.crop import crop_roll_deg, landmark_box, turned_crop, upright_box
from runtime.geometry.pose import PoseEstimator, picture_roll_deg
from runtime.inference.interface import MeshedFace, Mesher
from runtime.types import Pose

# Limits of a fitting crop. Of the upright faces of 400 validation photographs, 2 % have detected boxes beyond the last
# two; a second look takes their error from 5.5 to 2.8 %.
MOST_ROLL_DEG = 20.0
MOST_OFFSET = 0.1  # of the crop's side, from the middle of the crop to where the mesh would have it
MOST_GROWTH = 1.22  # between the scales of the two crops
MOST_LOOKS = 3
LEAST_GAIN_DEG = 5.0  # that a look must be less turned than the one before, if it is still turned


class Look:
    """A face as one crop shows it."""

    def __init__(self, face: MeshedFace, pose: Pose, matrix: NDArray[np.float64]) -> None:
        """Take the crop ``matrix`` (2, 3), frame px -> crop px."""
        self.face = face
        self.pose = pose
        self.matrix = matrix
        self.box_xyxy = landmark_box(face.landmarks)
        self.picture_roll_deg = picture_roll_deg(pose)
        crop_roll = crop_roll_deg(matrix)
        self.roll_deg = (self.picture_roll_deg - crop_roll + 180) % 360 - 180  # what is left in the crop
        self.is_turned = abs(self.roll_deg) > MOST_ROLL_DEG
        self.crop_is_turned = crop_roll != 0

    def scaled(self, factor: float) -> Look:
        """Return the look at the same face in a picture that is ``factor`` times as large."""
        vertices, landmarks, confidence = self.face
        face = MeshedFace(vertices * np.float32(factor), landmarks * np.float32(factor), confidence)
        return Look(face, self.pose, self.matrix / (factor, factor, 1))


class SecondLook:
    """Crops faces again, upright and by their own meshes, until the crops fit. A first crop that fits costs nothing."""

    def __init__(self, mesher: Mesher, family: Family, side: int, most_looks: int = MOST_LOOKS) -> None:
        """Look through ``mesher``, ``most_looks`` times at a face; ``side`` px is that of a crop."""
        self._mesher = mesher
        self._family = family
        self._side = side
        self._most_looks = most_looks
        self._pose = PoseEstimator(family.topology)

    def __call__(
        self, image: NDArray[np.uint8], faces: Sequence[MeshedFace], matrices: Sequence[NDArray[np.float64]]
    ) -> list[Look]:
        """Return the last look at each of ``faces``, which ``mesher.collect`` gave for ``image`` and ``matrices``.

        A look at which the face is turned further than before does not count.
        """
        looks = [self._look(*pair) for pair in zip(faces, matrices, strict=True)]
        wanted = self._wanted_crops(looks, range(len(looks)))
        for _ in range(1, self._most_looks):
            if not wanted:
                break
            again = self._mesher.again(image, list(wanted.values()))
            new = {number: self._look(face, wanted[number]) for number, face in zip(wanted, again, strict=True)}
            counted = {
                number: look
                for number, look in new.items()
                if not look.is_turned or abs(look.roll_deg) < abs(looks[number].roll_deg) - LEAST_GAIN_DEG
            }
            for number, look in counted.items():
                looks[number] = look
            wanted = self._wanted_crops(looks, counted)
        return looks

    def _look(self, face: MeshedFace, matrix: NDArray[np.float64]) -> Look:
        return Look(face, self._pose(face.landmarks), matrix)

    def _wanted_crops(self, looks: Sequence[Look], numbers: Iterable[int]) -> dict[int, NDArray[np.float64]]:
        """Return, by number, the crops that the meshes ask for, of those looks whose own crop does not fit."""
        crops = {}
        for number in numbers:
            look = looks[number]
            straight = not (look.is_turned or look.crop_is_turned)
            wanted = self._family.crop_matrix(look.box_xyxy) if straight else self._upright_crop(look)
            if look.is_turned or not _fits(look.matrix, wanted, self._side):
                crops[number] = wanted
        return crops

    def _upright_crop(self, look: Look) -> NDArray[np.float64]:
        """Return the crop matrix for the box round the landmarks of ``look`` once they are upright."""
        (x, y), width, height = upright_box(look.face.landmarks, look.picture_roll_deg)
        box = x - width / 2, y - height / 2, x + width / 2, y + height / 2
        return turned_crop(self._family.crop_matrix(box), (x, y), look.picture_roll_deg)


def _fits(matrix: NDArray[np.float64], wanted: NDArray[np.float64], side: int) -> bool:
    """Return True if a crop of ``side`` px by ``matrix`` differs little in place and scale from the ``wanted`` one."""
    (a, b, x), (c, d, y) = wanted.tolist()
    (e, f, u), (g, h, v) = matrix.tolist()
    area, middle = a * d - b * c, (side - 1) / 2
    # The middle of the wanted crop in the frame, then in the crop that was had.
    frame_x, frame_y = (d * (middle - x) - b * (middle - y)) / area, (a * (middle - y) - c * (middle - x)) / area
    offset = math.hypot(e * frame_x + f * frame_y + u - middle, g * frame_x + h * frame_y + v - middle)
    growth = math.sqrt((e * h - f * g) / area)
    return offset <= MOST_OFFSET * side and 1 / MOST_GROWTH <= growth <= MOST_GROWTH
