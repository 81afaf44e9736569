"""float16 for some nodes of a graph, by casts around them: Q/DQ of opset 17 and the ends of the model know float32 alone.

    ─ x float32 ─ Cast ─ Conv ─ Relu ─ Cast ─ y float32 ─        neighbours that are both in float16 need none between them

Strongly typed TensorRT computes in the types that the graph names.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from calibration.precision.graph_view import ACTIVATIONS, LAYERS, MOVES, Graph

LARGEST, SMALLEST_NORMAL = float(np.finfo(np.float16).max), float(np.finfo(np.float16).tiny)
SUFFIX = {TensorProto.FLOAT16: "half", TensorProto.FLOAT: "float"}


def float_layers_to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a model with Q/DQ in which the layers that are not INT8 compute in float16, and so does what belongs to them: the
    activations, additions and moves of data behind them up to the next Q, DQ or INT8 layer, and the moves before them.

    What computes behind the last layer (PRNet's sigmoid, an addition of the mean face) stays in float32, as does a layer whose weights
    float16 cannot hold.
    """
    model = move_last_bias_out(model)
    graph = Graph(model)
    half = {node.output[0] for node in graph.nodes if graph.is_layer(node) and not _unfit_constants(graph, node)}
    leads = _leading_to_layers(graph)
    for node in graph.nodes:
        follows = (node.op_type in (*ACTIVATIONS, "Add") and node.output[0] in leads) or node.op_type in MOVES
        if follows and half.intersection(node.input) and not _unfit_constants(graph, node):
            half.add(node.output[0])
    for node in reversed(graph.nodes):
        readers = graph.readers.get(node.output[0], [])
        if node.op_type in MOVES and node.output[0] not in graph.outputs and all(reader.output[0] in half for reader, _ in readers):
            half.add(node.output[0])
    return to_half(model, half)


def to_half(model: onnx.ModelProto, nodes: Collection[str]) -> onnx.ModelProto:
    """A copy in which the nodes with these first outputs compute in float16; a Cast for each tensor that crosses over, shared by all who read it so.

    Inputs and outputs of the model keep their names and types. Raises what ONNX's checker raises where an operator has no float16 form.
    """
    result = onnx.shape_inference.infer_shapes(model)
    graph = Graph(result)
    values = [*result.graph.input, *result.graph.value_info, *result.graph.output]
    types = {value.name: value.type.tensor_type.elem_type for value in values} | {name: tensor.data_type for name, tensor in graph.constants.items()}
    halves = {name for node in graph.nodes if node.output[0] in nodes for name in node.output if types.get(name) == TensorProto.FLOAT}
    writer = _Writer(graph)
    for node in graph.nodes:
        wanted = TensorProto.FLOAT16 if node.output[0] in nodes else TensorProto.FLOAT
        for index, name in enumerate(node.input):
            if types.get(name) == TensorProto.FLOAT and wanted != (TensorProto.FLOAT16 if name in halves else TensorProto.FLOAT):
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
    used = {name for node in writer.nodes for name in node.input}
    kept = [tensor for tensor in [*result.graph.initializer, *writer.constants] if tensor.name in used]
    del result.graph.initializer[:]
    result.graph.initializer.extend(kept)
    onnx.checker.check_model(result, full_check=True)
    return result


def move_last_bias_out(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which Gemm(x, W, b) with no layer behind it is Gemm(x, W) + b, unless it is INT8: the edge network's bias is the mean face, and
    only the small deviation from it need be left to half precision."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = Graph(result)
    leads, nodes = _leading_to_layers(graph), []
    for node in graph.nodes:
        nodes.append(node)
        is_last = node.op_type == "Gemm" and graph.is_layer(node) and node.output[0] not in leads
        beta = next((entry.f for entry in node.attribute if entry.name == "beta"), 1.0)
        if is_last and len(node.input) > 2 and node.input[2] in graph.constants and beta == 1:
            bias, output = node.input.pop(), node.output[0]
            node.output[0] = f"{output}_product"
            nodes.append(helper.make_node("Add", [node.output[0], bias], [output], f"{node.name}_bias"))
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    return result


def unfit(name: str, array: NDArray) -> str | None:
    """Why half precision cannot hold a constant of floating point numbers, None where it can."""
    largest = float(np.abs(array).max()) if array.size else 0.0
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
        self._graph, self._casts = graph, set()

    def cast(self, name: str, kind: int) -> str:
        """``name`` as another type: a new constant, or what a Cast makes of it."""
        target = f"{name}_{SUFFIX[kind]}"
        if target not in self._casts:
            self._casts.add(target)
            if name in self._graph.constants:
                self.constants.append(numpy_helper.from_array(numpy_helper.to_array(self._graph.constants[name]).astype(np.float16), target))
            else:
                self.nodes.append(helper.make_node("Cast", [name], [target], f"{name}_to_{SUFFIX[kind]}", to=kind))
        return target

    def put_out(self, name: str) -> None:
        """An output of the model that a float16 node computes: the node's output gets another name, and a Cast makes ``name`` of it."""
        inner = f"{name}_inner"
        for node in self.nodes:
            node.input[:] = [inner if entry == name else entry for entry in node.input]
            node.output[:] = [inner if entry == name else entry for entry in node.output]
        self.nodes.append(helper.make_node("Cast", [inner], [name], f"{name}_to_float", to=TensorProto.FLOAT))


def _leading_to_layers(graph: Graph) -> set[str]:
    """The tensors from which a layer, INT8 or not, is reached."""
    leads: set[str] = set()
    for node in reversed(graph.nodes):
        if node.op_type in LAYERS or leads.intersection(node.output):
            leads.update(node.input)
    return leads


def _unfit_constants(graph: Graph, node: onnx.NodeProto) -> list[str]:
    """Why half precision cannot hold the node's constants; empty where it can."""
    floats = [graph.constants[name] for name in node.input if name in graph.constants and graph.constants[name].data_type == TensorProto.FLOAT]
    return [reason for tensor in floats if (reason := unfit(tensor.name, numpy_helper.to_array(tensor)))]
