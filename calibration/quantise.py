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
from calibration.table import CalibrationTable, ChannelFactors, choose_ranges
from runtime.errors import FaceMeshError
from runtime.spec import ModelSpec

if TYPE_CHECKING:
    import onnx

    from calibration.gate import Passed

DEFAULT_METHOD = "mse"
EQUALISATION_CROPS = 100
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
        from calibration.equalise import equalise

        self._request = request
        graph = Graph(model)
        self.layers = quantisable_layers(graph)
        faces = load_faces(request.crops, request.boxes)
        judged = _judged(faces, request.labels)
        self._judge = Judge(read_crops(judged, spec))
        self._quick_judge = Judge(read_crops(sample(judged, SENSITIVITY_FACES), spec))
        if request.table is not None and request.table.exists():
            self.table = CalibrationTable.load(request.table, spec.onnx_sha256)
            for made, asked in ((self.table.method, request.method or self.table.method), (self.table.target, request.target)):
                if made != asked:
                    raise FaceMeshError(f"{request.table}: it was made for {made}, not {asked}; name another file to calibrate anew")
        else:
            self.table = self._calibrate(model, faces, spec)
            if request.table is not None:
                self.table.save(request.table)
        self._model = equalise(model, {entry.tensor: entry.values for entry in self.table.equalisation})
        self._losses: list[LayerLoss] | None = None

    @property
    def judged(self) -> int:
        """Number of faces behind the figures."""
        return len(self._judge)

    def losses(self) -> list[LayerLoss]:
        """What each layer alone costs, the most sensitive first; measured once."""
        if self._losses is None:
            self._losses = layer_losses(self._model, self.layers, self.table, self._quick_judge)
        return self._losses

    def quantise(self) -> Passed:
        """The model in INT8 that passed the gate."""
        from calibration.gate import pass_gate

        return pass_gate(self._model, self.layers, self.table, self._judge, self._request.max_nme_increase, self.losses)

    def _calibrate(self, model: onnx.ModelProto, faces: Faces, spec: ModelSpec) -> CalibrationTable:
        from calibration.collect import collect
        from calibration.equalise import channel_peaks, choose_factors, equalise, linked_tensors

        request = self._request
        training = faces.select(~faces.is_val)
        if not len(training):
            raise FaceMeshError(f"{request.crops}: all of its rows are for validation; calibrate on others")
        crops = read_crops(sample(training, request.samples), spec)
        some = read_crops(sample(crops.faces, EQUALISATION_CROPS), spec)
        factors = choose_factors(model, channel_peaks(model, linked_tensors(model), (image for image, _ in some)))
        lines = tuple(ChannelFactors(name, " ".join(f"{value:.4g}" for value in values)) for name, values in factors.items())
        equalised = equalise(model, {entry.tensor: entry.values for entry in lines})
        histograms = collect(equalised, calibrated_tensors(Graph(model), request.target), (image for image, _ in crops), len(crops))
        method = request.method or DEFAULT_METHOD
        ranges = choose_ranges(histograms, method, request.target)
        return CalibrationTable(spec.onnx_sha256, crops.sha256(), len(crops), method, request.target, lines, ranges)


def _judged(faces: Faces, labels: Path | None) -> Faces:
    """The rows to judge by: those for validation, or all where the set does not tell."""
    if labels is not None:
        faces = load_faces(labels)
        return faces.select(faces.is_val) if faces.is_val.any() else faces
    if not faces.is_val.any():
        raise FaceMeshError(f"{faces.origin}: none of its faces is set apart for validation (is_val); name a labelled set with --labels STEM")
    return faces.select(faces.is_val)
