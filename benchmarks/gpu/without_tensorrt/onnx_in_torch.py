"""Run an ONNX file in PyTorch, operator by operator: the operators of this project's exports, on any device.

Types are those of the file: FP16 where it says so. Convolutions run in channels-last order, as tensor cores want it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor
from torch.nn import functional

from runtime.errors import FaceMeshError

Attributes = Mapping[str, Any]
Operator = Callable[..., Tensor]  # (attributes, *inputs); an input that is left out is None


class TorchGraph:
    """The graph of an ONNX file as a function of tensors by name."""

    def __init__(self, path: Path, device: str) -> None:
        """Load ``path`` and move its weights to ``device``. Raises `FaceMeshError` for an operator not in OPERATORS."""
        graph = onnx.load(path).graph
        if unknown := sorted({node.op_type for node in graph.node} - OPERATORS.keys()):
            raise FaceMeshError(f"{path}: PyTorch is not told how to run {', '.join(unknown)}; give a model in FP16")
        self.inputs = {value.name: _dtype(value) for value in graph.input}
        self.outputs = {value.name: _dtype(value) for value in graph.output}
        constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        # Shapes, scales and the like are read by the host; only other floats are weights.
        scales = {name for node in graph.node if node.op_type == "Resize" for name in node.input[1:]}
        self._constants = {
            name: array.tolist() if name in scales else _constant(array, device) for name, array in constants.items()
        }
        self._steps = [_step(node) for node in graph.node]

    def __call__(self, **inputs: Tensor) -> dict[str, Tensor]:
        """Return the outputs by name."""
        values: dict[str, Any] = {**self._constants, **inputs, "": None}
        for operator, attributes, names, output in self._steps:
            values[output] = operator(attributes, *(values[name] for name in names))
        return {name: values[name] for name in self.outputs}


def _dtype(value: onnx.ValueInfoProto) -> np.dtype:
    return onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)


def _constant(array: np.ndarray, device: str) -> Tensor | list[int]:
    if array.dtype.kind != "f":
        return array.reshape(-1).tolist()
    tensor = torch.from_numpy(array.copy()).to(device)
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def _step(node: onnx.NodeProto) -> tuple[Operator, Attributes, Sequence[str], str]:
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    return OPERATORS[node.op_type], attributes, list(node.input), node.output[0]


def _conv(attributes: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    pads = attributes.get("pads", [0, 0, 0, 0])
    if pads[:2] != pads[2:]:
        x = functional.pad(x, (pads[1], pads[3], pads[0], pads[2]))
        pads = [0, 0, 0, 0]
    strides, dilations = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
    return functional.conv2d(x, weight, bias, strides, pads[:2], dilations, attributes.get("group", 1))


def _conv_transpose(attributes: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
    strides, dilations = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
    more, groups = attributes.get("output_padding", [0, 0]), attributes.get("group", 1)
    y = functional.conv_transpose2d(x, weight, bias, strides, 0, more, groups, dilations)
    return y[:, :, top : y.shape[2] - bottom, left : y.shape[3] - right]


def _average_pool(attributes: Attributes, x: Tensor) -> Tensor:
    pads = attributes.get("pads", [0, 0, 0, 0])
    counted = bool(attributes.get("count_include_pad", 0))
    kernel, strides = attributes["kernel_shape"], attributes.get("strides", [1, 1])
    return functional.avg_pool2d(x, kernel, strides, _even(pads), bool(attributes.get("ceil_mode", 0)), counted)


def _max_pool(attributes: Attributes, x: Tensor) -> Tensor:
    pads = _even(attributes.get("pads", [0, 0, 0, 0]))
    kernel, strides = attributes["kernel_shape"], attributes.get("strides", [1, 1])
    dilations = attributes.get("dilations", [1, 1])
    return functional.max_pool2d(x, kernel, strides, pads, dilations, bool(attributes.get("ceil_mode", 0)))


def _even(pads: Sequence[int]) -> Sequence[int]:
    if list(pads[:2]) != list(pads[2:]):
        raise FaceMeshError(f"pooling with uneven padding {list(pads)} cannot be run in PyTorch; leave this model out")
    return pads[:2]


def _batch_norm(attributes: Attributes, x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    return functional.batch_norm(x, mean, var, scale, shift, False, 0.0, attributes.get("epsilon", 1e-5))


def _gemm(attributes: Attributes, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    a = a.T if attributes.get("transA") else a
    b = b.T if attributes.get("transB") else b
    product = attributes.get("alpha", 1.0) * (a @ b) if attributes.get("alpha", 1.0) != 1.0 else a @ b
    return product if c is None else product + attributes.get("beta", 1.0) * c


def _reshape(_: Attributes, x: Tensor, shape: list[int]) -> Tensor:
    sides = [x.shape[place] if side == 0 else side for place, side in enumerate(shape)]
    return x.contiguous().reshape(sides)


def _slice(
    _: Attributes,
    x: Tensor,
    starts: list[int],
    ends: list[int],
    axes: list[int] | None = None,
    steps: list[int] | None = None,
) -> Tensor:
    spans = [slice(None)] * x.ndim
    axes, steps = axes or range(len(starts)), steps or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        spans[axis] = slice(start, end, step)
    return x[tuple(spans)]


def _pad(attributes: Attributes, x: Tensor, pads: list[int], value: Tensor | None = None, _axes: Any = None) -> Tensor:
    if attributes.get("mode", b"constant") != b"constant" or _axes is not None:
        raise FaceMeshError("padding other than with a constant cannot be run in PyTorch; leave this model out")
    half = len(pads) // 2
    amounts = [side for axis in reversed(range(half)) for side in (pads[axis], pads[half + axis])]
    return functional.pad(x, amounts, value=0.0 if value is None else float(value))


def _depth_to_space(attributes: Attributes, x: Tensor) -> Tensor:
    block = attributes["blocksize"]
    if attributes.get("mode", b"DCR") == b"CRD":
        return functional.pixel_shuffle(x, block)
    n, channels, height, width = x.shape
    planes = x.reshape(n, block, block, channels // block**2, height, width).permute(0, 3, 4, 1, 5, 2)
    return planes.reshape(n, channels // block**2, height * block, width * block)


def _resize(attributes: Attributes, x: Tensor, _region: Any, scales: list[float], sizes: Any = None) -> Tensor:
    is_doubling = sizes is None and len(scales) == 4 and scales[:2] == [1, 1] and all(each % 1 == 0 for each in scales)
    if attributes.get("mode", b"nearest") != b"nearest" or not is_doubling:
        raise FaceMeshError("resizing other than by repeated pixels cannot be run in PyTorch; leave this model out")
    return functional.interpolate(x, scale_factor=tuple(scales[2:]), mode="nearest")


def _cast(attributes: Attributes, x: Tensor) -> Tensor:
    return x.to(torch.from_numpy(np.empty(0, onnx.helper.tensor_dtype_to_np_dtype(attributes["to"]))).dtype)


OPERATORS: dict[str, Operator] = {
    "Add": lambda _, a, b: a + b,
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Concat": lambda attributes, *parts: torch.cat(parts, attributes["axis"]),
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "DepthToSpace": _depth_to_space,
    "Flatten": lambda attributes, x: x.contiguous().flatten(attributes.get("axis", 1)),
    "Gemm": _gemm,
    "GlobalAveragePool": lambda _, x: x.mean((2, 3), keepdim=True),
    "Identity": lambda _, x: x,
    "MatMul": lambda _, a, b: a @ b,
    "MaxPool": _max_pool,
    "Mul": lambda _, a, b: a * b,
    "Pad": _pad,
    "PRelu": lambda _, x, slope: torch.where(x < 0, x * slope, x),
    "Relu": lambda _, x: torch.relu(x),
    "Reshape": _reshape,
    "Resize": _resize,
    "Sigmoid": lambda _, x: torch.sigmoid(x),
    "Slice": _slice,
    "Sub": lambda _, a, b: a - b,
    "Transpose": lambda attributes, x: x.permute(attributes["perm"]),
}
