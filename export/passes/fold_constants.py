"""Compute constant nodes once.

    Constant ─ Shape ─ Concat ─ Reshape ─ pads of a Pad        becomes        initialiser ─ pads of a Pad

Exporters spell padding out as a dozen small nodes, and the other passes read numbers, not nodes. Nodes are evaluated by
the reference implementation of ONNX, one by one; results beyond a megabyte stay as they are. Nodes that pass their
input through (Identity, a Cast to the same type) go too.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from export.passes.graph import bypass, constant, new_constant

LARGEST_RESULT = 1 << 20  # bytes
# Random numbers, control flow (its subgraphs read what the node does not name), and what keeps a quantised weight
# small.
EXCLUDED = {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"}
EXCLUDED |= {"If", "Loop", "Scan", "DequantizeLinear"}


def run(model: ir.Model) -> bool:
    """Fold everything that hangs on constants alone."""
    changed = False
    for node in list(model.graph):
        if _passes_through(node):
            bypass(model, node, node.inputs[0])
            changed = True
            continue
        result = _value_of(node, model.opset_imports[""])
        if result is not None:
            output = node.outputs[0]
            value = new_constant(model, f"{output.name}_folded", result)
            bypass(model, node, value)
            changed = True
    return changed


def _passes_through(node: ir.Node) -> bool:
    """The output is the first input, and the graph does not need a node to name it."""
    if node.domain != "" or node.outputs[0].is_graph_output():
        return False
    source = node.inputs[0] if node.inputs else None
    if node.op_type == "CastLike":
        return source.dtype is not None and source.dtype == node.inputs[1].dtype
    if node.op_type == "Cast":
        return source.dtype is not None and source.dtype == node.attributes.get_int("to")
    return node.op_type == "Identity" or (node.op_type == "Dropout" and not node.outputs[1:] and len(node.inputs) < 3)


def _value_of(node: ir.Node, opset: int) -> NDArray | None:
    """Return the node's only output if it can be computed now."""
    if node.domain != "" or node.op_type in EXCLUDED or len(node.outputs) != 1 or node.outputs[0].is_graph_output():
        return None
    if (
        node.op_type == "Shape"
        and not node.attributes
        and node.inputs[0].shape is not None
        and node.inputs[0].shape.is_static()
    ):
        return np.array(node.inputs[0].shape.numpy(), np.int64)
    arrays = {value.name: constant(value) for value in node.inputs if value is not None}
    if any(array is None for array in arrays.values()):
        return None
    inputs = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), None)
        for name, array in arrays.items()
    ]
    output = onnx.ValueInfoProto(name=node.outputs[0].name)
    graph = onnx.helper.make_graph([ir.to_proto(node)], "constant", inputs, [output])
    (result,) = ReferenceEvaluator(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    ).run(None, arrays)
    return result if result.nbytes <= LARGEST_RESULT else None
