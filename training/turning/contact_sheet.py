"""A contact sheet of turned copies, each without and with its label."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.compiled import native
from runtime.families.face_model import FaceModel
from runtime.rendering.overlay import CONTOURS
from training.turning.photo_turner import TurnedFace
from training.turning.render import resized_pose

FACES = 24
COLUMNS = 4
TILE = 256  # px
SHIFT = 4  # cv2 draws at 1/16 px
LANDMARK_COLOUR = (110, 255, 200)  # BGR
OUTLINE_COLOUR = (255, 160, 60)


class ContactSheet:
    """Keeps evenly spaced copies of a set and draws them in a grid."""

    def __init__(self, model: FaceModel, count: int) -> None:
        self._model = model
        self._kept = set(np.linspace(0, count - 1, min(FACES, count)).astype(int).tolist())
        self._tiles: list[NDArray[np.uint8]] = []

    def add(self, index: int, copy: TurnedFace) -> None:
        """Draw copy number ``index`` of the set if the sheet has it."""
        if index in self._kept:
            picture = cv2.imdecode(np.frombuffer(copy.jpeg, np.uint8), cv2.IMREAD_COLOR)
            plain = cv2.resize(picture, (TILE, TILE), interpolation=cv2.INTER_LINEAR)
            self._tiles.append(np.hstack([plain, self._draw_label(plain, copy)]))

    def encode_png(self) -> bytes:
        """Return the sheet as a PNG file."""
        blank = np.zeros_like(self._tiles[0])
        tiles = self._tiles + [blank] * (-len(self._tiles) % COLUMNS)
        lines = [np.hstack(tiles[start : start + COLUMNS]) for start in range(0, len(tiles), COLUMNS)]
        return cv2.imencode(".png", np.vstack(lines))[1].tobytes()

    def _draw_label(self, picture: NDArray[np.uint8], copy: TurnedFace) -> NDArray[np.uint8]:
        """Return a copy of the tile with the outline of the dense face and the lines of the 68 landmarks."""
        canvas = picture.copy()
        pose = resized_pose(copy.pose, TILE / copy.side)
        vertices = pose.apply(self._model.vertices(copy.coefficients)).astype(np.float32)
        depth = native.rasterise(vertices, self._model.triangles, np.ascontiguousarray(vertices[:, 2:]), (TILE, TILE))[
            1
        ]
        outlines = cv2.findContours(np.isfinite(depth).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
        cv2.drawContours(canvas, outlines, -1, OUTLINE_COLOUR, 1)
        points = np.rint(vertices[self._model.keypoints68, :2] * 2**SHIFT).astype(np.int32)
        for first, last, closed in CONTOURS:
            cv2.polylines(canvas, [points[first : last + 1]], closed, LANDMARK_COLOUR, 1, cv2.LINE_AA, SHIFT)
        return canvas
