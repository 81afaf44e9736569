"""Layers that leave INT8 compute in FP16 for TensorRT, with casts where the types meet and nowhere else."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from calibration.precision.graph_view import Graph
from calibration.precision.half import float_layers_to_half, move_last_bias_out, to_half
from calibration.precision.half_rounding import with_rounding
from calibration.precision.qdq import insert_qdq, to_int8
from calibration.ranges.table import CalibrationTable, TensorRange
from tests.calibration.precision.test_qdq import LAYERS, outputs, table_for
from tests.calibration.small import small_network


def mixed(*floats: str, model: onnx.ModelProto | None = None) -> onnx.ModelProto:
    model = model or small_network()
    return to_int8(Graph(model), [layer for layer in LAYERS if layer not in floats], table_for(model, "tensorrt"))


def types(model: onnx.ModelProto) -> dict[str, int]:
    """Name of a node -> type of what it puts out."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    known = {value.name: value.type.tensor_type.elem_type for value in [*inferred.value_info, *inferred.output]}
    return {node.name: known[node.output[0]] for node in model.graph.node}


def casts(model: onnx.ModelProto) -> set[str]:
    return {node.input[0] for node in model.graph.node if node.op_type == "Cast"}


def test_int8_alone_has_casts_round_the_tail_only():
    """The convolution to 3 channels is FP16, the sigmoid behind it and all between INT8 layers stay FP32."""
    model = mixed()
    assert casts(model) == {"wide_relu_y", "narrow_y"}
    kinds = types(model)
    assert {name for name, kind in kinds.items() if kind == TensorProto.FLOAT16} == {"wide_relu_y_to_half", "narrow"}
    assert kinds["sigmoid"] == kinds["sum"] == kinds["shuffle"] == TensorProto.FLOAT
    assert (
        next(tensor for tensor in model.graph.initializer if tensor.name == "narrow_half").data_type
        == TensorProto.FLOAT16
    )
    assert "narrow" not in {tensor.name for tensor in model.graph.initializer}


def test_neighbours_share_one_island_with_the_addition_behind_them():
    """point ─┬─ inner ─ relu ─ outer ─┐          one cast for both readers of point, none between inner and outer,
    └────────────────────── Add ─ relu   and one after the ReLU that the addition's kernel takes in."""
    model = mixed("inner", "outer")
    kinds = types(model)
    assert all(kinds[name] == TensorProto.FLOAT16 for name in ("inner", "inner_relu", "outer", "sum", "sum_relu"))
    assert casts(model) == {"point_relu_y", "sum_relu_y", "wide_relu_y", "narrow_y"}
    readers = [node.name for node in model.graph.node if "point_relu_y_half" in node.input]
    assert readers == ["inner", "sum"]
    quantisers = {node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    assert quantisers >= {"depth_relu_y", "sum_relu_y_float"}


def test_moves_before_and_behind_are_made_in_half_the_bytes():
    behind, before = types(mixed("phases")), types(mixed("wide"))
    assert behind["phases_relu"] == TensorProto.FLOAT16
    assert behind["shuffle"] != TensorProto.FLOAT16  # the INT8 layer behind it wants single bytes
    assert before["shuffle"] == before["wide"] == TensorProto.FLOAT16


def test_everything_in_float_is_quantised_nowhere():
    model = mixed(*LAYERS)
    assert casts(model) == {"image", "narrow_y"}
    assert not [node for node in model.graph.node if node.op_type == "QuantizeLinear"]


def test_for_the_cpu_nothing_is_half():
    model = small_network()
    model = to_int8(Graph(model), LAYERS[:3], table_for(model, "cpu"))
    assert TensorProto.FLOAT16 not in types(model).values()


def test_result_is_that_of_float32_but_for_the_rounding_which_is_seen():
    model = small_network()
    layers = [layer for layer in LAYERS if layer not in ("inner", "outer")]
    plain = outputs(insert_qdq(Graph(model), layers, table_for(model, "tensorrt")))
    error = np.abs(outputs(with_rounding(mixed("inner", "outer"))) - plain)
    assert 1e-6 < error.mean() < error.max() < 0.02


def test_weights_that_half_cannot_hold_stay():
    model = small_network()
    for tensor in model.graph.initializer:
        if tensor.name == "inner":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1e6), "inner"))
    kinds = types(mixed("inner", "outer", model=model))
    assert (kinds["inner"], kinds["inner_relu"], kinds["outer"]) == (
        TensorProto.FLOAT,
        TensorProto.FLOAT,
        TensorProto.FLOAT16,
    )


@pytest.mark.parametrize("layers", [[], ["expand"]])
def test_bias_of_the_last_product_is_added_in_full_precision(layers):
    generator = np.random.default_rng(0)
    constants = {"w": generator.normal(size=(6, 12)), "b": generator.normal(size=6), "shape": np.array([0, -1])}
    nodes = [
        helper.make_node("Reshape", ["image", "shape"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "w", "b"], ["position_map"], "expand", transB=1),
    ]
    tensors = [
        numpy_helper.from_array(value.astype(np.int64 if name == "shape" else np.float32), name)
        for name, value in constants.items()
    ]
    ends = [
        helper.make_tensor_value_info(name, 1, shape)
        for name, shape in (("image", ["N", 3, 2, 2]), ("position_map", ["N", 6]))
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors),
        ir_version=8,
        opset_imports=[helper.make_opsetid("", 17)],
    )
    table = CalibrationTable("", "", 1, "minmax", "tensorrt", (), (), (TensorRange("image", 1.0, -1.0),))
    kinds = types(to_int8(Graph(model), layers, table))
    assert kinds["expand"] == (TensorProto.FLOAT if layers else TensorProto.FLOAT16)
    assert ("expand_bias" in kinds) == (not layers)
    assert kinds.get("expand_bias", TensorProto.FLOAT) == TensorProto.FLOAT


def test_an_output_in_half_keeps_its_name_and_type():
    model = small_network()
    halved = to_half(Graph(model), {"position_map", "narrow_y"})
    assert [value.name for value in halved.graph.output] == ["position_map"]
    assert types(halved)["position_map_to_float"] == TensorProto.FLOAT
    np.testing.assert_allclose(outputs(halved), outputs(model), atol=2e-3)


def test_models_without_a_last_product_are_left_alone():
    graph = Graph(small_network())
    assert move_last_bias_out(graph) is graph
    assert float_layers_to_half(graph).graph.node[0].op_type == "Cast"
