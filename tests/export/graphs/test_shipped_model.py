"""The shipped files: their specs are that of the network they were made from, and they are as exact as they were."""

from __future__ import annotations

import dataclasses
from collections import Counter

import onnx
import onnxruntime
import pytest

from benchmarks.accuracy.accuracy import POINTS_2D, network_errors
from benchmarks.accuracy.labelled_faces import load_faces
from benchmarks.accuracy.nme import summarise
from calibration.precision.graph_view import Graph
from calibration.precision.placement import quantisable_layers
from export.graphs.model_file import precision_of
from export.graphs.network_spec import network_spec
from runtime.models.shipped import ASSETS, SHIPPED
from runtime.models.spec import load_spec
from training.networks.edge import EdgeNet


@pytest.mark.parametrize("precision", SHIPPED)
def test_specs_are_that_of_the_network(precision):
    """Input size, colour order, value range, crop scale, map size and scale, name by name."""
    shipped = load_spec(SHIPPED[precision])
    declared = dataclasses.replace(network_spec(EdgeNet(), "edge"), precision=precision)
    assert dataclasses.replace(shipped, onnx_sha256="", confidence=None) == declared
    assert shipped.confidence == load_spec(SHIPPED["fp32"]).confidence
    assert precision_of(onnx.load(SHIPPED[precision])) == precision


def test_all_model_files_together_are_small():
    assert sum(path.stat().st_size for path in ASSETS.glob("*.onnx")) <= 30e6
    assert set(SHIPPED.values()) <= set(ASSETS.glob("*.onnx"))


def test_onnx_runtime_computes_the_int8_model_in_int8(tmp_path):
    """Every layer besides stem and tail, and every addition: one left in float would cost the speed and not be seen."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "fused.onnx"), 4
    onnxruntime.InferenceSession(str(SHIPPED["int8"]), options, providers=["CPUExecutionProvider"])
    counts = Counter(node.op_type for node in onnx.load(tmp_path / "fused.onnx").graph.node)
    graph = Graph(onnx.load(SHIPPED["fp32"]))
    layers = quantisable_layers(graph, "cpu")
    assert counts["QLinearConv"] + counts["QGemm"] == len(layers)
    additions = [node.output[0] for node in graph.nodes if node.op_type == "Add"]
    assert counts["QLinearAdd"] == len(set(additions) - graph.side_branch())
    assert counts["QuantizeLinear"] == 1
    assert counts["DequantizeLinear"] <= len(graph.outputs) - 1  # a confidence head stays in float
    assert len(layers) > 30


@pytest.mark.slow
def test_accuracy_on_labelled_faces(shared_data):
    """The limit is 0.1 above the shipped model; an output scale of 138 instead of 140.8 exceeds it.

    INT8 may lose one part in a hundred of the faces that FP32 has right, since a face behind hands decides by chance;
    with a rounded latent vector it lost 1.4.
    """
    faces = load_faces(shared_data / "aflw2000_dev", limit=200)
    found, means = {}, {}
    is_right = None
    for precision in ("fp32", "int8"):
        _, errors = network_errors(faces, SHIPPED[precision], ("ground-truth",))
        nme = errors["ground-truth"][POINTS_2D]
        is_right = nme < 15 if is_right is None else is_right
        found[precision], means[precision] = summarise(nme, faces.bins), nme[is_right].mean()
    assert found["fp32"].balanced < 3.65
    assert is_right.sum() >= 198
    assert means["int8"] < 1.01 * means["fp32"]
