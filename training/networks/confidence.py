"""The head that tells how sure a network is, from numbers that the network computes anyway."""

from __future__ import annotations

import torch
from torch import Tensor, nn

LIMIT_NME = 0.08  # of the face: sqrt(width × height) of the landmark box
HIDDEN = 64


class ConfidenceHead(nn.Module):
    """Latent vector (B, K) and inner features (B, C, h, w) -> probability (B, 1) of an NME below 8 %.

    The latent vector knows the mesh, the mean of the inner features knows what became of the picture's details. A layer
    for each and one behind predict the margin: how far, as natural logarithm, the NME is below the limit. Calibration
    (`training.confidence.fit_head.calibrate`) turns the margin into log odds. For K = 128 and C = 256 that is 25
    thousand multiplications, a three-thousandth of the network.
    """

    def __init__(self, latent: int, channels: int) -> None:
        super().__init__()
        self.from_latent = nn.Linear(latent, HIDDEN)
        self.from_features = nn.Linear(channels, HIDDEN)
        self.out = nn.Linear(HIDDEN, 1)

    def margin(self, latent: Tensor, pooled: Tensor) -> Tensor:
        """(B, K) latent vectors and (B, C) mean features -> (B, 1) margin, log odds once it is calibrated."""
        return self.out(torch.relu(self.from_latent(latent) + self.from_features(pooled)))

    def forward(self, latent: Tensor, features: Tensor) -> Tensor:
        """Return the probability (B, 1)."""
        pooled = nn.functional.avg_pool2d(features, features.shape[2:]).flatten(1)
        return torch.sigmoid(self.margin(latent, pooled))
