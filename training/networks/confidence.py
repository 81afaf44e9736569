"""The head that tells how sure a network is, from the features that its encoder has anyway."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

LIMIT_NME = 0.08  # of the face: sqrt(width × height) of the landmark box


class ConfidenceHead(nn.Module):
    """Encoder features (B, F, h, w) -> probability (B, 1) of an NME below 8 %.

    Two linear layers on the mean over pixels predict the natural logarithm of the NME. A sigmoid, calibrated on
    validation faces, makes it a probability. For F = 512 that is 16 thousand multiplications, a five-thousandth of the
    network.
    """

    def __init__(self, features: int = 512, hidden: int = 32) -> None:
        super().__init__()
        self.hidden = nn.Linear(features, hidden)
        self.out = nn.Linear(hidden, 1)
        self.register_buffer("slope", torch.tensor(1.0))
        self.register_buffer("bias", torch.tensor(0.0))

    def log_error(self, pooled: Tensor) -> Tensor:
        """(B, F) mean features -> (B, 1) natural logarithm of the NME, as a fraction of the face."""
        return self.out(torch.relu(self.hidden(pooled)))

    def forward(self, features: Tensor) -> Tensor:
        """Return the probability (B, 1)."""
        pooled = nn.functional.avg_pool2d(features, features.shape[2:]).flatten(1)
        margin = math.log(LIMIT_NME) - self.log_error(pooled)
        return torch.sigmoid(self.slope * margin + self.bias)
