"""Networks of random weights: live, the same every time, and refused where a mesh is wanted."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from runtime.models.shipped import SHIPPED_MODEL, SHIPPED_PICTURE
from runtime.models.spec import ModelSpec, load_spec
from runtime.run import main
from training.networks import NETWORK_NAMES, create_network
from training.networks.forms import FORMS
from training.networks.untrained import blobs, untrained_network


@pytest.mark.parametrize("name", ["edge", "mb05", "2dasl-quarter", "edge-coefficients"])
def test_outputs_depend_on_the_picture_and_are_the_same_every_time(name):
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    network, again = untrained_network(name), untrained_network(name)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not network.training
    low, high = network.value_range
    pictures = torch.nn.functional.interpolate(blobs(7, 3), size=network.input_size) * (high - low) + low
    if name.startswith("2dasl"):
        pictures = torch.cat([pictures, -torch.ones_like(pictures[:, :1])], 1)
    with torch.no_grad():
        outputs, others = network(pictures), again(pictures)
    assert torch.equal(outputs, others)
    assert outputs.std(0).mean() > 0.02
    assert outputs.abs().max() < 100


def test_an_untrained_face_lies_in_the_crop():
    network = untrained_network("mb05")
    pose = network.whitening.mean[:12].reshape(3, 4)
    corners = pose[:, :3] @ (75_000 * np.array([[-1, -1, 0], [1, 1, 0]]).T) + pose[:, 3:]
    assert corners[:2].min() > 0
    assert corners[:2].max() < network.input_size


@pytest.mark.parametrize("name", NETWORK_NAMES)
def test_networks_have_their_forms(name):
    with torch.device("meta"):
        network = create_network(name)
    assert isinstance(network, FORMS[name])


def test_an_untrained_model_is_refused_unless_it_is_wanted(tmp_path, capsys):
    path = tmp_path / "model.onnx"
    path.write_bytes(SHIPPED_MODEL.read_bytes())
    dataclasses.replace(load_spec(SHIPPED_MODEL), untrained=True).save(ModelSpec.path_for(path))
    arguments = ["--engine", str(path), "--source", str(SHIPPED_PICTURE), "--output", str(tmp_path / "out")]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert "edge is untrained: its weights are random" in error
    assert "'python -m runtime.run --untrained' times this one" in error
    assert main([*arguments, "--untrained", "--save", "json"]) == 0
