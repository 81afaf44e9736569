"""Loss against landmarks by hand, as 2DASL uses 2D faces (Tu et al., IEEE TMM 2020), beside that of the map."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.uv.landmarks68 import INNER, MIRROR


class HandPointLoss(nn.Module):
    """Mean 2D distance of predicted landmarks to visible points by hand, in units of the face.

    The unit is sqrt(width × height) of the landmark box. Data sets define the same landmark differently: lids, brows
    and mouth corners lie up to 2 % of the face apart. So every source has offsets of its own, learned with the network:
    box units along the face's own axes, right and down, symmetric, zero a priori. The map's definition stays that of
    the face model. Contour points are left out: people mark the visible outline there, no fixed vertex.
    """

    def __init__(self, sources: Sequence[str], prior: float = 0.005) -> None:
        """Begin with zero offsets; ``prior`` times the sum of their squares, in box units, is added to the loss."""
        super().__init__()
        self.sources = list(sources)
        self.prior = prior
        self.offsets = nn.Parameter(torch.zeros(len(self.sources), 68, 2))
        self.register_buffer("mirror", torch.from_numpy(MIRROR))
        self.register_buffer("flip", torch.tensor([-1.0, 1.0]))

    def symmetric_offsets(self) -> Tensor:
        """Return (S, 68, 2): a mirrored face has the mirrored offsets."""
        return (self.offsets + self.offsets[:, self.mirror] * self.flip) / 2

    def forward(self, landmarks: Tensor, hand68: Tensor, poses: Tensor, source: Tensor, box_size_px: Tensor) -> Tensor:
        """Return a scalar; arguments as in `distances`.

        Points that are missing count as zero, so one point weighs the same in every batch.
        """
        distance, known = self.distances(landmarks, hand68, poses, source, box_size_px)
        return (distance * known).sum() / known.numel() + self.prior * self.symmetric_offsets().square().sum()

    def distances(
        self, landmarks: Tensor, hand68: Tensor, poses: Tensor, source: Tensor, box_size_px: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return distances in box units (B, 51) and (B, 51) bool: there is a point.

        ``landmarks`` (B, 68, 2 or 3) and ``hand68`` (B, 68, 2) crop px, NaN where there is no point; ``poses``
        (B, 3, 4) face model to crop px; ``source`` (B,) place in ``sources``; ``box_size_px`` (B,) the unit, px.
        """
        down = -nn.functional.normalize(poses[:, :2, 1], dim=1)
        right = torch.stack([down[:, 1], -down[:, 0]], 1)
        shift = self.symmetric_offsets()[source] @ torch.stack([right, down], 1)
        known = hand68[:, INNER].isfinite().all(2)
        wanted = torch.where(known[..., None], hand68[:, INNER], 0.0)
        difference = (landmarks[:, INNER, :2] - wanted) / box_size_px[:, None, None] + shift[:, INNER]
        return (difference.square().sum(2) + 1e-8).sqrt(), known
