"""Fitting and calibrating a confidence head; the rest of the network stays as it is.

The network's numbers and its own errors are a small regression problem that takes seconds.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from training.confidence.error_samples import NO_FACE_NME, ErrorSamples
from training.networks.confidence import LIMIT_NME, ConfidenceHead

STEPS = 3000
RATE = 5e-3
# Log odds per unit of margin while fitting: an NME e times the limit is bad with a probability of 98 %.
SHARPNESS = 4.0


def fit_head(head: ConfidenceHead, samples: ErrorSamples, steps: int = STEPS, seed: int = 0) -> None:
    """Fit the margin to the error by mean absolute difference, and its sign to good or bad by cross-entropy.

    The first makes it a scale of errors, the second spends the head's capacity round the limit. Inputs are standardised
    meanwhile.
    """
    torch.manual_seed(seed)
    for layer in (head.from_latent, head.from_features, head.out):
        layer.reset_parameters()
    latent, mean_latent, spread_latent = _standardised(samples.latent)
    pooled, mean_pooled, spread_pooled = _standardised(samples.pooled)
    wanted = (math.log(LIMIT_NME) - samples.nme.clamp(1e-3, NO_FACE_NME).log())[:, None]
    is_good = (wanted > 0).float()
    optimiser = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=0.3)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        chosen = torch.randint(len(wanted), (512,))
        margin = head.margin(latent[chosen], pooled[chosen])
        loss = (margin - wanted[chosen]).abs().mean()
        loss = loss + nn.functional.binary_cross_entropy_with_logits(SHARPNESS * margin, is_good[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rates.step()
    _take_in(head.from_latent, mean_latent, spread_latent)
    _take_in(head.from_features, mean_pooled, spread_pooled)


def calibrate(head: ConfidenceHead, samples: ErrorSamples) -> None:
    """Make the margin log odds, by logistic regression (Platt, 1999) of NME < 8 % on it."""
    with torch.no_grad():
        margin = head.margin(samples.latent, samples.pooled)[:, 0].double()
    is_good = samples.nme < LIMIT_NME
    # Platt's targets instead of 1 and 0: with few crops of a kind the line stays finite.
    wanted = torch.where(is_good, 1 - 1 / (is_good.sum() + 2), 1 / ((~is_good).sum() + 2)).double()
    line = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([line], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = nn.functional.binary_cross_entropy_with_logits(line[0] * margin + line[1], wanted)
        value.backward()
        return value

    optimiser.step(loss)
    slope, offset = line.tolist()
    with torch.no_grad():
        head.out.weight *= slope
        head.out.bias.mul_(slope).add_(offset)


def _standardised(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``values`` (N, C) with mean 0 and spread 1, and their means and spreads (C,)."""
    mean, spread = values.mean(0), values.std(0) + 1e-3
    return (values - mean) / spread, mean, spread


@torch.no_grad()
def _take_in(layer: nn.Linear, mean: Tensor, spread: Tensor) -> None:
    """Make a layer that was fitted to standardised inputs take the inputs themselves."""
    layer.bias -= layer.weight @ (mean / spread)
    layer.weight /= spread
