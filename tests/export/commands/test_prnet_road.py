"""PRNet from a checkpoint file to FP16: what each step costs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

pytest.importorskip("onnxsim")

from collections import Counter

import torch

from calibration.precision.half_rounding import with_rounding
from export.graphs.rewrite import rewrite
from export.graphs.summary import summarise
from export.graphs.verify import compare, require_live, run_model
from runtime.inference.open_runner import open_runner
from tests.standins.networks import live_prnet

pytestmark = pytest.mark.slow  # every step runs all of PRNet; the tests of the steps use small networks


def operators(model):
    return Counter(node.op_type for node in model.graph.node)


def test_checkpoint_and_plain_export_compute_what_the_network_computes(prnet_road):
    require_live(prnet_road.expected, prnet_road.spec, "plain")
    assert (
        prnet_road.expected.std(0).mean() * prnet_road.spec.output.scale > 5
    )  # px between pictures, over the whole map
    with torch.no_grad():
        expected = live_prnet()(torch.from_numpy(prnet_road.images)).numpy()
    np.testing.assert_allclose(prnet_road.expected, expected, atol=1e-5)
    assert operators(prnet_road.plain)["ConvTranspose"] == 17
    assert prnet_road.plain.opset_import[0].version == 17
    assert sum(parameter.numel() for parameter in live_prnet().parameters()) == 13_353_618


def test_rewritten_network_is_equal_and_has_convolutions_only(prnet_road):
    difference = compare(
        prnet_road.expected, run_model(prnet_road.rewritten, prnet_road.images, "position_map"), prnet_road.spec
    )
    assert difference.largest < 1e-5
    assert difference.max_px < 0.005
    assert all(step.dropped is None and step.difference < 1e-5 for step in prnet_road.steps)
    found = operators(prnet_road.rewritten)
    assert found["Conv"] == 53
    # Five residual blocks keep their input as it is, and with it the normalisation of the sum.
    assert found["BatchNormalization"] == 5
    assert {*found} == {"Conv", "Relu", "Add", "BatchNormalization", "Reshape", "Transpose", "Slice", "Sigmoid"}
    assert summarise(prnet_road.rewritten).gflop < 1.05 * summarise(prnet_road.plain).gflop
    assert summarise(prnet_road.plain).gflop == pytest.approx(8.26, abs=0.03)


def test_half_precision_costs_a_fraction_of_a_pixel(prnet_road):
    model = prnet_road.half
    device = compare(
        prnet_road.expected, run_model(with_rounding(model), prnet_road.images, "position_map"), prnet_road.spec
    )
    lenient = compare(prnet_road.expected, run_model(model, prnet_road.images, "position_map"), prnet_road.spec)
    assert 0.01 < lenient.mean_px < device.mean_px < 1
    assert device.landmarks_px < 1
    assert model.ByteSize() < 0.51 * prnet_road.rewritten.ByteSize()
    assert [value.type.tensor_type.elem_type for value in [*model.graph.input, *model.graph.output]] == [
        onnx.TensorProto.FLOAT
    ] * 2
    types = {tensor.data_type for tensor in model.graph.initializer}
    assert types == {onnx.TensorProto.FLOAT16, onnx.TensorProto.INT64}
    assert [node.op_type for node in model.graph.node][-3:] == ["Reshape", "Cast", "Sigmoid"]  # the last one in FP32


def test_files_run_in_the_runtime(prnet_road, prnet_files):
    """Scaled to the largest output; the batch of two and the runtime's own settings may add up in another order."""
    tolerances = {"fp32": 1e-5 * max(1.0, float(np.abs(prnet_road.expected).max())), "fp16": 0.02}
    for precision, path in prnet_files.items():
        with open_runner(path, max_batch=2) as runner:
            runner.input[:] = prnet_road.images[:2]
            assert np.abs(runner.infer(2) - prnet_road.expected[:2]).max() < tolerances[precision]


def test_graph_without_the_exporters_own_optimiser_ends_the_same(prnet_road):
    """Padding and shapes as computed nodes, normalisation unfolded: onnxsim has turned such pads (1, 1) into (0, 1)."""
    program = torch.onnx.export(
        prnet_road.network,
        (torch.from_numpy(prnet_road.images[:2]),),
        input_names=["image"],
        output_names=["position_map"],
        opset_version=18,
        dynamo=True,
        optimize=False,
        verbose=False,
    )
    raw = program.model_proto
    assert operators(raw)["BatchNormalization"] == 48
    assert operators(raw)["Pad"] == 11
    for node in raw.graph.node:
        node.name = ""  # as other exporters leave them
    expected = run_model(raw, prnet_road.images, "position_map")
    model, steps = rewrite(raw, prnet_road.images, {"position_map": expected})
    assert operators(model) == operators(prnet_road.rewritten)
    assert not [step for step in steps if step.dropped]
