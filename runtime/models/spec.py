"""``ModelSpec``: everything the runtime must obey about a network, kept as JSON beside the model file."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import FaceMeshError
from runtime.storage.json_documents import load_document, save_document
from runtime.storage.whole_files import file_sha256

FAMILIES = ("position_map", "coefficients")


@dataclass(frozen=True)
class InputSpec:
    """The image tensor: float32, square, batch first."""

    name: str
    size: int  # side in px
    layout: str  # "NCHW" or "NHWC"; the position map of the output has the same layout
    colour_order: str  # "RGB" or "BGR"
    value_range: tuple[float, float]  # what uint8 0 and 255 become


@dataclass(frozen=True)
class OutputSpec:
    """The position map: float32, 3 channels x, y, z."""

    name: str
    size: int  # side of the map
    scale: float  # output * scale = px of the crop (PRNet: 256 * 1.1)


@dataclass(frozen=True)
class ModelSpec:
    """Contract between a model file and the runtime. ``load`` and ``save`` are its JSON form."""

    name: str
    family: str  # one of FAMILIES
    input: InputSpec
    output: OutputSpec
    crop_scale: float  # side of the square crop = crop_scale * (box width + box height) / 2
    topology: str  # asset name "uv_topology.npz", or the path of an npz file or PRNet uv-data folder
    precision: str  # "fp32", "fp16" or "int8"
    onnx_sha256: str  # hex digest of the ONNX file that this spec belongs to

    @staticmethod
    def path_for(model: str | os.PathLike[str]) -> Path:
        """``model.onnx`` -> ``model.onnx.json``."""
        return Path(f"{os.fspath(model)}.json")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ModelSpec:
        """Read and check the JSON file ``path``; raises `FaceMeshError` that names the field at fault."""
        return load_document(cls, path, "model spec", "python -m export onnx")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the JSON file ``path`` whole or not at all."""
        save_document(self, path)

    def __post_init__(self) -> None:
        _one_of("family", self.family, FAMILIES)
        _one_of("input.layout", self.input.layout, ("NCHW", "NHWC"))
        _one_of("input.colour_order", self.input.colour_order, ("RGB", "BGR"))
        _one_of("precision", self.precision, ("fp32", "fp16", "int8"))
        for field, value in (("input.size", self.input.size), ("output.size", self.output.size)):
            if not 8 <= value <= 4096:
                raise ValueError(f"field {field} must be 8..4096, is {value}")
        for field, number in (("output.scale", self.output.scale), ("crop_scale", self.crop_scale)):
            if not (math.isfinite(number) and number > 0):
                raise ValueError(f"field {field} must be a positive number, is {number}")
        low, high = self.input.value_range
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"field input.value_range must be two rising numbers, is {[low, high]}")


def _one_of(field: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"field {field} must be one of {', '.join(allowed)}, is {value!r}")


def load_spec(path: Path) -> ModelSpec:
    """The spec beside the model, once it is sure that they belong together."""
    spec = ModelSpec.load(ModelSpec.path_for(path))
    check_family(path, spec)
    if (found := file_sha256(path)) != spec.onnx_sha256:
        raise FaceMeshError(
            f"{path}: its SHA-256 {found[:12]}… is not the {spec.onnx_sha256[:12]}… of {ModelSpec.path_for(path).name}; "
            "one of the two files is another version or damaged, export the model again"
        )
    return spec


def check_family(path: Path, spec: ModelSpec) -> None:
    """Raises `FaceMeshError` for what this runtime has no decoder for."""
    if spec.family != "position_map":
        raise FaceMeshError(f"{path}: models of the family {spec.family} cannot be run yet; give a position_map model")
