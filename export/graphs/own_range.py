"""Notice a normalisation that a model does itself: `own_value_range`, `own_colour_order`.

image 0..255 ─ Sub 127.5 ─ Div 128 ─ Conv …        takes 0 to 255, whatever its network was trained on
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

MOVES = ("Identity", "Cast", "Transpose", "Reshape", "Unsqueeze", "Squeeze")
RANGES = ((0.0, 255.0), (0.0, 1.0), (-1.0, 1.0))  # of pictures in programs
TOLERANCE = 0.05  # of a range
LEAST_SCALE = 1 / 50  # below it a model divides by about 255, not by about 1
LARGEST = 4.0  # a network's own numbers after a normalisation by mean and deviation of a channel


def own_value_range(model: onnx.ModelProto, wanted: tuple[float, float]) -> tuple[float, float] | None:
    """Return the values of uint8 0 and 255 that ``model`` takes if it scales pictures itself, None if it does not.

    ``wanted`` are the values that the first layer of its network was trained on. The scaling is an arithmetic of
    constants between the input and that layer.
    """
    scale, offset = _first_arithmetic(model.graph)
    if np.allclose(scale, 1) and np.allclose(offset, 0):
        return None
    span = wanted[1] - wanted[0]
    for low, high in RANGES:
        ends = np.array([np.mean(scale) * value + np.mean(offset) for value in (low, high)])
        if np.abs(ends - wanted).max() <= TOLERANCE * span:
            return (low, high)
    # By mean and deviation of each channel, such as ImageNet's.
    if np.mean(scale) <= LEAST_SCALE:
        reach = np.abs([offset, scale * 255 + offset]).max()
        return (0.0, 255.0) if reach <= LARGEST else None
    return None


def own_colour_order(model: onnx.ModelProto) -> str | None:
    """Return "RGB" or "BGR" if ``model`` subtracts a mean of each channel, None if it does not.

    In pictures of all kinds red is brighter than blue on average: ImageNet's means are 124, 116 and 104.
    """
    scale, offset = _first_arithmetic(model.graph)
    if offset.size != 3:
        return None
    means = -offset / scale
    if abs(means[0] - means[2]) <= TOLERANCE * np.abs(means).max():
        return None
    return "RGB" if means[0] > means[2] else "BGR"


def _first_arithmetic(graph: onnx.GraphProto) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return scale and offset, a number or one per channel, that the graph applies to its picture first."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    name = next(value.name for value in graph.input if value.name not in constants)
    scale, offset = np.ones(1), np.zeros(1)
    while len(following := readers.get(name, [])) == 1:
        node = following[0]
        step = _step(node, name, constants)
        if step is None:
            break
        scale, offset = step[0] * scale, step[0] * offset + step[1]
        name = node.output[0]
    return scale, offset


def _step(
    node: onnx.NodeProto, name: str, constants: Mapping[str, onnx.TensorProto]
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return scale and offset of one node, None for any other operator."""
    one, zero = np.ones(1), np.zeros(1)
    if node.op_type in MOVES:
        return one, zero
    if node.op_type not in ("Add", "Sub", "Mul", "Div") or len(node.input) != 2:
        return None
    other = node.input[1] if node.input[0] == name else node.input[0]
    if other not in constants or constants[other].data_location == onnx.TensorProto.EXTERNAL:
        return None
    value = numpy_helper.to_array(constants[other]).astype(np.float64).ravel()
    if value.size not in (1, 3) or (node.op_type == "Div" and (node.input[1] == name or not value.all())):
        return None
    is_second = node.input[1] == name
    return {
        "Add": (one, value),
        "Sub": (-one, value) if is_second else (one, -value),
        "Mul": (value, zero),
        "Div": (1 / np.where(value, value, 1), zero),
    }[node.op_type]
