"""The edge network: its size, its start, and that it can learn."""

from __future__ import annotations

import pytest
import torch

from runtime.errors import FaceMeshError
from training.networks.edge import EdgeNet, ResidualSeparable


@pytest.fixture
def network() -> EdgeNet:
    torch.manual_seed(0)
    return EdgeNet()


def multiply_adds(network: torch.nn.Module, image: torch.Tensor) -> int:
    total = 0

    def count(module: torch.nn.Module, _: tuple, output: torch.Tensor) -> None:
        nonlocal total
        total += module.weight[0].numel() * output.numel()

    hooks = [
        module.register_forward_hook(count)
        for module in network.modules()
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear))
    ]
    network(image)
    for hook in hooks:
        hook.remove()
    return total


def test_shape_and_cost(network):
    image = torch.zeros(1, 3, 128, 128)
    assert network(image).shape == (1, 3, 64, 64)
    assert 0.1e9 <= 2 * multiply_adds(network.eval(), image) <= 0.3e9  # the class it was designed for, in FLOP


def test_expansion_spans_the_maps_it_was_fitted_to(network):
    generator = torch.Generator().manual_seed(0)
    components = torch.randn(20, 3 * 64 * 64, generator=generator) / 100
    maps = (torch.randn(200, 20, generator=generator) @ components + 0.5).unflatten(1, (3, 64, 64))
    network.fit_expansion(maps)
    basis, mean = network.expand.weight.detach(), network.expand.bias.detach()
    residual = maps.flatten(1) - mean
    latent = torch.linalg.lstsq(basis, residual.T, driver="gelsd").solution
    assert (basis @ latent - residual.T).abs().max() < 1e-4
    used = latent[latent.abs().amax(1) > 1e-2]
    torch.testing.assert_close(used.square().mean(1), torch.ones(len(used)), atol=0.05, rtol=0)  # unit variance


@pytest.mark.slow
def test_a_shrunk_network_computes_the_same_where_maps_span_few_dimensions(network):
    """Weights of rank 20: 20 numbers are enough; 5 are not."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        network.expand.weight.copy_(
            torch.randn(12288, 20, generator=generator) @ torch.randn(20, 128, generator=generator)
        )
    images = torch.randn(160, 3, 128, 128, generator=generator)
    with torch.no_grad():  # a fresh network hardly looks at its input: fit its normalisation to these images
        for norm in (module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)):
            norm.momentum = None
        network.train()(images)
    expected = network.eval()(images[:8])
    assert expected.std(0).max() > 1e-3
    small = network.shrunk(images, 20)
    assert small.squeeze.out_channels == 20
    torch.testing.assert_close(small(images[:8]), expected, atol=1e-3 * expected.std().item(), rtol=0)
    assert (network.shrunk(images, 5)(images[:8]) - expected).std() > 0.1 * expected.std()


def test_adapts_to_the_latent_size_of_a_checkpoint(network):
    state = EdgeNet(48).state_dict()
    network.adapt_to(state)
    network.load_state_dict(state)
    assert network(torch.zeros(1, 3, 128, 128)).shape == (1, 3, 64, 64)


def test_residual_blocks_begin_as_identities():
    x = torch.rand(2, 16, 4, 4)
    torch.testing.assert_close(ResidualSeparable(16).eval()(x), x)


def test_starts_at_3ddfa_weights_and_refuses_others(network):
    state = {
        f"module.{name}": value + 1 for name, value in network.encoder.state_dict().items() if "_residual." not in name
    }
    state["module.fc_param.weight"] = torch.zeros(62, 512)
    network.load_mb05(state)
    torch.testing.assert_close(network.encoder.conv1.weight, state["module.conv1.weight"])
    del state["module.dw6.conv_dw.weight"]
    with pytest.raises(FaceMeshError, match=r"dw6\.conv_dw\.weight"):
        network.load_mb05(state)
