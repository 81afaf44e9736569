"""Losses of rows of coefficients and of the points that they mean; each returns one number per crop, (B,).

Distances are in units of the face: sqrt(width × height) of the landmark box.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from runtime.errors import FaceMeshError
from training.coefficients.face_numbers import DEPTH_SHIFT, FaceNumbers

EXPRESSION_WEIGHT = 5.0
CONTOUR_AND_BROWS = 27  # landmarks before it are no central ones
# The points that 2DASL draws, as a pair of landmarks each, the mean of which is taken.
DRAWN_POINTS = np.array(
    [(k, k) for k in (17, 19, 21, 22, 24, 26, 36)]
    + [(37, 40), (39, 39), (42, 42), (43, 46), (45, 45)]
    + [(k, k) for k in (31, 30, 35, 48)]
    + [(62, 66), (54, 54)]
)

LOSSES = {
    "coefficients": "squares of the numbers, weighted by the vertices that they move (WPDC)",
    "vertices": "distance of vertices (VDC)",
    "offsets": "squares of the vertices' offsets by shape, and five times those by expression (UH-E2FAR)",
    "landmarks": "distance of the 68 landmarks in the picture",
    "consistency2d": "distance of landmarks to the points in the network's landmark channel",
    "consistency3d": "distance of the 68 landmarks in space",
    "cycle": "distance of landmarks once the predicted ones are in the landmark channel",
    "critic": "a critic's doubt that the numbers belong to the picture",
}


def parse_losses(text: str) -> dict[str, float]:
    """Return the weights of a text like ``coefficients=1,cycle=0.5``. Raises `ValueError` that names the fault."""
    weights: dict[str, float] = {}
    for item in filter(None, text.split(",")):
        name, _, value = item.partition("=")
        if name not in LOSSES:
            raise ValueError(f"no loss is called {name!r}; there are {', '.join(LOSSES)}")
        try:
            weights[name] = float(value)
        except ValueError:
            raise ValueError(f"expected NAME=WEIGHT, got {item!r}") from None
        if not 0 <= weights[name] < float("inf"):
            raise ValueError(f"the weight of {name} must be a number from 0 on, is {value}")
    if not any(weights.values()):
        raise ValueError(f"{text!r} switches all losses off; give one a weight above 0")
    return {name: weight for name, weight in weights.items() if weight}


def check_losses(weights: dict[str, float], has_channel: bool) -> None:
    """Raise `FaceMeshError` for losses that need a landmark channel which the network does not have."""
    if not has_channel and (wanted := sorted({"consistency2d", "cycle"} & set(weights))):
        raise FaceMeshError(
            f"--losses {wanted[0]}: the network takes no landmarks beside the picture; leave it out, or train 2dasl"
        )


class CoefficientLoss(nn.Module):
    """Weighted squares of whitened numbers, after 3DDFA's WPDC (Zhu et al., CVPR 2016, equation 13).

    The weight of a number is how far the vertices of the label's face move, root mean square, if the predicted number
    replaces the label's; the largest weight of a face is 1. No gradient goes through the weights. The depth's shift has
    no meaning and no weight.
    """

    def __init__(self, numbers: FaceNumbers) -> None:
        super().__init__()
        self.pose_count = numbers.pose_count
        self.register_buffer("number_std", numbers.number_std, persistent=False)
        columns = numbers.vertex_basis  # (N, 3, 1 + C)
        # rms over vertices of what a unit of each number moves: of the pose by x, y, z or 1, of a coefficient
        self.register_buffer("per_coefficient", columns[:, :, 1:].square().sum(1).mean(0).sqrt(), persistent=False)
        corner = torch.cat([columns[:, :, 0], torch.ones(len(columns), 1)], 1)
        self.register_buffer("per_pose", corner.square().mean(0).sqrt().repeat(3), persistent=False)

    def forward(self, rows: Tensor, true_rows: Tensor, poses: Tensor) -> Tensor:
        """Compare whitened rows (B, P); ``poses`` (B, 3, 4) of the labels tell the size of the face."""
        return (self.importance(rows, true_rows, poses) * (rows - true_rows).square()).mean(1)

    @torch.no_grad()
    def importance(self, rows: Tensor, true_rows: Tensor, poses: Tensor) -> Tensor:
        """Return the weights (B, P)."""
        size = poses[:, :2, :3].square().sum((1, 2)).div(2).sqrt()  # px per model unit
        moved = size[:, None] * self.per_coefficient
        if self.pose_count:
            moved = torch.cat([self.per_pose.expand(len(rows), -1), moved], 1)
        moved = moved * self.number_std * (rows - true_rows).abs()
        if self.pose_count:
            moved[:, DEPTH_SHIFT] = 0
        return moved / moved.amax(1, keepdim=True).clamp_min(1e-12)


class OffsetLoss(nn.Module):
    """Mean square of what vertices are off by shape and by expression, each by itself, before any pose.

    UH-E2FAR's loss (Dou et al., CVPR 2017): an error of the expression counts `EXPRESSION_WEIGHT` times. Lengths are in
    units of the mean face's landmark box, sqrt(width × height).
    """

    def __init__(self, numbers: FaceNumbers, shape_count: int) -> None:
        super().__init__()
        self.pose_count = numbers.pose_count
        columns = numbers.vertex_basis[:, :, 1:] * numbers.number_std[self.pose_count :]
        low, high = numbers.landmark_basis[:, :2, 0].aminmax(dim=0)
        columns = columns / (high - low).prod().sqrt() / len(columns) ** 0.5
        gram = torch.einsum("vdc,vde->ce", columns, columns)
        gram[:shape_count, shape_count:] = gram[shape_count:, :shape_count] = 0
        gram[shape_count:, shape_count:] *= EXPRESSION_WEIGHT
        self.register_buffer("gram", gram, persistent=False)

    def forward(self, rows: Tensor, true_rows: Tensor) -> Tensor:
        """Compare whitened rows (B, P)."""
        wrong = (rows - true_rows)[:, self.pose_count :]
        return (wrong @ self.gram * wrong).sum(1)


def point_distance(
    points: Tensor, truth: Tensor, box_size_px: Tensor, weights: Tensor | None = None, known: Tensor | None = None
) -> Tensor:
    """Return the weighted mean distance of points (B, N, D) in box units, (B,).

    ``weights`` (N,) are 1 if left out. Where ``known`` (B, N) is False a point counts as zero distance, so that one
    point weighs the same in every face.
    """
    if known is not None:
        truth = torch.where(known[..., None], truth, points.detach())
    distance = (((points - truth) / box_size_px[:, None, None]).square().sum(2) + 1e-8).sqrt()
    if known is not None:
        distance = distance * known
    return distance.mean(1) if weights is None else (distance * weights).sum(1) / weights.sum()


def central_weights(weight: float) -> Tensor:
    """Return weights (68,): ``weight`` for nose, eyes and mouth, 1 for contour and brows."""
    weights = torch.ones(68)
    weights[CONTOUR_AND_BROWS:] = weight
    return weights


def drawn_points(landmarks: Tensor) -> Tensor:
    """Return the 18 points of 68 landmarks (B, 68, D) that a landmark channel shows."""
    first, second = torch.from_numpy(DRAWN_POINTS).to(landmarks.device).T
    return (landmarks[:, first] + landmarks[:, second]) / 2
