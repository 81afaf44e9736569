"""The moving average of the weights that is validated and kept."""

from __future__ import annotations

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


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
