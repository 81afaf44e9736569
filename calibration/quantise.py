"""The road from an FP32 model to one in INT8 that passed the gate.

crops ─ collect ─ choose_ranges ─▶ CalibrationTable ─ insert_qdq ─ pass_gate ─▶ Passed
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from calibration.accuracy.judge import Judge
from calibration.accuracy.sensitivity import LayerLoss, layer_losses
from calibration.crops import Faces, load_faces, read_crops, sample
from calibration.precision.graph_view import Graph
from calibration.precision.placement import calibrated_tensors, quantisable_layers, read_by_layers
from calibration.ranges.collect import Collected, collect
from calibration.ranges.table import CalibrationTable, ChannelValues, choose_ranges
from runtime.errors import FaceMeshError
from runtime.models.spec import ModelSpec

if TYPE_CHECKING:
    import onnx

    from calibration.accuracy.gate import Passed

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
        self._request = request
        graph = Graph(model)
        self.layers = quantisable_layers(graph)
        faces = load_faces(request.crops, request.boxes)
        judged = judged_rows(faces, request.labels)
        self._judge = Judge(read_crops(judged, spec))
        self._quick_judge = Judge(read_crops(sample(judged, SENSITIVITY_FACES), spec))
        if request.table is not None and request.table.exists():
            self.table = CalibrationTable.load(request.table, spec.onnx_sha256)
            for made, asked in ((self.table.method, request.method or self.table.method), (self.table.target, request.target)):
                if made != asked:
                    raise FaceMeshError(f"{request.table}: it was made for {made}, not {asked}; name another file to calibrate anew")
        else:
            self.table = measure_activations(model, spec, faces, request.samples, request.target).table(request.method or DEFAULT_METHOD)
            if request.table is not None:
                self.table.save(request.table)
        self._model = equalised(model, self.table.equalisation)
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
        from calibration.accuracy.gate import pass_gate

        return pass_gate(self._model, self.layers, self.table, self._judge, self._request.max_nme_increase, self.losses)


@dataclass(frozen=True, eq=False)
class Activations:
    """What a model's activations look like on crops, from which any method makes a table."""

    model_sha256: str
    crops_sha256: str
    samples: int
    target: str
    equalisation: tuple[ChannelValues, ...]
    collected: Collected  # of the equalised model

    def table(self, method: str) -> CalibrationTable:
        """The calibration table by one of the four methods."""
        ranges = choose_ranges(self.collected.histograms, method, self.target)
        means = tuple(ChannelValues.of(name, values) for name, values in self.collected.means.items())
        return CalibrationTable(self.model_sha256, self.crops_sha256, self.samples, method, self.target, self.equalisation, means, ranges)


def measure_activations(model: onnx.ModelProto, spec: ModelSpec, faces: Faces, samples: int, target: str) -> Activations:
    """Run ``model`` on a sample of the training rows of ``faces``, twice: to equalise its channels, and for the histograms."""
    from calibration.precision.equalise import channel_peaks, choose_factors, equalised_tensors

    training = faces.select(~faces.is_val)
    if not len(training):
        raise FaceMeshError(f"{faces.origin}: all of its rows are for validation; calibrate on others")
    crops = read_crops(sample(training, samples), spec)
    tensors = calibrated_tensors(Graph(model), target)
    peaks = channel_peaks(model, equalised_tensors(model, tensors), (image for image, _ in crops), len(crops))
    factors = choose_factors(model, peaks)
    lines = tuple(ChannelValues.of(name, values) for name, values in factors.items())
    averaged = read_by_layers(Graph(model))
    collected = collect(equalised(model, lines), tensors, (image for image, _ in crops), len(crops), averaged=averaged)
    return Activations(spec.onnx_sha256, crops.sha256(), len(crops), target, lines, collected)


def equalised(model: onnx.ModelProto, factors: tuple[ChannelValues, ...]) -> onnx.ModelProto:
    """The model whose ranges a table with these factors holds."""
    from calibration.precision.equalise import equalise

    return equalise(model, {entry.tensor: entry.array for entry in factors})


def judged_rows(faces: Faces, labels: Path | None) -> Faces:
    """The rows to judge by: those for validation, or all where the set does not tell."""
    if labels is not None:
        faces = load_faces(labels)
        return faces.select(faces.is_val) if faces.is_val.any() else faces
    if not faces.is_val.any():
        raise FaceMeshError(f"{faces.origin}: none of its faces is set apart for validation (is_val); name a labelled set with --labels STEM")
    return faces.select(faces.is_val)
