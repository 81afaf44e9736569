"""``ModelSpec``: everything the runtime must obey about a network, kept as JSON beside the model file."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.errors import FaceMeshError
from runtime.families.table import FAMILIES
from runtime.models.shipped import is_asset
from runtime.storage.json_documents import load_document, save_document
from runtime.storage.whole_files import file_sha256
from runtime.tensors import InputSpec, OutputSpec

CONFIDENCE_SHAPE = (1,)  # of one face
DETECTOR = "detector"  # kind of a `runtime.models.detector_spec.DetectorSpec`; face networks say a family
LEAST_CROP_SCALE, MOST_CROP_SCALE = 0.1, 10.0  # networks of today have 1.4 to 2


@dataclass(frozen=True)
class ModelSpec:
    """Contract between a model file and the runtime. ``load`` and ``save`` are its JSON form."""

    name: str
    family: str  # one of `runtime.families.table.FAMILIES`
    input: InputSpec
    output: OutputSpec  # of the type that the family says
    crop_scale: float  # side of the square crop = crop_scale * size of the box, as the family measures it
    topology: str  # asset name "uv_topology.npz", or an npz file, PRNet uv-data folder or face model, from here
    precision: str  # "fp32", "fp16" or "int8"
    onnx_sha256: str  # hex digest of the ONNX file that this spec belongs to
    # Name of a second output, (N, 1) float32: the probability that the landmarks are right. None: the model has none.
    confidence: str | None = None
    untrained: bool = False  # random weights, for timing: its meshes mean nothing

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

    @classmethod
    def document_types(cls, document: dict[str, Any]) -> dict[str, type]:
        """Return the types of fields that depend on others: the output part is the family's.

        Raises `FaceMeshError` for the spec of a detector.
        """
        if document.get("kind") == DETECTOR:
            problem = "the spec of a detector, which makes no meshes"
            raise FaceMeshError(f"{problem}; give that detector to --detector, and a face network here")
        name = document.get("family")
        if not isinstance(name, str):
            return {}  # the check of the field's own type says it better
        _one_of("family", name, FAMILIES)
        return {"output": FAMILIES[name].output_type}

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one face's output, without the batch."""
        return self.output.shape(self.input.layout)

    @property
    def outputs(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of all outputs for one face, without the batch; the mesh's comes first."""
        confidence = {} if self.confidence is None else {self.confidence: CONFIDENCE_SHAPE}
        return {self.output.name: self.output_shape} | confidence

    def __post_init__(self) -> None:
        _one_of("family", self.family, FAMILIES)
        _one_of("input.layout", self.input.layout, ("NCHW", "NHWC"))
        _one_of("input.colour_order", self.input.colour_order, ("RGB", "BGR"))
        _one_of("precision", self.precision, ("fp32", "fp16", "int8"))
        if not 8 <= self.input.size <= 4096:
            raise ValueError(f"field input.size must be 8..4096, is {self.input.size}")
        if not LEAST_CROP_SCALE <= self.crop_scale <= MOST_CROP_SCALE:
            span = f"{LEAST_CROP_SCALE}..{MOST_CROP_SCALE}"
            raise ValueError(f"field crop_scale must be {span} times the box, is {self.crop_scale}")
        if self.input.landmark_channel and self.input.layout != "NCHW":
            raise ValueError(f"field input.landmark_channel needs the layout NCHW, it is {self.input.layout}")
        low, high = self.input.value_range
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"field input.value_range must be two rising numbers, is {[low, high]}")
        if self.confidence in ("", self.input.name, self.output.name):
            raise ValueError(f"field confidence must be the name of an output of its own, is {self.confidence!r}")


def _one_of(field: str, value: str, allowed: Iterable[str]) -> None:
    if value not in allowed:
        raise ValueError(f"field {field} must be one of {', '.join(allowed)}, is {value!r}")


def load_spec(path: Path, face_model: Path | None = None) -> ModelSpec:
    """Read the spec beside a model file; ``face_model`` as in `with_face_model`.

    Raises `FaceMeshError` if it is missing, damaged or of another file.
    """
    spec = ModelSpec.load(ModelSpec.path_for(path))
    if (found := file_sha256(path)) != spec.onnx_sha256:
        raise FaceMeshError(
            f"{path}: its SHA-256 {found[:12]}… is not the {spec.onnx_sha256[:12]}… "
            f"of {ModelSpec.path_for(path).name}; "
            "one of the two files is another version or damaged, export the model again"
        )
    return with_face_model(spec, path, face_model)


def with_face_model(spec: ModelSpec, path: Path, face_model: Path | None = None) -> ModelSpec:
    """Return the spec of the model file ``path`` with the place of its topology; families may call it a face model.

    That is ``face_model``, or the place that the spec names, seen from its own folder, or else a file of that name
    beside the model. Raises `FaceMeshError` for a face model that the family has no use for.
    """
    if not FAMILIES[spec.family].has_face_model and face_model is not None:
        problem = f"a model of the family {spec.family} has no face model"
        raise FaceMeshError(f"{path}: {problem}; leave {face_model} out")
    if face_model is None:
        if is_asset(spec.topology):
            return spec
        named, beside = path.parent / spec.topology, path.parent / Path(spec.topology).name
        face_model = beside if beside.exists() and not named.exists() else named
    return dataclasses.replace(spec, topology=os.fspath(face_model))


def topology_seen_from(folder: Path, topology: str) -> str:
    """Return how a spec in ``folder`` names the file ``topology``; shipped files and absolute paths stay."""
    if is_asset(topology) or Path(topology).is_absolute():
        return topology
    return os.path.relpath(topology, folder)
