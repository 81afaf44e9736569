"""Write quantisation into the graph: QuantizeLinear and DequantizeLinear with symmetric scales, and INT8 weights.

    before   x ─ Conv(w, b) ─ relu ─ …                 after   x ─ Q ─ DQ ─┐
                                                               w int8 ─ DQ ─ Conv(b) ─ relu ─ …

Scales of weights are per output channel. Transposed convolutions get one scale: TensorRT has no kernels for more
(NVIDIA/TensorRT#2380). Biases stay float32 for TensorRT, which takes no others. For CPUs they become int32 with the
scale of the products, and weights get a zero point: without these, versions of ONNX Runtime leave layers in float.
Rounding the weights shifts the mean of each output channel; the shift is taken off its bias: M. Nagel et al.,
Data-free quantization through weight equalization and bias correction, ICCV 2019, section 4.2, with the means of the
inputs from the calibration crops.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from calibration.precision.graph_view import Graph, attribute, is_plain, layer_name
from calibration.precision.half import float_layers_to_half
from calibration.precision.placement import QuantisedReads, quantised_reads
from calibration.precision.vector_products import unflattened, vectors_by_products
from calibration.ranges.methods import STEPS, UNSIGNED_STEPS
from calibration.ranges.table import CalibrationTable, is_unsigned
from runtime.errors import FaceMeshError

LARGEST_BIAS = 2**30  # in int32; the other half of the range is left for the correction
LEAST_WEIGHT = 1e-20  # a channel of smaller weights is one of zeros


def to_int8(graph: Graph, layers: Collection[str], table: CalibrationTable) -> onnx.ModelProto:
    """Return a copy of the model with ``layers`` in INT8.

    All other layers are in FP16 for the target "tensorrt", and in FP32 for "cpu", where half precision is slow.
    Raises `FaceMeshError` if the table lacks a tensor.
    """
    quantised = insert_qdq(graph, layers, table)
    return float_layers_to_half(Graph(quantised)) if table.target == "tensorrt" else quantised


def insert_qdq(graph: Graph, layers: Collection[str], table: CalibrationTable) -> onnx.ModelProto:
    """Return a copy of the model; ``layers`` compute in INT8 and all else stays.

    For the target "tensorrt" that is int8 with zero point 0 throughout. For "cpu", tensors that are never negative
    become uint8 with zero point 0: ONNX Runtime needs that to fuse a ReLU. Raises `FaceMeshError` if the table lacks
    a tensor.
    """
    if table.target == "cpu":
        graph = vectors_by_products(graph)
    result = onnx.ModelProto()
    result.CopyFrom(graph.model)
    writer = _Writer(graph, list(result.graph.node), quantised_reads(graph, set(layers), table.target), table)

    # The nodes in their order, each behind what it reads quantised.
    for name in graph.inputs:
        writer.quantise_tensor(name)
    for node, copy in zip(graph.nodes, result.graph.node, strict=True):
        if layer_name(node) in layers and graph.is_layer(node):
            writer.quantise_layer(node, copy)
        writer.nodes.append(copy)
        for name in node.output:
            writer.quantise_tensor(name)
    nodes = list(writer.nodes)
    del result.graph.node[:]
    result.graph.node.extend(nodes)

    # The constants that are still read, old and new: a corrected bias may have become int32.
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in (*result.graph.initializer, *writer.constants.values()) if tensor.name in used]
    del result.graph.initializer[:]
    result.graph.initializer.extend(kept)
    onnx.checker.check_model(result, full_check=True)
    return result


class _Writer:
    """The nodes and constants of the new graph; ``copies`` are the nodes of ``graph`` in the new one."""

    def __init__(
        self, graph: Graph, copies: list[onnx.NodeProto], reads: QuantisedReads, table: CalibrationTable
    ) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self._graph = graph
        self._copies = {node.output[0]: node for node in copies}
        self._reads = reads
        self._target = table.target
        self._ranges = {entry.name: entry for entry in table.ranges}
        self._means = {entry.tensor: entry.array for entry in table.means}

    def quantise_tensor(self, tensor: str) -> None:
        """Add Q and DQ behind ``tensor`` and lead its quantised readers there; without such readers add nothing."""
        readers = [(node.output[0], index) for node, index in self._graph.readers.get(tensor, [])]
        wanted = [place for place in readers if place in self._reads]
        if not wanted:
            return
        scale, zero = self._activation(tensor, self._reads[wanted[0]])
        quantised = f"{tensor}_quantised"
        dequantised = f"{tensor}_dequantised"
        self.nodes.append(helper.make_node("QuantizeLinear", [tensor, scale, zero], [quantised], f"{tensor}_Q"))
        self.nodes.append(helper.make_node("DequantizeLinear", [quantised, scale, zero], [dequantised], f"{tensor}_DQ"))
        for output, index in wanted:
            self._copies[output].input[index] = dequantised

    def quantise_layer(self, node: onnx.NodeProto, copy: onnx.NodeProto) -> None:
        """Give ``copy`` of a layer INT8 weights and a corrected bias.

        Layers that share weights share their INT8 form and its DequantizeLinear.
        """
        name = node.input[1]
        weights = numpy_helper.to_array(self._graph.constants[name])
        axis = _channel_axis(node, weights)
        scale = weight_scale(weights, axis)
        if self._target == "cpu":
            scale = np.maximum(scale, self._least_scale(name))
        spread = scale
        if axis is not None:
            spread = scale.reshape([-1 if i == axis else 1 for i in range(weights.ndim)])
        rounded = np.clip(np.rint(weights / spread), -STEPS, STEPS).astype(np.int8)
        if f"{name}_int8" not in self.constants:
            inputs = [self._constant(f"{name}_int8", rounded), self._constant(f"{name}_scale", scale)]
            inputs.append(self._constant(f"{name}_zero", np.zeros(scale.shape, np.int8)))
            axes = {} if axis is None else {"axis": axis}
            dequantise = helper.make_node("DequantizeLinear", inputs, [f"{name}_dequantised"], f"{name}_DQ", **axes)
            self.nodes.append(dequantise)
        copy.input[1] = f"{name}_dequantised"
        self._correct_bias(node, copy, rounded * spread - weights)
        if self._target == "cpu":
            self._quantise_bias(node, copy, scale)

    def _least_scale(self, weights: str) -> NDArray[np.float32]:
        """Return the least scale (C,) of ``weights`` with which the biases of their layers fit into int32.

        It decides for channels of next to no weights; () 0 without biases.
        """
        least = np.zeros((), np.float32)
        for node, index in self._graph.readers[weights]:
            bias = self._constant_bias(node, node) if index == 1 and (node.output[0], 0) in self._reads else None
            if bias is not None:
                step = self._scale(self._reads[node.output[0], 0])
                least = np.maximum(least, np.abs(bias) / (step * LARGEST_BIAS))
        return least.astype(np.float32)

    def _quantise_bias(self, node: onnx.NodeProto, copy: onnx.NodeProto, scale: NDArray[np.float32]) -> None:
        """Turn a constant bias of ``copy`` into int32, with ``scale`` (C,) of the weights times that of the input."""
        bias = self._constant_bias(node, copy)
        if bias is None:
            return
        step = np.float32(self._scale(self._reads[node.output[0], 0]) * scale)
        name = f"{node.output[0]}_bias"
        inputs = [
            self._constant(f"{name}_int32", np.rint(bias.astype(np.float64) / step).astype(np.int32)),
            self._constant(f"{name}_scale", step),
        ]
        self.nodes.append(helper.make_node("DequantizeLinear", inputs, [f"{name}_dequantised"], f"{name}_DQ", axis=0))
        copy.input[2] = f"{name}_dequantised"

    def _constant_bias(self, node: onnx.NodeProto, copy: onnx.NodeProto) -> NDArray[np.float32] | None:
        """Return the bias (C,) of ``copy`` of a layer; None without a constant one."""
        if node.op_type not in ("Conv", "Gemm") or not is_plain(node) or len(copy.input) < 3:
            return None
        tensor = self.constants.get(copy.input[2]) or self._graph.constants.get(copy.input[2])
        return None if tensor is None else numpy_helper.to_array(tensor)

    def _correct_bias(self, node: onnx.NodeProto, copy: onnx.NodeProto, error: NDArray[np.float32]) -> None:
        """Correct the bias by the mean effect of an ``error`` of the weights, if mean and bias are known."""
        means = self._means.get(unflattened(self._graph, node))
        bias = node.input[2] if len(node.input) > 2 else ""
        if means is None or node.op_type not in ("Conv", "Gemm") or not is_plain(node):
            return
        if bias and bias not in self._graph.constants:
            return
        before = numpy_helper.to_array(self._graph.constants[bias]) if bias else np.float32(0)
        after = before - _mean_shift(node, error, means)
        copy.input[2:] = [self._constant(f"{node.output[0]}_bias_corrected", after.astype(np.float32))]

    def _activation(self, tensor: str, root: str) -> tuple[str, str]:
        """Add scale and zero point of ``tensor``, with the numbers of ``root``; return their names."""
        scale = np.array(self._scale(root))
        zero = np.zeros((), np.uint8 if self._is_unsigned(root) else np.int8)
        return self._constant(f"{tensor}_scale", scale), self._constant(f"{tensor}_zero", zero)

    def _scale(self, tensor: str) -> np.float32:
        """Return the scale of a tensor. Raises `FaceMeshError` if the table lacks it."""
        if tensor not in self._ranges:
            raise FaceMeshError(f"the calibration table lacks the tensor {tensor}; remove the table to calibrate anew")
        steps = UNSIGNED_STEPS if self._is_unsigned(tensor) else STEPS
        # A range of 0 is that of zeros alone, and any scale holds them.
        return np.float32(self._ranges[tensor].amax / steps) or np.float32(1)

    def _is_unsigned(self, tensor: str) -> bool:
        return is_unsigned(self._ranges[tensor].minimum, self._target)

    def _constant(self, name: str, array: NDArray) -> str:
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
        return name


def weight_scale(weights: NDArray[np.float32], axis: int | None) -> NDArray[np.float32]:
    """Return the float32 scale of each channel (C,), or of all () if ``axis`` is None; channels of zeros get 1."""
    others = None if axis is None else tuple(i for i in range(weights.ndim) if i != axis)
    largest = np.abs(weights).max(axis=others)
    return np.asarray(np.where(largest > LEAST_WEIGHT, largest / STEPS, 1), np.float32)


def _mean_shift(node: onnx.NodeProto, error: NDArray[np.float32], means: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the shift of each output's mean (O,) by an ``error`` of the weights, for inputs of ``means`` (C,).

    A flattened input has several numbers per channel. The zeros round a picture are not taken into account.
    """
    if node.op_type == "Gemm":
        rows = error if attribute(node, "transB", 0) else error.T
        return rows @ np.repeat(means, rows.shape[1] // len(means))
    groups = attribute(node, "group", 1)
    taps = error.reshape(groups, len(error) // groups, error.shape[1], -1).sum(axis=3)
    return np.einsum("goi,gi->go", taps, means.reshape(groups, -1)).ravel()


def _channel_axis(node: onnx.NodeProto, weights: NDArray) -> int | None:
    """Return the axis of the output channels in the weights; None for one scale in all."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        return 0 if attribute(node, "transB", 0) else 1
    return weights.ndim - 1 if node.op_type == "MatMul" and weights.ndim == 2 else None
