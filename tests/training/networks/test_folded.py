"""The shipped ONNX as a starting point."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

from export.__main__ import main
from runtime.errors import FaceMeshError
from runtime.models.shipped import SHIPPED_MODEL
from runtime.models.spec import ModelSpec
from training.networks.edge import EdgeNet
from training.networks.folded import load_edge, load_folded, renormalise


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.nn.functional.interpolate(
        torch.rand(16, 3, 8, 8, generator=generator) * 2 - 1, size=128, mode="bilinear"
    )


@pytest.fixture(scope="module")
def expected(images) -> torch.Tensor:
    session = onnxruntime.InferenceSession(str(SHIPPED_MODEL), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"image": images.numpy()})[0])


def test_computes_what_the_model_computes(images, expected):
    network = EdgeNet()  # with a latent vector of 128, the shipped one has 48
    load_folded(network, SHIPPED_MODEL)
    assert network.squeeze.out_channels == 48
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(images), expected, atol=1e-4, rtol=0)


def test_renormalised_network_computes_the_same_and_can_be_trained(images, expected):
    network = EdgeNet()
    load_folded(network, SHIPPED_MODEL)
    with torch.no_grad():
        before = (network.train()(images) - expected).abs().mean()
        load_folded(network, SHIPPED_MODEL)  # the forward pass above moved the statistics
        renormalise(network, images.split(4))
        torch.testing.assert_close(network.eval()(images), expected, atol=1e-4, rtol=0)
        after = (network.train()(images) - expected).abs().mean()
    assert after < 1e-3  # of the same images the statistics are those of the batch
    assert before > 30 * after


def test_statistics_are_those_of_all_images(images):
    """Measured in uneven parts, they equal those of one batch."""
    network = EdgeNet()
    load_folded(network, SHIPPED_MODEL)
    renormalise(network, images.split((3, 5, 8)))
    with torch.no_grad():
        x = network.encoder.conv1(images)
    torch.testing.assert_close(network.encoder.bn1.running_mean, x.mean((0, 2, 3)), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(network.encoder.bn1.running_var, x.var((0, 2, 3), unbiased=False), atol=1e-4, rtol=1e-3)


def test_other_files_are_refused(tmp_path):
    other = tmp_path / "other.onnx"
    value = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    onnx.save(
        helper.make_model(helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [value])), other
    )
    with pytest.raises(FaceMeshError, match="no export of the edge network"):
        load_folded(EdgeNet(), other)
    other.write_bytes(b"\xff" * 99)
    with pytest.raises(FaceMeshError, match="cannot be read as ONNX"):
        load_folded(EdgeNet(), other)
    with pytest.raises(FaceMeshError, match="no such file"):
        load_folded(EdgeNet(), tmp_path / "gone.onnx")


def test_missing_weight_is_named(tmp_path):
    model = onnx.load(SHIPPED_MODEL)
    for tensor in model.graph.initializer:
        if tensor.name == "encoder.dw6.conv_dw.weight":
            tensor.name = "renamed"
    onnx.save(model, tmp_path / "renamed.onnx")
    with pytest.raises(FaceMeshError, match=r"lacks encoder\.dw6\.conv_dw\.weight"):
        load_folded(EdgeNet(), tmp_path / "renamed.onnx")


def test_half_precision_is_refused():
    with pytest.raises(FaceMeshError, match=r"it lacks encoder\.conv1"):
        load_folded(EdgeNet(), SHIPPED_MODEL.with_name("edge-fp16.onnx"))


@pytest.mark.slow
def test_a_fresh_export_computes_what_its_network_did(images, tmp_path):
    """Every normalisation does something here, so each fold must be undone in its own place."""
    torch.manual_seed(0)
    trained = EdgeNet(40).eval()
    for module in trained.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight)  # else hardly anything of the picture arrives
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0.0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.0, 0.1)
    torch.save({"network": trained.state_dict()}, tmp_path / "best.pt")
    command = ["onnx", "--weights", str(tmp_path / "best.pt"), "--arch", "edge", "-o", str(tmp_path / "edge.onnx")]
    assert main(command) == 0
    network = EdgeNet()
    load_folded(network, tmp_path / "edge.onnx")
    with torch.no_grad():
        expected = trained(images)
        limit = 1e-5 * expected.abs().max().item()
        torch.testing.assert_close(network.eval()(images), expected, atol=limit, rtol=0)
        renormalise(network, images.split(4))
        torch.testing.assert_close(network(images), expected, atol=limit, rtol=0)


def test_weights_of_another_shape_are_refused_in_one_line(tmp_path):
    model = onnx.load(SHIPPED_MODEL)
    for tensor in model.graph.initializer:
        if tensor.name == "encoder.conv1.weight":
            tensor.CopyFrom(numpy_helper.from_array(np.zeros((8, 3, 3, 3), np.float32), tensor.name))
    onnx.save(model, tmp_path / "narrow.onnx")
    with pytest.raises(FaceMeshError, match=r"narrow\.onnx: no export of the edge network \(.*conv1") as caught:
        load_folded(EdgeNet(), tmp_path / "narrow.onnx")
    assert "\n" not in str(caught.value)


def test_confidence_head_is_left_out(images, expected):
    assert ModelSpec.load(ModelSpec.path_for(SHIPPED_MODEL)).confidence is not None
    network = load_edge(SHIPPED_MODEL)
    assert network.confidence is None
    with torch.no_grad():
        torch.testing.assert_close(network(images), expected, atol=1e-4, rtol=0)
