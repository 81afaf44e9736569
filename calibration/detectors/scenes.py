"""Pictures of a detector's size with labelled faces of many sizes in them, made of whatever holds faces.

A scene is cut into square cells, one, two, three or five in its height. Each of at most `MOST_FACES` cells gets a face
with its surroundings, scaled so that the cell holds them. The rest shows the blurred picture of a face, upside down. In
a scene 384 px high, the faces are between 30 and 275 px large.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.crops import FacePictures
from runtime.geometry.crop import warp_crop

CELLS = (1, 2, 3, 5)  # in the height, one after the other
MOST_FACES = 8
SURROUNDINGS = (1.4, 2.4)  # side of what is shown of a picture, in sides of the face's box
BLUR = 32  # px of the ground that share a colour


@dataclass(frozen=True)
class _Cell:
    face: int  # row of the faces
    x: int  # px of the scene
    y: int
    side: int
    surroundings: float


class Scenes(Sequence):
    """Scenes with every face once; item i is (planes (1, 3, H, W) float32 BGR 0..255, boxes (M, 4) xyxy px).

    The boxes are tight boxes of the 68 landmarks.
    """

    def __init__(self, faces: FacePictures, width: int, height: int, seed: int = 0) -> None:
        """Plan the scenes, ``width`` x ``height`` px each; they are made when they are asked for."""
        self.faces = faces
        self.width, self.height = width, height
        self._plan = _plan(len(faces.faces), width, height, np.random.default_rng(seed))

    def __len__(self) -> int:
        return len(self._plan)

    def __getitem__(self, number: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if not 0 <= number < len(self):
            raise IndexError(number)
        cells = self._plan[number]
        scene = self._ground(cells[0].face)
        boxes = np.zeros((len(cells), 4), np.float32)
        for place, cell in enumerate(cells):
            image, box = self.faces.image(cell.face), self.faces.faces.boxes_xyxy[cell.face].astype(np.float64)
            scale = cell.side / (cell.surroundings * (box[2:] - box[:2]).max())
            shift = (cell.side - 1) / 2 - scale * (box[:2] + box[2:]) / 2
            matrix = np.column_stack([scale * np.eye(2), shift])
            scene[cell.y : cell.y + cell.side, cell.x : cell.x + cell.side] = warp_crop(image, matrix, cell.side)
            boxes[place] = scale * box + np.tile(shift + (cell.x, cell.y), 2)
        return np.ascontiguousarray(scene.transpose(2, 0, 1)[None], np.float32), boxes

    def sha256(self) -> str:
        """Hex digest of the faces, see `calibration.crops.FacePictures.sha256`."""
        return self.faces.sha256()

    def _ground(self, face: int) -> NDArray[np.uint8]:
        """Return a picture without a face, in the colours of one with a face."""
        few = cv2.resize(
            self.faces.image(face)[::-1], (self.width // BLUR, self.height // BLUR), interpolation=cv2.INTER_AREA
        )
        return cv2.resize(few, (self.width, self.height), interpolation=cv2.INTER_LINEAR)


def _plan(count: int, width: int, height: int, generator: np.random.Generator) -> list[list[_Cell]]:
    """Return the cells of every scene, so that each of ``count`` faces is in one of them."""
    order, scenes = generator.permutation(count).tolist(), []
    while order:
        side = min(width, height) // CELLS[len(scenes) % len(CELLS)]
        places = [(x, y) for y in range(0, height - side + 1, side) for x in range(0, width - side + 1, side)]
        chosen = generator.permutation(len(places))[: min(MOST_FACES, len(order))]
        spread = generator.uniform(*SURROUNDINGS, len(chosen))
        taken = zip(chosen, spread, strict=True)
        scenes.append([_Cell(order.pop(), *places[place], side, float(wide)) for place, wide in taken])
    return scenes
