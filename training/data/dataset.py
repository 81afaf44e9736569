"""Training faces: perturbed crops of photographs and, per crop, the map from face-model coordinates to crop pixels.

Batches are made in worker processes by OpenCV; the position maps themselves are made from the coefficients on the training
device (`training.uv.targets`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.geometry.crop import crop_matrix, warp_crop
from training.data.augment import Augmentation, occlude, photometric
from training.data.labels import FaceLabels


@dataclass(frozen=True, eq=False)
class CropBatch:
    """B crops, what the workers hand over."""

    rows: NDArray[np.int64]  # (B,) rows of the labels
    images: NDArray[np.uint8]  # (B, S, S, 3) BGR
    poses: NDArray[np.float32]  # (B, 3, 4): crop px (x, y, z) = pose @ (face-model point, 1); z = 0 at the lowest vertex
    mirrored: NDArray[np.bool_]  # (B,) whether the map must be read with its columns reversed
    box_size_px: NDArray[np.float32]  # (B,) sqrt(width * height) of the landmark box in crop px


class FaceCrops:
    """Item i is a whole batch, the same for the same (seed, epoch, i) whoever makes it: a resumed run sees what it would have seen.

    ``images[i]`` (H, W, 3) uint8 BGR and ``lowest_z[i]`` (px of that picture) belong to row i of ``labels``; ``rows`` are those to draw
    from; ``weights`` (len(rows),) how often.
    With ``augmentation=None`` rows come in order and unperturbed (validation), the last batch shorter.
    """

    def __init__(
        self,
        labels: FaceLabels,
        images: Sequence[NDArray[np.uint8]],
        lowest_z: NDArray[np.float32],
        rows: NDArray[np.int64],
        size: int,
        crop_scale: float,
        batch_size: int,
        augmentation: Augmentation | None = None,
        weights: NDArray[np.float64] | None = None,
        seed: int = 0,
    ) -> None:
        self.labels, self.images, self.lowest_z, self.rows = labels, images, lowest_z, rows
        self.size, self.crop_scale, self.batch_size = size, crop_scale, batch_size
        self.augmentation, self.seed = augmentation, seed
        self.probability = None if weights is None else weights / weights.sum()
        self.epoch = 0

    def __len__(self) -> int:
        count = len(self.rows) / self.batch_size
        return int(count) if self.augmentation else int(np.ceil(count))

    def __getitem__(self, index: int) -> CropBatch:
        cv2.setNumThreads(1)
        generator = np.random.default_rng((self.seed, self.epoch, index))
        if self.augmentation is None:
            rows = self.rows[index * self.batch_size : (index + 1) * self.batch_size]
        else:
            rows = generator.choice(self.rows, self.batch_size, p=self.probability)
        return CropBatch(rows, *(np.stack(column) for column in zip(*(self._crop(row, generator) for row in rows), strict=True)))

    def _crop(self, row: int, generator: np.random.Generator) -> tuple:
        labels, augmentation = self.labels, self.augmentation
        turn, mirrored, border = np.eye(3), False, None
        if augmentation is not None:
            mirrored = bool(generator.random() < 0.5)
            turn = augmentation.draw_turn(generator, labels.box[row], mirrored)
        points = labels.pts68[row, :, :2] @ turn[:2, :2].T + turn[:2, 2]
        low, high = points.min(0), points.max(0)
        box = np.concatenate([low, high])
        if augmentation is not None:
            box = augmentation.jitter_box(generator, box)
            border = augmentation.draw_border(generator, self.size)
        crop = crop_matrix(box, self.crop_scale, self.size)
        matrix, picture = crop @ turn, self.images[row]
        image = warp_crop(picture, matrix, self.size)
        if border is not None:
            inside = cv2.warpAffine(np.ones(picture.shape[:2], np.uint8), matrix, (self.size, self.size), flags=cv2.INTER_NEAREST)
            image = np.where(inside[..., None] > 0, image, border)
        if augmentation is not None:
            image = occlude(generator, photometric(generator, image, augmentation), augmentation)
        box_size = crop[0, 0] * np.sqrt(np.prod(high - low))  # neither turning nor mirroring changes sizes
        return image, self._pose(row, matrix), mirrored, np.float32(box_size)

    def _pose(self, row: int, matrix: NDArray[np.float64]) -> NDArray[np.float32]:
        """Weak perspective of the label followed by the crop."""
        labels = self.labels
        zoom = np.sqrt(abs(np.linalg.det(matrix[:, :2])))
        rigid = labels.scale[row] * labels.rotation[row]
        pose = np.zeros((3, 4), np.float32)
        pose[:2, :3] = matrix[:, :2] @ rigid[:2]
        pose[:2, 3] = matrix[:, :2] @ labels.translation[row, :2] + matrix[:, 2]
        pose[2, :3] = zoom * rigid[2]
        pose[2, 3] = -zoom * self.lowest_z[row]
        return pose
