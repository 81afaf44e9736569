"""2DASL's self-critic: a second network that tells labels from predictions, given the picture.

Tu et al. (IEEE TMM 2020, arXiv 1903.09359) publish neither its layers nor its weight. Here the picture, at most 40 px
wide, goes through four convolutions of stride 2 to 128 numbers, the coefficients through a layer of as many; two layers
score their sum and product. It has no batch normalisation: labels and predictions come in batches of their own, which
statistics would tell apart.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import avg_pool2d, leaky_relu, softplus

LEAST_SIDE = 40  # px of the picture that the critic sees
WIDTH = 128
SLOPE = 0.2


class SelfCritic(nn.Module):
    """Pictures (B, C, S, S) and whitened rows (B, P) -> scores (B,), log odds that a row is the label's."""

    def __init__(self, size: int, channels: int, count: int) -> None:
        super().__init__()
        self.shrink = max(1, size // LEAST_SIDE)
        side, layers = size // self.shrink, []
        for width in (16, 32, 64, 64):
            layers += [nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.LeakyReLU(SLOPE)]
            channels, side = width, (side + 1) // 2
        self.picture = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * side**2, WIDTH))
        self.numbers = nn.Linear(count, WIDTH)
        self.score = nn.Sequential(nn.Linear(2 * WIDTH, WIDTH), nn.LeakyReLU(SLOPE), nn.Linear(WIDTH, 1))

    def forward(self, images: Tensor, rows: Tensor) -> Tensor:
        picture, numbers = self.picture(avg_pool2d(images, self.shrink)), self.numbers(rows)
        return self.score(torch.cat([leaky_relu(picture + numbers, SLOPE), picture * numbers], 1))[:, 0]

    def doubt(self, images: Tensor, rows: Tensor) -> Tensor:
        """Return the network's loss (B,): - log of the probability that its rows are the labels'.

        The critic's own weights get no gradient from it.
        """
        fixed = {name: value.detach() for name, value in self.named_parameters()}
        return softplus(-functional_call(self, fixed, (images, rows)))

    def error(self, images: Tensor, rows: Tensor, true_rows: Tensor) -> Tensor:
        """Return the critic's own loss (B,): binary cross-entropy of labels against predictions.

        The network gets no gradient from it.
        """
        return softplus(-self(images, true_rows)) + softplus(self(images, rows.detach()))
