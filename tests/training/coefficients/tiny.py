"""Small networks of coefficients for the toy face model, and crops for them."""

from __future__ import annotations

import torch
from torch import nn

from runtime.geometry.crop import longer_side_crop_matrix
from tests.training.toy import dot_pictures, toy_face_model, toy_labels
from training.coefficients.face_numbers import FaceNumbers, measure_whitening
from training.data.augment import Augmentation
from training.data.dataset import FaceCrops
from training.data.labels import FaceLabels
from training.networks.coefficients import CoefficientNetwork
from training.uv.targets import lowest_z

GENTLE = Augmentation(rotation_deg=20.0, occlusion=0.0, degradation=0.0)


class Tiny(nn.Module, CoefficientNetwork):
    """2 + 1 coefficients and a pose, from pictures alone."""

    input_size, crop_scale, colour_order, value_range = 32, 1.4, "BGR", (-1.0, 1.0)
    pose_count, shape_count, expression_count, origin = 12, 2, 1, (0.5, 31.0)

    def __init__(self) -> None:
        super().__init__()
        channels = 4 if self.landmark_channel else 3
        self.trunk = nn.Sequential(nn.Conv2d(channels, 16, 4, 4), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten())
        self.head = nn.Linear(16 * 64, self.count)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.trunk(image))


class TinyWithChannel(Tiny):
    """The same, with a landmark channel."""

    landmark_channel = True


class TinyWithoutPose(Tiny):
    """The same, without a pose."""

    pose_count = 0


def toy_crops(
    network: Tiny, labels: FaceLabels | None = None, augmentation: Augmentation | None = GENTLE, noise: float = 0.0
) -> FaceCrops:
    """Crops of 8 faces a batch; of the training rows, or with ``augmentation`` None of the validation rows."""
    model = toy_face_model()
    labels = toy_labels(model, 64) if labels is None else labels
    rows = (labels.is_val if augmentation is None else ~labels.is_val).nonzero()[0]
    faces = (labels, dot_pictures(labels), lowest_z(model, labels), rows, network.input_size, network.crop_scale, 8)
    return FaceCrops(*faces, augmentation, rule=longer_side_crop_matrix, landmark_noise=noise)


def whitened(network: Tiny, crops: FaceCrops) -> Tiny:
    """Give a network the whitening of some crops."""
    numbers = FaceNumbers(toy_face_model(), network)
    batches = [crops[index] for index in range(len(crops))]
    network.whitening = measure_whitening(numbers, torch.from_numpy(crops.labels.coefficients), batches)
    return network
