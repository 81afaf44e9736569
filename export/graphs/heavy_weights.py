"""The weights of a network of hundreds of megabytes, kept out of its graph while it is exported.

A step that copies or serialises the graph would copy UH-E2FAR's 540 MB, too. So its weights become inputs of the graph,
which ONNX Runtime reads where they lie, and go into the file piece by piece in the end:

    initialiser W ─ Gemm          becomes          input W ─ Gemm, and an array W beside the graph

Rewrites see no constants in such layers and leave them alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from calibration.precision.graph_view import LAYERS
from calibration.precision.half import unfit

LEAST_MODEL_BYTES = 1 << 28  # of the weights of a network that is treated so,
LEAST_BYTES = 1 << 20  # of each of them
# Tags of protocol buffers for the fields ModelProto.graph, GraphProto.initializer and TensorProto.raw_data.
GRAPH_TAG, INITIALIZER_TAG, RAW_DATA_TAG = b"\x3a", b"\x2a", b"\x4a"

Weights = Mapping[str, NDArray]  # heavy tensors by name


def take_out_of_program(model: ir.Model) -> dict[str, NDArray[np.float32]]:
    """Make inputs of the heavy weights of an exported program, in place; return them. Nothing is copied."""
    graph = model.graph
    heavy: dict[str, NDArray[np.float32]] = {}
    if sum(value.const_value.nbytes for value in graph.initializers.values()) < LEAST_MODEL_BYTES:
        return heavy
    operands = {node.inputs[1].name for node in graph if node.op_type in LAYERS and node.inputs[1] is not None}
    for name in [name for name in graph.initializers if name in operands]:
        value = graph.initializers[name]
        if value.const_value.nbytes >= LEAST_BYTES:
            heavy[name] = value.const_value.numpy()
            del graph.initializers[name]
            value.const_value = None
            graph.inputs.append(value)
    return heavy


def take_out(model: onnx.ModelProto) -> dict[str, NDArray[np.float32]]:
    """Make inputs of the heavy FP32 weights of ``model``, in place; return them."""
    graph = model.graph
    if model.ByteSize() < LEAST_MODEL_BYTES:
        return {}
    operands = {node.input[1] for node in graph.node if node.op_type in LAYERS}
    declared = {value.name for value in graph.input}
    heavy = {}
    for place in reversed(range(len(graph.initializer))):
        tensor = graph.initializer[place]
        is_large = tensor.data_type == TensorProto.FLOAT and 4 * math.prod(tensor.dims) >= LEAST_BYTES
        if is_large and tensor.name in operands:
            heavy[tensor.name] = numpy_helper.to_array(tensor)
            if tensor.name not in declared:
                graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
            del graph.initializer[place]
    return heavy


def put_back(model: onnx.ModelProto, heavy: Weights) -> onnx.ModelProto:
    """Return a copy of ``model`` that holds its heavy weights."""
    return onnx.load_model_from_string(b"".join(pieces(model, heavy))) if heavy else model


def halved(model: onnx.ModelProto, heavy: dict[str, NDArray]) -> onnx.ModelProto:
    """Return ``model`` with those heavy weights as FP16 inputs that only FP16 layers read; ``heavy`` is changed, too.

    `calibration.precision.half.to_half` has put a Cast behind each.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    for name in list(heavy):
        readers = [node for node in graph.node if name in node.input]
        if [node.op_type for node in readers] == ["Cast"]:
            target = readers[0].output[0]
            graph.node.remove(readers[0])
            declared = next(value for value in graph.input if value.name == name)
            declared.name, declared.type.tensor_type.elem_type = target, TensorProto.FLOAT16
            heavy[target] = heavy.pop(name).astype(np.float16)
    return result


def readers_unfit_for_half(model: onnx.ModelProto, heavy: Weights) -> dict[str, str]:
    """Return for names of nodes the reason why half precision cannot hold the heavy weights that they read."""
    reasons = {name: unfit(name, array) for name, array in heavy.items()}
    return {node.name: reasons[name] for node in model.graph.node for name in node.input if reasons.get(name)}


def pieces(model: onnx.ModelProto, heavy: Weights) -> Iterator[bytes | memoryview]:
    """Yield the file of ``model`` with its heavy weights, piece by piece.

    A protocol buffer may be cut: the parts of a message that lie one behind the other are merged when it is read. So
    each heavy weight is a model of its own behind the first one, with nothing but this initialiser.
    """
    light = model
    if heavy:
        light = onnx.ModelProto()
        light.CopyFrom(model)
        inputs = [value for value in model.graph.input if value.name not in heavy]
        del light.graph.input[:]
        light.graph.input.extend(inputs)
    yield light.SerializeToString(deterministic=True)
    for name, array in heavy.items():
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        data = memoryview(np.ascontiguousarray(array)).cast("B")
        tensor = TensorProto(name=name, dims=array.shape, data_type=kind).SerializeToString()
        tensor += RAW_DATA_TAG + _varint(len(data))
        initialiser = INITIALIZER_TAG + _varint(len(tensor) + len(data)) + tensor
        yield GRAPH_TAG + _varint(len(initialiser) + len(data)) + initialiser
        yield data


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the highest bit says that more follow."""
    result = bytearray()
    while value > 127:
        result.append(value & 127 | 128)
        value >>= 7
    return bytes([*result, value])
