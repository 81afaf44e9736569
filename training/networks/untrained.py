"""Networks of random weights that can be measured and checked like trained ones."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from training.networks import create_network
from training.networks.coefficients import CoefficientNetwork, Whitening

OFFSET = 1.0  # of every normalisation, in units of its gain
FACE_HEIGHT = 150_000.0  # of face models, their unit
FACE_SHARE = 0.6  # of the crop's side, the height of a face
POSE_STD = 0.05  # of a number of the pose, in sizes of the face
MAP_STD = 0.1  # of the edge network's map, output units


def untrained_network(name: str) -> nn.Module:
    """Create a network by its name, in eval mode, of random weights that let its outputs depend on the picture.

    It is the same in every call. A fresh network outputs nearly a constant, and every check passes on that. Networks of
    coefficients have a whitening that puts their faces upright into the middle of the crop.
    """
    with torch.random.fork_rng():
        if name == "prnet":
            return live_prnet()
        torch.manual_seed(0)
        network = create_network(name)
        pictures = _pictures(network)
        _fit_normalisations(network, [pictures])
        with torch.no_grad():
            outputs = network.eval()(pictures)
            _scale_outputs(network, outputs)
    if isinstance(network, CoefficientNetwork):
        network.whitening = _plausible_whitening(network)
    return network


def live_prnet() -> nn.Module:
    """Create a resfcn256 of random weights with its normalisation fitted to noise, in eval mode.

    Gains differ from channel to channel, so that a mistake in folding them shows.
    """
    torch.manual_seed(0)
    network = create_network("prnet")
    _fit_normalisations(network, [blobs(seed) for seed in range(3)], is_last_output=True)
    return network.eval()


def blobs(seed: int, batch: int = 2) -> Tensor:
    """Make pictures (batch, 3, 256, 256) float32 in 0..1 of smooth blobs and grain."""
    generator = torch.Generator().manual_seed(seed)
    cells = torch.rand(batch, 3, 8, 8, generator=generator)
    coarse = nn.functional.interpolate(cells, size=256, mode="bilinear")
    return (coarse + 0.2 * torch.rand(batch, 3, 256, 256, generator=generator)).clamp(0, 1)


def _pictures(network: nn.Module, batch: int = 4) -> Tensor:
    """Make blobs in the size and value range of a network; a landmark channel shows a few points."""
    low, high = network.value_range
    size = network.input_size
    pictures = low + (high - low) * nn.functional.interpolate(blobs(0, batch), size=size, mode="bilinear")
    if not getattr(network, "landmark_channel", False):
        return pictures
    marks = torch.full((batch, 1, size, size), -1.0)
    marks[:, :, size // 4 : -size // 4 : 8, size // 4 : -size // 4 : 8] = 1
    return torch.cat([pictures, marks], 1)


@torch.no_grad()
def _fit_normalisations(network: nn.Module, batches: list[Tensor], is_last_output: bool = False) -> None:
    """Give normalisations random gains and the statistics of pictures.

    The offsets keep most units in the linear part of the ReLU: without them random layers amplify the last bit of
    float32 to 3e-4 of the output, and trained networks do not.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the plain mean over the passes below
        norm.reset_running_stats()
        norm.weight.uniform_(0.5, 1.5)
        norm.bias.copy_(OFFSET * norm.weight)
    if is_last_output:
        norms[-1].weight.fill_(1)
        norms[-1].bias.fill_(0)
    if norms:
        network.train()
        for batch in batches:
            network(batch)


def _scale_outputs(network: nn.Module, outputs: Tensor) -> None:
    """Bring the outputs (B, …) about zero, in place: whitened numbers to unit size, maps to `MAP_STD`."""
    if not isinstance(network, CoefficientNetwork):
        factor = MAP_STD / outputs.std(0).mean()
        network.expand.weight.mul_(factor)
        network.expand.bias.sub_(outputs.mean(0).flatten()).mul_(factor).add_(0.5 / 1.1)  # the middle of the crop
        return
    sizes = {network.count, network.pose_count, network.shape_count, network.expression_count}
    heads = [module for module in network.modules() if isinstance(module, nn.Linear) and module.out_features in sizes]
    by_size = {head.out_features: head for head in heads}
    counts = (network.pose_count, network.shape_count, network.expression_count)
    parts = counts if len(heads) == len(counts) else (network.count,)
    for count, part in zip(parts, outputs.split(parts, 1), strict=True):
        spread = part.std(0).mean()
        by_size[count].weight.div_(spread)
        by_size[count].bias.sub_(part.mean(0)).div_(spread)


def _plausible_whitening(network: CoefficientNetwork) -> Whitening:
    """Return statistics under which the mean is an upright face in the middle of the crop."""
    mean = np.zeros(network.count, np.float32)
    std = np.ones(network.count, np.float32)
    scale = FACE_SHARE * network.input_size / FACE_HEIGHT
    middle = network.input_size / 2
    if network.pose_count:  # a (3, 4) matrix, row by row
        mean[[0, 5, 10]] = scale
        std[:12] = POSE_STD * scale
        mean[[3, 7]] = middle
        std[[3, 7, 11]] = POSE_STD * middle
    return Whitening(mean, std)
