"""A second look at faces whose first crop did not fit: they were turned, or their box was off. The mesh tells both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.compiled import native
from runtime.families.family import Family
from runtime.geometry.crop import crop_roll_deg, turned_crop, upright_box
from runtime.geometry.pose import PosedCrop, PoseEstimator
from runtime.inference.interface import MeshedFace, Mesher

# Limits of a fitting crop. Of the upright faces of 400 validation photographs, 2 % have detected boxes beyond the last
# two; a second look takes their error from 5.5 to 2.8 %.
MOST_ROLL_DEG = 20.0
MOST_OFFSET = 0.1  # of the crop's side, from the middle of the crop to where the mesh would have it
MOST_GROWTH = 1.22  # between the scales of the two crops
MOST_LOOKS = 3
LEAST_GAIN_DEG = 5.0  # that a look must be less turned than the one before, if it is still turned


class Look:
    """A face as one crop shows it."""

    def __init__(self, face: MeshedFace, matrix: NDArray[np.float64], posed: PosedCrop) -> None:
        """Take the crop ``matrix`` (2, 3), frame px -> crop px, and what it shows of the head."""
        self.face = face
        self.matrix = matrix
        self.pose, self.picture_roll_deg, self.roll_deg, self.box_xyxy = posed
        self.is_turned = abs(self.roll_deg) > MOST_ROLL_DEG

    @property
    def crop_is_turned(self) -> bool:
        """True if the crop takes a roll off the face."""
        return crop_roll_deg(self.matrix) != 0

    def scaled(self, factor: float) -> Look:
        """Return the look at the same face in a picture that is ``factor`` times as large."""
        vertices, landmarks, confidence = self.face
        ratio = np.float32(factor)
        posed = PosedCrop(self.pose, self.picture_roll_deg, self.roll_deg, self.box_xyxy * ratio)
        face = MeshedFace(vertices * ratio, landmarks * ratio, confidence)
        return Look(face, self.matrix / (factor, factor, 1), posed)


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
        return Look(face, matrix, self._pose.look(face.landmarks, matrix))

    def _wanted_crops(self, looks: Sequence[Look], numbers: Iterable[int]) -> dict[int, NDArray[np.float64]]:
        """Return, by number, the crops that the meshes ask for, of those looks whose own crop does not fit."""
        crops = {}
        for number in numbers:
            look = looks[number]
            straight = not (look.is_turned or look.crop_is_turned)
            wanted = self._family.crop_matrix(look.box_xyxy) if straight else self._upright_crop(look)
            if look.is_turned or not native.crop_fits(look.matrix, wanted, self._side, MOST_OFFSET, MOST_GROWTH):
                crops[number] = wanted
        return crops

    def _upright_crop(self, look: Look) -> NDArray[np.float64]:
        """Return the crop matrix for the box round the landmarks of ``look`` once they are upright."""
        (x, y), width, height = upright_box(look.face.landmarks, look.picture_roll_deg)
        box = x - width / 2, y - height / 2, x + width / 2, y + height / 2
        return turned_crop(self._family.crop_matrix(box), (x, y), look.picture_roll_deg)
