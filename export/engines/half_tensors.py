"""FP16 at the ends of a network, where it holds FP16 there anyway: crop and decode on the device read and write it."""

from __future__ import annotations

import onnx
from onnx import TensorProto


def with_half_ends(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy without the casts behind the inputs and before the outputs.

    An input that nobody reads but casts to FP16 becomes FP16 itself, and so does an output that is a cast from FP16: no
    number changes. Other inputs and outputs stay as they are.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    for given in graph.input:
        readers = [node for node in graph.node if given.name in node.input]
        if readers and all(_casts_to(node, TensorProto.FLOAT16) for node in readers):
            for node in readers:
                _rename(graph, node.output[0], given.name)
                graph.node.remove(node)
            given.type.tensor_type.elem_type = TensorProto.FLOAT16
    halves = _half_tensors(copy)
    for result in graph.output:
        (maker,) = [node for node in graph.node if result.name in node.output]
        if _casts_to(maker, TensorProto.FLOAT) and maker.input[0] in halves:
            source = maker.input[0]
            graph.node.remove(maker)
            _rename(graph, source, result.name)
            result.type.tensor_type.elem_type = TensorProto.FLOAT16
    return copy


def _casts_to(node: onnx.NodeProto, kind: int) -> bool:
    return node.op_type == "Cast" and any(each.name == "to" and each.i == kind for each in node.attribute)


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name == old:
                    names[place] = new


def _half_tensors(model: onnx.ModelProto) -> set[str]:
    """Return the FP16 tensors that a node makes and that are no outputs themselves."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    return {value.name for value in graph.value_info if value.type.tensor_type.elem_type == TensorProto.FLOAT16}
