"""How training crops are perturbed: place, size, rotation, mirror, colour, blur, occlusion (Feng et al., ECCV 2018, section 3.4)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Augmentation:
    """Strength of each perturbation. The defaults are the paper's, with blur and noise added for compressed video."""

    rotation_deg: float = 45.0  # within ±, triangular: heads are upright more often than not
    translation: float = 0.10  # of the box size, uniform in ±
    scale: tuple[float, float] = (0.9, 1.2)  # of the box size
    colour: tuple[float, float] = (0.6, 1.4)  # factor of each channel; an offset of a fifth of its spread goes with it
    occlusion: float = 0.4  # probability
    degradation: float = 0.3  # probability of blur, lower resolution or noise; a third as often all colour goes

    def draw_turn(self, generator: np.random.Generator, box_xyxy: NDArray[np.floating], mirrored: bool) -> NDArray[np.float64]:
        """(3, 3) rotation, with mirroring first, about the centre of the box."""
        angle = np.deg2rad(generator.triangular(-self.rotation_deg, 0, self.rotation_deg))
        c, s = np.cos(angle), np.sin(angle)
        linear = np.array([[c, -s], [s, c]]) @ np.diag([-1.0 if mirrored else 1.0, 1.0])
        centre = (box_xyxy[:2] + box_xyxy[2:]) / 2
        turn = np.eye(3)
        turn[:2, :2], turn[:2, 2] = linear, centre - linear @ centre
        return turn

    def jitter_box(self, generator: np.random.Generator, box_xyxy: NDArray[np.floating]) -> NDArray[np.float64]:
        """The box as a detector might have seen it."""
        centre, extent = (box_xyxy[:2] + box_xyxy[2:]) / 2, box_xyxy[2:] - box_xyxy[:2]
        centre = centre + extent.mean() * generator.uniform(-self.translation, self.translation, 2)
        half = extent * generator.uniform(*self.scale) / 2
        return np.concatenate([centre - half, centre + half])

    def draw_border(self, generator: np.random.Generator, size: int) -> Image | None:
        """What lies outside the photograph: black (None) half of the time, else one colour or noise, so that black edges carry no hint."""
        kind = generator.random()
        if kind < 0.5:
            return None
        colour = generator.integers(0, 256, (1, 1, 3), np.uint8)
        if kind < 0.8:
            return np.broadcast_to(colour, (size, size, 3))
        return cv2.resize(generator.integers(0, 256, (8, 8, 3), np.uint8), (size, size), interpolation=cv2.INTER_CUBIC)


def photometric(generator: np.random.Generator, image: Image, augmentation: Augmentation) -> Image:
    """Channel factors and offset, now and then grey, blurred, of low resolution or noisy. (S, S, 3) uint8 -> the same."""
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
        kind = generator.integers(3)
        if kind == 0:
            image = cv2.GaussianBlur(image, (0, 0), generator.uniform(0.5, 1.5))
        elif kind == 1:
            small = int(image.shape[0] * generator.uniform(0.35, 0.8))
            image = cv2.resize(cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA), image.shape[:2])
        else:
            noise = generator.integers(-16, 17, image.shape, np.int16)
            image = np.clip(image + noise, 0, 255).astype(np.uint8)
    return image


def occlude(generator: np.random.Generator, image: Image, augmentation: Augmentation) -> Image:
    """Cover part of the crop with one to three ellipses or rectangles of noise or of one colour. (S, S, 3) uint8 -> the same."""
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
            cv2.rectangle(mask, (centre[0] - half[0], centre[1] - half[1]), (centre[0] + half[0], centre[1] + half[1]), 255, -1)
    cells = 1 if generator.random() < 0.5 else int(generator.integers(2, 17))
    texture = cv2.resize(generator.integers(0, 256, (cells, cells, 3), np.uint8), (size, size), interpolation=cv2.INTER_LINEAR)
    return np.where(mask[..., None] > 0, texture, image)
