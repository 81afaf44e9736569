"""Make the channels of a tensor equally large, so that INT8 loses less.

    A(w, b) ─ relu ─ B(v)   ->   A(w / s, b / s) ─ relu ─ B(v · s)

The network computes the same. One INT8 scale for all channels between A and B then wastes fewer levels on the small
ones: M. Nagel et al., Data-free quantization through weight equalization, ICCV 2019. Tensors that additions tie
together have their factors in common, see `calibration.precision.channel_groups`. A depthwise B has a scale per channel
and takes the factor up at no cost, so that s is the channel's largest magnitude. Any other B gets a part of it:
G. Xiao et al., SmoothQuant, ICML 2023.
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


def channel_peaks(
    model: onnx.ModelProto, tensors: list[str], images: Iterable[NDArray[np.float32]], total: int
) -> Factors:
    """Return the largest magnitude of each channel (C,) of the tensors over ``total`` images (1, …)."""
    from calibration.ranges.sessions import Session, with_outputs
    from runtime.console.progress import progress_bar

    if not tensors:
        return {}
    session = Session(with_outputs(model, tensors).SerializeToString(), tensors)
    peaks: Factors = {}
    for image in progress_bar(images, total, "crop"):
        for name, values in zip(tensors, session(image), strict=True):
            channels = values[0].reshape(values.shape[1], -1)
            largest = np.maximum(channels.max(axis=1), -channels.min(axis=1))
            peaks[name] = np.maximum(peaks.get(name, 0), largest)
    return peaks


def equalised_tensors(graph: Graph, tensors: Iterable[str]) -> list[str]:
    """Return the ``tensors`` that are in a group of channels."""
    grouped = {name for group in channel_groups(graph) for name in group.tensors}
    return [name for name in tensors if name in grouped]


def choose_factors(graph: Graph, peaks: Factors) -> Factors:
    """Return the factors (C,) of each group from the channels' largest magnitudes.

    Groups with NaN, infinity or zeros alone are left out: the collection of ranges reports them.
    """
    factors: Factors = {}
    head = graph.side_branch()  # in float, it takes any factor at no cost
    for group in channel_groups(graph):
        measured = {name: peaks[name] for name in group.tensors if name in peaks}
        if not measured or not all(np.isfinite(peak).all() and peak.any() for peak in measured.values()):
            continue
        wanted = _unevenness(list(measured.values()))
        layers = [node for node in group.readers if node.op_type != "BatchNormalization" and node.output[0] not in head]
        costly = [node for node in layers if not is_depthwise(graph, node)]
        if costly:
            wanted = wanted**SHARE / _unevenness([_reach(graph, node) for node in costly]) ** (1 - SHARE)
        factors[next(iter(measured))] = np.maximum(wanted / wanted.max(), LEAST).astype(np.float32)
    return factors


def equalise(graph: Graph, factors: Factors) -> Graph:
    """Return the view of a copy that divides the named tensors, and all of their groups, by their factors.

    The copy computes the same up to rounding.
    """
    result = onnx.ModelProto()
    result.CopyFrom(graph.model)
    changed = Graph(result)
    for group in channel_groups(changed):
        factor = next((factors[name] for name in group.tensors if name in factors), None)
        if factor is not None:
            _scale_group(changed, group, factor)
    return changed


def _scale_group(graph: Graph, group: ChannelGroup, factor: NDArray[np.float32]) -> None:
    # A layer computes weights · … + bias, a normalisation gain · … + offset: both constants take the factor.
    for node in group.makers:
        _scale(graph, node, 1, 1 / factor, output_axis(node))
        if len(node.input) > 2:
            _scale(graph, node, 2, 1 / factor, 0)
    for node in group.readers:
        if node.op_type == "BatchNormalization":  # gain · (x - mean) / deviation
            _scale(graph, node, 1, factor, 0)
            _scale(graph, node, 3, 1 / factor, 0)
        else:
            _scale(graph, node, 1, factor, input_axis(graph, node))


def _scale(graph: Graph, node: onnx.NodeProto, index: int, factor: NDArray[np.float32], axis: int) -> None:
    """Multiply constant input ``index`` of ``node`` along one axis; a constant with other readers is copied first."""
    name = node.input[index]
    array = numpy_helper.to_array(graph.constants[name])
    scaled = (array * factor.reshape([-1 if i == axis else 1 for i in range(array.ndim)])).astype(np.float32)
    if sum(list(other.input).count(name) for other in graph.nodes) > 1:
        name = f"{name}_{node.output[0]}_{index}"
        node.input[index] = name
        graph.constants[name] = graph.model.graph.initializer.add()
    graph.constants[name].CopyFrom(numpy_helper.from_array(scaled, name))


def _reach(graph: Graph, node: onnx.NodeProto) -> NDArray[np.float32]:
    """Return the largest weight magnitude (C,) that each input channel of a layer meets."""
    weights = numpy_helper.to_array(graph.constants[node.input[1]])
    axis = input_axis(graph, node)
    return np.abs(weights).max(axis=tuple(i for i in range(weights.ndim) if i != axis))


def _unevenness(rows: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return the size (C,) in 0..1 of each channel relative to the largest, the maximum over ``rows``."""
    return np.maximum(np.max([row / (row.max() or 1) for row in rows], axis=0), LEAST)
