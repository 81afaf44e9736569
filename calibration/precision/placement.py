"""Choose the layers that become INT8, and the places of QuantizeLinear and DequantizeLinear ("Q/DQ").

TensorRT fuses a layer with what follows it up to the next Q, so that one pair before every layer is enough. Of the two
branches of a residual addition it wants one quantised: the one that does not come straight from a layer.

    relu ─┬─ Q/DQ ── Conv ── relu ── Q/DQ ── Conv ──┐
          └─ Q/DQ ─────────────────────────────── Add ── relu ── Q/DQ ── …

ONNX Runtime on CPUs fuses pairs on both sides of each layer and of each addition; without them it computes in float32.
It also quantises a layer of float weights between two pairs by itself, with one scale for all. So a layer that is to
stay in float must not read from DQ. A matrix product can put out float by itself: before a float layer its result is
not rounded. The first convolutions stay in float there, the stem: gathering their small windows from large tensors
takes longer than what INT8 saves.

The layers of a confidence head stay in float: they cost nothing, and rounding them would only make the head less sure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibration.precision.graph_view import Graph, gathers_few, layer_name
from runtime.errors import FaceMeshError

if TYPE_CHECKING:
    import onnx

TARGETS = ("tensorrt", "cpu")
STEM_PRODUCTS = 32  # a window with fewer products belongs to the stem, if all layers before it do
NARROW = (3, 12)  # channels of the map; 12 with 2 x 2 pixels computed at once, see export.passes.block_narrow

# (first output of the reading node, index of its input) -> tensor whose range is used
QuantisedReads = dict[tuple[str, int], str]


def quantisable_layers(graph: Graph, target: str) -> list[str]:
    """Return the names of the layers that become INT8 by default, in the order of the graph.

    These are all but the tail, which writes the map, the confidence head, and for CPUs the stem. Raises `FaceMeshError`
    if two layers have the same name.
    """
    left_out = _tail(graph) | graph.side_branch() | (_stem(graph) if target == "cpu" else set())
    names = [layer_name(node) for node in graph.nodes if graph.is_layer(node) and node.output[0] not in left_out]
    if len(set(names)) < len(names):
        raise FaceMeshError("two layers of the model have the same name; export it again with 'python -m export onnx'")
    return names


def quantised_reads(graph: Graph, layers: set[str], target: str) -> QuantisedReads:
    """Return every place that reads a quantised tensor if ``layers`` are INT8."""
    reads: QuantisedReads = {}

    # The inputs of the layers.
    chosen = [node for node in graph.nodes if graph.is_layer(node) and layer_name(node) in layers]
    for node in chosen:
        _read(graph, reads, node, 0)

    # One branch of each addition behind a layer; both for ONNX Runtime.
    straight = {node.output[0] for node in chosen if graph.single_reader(node.output[0]) is not None}
    for node in graph.nodes:
        if node.op_type != "Add" or not straight.intersection(node.input):
            continue
        if any(name in graph.constants for name in node.input):
            continue
        identity = [index for index, name in enumerate(node.input) if name not in straight] or [1]
        for index in (0, 1) if target == "cpu" else identity:
            _read(graph, reads, node, index)
        if target == "cpu":
            _read_by_all(graph, reads, graph.activated(node))

    if target == "cpu":
        _read_on_cpu(graph, reads, layers, chosen)
    _read_by_head(graph, reads)
    return reads


def calibrated_tensors(graph: Graph, target: str) -> list[str]:
    """Return all tensors that may need a range, in the order of the graph.

    Layers that return to float need no others.
    """
    wanted = set(quantised_reads(graph, set(quantisable_layers(graph, target)), target).values())
    return [name for name in [*graph.inputs, *graph.producer] if name in wanted]


def read_by_layers(graph: Graph, target: str) -> list[str]:
    """Return the tensors that the layers of `quantisable_layers` read, in the order of the graph."""
    layers = set(quantisable_layers(graph, target))
    nodes = [node for node in graph.nodes if graph.is_layer(node) and layer_name(node) in layers]
    return list(dict.fromkeys(node.input[0] for node in nodes))


def _read_on_cpu(graph: Graph, reads: QuantisedReads, layers: set[str], chosen: list[onnx.NodeProto]) -> None:
    """Add the pairs behind the ``chosen`` layers, and remove pairs before float layers with pairs on both sides."""
    floats = [node for node in graph.nodes if graph.is_layer(node) and layer_name(node) not in layers]
    float_outputs = {node.output[0] for node in floats}
    for node in chosen:
        readers = {reader.output[0] for reader, _ in graph.readers.get(node.output[0], [])}
        stays_float = node.op_type == "Gemm" and readers and readers <= float_outputs
        if not stays_float or node.output[0] in graph.outputs:
            _read_by_all(graph, reads, graph.activated(node))
    for node in floats:
        if _is_read(graph, reads, graph.activated(node)):
            reads.pop((node.output[0], 0), None)


def _read_by_head(graph: Graph, reads: QuantisedReads) -> None:
    """Let the confidence head read what the network reads: quantised tensors if there are any.

    A layer whose output is wanted in INT8 and in float has to write both.
    """
    quantised = set(reads.values())
    branch = graph.side_branch()
    for node in graph.nodes:
        for index, name in enumerate(node.input):
            if node.output[0] in branch and graph.root(name) in quantised:
                _read(graph, reads, node, index)


def _read(graph: Graph, reads: QuantisedReads, node: onnx.NodeProto, index: int) -> None:
    """Mark input ``index`` of ``node`` as quantised, and the moves before it too: they then move single bytes."""
    root = graph.root(node.input[index])
    reads[node.output[0], index] = root
    tensor = node.input[index]
    while tensor != root:
        mover = graph.producer[tensor]
        reads[mover.output[0], 0] = root
        tensor = mover.input[0]


def _read_by_all(graph: Graph, reads: QuantisedReads, tensor: str) -> None:
    """Mark every reader of ``tensor`` as quantised, except model outputs and BatchNormalization."""
    readers = graph.readers.get(tensor, [])
    if tensor in graph.outputs or any(reader.op_type == "BatchNormalization" for reader, _ in readers):
        return
    for reader, index in readers:
        reads.setdefault((reader.output[0], index), graph.root(tensor))


def _is_read(graph: Graph, reads: QuantisedReads, tensor: str) -> bool:
    """Return True if any node reads ``tensor`` quantised."""
    return any((reader.output[0], index) in reads for reader, index in graph.readers.get(tensor, []))


def _stem(graph: Graph) -> set[str]:
    """Return the first outputs of the convolutions before the first layer that is not one of few products."""
    stem: set[str] = set()
    reached = {*graph.inputs, *graph.constants}
    for node in graph.nodes:
        if not reached.issuperset(node.input):
            continue
        if graph.is_layer(node):
            if not gathers_few(graph, node, STEM_PRODUCTS):
                continue
            stem.add(node.output[0])
        reached.update(node.output)
    return stem


def _tail(graph: Graph) -> set[str]:
    """Return the first outputs of the layers that only write the map.

    These are the last layer, whose rounding nothing evens out any more, and the convolutions as narrow before it.
    """
    tail: set[str] = set()
    todo = [(name, True) for name in graph.outputs[:1]]
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
    """Return True for a convolution to as few channels as the map has."""
    if node.op_type not in ("Conv", "ConvTranspose"):
        return False
    axis = 1 if node.op_type == "ConvTranspose" else 0
    return graph.constants[node.input[1]].dims[axis] in NARROW
