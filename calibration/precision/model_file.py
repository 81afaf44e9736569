"""Read and write ONNX files; check that a model can be quantised.

This is the one reader and the one writer of the project. `export.graphs.model_file` adds the checks of models that
come from elsewhere. They are here since calibration may not import export.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import onnx
from google.protobuf.message import DecodeError

from calibration.precision.graph_view import LAYERS, Graph, layer_name
from runtime.errors import FaceMeshError, one_line, reason
from runtime.models.detector_spec import DetectorSpec
from runtime.models.file_kinds import refuse_other_kind
from runtime.models.spec import ModelSpec, topology_seen_from
from runtime.storage.bounded_files import read_bounded
from runtime.storage.json_documents import document_bytes
from runtime.storage.whole_files import whole_files

QUANTISED = (
    "QuantizeLinear",
    "DequantizeLinear",
    "QLinearConv",
    "QLinearMatMul",
    "ConvInteger",
    "MatMulInteger",
    "DynamicQuantizeLinear",
)
S = TypeVar("S", ModelSpec, DetectorSpec)
LEAST_OPSET = 13  # the first with scales per channel


def read_onnx(path: Path) -> tuple[bytes, onnx.ModelProto]:
    """Return the bytes of an ONNX file and the model in them; weights in other files are not read.

    Raises `FaceMeshError` for a file that is missing, damaged, empty or no ONNX model.
    """
    refuse_other_kind(path, "onnx")
    try:
        data = read_bounded(path)
        model = onnx.load_model_from_string(data)
    except FileNotFoundError:
        raise FaceMeshError(f"{path}: no such file; give an .onnx file, 'python -m export onnx' writes one") from None
    except (OSError, DecodeError, ValueError) as error:
        problem = f"cannot be read as an ONNX model ({reason(error)})"
        raise FaceMeshError(f"{path}: {problem}; get the file again or export it again") from None
    if not all(isinstance(text, str) for text in _texts(model.graph)):  # else bytes
        raise FaceMeshError(f"{path}: not a valid ONNX model (a name in it is no text); export it again")
    if not model.graph.node:
        raise FaceMeshError(f"{path}: not an ONNX model, or an empty one; give the .onnx file of a network")
    return data, model


def _texts(graph: onnx.GraphProto) -> Iterator[str | bytes]:
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
    for value in (*graph.initializer, *graph.input, *graph.output):
        yield value.name


@contextmanager
def sound_model(path: Path) -> Iterator[None]:
    """Turn errors of the code within into `FaceMeshError`: it looks at a model that nobody has checked yet.

    The checker, shape inference and the converter of the onnx package raise a dozen types, and so does whoever follows
    the names and numbers of a damaged graph.
    """
    try:
        yield
    except FaceMeshError:
        raise
    except Exception as error:
        text = one_line(error, 200) or type(error).__name__
        raise FaceMeshError(f"{path}: not a valid ONNX model ({text}); export it again") from None


def read_external_data(model: onnx.ModelProto, path: Path) -> None:
    """Read the tensors that the model of ``path`` keeps in other files into ``model``.

    Raises `FaceMeshError` for files outside the model's folder, and for those that cannot be read.
    """
    folder = path.parent.resolve()
    for tensor in model.graph.initializer:
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), None)
        if location is not None and not (folder / location).resolve().is_relative_to(folder):
            problem = f"the data of {tensor.name} is said to lie in {location}, outside the model's folder"
            raise FaceMeshError(f"{path}: {problem}; move it there")
    try:
        onnx.load_external_data_for_model(model, str(folder))
    except (OSError, onnx.checker.ValidationError) as error:
        problem = f"its external data cannot be read ({one_line(error, 200)})"
        raise FaceMeshError(f"{path}: {problem}; copy all files of the model") from None


def load_plain(path: Path) -> Graph:
    """Return the view of the FP32 model in ``path``. Raises `FaceMeshError` like `read_onnx` and `check_plain`."""
    _, model = read_onnx(path)
    with sound_model(path):
        read_external_data(model, path)
        onnx.checker.check_model(model)  # without it a circle of nodes would be followed for ever
        graph = Graph(model)
        check_plain(graph, path)
    return graph


def check_plain(graph: Graph, path: Path) -> None:
    """Check that a model can be quantised: FP32 weights, nothing quantised yet, normalisation folded, opset 13.

    Raises `FaceMeshError` that says how to get such a model; ``path`` is its file.
    """
    if any(node.op_type in QUANTISED for node in graph.nodes):
        raise FaceMeshError(f"{path}: the model is quantised already; give the FP32 model that it was made from")
    layers = [node for node in graph.nodes if graph.is_layer(node)]
    if not layers:
        raise FaceMeshError(f"{path}: no layer with weights in it; is it a network?")
    if any(graph.constants[node.input[1]].data_type != onnx.TensorProto.FLOAT for node in layers):
        raise FaceMeshError(f"{path}: its weights are not float32; give the FP32 model")
    opset = next((entry.version for entry in graph.model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset < LEAST_OPSET:
        remedy = f"bring it to 17 with 'python -m export onnx --weights {path.name} …'"
        raise FaceMeshError(f"{path}: opset {opset} has no scales per channel; {remedy}")
    for node in graph.nodes:
        before = graph.producer.get(node.input[0]) if node.op_type == "BatchNormalization" else None
        if before is not None and before.op_type in LAYERS and graph.single_reader(before.output[0]) is node:
            raise FaceMeshError(
                f"{path}: the normalisation {layer_name(node)} is not folded into the layer before it; "
                f"run 'python -m export onnx --weights {path.name} -o folded.onnx' first and quantise its result"
            )


def check_outputs(graph: Graph, spec: ModelSpec, path: Path) -> None:
    """Check that the output of the mesh comes first. Raises `FaceMeshError`; ``path`` is the model's file.

    Everything that does not lead to it is taken for the confidence head and keeps its precision.
    """
    if graph.outputs[0] != spec.output.name:
        problem = f"its outputs are {', '.join(graph.outputs)}; {spec.output.name} must come first"
        raise FaceMeshError(f"{path}: {problem}, export the model in this order")


def write_model(model: onnx.ModelProto, spec: S, path: Path) -> S:
    """Write ``path`` and its spec beside it, both or neither; return the spec with the SHA-256 of the file."""
    return write_content([model.SerializeToString(deterministic=True)], spec, path)


def write_content(content: Iterable[bytes | memoryview], spec: S, path: Path) -> S:
    """Write ``path`` from the pieces of its content, and its spec, as `write_model` does.

    The topology of a face network's ``spec`` is seen from the working folder, that of the written spec from its own.
    """
    if isinstance(spec, ModelSpec):
        spec = dataclasses.replace(spec, topology=topology_seen_from(path.parent, spec.topology))
    digest = hashlib.sha256()
    with whole_files(ModelSpec.path_for(path), path) as (spec_file, model_file):
        for piece in content:
            digest.update(piece)
            model_file.write(piece)
        spec = dataclasses.replace(spec, onnx_sha256=digest.hexdigest())
        spec_file.write(document_bytes(spec))
    return spec
