"""Equalisation changes no output, and channels of a tensor become alike."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from calibration.precision.channel_groups import channel_groups
from calibration.precision.equalise import LEAST, channel_peaks, choose_factors, equalise, equalised_tensors
from calibration.precision.graph_view import Graph
from calibration.ranges.sessions import Session
from tests.calibration.small import SIZE, small_network

LINKED = [
    "stem_relu_y",
    "depth_relu_y",
    "point_relu_y",
    "inner_relu_y",
    "sum_relu_y",
    "wide_relu_y",
]  # before a layer or an addition


def images(seed: int = 0, count: int = 4) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.random((1, 3, SIZE, SIZE), np.float32) for _ in range(count)]


def output(model: onnx.ModelProto, image: np.ndarray) -> np.ndarray:
    return Session(model.SerializeToString(), ["position_map"], threads=1)(image)[0]


def grouped(model: onnx.ModelProto) -> list[list[str]]:
    return [[name for name in group.tensors if name.endswith("relu_y")] for group in channel_groups(Graph(model))]


def test_additions_tie_tensors_together_and_what_is_moved_or_put_out_stays():
    """Neither what DepthToSpace mixes (phases) nor the map itself (narrow); what two nodes read is as good as what
    one reads."""
    assert grouped(small_network()) == [
        ["stem_relu_y"],
        ["depth_relu_y"],
        ["point_relu_y", "sum_relu_y"],
        ["inner_relu_y"],
        ["wide_relu_y"],
    ]
    assert equalised_tensors(Graph(small_network()), ["image", "depth_relu_y", "phases_relu_y", "sum_relu_y"]) == [
        "depth_relu_y",
        "sum_relu_y",
    ]


def test_outputs_stay_and_depthwise_inputs_become_even():
    model = small_network()
    tensors = LINKED
    before = channel_peaks(model, tensors, images(), 4)
    changed = equalise(Graph(model), choose_factors(Graph(model), before)).model
    after = channel_peaks(changed, tensors, images(), 4)
    np.testing.assert_allclose(output(changed, images(1)[0]), output(model, images(1)[0]), atol=1e-5)
    live = before["stem_relu_y"] > LEAST * before["stem_relu_y"].max()
    assert np.ptp(before["stem_relu_y"][live]) > 0.1
    np.testing.assert_allclose(after["stem_relu_y"][live], before["stem_relu_y"].max(), rtol=1e-5)
    # A pointwise layer takes half of the unevenness (in logarithms); the depthwise weights before it differ a
    # hundredfold.
    ratio = [np.ptp(np.log(np.maximum(peaks["depth_relu_y"], 1e-6))) for peaks in (before, after)]
    assert ratio[1] < 0.75 * ratio[0]


def test_channels_that_are_never_used_get_the_least_factor():
    model = small_network()
    peaks = {name: np.where(np.arange(8) == 3, 0, 1).astype(np.float32) for name in LINKED}
    factors = choose_factors(Graph(model), peaks)
    assert factors["stem_relu_y"][3] == np.float32(LEAST)
    assert (np.delete(factors["stem_relu_y"], 3) == 1).all()


@pytest.mark.parametrize("transposed", [False, True])
def test_gemm_after_a_reshape(transposed):
    """The latent of the edge network: a convolution down to one pixel, reshaped, and a matrix either way round."""
    generator = np.random.default_rng(0)
    matrix = generator.normal(size=(6, 5) if transposed else (5, 6)).astype(np.float32)
    constants = {
        "c": generator.normal(size=(5, 3, SIZE, SIZE)),
        "b": generator.normal(size=5),
        "m": matrix,
        "d": generator.normal(size=6),
    }
    nodes = [
        helper.make_node("Conv", ["image", "c", "b"], ["c_y"], "squeeze"),
        helper.make_node("Reshape", ["c_y", "shape"], ["flat"], "flat"),
        helper.make_node("Gemm", ["flat", "m", "d"], ["position_map"], "expand", transB=int(transposed)),
    ]
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()]
    tensors.append(numpy_helper.from_array(np.array([0, -1]), "shape"))
    ends = [
        helper.make_tensor_value_info(name, 1, shape)
        for name, shape in (("image", ["N", 3, SIZE, SIZE]), ("position_map", ["N", 6]))
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors),
        ir_version=8,
        opset_imports=[helper.make_opsetid("", 17)],
    )
    assert equalised_tensors(Graph(model), ["image", "c_y"]) == ["c_y"]
    changed = equalise(Graph(model), choose_factors(Graph(model), channel_peaks(model, ["c_y"], images(), 4))).model
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in changed.graph.initializer}
    assert np.abs(weights["m"] - matrix).max() > 0.1
    np.testing.assert_allclose(output(changed, images(1)[0]), output(model, images(1)[0]), rtol=1e-4, atol=1e-3)


def test_shared_weights_part_ways():
    """Two layers with the same weights read channels of different sizes; the bias that they share is scaled for one
    of them only."""
    model = small_network()
    next(node for node in model.graph.node if node.name == "outer").input[1:] = ["inner", "inner_b"]
    factors = choose_factors(Graph(model), channel_peaks(model, LINKED, images(), 4))
    changed = equalise(Graph(model), factors).model
    np.testing.assert_allclose(output(changed, images(1)[0]), output(model, images(1)[0]), atol=1e-5)
    inputs = {node.name: list(node.input) for node in changed.graph.node}
    assert inputs["inner"][1] != inputs["outer"][1]


def test_normalisation_behind_an_addition_takes_factors_on_both_sides():
    """As in PRNet's residual blocks, whose gain and offset may be one constant."""
    model = small_network()
    generator = np.random.default_rng(3)
    for name, values in (
        ("gain", generator.uniform(0.5, 2, 8)),
        ("mean", generator.normal(size=8)),
        ("variance", generator.uniform(0.5, 2, 8)),
    ):
        model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    relu = next(node for node in model.graph.node if node.name == "sum_relu")
    norm = helper.make_node("BatchNormalization", ["sum_y", "gain", "gain", "mean", "variance"], ["norm_y"], "norm")
    model.graph.node.insert(list(model.graph.node).index(relu), norm)
    relu.input[0] = "norm_y"
    assert [names for names in grouped(model) if {"point_relu_y", "sum_relu_y"} & set(names)] == [
        ["point_relu_y"],
        ["sum_relu_y"],
    ]
    peaks = {
        name: np.geomspace(0.1, 3, 8).astype(np.float32)[::step]
        for name, step in (("point_relu_y", 1), ("sum_relu_y", -1))
    }
    changed = equalise(Graph(model), choose_factors(Graph(model), peaks)).model
    np.testing.assert_allclose(output(changed, images(1)[0]), output(model, images(1)[0]), atol=1e-5)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in changed.graph.initializer}
    assert np.abs(constants["mean"] - numpy_helper.to_array(model.graph.initializer[-2])).max() > 0.1
