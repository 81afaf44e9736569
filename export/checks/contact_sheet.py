"""Draw five meshes of a model on the shipped photograph, one picture: a wrong form of the input shows at a glance."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.errors import FaceMeshError
from runtime.inference.open_runner import open_runner
from runtime.models.shipped import SHIPPED_MODEL
from runtime.models.spec import ModelSpec
from runtime.pipeline import FaceMeshPipeline
from runtime.rendering.overlay import OverlayPainter
from runtime.storage.whole_files import whole_file
from runtime.types import FaceMesh

if TYPE_CHECKING:
    from export.checks.views import View

SUFFIXES = (".jpg", ".jpeg", ".png")
TILE_PX = 320
MARGIN = 2.2  # side of a tile over that of the box
TEXT_HEIGHT_PX = 28


def check_sheet_path(path: Path) -> None:
    """Raise `FaceMeshError` unless ``path`` is a picture in a folder that exists."""
    if path.suffix.lower() not in SUFFIXES or not path.absolute().parent.is_dir():
        problem = "the contact sheet must become a .jpg or .png in a folder that exists"
        raise FaceMeshError(f"{path}: {problem}; choose another name with --contact-sheet")


def write_contact_sheet(model: Path, spec: ModelSpec, path: Path) -> None:
    """Write the sheet of a model file of the runtime; ``spec`` is its own.

    Under each mesh stands the distance of its landmarks from the shipped model's in % of the box.
    """
    from export.checks.views import distance_percent, face_views, shipped_landmarks

    views = face_views()
    first = SHIPPED_MODEL if spec.input.landmark_channel else None
    place = Path(spec.topology)
    face_model = place if place.is_file() and spec.family == "coefficients" else None
    with open_runner(model, landmarks_from=first, face_model=face_model) as runner:
        pipeline = FaceMeshPipeline(runner)
        faces = [pipeline.from_boxes(view.image, view.box_xyxy[None])[0] for view in views]
        painter = OverlayPainter(pipeline.family.topology)
    landmarks = np.stack([face.landmarks[:, :2] for face in faces])
    distances = distance_percent(landmarks, shipped_landmarks(views), views)
    tiles = [_tile(painter, *found) for found in zip(views, faces, distances, strict=True)]
    encoded = cv2.imencode(path.suffix.lower(), np.hstack(tiles))[1]
    with whole_file(path) as file:
        file.write(encoded.tobytes())


def _tile(painter: OverlayPainter, view: View, face: FaceMesh, distance: float) -> NDArray[np.uint8]:
    """Return one view with its mesh, cut out round the face, and a line of text below."""
    box = view.box_xyxy
    side = MARGIN * float(max(box[2] - box[0], box[3] - box[1]))
    factor = TILE_PX / side
    corner = (box[:2] + box[2:]) / 2 - side / 2
    matrix = np.array([[factor, 0, -factor * corner[0]], [0, factor, -factor * corner[1]]])
    drawn = painter.draw(view.image, [face])
    picture = cv2.warpAffine(drawn, matrix, (TILE_PX, TILE_PX))
    line = np.full((TEXT_HEIGHT_PX, TILE_PX, 3), 255, np.uint8)
    text = f"{view.name}: {distance:.1f} %"
    cv2.putText(line, text, (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([picture, line])
