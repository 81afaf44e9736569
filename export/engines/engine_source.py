"""The ONNX file that an engine is built from, checked before an inference library gets to see it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto

from calibration.precision.model_file import read_onnx, sound_model
from export.engines.half_tensors import with_half_ends
from export.graphs.model_file import all_tensors, check_interface, precision_of
from runtime.errors import FaceMeshError
from runtime.models.detector_spec import AnySpec, load_spec_of


@dataclass(frozen=True)
class EngineSource:
    """A model file and its spec."""

    path: Path
    data: bytes  # the whole file, without casts of the ends of an FP16 model
    model: onnx.ModelProto
    spec: AnySpec
    batch: int | None  # fixed batch size; None: dynamic


def open_source(path: Path) -> EngineSource:
    """Read a model and compare it with its spec: hash, names, sizes, precision. Raises `FaceMeshError`."""
    data, model = read_whole_onnx(path)
    with sound_model(path):
        return _compared(path, data, model)


def _compared(path: Path, data: bytes, model: onnx.ModelProto) -> EngineSource:
    spec = load_spec_of(path)
    check_interface(model, spec, path)
    if others := [value.name for value in model.graph.output if value.name not in spec.outputs]:
        problem = f"its spec does not tell of the output {', '.join(others)}, and the runtime takes no such engine"
        raise FaceMeshError(f"{path}: {problem}; export the model again")
    if (held := precision_of(model)) != spec.precision:
        raise FaceMeshError(f"{path}: its spec says {spec.precision}, the network is {held}; export the model again")
    if any(tensor.data_type == TensorProto.UINT8 for tensor in all_tensors(model.graph)):
        raise FaceMeshError(
            f"{path}: its activations are uint8, a form for CPUs that TensorRT would read as int8; "
            "quantise with --target tensorrt"
        )
    if spec.precision == "fp16":
        model = with_half_ends(model)
        data = model.SerializeToString()
    batch = next(value for value in model.graph.input if value.name == spec.input.name).type.tensor_type.shape.dim[0]
    return EngineSource(path, data, model, spec, batch.dim_value if batch.HasField("dim_value") else None)


def read_whole_onnx(path: Path) -> tuple[bytes, onnx.ModelProto]:
    """Return the bytes of an ONNX file and the model in them.

    Raises `FaceMeshError` for a file that cannot be read, and for weights in other files, whose bytes no hash covers.
    """
    data, model = read_onnx(path)
    with sound_model(path):
        for tensor in all_tensors(model.graph):
            if tensor.data_location == TensorProto.EXTERNAL:
                _refuse_external(path, tensor)
    return data, model


def weight_types(model: onnx.ModelProto) -> Counter[str]:
    """Count the tensors of weights and constants by type: {"FLOAT": 40, "INT64": 2}."""
    return Counter(
        TensorProto.DataType.Name(tensor.data_type) for tensor in all_tensors(model.graph) if tensor.data_type
    )


def float_types(model: onnx.ModelProto) -> dict[str, str]:
    """Name of every tensor between nodes that holds floating point numbers -> ``fp32`` or ``fp16``."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    names = {TensorProto.FLOAT: "fp32", TensorProto.FLOAT16: "fp16"}
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.output)}
    return {name: names[kind] for name, kind in types.items() if kind in names}


def _refuse_external(path: Path, tensor: TensorProto) -> None:
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    folder = path.parent.resolve()
    where = "a file beside it" if (folder / location).resolve().is_relative_to(folder) else "a file outside its folder"
    raise FaceMeshError(
        f"{path}: the weights {tensor.name} lie in {location!r}, {where}, which the hash in its spec does not cover; "
        f"'python -m export onnx --weights {path.name} -o …' makes one file of what lies in the folder"
    )
