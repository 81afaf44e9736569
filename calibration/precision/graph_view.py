"""An ONNX graph with its edges at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
ACTIVATIONS = ("Relu", "LeakyRelu", "Clip")  # what inference libraries fuse into the layer before it
MOVES = ("DepthToSpace", "SpaceToDepth", "Slice", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze")  # same numbers in another order


class Graph:
    """Who makes and who reads each tensor. A node is known by its first output, which is unique."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes = list(model.graph.node)
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.inputs = [value.name for value in model.graph.input if value.name not in self.constants]
        self.outputs = [value.name for value in model.graph.output]
        self.producer = {output: node for node in self.nodes for output in node.output}
        self.readers: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
        for node in self.nodes:
            for index, name in enumerate(node.input):
                self.readers.setdefault(name, []).append((node, index))

    def single_reader(self, tensor: str) -> onnx.NodeProto | None:
        """The node that reads ``tensor``, where exactly one does and it is no output of the graph."""
        readers = self.readers.get(tensor, [])
        return readers[0][0] if len(readers) == 1 and tensor not in self.outputs else None

    def root(self, tensor: str) -> str:
        """``tensor`` before it was moved around: the one with the same numbers in another order."""
        while (node := self.producer.get(tensor)) is not None and node.op_type in MOVES:
            tensor = node.input[0]
        return tensor

    def activated(self, node: onnx.NodeProto) -> str:
        """The output of ``node``, or of the activation that alone reads it."""
        reader = self.single_reader(node.output[0])
        return reader.output[0] if reader is not None and reader.op_type in ACTIVATIONS else node.output[0]

    def is_layer(self, node: onnx.NodeProto) -> bool:
        """A layer whose weights are known: the kind that gains from INT8."""
        if node.op_type not in LAYERS or len(node.input) < 2 or node.input[1] not in self.constants:
            return False
        return not (node.op_type == "Gemm" and attribute(node, "transA", 0))


def layer_name(node: onnx.NodeProto) -> str:
    """What reports call a layer."""
    return node.name or node.output[0]


def is_plain(node: onnx.NodeProto) -> bool:
    """No factors of its own, such as those of a Gemm may be."""
    return not any(entry.name in ("alpha", "beta") and entry.f != 1 for entry in node.attribute)


def attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    """An integer attribute."""
    return next((entry.i for entry in node.attribute if entry.name == name), default)
