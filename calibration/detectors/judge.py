"""Measure a detector on scenes: which of the labelled faces it finds, how well, and what it finds beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from calibration.detectors.scenes import Scenes
from runtime.detection.box_map import landmark_boxes, load_box_map
from runtime.detection.yunet_rows import DEFAULT_SCORE, face_rows
from runtime.errors import FaceMeshError
from runtime.geometry.boxes import SAME_FACE_IOU, box_iou
from runtime.models.detector_spec import LEVELS

if TYPE_CHECKING:
    import onnx

Levels = list[NDArray[np.float32]]  # the outputs for one scene


@dataclass(frozen=True, eq=False)
class Findings:
    """Findings of a detector among N labelled faces."""

    found: NDArray[np.bool_]  # (N,)
    box_error: NDArray[np.float64]  # (N,) mean distance of the four sides / sqrt(width x height), NaN where not found
    others: int  # finds that show none of the faces

    @property
    def recall(self) -> float:
        """Share of the faces that are found."""
        return float(self.found.mean())

    @property
    def mean_box_error(self) -> float:
        """Mean over the faces found, as a share of the box's side."""
        return float(self.box_error[self.found].mean()) if self.found.any() else float("nan")


class DetectorJudge:
    """Scenes to judge detectors by, at the runtime's default threshold."""

    def __init__(self, scenes: Scenes, threads: int | None = None) -> None:
        """Take the scenes. Raises `FaceMeshError` without faces."""
        if not len(scenes):
            problem = f"{scenes.faces.faces.origin}: no faces to judge the detector by"
            raise FaceMeshError(f"{problem}; give more pictures, or a set with --labels STEM")
        self._scenes = scenes
        self._threads = threads

    def __len__(self) -> int:
        return len(self._scenes.faces.faces)

    def findings(self, model: onnx.ModelProto) -> Findings:
        """Return what ``model`` finds, on a device that rounds float16 tensors to float16."""
        found, error, others = [], [], 0
        size_wh = (self._scenes.width, self._scenes.height)
        for levels, boxes in self._run(model):
            finds = landmark_boxes(face_rows(levels, DEFAULT_SCORE), size_wh, load_box_map())
            overlap = np.array([box_iou(box, finds) for box in boxes]).reshape(len(boxes), len(finds))
            others += int((overlap.max(axis=0) < SAME_FACE_IOU).sum())
            for box, row in zip(boxes, overlap, strict=True):
                is_found = row.max(initial=0) >= SAME_FACE_IOU
                found.append(is_found)
                error.append(_box_error(finds[row.argmax()], box) if is_found else np.nan)
        return Findings(np.array(found), np.array(error), others)

    def score_change(self, model: onnx.ModelProto, reference: Sequence[Levels]) -> float:
        """Return the mean change of the scores at the places where the ``reference`` of `levels` shows a face."""
        changes = []
        for (levels, _), expected in zip(self._run(model), reference, strict=True):
            before, after = _scores(expected), _scores(levels)
            shown = before >= DEFAULT_SCORE
            changes.append(np.abs(after - before)[shown])
        changed = np.concatenate(changes)
        return float(changed.mean()) if len(changed) else 0.0

    def levels(self, model: onnx.ModelProto) -> list[Levels]:
        """Return the outputs for every scene."""
        return [levels for levels, _ in self._run(model)]

    def _run(self, model: onnx.ModelProto) -> Iterator[tuple[Levels, NDArray[np.float32]]]:
        from calibration.precision.half_rounding import with_rounding
        from calibration.ranges.sessions import Session
        from runtime.console.progress import progress_bar

        session = Session(with_rounding(model).SerializeToString(), LEVELS, self._threads)
        for number in progress_bar(range(len(self._scenes)), len(self._scenes), "scene"):
            planes, boxes = self._scenes[number]
            yield session(planes), boxes


def loss(findings: Findings, reference: Findings) -> float:
    """Return what ``findings`` lose against the FP32 model's, as a share; negative by luck.

    It is the largest of three: the fall of the recall, the rise of the box error over the faces that both find, and the
    rise of finds beside the faces, per face.
    """
    both = findings.found & reference.found
    rise = (findings.box_error[both] - reference.box_error[both]).mean() if both.any() else 0.0
    others = (findings.others - reference.others) / len(findings.found)
    return float(max(reference.recall - findings.recall, rise, others))


def _scores(levels: Levels) -> NDArray[np.float64]:
    """Return the scores of all places, see `runtime.detection.yunet_rows.face_rows`."""
    logits = np.concatenate([level[0, :2].reshape(2, -1) for level in levels], axis=1).astype(np.float64)
    return np.sqrt(1 / ((1 + np.exp(-logits[0])) * (1 + np.exp(-logits[1]))))


def _box_error(box: NDArray[np.float32], label: NDArray[np.float32]) -> float:
    return float(np.abs(box - label).mean() / np.sqrt(np.prod(label[2:] - label[:2])))
