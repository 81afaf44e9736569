"""The task of networks that put out position maps, `training.loop.Objective`."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from training.data.dataset import CropBatch
from training.data.labels import FaceLabels
from training.networks.inputs import InputForm, image_tensor
from training.uv.labelled_faces import LabelledFaces
from training.uv.targets import PositionMapLoss, PositionMapTargets


class MapObjective(LabelledFaces):
    """`PositionMapLoss`, each crop times the label weight of its source, and the loss against points by hand."""

    def __init__(
        self,
        network: nn.Module,
        targets: PositionMapTargets,
        map_loss: PositionMapLoss,
        labels: FaceLabels,
        label_weights: dict[str, float] | None = None,
        hand_weight: float = 0.0,
    ) -> None:
        """Take form of input and scale of output from ``network``; weights as in `LabelledFaces`."""
        super().__init__(labels, label_weights, hand_weight)
        self._form = InputForm.of(network)
        self._scale = network.output_scale
        self.targets = targets
        self.map_loss = map_loss

    def images(self, batch: CropBatch) -> Tensor:
        return image_tensor(self._form, self.on_device(batch.images))

    def loss(self, run: Callable[[Tensor], Tensor], batch: CropBatch, epoch: int) -> Tensor:
        """Return a scalar; it does not change with the epoch."""
        maps, targets = run(self.images(batch)) * self._scale, self.target(batch)
        weights = self.label_weight[self.on_device(batch.rows)]
        loss = (self.map_loss(maps, *targets, self.on_device(batch.box_size_px)) * weights).mean()
        return self.with_hand_points(loss, self.map_loss.landmarks(maps), batch) if self.hand_weight else loss

    def landmarks(self, run: Callable[[Tensor], Tensor], batch: CropBatch) -> tuple[Tensor, Tensor]:
        return self.map_loss.landmarks(run(self.images(batch)) * self._scale), self.target(batch)[1]

    def target(self, batch: CropBatch) -> tuple[Tensor, Tensor]:
        """Return position maps (B, 3, M, M) and landmarks (B, 68, 3) of the labels, crop px."""
        rows, poses, mirrored = map(self.on_device, (batch.rows, batch.poses, batch.mirrored))
        return self.targets(self.coefficients[rows], poses, mirrored)
