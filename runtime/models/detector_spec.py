"""``DetectorSpec``: everything the runtime must obey about a detector of one size, kept as JSON beside its model."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.errors import FaceMeshError
from runtime.models.spec import DETECTOR, ModelSpec, load_spec
from runtime.storage.json_documents import load_document, read_json, save_document
from runtime.storage.whole_files import file_sha256

STRIDES = (8, 16, 32)  # px of the input for one place of a level
LEVELS = ("stride_8", "stride_16", "stride_32")  # the outputs
CHANNELS = 16  # of a level: the logits of class and object, box (4), five points (10)
MOST_SIDE = 4096  # px
WRITER = "python -m export detector"


@dataclass(frozen=True)
class DetectorInput:
    """The picture of a detector: planes of fixed size, float32 or float16, batch first."""

    name: str
    width: int  # px, a multiple of 32
    height: int  # px, a multiple of 32
    colour_order: str = "BGR"
    value_range: tuple[float, float] = (0.0, 255.0)  # values of uint8 0 and 255

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one picture, without the batch: (3, height, width)."""
        return 3, self.height, self.width


@dataclass(frozen=True)
class DetectorSpec:
    """Contract between a detector's file and the runtime. ``load`` and ``save`` are its JSON form.

    Every output is a level of YuNet (Wu, Peng, Yu 2023), as `runtime.detection.yunet_rows` reads it.
    """

    name: str
    input: DetectorInput
    precision: str  # "fp32", "fp16" or "int8"
    onnx_sha256: str  # hex digest of the ONNX file that this spec belongs to
    strides: tuple[int, ...] = STRIDES
    levels: tuple[str, ...] = LEVELS  # names of the outputs, one for each stride
    kind: str = DETECTOR  # tells this document from a `ModelSpec`

    @staticmethod
    def path_for(model: str | os.PathLike[str]) -> Path:
        """``yunet.onnx`` -> ``yunet.onnx.json``."""
        return ModelSpec.path_for(model)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> DetectorSpec:
        """Read and check the JSON file ``path``; raises `FaceMeshError` that names the field at fault."""
        return load_document(cls, path, "detector spec", WRITER)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the JSON file ``path`` whole or not at all."""
        save_document(self, path)

    @classmethod
    def document_types(cls, document: dict[str, Any]) -> dict[str, type]:
        """Refuse the spec of a face network with `FaceMeshError`; no field's type depends on others."""
        if "family" in document:
            problem = "the spec of a face network, which finds no faces"
            raise FaceMeshError(f"{problem}; give that network to --engine, and a detector here")
        return {}

    @property
    def outputs(self) -> dict[str, tuple[int, int, int]]:
        """Names and shapes of the outputs for one picture, without the batch: (16, height / stride, width / stride)."""
        return {
            name: (CHANNELS, self.input.height // stride, self.input.width // stride)
            for name, stride in zip(self.levels, self.strides, strict=True)
        }

    def __post_init__(self) -> None:
        if self.kind != DETECTOR:
            raise ValueError(f"field kind must be {DETECTOR}, is {self.kind!r}")
        if self.precision not in ("fp32", "fp16", "int8"):
            raise ValueError(f"field precision must be one of fp32, fp16, int8, is {self.precision!r}")
        if self.strides != STRIDES:
            raise ValueError(f"field strides must be {list(STRIDES)}, is {list(self.strides)}")
        if len({self.input.name, *self.levels} - {""}) != 1 + len(STRIDES) or len(self.levels) != len(STRIDES):
            raise ValueError(f"field levels must be {len(STRIDES)} names of their own, is {list(self.levels)}")
        for side in ("width", "height"):
            value = getattr(self.input, side)
            if value % STRIDES[-1] or not STRIDES[-1] <= value <= MOST_SIDE:
                raise ValueError(f"field input.{side} must be a multiple of 32 up to {MOST_SIDE}, is {value}")
        if self.input.colour_order != "BGR" or self.input.value_range != (0.0, 255.0):
            found = f"{self.input.colour_order} of {list(self.input.value_range)}"
            raise ValueError(f"field input must take BGR of [0, 255], takes {found}")


AnySpec = ModelSpec | DetectorSpec


def spec_type(document: object) -> type[ModelSpec] | type[DetectorSpec]:
    """Return the class of a spec's JSON content: `ModelSpec` unless the content says otherwise."""
    return DetectorSpec if isinstance(document, dict) and document.get("kind") == DETECTOR else ModelSpec


def load_any_spec(path: str | os.PathLike[str]) -> AnySpec:
    """Read and check the spec ``path`` of either kind; raises `FaceMeshError`."""
    return _type_in(path).load(path)


def mesh_spec(spec: AnySpec, path: Path) -> ModelSpec:
    """Return the spec of the face network in the file ``path``. Raises `FaceMeshError` if it is a detector."""
    if isinstance(spec, ModelSpec):
        return spec
    raise FaceMeshError(f"{path}: a detector, which makes no meshes; give it to --detector, and a face network here")


def detector_spec(spec: AnySpec, path: Path) -> DetectorSpec:
    """Return the spec of the detector in the file ``path``. Raises `FaceMeshError` if it is a face network."""
    if isinstance(spec, DetectorSpec):
        return spec
    raise FaceMeshError(f"{path}: a face network, which finds no faces; give it to --engine, and a detector here")


def load_spec_of(path: Path) -> AnySpec:
    """Read the spec beside a model file of either kind, as `load_spec` and `load_detector_spec` do."""
    return load_detector_spec(path) if _type_in(ModelSpec.path_for(path)) is DetectorSpec else load_spec(path)


def load_detector_spec(path: Path) -> DetectorSpec:
    """Read the spec beside a detector's file. Raises `FaceMeshError` if it is missing, damaged or of another file."""
    spec = DetectorSpec.load(DetectorSpec.path_for(path))
    if (found := file_sha256(path)) != spec.onnx_sha256:
        raise FaceMeshError(
            f"{path}: its SHA-256 {found[:12]}… is not the {spec.onnx_sha256[:12]}… "
            f"of {DetectorSpec.path_for(path).name}; "
            f"one of the two files is another version or damaged, make it again with '{WRITER}'"
        )
    return spec


def _type_in(path: str | os.PathLike[str]) -> type[ModelSpec] | type[DetectorSpec]:
    """Return the class of the spec in the file ``path``; of one that cannot be read `ModelSpec`, which says why."""
    try:
        return spec_type(read_json(path))
    except (OSError, ValueError):
        return ModelSpec
