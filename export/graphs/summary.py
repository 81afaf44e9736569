"""Summary of a model: nodes, parameters, arithmetic, operators, bytes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import onnx
from numpy.typing import NDArray

from calibration.precision.graph_view import LAYERS

RETYPES = (
    "Cast",
    "Identity",
    "QuantizeLinear",
    "DequantizeLinear",
)  # stand between a layer and its weights and leave their shape alone
PARAMETER_TYPES = {
    getattr(onnx.TensorProto, name) for name in ("FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE", "INT8", "UINT8")
}


@dataclass(frozen=True)
class ModelSummary:
    """Figures of one ONNX graph."""

    nodes: int
    parameters: int  # numbers in initialisers, indices and shapes left out
    gflop: (
        float | None
        # of one picture: two per multiply-add in convolutions and matrix products; None where shapes are computed at
        # run
        # time
    )
    megabytes: float
    operators: dict[str, int]  # how often each occurs, by name


def summarise(model: onnx.ModelProto, heavy: Mapping[str, NDArray] | None = None) -> ModelSummary:
    """Count nodes, numbers and arithmetic of ``model``; ``heavy`` are weights that it takes as inputs."""
    weights = (heavy or {}).values()
    graph = model.graph
    shapes = tensor_shapes(model)
    multiply_adds = [_multiply_adds(node, shapes) for node in graph.node if node.op_type in LAYERS]
    parameters = sum(math.prod(tensor.dims) for tensor in graph.initializer if tensor.data_type in PARAMETER_TYPES)
    return ModelSummary(
        nodes=len(graph.node),
        parameters=parameters + sum(array.size for array in weights),
        gflop=None if None in multiply_adds else 2 * sum(multiply_adds) / 1e9 / _batch(graph),
        megabytes=(model.ByteSize() + sum(array.nbytes for array in weights)) / 1e6,
        operators=dict(sorted(Counter(node.op_type for node in graph.node).items())),
    )


def weighted_layers(model: onnx.ModelProto) -> list[tuple[str, str, str, str]]:
    """Return name, operator, weight shape and weight type of every layer with weights; – if unknown.

    For example ("conv1", "Conv", "16x3x3x3", "FLOAT").
    """
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    held |= {
        node.output[0]: attribute.t
        for node in model.graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    }
    for node in model.graph.node:
        if node.op_type in RETYPES and node.input and node.input[0] in held:
            held[node.output[0]] = held[node.input[0]]
    layers = []
    for node in model.graph.node:
        if node.op_type in LAYERS:
            tensor = next((held[name] for name in reversed(node.input[:2]) if name in held), None)
            shape, kind = (
                ("–", "–")
                if tensor is None
                else ("x".join(map(str, tensor.dims)), onnx.TensorProto.DataType.Name(tensor.data_type))
            )
            layers.append((node.name or "–", node.op_type, shape, kind))
    return layers


def table(columns: dict[str, ModelSummary]) -> str:
    """Lines of one figure each, one column per model."""
    summaries = columns.values()
    rows = [
        ("", *columns),
        ("nodes", *(f"{summary.nodes}" for summary in summaries)),
        ("parameters", *(f"{summary.parameters:,}" for summary in summaries)),
        ("GFLOP", *("–" if summary.gflop is None else f"{summary.gflop:.2f}" for summary in summaries)),
        ("MB", *(f"{summary.megabytes:.1f}" for summary in summaries)),
    ]
    for operator in sorted({name for summary in summaries for name in summary.operators}):
        rows.append((operator, *(f"{summary.operators.get(operator, 0)}" for summary in summaries)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows)
    return "\n".join("  ".join(line) for line in lines)


def tensor_shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    """Name -> shape of every tensor whose shape follows from an input of one picture."""
    single = onnx.ModelProto()
    single.CopyFrom(model)
    del single.graph.value_info[:]
    for value in single.graph.input:
        dims = value.type.tensor_type.shape.dim
        if dims and dims[0].dim_value <= 0:
            dims[0].dim_value = 1
    for value in single.graph.output:
        value.type.tensor_type.ClearField("shape")
    graph = onnx.shape_inference.infer_shapes(single, data_prop=True).graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            shapes[value.name] = [dim.dim_value for dim in dims]
    return shapes


def _batch(graph: onnx.GraphProto) -> int:
    """Return how many faces a run takes: the fixed batch, 1 if it is free."""
    constants = {tensor.name for tensor in graph.initializer}
    pictures = [value for value in graph.input if value.name not in constants]
    dims = pictures[0].type.tensor_type.shape.dim if pictures else []
    return max(1, dims[0].dim_value) if dims else 1


def _multiply_adds(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> int | None:
    data, weight, output = (shapes.get(name) for name in (node.input[0], node.input[1], node.output[0]))
    if data is None or weight is None or output is None:
        return None
    if node.op_type == "Conv":
        return math.prod(output) * math.prod(weight[1:])
    if node.op_type == "ConvTranspose":
        return math.prod(data) * math.prod(weight[1:])
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return math.prod(output) * data[0 if transposed else -1]
