"""Perturbation of training crops: place, size, rotation, mirror, colour, occlusion, cuts of the picture.

All but the cuts are those of Feng et al., ECCV 2018, section 3.4.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.degradation import degrade

Image = NDArray[np.uint8]
UPSIDE_DOWN_TRANSLATION = 0.35  # of the box size, beyond that of upright faces; YuNet's boxes are 0.3 to 0.5 off


@dataclass(frozen=True)
class Augmentation:
    """Strength of each perturbation. The defaults are the paper's, with blur and noise added for compressed video."""

    rotation_deg: float = 45.0  # within ±, triangular: heads are upright more often than not
    translation: float = 0.10  # of the box size, uniform in ±
    scale: tuple[float, float] = (0.9, 1.2)  # of the box size
    colour: tuple[float, float] = (0.6, 1.4)  # factor of each channel; an offset of a fifth of its spread goes with it
    occlusion: float = 0.4  # probability
    # probability of blur, lower resolution, noise or JPEG artefacts; a third as often all colour goes
    degradation: float = 0.3
    any_roll: float = 0.0  # probability of a rotation from the whole circle instead
    cut: float = 0.0  # probability of a picture that ends near the face

    def draw_turn(
        self, generator: np.random.Generator, box_xyxy: NDArray[np.floating], mirrored: bool
    ) -> tuple[NDArray[np.float64], float]:
        """Return a (3, 3) rotation, with mirroring first, about the centre of the box, and its angle in radians."""
        angle = np.deg2rad(generator.triangular(-self.rotation_deg, 0, self.rotation_deg)) if self.rotation_deg else 0.0
        if self.any_roll and generator.random() < self.any_roll:
            angle = generator.uniform(-np.pi, np.pi)
        c, s = np.cos(angle), np.sin(angle)
        linear = np.array([[c, -s], [s, c]]) @ np.diag([-1.0 if mirrored else 1.0, 1.0])
        centre = (box_xyxy[:2] + box_xyxy[2:]) / 2
        turn = np.eye(3)
        turn[:2, :2], turn[:2, 2] = linear, centre - linear @ centre
        return turn, angle

    def jitter_box(
        self, generator: np.random.Generator, box_xyxy: NDArray[np.floating], angle: float = 0.0
    ) -> NDArray[np.float64]:
        """Return the box as a detector might have seen it, of a face that is turned by ``angle`` radians.

        A detector of upright faces that takes an upside-down one for upright puts its box to where the other half of
        the head would be.
        """
        centre, extent = (box_xyxy[:2] + box_xyxy[2:]) / 2, box_xyxy[2:] - box_xyxy[:2]
        spread = self.translation + UPSIDE_DOWN_TRANSLATION * (1 - np.cos(angle)) / 2
        centre = centre + extent.mean() * generator.uniform(-spread, spread, 2)
        half = extent * generator.uniform(*self.scale) / 2
        return np.concatenate([centre - half, centre + half])

    def draw_cut(
        self, generator: np.random.Generator, box_xyxy: NDArray[np.floating], width: int, height: int
    ) -> tuple[int, int, int, int]:
        """Return x0, y0, x1, y1 px of the part of the picture that is kept.

        It is the whole picture, or with probability ``cut`` a part that ends near the face on about half of the sides.
        """
        whole = np.array([0, 0, width, height])
        if not self.cut or generator.random() >= self.cut:
            return 0, 0, width, height
        extent = (box_xyxy[2:] - box_xyxy[:2]).mean()
        distance = extent * generator.uniform(-0.08, 0.45, 4)
        edges = np.asarray(box_xyxy, np.float64) + distance * (-1, -1, 1, 1)
        edges = np.where(generator.random(4) < 0.5, edges, whole).round().astype(int)
        low, high = np.clip(edges[:2], 0, (width - 8, height - 8)), np.minimum(edges[2:], (width, height))
        high = np.maximum(high, low + 8)
        return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def photometric(generator: np.random.Generator, image: Image, augmentation: Augmentation) -> Image:
    """Apply channel factors and an offset; now and then grey or degrade. (S, S, 3) uint8 -> the same."""
    gain = generator.uniform(*augmentation.colour, 3)
    if generator.random() < 0.5:
        gain[:] = gain[0]  # brightness alone, the commoner case in life
    low, high = augmentation.colour
    offset = 0.1 * 255 * (high - low) * generator.uniform(-1, 1)
    table = np.clip(np.arange(256)[:, None] * gain + offset, 0, 255).astype(np.uint8)
    image = cv2.LUT(image, table.reshape(256, 1, 3))
    if generator.random() < augmentation.degradation / 3:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    if generator.random() < augmentation.degradation:
        image = degrade(generator, image)
    return image


def occlude(generator: np.random.Generator, image: Image, augmentation: Augmentation) -> Image:
    """Cover part of the crop with one to three ellipses or rectangles of noise or of one colour.

    (S, S, 3) uint8 -> the same.
    """
    if generator.random() >= augmentation.occlusion:
        return image
    size = image.shape[0]
    mask = np.zeros((size, size), np.uint8)
    for _ in range(generator.integers(1, 4)):
        centre = generator.integers(0, size, 2).tolist()
        half = (size * generator.uniform(0.05, 0.22, 2)).astype(int).tolist()
        if generator.random() < 0.5:
            cv2.ellipse(mask, centre, half, generator.uniform(0, 180), 0, 360, 255, -1)
        else:
            top_left = (centre[0] - half[0], centre[1] - half[1])
            bottom_right = (centre[0] + half[0], centre[1] + half[1])
            cv2.rectangle(mask, top_left, bottom_right, 255, -1)
    cells = 1 if generator.random() < 0.5 else int(generator.integers(2, 17))
    colours = generator.integers(0, 256, (cells, cells, 3), np.uint8)
    texture = cv2.resize(colours, (size, size), interpolation=cv2.INTER_LINEAR)
    return np.where(mask[..., None] > 0, texture, image)
