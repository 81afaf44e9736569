"""The network of eye openings: 768 features, 24 hidden numbers, one opening."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from runtime.expressions.expression import BLINK_BELOW
from training.eyes.eye_samples import EyeSamples

HIDDEN = 24
EPOCHS = 40
BATCH = 256
RATE = 2e-3
DECAY = 0.03
DROPOUT = 0.2
HUBER = 0.05
CLOSED_WEIGHT = 4.0  # of an eye below the blink: there are few of them


def fit_network(samples: EyeSamples, seed: int) -> dict[str, NDArray]:
    """Return the arrays of the runtime's file, fitted to the training eyes."""
    torch.manual_seed(seed)
    train = ~samples.is_val
    features, openings = torch.from_numpy(samples.features[train]), torch.from_numpy(samples.openings[train])
    weights = 1 + (CLOSED_WEIGHT - 1) * (openings < BLINK_BELOW).float()
    network = torch.nn.Sequential(
        torch.nn.Dropout(DROPOUT),
        torch.nn.Linear(features.shape[1], HIDDEN),
        torch.nn.ReLU(),
        torch.nn.Linear(HIDDEN, 1),
    )
    torch.nn.init.constant_(network[3].bias, float(openings.mean()))
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY)
    steps = EPOCHS * -(-len(openings) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(openings)).split(BATCH):
            error = network(features[batch])[:, 0] - openings[batch]
            losses = torch.nn.functional.huber_loss(error, torch.zeros_like(error), reduction="none", delta=HUBER)
            loss = (weights[batch] * losses).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    hidden, out = network[1], network[3]
    return {
        "hidden": hidden.weight.detach().numpy().T.astype(np.float16),
        "hidden_bias": hidden.bias.detach().numpy(),
        "out": out.weight.detach().numpy()[0],
        "out_bias": np.float32(out.bias.item()),
    }


def judge_network(arrays: dict[str, NDArray], samples: EyeSamples) -> dict[str, float]:
    """Return how far the openings of the validation eyes are from those that people marked."""
    features, marked = samples.features[samples.is_val], samples.openings[samples.is_val]
    hidden = np.maximum(features @ arrays["hidden"].astype(np.float32) + arrays["hidden_bias"], 0)
    found = np.maximum(hidden @ arrays["out"] + arrays["out_bias"], 0)
    closed, blinks = marked < BLINK_BELOW / 2, found < BLINK_BELOW
    is_open = marked >= BLINK_BELOW
    return {
        "eyes": len(marked),
        "correlation": float(np.corrcoef(found, marked)[0, 1]) if min(np.ptp(found), np.ptp(marked)) > 0 else 0.0,
        "mean_error": float(np.abs(found - marked).mean()),
        "closed": int(closed.sum()),
        "closed_found": int((closed & blinks).sum()),
        "open": int(is_open.sum()),
        "open_taken_for_closed": int((is_open & blinks).sum()),
    }
