"""Turn a detector in FP32 into one in INT8 that still finds the faces.

scenes ─ measure_on ─ choose_ranges ─▶ CalibrationTable ─ to_int8 ─ fewest_floats ─▶ DetectorResult
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from calibration.accuracy.gate import fewest_floats
from calibration.crops import read_pictures
from calibration.detectors.judge import DetectorJudge, Findings, loss
from calibration.detectors.scenes import Scenes
from calibration.face_sources import load_faces
from calibration.faces import Faces, sample, set_apart
from calibration.precision.graph_view import Graph
from calibration.precision.placement import quantisable_layers
from calibration.quantise import (
    DEFAULT_METHOD,
    JUDGING_SHARE,
    SENSITIVITY_FACES,
    calibrating_rows,
    judged_rows,
    labelled_rows,
    measure_on,
)
from runtime.errors import FaceMeshError

if TYPE_CHECKING:
    import onnx

TARGET = "tensorrt"
MAX_LOSS = 0.01  # see `calibration.detectors.judge.loss`


@dataclass(frozen=True)
class DetectorRequest:
    """The options of a detector's quantisation."""

    crops: Path
    boxes: Path | None = None
    labels: Path | None = None  # set to judge by; None: the validation rows of the crops, or a share of a folder
    method: str = DEFAULT_METHOD
    samples: int = 500  # faces to calibrate on
    max_loss: float = MAX_LOSS


@dataclass(frozen=True)
class LayerChange:
    """One layer in INT8, all others in FP32."""

    layer: str
    score: float  # mean change of the scores where FP32 shows a face


@dataclass(frozen=True, eq=False)
class DetectorResult:
    """One quantised detector with its findings and its float layers."""

    model: onnx.ModelProto
    loss: float
    findings: Findings
    reference: Findings  # of the FP32 model
    faces: int  # behind both
    layers: int  # that could be INT8
    float_layers: tuple[LayerChange, ...]  # returned to float, the most sensitive first


def quantise_detector(model: onnx.ModelProto, width: int, height: int, request: DetectorRequest) -> DetectorResult:
    """Quantise an FP32 detector for pictures of ``width`` x ``height`` px.

    Raises `FaceMeshError` for faces that do not fit the options, and if the gate lets no model pass.
    """
    from calibration.precision.qdq import insert_qdq, to_int8

    # The faces to calibrate on and those to judge by.
    faces = load_faces(request.crops, request.boxes)
    if request.labels is None and not faces.is_archive:
        faces = set_apart(faces, JUDGING_SHARE)
    judged = judged_rows(faces, request.labels)
    judge = DetectorJudge(_scenes(judged, width, height))

    # Ranges, and the model with even channels that they are for.
    scenes = _scenes(calibrating_rows(faces, request.samples), width, height)
    digest = hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()
    activations = measure_on(scenes, Graph(model), digest, len(scenes.faces.faces), TARGET)
    graph, table = activations.graph, activations.table(request.method)
    layers = quantisable_layers(graph, TARGET)
    reference = judge.findings(model)
    if not reference.found.any():
        problem = f"the detector finds none of the {len(judge)} faces to judge by, in FP32 already"
        raise FaceMeshError(f"{judged.origin}: {problem}; give pictures and boxes that belong together")

    def attempt(kept: Sequence[LayerChange]) -> DetectorResult:
        floats = {change.layer for change in kept}
        candidate = to_int8(graph, [layer for layer in layers if layer not in floats], table)
        found = judge.findings(candidate)
        return DetectorResult(candidate, loss(found, reference), found, reference, len(judge), len(layers), tuple(kept))

    def changes() -> list[LayerChange]:
        quick = DetectorJudge(_scenes(sample(judged, SENSITIVITY_FACES), width, height))
        expected = quick.levels(model)
        each = [LayerChange(one, quick.score_change(insert_qdq(graph, [one], table), expected)) for one in layers]
        return sorted(each, key=lambda change: -change.score)

    best = fewest_floats(attempt, len(layers), request.max_loss, changes)
    if best.loss > request.max_loss:
        lost = f"a loss of {100 * best.loss:.2f} % where {100 * request.max_loss:g} % are allowed"
        problem, remedy = (
            f"{findings_text(best)}, {lost}",
            "no model is written. Try another --method or more --samples",
        )
        raise FaceMeshError(
            f"INT8: {problem}, even with {len(best.float_layers)} of {len(layers)} layers in float; {remedy}"
        )
    return best


def findings_text(result: DetectorResult) -> str:
    """Return the findings before and after in one line."""
    return f"of {result.faces} faces {comparison(result.reference, result.findings, 'INT8')}"


def comparison(before: Findings, after: Findings, precision: str) -> str:
    """Return recall, box error and other finds of an FP32 detector and of one in another precision."""
    return (
        f"{100 * before.recall:.2f} % found in FP32, {100 * after.recall:.2f} % in {precision}; box error "
        f"{100 * before.mean_box_error:.2f} and {100 * after.mean_box_error:.2f} % of the box; "
        f"finds beside them {before.others} and {after.others}"
    )


def judging_scenes(labels: Path, width: int, height: int) -> Scenes:
    """Return scenes of the validation rows of a labelled set, or of all its rows if none is for validation."""
    return _scenes(labelled_rows(labels), width, height)


def _scenes(faces: Faces, width: int, height: int) -> Scenes:
    return Scenes(read_pictures(faces), width, height)
