"""What a model does to landmarks: measured on labelled crops, in pixels of the crop and as NME."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from calibration.crops import Crops
from runtime.errors import FaceMeshError
from runtime.families.table import open_family

if TYPE_CHECKING:
    import onnx


class Judge:
    """N labelled faces and the network's spec."""

    def __init__(self, crops: Crops, threads: int | None = None) -> None:
        if crops.faces.landmarks_xy is None or not len(crops):
            raise FaceMeshError(f"{crops.faces.origin}: no labelled faces to judge INT8 by; name a set with 68 landmarks with --labels STEM")
        self._crops, self._threads = crops, threads
        self._decode = open_family(crops.spec).decoder(dense=False)

    def __len__(self) -> int:
        return len(self._crops)

    def landmarks(self, model: onnx.ModelProto) -> NDArray[np.float32]:
        """(N, 68, 2) px of the crop, as the model sees them on a device that rounds float16 tensors to float16."""
        from calibration.precision.half_rounding import with_rounding
        from calibration.ranges.sessions import Session
        from runtime.console.progress import progress_bar

        session = Session(with_rounding(model).SerializeToString(), [self._crops.spec.output.name], self._threads)
        found = np.zeros((len(self), 68, 2), np.float32)
        for row in progress_bar(range(len(self)), len(self), "face"):
            (output,) = session(self._crops[row][0])
            found[row] = self._decode(np.ascontiguousarray(output[0]), np.eye(2, 3))[1][:, :2]
        return found

    def nme(self, landmarks: NDArray[np.float32]) -> float:
        """Mean over faces of the mean distance to the 68 labels, in % of sqrt(width x height) of the labels' box."""
        faces, spec = self._crops.faces, self._crops.spec
        sides = (faces.boxes_xyxy[:, 2:] - faces.boxes_xyxy[:, :2]).astype(np.float64)
        scale = (spec.input.size - 1) / (spec.crop_scale * sides.mean(axis=1))  # frame px -> crop px, see runtime.geometry.crop.crop_matrix
        truth = (faces.landmarks_xy - faces.boxes_xyxy.reshape(-1, 2, 2).mean(axis=1, keepdims=True)) * scale[:, None, None]
        truth += (spec.input.size - 1) / 2
        distances = np.linalg.norm(landmarks - truth, axis=2).mean(axis=1)
        return float(100 * (distances / scale / np.sqrt(sides.prod(axis=1))).mean())


def shift_px(landmarks: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """Mean distance between two models' landmarks (N, 68, 2)."""
    return float(np.linalg.norm(landmarks - reference, axis=2).mean())
