"""The convolution that makes a latent vector becomes a matrix product, exactly, and keeps its precision in INT8."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from calibration.precision.graph_view import Graph
from calibration.precision.placement import TARGETS, calibrated_tensors, quantisable_layers, read_by_layers
from calibration.precision.qdq import insert_qdq
from calibration.precision.vector_products import vectors_by_products
from calibration.ranges.collect import collect
from calibration.ranges.sessions import Session
from calibration.ranges.table import CalibrationTable, ChannelValues, choose_ranges

LAYERS = ["wide", "squeeze"]


def vector_network(flatten: str = "Reshape", **attributes) -> onnx.ModelProto:
    """image (N, 5, 4, 4) ─ wide ─ relu ─ squeeze (4 × 4 window) ─ flatten ─ expand ─▶ position_map (N, 12)."""
    generator = np.random.default_rng(3)
    constants = {
        "wide": generator.normal(size=(16, 5, 3, 3)),
        "wide_b": generator.normal(size=16),
        "squeeze": generator.normal(size=(6, 16, 4, 4)),
        "squeeze_b": generator.normal(size=6),
        "expand": generator.normal(size=(12, 6)),
    }
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()]
    tensors.append(numpy_helper.from_array(np.array([-1, 6]), "shape"))
    nodes = [
        helper.make_node("Conv", ["image", "wide", "wide_b"], ["wide_y"], "wide", pads=[1] * 4),
        helper.make_node("Relu", ["wide_y"], ["wide_relu_y"], "wide_relu"),
        helper.make_node("Conv", ["wide_relu_y", "squeeze", "squeeze_b"], ["squeeze_y"], "squeeze", **attributes),
        helper.make_node(flatten, ["squeeze_y", *["shape"] * (flatten == "Reshape")], ["vector"], "flatten"),
        helper.make_node("Gemm", ["vector", "expand"], ["position_map"], "expand", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "vector",
        [helper.make_tensor_value_info("image", 1, ["N", 5, 4, 4])],
        [helper.make_tensor_value_info("position_map", 1, ["N", 12])],
        tensors,
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    return onnx.shape_inference.infer_shapes(model)


def crops() -> list[np.ndarray]:
    generator = np.random.default_rng(5)
    return [generator.normal(size=(1, 5, 4, 4)).astype(np.float32) for _ in range(20)]


def outputs(model: onnx.ModelProto) -> np.ndarray:
    session = Session(model.SerializeToString(), ["position_map"], threads=1)
    return np.concatenate([session(crop)[0] for crop in crops()])


def int8_form(model: onnx.ModelProto, target: str, with_means: bool = True) -> onnx.ModelProto:
    graph = Graph(model)
    read = read_by_layers(graph, target)
    statistics = collect(model, calibrated_tensors(graph, target), crops(), 20, averaged=read, threads=1)
    means = tuple(ChannelValues.of(name, values) for name, values in statistics.means.items() if with_means)
    ranges = choose_ranges(statistics.histograms, "minmax", target)
    table = CalibrationTable("", "", 20, "minmax", target, (), means, ranges)
    return insert_qdq(graph, quantisable_layers(graph, target), table)


@pytest.mark.parametrize(
    ("flatten", "attributes"),
    [("Reshape", {}), ("Flatten", {"strides": [1, 1], "pads": [0] * 4}), ("Flatten", {"auto_pad": "VALID"})],
)
def test_the_product_computes_the_same(flatten, attributes):
    model = vector_network(flatten, **attributes)
    changed = vectors_by_products(Graph(model)).model
    onnx.checker.check_model(changed, full_check=True)
    assert [node.op_type for node in changed.graph.node] == ["Conv", "Relu", "Reshape", "Gemm", "Gemm"]
    np.testing.assert_allclose(outputs(changed), outputs(model), rtol=1e-4, atol=1e-3)
    assert outputs(model).std(axis=0).min() > 1


@pytest.mark.parametrize("attributes", [{"strides": [4, 4]}, {"auto_pad": "SAME_UPPER", "strides": [4, 4]}])
def test_other_windows_keep_their_graph(attributes):
    """A stride may leave pixels out, and padding adds some."""
    graph = Graph(vector_network(**attributes))
    assert vectors_by_products(graph) is graph


def test_a_map_keeps_its_graph():
    """One feature per pixel: the window is not all of the input."""
    model = vector_network()
    kernel = next(tensor for tensor in model.graph.initializer if tensor.name == "squeeze")
    kernel.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(kernel)[:3, :, :4, :3].copy(), "squeeze"))
    assert vectors_by_products(Graph(model)).model is model


@pytest.mark.parametrize("target", TARGETS)
def test_only_the_form_for_cpus_has_the_product(target):
    assert quantisable_layers(Graph(vector_network()), target) == LAYERS
    counts = Counter(node.op_type for node in int8_form(vector_network(), target).graph.node)
    assert (counts["Conv"], counts["Gemm"]) == {"tensorrt": (2, 1), "cpu": (1, 2)}[target]


def test_onnx_runtime_computes_the_vector_in_int8_and_does_not_round_it(tmp_path):
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "fused.onnx"), 4
    content = int8_form(vector_network(), "cpu").SerializeToString()
    onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "fused.onnx").graph.node if node.op_type != "Transpose"]
    assert kinds == ["QuantizeLinear", "QLinearConv", "Reshape", "QGemm", "Gemm"]


def test_biases_are_corrected_by_the_means_of_the_channels():
    """Mean outputs move less than without a correction."""
    model = vector_network()
    expected = outputs(model).mean(axis=0)
    errors = [np.abs(outputs(int8_form(model, "cpu", known)).mean(axis=0) - expected).mean() for known in (True, False)]
    assert 0 < errors[0] < 0.7 * errors[1]
