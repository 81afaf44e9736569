"""The door for models that are to be quantised, and the two files that come out."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable
from pathlib import Path

import onnx

from calibration.precision.graph_view import LAYERS, Graph, layer_name
from runtime.errors import FaceMeshError
from runtime.models.spec import ModelSpec
from runtime.storage.json_documents import document_bytes
from runtime.storage.whole_files import whole_file

QUANTISED = ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear")


def load_plain(path: Path) -> onnx.ModelProto:
    """The FP32 model in ``path``, normalisation folded and nothing quantised. Raises `FaceMeshError` for any other."""
    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf, the operating system and onnx raise types of their own
        raise FaceMeshError(f"{path}: cannot be read as an ONNX model ({' '.join(str(error).split())[:200]}); export it again") from None
    check_plain(model, path)
    return model


def check_plain(model: onnx.ModelProto, path: Path) -> None:
    """Refuse what cannot be quantised, with the way to a model that can."""
    graph = Graph(model)
    if any(node.op_type in QUANTISED for node in graph.nodes):
        raise FaceMeshError(f"{path}: the model is quantised already; give the FP32 model that it was made from")
    layers = [node for node in graph.nodes if graph.is_layer(node)]
    if not layers:
        raise FaceMeshError(f"{path}: no layer with weights in it; is it a network?")
    if any(graph.constants[node.input[1]].data_type != onnx.TensorProto.FLOAT for node in layers):
        raise FaceMeshError(f"{path}: its weights are not float32; give the FP32 model")
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset < 13:
        raise FaceMeshError(f"{path}: opset {opset} has no scales per channel; bring it to 17 with 'python -m export onnx --weights {path.name} …'")
    for node in graph.nodes:
        before = graph.producer.get(node.input[0]) if node.op_type == "BatchNormalization" else None
        if before is not None and before.op_type in LAYERS and graph.single_reader(before.output[0]) is node:
            raise FaceMeshError(
                f"{path}: the normalisation {layer_name(node)} is not folded into the layer before it; "
                f"run 'python -m export onnx --weights {path.name} -o folded.onnx' first and quantise its result"
            )


def write_int8(model: onnx.ModelProto, spec: ModelSpec, path: Path) -> ModelSpec:
    """Write ``path`` and, with its SHA-256 and precision, the spec beside it; both or, on an error, neither."""
    content = model.SerializeToString(deterministic=True)
    spec = dataclasses.replace(spec, precision="int8", onnx_sha256=hashlib.sha256(content).hexdigest())
    with whole_file(ModelSpec.path_for(path)) as spec_file, whole_file(path) as model_file:
        spec_file.write(document_bytes(spec))
        spec_file.flush()
        model_file.write(content)
    return spec


def with_outputs(model: onnx.ModelProto, tensors: Iterable[str]) -> onnx.ModelProto:
    """A copy that puts out the named tensors too."""
    extended = onnx.ModelProto()
    extended.CopyFrom(model)
    have = {value.name for value in extended.graph.output}
    extended.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in tensors if name not in have)
    return extended
