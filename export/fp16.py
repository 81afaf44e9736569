"""FP32 -> FP16 in the graph itself, so that every inference library does the same.

    image float32 ─ Cast ─ everything else in float16 ─ Cast ─ the tail in float32 ─ position map float32

The tail is what follows the last layer with weights: PRNet's sigmoid, whose results half precision rounds to steps of 2⁻¹¹ near 1, 0.14 px
of the crop. Where that last layer is a matrix product, its bias moves into the tail as an addition: the edge network's bias is the mean
face, and only the small deviation from it is left to half precision.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from export.model_file import precision_of
from export.passes.fold_batch_norm import affine_of
from export.passes.graph import constant, new_constant, replace_node
from runtime.errors import FaceMeshError

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
MOVES = ("Slice", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "DepthToSpace", "SpaceToDepth")  # round nothing
# What float16 exists for and gains from: layers, sums, and moves of data between them. The rest stays as it is.
HALF_OPERATORS = {
    *WEIGHTED,
    *("Add", "Sub", "Mul", "Relu", "LeakyRelu", "PRelu", "Clip", "BatchNormalization", "MaxPool", "AveragePool", "GlobalAveragePool"),
    *("Concat", "Split", "Pad", *MOVES),
}
LARGEST, SMALLEST_NORMAL = float(np.finfo(np.float16).max), float(np.finfo(np.float16).tiny)


def to_fp16(model: onnx.ModelProto, keep: Collection[str] = ()) -> tuple[onnx.ModelProto, list[str]]:
    """A copy in half precision, its inputs and outputs still float32, and a warning for each layer that half precision cannot hold.

    ``keep`` names nodes that stay in float32. Raises `FaceMeshError` when there is no such node, or the model is quantised or holds half
    precision already.
    """
    graph = ir.from_proto(onnx.shape_inference.infer_shapes(model))
    names = {node.name for node in graph.graph}
    if missing := sorted(set(keep) - names):
        raise FaceMeshError(f"no node is called {', '.join(missing)}; 'python -m export inspect' lists the names of the rewritten model")
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in graph.graph):
        raise FaceMeshError("the model is quantised already; give the FP32 model")
    if precision_of(model) == "fp16":
        raise FaceMeshError("the model is in half precision already; give the FP32 model, or leave --precision fp16 out to take it as it is")
    last = _last_layers(graph)
    for node in last:
        _move_bias_out(graph, node)
    for node in list(graph.graph):
        _plain_batch_norm(graph, node)
    tail = _tail(graph)
    half, warnings = set(), []
    for node in graph.graph:
        if node.op_type in HALF_OPERATORS and node.domain == "" and node.name not in keep and node not in tail and _is_float(node.outputs[0]):
            reason = _unfit(node)
            if reason:
                warnings.append(f"{node.name} ({node.op_type}) stays in FP32: {reason}")
            else:
                half.add(node)
    _convert(graph, half)
    RemoveUnusedNodesPass()(graph)
    converted = ir.to_proto(graph)
    onnx.checker.check_model(converted, full_check=True)
    return converted, warnings


def _convert(model: ir.Model, half: set[ir.Node]) -> None:
    """Type the values of the nodes ``half`` float16 and put a Cast wherever a value crosses to other nodes, one per value and direction."""
    casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
    order = list(model.graph)
    produced = {output for node in half for output in node.outputs if _is_float(output)}
    for node in order:
        for index, value in enumerate(node.inputs):
            wanted = ir.DataType.FLOAT16 if node in half else ir.DataType.FLOAT
            have = ir.DataType.FLOAT16 if value in produced else ir.DataType.FLOAT
            if value is None or wanted == have or not _is_float(value):
                continue
            if (value, wanted) not in casts:
                casts[value, wanted] = _cast(model, value, wanted, node)
            node.replace_input_with(index, casts[value, wanted])
    for index, value in enumerate(model.graph.outputs):
        if value in produced:
            name, value.name = value.name, f"{value.name}_half"
            model.graph.outputs[index] = _cast(model, value, ir.DataType.FLOAT, order[-1], name)
    for value in produced:
        value.type = ir.TensorType(ir.DataType.FLOAT16)  # types may be shared between values


def _cast(model: ir.Model, value: ir.Value, kind: ir.DataType, reader: ir.Node, name: str | None = None) -> ir.Value:
    """``value`` as another type: a new constant, or a Cast placed where ``value`` appears (before ``reader`` for inputs of the graph)."""
    suffix = "half" if kind == ir.DataType.FLOAT16 else "float"
    array = constant(value)
    if array is not None:
        return new_constant(model, f"{value.name}_{suffix}", array.astype(np.float16))
    cast = ir.node("Cast", [value], {"to": int(kind)}, name=f"{value.name}_to_{suffix}")
    cast.outputs[0].name = name or f"{value.name}_{suffix}"
    cast.outputs[0].type, cast.outputs[0].shape = ir.TensorType(kind), value.shape
    producer = value.producer()
    if producer is not None:
        model.graph.insert_after(producer, [cast])
    else:
        model.graph.insert_before(reader, [cast])
    return cast.outputs[0]


def _last_layers(model: ir.Model) -> list[ir.Node]:
    """The layers with weights from which a path without further such layers leads to an output."""
    found, seen, todo = [], set(), [output.producer() for output in model.graph.outputs]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.op_type in WEIGHTED:
            found.append(node)
        else:
            todo.extend(value.producer() for value in node.inputs if value is not None)
    return found


def _tail(model: ir.Model) -> set[ir.Node]:
    """What depends on the last layers, from the first node that computes; moves of data before it can be done in half."""
    layers, moved, tail = _last_layers(model), set(), set()
    for node in model.graph:
        sources = {value.producer() for value in node.inputs if value is not None}
        if sources & tail or (sources & {*layers, *moved} and node.op_type not in MOVES):
            tail.add(node)
        elif sources & {*layers, *moved}:
            moved.add(node)
    return tail


def _move_bias_out(model: ir.Model, node: ir.Node) -> None:
    """Gemm(x, W, b) -> Gemm(x, W) + b."""
    if node.op_type != "Gemm" or len(node.inputs) < 3 or node.attributes.get_float("beta", 1.0) != 1 or constant(node.inputs[2]) is None:
        return
    product = ir.Node("", "Gemm", node.inputs[:2], node.attributes.values(), name=node.name)
    add = ir.node("Add", [product.outputs[0], node.inputs[2]], name=f"{node.name}_bias")
    product.outputs[0].type, product.outputs[0].shape = node.outputs[0].type, node.outputs[0].shape
    product.outputs[0].name = f"{node.outputs[0].name}_product"
    replace_node(model, node, [product, add])


def _plain_batch_norm(model: ir.Model, node: ir.Node) -> None:
    """Give a normalisation mean 0 and variance 1: its scale and shift fit half precision better than a variance of 1e-6 does."""
    affine = affine_of(node)
    if affine is None:
        return
    scale, shift = (array.astype(np.float32) for array in affine)
    for index, array in enumerate((scale, shift, np.zeros_like(scale), np.ones_like(scale)), 1):
        node.replace_input_with(index, new_constant(model, f"{node.outputs[0].name}_affine{index}", array))
    node.attributes["epsilon"] = ir.AttrFloat32("epsilon", 0.0)


def _unfit(node: ir.Node) -> str | None:
    """Why half precision cannot hold the node's constants, None where it can."""
    for value in node.inputs:
        array = constant(value)
        if array is None or not _is_float(value) or not array.size:
            continue
        largest = float(np.abs(array).max())
        if largest > LARGEST:
            return f"{value.name} reaches {largest:.3g}, half precision ends at {LARGEST:g}"
        if 0 < largest < SMALLEST_NORMAL:
            return f"{value.name} reaches {largest:.3g} only, below the normal numbers of half precision"
    return None


def _is_float(value: ir.Value) -> bool:
    return value.dtype == ir.DataType.FLOAT
