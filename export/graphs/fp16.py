"""FP32 -> FP16 in the graph itself, so that every inference library does the same.

    image float32 ─ Cast ─ everything else in float16 ─ Cast ─ the tail in float32 ─ position map float32

The tail is what follows the last layer with weights: PRNet's sigmoid, whose results half precision rounds to steps of
2⁻¹¹ near 1, 0.14 px of the crop. Where that last layer is a matrix product, its bias moves into the tail as an
addition: the edge network's bias is the mean face, and only the small deviation from it is left to half precision.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass, RemoveUnusedNodesPass

from calibration.precision.graph_view import LAYERS, MOVES, Graph
from calibration.precision.half import move_last_bias_out, to_half, unfit
from export.graphs.model_file import precision_of
from export.passes.fold_batch_norm import affine_of
from export.passes.graph import constant, new_constant
from runtime.errors import FaceMeshError

# What float16 exists for and gains from: layers, sums, and moves of data between them. The rest stays as it is.
HALF_OPERATORS = {
    *LAYERS,
    *(
        "Add",
        "Sub",
        "Mul",
        "Relu",
        "LeakyRelu",
        "PRelu",
        "Clip",
        "BatchNormalization",
        "MaxPool",
        "AveragePool",
        "GlobalAveragePool",
    ),
    *("Concat", "Split", "Pad", *MOVES),
}


def to_fp16(
    model: onnx.ModelProto, keep: Collection[str] = (), *, alike: bool = False
) -> tuple[onnx.ModelProto, list[str]]:
    """Return a copy in half precision with float32 inputs and outputs, and a warning for each layer that does not fit.

    A confidence head stays in float32: it costs nothing. ``alike``: all outputs are of one kind, as a detector's are,
    and none is a confidence. ``keep`` names nodes that stay in float32, too. Raises
    `FaceMeshError` when there is no such node, or the model is quantised or holds half precision already.
    """
    view = Graph(model)
    head = set() if alike else view.side_branch()
    graph = ir.from_proto(onnx.shape_inference.infer_shapes(move_last_bias_out(view).model))
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(graph)
    names = {node.name for node in graph.graph}
    if missing := sorted(set(keep) - names):
        raise FaceMeshError(
            f"no node is called {', '.join(missing)}; 'python -m export inspect' lists the names of the rewritten model"
        )
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in graph.graph):
        raise FaceMeshError("the model is quantised already; give the FP32 model")
    if precision_of(model) == "fp16":
        raise FaceMeshError(
            "the model is in half precision already; "
            "give the FP32 model, or leave --precision fp16 out to take it as it is"
        )
    for node in list(graph.graph):
        _plain_batch_norm(graph, node)
    tail = _tail(graph)
    half, warnings = set(), []
    for node in graph.graph:
        if (
            (node.op_type in HALF_OPERATORS or _repeats(node))
            and node.domain == ""
            and node.name not in keep
            and node not in tail
            and node.outputs[0].name not in head
            and _is_float(node.outputs[0])
        ):
            reason = _unfit(node)
            if reason:
                warnings.append(f"{node.name} ({node.op_type}) stays in FP32: {reason}")
            else:
                half.add(node.outputs[0].name)
    RemoveUnusedNodesPass()(graph)
    return to_half(Graph(ir.to_proto(graph)), half), warnings


def _last_layers(model: ir.Model) -> list[ir.Node]:
    """Return the last layers with weights before the first output, the mesh's."""
    found, seen, todo = [], set(), [model.graph.outputs[0].producer()]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.op_type in LAYERS:
            found.append(node)
        else:
            todo.extend(value.producer() for value in node.inputs if value is not None)
    return found


def _tail(model: ir.Model) -> set[ir.Node]:
    """Return the nodes behind the last layers, from the first one that computes; moves before it can be half."""
    layers, moved, tail = _last_layers(model), set(), set()
    for node in model.graph:
        sources = {value.producer() for value in node.inputs if value is not None}
        if sources & tail or (sources & {*layers, *moved} and node.op_type not in MOVES):
            tail.add(node)
        elif sources & {*layers, *moved}:
            moved.add(node)
    return tail


def _plain_batch_norm(model: ir.Model, node: ir.Node) -> None:
    """Give a normalisation mean 0 and variance 1: half precision holds scale and shift better than 1e-6."""
    affine = affine_of(node)
    if affine is None:
        return
    scale, shift = (array.astype(np.float32) for array in affine)
    for index, array in enumerate((scale, shift, np.zeros_like(scale), np.ones_like(scale)), 1):
        node.replace_input_with(index, new_constant(model, f"{node.outputs[0].name}_affine{index}", array))
    node.attributes["epsilon"] = ir.AttrFloat32("epsilon", 0.0)


def _unfit(node: ir.Node) -> str | None:
    """Return the reason why half precision cannot hold the node's constants, None if it can."""
    constants = [(value.name, constant(value)) for value in node.inputs if value is not None and _is_float(value)]
    reasons = [unfit(name, array) for name, array in constants if array is not None]
    return next((reason for reason in reasons if reason), None)


def _repeats(node: ir.Node) -> bool:
    """Return True for a Resize that copies the nearest pixel."""
    mode = node.attributes.get("mode")
    return node.op_type == "Resize" and (mode is None or mode.as_string() == "nearest")


def _is_float(value: ir.Value) -> bool:
    return value.dtype == ir.DataType.FLOAT
