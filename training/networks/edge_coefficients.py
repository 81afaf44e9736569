"""Encoder of the edge network with a head of coefficients: pose, shape and expression instead of a position map.

    image (B, 3, 128, 128) ─ mobile encoder ─▶ (B, 512, 4, 4) ─ 4×4 convolution ─▶ latent (B, K) ─ linear ─▶ (B, 62)

The encoder and the latent vector can start at an edge network, whose maps the latent vector spans; pose and
coefficients of a face depend on it nearly linearly.
"""

from __future__ import annotations

from torch import Tensor, nn

from training.networks.edge import EdgeNet, MobileEncoder
from training.networks.forms import EdgeCoefficientsForm


class EdgeCoefficients(nn.Module, EdgeCoefficientsForm):
    """(B, 3, 128, 128) float32 BGR in (x - 127.5) / 128 -> (B, 62) whitened numbers, 12 + 40 + 10."""

    def __init__(self, latent: int = 64) -> None:
        super().__init__()
        self.encoder = MobileEncoder()
        self._make_head(latent)

    def _make_head(self, latent: int) -> None:
        self.squeeze = nn.Conv2d(512, latent, self.input_size // 32)
        self.numbers = nn.Linear(latent, self.count)

    def adapt_to(self, state: dict[str, Tensor]) -> None:
        """Take over the latent size of a state dict that is about to be loaded."""
        weight = state.get("squeeze.weight")
        if weight is not None and weight.ndim == 4 and len(weight) != self.squeeze.out_channels:
            self._make_head(len(weight))

    def forward(self, image: Tensor) -> Tensor:
        return self.numbers(self.squeeze(self.encoder(image)).flatten(1))

    def start_at(self, edge: EdgeNet) -> None:
        """Take encoder and latent vector of an edge network; the head stays fresh."""
        self.adapt_to(edge.state_dict())
        self.encoder.load_state_dict(edge.encoder.state_dict())
        self.squeeze.load_state_dict(edge.squeeze.state_dict())
