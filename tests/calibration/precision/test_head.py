"""A confidence head beside the network: it stays in float, and the network becomes what it becomes without it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from calibration.precision.channel_groups import channel_groups
from calibration.precision.equalise import channel_peaks, choose_factors, equalise
from calibration.precision.graph_view import Graph
from calibration.precision.half_rounding import with_rounding
from calibration.precision.placement import TARGETS, quantisable_layers, quantised_reads
from calibration.precision.qdq import to_int8
from calibration.ranges.sessions import Session
from tests.calibration.precision.test_equalise import LINKED
from tests.calibration.precision.test_half import types
from tests.calibration.precision.test_qdq import LAYERS, images, outputs, table_for
from tests.calibration.small import small_network, with_head

HEAD = ("head_mean", "head_flat", "head_units", "head_live", "head_odds", "head_sigmoid")


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return with_head(small_network())


def confidence(model: onnx.ModelProto) -> np.ndarray:
    session = Session(with_rounding(model).SerializeToString(), ["confidence"], threads=1)
    brightness = np.linspace(0.1, 1, 12, dtype=np.float32)
    return np.concatenate([session(factor * image)[0] for factor, image in zip(brightness, images(12), strict=True)])


def test_the_branch_is_what_the_map_does_not_need(model):
    branch = Graph(model).side_branch()
    assert {node.name for node in model.graph.node if node.output[0] in branch} == {*HEAD}
    assert Graph(small_network()).side_branch() == set()


def test_the_head_is_no_candidate_for_int8_and_reads_what_the_network_reads(model):
    for target in TARGETS:
        assert quantisable_layers(Graph(model), target) == LAYERS
        alone = quantised_reads(Graph(small_network()), set(LAYERS), target)
        assert quantised_reads(Graph(model), set(LAYERS), target) == alone | {("head_mean", 0): "sum_relu_y"}


def test_the_head_reads_floats_where_the_network_does(model):
    """phases is the layer that has its input, sum_relu, quantised."""
    layers = {*LAYERS} - {"phases"}
    assert ("head_mean", 0) not in quantised_reads(Graph(model), layers, "tensorrt")


@pytest.mark.parametrize("floats", [(), ("outer", "phases")])
@pytest.mark.parametrize("target", TARGETS)
def test_int8_of_the_network_is_that_without_the_head(model, target, floats):
    layers = [layer for layer in LAYERS if layer not in floats]
    table = table_for(small_network(), target)
    assert table.ranges == table_for(model, target).ranges
    alone, both = (to_int8(Graph(each), layers, table) for each in (small_network(), model))
    np.testing.assert_array_equal(outputs(both), outputs(alone))
    names = {node.name for node in alone.graph.node}
    assert {node.name for node in both.graph.node} - names - {"sum_relu_y_to_float"} == {*HEAD}


@pytest.mark.parametrize("target", TARGETS)
def test_the_head_of_an_int8_model_computes_in_float32(model, target):
    int8 = to_int8(Graph(model), LAYERS, table_for(model, target))
    kinds = types(int8)
    assert {kinds[name] for name in HEAD} == {TensorProto.FLOAT}
    before, after = ({t.name: numpy_helper.to_array(t) for t in m.graph.initializer} for m in (model, int8))
    for name in ("head_w", "head_b", "head_v", "head_c"):
        np.testing.assert_array_equal(after[name], before[name])
    expected, found = confidence(model), confidence(int8)
    assert np.ptp(expected) > 0.1
    assert 0 < np.abs(found - expected).max() < 0.05
    assert np.corrcoef(found[:, 0], expected[:, 0])[0, 1] > 0.95


def test_equalisation_goes_through_the_head_and_does_not_mind_it(model):
    """The same groups and factors as without it, and the same confidence."""

    def groups(model):
        named = ([name for name in group.tensors if name.endswith("relu_y")] for group in channel_groups(Graph(model)))
        return [names for names in named if names]

    assert groups(model) == groups(small_network())
    factors = choose_factors(Graph(model), channel_peaks(model, LINKED, images(), 6))
    alone = choose_factors(Graph(small_network()), channel_peaks(small_network(), LINKED, images(), 6))
    assert factors.keys() == alone.keys()
    for name, values in factors.items():
        np.testing.assert_array_equal(values, alone[name])
    changed = equalise(Graph(model), factors).model
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in changed.graph.initializer}
    assert np.abs(weights["head_w"] - numpy_helper.to_array(Graph(model).constants["head_w"])).max() > 0.1
    np.testing.assert_allclose(confidence(changed), confidence(model), atol=1e-5)
    np.testing.assert_allclose(outputs(changed), outputs(model), atol=1e-5)


@pytest.mark.parametrize("pixels", [1, 4])
def test_a_flattening_of_several_pixels_ties_no_channels(pixels):
    """Two pixels of the mean would be two features of a channel."""
    model = with_head(small_network())
    node = next(node for node in model.graph.node if node.name == "head_mean")
    node.attribute[0].CopyFrom(helper.make_attribute("kernel_shape", [16, 16 // pixels]))
    for tensor in model.graph.initializer:
        if tensor.name == "head_w":
            tensor.CopyFrom(numpy_helper.from_array(np.ones((4, 8 * (17 - 16 // pixels)), np.float32), "head_w"))
    tied = any("sum_relu_y" in group.tensors for group in channel_groups(Graph(model)))
    assert tied == (pixels == 1)
