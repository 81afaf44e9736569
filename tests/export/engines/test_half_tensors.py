"""FP16 at the ends of a network changes no number."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from export.engines.engine_source import open_source
from export.engines.half_tensors import with_half_ends
from runtime.models.shipped import SHIPPED

ort = pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
HALF, FLOAT = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT


def run(model, image):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: image})


def kinds(model):
    return [value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)]


def test_the_shipped_model_takes_half_and_gives_float():
    """Its last sum is in FP32, to a hundredth of a pixel; the map must not be rounded behind it."""
    before = onnx.load(SHIPPED["fp16"])
    after = with_half_ends(before)
    onnx.checker.check_model(after, full_check=True)
    assert (kinds(before), kinds(after)) == ([FLOAT] * 3, [HALF, FLOAT, FLOAT])
    size = before.graph.input[0].type.tensor_type.shape.dim[2].dim_value
    image = np.random.default_rng(0).uniform(0, 1, (2, 3, size, size)).astype(np.float32)
    rounded = image.astype(np.float16)  # ONNX Runtime leaves out what a cast there and back would round
    for found, expected in zip(run(after, rounded), run(before, rounded.astype(np.float32)), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def cast_model(between):
    """A float picture, cast to half, ``between``, and cast back."""
    helper = onnx.helper
    nodes = [
        helper.make_node("Cast", ["image"], ["image_half"], to=HALF),
        helper.make_node("Relu", ["image_half"], ["relu"]),
        *between,
        helper.make_node("Cast", ["relu"], ["map"], to=FLOAT),
    ]
    sides = [helper.make_tensor_value_info(name, FLOAT, [1, 3, 4, 4]) for name in ("image", "map")]
    graph = helper.make_graph(nodes, "g", sides[:1], sides[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def test_an_output_that_is_a_cast_becomes_half():
    image = np.random.default_rng(0).normal(size=(1, 3, 4, 4)).astype(np.float32)
    model = cast_model([])
    after = with_half_ends(model)
    onnx.checker.check_model(after, full_check=True)
    assert kinds(after) == [HALF, HALF]
    assert not [node for node in after.graph.node if node.op_type == "Cast"]
    (found,) = ReferenceEvaluator(after).run(None, {"image": image.astype(np.float16)})
    (expected,) = ReferenceEvaluator(model).run(None, {"image": image})
    np.testing.assert_array_equal(found.astype(np.float32), expected)


def test_an_input_that_others_read_stays():
    model = cast_model([onnx.helper.make_node("Abs", ["image"], ["unused"])])
    assert kinds(with_half_ends(model))[0] == FLOAT


def test_engines_are_built_of_it():
    source = open_source(SHIPPED["fp16"])
    assert kinds(onnx.load_model_from_string(source.data))[0] == HALF
    assert open_source(SHIPPED["fp32"]).data == SHIPPED["fp32"].read_bytes()
