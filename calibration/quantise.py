"""The road from an FP32 model to one in INT8 that passed the gate.

crops ─ collect ─ choose_ranges ─▶ CalibrationTable ─ insert_qdq ─ pass_gate ─▶ Passed
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from calibration.crops import Faces, load_faces, read_crops, sample
from calibration.graph import Graph
from calibration.judge import Judge
from calibration.placement import calibrated_tensors, quantisable_layers
from calibration.sensitivity import LayerLoss, layer_losses
from calibration.table import CalibrationTable, choose_ranges
from runtime.errors import FaceMeshError
from runtime.spec import ModelSpec

if TYPE_CHECKING:
    import onnx

    from calibration.gate import Passed

DEFAULT_METHOD = "mse"
SENSITIVITY_FACES = 48  # of all classes of yaw; the order of the layers needs no more


@dataclass(frozen=True)
class Request:
    """What the user asked for."""

    crops: Path
    boxes: Path | None = None
    labels: Path | None = None  # set to judge by; None: the validation rows of the crops
    method: str | None = None  # None: that of the table, or DEFAULT_METHOD
    samples: int = 500
    max_nme_increase: float = 0.02
    table: Path | None = None
    target: str = "tensorrt"


class Quantiser:
    """A model with its calibration table and the faces that judge it. Raises `FaceMeshError` for whatever does not fit."""

    def __init__(self, model: onnx.ModelProto, spec: ModelSpec, request: Request) -> None:
        """``spec`` is that of the file ``model`` came from; the table is made here, or read where there is one."""
        self._model, self._request = model, request
        graph = Graph(model)
        self.layers = quantisable_layers(graph)
        faces = load_faces(request.crops, request.boxes)
        judged = _judged(faces, request.labels)
        self._judge = Judge(read_crops(judged, spec))
        self._quick_judge = Judge(read_crops(sample(judged, SENSITIVITY_FACES), spec))
        if request.table is not None and request.table.exists():
            self.table = CalibrationTable.load(request.table, spec.onnx_sha256)
            if request.method not in (None, self.table.method):
                raise FaceMeshError(f"{request.table}: it was made by {self.table.method}, not {request.method}; name another file to calibrate anew")
        else:
            self.table = self._calibrate(calibrated_tensors(graph), faces, spec)
            if request.table is not None:
                self.table.save(request.table)
        self._losses: list[LayerLoss] | None = None

    @property
    def judged(self) -> int:
        """Number of faces behind the figures."""
        return len(self._judge)

    def losses(self) -> list[LayerLoss]:
        """What each layer alone costs, the most sensitive first; measured once."""
        if self._losses is None:
            self._losses = layer_losses(self._model, self.layers, self.table, self._request.target, self._quick_judge)
        return self._losses

    def quantise(self) -> Passed:
        """The model in INT8 that passed the gate."""
        from calibration.gate import pass_gate

        request = self._request
        return pass_gate(self._model, self.layers, self.table, request.target, self._judge, request.max_nme_increase, self.losses)

    def _calibrate(self, tensors: list[str], faces: Faces, spec: ModelSpec) -> CalibrationTable:
        from calibration.collect import collect

        request = self._request
        training = faces.select(~faces.is_val)
        if not len(training):
            raise FaceMeshError(f"{request.crops}: all of its rows are for validation; calibrate on others")
        crops = read_crops(sample(training, request.samples), spec)
        histograms = collect(self._model, tensors, (image for image, _ in crops), len(crops))
        method = request.method or DEFAULT_METHOD
        return CalibrationTable(spec.onnx_sha256, crops.sha256(), len(crops), method, choose_ranges(histograms, method))


def _judged(faces: Faces, labels: Path | None) -> Faces:
    """The rows to judge by: those for validation, or all where the set does not tell."""
    if labels is not None:
        faces = load_faces(labels)
        return faces.select(faces.is_val) if faces.is_val.any() else faces
    if not faces.is_val.any():
        raise FaceMeshError(f"{faces.origin}: none of its faces is set apart for validation (is_val); name a labelled set with --labels STEM")
    return faces.select(faces.is_val)
