"""Networks for tests, made once per run. They are shared: change copies only."""

from __future__ import annotations

import copy
from functools import lru_cache

import torch
from torch import nn

from training.networks import create_network
from training.networks.e2far import E2far
from training.networks.untrained import live_prnet as make_live_prnet


@lru_cache(maxsize=1)
def live_prnet() -> nn.Module:
    """`training.networks.untrained.live_prnet`: 13.4 M random parameters, outputs that depend on the input."""
    return make_live_prnet()


@lru_cache(maxsize=1)
def live_edge() -> nn.Module:
    """The edge network with random weights and normalisation fitted to noise; outputs depend on the input."""
    torch.manual_seed(0)
    network = create_network("edge")
    for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.momentum = None
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        norm.bias.data.copy_(norm.weight.data)  # mostly linear, as in live_prnet
    with torch.no_grad():
        network.train()(2 * torch.rand(8, 3, network.input_size, network.input_size) - 1)
        network.expand.weight.mul_(0.1)  # maps of a few crop widths at most
    return network.eval()


@lru_cache(maxsize=1)
def sure_edge() -> nn.Module:
    """`live_edge` with a confidence head of random weights whose output depends on the input."""
    torch.manual_seed(1)
    network = copy.deepcopy(live_edge())
    head = network.add_confidence()
    with torch.no_grad():
        for layer in (head.from_latent, head.from_features, head.out):
            layer.weight.mul_(3)
        images = 2 * torch.rand(8, 3, network.input_size, network.input_size) - 1
        odds = torch.logit(network(images)[1])
        head.out.bias -= odds.mean()
    return network.eval()


@lru_cache(maxsize=4)
def live_coefficients(name: str = "mb05") -> nn.Module:
    """A network of coefficients with random weights and normalisation fitted to noise; outputs depend on the input."""
    torch.manual_seed(0)
    network = create_network(name)
    planes = 4 if network.landmark_channel else 3
    head = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.momentum = None
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        norm.bias.data.copy_(norm.weight.data)
    with torch.no_grad():
        images = 2 * torch.rand(8, planes, network.input_size, network.input_size) - 1
        outputs = network.train()(images)
        head.bias.sub_(outputs.mean(0))
        head.weight.div_(outputs.std())
        head.bias.div_(outputs.std())
    return network.eval()


def live_mb05() -> nn.Module:
    """3DDFA_V2's small network, see `live_coefficients`."""
    return live_coefficients("mb05")


def live_e2far(width: int = 1) -> nn.Module:
    """UH-E2FAR with random weights and outputs about 0 of unit size that depend on the input."""
    torch.manual_seed(0)
    network = E2far(width)
    with torch.no_grad():
        network.conv1_1.bias.uniform_(0, 0.5)
        cells = torch.rand(6, 3, 12, 12)
        outputs = network(nn.functional.interpolate(255 * cells - 127.5, size=network.input_size))
        counts = (network.pose_count, network.shape_count, network.expression_count)
        layers = (network.pose, network.identity[-1], network.expression[-1])
        for layer, part in zip(layers, outputs.split(counts, 1), strict=True):
            layer.bias.sub_(part.mean(0))
            layer.weight.div_(part.std())
            layer.bias.div_(part.std())
    return network.eval()
