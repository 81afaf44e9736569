"""An ONNX graph with its edges at hand, and the sets of operators that all tools for graphs share."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")  # operators with weights
ACTIVATIONS = ("Relu", "LeakyRelu", "Clip")  # inference libraries fuse them into the layer before
# The same numbers in another order: nothing is rounded.
MOVES = ("DepthToSpace", "SpaceToDepth", "Slice", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze")


class Graph:
    """The view of one model: nodes, constants, the producer and the readers of each tensor.

    A node is known by its first output, which is unique. The view holds as long as the model keeps its nodes.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.nodes = list(model.graph.node)
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.inputs = [value.name for value in model.graph.input if value.name not in self.constants]
        self.outputs = [value.name for value in model.graph.output]
        self.producer = {output: node for node in self.nodes for output in node.output}
        self.readers: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
        for node in self.nodes:
            for index, name in enumerate(node.input):
                self.readers.setdefault(name, []).append((node, index))

    def side_branch(self) -> set[str]:
        """Return the first outputs of the nodes without influence on the first output: the confidence head.

        The first output is the mesh's, see `calibration.precision.model_file.check_outputs`.
        """
        needed: set[str] = set(self.outputs[:1])
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                needed.update(node.input)
        return {node.output[0] for node in self.nodes if not needed.intersection(node.output)}

    def single_reader(self, tensor: str) -> onnx.NodeProto | None:
        """Return the only node that reads ``tensor``; None for several readers, none, or an output of the graph."""
        readers = self.readers.get(tensor, [])
        return readers[0][0] if len(readers) == 1 and tensor not in self.outputs else None

    def root(self, tensor: str) -> str:
        """Return the tensor with the same numbers before any `MOVES`; ``tensor`` itself without any."""
        while (node := self.producer.get(tensor)) is not None and node.op_type in MOVES:
            tensor = node.input[0]
        return tensor

    def activated(self, node: onnx.NodeProto) -> str:
        """Return the output of ``node``, or of the activation that alone reads it."""
        reader = self.single_reader(node.output[0])
        return reader.output[0] if reader is not None and reader.op_type in ACTIVATIONS else node.output[0]

    def is_layer(self, node: onnx.NodeProto) -> bool:
        """Return True for a layer with constant weights: the kind that gains from INT8."""
        if node.op_type not in LAYERS or len(node.input) < 2 or node.input[1] not in self.constants:
            return False
        return not (node.op_type == "Gemm" and attribute(node, "transA", 0))


def layer_name(node: onnx.NodeProto) -> str:
    """Return the name of a layer in reports and on the command line."""
    return node.name or node.output[0]


def gathers_few(graph: Graph, node: onnx.NodeProto, enough: int) -> bool:
    """Return True for a convolution with a window of more than one pixel and less than ``enough`` products in it."""
    if node.op_type != "Conv":
        return False
    _, *window = graph.constants[node.input[1]].dims
    return math.prod(window[1:]) > 1 and math.prod(window) < enough


def is_plain(node: onnx.NodeProto) -> bool:
    """Return True without factors such as the alpha and beta of a Gemm."""
    return not any(entry.name in ("alpha", "beta") and entry.f != 1 for entry in node.attribute)


def attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    """Return the integer attribute ``name`` of a node."""
    return next((entry.i for entry in node.attribute if entry.name == name), default)
