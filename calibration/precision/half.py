"""Compute some nodes of a graph in float16, by casts around them.

    ─ x float32 ─ Cast ─ Conv ─ Relu ─ Cast ─ y float32 ─        neighbours that are both in float16 need none between

Q/DQ of opset 17 and the ends of the model know float32 alone. Strongly typed TensorRT computes in the types of the
graph.

`to_half` is the tool, and two callers choose the nodes: `export.graphs.fp16` for FP16 models, `float_layers_to_half`
for the layers of INT8 models that are not INT8. The tool is here since calibration may not import export.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from calibration.precision.graph_view import ACTIVATIONS, LAYERS, MOVES, Graph

LARGEST = float(np.finfo(np.float16).max)
SMALLEST_NORMAL = float(np.finfo(np.float16).tiny)
SUFFIX = {TensorProto.FLOAT16: "half", TensorProto.FLOAT: "float"}


def float_layers_to_half(graph: Graph) -> onnx.ModelProto:
    """Return a copy of a model with Q/DQ; its layers outside INT8 compute in float16.

    Their neighbours follow: activations, additions and moves of data behind them up to the next Q, DQ or INT8 layer,
    and the moves before them. Nodes behind the last layer (PRNet's sigmoid, the addition of the mean face) stay in
    float32, and so do the confidence head and a layer with weights beyond the range of float16.
    """
    graph = move_last_bias_out(graph)
    head = graph.side_branch()
    layers = [node for node in graph.nodes if graph.is_layer(node) and node.output[0] not in head]
    half = {node.output[0] for node in layers if not _unfit_constants(graph, node)}

    # Forwards: what belongs to such a layer. Backwards: moves of data that only float16 nodes read.
    leads = _leading_to_layers(graph)
    for node in graph.nodes:
        follows = (node.op_type in (*ACTIVATIONS, "Add") and node.output[0] in leads) or node.op_type in MOVES
        if node.output[0] in head or not half.intersection(node.input):
            continue
        if follows and not _unfit_constants(graph, node):
            half.add(node.output[0])
    for node in reversed(graph.nodes):
        is_inner_move = node.op_type in MOVES and node.output[0] not in graph.outputs
        readers = graph.readers.get(node.output[0], [])
        if is_inner_move and node.output[0] not in head and all(reader.output[0] in half for reader, _ in readers):
            half.add(node.output[0])
    return to_half(graph, half)


def to_half(graph: Graph, nodes: Collection[str]) -> onnx.ModelProto:
    """Return a copy of the model; the nodes with these first outputs compute in float16.

    A tensor that crosses over gets one Cast for all of its readers. Inputs and outputs of the model keep their names
    and types. Raises what ONNX's checker raises for an operator without a float16 form.
    """
    result = onnx.shape_inference.infer_shapes(graph.model)
    types = _tensor_types(result, graph)
    outputs = [name for node in graph.nodes if node.output[0] in nodes for name in node.output]
    halves = {name for name in outputs if types.get(name) == TensorProto.FLOAT}

    # Every node, behind the casts of what it reads in the other type.
    writer = _Writer(graph)
    for node in result.graph.node:
        wanted = TensorProto.FLOAT16 if node.output[0] in nodes else TensorProto.FLOAT
        for index, name in enumerate(node.input):
            held = TensorProto.FLOAT16 if name in halves else TensorProto.FLOAT
            is_size = node.op_type == "Resize" and index > 0  # region and scales stay as they are
            if types.get(name) == TensorProto.FLOAT and wanted != held and not is_size:
                node.input[index] = writer.cast(name, wanted)
        writer.nodes.append(node)
    for value in result.graph.output:
        if value.name in halves:
            writer.put_out(value.name)
    for value in result.graph.value_info:
        if value.name in halves:
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
    del result.graph.node[:]
    result.graph.node.extend(writer.nodes)

    # The constants that are read, in either type.
    used = {name for node in writer.nodes for name in node.input}
    kept = [tensor for tensor in [*result.graph.initializer, *writer.constants] if tensor.name in used]
    del result.graph.initializer[:]
    result.graph.initializer.extend(kept)
    onnx.checker.check_model(result, full_check=True)
    return result


def move_last_bias_out(graph: Graph) -> Graph:
    """Return the view of a copy: Gemm(x, W, b) without a layer behind it is Gemm(x, W) + b, unless it is INT8.

    The edge network's bias is the mean face: only the small deviation from it need be left to half precision. A model
    without such a Gemm keeps its view.
    """
    leads = _leading_to_layers(graph)
    stays = leads | graph.side_branch()
    last = {node.output[0] for node in graph.nodes if _has_movable_bias(graph, node) and node.output[0] not in stays}
    if not last:
        return graph
    result = onnx.ModelProto()
    result.CopyFrom(graph.model)
    nodes = []
    for node in result.graph.node:
        nodes.append(node)
        if node.output[0] in last:
            bias = node.input.pop()
            output = node.output[0]
            node.output[0] = f"{output}_product"
            nodes.append(helper.make_node("Add", [node.output[0], bias], [output], f"{node.name}_bias"))
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    return Graph(result)


def unfit(name: str, array: NDArray) -> str | None:
    """Return why half precision cannot hold a constant of floating point numbers; None if it can."""
    largest = float(max(-array.min(), array.max(), 0)) if array.size else 0.0  # np.abs would be a copy
    if largest > LARGEST:
        return f"{name} reaches {largest:.3g}, half precision ends at {LARGEST:g}"
    if 0 < largest < SMALLEST_NORMAL:
        return f"{name} reaches {largest:.3g} only, below the normal numbers of half precision"
    return None


class _Writer:
    """The nodes of the new graph and the constants that it adds."""

    def __init__(self, graph: Graph) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._sources = graph.constants
        self._casts: set[str] = set()

    def cast(self, name: str, kind: int) -> str:
        """Return the name of tensor ``name`` in another type: a new constant, or the output of a Cast."""
        target = f"{name}_{SUFFIX[kind]}"
        if target in self._casts:
            return target
        self._casts.add(target)
        if name in self._sources:
            array = numpy_helper.to_array(self._sources[name]).astype(np.float16)
            self.constants.append(numpy_helper.from_array(array, target))
        else:
            self.nodes.append(helper.make_node("Cast", [name], [target], f"{name}_to_{SUFFIX[kind]}", to=kind))
        return target

    def put_out(self, name: str) -> None:
        """Rename the output ``name`` of a float16 node and add a Cast that makes the model's output of it."""
        inner = f"{name}_inner"
        for node in self.nodes:
            node.input[:] = [inner if entry == name else entry for entry in node.input]
            node.output[:] = [inner if entry == name else entry for entry in node.output]
        self.nodes.append(helper.make_node("Cast", [inner], [name], f"{name}_to_float", to=TensorProto.FLOAT))


def _tensor_types(model: onnx.ModelProto, graph: Graph) -> dict[str, int]:
    """Return the TensorProto type of every tensor of a model after shape inference, constants included."""
    values = [*model.graph.input, *model.graph.value_info, *model.graph.output]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {name: tensor.data_type for name, tensor in graph.constants.items()}


def _leading_to_layers(graph: Graph) -> set[str]:
    """Return the tensors on a path to a layer, INT8 or not."""
    leads: set[str] = set()
    for node in reversed(graph.nodes):
        if node.op_type in LAYERS or leads.intersection(node.output):
            leads.update(node.input)
    return leads


def _has_movable_bias(graph: Graph, node: onnx.NodeProto) -> bool:
    """Return True for a Gemm with constant weights and a constant bias of factor 1."""
    if node.op_type != "Gemm" or not graph.is_layer(node):
        return False
    beta = next((entry.f for entry in node.attribute if entry.name == "beta"), 1.0)
    return len(node.input) > 2 and node.input[2] in graph.constants and beta == 1


def _unfit_constants(graph: Graph, node: onnx.NodeProto) -> list[str]:
    """Return why half precision cannot hold the node's constants; nothing if it can."""
    constants = [graph.constants[name] for name in node.input if name in graph.constants]
    floats = [tensor for tensor in constants if tensor.data_type == TensorProto.FLOAT]
    reasons = [unfit(tensor.name, numpy_helper.to_array(tensor)) for tensor in floats]
    return [reason for reason in reasons if reason]
