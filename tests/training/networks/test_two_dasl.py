"""2DASL's network: its layers are the published ones, its narrow copy can be widened; and the edge network's heir."""

from __future__ import annotations

import pytest
import torch

from runtime.models.shipped import SHIPPED_MODEL
from tests.standins.networks import live_coefficients
from training.networks import create_network
from training.networks.edge import EdgeNet
from training.networks.edge_coefficients import EdgeCoefficients
from training.networks.folded import load_folded
from training.networks.two_dasl import TwoDASL


def sizes(network: torch.nn.Module, image: torch.Tensor) -> dict[str, tuple[int, ...]]:
    """Shapes of what the named children put out."""
    seen = {}
    for name, child in network.named_children():

        def look(_, __, output, name=name):
            seen.setdefault(name, tuple(output.shape[1:]))

        child.register_forward_hook(look)
    network(image)
    return seen


def test_layers_have_the_published_sizes():
    network = create_network("2dasl").eval()
    with torch.no_grad():
        seen = sizes(network, torch.zeros(1, 4, 120, 120))
    assert seen["conv1"] == (64, 60, 60)
    stages = [seen[f"layer{number}"] for number in (1, 2, 3, 4)]
    assert stages == [(256, 30, 30), (512, 15, 15), (1024, 8, 8), (2048, 8, 8)]
    assert seen["fc"] == (62,)
    state = network.state_dict()
    # The usual network's 25,557,032, with another first and another last layer.
    count = 25_557_032 + 64 * 49 - 2049 * 1000 + 2049 * 62
    assert sum(value.numel() for name, value in state.items() if name.endswith(("weight", "bias"))) == count
    assert len(state) == 5 * 53 + 53 + 2  # of normalisations, convolutions, the last layer
    for name, shape in {
        "conv1.weight": (64, 4, 7, 7),
        "layer1.0.downsample.0.weight": (256, 64, 1, 1),
        "layer4.0.conv2.weight": (512, 512, 3, 3),
        "layer3.5.bn3.running_var": (1024,),
        "fc.weight": (62, 2048),
    }.items():
        assert tuple(state[name].shape) == shape


def test_the_last_row_and_column_have_no_part_in_the_mean():
    network = live_coefficients("2dasl-quarter")
    maps = []
    handle = network.layer4.register_forward_hook(lambda _, __, output: maps.append(output))
    image = torch.rand(1, 4, 120, 120, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = network(image)
        expected = network.fc(maps[-1][:, :, :7, :7].mean((2, 3)))
    handle.remove()
    torch.testing.assert_close(found, expected)


@torch.no_grad()
def test_a_narrow_network_is_widened():
    """The function stays, up to the noise that makes copies differ."""
    narrow, wide = live_coefficients("2dasl-quarter"), create_network("2dasl").eval()
    torch.manual_seed(5)
    assert wide.widen(narrow.state_dict())
    image = torch.rand(2, 4, 120, 120) * 2 - 1
    expected, found = narrow(image), wide(image)
    assert (found - expected).abs().max() < 0.1 * expected.std()
    weight = wide.layer2[0].conv1.weight
    quarter = narrow.layer2[0].conv1.weight.repeat(4, 4, 1, 1) / 4
    assert 0 < (weight - quarter).abs().max() < 0.1 * quarter.abs().max()
    torch.testing.assert_close(weight.unflatten(1, (4, -1)).sum(1), quarter.unflatten(1, (4, -1)).sum(1))


def test_others_are_not_widened():
    wide = TwoDASL()
    before = wide.fc.weight.clone()
    assert not wide.widen(wide.state_dict())
    assert not wide.widen(create_network("mb05").state_dict())
    assert torch.equal(wide.fc.weight, before)


def test_edge_coefficients_start_at_an_edge_network():
    edge, network = EdgeNet(), EdgeCoefficients()
    load_folded(edge, SHIPPED_MODEL)
    network.start_at(edge)
    image = torch.rand(2, 3, 128, 128) * 2 - 1
    with torch.no_grad():
        assert network.eval()(image).shape == (2, 62)
        latent = edge.eval().squeeze(edge.encoder(image))
        torch.testing.assert_close(network.squeeze(network.encoder(image)), latent)
    again = EdgeCoefficients()
    again.adapt_to(network.state_dict())
    again.load_state_dict(network.state_dict())


@pytest.mark.parametrize("name", ["2dasl-quarter", "edge-coefficients"])
def test_networks_learn_a_sample(name):
    """A few steps on one batch move all of its weights, and the error falls."""
    torch.manual_seed(0)
    network = create_network(name).train()
    planes = 4 if network.landmark_channel else 3
    image, target = torch.rand(4, planes, network.input_size, network.input_size), torch.randn(4, 62)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    errors = []
    for _ in range(6):
        optimiser.zero_grad()
        error = (network(image) - target).square().mean()
        error.backward()
        optimiser.step()
        errors.append(error.item())
    assert errors[-1] < errors[0]
    assert all(parameter.grad is not None for parameter in network.parameters())
