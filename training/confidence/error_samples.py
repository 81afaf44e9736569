"""Errors of a trained edge network on hard crops, with the numbers that the confidence head sees.

The crops are of faces, perturbed beyond those of training, and of no face.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.augment import Augmentation
from training.data.backgrounds import background_crop
from training.data.dataset import FaceCrops
from training.data.labels import FaceLabels
from training.networks.edge import EdgeNet
from training.networks.inputs import image_tensor
from training.uv.targets import PositionMapLoss, PositionMapTargets

BATCH = 48
NO_FACE_SHARE = 0.2
NO_FACE_NME = 0.5
# Faces as a tracker may lose them: wrongly rolled, out of the box, degraded, cut, covered.
HARD = Augmentation(translation=0.3, scale=(0.6, 1.7), occlusion=0.5, degradation=0.6, any_roll=0.25, cut=0.4)


@dataclass(frozen=True, eq=False)
class ErrorSamples:
    """N crops as the head sees them."""

    latent: Tensor  # (N, K) float32, latent vectors
    pooled: Tensor  # (N, C) float32, mean inner features
    nme: Tensor  # (N,) float32, fraction of the face
    is_face: Tensor  # (N,) bool


def hard_crops(
    network: EdgeNet, labels: FaceLabels, images: Sequence[NDArray[np.uint8]], rows: NDArray[np.int64], seed: int
) -> FaceCrops:
    """Return crops of ``rows`` perturbed by HARD; depth is ignored."""
    return FaceCrops(
        labels,
        images,
        np.zeros(len(labels), np.float32),
        rows,
        network.input_size,
        network.crop_scale,
        BATCH,
        HARD,
        seed=seed,
    )


@torch.no_grad()
def measure_errors(
    network: EdgeNet, crops: FaceCrops, targets: PositionMapTargets, loss: PositionMapLoss, batches: int
) -> ErrorSamples:
    """Run the network on ``batches`` batches of ``crops``, each with a share of crops beside the faces."""
    labels = crops.labels
    columns = []
    for index in range(batches):
        batch = crops[index]
        generator = np.random.default_rng((crops.seed, index, 1))
        empty = np.flatnonzero(generator.random(len(batch.rows)) < NO_FACE_SHARE)
        for place in empty:
            batch.images[place] = background_crop(generator, crops.images, labels.box, crops.rows, crops.size)
        inner, last = network.encoder.features(image_tensor(network, torch.from_numpy(batch.images)))
        latent = network.squeeze(last).flatten(1)
        maps = network.expand(latent).unflatten(1, (3, network.output_size, network.output_size))
        coefficients = torch.from_numpy(labels.coefficients[batch.rows])
        _, wanted = targets(coefficients, torch.from_numpy(batch.poses), torch.from_numpy(batch.mirrored))
        distance = (loss.landmarks(maps * network.output_scale) - wanted)[..., :2].norm(dim=2).mean(1)
        nme = distance / torch.from_numpy(batch.box_size_px)
        nme[empty] = NO_FACE_NME
        is_face = torch.ones(len(nme), dtype=torch.bool)
        is_face[empty] = False
        columns.append((latent, inner.mean((2, 3)), nme, is_face))
    return ErrorSamples(*(torch.cat(column) for column in zip(*columns, strict=True)))
