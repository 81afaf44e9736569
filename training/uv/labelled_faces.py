"""The part that all objectives share: weights of the labels by data set, and the loss against points by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from training.data.dataset import CropBatch
from training.data.labels import FaceLabels
from training.uv.hand_points import HandPointLoss

HAND_RATE_FACTOR = 0.1  # of the run's learning rate, for the offsets of data sets


class LabelledFaces(nn.Module):
    """Coefficients and weights of labels by their row, and ``hand_weight`` × `HandPointLoss`."""

    def __init__(
        self, labels: FaceLabels, label_weights: dict[str, float] | None = None, hand_weight: float = 0.0
    ) -> None:
        """Keep the weights; ``label_weights`` by source, 1 if not named; ``hand_weight`` 0: no points by hand."""
        super().__init__()
        weights = [(label_weights or {}).get(name, 1.0) for name in labels.source.tolist()]
        self.register_buffer("label_weight", torch.tensor(weights), persistent=False)
        coefficients = torch.from_numpy(labels.coefficients.astype(np.float32))
        self.register_buffer("coefficients", coefficients, persistent=False)
        # Sources without points share the first offsets, which no point of theirs uses.
        marked = np.zeros(len(labels), bool) if labels.hand68 is None else np.isfinite(labels.hand68).any((1, 2))
        place = {name: number for number, name in enumerate(np.unique(labels.source[marked]).tolist())}
        numbers = np.array([place.get(name, 0) for name in labels.source.tolist()])
        self.register_buffer("number", torch.from_numpy(numbers), persistent=False)
        self.hand_weight = hand_weight
        self.hand_loss = HandPointLoss(list(place) or [""])
        self.hand_loss.requires_grad_(hand_weight > 0)

    def on_device(self, array: np.ndarray) -> Tensor:
        """Return an array of a batch on the device of the labels."""
        return torch.from_numpy(array).to(self.label_weight.device)

    def with_hand_points(self, loss: Tensor, landmarks: Tensor, batch: CropBatch) -> Tensor:
        """Add the weighted loss of landmarks (B, 68, 3), crop px, against points by hand; nothing at weight 0."""
        if not self.hand_weight:
            return loss
        hand68, poses, box_size_px = map(self.on_device, (batch.hand68, batch.poses, batch.box_size_px))
        source = self.number[self.on_device(batch.rows)]
        return loss + self.hand_weight * self.hand_loss(landmarks, hand68, poses, source, box_size_px)

    def hand_errors(self, landmarks: Tensor, batch: CropBatch) -> Tensor:
        """Return the mean distance to visible inner points by hand in box units, (B,), NaN without points.

        Offsets of the source are taken off.
        """
        hand68, poses, box_size_px = map(self.on_device, (batch.hand68, batch.poses, batch.box_size_px))
        source = self.number[self.on_device(batch.rows)]
        distance, known = self.hand_loss.distances(landmarks, hand68, poses, source, box_size_px)
        return (distance * known).sum(1) / known.sum(1)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the offsets of data sets, if they are learned."""
        own = [parameter for parameter in self.hand_loss.parameters() if parameter.requires_grad]
        return [{"params": own, "rate_factor": HAND_RATE_FACTOR, "weight_decay": 0.0}] if own else []

    def record(self) -> dict[str, Any]:
        """Return nothing: weights are all that a checkpoint needs."""
        return {}
