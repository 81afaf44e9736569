"""Turn a convolution that makes a vector into a matrix product.

    x ─ Conv(w (O, C, k, k), b) ─ Reshape ─ Gemm    ->    x ─ Reshape ─ Gemm(w (O, C · k · k), b) ─ Gemm

The network computes the same. In INT8 ONNX Runtime rounds what a convolution puts out, and a matrix product it need
not: the latent vector of an edge network keeps its precision.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from calibration.precision.channel_groups import is_flattening
from calibration.precision.graph_view import Graph, attribute

FLAT = "flat_input"  # end of the name of what such a Reshape puts out
BEHIND_BATCH = np.array([0, -1], np.int64)  # shape of a Reshape that flattens all but the batch


def vectors_by_products(graph: Graph) -> Graph:
    """Return the view of a copy of the model; a graph without such a convolution keeps its view."""
    makers = {node.output[0] for node in graph.nodes if _makes_vector(graph, node)}
    if not makers:
        return graph
    result = onnx.ModelProto()
    result.CopyFrom(graph.model)
    for name in ("node", "value_info"):
        del getattr(result.graph, name)[:]
    for node in graph.nodes:
        if node.output[0] in makers:
            result.graph.node.extend(_product(graph, node, result.graph))
        elif node.input[0] not in makers:
            result.graph.node.append(node)
    return Graph(result)


def unflattened(graph: Graph, node: onnx.NodeProto) -> str:
    """Return the name of what a layer reads; of such a matrix product, what it read as a convolution."""
    maker = graph.producer.get(node.input[0])
    return maker.input[0] if maker is not None and maker.name == f"{node.output[0]}_{FLAT}" else node.input[0]


def _makes_vector(graph: Graph, node: onnx.NodeProto) -> bool:
    """Return True for a convolution with one window, the whole input, whose result becomes a vector."""
    reader = graph.single_reader(node.output[0])
    if node.op_type != "Conv" or reader is None or not is_flattening(graph, reader):
        return False
    whole = {"pads": 0, "strides": 1, "dilations": 1}
    plain = all(set(entry.ints) <= {whole[entry.name]} for entry in node.attribute if entry.name in whole)
    padding = next((entry.s for entry in node.attribute if entry.name == "auto_pad"), b"NOTSET")
    return plain and padding in (b"NOTSET", b"VALID") and attribute(node, "group", 1) == 1


def _product(graph: Graph, node: onnx.NodeProto, target: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Return the two nodes for a convolution; their constants are added to ``target``."""
    weights = numpy_helper.to_array(graph.constants[node.input[1]])
    (vector,) = graph.single_reader(node.output[0]).output
    flat, rows, shape = (f"{vector}_{part}" for part in (FLAT, "rows", "shape"))
    target.initializer.append(numpy_helper.from_array(weights.reshape(len(weights), -1), rows))
    target.initializer.append(numpy_helper.from_array(BEHIND_BATCH, shape))
    return [
        helper.make_node("Reshape", [node.input[0], shape], [flat], flat),
        helper.make_node("Gemm", [flat, rows, *node.input[2:]], [vector], node.name, transB=1),
    ]
