"""Five views of the shipped photograph's face, and the landmarks that a model finds in them. Runs ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray

from export.graphs.verify import PHOTOGRAPH_BOX, frontal_landmarks, run_outputs
from runtime.families.table import open_family
from runtime.geometry.crop import crop_into, draw_landmarks
from runtime.geometry.nme import box_size, point_nme
from runtime.models.shipped import SHIPPED_MODEL, SHIPPED_PICTURE
from runtime.models.spec import ModelSpec, load_spec

ROLL_DEG = 15.0
DARK = 0.45  # of the light


@dataclass(frozen=True, eq=False)
class View:
    """A picture (H, W, 3) uint8 BGR and the tight box of the 68 landmarks in it, px."""

    name: str
    image: NDArray[np.uint8]
    box_xyxy: NDArray[np.float64]


def face_views() -> list[View]:
    """Return the face as it is, mirrored, rolled, dark and at half the size."""
    image = cv2.imread(str(SHIPPED_PICTURE))
    box = np.array(PHOTOGRAPH_BOX)
    width = image.shape[1]
    centre = (box[:2] + box[2:]) / 2
    turn = cv2.getRotationMatrix2D(tuple(centre), -ROLL_DEG, 1)
    points = frontal_landmarks(PHOTOGRAPH_BOX)[:, :2] @ turn[:, :2].T + turn[:, 2]
    mirrored_box = np.array([width - 1 - box[2], box[1], width - 1 - box[0], box[3]])
    half = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return [
        View("as it is", image, box),
        View("mirrored", np.ascontiguousarray(image[:, ::-1]), mirrored_box),
        View("rolled", cv2.warpAffine(image, turn, image.shape[1::-1]), np.concatenate([points.min(0), points.max(0)])),
        View("dark", cv2.convertScaleAbs(image, alpha=DARK), box),
        View("half the size", half, (box + 0.5) / 2 - 0.5),
    ]


def view_landmarks(
    model: onnx.ModelProto, spec: ModelSpec, views: list[View], heavy: Mapping[str, NDArray] | None = None
) -> NDArray[np.float32]:
    """Return the landmarks (N, 68, 2) px of N views by ``model``, which takes pictures as its ``spec`` says.

    ``heavy`` as in `export.graphs.verify.run_outputs`. A landmark channel shows the mean face in the box.
    """
    family = open_family(spec)
    matrices = [family.crop_matrix(view.box_xyxy) for view in views]
    crops = np.zeros((len(views), *spec.input.shape), np.float32)
    for view, matrix, crop in zip(views, matrices, crops, strict=True):
        crop_into(view.image, matrix, spec.input, crop)
        if spec.input.landmark_channel:
            draw_landmarks(frontal_landmarks(tuple(view.box_xyxy)), matrix, crop)
    outputs = run_outputs(model, crops, [spec.output.name], heavy=heavy)[spec.output.name]
    decode = family.decoder(dense=False)
    pairs = zip(outputs, matrices, strict=True)
    return np.stack([decode(np.ascontiguousarray(output), matrix)[1][:, :2] for output, matrix in pairs])


def shipped_landmarks(views: list[View]) -> NDArray[np.float32]:
    """Return the landmarks (N, 68, 2) px of the shipped model."""
    return view_landmarks(onnx.load(SHIPPED_MODEL), load_spec(SHIPPED_MODEL), views)


def distance_percent(landmarks: NDArray[np.float32], reference: NDArray[np.float32], views: list[View]) -> list[float]:
    """Return the mean distance of landmarks (N, 68, 2) to others, % of the size of each view's box."""
    sizes = box_size(np.stack([view.box_xyxy for view in views]))
    return point_nme(landmarks, reference, sizes).tolist()
