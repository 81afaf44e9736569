"""A PRNet of random weights that can be measured and checked like a trained one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.networks import create_network

OFFSET = 1.0  # of every normalisation, in units of its gain


def live_prnet() -> nn.Module:
    """Create a resfcn256 of random weights with its normalisation fitted to noise, in eval mode.

    It is the same in every call. A fresh one outputs 0.5 everywhere, and every check passes on that. Gains differ from
    channel to channel, so that a mistake in folding them shows. The offsets keep most units in the linear part of the
    ReLU: without them random layers amplify the last bit of float32 to 3e-4 of the output, and trained networks do not.
    """
    torch.manual_seed(0)
    network = create_network("prnet")
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        for norm in norms:
            norm.momentum = None  # the plain mean over the passes below
            norm.reset_running_stats()
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.copy_(OFFSET * norm.weight)
        norms[-1].weight.fill_(1)
        norms[-1].bias.fill_(0)
        network.train()
        for seed in range(3):
            network(blobs(seed))
    return network.eval()


def blobs(seed: int, batch: int = 2) -> Tensor:
    """Make pictures (batch, 3, 256, 256) float32 in 0..1 of smooth blobs and grain."""
    generator = torch.Generator().manual_seed(seed)
    cells = torch.rand(batch, 3, 8, 8, generator=generator)
    coarse = nn.functional.interpolate(cells, size=256, mode="bilinear")
    return (coarse + 0.2 * torch.rand(batch, 3, 256, 256, generator=generator)).clamp(0, 1)
