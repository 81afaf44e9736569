"""Where Q/DQ goes, what the weights become, and that the result runs."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from calibration.precision.graph_view import Graph
from calibration.precision.placement import TARGETS, calibrated_tensors, quantisable_layers, quantised_reads
from calibration.precision.qdq import insert_qdq
from calibration.ranges.collect import collect
from calibration.ranges.sessions import Session
from calibration.ranges.table import CalibrationTable, ChannelValues, TensorRange, choose_ranges
from runtime.errors import FaceMeshError
from tests.calibration.small import SIZE, small_network

QDQ = ("QuantizeLinear", "DequantizeLinear")
LAYERS = ["stem", "depth", "point", "inner", "outer", "phases", "wide"]


def images(count: int = 6) -> list[np.ndarray]:
    generator = np.random.default_rng(9)
    return [generator.random((1, 3, SIZE, SIZE), np.float32) for _ in range(count)]


def table_for(model: onnx.ModelProto, target: str, crops: Sequence[np.ndarray] = ()) -> CalibrationTable:
    """Without equalisation, and without means, so that biases stay."""
    crops = crops or images()
    histograms = collect(model, calibrated_tensors(Graph(model), target), crops, len(crops), threads=1).histograms
    return CalibrationTable("", "", len(crops), "minmax", target, (), (), choose_ranges(histograms, "minmax", target))


def outputs(model: onnx.ModelProto) -> np.ndarray:
    session = Session(model.SerializeToString(), ["position_map"], threads=1)
    return np.concatenate([session(image)[0] for image in images()])


@pytest.mark.parametrize("target", TARGETS)
def test_all_layers_but_the_tail(target):
    assert quantisable_layers(Graph(small_network()), target) == LAYERS


def test_first_convolutions_of_few_products_stay_in_float_on_cpus():
    """27 products of the first one and 9 of the depthwise one; the 1 x 1 convolution behind them gathers nothing."""
    graph = Graph(small_network(window=3))
    assert quantisable_layers(graph, "tensorrt") == LAYERS
    assert quantisable_layers(graph, "cpu") == LAYERS[2:]
    reads = quantised_reads(graph, set(LAYERS[2:]), "cpu")
    assert not {"image", "stem_relu_y"}.intersection(reads.values())
    assert reads["point_y", 0] == "depth_relu_y"


def test_tensorrt_reads_layer_inputs_and_the_identity_branch_quantised():
    """Not the branch that comes straight from a layer: TensorRT fuses the addition into that one.

    Moves carry the range of what they move.
    """
    assert quantised_reads(Graph(small_network()), set(LAYERS), "tensorrt") == {
        ("stem_y", 0): "image",
        ("depth_y", 0): "stem_relu_y",
        ("point_y", 0): "depth_relu_y",
        ("inner_y", 0): "point_relu_y",
        ("outer_y", 0): "inner_relu_y",
        ("sum_y", 0): "point_relu_y",
        ("phases_y", 0): "sum_relu_y",
        ("shuffle_y", 0): "phases_relu_y",
        ("wide_y", 0): "phases_relu_y",
    }


@pytest.mark.parametrize("target", TARGETS)
def test_every_scale_has_its_zero_point(target):
    """ONNX Runtime adds one of its own, of a wrong shape, on processors without instructions for byte products."""
    graph = Graph(small_network())
    model = insert_qdq(graph, LAYERS, table_for(graph.model, target))
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in QDQ and not node.name.endswith("_bias_DQ"):  # those of biases are int32
            scale, zero = (constants[name] for name in node.input[1:])
            assert zero.shape == scale.shape, node.name
            assert not zero.any(), node.name


def test_cpu_reads_both_addends_and_what_layers_put_out():
    graph = Graph(small_network())
    extra = quantised_reads(graph, set(LAYERS), "cpu").items() - quantised_reads(graph, set(LAYERS), "tensorrt").items()
    assert extra == {(("sum_y", 1), "outer_y"), (("narrow_y", 0), "wide_relu_y")}


def test_layers_left_out_read_floats():
    assert quantised_reads(Graph(small_network()), {"inner"}, "tensorrt") == {("inner_y", 0): "point_relu_y"}


def test_two_straight_branches_have_one_of_them_quantised():
    model = small_network()
    add = next(node for node in model.graph.node if node.op_type == "Add")
    position = list(model.graph.node).index(add)
    shortcut = helper.make_node("Conv", [add.input[0], "inner", "inner_b"], ["shortcut_y"], "shortcut", pads=[1] * 4)
    model.graph.node.insert(position, shortcut)
    add.input[0] = "shortcut_y"
    reads = quantised_reads(Graph(model), {"outer", "shortcut"}, "tensorrt")
    assert {key for key in reads if key[0] == "sum_y"} == {("sum_y", 1)}


@pytest.mark.parametrize("target", TARGETS)
def test_weights_are_int8_per_channel_and_close(target):
    model = small_network()
    result = insert_qdq(Graph(model), LAYERS, table_for(model, target))
    before, after = (
        {tensor.name: numpy_helper.to_array(tensor) for tensor in m.graph.initializer} for m in (model, result)
    )
    for layer in LAYERS:
        assert layer not in after
        quantised, scale = after[f"{layer}_int8"], after[f"{layer}_scale"]
        assert quantised.dtype == np.int8
        assert scale.shape == (len(quantised),)
        assert (np.abs(quantised.astype(int)).reshape(len(quantised), -1).max(axis=1) == 127).all()
        restored = quantised * scale.reshape(-1, 1, 1, 1)
        assert (np.abs(restored - before[layer]) <= 0.5001 * scale.reshape(-1, 1, 1, 1)).all()
        if target == "tensorrt":
            np.testing.assert_array_equal(after[f"{layer}_b"], before[f"{layer}_b"])
        else:
            quantised, step = after[f"{layer}_y_bias_int32"], after[f"{layer}_y_bias_scale"]
            assert quantised.dtype == np.int32
            assert (np.abs(quantised * step - before[f"{layer}_b"]) <= 0.5001 * step).all()
    assert after["narrow"].dtype == np.float32


@pytest.mark.parametrize("target", TARGETS)
def test_outputs_stay_close_and_are_not_the_same(target):
    model = small_network()
    reference, found = outputs(model), outputs(insert_qdq(Graph(model), LAYERS, table_for(model, target)))
    error = np.abs(found - reference).mean() / reference.std(axis=0).mean()
    assert 1e-4 < error < 0.1


def test_onnx_runtime_fuses_all_layers_of_the_cpu_form(tmp_path):
    import onnxruntime

    model = small_network()
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "fused.onnx"), 4
    onnxruntime.InferenceSession(
        insert_qdq(Graph(model), LAYERS, table_for(model, "cpu")).SerializeToString(),
        options,
        providers=["CPUExecutionProvider"],
    )
    counts = Counter(node.op_type for node in onnx.load(tmp_path / "fused.onnx").graph.node)
    assert counts["QLinearConv"] == len(LAYERS)
    assert counts["QLinearAdd"] == 1


def test_zero_points_are_zero_and_unsigned_only_for_the_cpu():
    model = small_network()
    for target, kinds in (("tensorrt", {np.dtype(np.int8)}), ("cpu", {np.dtype(np.int8), np.dtype(np.uint8)})):
        result = insert_qdq(Graph(model), LAYERS, table_for(model, target))
        arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in result.graph.initializer}
        zeros = [arrays[node.input[2]] for node in result.graph.node if node.op_type in QDQ and len(node.input) == 3]
        assert {array.dtype for array in zeros} == kinds
        assert not any(array.any() for array in zeros)


def test_bias_of_a_channel_without_weights_survives_int32():
    """Two such channels: their scales would be too small for any bias in int32, and the second one's is no float32."""
    model = small_network()
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == "outer")
    changed = numpy_helper.to_array(weights).copy()
    changed[0] *= 1e-12
    changed[1] *= 1e-42
    weights.CopyFrom(numpy_helper.from_array(changed, "outer"))
    result = insert_qdq(Graph(model), LAYERS, table_for(model, "cpu"))
    arrays = {
        tensor.name: numpy_helper.to_array(tensor) for tensor in [*model.graph.initializer, *result.graph.initializer]
    }
    restored = arrays["outer_y_bias_int32"] * arrays["outer_y_bias_scale"].astype(np.float64)
    np.testing.assert_allclose(restored, arrays["outer_b"], atol=2e-4)
    error = np.abs(outputs(result) - outputs(model)).mean() / outputs(model).std(axis=0).mean()
    assert error < 0.1


def test_other_kinds_of_layers():
    """Gemm per column either way round, MatMul per column, transposed convolution with one scale; the last layer is
    the tail."""
    generator = np.random.default_rng(0)
    constants = {
        "t": generator.normal(size=(3, 5, 2, 2)),
        "g": generator.normal(size=(7, 5 * 4)),
        "h": generator.normal(size=(7, 6)),
        "m": generator.normal(size=(6, 4)),
        "last": generator.normal(size=(4, 4)),
        "shape": np.array([0, -1]),
    }
    nodes = [
        helper.make_node("ConvTranspose", ["image", "t"], ["t_y"], "transposed", strides=[2, 2]),
        helper.make_node("Reshape", ["t_y", "shape"], ["flat"], "flat"),
        helper.make_node("Gemm", ["flat", "g"], ["g_y"], "rows", transB=1),
        helper.make_node("Gemm", ["g_y", "h"], ["h_y"], "columns"),
        helper.make_node("MatMul", ["h_y", "m"], ["m_y"], "product"),
        helper.make_node("MatMul", ["m_y", "last"], ["position_map"], "last"),
    ]
    tensors = [
        numpy_helper.from_array(value.astype(np.int64 if name == "shape" else np.float32), name)
        for name, value in constants.items()
    ]
    graph = helper.make_graph(
        nodes,
        "kinds",
        [helper.make_tensor_value_info("image", 1, ["N", 3, 1, 1])],
        [helper.make_tensor_value_info("position_map", 1, ["N", 4])],
        tensors,
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    layers = quantisable_layers(Graph(model), "tensorrt")
    assert layers == ["transposed", "rows", "columns", "product"]
    crops = [generator.normal(size=(1, 3, 1, 1)).astype(np.float32) for _ in range(8)]
    result = insert_qdq(Graph(model), layers, table_for(model, "tensorrt", crops))
    shapes = {tensor.name: tuple(tensor.dims) for tensor in result.graph.initializer}
    assert [shapes[f"{name}_scale"] for name in "tghm"] == [(), (7,), (6,), (4,)]
    expected, found = (
        np.concatenate([Session(m.SerializeToString(), ["position_map"], 1)(crop)[0] for crop in crops])
        for m in (model, result)
    )
    assert np.abs(found - expected).mean() < 0.05 * np.abs(expected).mean()


def single_layer(kind: str, shape: tuple[int, ...], bias: bool, **attributes) -> onnx.ModelProto:
    """image ─ layer ─ last ─▶ position_map, the layer without padding."""
    generator = np.random.default_rng(4)
    constants = {"w": generator.normal(size=shape)}
    channels = shape[0] if kind == "Conv" or attributes.get("transB") else shape[1]
    if bias:
        constants["b"] = generator.normal(size=channels)
    constants["last_w"] = generator.normal(size=(3, channels, 1, 1) if kind == "Conv" else (channels, 3))
    before, after = (["N", 4, 5, 5], ["N", 3, 3, 3]) if kind == "Conv" else (["N", 6], ["N", 3])
    graph = helper.make_graph(
        [
            helper.make_node(kind, ["image", "w", *["b"] * bias], ["y"], "layer", **attributes),
            helper.make_node(kind, ["y", "last_w"], ["position_map"], "last"),
        ],
        "single",
        [helper.make_tensor_value_info("image", 1, before)],
        [helper.make_tensor_value_info("position_map", 1, after)],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("kind", "shape", "attributes"),
    [
        ("Conv", (6, 4, 3, 3), {}),
        ("Conv", (6, 2, 3, 3), {"group": 2}),
        ("Conv", (4, 1, 3, 3), {"group": 4}),
        ("Gemm", (6, 5), {}),
        ("Gemm", (5, 6), {"transB": 1}),
    ],
)
def test_corrected_biases_keep_the_means_of_what_a_layer_puts_out(kind, shape, attributes, bias):
    """Inputs that INT8 holds exactly, each channel of one value: all that moves the mean is the rounding of the
    weights."""
    model = single_layer(kind, shape, bias, **attributes)
    steps = np.random.default_rng(7).integers(-127, 128, (5, 6 if kind == "Gemm" else 4))
    crops = [np.float32(row / 127)[None] for row in steps]
    if kind == "Conv":
        crops = [crop[:, :, None, None].repeat(5, axis=2).repeat(5, axis=3) for crop in crops]
    exact = collect(model, [], crops, 5, averaged=["image", "y"], threads=1).means
    table = CalibrationTable("", "", 5, "minmax", "tensorrt", (), (), (TensorRange("image", 1.0, -1.0),))
    corrected = dataclasses.replace(table, means=(ChannelValues("image", " ".join(map(str, exact["image"]))),))
    found = [
        collect(insert_qdq(Graph(model), ["layer"], used), [], crops, 5, averaged=["y"], threads=1).means["y"]
        for used in (table, corrected)
    ]
    errors = [np.abs(means - exact["y"]).max() for means in found]
    assert errors[0] > 1e-3
    assert errors[1] < 1e-5


def test_table_without_a_tensor():
    model = small_network()
    table = table_for(model, "tensorrt")
    short = dataclasses.replace(table, ranges=table.ranges[1:])
    with pytest.raises(FaceMeshError, match="the calibration table lacks the tensor image"):
        insert_qdq(Graph(model), LAYERS, short)


def test_no_constant_is_left_that_nobody_reads():
    """On the CPU a corrected bias becomes int32."""
    model = single_layer("Conv", (6, 4, 3, 3), True)
    means = (ChannelValues("image", "0.5 0.25 0.125 1"),)
    found = dataclasses.replace(table_for(model, "cpu", [np.ones((1, 4, 5, 5), np.float32)]), means=means)
    result = insert_qdq(Graph(model), ["layer"], found)
    constants = {tensor.name for tensor in result.graph.initializer}
    assert any(name.endswith("_bias_int32") for name in constants)
    assert not constants - {name for node in result.graph.node for name in node.input}
