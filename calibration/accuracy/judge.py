"""Measure a model's landmarks on labelled crops, in pixels of the crop and as NME."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from calibration.crops import Crops
from runtime.errors import FaceMeshError
from runtime.geometry.nme import box_size, point_nme

if TYPE_CHECKING:
    import onnx


class LandmarkJudge:
    """N labelled faces and the network's spec, to judge models by."""

    def __init__(self, crops: Crops, threads: int | None = None) -> None:
        """Take the faces to judge by. Raises `FaceMeshError` without labels, and without faces."""
        if crops.faces.landmarks_xy is None or not len(crops):
            problem = f"{crops.faces.origin}: no labelled faces to judge INT8 by"
            raise FaceMeshError(f"{problem}; name a set with 68 landmarks with --labels STEM")
        self._crops = crops
        self._threads = threads
        self._decode = crops.family.decoder(dense=False)

    def __len__(self) -> int:
        return len(self._crops)

    def landmarks(self, model: onnx.ModelProto) -> NDArray[np.float32]:
        """Return the landmarks (N, 68, 2) px of the crop, as on a device that rounds float16 tensors to float16."""
        outputs = self._run(model, self._crops.spec.output.name)
        meshes = (self._decode(np.ascontiguousarray(output), np.eye(2, 3)) for output in outputs)
        return np.stack([landmarks[:, :2] for _, landmarks in meshes])

    def confidences(self, model: onnx.ModelProto) -> NDArray[np.float32] | None:
        """Return the confidences (N,) of the same device, None for a model that does not tell."""
        name = self._crops.spec.confidence
        return None if name is None else np.stack([output[0] for output in self._run(model, name)])

    def _run(self, model: onnx.ModelProto, output: str) -> Iterator[NDArray[np.float32]]:
        from calibration.precision.half_rounding import with_rounding
        from calibration.ranges.sessions import Session
        from runtime.console.progress import progress_bar

        session = Session(with_rounding(model).SerializeToString(), [output], self._threads)
        for row in progress_bar(range(len(self)), len(self), "face"):
            yield session(self._crops[row][0])[0][0]

    def nme(self, landmarks: NDArray[np.float32]) -> float:
        """Return the NME of ``landmarks`` (N, 68, 2) px of the crop in %, mean over faces.

        The NME of a face is the mean distance to the 68 labels, divided by sqrt(width x height) of the labels' box.
        """
        faces = self._crops.faces
        matrices = np.stack([self._crops.family.crop_matrix(box) for box in faces.boxes_xyxy])
        truth = faces.landmarks_xy @ matrices[:, :, :2].transpose(0, 2, 1) + matrices[:, None, :, 2]
        scale = np.sqrt(np.linalg.det(matrices[:, :, :2]))
        return float(point_nme(landmarks, truth, scale * box_size(faces.boxes_xyxy)).mean())


def shift_px(landmarks: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """Return the mean distance between two models' landmarks (N, 68, 2), px of the crop."""
    return float(np.linalg.norm(landmarks - reference, axis=2).mean())
