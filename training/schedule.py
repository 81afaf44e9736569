"""Length and learning rate of a run."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Length and learning rate of a run. One epoch draws as many faces as there are training rows."""

    epochs: int = 20
    learning_rate: float = 1e-4
    decay: str = "step"  # halved every ``halve_every`` epochs, as published; "cosine": to zero, after a short warm-up
    halve_every: int = 5
    weight_decay: float = 0.0
    average_decay: float = 0.999  # of the exponential moving average of the weights, the ones validated and kept
    bfloat16: bool = False
    checkpoint_minutes: float = 5.0  # between checkpoints within an epoch

    def rate(self, epoch: float) -> float:
        """Return the learning rate at a fractional epoch."""
        if self.decay == "step":
            return self.learning_rate * 0.5 ** (int(epoch) // self.halve_every)
        warm_up = min(1.0, epoch / 0.3 + 0.05)
        return self.learning_rate * warm_up * 0.5 * (1 + math.cos(math.pi * min(1.0, epoch / self.epochs)))
