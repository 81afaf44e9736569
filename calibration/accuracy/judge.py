"""Measure a model's landmarks on crops: as NME where these have labels, else by what differs from FP32, in px."""

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
    """N faces and the network's spec, to judge models by; ``labelled`` says whether the 68 points are known."""

    def __init__(self, crops: Crops, threads: int | None = None) -> None:
        """Take the faces to judge by. Raises `FaceMeshError` without faces."""
        if not len(crops):
            problem = f"{crops.faces.origin}: no faces to judge INT8 by"
            raise FaceMeshError(f"{problem}; give more pictures, or a set with 68 landmarks with --labels STEM")
        self.labelled = crops.faces.landmarks_xy is not None
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

    def loss(self, landmarks: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
        """Return what ``landmarks`` (N, 68, 2) px of the crop lose against those of the FP32 model, the ``reference``.

        The relative increase of the NME, which may be negative by luck; without labels `shift_px`.
        """
        if self.labelled:
            return self.nme(landmarks) / self.nme(reference) - 1
        return shift_px(landmarks, reference)

    def vertex_shift_px(self, model: onnx.ModelProto, reference: onnx.ModelProto) -> float:
        """Return the mean distance between the vertices of two models, px of the crop in x and y."""
        decode = self._crops.family.decoder(dense=True)
        shifts = []
        for pair in zip(*(self._run(one, self._crops.spec.output.name) for one in (model, reference)), strict=True):
            ours, theirs = (decode(np.ascontiguousarray(output), np.eye(2, 3))[0][:, :2].copy() for output in pair)
            shifts.append(np.linalg.norm(ours - theirs, axis=1).mean())
        return float(np.mean(shifts))

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
        """Return the NME of ``landmarks`` (N, 68, 2) px of the crop in %, mean over faces; they must be labelled.

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
