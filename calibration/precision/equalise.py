"""Channels of one size: what a layer puts out is divided by a factor per channel, and the next layer's weights are multiplied by it.

    A(w, b) ─ relu ─ B(v)   ->   A(w / s, b / s) ─ relu ─ B(v · s)

The network computes the same, but one INT8 scale for all channels between A and B wastes fewer levels on the small ones: M. Nagel et al.,
Data-free quantization through weight equalization, ICCV 2019. Tensors that additions tie together have their factors in common, see
`calibration.precision.channel_groups`. A depthwise B has a scale per channel, which takes the factor up at no cost,
so that s is the channel's largest magnitude; any other B gets a part of it: G. Xiao et al., SmoothQuant, ICML 2023.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from calibration.precision.channel_groups import ChannelGroup, channel_groups, input_axis, is_depthwise, output_axis
from calibration.precision.graph_view import Graph

SHARE = 0.7  # of the activations' unevenness that goes into the weights of a layer that is not depthwise
LEAST = 2.0**-10  # the smallest factor relative to the largest: of channels that are hardly ever used

Factors = dict[str, NDArray[np.float32]]  # tensor -> (C,) positive, one tensor of a group for all


def channel_peaks(model: onnx.ModelProto, tensors: list[str], images: Iterable[NDArray[np.float32]], total: int) -> Factors:
    """Largest magnitude of each channel (C,) of the tensors over the images (1, …)."""
    from calibration.precision.model_file import with_outputs
    from calibration.ranges.sessions import Session
    from runtime.console.progress import progress_bar

    if not tensors:
        return {}
    session, peaks = Session(with_outputs(model, tensors).SerializeToString(), tensors), {}
    for image in progress_bar(images, total, "crop"):
        for name, values in zip(tensors, session(image), strict=True):
            channels = values[0].reshape(values.shape[1], -1)
            largest = np.maximum(channels.max(axis=1), -channels.min(axis=1))
            peaks[name] = np.maximum(peaks.get(name, 0), largest)
    return peaks


def equalised_tensors(model: onnx.ModelProto, tensors: Iterable[str]) -> list[str]:
    """Those of ``tensors`` that are in a group."""
    grouped = {name for group in channel_groups(Graph(model)) for name in group.tensors}
    return [name for name in tensors if name in grouped]


def choose_factors(model: onnx.ModelProto, peaks: Factors) -> Factors:
    """Factors from the channels' largest magnitudes; tensors that hold anything but numbers are left alone, the collection will name them."""
    graph, factors = Graph(model), {}
    for group in channel_groups(graph):
        measured = {name: peaks[name] for name in group.tensors if name in peaks}
        if measured and all(np.isfinite(peak).all() and peak.any() for peak in measured.values()):
            wanted = _unevenness(list(measured.values()))
            reach = [_reach(graph, node) for node in group.readers if node.op_type != "BatchNormalization" and not is_depthwise(graph, node)]
            if reach:
                wanted = wanted**SHARE / _unevenness(reach) ** (1 - SHARE)
            factors[next(iter(measured))] = np.maximum(wanted / wanted.max(), LEAST).astype(np.float32)
    return factors


def equalise(model: onnx.ModelProto, factors: Factors) -> onnx.ModelProto:
    """A copy of ``model`` that computes the same up to rounding, with the named tensors and all of their groups divided by their factors."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = Graph(result)
    for group in channel_groups(graph):
        factor = next((factors[name] for name in group.tensors if name in factors), None)
        if factor is not None:
            _scale_group(result, graph, group, factor)
    return result


def _scale_group(model: onnx.ModelProto, graph: Graph, group: ChannelGroup, factor: NDArray[np.float32]) -> None:
    for node in group.makers:  # a normalisation's output is gain · … + offset
        for index in (1, 2) if len(node.input) > 2 else (1,):
            _scale(model, graph, node, index, 1 / factor, output_axis(node) if index == 1 else 0)
    for node in group.readers:
        if node.op_type == "BatchNormalization":  # gain · (x - mean) / deviation
            _scale(model, graph, node, 1, factor, 0)
            _scale(model, graph, node, 3, 1 / factor, 0)
        else:
            _scale(model, graph, node, 1, factor, input_axis(graph, node))


def _scale(model: onnx.ModelProto, graph: Graph, node: onnx.NodeProto, index: int, factor: NDArray[np.float32], axis: int) -> None:
    """Multiply a constant that ``node`` reads along one axis; one that is read elsewhere too is copied first."""
    name = node.input[index]
    array = numpy_helper.to_array(graph.constants[name])
    scaled = (array * factor.reshape([-1 if i == axis else 1 for i in range(array.ndim)])).astype(np.float32)
    if sum(list(other.input).count(name) for other in graph.nodes) > 1:
        name = node.input[index] = f"{name}_{node.output[0]}_{index}"
        graph.constants[name] = model.graph.initializer.add()
    graph.constants[name].CopyFrom(numpy_helper.from_array(scaled, name))


def _reach(graph: Graph, node: onnx.NodeProto) -> NDArray[np.float32]:
    """Largest magnitude (C,) of the weights of a layer that each input channel meets."""
    weights, axis = numpy_helper.to_array(graph.constants[node.input[1]]), input_axis(graph, node)
    return np.abs(weights).max(axis=tuple(i for i in range(weights.ndim) if i != axis))


def _unevenness(rows: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """(C,) in 0..1: how large each channel is relative to the largest, in the row where it is most so."""
    return np.maximum(np.max([row / (row.max() or 1) for row in rows], axis=0), LEAST)
