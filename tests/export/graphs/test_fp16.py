"""FP16 in the graph: what is half, what stays, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx_ir")

from onnx import TensorProto, helper, numpy_helper

from calibration.precision.half_rounding import with_rounding
from export.graphs.fp16 import to_fp16
from export.graphs.verify import run_model, run_outputs
from runtime.errors import FaceMeshError
from tests.export.small_graphs import conv_graph, norm_node, normalisation, weights

IMAGES = np.random.default_rng(0).normal(size=(3, 4, 12, 12)).astype(np.float32)


def network(scale=1.0, activation="Sigmoid", **constants):
    """first ─ norm ─ second ─ activation."""
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["a"], "first"),
        norm_node("a", "b"),
        helper.make_node("Conv", ["b", "v", "c"], ["d"], "second"),
        helper.make_node(activation, ["d"], ["position_map"], "last"),
    ]
    return conv_graph(
        nodes,
        {"w": scale * weights(4, 4, 3, 3), "v": weights(3, 4, 3, 3), "c": weights(3), **normalisation(4), **constants},
    )


def types(model):
    return {tensor.name: tensor.data_type for tensor in model.graph.initializer}


def test_everything_but_the_tail_is_half():
    model = network()
    half, warnings = to_fp16(model)
    assert not warnings
    assert {*types(half).values()} == {TensorProto.FLOAT16}
    assert [node.op_type for node in half.graph.node] == [
        "Cast",
        "Conv",
        "BatchNormalization",
        "Conv",
        "Cast",
        "Sigmoid",
    ]
    assert {value.type.tensor_type.elem_type for value in [*half.graph.input, *half.graph.output]} == {
        TensorProto.FLOAT
    }
    expected, outputs = run_model(model, IMAGES, "position_map"), run_model(with_rounding(half), IMAGES, "position_map")
    assert expected.std(0).max() > 0.1
    assert 1e-6 < np.abs(outputs - expected).max() < 3e-3


def test_confidence_head_stays_in_full_precision():
    """Everything that leads to the map becomes what it becomes without the head."""
    alone = network()
    v = 9 * weights(4, 1, seed=3)
    model = network(h=np.hstack([v, -v]), k=np.float32([0.1, 0.2]), g=weights(2, 1, seed=5))
    model.graph.node.extend(
        [
            helper.make_node("AveragePool", ["b"], ["mean"], "mean", kernel_shape=[10, 10]),
            helper.make_node("Flatten", ["mean"], ["flat"], "flat"),
            helper.make_node("Gemm", ["flat", "h", "k"], ["units"], "units"),
            helper.make_node("Relu", ["units"], ["live"], "live"),
            helper.make_node("Gemm", ["live", "g"], ["odds"], "odds"),
            helper.make_node("Sigmoid", ["odds"], ["sure"], "sure"),
        ]
    )
    model.graph.output.append(helper.make_tensor_value_info("sure", TensorProto.FLOAT, ["N", 1]))
    half, warnings = to_fp16(model)
    assert not warnings
    held = types(half)
    assert {name for name, kind in held.items() if kind == TensorProto.FLOAT} == {"h", "k", "g"}
    without = to_fp16(alone)[0]
    names = ["position_map", "sure"]
    expected, found = (run_outputs(with_rounding(m), IMAGES, names) for m in (model, half))
    np.testing.assert_array_equal(found["position_map"], run_model(with_rounding(without), IMAGES, "position_map"))
    assert 0 < np.abs(found["sure"] - expected["sure"]).max() < 3e-3
    assert expected["sure"].std() > 0.01


@pytest.mark.parametrize(("mode", "is_half"), [("nearest", True), ("linear", False)])
def test_enlarging_copies_in_half_precision(mode, is_half):
    """Its scales stay float32, as the operator wants them; one that computes new pixels stays as it is."""
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["a"], "first"),
        helper.make_node("Resize", ["a", "", "scales"], ["b"], "enlarge", mode=mode),
        helper.make_node("Conv", ["b", "v"], ["position_map"], "second"),
    ]
    constants = {"w": weights(4, 4, 3, 3), "v": weights(3, 4, 3, 3), "scales": np.float32([1, 1, 2, 2])}
    model = conv_graph(nodes, constants)
    half, _ = to_fp16(model)
    assert types(half)["scales"] == TensorProto.FLOAT
    assert [node.op_type for node in half.graph.node].count("Cast") == (2 if is_half else 4)
    expected, outputs = run_model(model, IMAGES, "position_map"), run_model(with_rounding(half), IMAGES, "position_map")
    assert 1e-6 < np.abs(outputs - expected).max() < 1e-2


def test_outputs_of_one_kind_are_all_half():
    """A detector's levels: none of them is taken for a confidence."""
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["position_map"], "first"),
        helper.make_node("Conv", ["image", "v"], ["coarse"], "second", strides=[2, 2]),
    ]
    model = conv_graph(nodes, {"w": weights(3, 4, 3, 3), "v": weights(3, 4, 3, 3)})
    model.graph.output.append(helper.make_tensor_value_info("coarse", TensorProto.FLOAT, ["N", 3, 5, 5]))
    assert {*types(to_fp16(model)[0]).values()} == {TensorProto.FLOAT16, TensorProto.FLOAT}
    assert {*types(to_fp16(model, alike=True)[0]).values()} == {TensorProto.FLOAT16}


def test_node_on_the_keep_list_stays():
    half, _ = to_fp16(network(), keep=["second"])
    by_name = {node.name: node for node in half.graph.node}
    assert {types(half)[name] for name in by_name["second"].input[1:]} == {TensorProto.FLOAT}
    assert types(half)[by_name["first"].input[1]] == TensorProto.FLOAT16
    run_model(half, IMAGES, "position_map")


def test_keeping_everything_changes_nothing():
    model = network()
    half, _ = to_fp16(model, keep=[node.name for node in model.graph.node])
    outputs = run_model(half, IMAGES, "position_map")
    np.testing.assert_allclose(outputs, run_model(model, IMAGES, "position_map"), atol=1e-6)
    assert not [node for node in half.graph.node if node.op_type == "Cast"]


def test_unknown_name_on_the_keep_list_is_refused():
    with pytest.raises(FaceMeshError, match="no node is called third"):
        to_fp16(network(), keep=["third"])


@pytest.mark.parametrize(
    ("scale", "reason"), [(1e6, "half precision ends at 65504"), (1e-6, "below the normal numbers")]
)
def test_weights_that_half_cannot_hold_stay_with_a_warning(scale, reason):
    model = network(scale=np.float32(scale))
    half, warnings = to_fp16(model)
    assert len(warnings) == 1
    assert "first (Conv) stays in FP32" in warnings[0]
    assert reason in warnings[0]
    assert np.isfinite(run_model(half, IMAGES, "position_map")).all()


def test_small_variance_survives():
    """1e-7 is 0 in half precision with the usual epsilon; its scale of 30 is not."""
    model = network(nvariance=np.full(4, 1e-7, np.float32), nmean=np.zeros(4, np.float32))
    outputs = run_model(with_rounding(to_fp16(model)[0]), IMAGES, "position_map")
    np.testing.assert_allclose(outputs, run_model(model, IMAGES, "position_map"), atol=0.02)


def test_bias_of_the_last_product_is_added_in_full_precision():
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["rows"], "expand", transB=1),
        helper.make_node("Reshape", ["rows", "shape"], ["position_map"]),
    ]
    bias = np.linspace(0.5, 1, 48).astype(np.float32)
    model = conv_graph(nodes, {"w": 0.05 * weights(48, 576, seed=3), "b": bias, "shape": np.array([-1, 3, 4, 4])})
    half, _ = to_fp16(model)
    assert [node.op_type for node in half.graph.node] == ["Cast", "Flatten", "Gemm", "Cast", "Add", "Reshape"]
    difference = np.abs(
        run_model(with_rounding(half), IMAGES, "position_map") - run_model(model, IMAGES, "position_map")
    )
    assert difference.max() < 2**-13  # a result near 1 in half precision alone is up to 2^-12 off


def test_output_that_a_half_node_computes_keeps_name_and_type():
    model = network(activation="Relu")
    del model.graph.node[3]
    model.graph.node[2].output[0] = "position_map"
    half, _ = to_fp16(model)
    assert half.graph.output[0].name == "position_map"
    assert half.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    np.testing.assert_allclose(
        run_model(half, IMAGES, "position_map"), run_model(model, IMAGES, "position_map"), atol=0.02
    )


def test_quantised_model_is_refused():
    scale = {"s": np.float32(0.1), "z": np.int8(0)}
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["position_map"]),
    ]
    with pytest.raises(FaceMeshError, match="quantised already"):
        to_fp16(conv_graph(nodes, scale))


def test_half_precision_model_is_refused():
    half, _ = to_fp16(network())
    with pytest.raises(FaceMeshError, match="in half precision already"):
        to_fp16(half)


def test_rounding_is_that_of_numpy():
    half, _ = to_fp16(network())
    rounded = with_rounding(half)
    first = next(node for node in half.graph.node if node.name == "first")
    for model in (half, rounded):
        model.graph.output.append(
            helper.make_tensor_value_info(
                first.output[0], TensorProto.FLOAT16 if model is half else TensorProto.FLOAT, None
            )
        )
    values = run_model(rounded, IMAGES, first.output[0])
    np.testing.assert_array_equal(values, values.astype(np.float16).astype(np.float32))
    assert {numpy_helper.to_array(tensor).dtype for tensor in rounded.graph.initializer} == {np.dtype(np.float32)}
