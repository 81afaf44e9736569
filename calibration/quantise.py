"""Turn an FP32 model into one in INT8 that passed the gate.

crops ─ collect ─ choose_ranges ─▶ CalibrationTable ─ insert_qdq ─ pass_gate ─▶ GateResult
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from calibration.accuracy.judge import LandmarkJudge
from calibration.accuracy.sensitivity import LayerLoss, layer_losses
from calibration.crops import read_crops
from calibration.face_sources import load_faces
from calibration.faces import Faces, sample, set_apart
from calibration.precision.graph_view import Graph
from calibration.precision.placement import calibrated_tensors, quantisable_layers, read_by_layers
from calibration.ranges.collect import ActivationStatistics, collect
from calibration.ranges.table import CalibrationTable, ChannelValues, choose_ranges
from runtime.errors import FaceMeshError
from runtime.models.spec import ModelSpec

if TYPE_CHECKING:
    from calibration.accuracy.gate import GateResult

DEFAULT_METHOD = "mse"
# Without labels the landmarks may move by this share of the crop's side: 0.38 px of 128. Half a percent of a face is a
# seventh of the shipped model's error, and not in its direction.
MAX_SHIFT = 0.003
# Of the faces of a folder without labels, the share that judges instead of calibrating.
JUDGING_SHARE = 0.25
SENSITIVITY_FACES = 48  # of all classes of yaw; the order of the layers needs no more


@dataclass(frozen=True)
class QuantiseRequest:
    """The options of a quantisation."""

    crops: Path
    boxes: Path | None = None
    labels: Path | None = None  # set to judge by; None: the validation rows of the crops, or a share of a folder
    method: str | None = None  # None: that of the table, or DEFAULT_METHOD
    samples: int = 500
    max_nme_increase: float = 0.02
    max_shift_px: float | None = None  # without labels; None: MAX_SHIFT of the crop's side
    table: Path | None = None
    target: str = "tensorrt"


class Quantiser:
    """A model with its calibration table and the faces that judge it."""

    def __init__(self, graph: Graph, spec: ModelSpec, request: QuantiseRequest) -> None:
        """Make the table, or read it from the file of ``request`` if there is one.

        ``graph`` is the view of the FP32 model and ``spec`` that of its file. Raises `FaceMeshError` for faces, tables
        and options that do not fit.
        """
        self._request = request
        self.layers = quantisable_layers(graph, request.target)

        # The faces to judge by.
        faces = load_faces(request.crops, request.boxes)
        if request.labels is None and not faces.is_archive:
            faces = set_apart(faces, JUDGING_SHARE)
        judged = judged_rows(faces, request.labels)
        self._judge = LandmarkJudge(read_crops(judged, spec))
        self._quick_judge = LandmarkJudge(read_crops(sample(judged, SENSITIVITY_FACES), spec))

        # The table, and the model that it is for.
        if request.table is not None and request.table.exists():
            self.table = _load_table(request.table, spec, request, faces)
            self._graph = equalised(graph, self.table.equalisation)
        else:
            activations = measure_activations(graph, spec, faces, request.samples, request.target)
            self.table = activations.table(request.method or DEFAULT_METHOD)
            self._graph = activations.graph
            if request.table is not None:
                self.table.save(request.table)
        self._losses: list[LayerLoss] | None = None
        shift = MAX_SHIFT * spec.input.size if request.max_shift_px is None else request.max_shift_px
        self.limit = request.max_nme_increase if self._judge.labelled else shift  # of the judge's loss

    @property
    def judged(self) -> int:
        """Number of faces behind the figures."""
        return len(self._judge)

    def losses(self) -> list[LayerLoss]:
        """Return the loss by each layer alone, the most sensitive first; measured once."""
        if self._losses is None:
            self._losses = layer_losses(self._graph, self.layers, self.table, self._quick_judge)
        return self._losses

    def quantise(self) -> GateResult:
        """Return the model in INT8 that passed the gate."""
        from calibration.accuracy.gate import pass_gate

        return pass_gate(self._graph, self.layers, self.table, self._judge, self.limit, self.losses)

    def vertex_shift_px(self, result: GateResult) -> float:
        """Return the mean distance of all vertices from those of FP32, px of the crop, on `SENSITIVITY_FACES` faces."""
        return self._quick_judge.vertex_shift_px(result.model, self._graph.model)

    def confidence_text(self, result: GateResult) -> str | None:
        """Return one line on the confidences in FP32 and INT8, None for a model that does not tell."""
        before, after = self._judge.confidences(self._graph.model), self._judge.confidences(result.model)
        if before is None or after is None:
            return None
        apart = float(np.abs(after - before).mean())
        return f"mean confidence {before.mean():.3f} in FP32, {after.mean():.3f} in INT8, {apart:.3f} apart on average"


class Images(Protocol):
    """Inputs for `measure_on`: an item begins with one, (1, …) float32."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> tuple[NDArray[np.float32], Any]: ...

    def sha256(self) -> str: ...


@dataclass(frozen=True, eq=False)
class Activations:
    """Statistics of a model's activations on crops; any method makes a table from them."""

    model_sha256: str
    crops_sha256: str
    samples: int
    target: str
    equalisation: tuple[ChannelValues, ...]
    graph: Graph  # of the equalised model
    statistics: ActivationStatistics  # of the equalised model

    def table(self, method: str) -> CalibrationTable:
        """Return the calibration table by one of the four methods."""
        means = tuple(ChannelValues.of(name, values) for name, values in self.statistics.means.items())
        return CalibrationTable(
            model_sha256=self.model_sha256,
            crops_sha256=self.crops_sha256,
            samples=self.samples,
            method=method,
            target=self.target,
            equalisation=self.equalisation,
            means=means,
            ranges=choose_ranges(self.statistics.histograms, method, self.target),
        )


def measure_activations(graph: Graph, spec: ModelSpec, faces: Faces, samples: int, target: str) -> Activations:
    """Run a model on a sample of the training rows of ``faces``, twice: to equalise its channels, and for histograms.

    Raises `FaceMeshError` without training rows, and for activations with NaN or infinity.
    """
    crops = read_crops(calibrating_rows(faces, samples), spec)
    return measure_on(crops, graph, spec.onnx_sha256, len(crops), target)


def calibrating_rows(faces: Faces, samples: int) -> Faces:
    """Return a sample of the training rows. Raises `FaceMeshError` without any."""
    training = faces.select(~faces.is_val)
    if not len(training):
        raise FaceMeshError(f"{faces.origin}: all of its rows are for validation; calibrate on others")
    return sample(training, samples)


def measure_on(crops: Images, graph: Graph, model_sha256: str, samples: int, target: str) -> Activations:
    """Run a model on images of ``samples`` faces, as `measure_activations` does."""
    from calibration.precision.equalise import channel_peaks, choose_factors, equalised_tensors

    # First run: the largest magnitude of each channel decides its factor.
    tensors = calibrated_tensors(graph, target)
    images = (image for image, _ in crops)
    peaks = channel_peaks(graph.model, equalised_tensors(graph, tensors), images, len(crops))
    factors = choose_factors(graph, peaks)
    equalisation = tuple(ChannelValues.of(name, values) for name, values in factors.items())

    # Second run: histograms and means of the equalised model.
    even = equalised(graph, equalisation)
    images = (image for image, _ in crops)
    statistics = collect(even.model, tensors, images, len(crops), averaged=read_by_layers(graph, target))
    return Activations(
        model_sha256=model_sha256,
        crops_sha256=crops.sha256(),
        samples=samples,
        target=target,
        equalisation=equalisation,
        graph=even,
        statistics=statistics,
    )


def equalised(graph: Graph, factors: tuple[ChannelValues, ...]) -> Graph:
    """Return the view of the model for a table with these factors."""
    from calibration.precision.equalise import equalise

    return equalise(graph, {entry.tensor: entry.array for entry in factors})


def judged_rows(faces: Faces, labels: Path | None) -> Faces:
    """Return the rows to judge by: the validation rows, of the set ``labels`` if it is given.

    A set ``labels`` without validation rows is taken whole. Raises `FaceMeshError` if ``faces`` has none and no set is
    given.
    """
    if labels is not None:
        return labelled_rows(labels)
    if not faces.is_val.any() and not faces.is_archive:
        problem = f"{faces.origin}: one picture with faces, and two are the least: to calibrate on and to judge by"
        raise FaceMeshError(f"{problem}; give more, some 200, or a labelled set with --labels STEM")
    if not faces.is_val.any():
        problem = f"{faces.origin}: none of its faces is set apart for validation (is_val)"
        raise FaceMeshError(f"{problem}; name a labelled set with --labels STEM")
    return faces.select(faces.is_val)


def labelled_rows(labels: Path) -> Faces:
    """Return the validation rows of a set, or all of its rows if none is for validation."""
    faces = load_faces(labels)
    return faces.select(faces.is_val) if faces.is_val.any() else faces


def _load_table(path: Path, spec: ModelSpec, request: QuantiseRequest, faces: Faces) -> CalibrationTable:
    """Read a table and check its method, target and crops against ``request`` and the ``faces`` of it."""
    table = CalibrationTable.load(path, spec.onnx_sha256)
    for made, asked in ((table.method, request.method or table.method), (table.target, request.target)):
        if made != asked:
            remedy = "name another file to calibrate anew"
            raise FaceMeshError(f"{path}: it was made for {made}, not {asked}; {remedy}")
    crops = read_crops(sample(faces.select(~faces.is_val), request.samples), spec)
    if crops.sha256() != table.crops_sha256:
        problem = f"it was made from other crops ({table.samples}; these are {len(crops)} of {request.crops})"
        raise FaceMeshError(f"{path}: {problem}; give those, with --samples as then, or remove it to calibrate anew")
    return table
