"""Find the tensors of a graph whose channels can be scaled together without a change of the outputs.

A ─ relu ─┬─ B ─ … ─ C ─┐             one group: the outputs of A and C and all that ReLU and Add make of them;
          └──────────── Add ─ relu ─ D   A and C make it, B and D read it
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from calibration.precision.graph_view import Graph, attribute, is_plain

if TYPE_CHECKING:
    import onnx


AVERAGES = ("AveragePool", "GlobalAveragePool")  # over pixels, channel by channel


@dataclass(frozen=True)
class ChannelGroup:
    """Tensors with the same channels on axis 1. Scaling one of them scales all."""

    tensors: list[str] = field(default_factory=list)  # in the order of the graph
    makers: list[onnx.NodeProto] = field(
        default_factory=list
    )  # layers and normalisations with constants on the axis of their outputs
    readers: list[onnx.NodeProto] = field(default_factory=list)


def channel_groups(graph: Graph) -> Iterator[ChannelGroup]:
    """Yield the groups whose makers and readers can all take a factor per channel.

    Inputs and outputs of the model are in no group.
    """
    parent: dict[str, str] = {}

    def root(tensor: str) -> str:
        while (above := parent.setdefault(tensor, tensor)) != tensor:
            tensor = above
        return tensor

    def tie(*tensors: str) -> None:
        for tensor in tensors[1:]:
            parent[root(tensor)] = root(tensors[0])

    fixed = {*graph.inputs, *graph.outputs}
    for node in graph.nodes:
        sources = [name for name in node.input if name not in graph.constants]
        if (
            node.op_type in ("Relu", "LeakyRelu", *AVERAGES)
            or (node.op_type == "Add" and len(sources) == 2)
            or is_flattening(graph, node)
        ):
            tie(node.output[0], *sources)
        elif not (len(sources) == 1 and (node.op_type == "BatchNormalization" or _scales(graph, node))):
            fixed.update(sources, node.output)
    barred, groups = {root(name) for name in fixed}, {}
    for name in graph.producer:
        if root(name) not in barred:
            groups.setdefault(root(name), ChannelGroup()).tensors.append(name)
    for node in graph.nodes:
        if node.op_type == "BatchNormalization" or _scales(graph, node):
            for name, nodes in ((node.output[0], "makers"), (node.input[0], "readers")):
                if root(name) in groups:
                    getattr(groups[root(name)], nodes).append(node)
    yield from (group for group in groups.values() if group.makers and group.readers)


def is_depthwise(graph: Graph, node: onnx.NodeProto) -> bool:
    """Return True for a convolution with one filter per channel: it takes a factor per channel at no cost."""
    dims = graph.constants[node.input[1]].dims
    return node.op_type == "Conv" and dims[1] == 1 and attribute(node, "group", 1) == dims[0] > 1


def output_axis(node: onnx.NodeProto) -> int:
    """Return the axis of the output channels in a layer's weights."""
    return 1 if node.op_type == "Gemm" and not attribute(node, "transB", 0) else 0


def input_axis(graph: Graph, node: onnx.NodeProto) -> int:
    """Return the axis of the input channels in a layer's weights."""
    return 0 if is_depthwise(graph, node) else 1 - output_axis(node)


def _scales(graph: Graph, node: onnx.NodeProto) -> bool:
    """Return True for a Conv or Gemm of plain form with constant weights and bias."""
    if (
        node.op_type not in ("Conv", "Gemm")
        or not is_plain(node)
        or not all(name in graph.constants for name in node.input[1:])
    ):
        return False
    if not graph.is_layer(node):
        return False
    return attribute(node, "group", 1) == 1 or is_depthwise(graph, node)


def is_flattening(graph: Graph, node: onnx.NodeProto) -> bool:
    """Return True for a Reshape from a convolution, or averages of one, to Gemms with one feature per channel."""
    if node.op_type not in ("Reshape", "Flatten") or node.output[0] in graph.outputs:
        return False
    channels = _channel_count(graph, node.input[0])
    readers = [reader for reader, _ in graph.readers.get(node.output[0], [])]
    if channels is None or not readers or not all(reader.op_type == "Gemm" for reader in readers):
        return False
    if not all(_scales(graph, reader) for reader in readers):
        return False
    return all(graph.constants[reader.input[1]].dims[1 - output_axis(reader)] == channels for reader in readers)


def _channel_count(graph: Graph, tensor: str) -> int | None:
    """Return the number of channels of a convolution's output, or of averages of it; None if it is neither."""
    node = graph.producer.get(tensor)
    while node is not None and node.op_type in ("Relu", "Add", *AVERAGES):
        node = graph.producer.get(node.input[0])
    if node is None or node.op_type != "Conv" or not _scales(graph, node):
        return None
    return graph.constants[node.input[1]].dims[0]
