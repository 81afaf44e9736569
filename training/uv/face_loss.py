"""The loss of a batch: map and landmarks against labels, landmarks against points by hand, weighed by data set."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from training.data.dataset import CropBatch
from training.data.labels import FaceLabels
from training.uv.hand_points import HandPointLoss
from training.uv.targets import PositionMapLoss


class FaceLoss(nn.Module):
    """`PositionMapLoss`, each crop times the label weight of its source, plus ``hand_weight`` × `HandPointLoss`."""

    def __init__(
        self,
        map_loss: PositionMapLoss,
        labels: FaceLabels,
        label_weights: dict[str, float] | None = None,
        hand_weight: float = 0.0,
    ) -> None:
        """Keep the weights; ``label_weights`` by source, 1 if not named; ``hand_weight`` 0: no points by hand."""
        super().__init__()
        self.map_loss = map_loss
        weights = [(label_weights or {}).get(name, 1.0) for name in labels.source.tolist()]
        self.register_buffer("label_weight", torch.tensor(weights), persistent=False)
        # Sources without points share the first offsets, which no point of theirs uses.
        marked = np.zeros(len(labels), bool) if labels.hand68 is None else np.isfinite(labels.hand68).any((1, 2))
        place = {name: number for number, name in enumerate(np.unique(labels.source[marked]).tolist())}
        numbers = np.array([place.get(name, 0) for name in labels.source.tolist()])
        self.register_buffer("number", torch.from_numpy(numbers), persistent=False)
        self.hand_weight = hand_weight
        self.hand_loss = HandPointLoss(list(place) or [""])
        self.hand_loss.requires_grad_(hand_weight > 0)

    def forward(self, maps: Tensor, targets: tuple[Tensor, Tensor], batch: CropBatch) -> Tensor:
        """Return a scalar; maps (B, 3, M, M) and targets (maps, landmarks) are in crop px."""
        box_size_px = torch.from_numpy(batch.box_size_px).to(maps.device)
        rows = torch.from_numpy(batch.rows).to(maps.device)
        loss = (self.map_loss(maps, *targets, box_size_px) * self.label_weight[rows]).mean()
        if not self.hand_weight:
            return loss
        hand68, poses = (torch.from_numpy(array).to(maps.device) for array in (batch.hand68, batch.poses))
        return loss + self.hand_weight * self.hand_loss(
            self.map_loss.landmarks(maps), hand68, poses, self.number[rows], box_size_px
        )

    def hand_errors(self, landmarks: Tensor, batch: CropBatch) -> Tensor:
        """Return the mean distance to visible inner points by hand in box units, (B,), NaN without points.

        Offsets of the source are taken off.
        """
        arrays = (
            torch.from_numpy(array).to(landmarks.device) for array in (batch.hand68, batch.poses, batch.box_size_px)
        )
        hand68, poses, box_size_px = arrays
        source = self.number[torch.from_numpy(batch.rows).to(landmarks.device)]
        distance, known = self.hand_loss.distances(landmarks, hand68, poses, source, box_size_px)
        return (distance * known).sum(1) / known.sum(1)
