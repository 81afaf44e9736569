"""Means of weights: the moving average of a run, which is validated and kept, and the mean of several runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from runtime.errors import FaceMeshError
from runtime.storage.whole_files import whole_file
from training.networks.edge import EdgeNet
from training.networks.folded import load_folded


def averaged_model(network: nn.Module, decay: float) -> AveragedModel:
    """Return an exponential moving average of weights and normalisation statistics, short at first.

    After n steps it keeps min(decay, (n + 1) / (n + 10)) of itself.
    """

    def mix(mean: Tensor, new: Tensor, steps: Tensor | int) -> Tensor:
        if not mean.is_floating_point():
            return new
        keep = min(decay, (int(steps) + 1) / (int(steps) + 10))
        return mean.lerp(new, 1 - keep)

    return AveragedModel(network, avg_fn=mix, use_buffers=True)


def save_average(shares: Mapping[Path, float], path: Path) -> None:
    """Write a checkpoint with the mean of exported edge networks; ``shares`` weighs each file.

    In exports normalisation is part of the convolutions, so that the mean is one of like numbers. Raises
    `FaceMeshError` if files are no exports or differ in shape.
    """
    total = sum(shares.values())
    mean: dict[str, Tensor] = {}
    for file, share in shares.items():
        network = EdgeNet()
        load_folded(network, file)
        state = network.state_dict()
        if mean and {name: value.shape for name, value in mean.items()} != {n: v.shape for n, v in state.items()}:
            raise FaceMeshError(f"{file}: another shape than {next(iter(shares))}; average runs from one start")
        for name, value in state.items():
            mean[name] = mean.get(name, 0) + value.double() * (share / total)
    with whole_file(path) as target:
        torch.save({"network": {name: value.float() for name, value in mean.items()}}, target)
