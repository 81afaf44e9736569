"""The layers of a network as a roofline sees them: multiply-adds, and numbers read and written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.errors import FaceMeshError

if TYPE_CHECKING:
    import onnx

QUANTISED_OPERATORS = ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")


@dataclass(frozen=True)
class Layer:
    """A convolution or matrix product of one picture.

    ``groups`` matrices (channels_in, channels_out) are each applied ``positions`` times. A position of a convolution is
    an output pixel and a tap of the kernel, of a transposed convolution an input pixel and a tap, of a Gemm a row.
    """

    name: str
    operator: str
    groups: int
    channels_in: int  # of one group
    channels_out: int  # of one group
    positions: int
    weights: int  # numbers
    inputs: int  # numbers
    outputs: int  # numbers
    is_quantised: bool = False  # reads DequantizeLinear

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds without padding."""
        return self.groups * self.positions * self.channels_in * self.channels_out

    @property
    def is_depthwise(self) -> bool:
        """True if every channel is convolved for itself: no matrix for a tensor core to multiply."""
        return self.groups > 1 and self.channels_in == 1

    def multiply_adds_by_blocks(self, block: int) -> int:
        """Count the multiply-adds of tensor cores, in blocks of ``block`` by ``block`` channels.

        Depthwise layers do not run on tensor cores and count as they are.
        """
        if self.is_depthwise:
            return self.multiply_adds
        channels = round_up(self.channels_in, block) * round_up(self.channels_out, block)
        return self.groups * self.positions * channels


def round_up(value: int, block: int) -> int:
    """Return the next multiple of ``block``."""
    return -(-value // block) * block


def read_layers(path: Path) -> list[Layer]:
    """Read the layers of an ONNX model: FP32, FP16 or with Q/DQ.

    Raises `FaceMeshError` if the file is no such model, or if sizes are unknown.
    """
    from export.engines.engine_source import read_whole_onnx

    _, model = read_whole_onnx(path)
    return model_layers(model, str(path))


def model_layers(model: onnx.ModelProto, name: str) -> list[Layer]:
    """List the layers of ``model`` for one picture at a time; ``name`` is for errors."""
    from calibration.precision.graph_view import LAYERS
    from export.graphs.summary import tensor_shapes

    shapes = tensor_shapes(model)
    constants = _constants(model.graph)
    dequantised = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    layers = []
    for node in model.graph.node:
        if node.op_type in QUANTISED_OPERATORS or node.op_type in LAYERS:
            _check_node(node, shapes, name)
            layers.append(_layer(node, shapes, constants, dequantised))
    if not layers:
        raise FaceMeshError(f"{name}: no convolution and no matrix product in it; is it a network?")
    return layers


def _check_node(node: onnx.NodeProto, shapes: Mapping[str, Sequence[int]], name: str) -> None:
    """Raise `FaceMeshError` for a node whose multiply-adds cannot be counted."""
    if node.op_type in QUANTISED_OPERATORS:
        remedy = "give a model with QuantizeLinear and DequantizeLinear"
        raise FaceMeshError(f"{name}: {node.op_type} is a form for CPUs; {remedy}")
    if len(node.input) < 2:
        problem = f"the {node.op_type} {node.name} has no weights"
        raise FaceMeshError(f"{name}: {problem}; the file is damaged, export it again")
    if unknown := [tensor for tensor in (*node.input[:2], node.output[0]) if tensor not in shapes]:
        problem = f"the size of {unknown[0]} is not known before run time"
        raise FaceMeshError(f"{name}: {problem}; export the model with fixed picture sizes")


def _layer(
    node: onnx.NodeProto, shapes: Mapping[str, Sequence[int]], constants: set[str], dequantised: set[str]
) -> Layer:
    data, weight, output = (shapes[name] for name in (*node.input[:2], node.output[0]))
    groups = _integer(node, "group", 1)

    # Matrices and positions by operator.
    if node.op_type == "Conv":
        channels_in = weight[1]
        channels_out = weight[0] // groups
        positions = output[0] * math.prod(output[2:]) * math.prod(weight[2:])
    elif node.op_type == "ConvTranspose":
        channels_in = weight[0] // groups
        channels_out = weight[1]
        positions = data[0] * math.prod(data[2:]) * math.prod(weight[2:])
    else:
        channels_in = data[0 if _integer(node, "transA", 0) else -1]
        channels_out = output[-1]
        positions = math.prod(output[:-1])

    # Numbers: a second operand that is no constant counts as input.
    is_constant = node.input[1] in constants
    return Layer(
        name=node.name or node.output[0],
        operator=node.op_type,
        groups=groups,
        channels_in=channels_in,
        channels_out=channels_out,
        positions=positions,
        weights=math.prod(weight) if is_constant else 0,
        inputs=math.prod(data) + (0 if is_constant else math.prod(weight)),
        outputs=math.prod(output),
        is_quantised=node.input[0] in dequantised and node.input[1] in dequantised,
    )


def _constants(graph: onnx.GraphProto) -> set[str]:
    """Return the tensors that do not depend on the picture, as far as layers read them."""
    from export.graphs.summary import RETYPES

    constants = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" or (node.op_type in RETYPES and node.input[0] in constants):
            constants.update(node.output)
    return constants


def _integer(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == name), default)
