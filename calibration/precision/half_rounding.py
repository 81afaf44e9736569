"""Round like a device: ONNX Runtime's CPU keeps more digits.

ONNX Runtime has no float16 kernels for CPUs. It computes in float32 and keeps float32 between the nodes, so a float16
model looks better there than it is.

    ─ node in float16 ─        becomes        ─ node in float32 ─ Cast to float16 ─ Cast to float32 ─

Casts of the model itself are obeyed.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def with_rounding(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a float32 model that rounds every float16 tensor of ``model`` to half precision explicitly."""
    result = onnx.shape_inference.infer_shapes(model)
    graph = result.graph
    half = {value.name for value in graph.value_info if value.type.tensor_type.elem_type == TensorProto.FLOAT16}

    # Constants hold rounded numbers already: only their type changes.
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            rounded = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(rounded, tensor.name))

    # Inputs in float16 are weights, see `export.graphs.heavy_weights`.
    nodes = []
    for value in graph.input:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
            nodes.append(helper.make_node("Cast", [value.name], [f"{value.name}_exact"], to=TensorProto.FLOAT))
            for node in graph.node:
                node.input[:] = [f"{name}_exact" if name == value.name else name for name in node.input]

    # Each float16 output goes through two casts.
    for node in graph.node:
        typed = [(index, name) for index, name in enumerate(node.output) if name in half]
        nodes.append(node)
        for index, name in typed:
            node.output[index] = f"{name}_exact"
            nodes.append(helper.make_node("Cast", [f"{name}_exact"], [f"{name}_rounded"], to=TensorProto.FLOAT16))
            nodes.append(helper.make_node("Cast", [f"{name}_rounded"], [name], to=TensorProto.FLOAT))
        if typed and node.op_type == "Cast":  # to float16: the first of the two new ones does it
            node.attribute[0].i = TensorProto.FLOAT
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    return result
