"""Which layers become INT8, and where a tensor passes through QuantizeLinear and DequantizeLinear ("Q/DQ") on its way to a reader.

TensorRT fuses a layer with what follows it up to the next Q, so that one pair before every layer is enough; of a residual addition
it wants the branch that does not come straight from a layer quantised, and the other one not:

    relu ─┬─ Q/DQ ── Conv ── relu ── Q/DQ ── Conv ──┐
          └─ Q/DQ ─────────────────────────────── Add ── relu ── Q/DQ ── …

ONNX Runtime on CPUs fuses pairs on both sides of each layer and of each addition, without them it computes in float32. A layer between two
pairs whose weights are float it quantises by itself, with one scale for all, so that a layer which is to stay in float must not read DQ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibration.precision.graph_view import Graph, layer_name
from runtime.errors import FaceMeshError

if TYPE_CHECKING:
    import onnx

TARGETS = ("tensorrt", "cpu")
NARROW = (3, 12)  # channels of the map; 12 where 2 x 2 pixels are computed at once, see export.passes.block_narrow

Reads = dict[tuple[str, int], str]  # (first output of the reading node, index of its input) -> tensor whose range is used


def quantisable_layers(graph: Graph) -> list[str]:
    """Names of the layers that become INT8 by default, in the order of the graph: all but the tail, which writes the map."""
    tail = _tail(graph)
    names = [layer_name(node) for node in graph.nodes if graph.is_layer(node) and node.output[0] not in tail]
    if len(set(names)) < len(names):
        raise FaceMeshError("two layers of the model have the same name; export it again with 'python -m export onnx'")
    return names


def quantised_reads(graph: Graph, layers: set[str], target: str) -> Reads:
    """Every place where a quantised tensor is read, when ``layers`` are INT8."""
    reads: Reads = {}
    chosen = [node for node in graph.nodes if graph.is_layer(node) and layer_name(node) in layers]
    straight = {node.output[0] for node in chosen if graph.single_reader(node.output[0]) is not None}
    for node in chosen:
        _read(graph, reads, node, 0)
    for node in graph.nodes:
        if node.op_type == "Add" and straight.intersection(node.input) and not any(name in graph.constants for name in node.input):
            identity = [index for index, name in enumerate(node.input) if name not in straight] or [1]
            for index in (0, 1) if target == "cpu" else identity:
                _read(graph, reads, node, index)
            if target == "cpu":
                _read_by_all(graph, reads, graph.activated(node))
    if target == "cpu":
        for node in chosen:
            _read_by_all(graph, reads, graph.activated(node))
        for node in graph.nodes:
            if graph.is_layer(node) and layer_name(node) not in layers and _is_read(graph, reads, graph.activated(node)):
                reads.pop((node.output[0], 0), None)
    return reads


def calibrated_tensors(graph: Graph, target: str) -> list[str]:
    """All tensors whose range may be asked for, in the order of the graph: layers that return to float ask for no others."""
    wanted = set(quantised_reads(graph, set(quantisable_layers(graph)), target).values())
    return [name for name in [*graph.inputs, *graph.producer] if name in wanted]


def read_by_layers(graph: Graph) -> list[str]:
    """The tensors that the layers of `quantisable_layers` read, in the order of the graph."""
    layers = set(quantisable_layers(graph))
    return list(dict.fromkeys(node.input[0] for node in graph.nodes if graph.is_layer(node) and layer_name(node) in layers))


def _read(graph: Graph, reads: Reads, node: onnx.NodeProto, index: int) -> None:
    """``node`` reads its input quantised; so do the moves that the input went through, which then move single bytes."""
    root = graph.root(node.input[index])
    reads[node.output[0], index] = root
    tensor = node.input[index]
    while tensor != root:
        mover = graph.producer[tensor]
        reads[mover.output[0], 0] = root
        tensor = mover.input[0]


def _read_by_all(graph: Graph, reads: Reads, tensor: str) -> None:
    """Everybody reads ``tensor`` quantised, unless it is what the model puts out or a normalisation wants it in full."""
    readers = graph.readers.get(tensor, [])
    if tensor in graph.outputs or any(reader.op_type == "BatchNormalization" for reader, _ in readers):
        return
    for reader, index in readers:
        reads.setdefault((reader.output[0], index), graph.root(tensor))


def _is_read(graph: Graph, reads: Reads, tensor: str) -> bool:
    """Whether anybody reads ``tensor`` quantised."""
    return any((reader.output[0], index) in reads for reader, index in graph.readers.get(tensor, []))


def _tail(graph: Graph) -> set[str]:
    """First outputs of the layers that only write the map: the last one, whose rounding nothing evens out any more, and the convolutions before
    it that are as narrow."""
    tail: set[str] = set()
    todo = [(name, True) for name in graph.outputs]
    while todo:
        tensor, is_last = todo.pop()
        node = graph.producer.get(tensor)
        if node is None or node.output[0] in tail:
            continue
        if not graph.is_layer(node):
            todo += [(name, is_last) for name in node.input if name not in graph.constants]
        elif is_last or _is_narrow(graph, node):
            tail.add(node.output[0])
            todo.append((node.input[0], False))
    return tail


def _is_narrow(graph: Graph, node: onnx.NodeProto) -> bool:
    """A convolution to as few channels as the map has."""
    return node.op_type in ("Conv", "ConvTranspose") and graph.constants[node.input[1]].dims[node.op_type == "ConvTranspose"] in NARROW
