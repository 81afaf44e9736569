"""Quantisation written into the graph: QuantizeLinear and DequantizeLinear with symmetric scales, and INT8 weights.

    before   x ─ Conv(w, b) ─ relu ─ …                 after   x ─ Q ─ DQ ─┐
                                                               w int8 ─ DQ ─ Conv(b) ─ relu ─ …

Scales of weights are per output channel. Transposed convolutions get one scale: TensorRT has no kernels for more (NVIDIA/TensorRT#2380).
Biases stay float32: TensorRT takes no others, and ONNX Runtime makes its own int32 of them. What rounding the weights adds to a channel's mean
is taken off its bias: M. Nagel et al., Data-free quantization through weight equalization and bias correction, ICCV 2019, section 4.2, with the
means of the inputs from the calibration crops.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from calibration.precision.graph_view import Graph, attribute, is_plain, layer_name
from calibration.precision.half import float_layers_to_half
from calibration.precision.placement import quantised_reads
from calibration.ranges.methods import STEPS, UNSIGNED_STEPS
from calibration.ranges.table import CalibrationTable, is_unsigned
from runtime.errors import FaceMeshError


def to_int8(model: onnx.ModelProto, layers: Collection[str], table: CalibrationTable) -> onnx.ModelProto:
    """A copy of ``model`` with ``layers`` in INT8, and all other layers in FP16 for the target "tensorrt", in FP32 for "cpu", where half precision
    is slow. Raises `FaceMeshError` when the table lacks a tensor."""
    quantised = insert_qdq(model, layers, table)
    return float_layers_to_half(quantised) if table.target == "tensorrt" else quantised


def insert_qdq(model: onnx.ModelProto, layers: Collection[str], table: CalibrationTable) -> onnx.ModelProto:
    """A copy of ``model`` in which ``layers`` compute in INT8 and all else stays as it is.

    For the target "tensorrt" that is int8 with zero point 0 throughout; for "cpu", tensors that are never negative become uint8 with zero
    point 0, which ONNX Runtime needs to fuse a ReLU. Raises `FaceMeshError` when the table lacks a tensor.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = Graph(result)
    reads = quantised_reads(graph, set(layers), table.target)
    writer = _Writer(table)
    sources = {node.output[0]: node.input[0] for node in graph.nodes if node.input}
    for name in graph.inputs:
        writer.copies(name, graph, reads)
    for node in graph.nodes:
        if layer_name(node) in layers and graph.is_layer(node):
            writer.quantise_layer(node, graph, sources[node.output[0]])
        writer.nodes.append(node)
        for name in node.output:
            writer.copies(name, graph, reads)
    del result.graph.node[:]
    result.graph.node.extend(writer.nodes)
    used = {name for node in writer.nodes for name in node.input}
    kept = [tensor for tensor in result.graph.initializer if tensor.name in used]
    del result.graph.initializer[:]
    result.graph.initializer.extend([*kept, *writer.constants.values()])
    onnx.checker.check_model(result, full_check=True)
    return result


class _Writer:
    """The nodes and constants of the new graph."""

    def __init__(self, table: CalibrationTable) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self._target, self._ranges = table.target, {entry.name: entry for entry in table.ranges}
        self._means = {entry.tensor: entry.array for entry in table.means}

    def copies(self, tensor: str, graph: Graph, reads: dict[tuple[str, int], str]) -> None:
        """Q and DQ behind ``tensor`` if somebody reads it quantised, and these readers led there."""
        wanted = [(node, index, reads[node.output[0], index]) for node, index in graph.readers.get(tensor, []) if (node.output[0], index) in reads]
        if not wanted:
            return
        scale, zero = self._activation(tensor, wanted[0][2])
        self.nodes.append(helper.make_node("QuantizeLinear", [tensor, scale, zero], [f"{tensor}_quantised"], f"{tensor}_Q"))
        self.nodes.append(helper.make_node("DequantizeLinear", [f"{tensor}_quantised", scale, zero], [f"{tensor}_dequantised"], f"{tensor}_DQ"))
        for node, index, _ in wanted:
            node.input[index] = f"{tensor}_dequantised"

    def quantise_layer(self, node: onnx.NodeProto, graph: Graph, read: str) -> None:
        """INT8 weights and their DQ, which layers that share weights share, and a bias that makes up for them. ``read`` is the input before Q/DQ."""
        name, means = node.input[1], self._means.get(read)
        weights = numpy_helper.to_array(graph.constants[name])
        axis = _channel_axis(node, weights)
        scale = weight_scale(weights, axis)
        spread = scale if axis is None else scale.reshape([-1 if i == axis else 1 for i in range(weights.ndim)])
        rounded = np.clip(np.rint(weights / spread), -STEPS, STEPS).astype(np.int8)
        if f"{name}_int8" not in self.constants:
            inputs = [self._constant(f"{name}_int8", rounded), self._constant(f"{name}_scale", scale)]  # a zero point left out is 0
            axes = {} if axis is None else {"axis": axis}
            self.nodes.append(helper.make_node("DequantizeLinear", inputs, [f"{name}_dequantised"], f"{name}_DQ", **axes))
        node.input[1] = f"{name}_dequantised"
        bias = node.input[2] if len(node.input) > 2 else ""
        if means is not None and node.op_type in ("Conv", "Gemm") and is_plain(node) and (not bias or bias in graph.constants):
            before = numpy_helper.to_array(graph.constants[bias]) if bias else np.float32(0)
            after = before - _mean_shift(node, rounded * spread - weights, means)
            node.input[2:] = [self._constant(f"{node.output[0]}_bias_corrected", after.astype(np.float32))]

    def _activation(self, tensor: str, root: str) -> tuple[str, str]:
        """Names of scale and zero point of ``tensor``, whose numbers are those of ``root``."""
        if root not in self._ranges:
            raise FaceMeshError(f"the calibration table lacks the tensor {root}; remove the table to calibrate anew")
        entry = self._ranges[root]
        unsigned = is_unsigned(entry.minimum, self._target)
        scale = np.float32(entry.amax / (UNSIGNED_STEPS if unsigned else STEPS)) or np.float32(1)  # any scale holds zeros
        zero = np.zeros((), np.uint8 if unsigned else np.int8)
        return self._constant(f"{tensor}_scale", np.array(scale)), self._constant(f"{tensor}_zero", zero)

    def _constant(self, name: str, array: NDArray) -> str:
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
        return name


def weight_scale(weights: NDArray[np.float32], axis: int | None) -> NDArray[np.float32]:
    """The float32 scale of each channel (C,), or of all (); channels of zeros get 1."""
    others = None if axis is None else tuple(i for i in range(weights.ndim) if i != axis)
    largest = np.abs(weights).max(axis=others)
    return np.asarray(np.where(largest > 0, largest / STEPS, 1), np.float32)


def _mean_shift(node: onnx.NodeProto, error: NDArray[np.float32], means: NDArray[np.float32]) -> NDArray[np.float32]:
    """What an ``error`` of the weights adds to the mean of each output (O,), for inputs of these ``means`` (I,); the zeros round a picture are
    not taken into account."""
    if node.op_type == "Gemm":
        return (error if attribute(node, "transB", 0) else error.T) @ means
    groups = attribute(node, "group", 1)
    taps = error.reshape(groups, len(error) // groups, error.shape[1], -1).sum(axis=3)
    return np.einsum("goi,gi->go", taps, means.reshape(groups, -1)).ravel()


def _channel_axis(node: onnx.NodeProto, weights: NDArray) -> int | None:
    """The axis of the output channels in the weights, None for one scale in all."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        return 0 if attribute(node, "transB", 0) else 1
    return weights.ndim - 1 if node.op_type == "MatMul" and weights.ndim == 2 else None
