"""Channels of one size: what a layer puts out is divided by a factor per channel, and the next layer's weights are multiplied by it.

    A(w, b) ─ relu ─ B(v)   ->   A(w / s, b / s) ─ relu ─ B(v · s)

The network computes the same, but one INT8 scale for all channels between A and B wastes fewer levels on the small ones: M. Nagel et al.,
Data-free quantization through weight equalization, ICCV 2019. A depthwise B has a scale per channel, which takes the factor up at no cost,
so that s is the channel's largest magnitude; any other B gets a part of it: G. Xiao et al., SmoothQuant, ICML 2023.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from calibration.graph import Graph, attribute

SHARE = 0.5  # of an activation's unevenness that goes into the weights of a layer that is not depthwise
LEAST = 2.0**-10  # the smallest factor relative to the largest: of channels that are hardly ever used

Factors = dict[str, NDArray[np.float32]]  # tensor between two layers -> (C,) positive


class _Link(NamedTuple):
    first: onnx.NodeProto
    tensor: str
    second: onnx.NodeProto


def linked_tensors(model: onnx.ModelProto) -> list[str]:
    """The tensors that can be equalised: from one layer to one other, with at most a ReLU between."""
    return [link.tensor for link in _links(Graph(model))]


def channel_peaks(model: onnx.ModelProto, tensors: list[str], images: Iterable[NDArray[np.float32]], total: int) -> Factors:
    """Largest magnitude of each channel (C,) of the tensors over the images (1, …)."""
    from calibration.model_file import with_outputs
    from calibration.sessions import Session
    from runtime.progress import progress_bar

    if not tensors:
        return {}
    session, peaks = Session(with_outputs(model, tensors).SerializeToString(), tensors), {}
    for image in progress_bar(images, total, "crop"):
        for name, values in zip(tensors, session(image), strict=True):
            largest = np.abs(values[0]).reshape(values.shape[1], -1).max(axis=1)
            peaks[name] = np.maximum(peaks.get(name, 0), largest)
    return peaks


def choose_factors(model: onnx.ModelProto, peaks: Factors) -> Factors:
    """Factors from the channels' largest magnitudes; tensors that hold anything but numbers are left alone, the collection will name them."""
    graph, factors = Graph(model), {}
    for link in _links(graph):
        peak = peaks[link.tensor]
        if not np.isfinite(peak).all() or not peak.any():
            continue
        wanted = peak
        if not _is_depthwise(link.second, graph):
            weights = _constant(graph, link.second.input[1])
            reach = np.abs(weights).max(axis=tuple(axis for axis in range(weights.ndim) if axis != _input_axis(link.second)))
            wanted = np.maximum(peak, LEAST * peak.max()) ** SHARE / np.maximum(reach, LEAST * reach.max() or 1) ** (1 - SHARE)
        factors[link.tensor] = np.maximum(wanted / wanted.max(), LEAST).astype(np.float32)
    return factors


def equalise(model: onnx.ModelProto, factors: Factors) -> onnx.ModelProto:
    """A copy of ``model`` that computes the same up to rounding, with the named tensors divided by their factors."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = Graph(result)
    for link in _links(graph):
        if link.tensor in factors:
            factor = factors[link.tensor]
            for name in link.first.input[1:3]:
                _scale(graph, name, 1 / factor, _output_axis(link.first) if name == link.first.input[1] else 0)
            _scale(graph, link.second.input[1], factor, 0 if _is_depthwise(link.second, graph) else _input_axis(link.second))
    return result


def _links(graph: Graph) -> Iterator[_Link]:
    for node in graph.nodes:
        tensor = graph.activated(node)
        if not _is_own(node, graph) or graph.producer[tensor].op_type == "Clip":
            continue
        reader, channels = graph.single_reader(tensor), graph.constants[node.input[1]].dims[_output_axis(node)]
        if reader is not None and reader.op_type in ("Reshape", "Flatten"):
            reader = graph.single_reader(reader.output[0])
        if reader is None or not _is_own(reader, graph):
            continue
        # After a Reshape, as many features as there were channels: each is one channel still.
        taken = graph.constants[reader.input[1]].dims[0 if _is_depthwise(reader, graph) else _input_axis(reader)]
        if taken == channels and (attribute(reader, "group", 1) == 1 or _is_depthwise(reader, graph)):
            yield _Link(node, tensor, reader)


def _is_own(node: onnx.NodeProto, graph: Graph) -> bool:
    """A Conv or Gemm of plain form, whose weights and bias are constants that no other node reads."""
    if node.op_type not in ("Conv", "Gemm") or not graph.is_layer(node):
        return False
    if any(entry.name in ("alpha", "beta") and entry.f != 1 for entry in node.attribute):
        return False
    return all(name in graph.constants and len(graph.readers[name]) == 1 for name in node.input[1:])


def _is_depthwise(node: onnx.NodeProto, graph: Graph) -> bool:
    dims = graph.constants[node.input[1]].dims
    return node.op_type == "Conv" and dims[1] == 1 and attribute(node, "group", 1) == dims[0] > 1


def _output_axis(node: onnx.NodeProto) -> int:
    return 1 if node.op_type == "Gemm" and not attribute(node, "transB", 0) else 0


def _input_axis(node: onnx.NodeProto) -> int:
    return 1 - _output_axis(node)


def _constant(graph: Graph, name: str) -> NDArray[np.float32]:
    return numpy_helper.to_array(graph.constants[name])


def _scale(graph: Graph, name: str, factor: NDArray[np.float32], axis: int) -> None:
    """Multiply a constant along one axis."""
    array = _constant(graph, name)
    scaled = array * factor.reshape([-1 if i == axis else 1 for i in range(array.ndim)])
    graph.constants[name].CopyFrom(numpy_helper.from_array(scaled.astype(np.float32), name))
