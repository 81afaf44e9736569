"""An ONNX file with its spec, checked before an inference library gets to see it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto

from runtime.errors import FaceMeshError
from runtime.runner import load_spec
from runtime.spec import InputSpec, ModelSpec


@dataclass(frozen=True)
class OnnxFile:
    """What `open_onnx` found."""

    path: Path
    data: bytes
    model: onnx.ModelProto
    spec: ModelSpec
    batch: int | None  # fixed batch size; None: dynamic


def read_onnx(path: Path) -> tuple[bytes, onnx.ModelProto]:
    """The bytes of an ONNX file and the model in them.

    Raises `FaceMeshError` when it is none, or keeps weights in other files, whose bytes no hash covers.
    """
    try:
        data = path.read_bytes()
        model = onnx.load_model_from_string(data)
    except FileNotFoundError:
        raise FaceMeshError(f"{path}: no such file; 'python -m export onnx' writes one") from None
    except Exception as error:  # protobuf's own, of several bases
        raise FaceMeshError(f"{path}: not an ONNX file ({' '.join(str(error).split())}); export the model again") from None
    if not model.graph.node:
        raise FaceMeshError(f"{path}: not an ONNX file with a network in it; export the model again")
    for tensor in _weights(model.graph):
        if tensor.data_location == TensorProto.EXTERNAL:
            _refuse_external(path, tensor)
    return data, model


def open_onnx(path: Path) -> OnnxFile:
    """Read a model and hold it against the spec beside it: hash, precision, and shapes that are fixed but for the batch.

    Raises `FaceMeshError` naming what is wrong.
    """
    data, model = read_onnx(path)
    spec = load_spec(path)
    if (held := precision_of(model)) != spec.precision:
        raise FaceMeshError(f"{path}: its spec says {spec.precision}, the network is {held}; export the model again")
    ours = {initializer.name for initializer in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in ours]
    if [value.name for value in inputs] != [spec.input.name]:
        raise FaceMeshError(f"{path}: its inputs are {', '.join(value.name for value in inputs)}, its spec says {spec.input.name}; export it again")
    return OnnxFile(path, data, model, spec, _fixed_batch(path, inputs[0], spec.input))


def precision_of(model: onnx.ModelProto) -> str:
    """``int8`` with quantised tensors, else ``fp16`` with any half precision, else ``fp32``: a strongly typed engine has the types of its graph."""
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        return "int8"
    casts = {attribute.i for node in model.graph.node if node.op_type == "Cast" for attribute in node.attribute if attribute.name == "to"}
    halves = TensorProto.FLOAT16 in casts or any(tensor.data_type == TensorProto.FLOAT16 for tensor in _weights(model.graph))
    return "fp16" if halves else "fp32"


def float_types(model: onnx.ModelProto) -> dict[str, str]:
    """Name of every tensor between nodes that holds floating point numbers -> ``fp32`` or ``fp16``."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    names = {TensorProto.FLOAT: "fp32", TensorProto.FLOAT16: "fp16"}
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.output)}
    return {name: names[kind] for name, kind in types.items() if kind in names}


def _fixed_batch(path: Path, value: onnx.ValueInfoProto, wanted: InputSpec) -> int | None:
    """The batch size of the input; the other sides must be numbers and those of the spec."""
    sides = [side.dim_value if side.HasField("dim_value") else None for side in value.type.tensor_type.shape.dim]
    expected = [3, wanted.size, wanted.size] if wanted.layout == "NCHW" else [wanted.size, wanted.size, 3]
    if len(sides) != 4 or sides[1:] != expected:
        shown = [side.dim_param or side.dim_value or "?" for side in value.type.tensor_type.shape.dim]
        raise FaceMeshError(
            f"{path}: the input {value.name} has the shape {shown}, an engine needs ['N', {', '.join(map(str, expected))}]: "
            "only the batch may be dynamic; export the model again with fixed sides"
        )
    return sides[0]


def _weights(graph: onnx.GraphProto) -> list[TensorProto]:
    """All tensors that the graph and the branches inside it hold."""
    found = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            found += [attribute.t, *attribute.tensors]
            for branch in (attribute.g, *attribute.graphs):
                found += _weights(branch)
    return found


def _refuse_external(path: Path, tensor: TensorProto) -> None:
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    folder = path.parent.resolve()
    if not (folder / location).resolve().is_relative_to(folder):
        raise FaceMeshError(f"{path}: the weights {tensor.name} point to {location!r}, outside the folder of the model; such a file is not read")
    raise FaceMeshError(
        f"{path}: the weights {tensor.name} are in another file ({location!r}), which the hash in the spec does not cover; save the model in one file"
    )
