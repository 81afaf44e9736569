"""The public API: pictures in, face meshes out."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from runtime.crop import crop_into, crop_matrix
from runtime.decode import Decoder
from runtime.detector import Detector
from runtime.errors import FaceMeshError
from runtime.pose import PoseEstimator
from runtime.runner import Runner
from runtime.topology import UVTopology, load_topology
from runtime.types import FaceMesh, Frame


class FaceMeshPipeline:
    """Detect, crop, run the network and decode, all faces of a picture at once.

    ``runner`` comes from `runtime.open_runner` and stays the caller's to close; ``detector`` may be left out where boxes are
    given; ``topology`` None is the one that the model's spec names. One pipeline serves one thread.
    """

    def __init__(self, runner: Runner, detector: Detector | None = None, topology: UVTopology | None = None) -> None:
        self.topology = load_topology(runner.spec.topology) if topology is None else topology
        self._runner, self._detector = runner, detector
        self._decode = Decoder(self.topology, runner.spec)
        self._pose = PoseEstimator(self.topology)

    def __call__(self, frame: Frame | NDArray[np.uint8]) -> list[FaceMesh]:
        """The faces of a frame or (H, W, 3) uint8 BGR picture, best first, in its pixels."""
        if self._detector is None:
            raise FaceMeshError("this pipeline has no detector: make it with YuNetDetector(), or call from_boxes()")
        image = _picture(frame)
        found = self._detector(image)
        return self._meshes(image, found.boxes_xyxy, found.scores)

    def from_boxes(self, image: Frame | NDArray[np.uint8], boxes_xyxy: ArrayLike, scores: ArrayLike | None = None) -> list[FaceMesh]:
        """The faces inside known boxes: ``boxes_xyxy`` (N, 4) px, tight boxes of the 68 landmarks; ``scores`` (N,), 1 if left out.

        Raises `FaceMeshError` for a box that is not finite, is reversed, or lies outside the picture.
        """
        image = _picture(image)
        boxes = _checked_boxes(boxes_xyxy, image)
        confidences = np.ones(len(boxes)) if scores is None else np.asarray(scores, np.float64)
        if confidences.shape != (len(boxes),):
            raise FaceMeshError(f"scores must be ({len(boxes)},), one per box, are {confidences.shape}")
        return self._meshes(image, boxes, confidences)

    def _meshes(self, image: NDArray[np.uint8], boxes_xyxy: NDArray, scores: NDArray) -> list[FaceMesh]:
        runner, spec = self._runner, self._runner.spec
        matrices = [crop_matrix(box, spec.crop_scale, spec.input.size) for box in boxes_xyxy]
        faces = []
        for start in range(0, len(matrices), runner.max_batch):
            batch = matrices[start : start + runner.max_batch]
            for slot, matrix in zip(runner.input, batch, strict=False):
                crop_into(image, matrix, spec.input, slot)
            position_maps = runner.infer(len(batch))
            faces += [self._face(*face) for face in zip(position_maps, batch, scores[start:], strict=False)]
        return faces

    def _face(self, position_map: NDArray[np.float32], matrix: NDArray[np.float64], score: float) -> FaceMesh:
        vertices, landmarks = self._decode(position_map, matrix)
        box = np.concatenate([landmarks[:, :2].min(axis=0), landmarks[:, :2].max(axis=0)])
        return FaceMesh(vertices, landmarks, box, float(score), self._pose(landmarks))


def _picture(frame: Frame | NDArray[np.uint8]) -> NDArray[np.uint8]:
    image = frame.image if isinstance(frame, Frame) else frame
    if not (isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size):
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise FaceMeshError(f"a picture must be a uint8 array (H, W, 3) in BGR order, is {found}: runtime.sources.read_photo reads files so")
    return image


def _checked_boxes(boxes_xyxy: ArrayLike, image: NDArray[np.uint8]) -> NDArray[np.float64]:
    boxes = np.asarray(boxes_xyxy, np.float64)
    boxes = boxes.reshape(-1, 4) if boxes.size == 0 else boxes
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise FaceMeshError(f"boxes_xyxy must be (N, 4), is {boxes.shape}")
    height, width = image.shape[:2]
    for x1, y1, x2, y2 in boxes:
        where = f"box {x1:g},{y1:g},{x2:g},{y2:g}"
        if not np.isfinite([x1, y1, x2, y2]).all() or x1 >= x2 or y1 >= y2:
            raise FaceMeshError(f"{where}: not finite or reversed; give x1 < x2 and y1 < y2 in pixels of the picture")
        if x1 >= width or y1 >= height or x2 <= -1 or y2 <= -1:
            raise FaceMeshError(f"{where}: lies outside the picture of {width} x {height}; boxes are in pixels of the picture as it is shown")
    return boxes
