"""The task of networks that put out face-model coefficients, `training.loop.Objective`.

After 2DASL (Tu et al., IEEE TMM 2020, arXiv 1903.09359): rows with labels learn from them; rows of label weight 0 have
points by hand alone and learn from those, from the consistency of landmarks and from the critic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from runtime.compiled import native
from runtime.families.face_model import FaceModel
from training.coefficients.critic import SelfCritic
from training.coefficients.face_numbers import FaceNumbers
from training.coefficients.losses import (
    CoefficientLoss,
    OffsetLoss,
    central_weights,
    check_losses,
    drawn_points,
    point_distance,
)
from training.data.dataset import CropBatch
from training.data.labels import FaceLabels
from training.networks.coefficients import CoefficientNetwork
from training.networks.inputs import InputForm, image_tensor
from training.uv.labelled_faces import LabelledFaces
from training.uv.landmarks68 import INNER

CRITIC_RATE_FACTOR = 0.5  # of the run's learning rate


@dataclass(frozen=True)
class LossPlan:
    """Losses that count, by their names in `training.coefficients.losses.LOSSES`, and when."""

    weights: dict[str, float] = field(default_factory=lambda: {"coefficients": 1.0})
    second_weights: dict[str, float] | None = None  # of the second stage
    second_stage: int | None = None  # first epoch, from 0, of the second stage; None: there is none
    central_weight: float = 1.0  # of nose, eyes and mouth in the losses of landmarks; contour and brows have 1

    def at(self, epoch: int) -> dict[str, float]:
        """Return the weights of an epoch."""
        is_second = self.second_stage is not None and epoch >= self.second_stage
        return self.second_weights if is_second else self.weights

    @property
    def names(self) -> set[str]:
        """Losses of either stage."""
        return set(self.weights) | set(self.second_weights or {})


class CoefficientObjective(LabelledFaces):
    """Losses of a plan, each crop's labels times the label weight of its source, and points by hand."""

    def __init__(
        self,
        network: CoefficientNetwork,
        model: FaceModel,
        labels: FaceLabels,
        plan: LossPlan,
        label_weights: dict[str, float] | None = None,
        hand_weight: float = 0.0,
    ) -> None:
        """Take input and output from ``network``, whose whitening must be set; weights as in `LabelledFaces`."""
        super().__init__(labels, label_weights, hand_weight)
        check_losses(dict.fromkeys(plan.names), network.landmark_channel)
        self.plan = plan
        self._form = InputForm.of(network)
        self._size = network.input_size
        self._has_channel = network.landmark_channel
        self._whitening = network.whitening
        self.numbers = FaceNumbers(model, network)
        self.coefficient_loss = CoefficientLoss(self.numbers)
        self.offset_loss = OffsetLoss(self.numbers, network.shape_count)
        self.register_buffer("central", central_weights(plan.central_weight), persistent=False)
        self.critic = SelfCritic(self._size, 3, network.count) if "critic" in plan.names else None

    def images(self, batch: CropBatch) -> Tensor:
        """Return pictures, with the landmark channel of points that are off by the batch's noise."""
        pictures = image_tensor(self._form, self.on_device(batch.images))
        if not self._has_channel:
            return pictures
        points, _ = self._points_2d(batch, self._truth(batch)[1])
        noise = self.on_device(batch.noise68) * self.on_device(batch.box_size_px)[:, None, None]
        return torch.cat([pictures, self._channel(points + noise)], 1)

    def loss(self, run: Callable[[Tensor], Tensor], batch: CropBatch, epoch: int) -> Tensor:
        """Return the weighted sum of the epoch's losses, and of the critic's own."""
        weights, images = self.plan.at(epoch), self.images(batch)
        rows = run(images)
        true_rows, true_landmarks, true_vertices = self._truth(batch)
        poses, mirrored, box_size_px = map(self.on_device, (batch.poses, batch.mirrored, batch.box_size_px))
        landmarks, vertices = self.numbers.points(rows, poses, mirrored)
        labelled = self.label_weight[self.on_device(batch.rows)]
        terms: dict[str, Tensor] = {}
        if "coefficients" in weights:
            terms["coefficients"] = labelled * self.coefficient_loss(rows, true_rows, poses)
        if "offsets" in weights:
            terms["offsets"] = labelled * self.offset_loss(rows, true_rows)
        if "vertices" in weights:
            terms["vertices"] = labelled * point_distance(vertices, true_vertices, box_size_px)
        if "landmarks" in weights:
            pair = (landmarks[..., :2], true_landmarks[..., :2])
            terms["landmarks"] = labelled * point_distance(*pair, box_size_px, self.central)
        if "consistency3d" in weights:
            terms["consistency3d"] = labelled * point_distance(landmarks, true_landmarks, box_size_px, self.central)
        if "consistency2d" in weights or "cycle" in weights:
            terms |= self._consistency(run, images, landmarks, true_landmarks, batch, weights)
        if "critic" in weights:
            terms["critic"] = self.critic.doubt(images[:, :3], rows)
        loss = sum(weights[name] * term.mean() for name, term in terms.items())
        if "critic" in weights:  # its own loss has no weight: its optimiser's steps do not depend on one
            loss = loss + (labelled * self.critic.error(images[:, :3], rows, true_rows)).mean()
        return self.with_hand_points(loss, landmarks, batch)

    def _consistency(
        self,
        run: Callable[[Tensor], Tensor],
        images: Tensor,
        landmarks: Tensor,
        true_landmarks: Tensor,
        batch: CropBatch,
        weights: dict[str, float],
    ) -> dict[str, Tensor]:
        """Return the losses that have to do with the landmark channel."""
        poses, mirrored, box_size_px = map(self.on_device, (batch.poses, batch.mirrored, batch.box_size_px))
        points, known = self._points_2d(batch, true_landmarks)
        terms = {}
        if "consistency2d" in weights:
            drawn_known = drawn_points(known.float()[..., None])[..., 0] == 1
            central = drawn_points(self.central[None, :, None])[0, :, 0]
            pair = (drawn_points(landmarks[..., :2]), drawn_points(points))
            terms["consistency2d"] = point_distance(*pair, box_size_px, central, drawn_known)
        if "cycle" in weights:
            again = torch.cat([images[:, :3], self._channel(landmarks[..., :2].detach())], 1)
            back, _ = self.numbers.points(run(again), poses, mirrored)
            terms["cycle"] = point_distance(back[..., :2], points, box_size_px, self.central, known)
        return terms

    def landmarks(self, run: Callable[[Tensor], Tensor], batch: CropBatch) -> tuple[Tensor, Tensor]:
        """Return predicted and true landmarks; a network without pose is given the labels'."""
        poses, mirrored = map(self.on_device, (batch.poses, batch.mirrored))
        return self.numbers.points(run(self.images(batch)), poses, mirrored)[0], self._truth(batch)[1]

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the offsets of data sets and the critic."""
        groups = super().parameter_groups()
        if self.critic is None:
            return groups
        return [*groups, {"params": list(self.critic.parameters()), "rate_factor": CRITIC_RATE_FACTOR}]

    def record(self) -> dict[str, Any]:
        """Return the whitening: without it the network's numbers mean nothing."""
        pair = {"mean": self._whitening.mean, "std": self._whitening.std}
        return {"whitening": {name: torch.from_numpy(values) for name, values in pair.items()}}

    def _truth(self, batch: CropBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Return whitened rows, landmarks and vertices of the labels."""
        rows, poses, mirrored = map(self.on_device, (batch.rows, batch.poses, batch.mirrored))
        faces = (self.coefficients[rows], poses, mirrored)
        return self.numbers.rows(*faces), *self.numbers.true_points(*faces)

    def _points_2d(self, batch: CropBatch, true_landmarks: Tensor) -> tuple[Tensor, Tensor]:
        """Return the landmarks (B, 68, 2) that a face is known by, crop px, and which of them are known (B, 68).

        Those are the label's; in rows of label weight 0, which have none to be trusted, the inner points by hand. The
        others are needed for the channel alone.
        """
        by_hand = self.on_device(batch.hand68)
        trusted = (self.label_weight[self.on_device(batch.rows)] > 0)[:, None]
        marked = by_hand.isfinite().all(2)
        marked[:, : INNER.start] = False
        points = torch.where((~trusted & marked)[..., None], by_hand, true_landmarks[..., :2])
        return points, trusted | marked

    def _channel(self, points: Tensor) -> Tensor:
        """Draw points (B, 68, 2) crop px as the runtime does: (B, 1, S, S)."""
        drawn = draw_channels(points.detach().cpu().numpy(), self._size)
        return torch.from_numpy(drawn).to(points.device)


def draw_channels(points: NDArray[np.floating], size: int) -> NDArray[np.float32]:
    """Return landmark channels (B, 1, S, S) of points (B, 68, 2) crop px."""
    planes = np.empty((len(points), 1, size, size), np.float32)
    points = np.pad(points.astype(np.float32), ((0, 0), (0, 0), (0, 1)))  # their z is not read
    for face, plane in zip(points, planes, strict=True):
        native.draw_landmarks(face, np.eye(2, 3), plane[0])
    return planes
