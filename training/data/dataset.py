"""Training faces: perturbed crops of photographs and, per crop, the map from face-model coordinates to crop pixels.

Batches are made in worker processes by OpenCV. The position maps themselves are made from the coefficients on the
training device (`training.uv.targets`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.geometry.crop import crop_matrix, warp_crop
from training.data.augment import Augmentation, occlude, photometric
from training.data.labels import FaceLabels
from training.data.landmark_noise import draw_noise
from training.data.surroundings import draw_kind, fill_outside
from training.uv.landmarks68 import MIRROR

CropRule = Callable[[NDArray[np.floating], float, int], NDArray[np.float64]]  # box, crop scale, size -> (2, 3) matrix
VISIBLE = 2  # of `FaceLabels.visible68`


@dataclass(frozen=True, eq=False)
class CropBatch:
    """B crops as the workers hand them over."""

    rows: NDArray[np.int64]  # (B,) rows of the labels
    images: NDArray[np.uint8]  # (B, S, S, 3) BGR
    # (B, 3, 4): crop px (x, y, z) = pose @ (face-model point, 1); z = 0 at the lowest vertex
    poses: NDArray[np.float32]
    mirrored: NDArray[np.bool_]  # (B,) True: the map must be read with its columns reversed
    box_size_px: NDArray[np.float32]  # (B,) sqrt(width * height) of the landmark box in crop px
    # (B, 68, 2) crop px by hand, mirrored with the crop; NaN where there is no visible point
    hand68: NDArray[np.float32]
    # (B, 68, 2) box units: how far off the landmarks are that a network takes beside the picture
    noise68: NDArray[np.float32]


class FaceCrops:
    """Batches of crops; item i is a whole batch that depends on (seed, epoch, i) alone, so runs can be resumed.

    ``images[i]`` (H, W, 3) uint8 BGR and ``lowest_z[i]`` (px of that picture) belong to row i of ``labels``.
    Batches are drawn from ``rows``, by ``weights`` (len(rows),) if they are given.
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
        crops_per_epoch: int | None = None,
        rule: CropRule = crop_matrix,
        landmark_noise: float = 0.0,
    ) -> None:
        """Keep the faces; ``crops_per_epoch`` counts with augmentation alone, the default is the number of rows.

        ``rule`` is the crop of the network's family; ``landmark_noise`` the mean distance of `CropBatch.noise68`.
        """
        self.labels = labels
        self.images = images
        self.lowest_z = lowest_z
        self.rows = rows
        self.size = size
        self.crop_scale = crop_scale
        self.batch_size = batch_size
        self.augmentation = augmentation
        self.seed = seed
        self.probability = None if weights is None else weights / weights.sum()
        self.crops_per_epoch = crops_per_epoch or len(rows)
        self.rule = rule
        self.landmark_noise = landmark_noise
        self.epoch = 0

    def __len__(self) -> int:
        if self.augmentation is None:
            return int(np.ceil(len(self.rows) / self.batch_size))
        return self.crops_per_epoch // self.batch_size

    def __getitem__(self, index: int) -> CropBatch:
        cv2.setNumThreads(1)
        generator = np.random.default_rng((self.seed, self.epoch, index))
        if self.augmentation is None:
            rows = self.rows[index * self.batch_size : (index + 1) * self.batch_size]
        else:
            rows = generator.choice(self.rows, self.batch_size, p=self.probability)
        columns = zip(*(self._crop(row, generator) for row in rows), strict=True)
        # A generator of its own, so that the crops do not depend on it.
        noise68 = draw_noise(np.random.default_rng((self.seed, self.epoch, index, 1)), len(rows), self.landmark_noise)
        return CropBatch(rows, *(np.stack(column) for column in columns), noise68)

    def _crop(self, row: int, generator: np.random.Generator) -> tuple:
        """Return the fields of a `CropBatch` for one row, but for the row."""
        labels, augmentation = self.labels, self.augmentation
        turn, angle, mirrored = np.eye(3), 0.0, False
        if augmentation is not None:
            mirrored = bool(generator.random() < 0.5)
            turn, angle = augmentation.draw_turn(generator, labels.box[row], mirrored)
        points = labels.pts68[row, :, :2] @ turn[:2, :2].T + turn[:2, 2]
        low, high = points.min(0), points.max(0)
        box = np.concatenate([low, high])
        if augmentation is not None:
            box = augmentation.jitter_box(generator, box, angle)
        crop = self.rule(box, self.crop_scale, self.size)
        matrix = crop @ turn
        image = self._image(row, matrix, generator)
        box_size = crop[0, 0] * np.sqrt(np.prod(high - low))  # neither turning nor mirroring changes sizes
        hand68 = self._hand_points(row, matrix, mirrored)
        return image, self._pose(row, matrix), mirrored, np.float32(box_size), hand68

    def _image(self, row: int, matrix: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.uint8]:
        """Return the crop of a picture; with augmentation cut, filled outside, in other colours, degraded, covered."""
        augmentation, picture = self.augmentation, self.images[row]
        if augmentation is None:
            return warp_crop(picture, matrix, self.size)
        x0, y0, x1, y1 = augmentation.draw_cut(generator, self.labels.box[row], picture.shape[1], picture.shape[0])
        part = picture[y0:y1, x0:x1]
        part_matrix = matrix.copy()
        part_matrix[:, 2] += matrix[:, :2] @ (x0, y0)
        image = warp_crop(part, part_matrix, self.size)
        kind = draw_kind(generator)
        other = self.images[generator.choice(self.rows)] if kind == "photograph" else None
        image = fill_outside(generator, kind, image, part, part_matrix, other)
        return occlude(generator, photometric(generator, image, augmentation), augmentation)

    def _hand_points(self, row: int, matrix: NDArray[np.float64], mirrored: bool) -> NDArray[np.float32]:
        if self.labels.hand68 is None:
            return np.full((68, 2), np.nan, np.float32)
        points = self.labels.hand68[row] @ matrix[:, :2].T + matrix[:, 2]
        if self.labels.visible68 is not None:
            points = np.where(self.labels.visible68[row, :, None] == VISIBLE, points, np.nan)
        return (points[MIRROR] if mirrored else points).astype(np.float32)

    def _pose(self, row: int, matrix: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return the weak perspective of the label followed by the crop, (3, 4) float32."""
        labels = self.labels
        zoom = np.sqrt(abs(np.linalg.det(matrix[:, :2])))
        rigid = labels.scale[row] * labels.rotation[row]
        pose = np.zeros((3, 4), np.float32)
        pose[:2, :3] = matrix[:, :2] @ rigid[:2]
        pose[:2, 3] = matrix[:, :2] @ labels.translation[row, :2] + matrix[:, 2]
        pose[2, :3] = zoom * rigid[2]
        pose[2, 3] = -zoom * self.lowest_z[row]
        return pose
