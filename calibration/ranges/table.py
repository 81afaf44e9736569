"""``CalibrationTable``: the range of every tensor that may become INT8, as JSON to reuse, edit and compare."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.ranges.histograms import Histogram
from calibration.ranges.methods import METHODS, STEPS, UNSIGNED_STEPS
from runtime.errors import FaceMeshError
from runtime.storage.json_documents import load_document, save_document

WRITER = "python -m calibration"


@dataclass(frozen=True)
class TensorRange:
    """The range of one tensor that INT8 covers."""

    name: str
    amax: float  # the largest magnitude that INT8 covers; 0 for a tensor that is always 0
    minimum: float  # smallest value seen: a tensor that is never negative may become uint8


@dataclass(frozen=True)
class ChannelValues:
    """A number for each channel of a tensor."""

    tensor: str
    values: str  # (C,) separated by spaces: a line that can be compared

    @classmethod
    def of(cls, tensor: str, values: NDArray[np.floating]) -> ChannelValues:
        """Return the values (C,) as text with four digits of each."""
        return cls(tensor, " ".join(f"{value:.4g}" for value in values))

    @property
    def array(self) -> NDArray[np.float32]:
        return np.array(self.values.split(), np.float32)


@dataclass(frozen=True)
class CalibrationTable:
    """Ranges, and their origin."""

    model_sha256: str  # of the ONNX file that was calibrated
    crops_sha256: str  # of the faces, see `calibration.crops.Crops.sha256`
    samples: int
    method: str  # one of entropy, percentile, mse, minmax
    target: str  # "tensorrt" or "cpu": what becomes uint8 there has twice the levels, which moves the best range
    equalisation: tuple[
        ChannelValues, ...
    ]  # by what channels are divided before anything else, see `calibration.precision.equalise`
    means: tuple[ChannelValues, ...]  # of what the layers read, for the biases, see `calibration.precision.qdq`
    ranges: tuple[TensorRange, ...]  # in the order of the graph

    @classmethod
    def load(cls, path: Path, model_sha256: str) -> CalibrationTable:
        """Read and check a table for the model with this digest. Raises `FaceMeshError`."""
        table = load_document(cls, path, "calibration table", WRITER)
        if table.model_sha256 != model_sha256:
            raise FaceMeshError(
                f"{path}: it was made for another model "
                f"({table.model_sha256[:12]}…, this one is {model_sha256[:12]}…); "
                "remove it to calibrate anew"
            )
        return table

    def save(self, path: Path) -> None:
        """Write the JSON file, whole or not at all."""
        save_document(self, path)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"field method must be one of {', '.join(METHODS)}, is {self.method!r}")
        for entry in self.ranges:
            if not (math.isfinite(entry.amax) and entry.amax >= 0 and math.isfinite(entry.minimum)):
                raise ValueError(f"the range of {entry.name} must be finite and not negative, is {entry.amax}")
        for entry in (*self.equalisation, *self.means):
            try:
                is_good = bool(np.isfinite(entry.array).all() and (entry in self.means or (entry.array > 0).all()))
            except ValueError:
                is_good = False
            if not is_good:
                raise ValueError(f"the channels of {entry.tensor} must have numbers, and in equalisation positive ones")
        if len({entry.name for entry in self.ranges}) != len(self.ranges):
            raise ValueError("a tensor is named twice in ranges")


def choose_ranges(histograms: dict[str, Histogram], method: str, target: str) -> tuple[TensorRange, ...]:
    """Return the range of every histogram by one of the four methods."""
    ranges = []
    for name, histogram in histograms.items():
        levels = UNSIGNED_STEPS if is_unsigned(histogram.minimum, target) else STEPS
        ranges.append(TensorRange(name, METHODS[method](histogram, levels), histogram.minimum))
    return tuple(ranges)


def is_unsigned(minimum: float, target: str) -> bool:
    """Return True if a tensor with this smallest value becomes uint8. TensorRT knows int8 alone."""
    return target == "cpu" and minimum >= 0
