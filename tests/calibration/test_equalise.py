"""Equalisation changes no output, and channels of a tensor become alike."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from calibration.equalise import LEAST, channel_peaks, choose_factors, equalise, linked_tensors
from calibration.sessions import Session
from tests.calibration.small import SIZE, small_network


def images(seed: int = 0, count: int = 4) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.random((1, 3, SIZE, SIZE), np.float32) for _ in range(count)]


def output(model: onnx.ModelProto, image: np.ndarray) -> np.ndarray:
    return Session(model.SerializeToString(), ["position_map"], threads=1)(image)[0]


def test_only_tensors_between_two_layers_are_linked():
    """Not what an addition or a DepthToSpace reads, nor what two nodes read."""
    assert linked_tensors(small_network()) == ["stem_relu_y", "depth_relu_y", "inner_relu_y", "wide_relu_y"]


def test_outputs_stay_and_depthwise_inputs_become_even():
    model = small_network()
    tensors = linked_tensors(model)
    before = channel_peaks(model, tensors, images(), 4)
    changed = equalise(model, choose_factors(model, before))
    after = channel_peaks(changed, tensors, images(), 4)
    np.testing.assert_allclose(output(changed, images(1)[0]), output(model, images(1)[0]), atol=1e-5)
    live = before["stem_relu_y"] > LEAST * before["stem_relu_y"].max()
    assert np.ptp(before["stem_relu_y"][live]) > 0.1
    np.testing.assert_allclose(after["stem_relu_y"][live], before["stem_relu_y"].max(), rtol=1e-5)
    # A pointwise layer takes half of the unevenness (in logarithms); the depthwise weights before it differ a hundredfold.
    ratio = [np.ptp(np.log(np.maximum(peaks["depth_relu_y"], 1e-6))) for peaks in (before, after)]
    assert ratio[1] < 0.75 * ratio[0]


def test_channels_that_are_never_used_get_the_least_factor():
    model = small_network()
    peaks = {name: np.where(np.arange(8) == 3, 0, 1).astype(np.float32) for name in linked_tensors(model)}
    factors = choose_factors(model, peaks)
    assert factors["stem_relu_y"][3] == np.float32(LEAST)
    assert (np.delete(factors["stem_relu_y"], 3) == 1).all()


@pytest.mark.parametrize("transposed", [False, True])
def test_gemm_after_a_reshape(transposed):
    """The latent of the edge network: a convolution down to one pixel, reshaped, and a matrix either way round."""
    generator = np.random.default_rng(0)
    matrix = generator.normal(size=(6, 5) if transposed else (5, 6)).astype(np.float32)
    constants = {"c": generator.normal(size=(5, 3, SIZE, SIZE)), "b": generator.normal(size=5), "m": matrix, "d": generator.normal(size=6)}
    nodes = [
        helper.make_node("Conv", ["image", "c", "b"], ["c_y"], "squeeze"),
        helper.make_node("Reshape", ["c_y", "shape"], ["flat"], "flat"),
        helper.make_node("Gemm", ["flat", "m", "d"], ["position_map"], "expand", transB=int(transposed)),
    ]
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()]
    tensors.append(numpy_helper.from_array(np.array([0, -1]), "shape"))
    ends = [helper.make_tensor_value_info(name, 1, shape) for name, shape in (("image", ["N", 3, SIZE, SIZE]), ("position_map", ["N", 6]))]
    model = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors), ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    assert linked_tensors(model) == ["c_y"]
    changed = equalise(model, choose_factors(model, channel_peaks(model, ["c_y"], images(), 4)))
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in changed.graph.initializer}
    assert np.abs(weights["m"] - matrix).max() > 0.1
    np.testing.assert_allclose(output(changed, images(1)[0]), output(model, images(1)[0]), rtol=1e-4, atol=1e-3)


def test_shared_weights_are_left_alone():
    model = small_network()
    next(node for node in model.graph.node if node.name == "outer").input[1] = "inner"
    assert linked_tensors(model) == ["stem_relu_y", "depth_relu_y", "wide_relu_y"]
