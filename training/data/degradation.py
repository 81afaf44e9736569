"""Loss of picture quality as cameras and codecs cause it. All functions: (S, S, 3) uint8 -> the same."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


def degrade(generator: np.random.Generator, image: Image) -> Image:
    """Apply one of the degradations below, now and then two, as a small and compressed picture has."""
    count = 1 if generator.random() < 0.7 else 2
    for kind in generator.choice(len(KINDS), count, replace=False):
        image = KINDS[kind](generator, image)
    return image


def gaussian_blur(generator: np.random.Generator, image: Image) -> Image:
    """Blur by a standard deviation of up to 2.5 px, small ones more often."""
    return cv2.GaussianBlur(image, (0, 0), 0.5 + 2.0 * generator.random() ** 2)


def motion_blur(generator: np.random.Generator, image: Image) -> Image:
    """Average along a line of 3 to 13 px in any direction."""
    length = int(generator.integers(3, 14)) | 1
    kernel = np.zeros((length, length), np.float32)
    angle = generator.uniform(0, np.pi)
    reach = (length - 1) / 2 * np.array([np.cos(angle), np.sin(angle)])
    start, end = ((length - 1) / 2 - reach).round().astype(int), ((length - 1) / 2 + reach).round().astype(int)
    cv2.line(kernel, start.tolist(), end.tolist(), 1.0)
    return cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)


def low_resolution(generator: np.random.Generator, image: Image) -> Image:
    """Shrink to between 0.16 and 0.8 of the size and enlarge again."""
    small = int(image.shape[0] * np.exp(generator.uniform(np.log(0.16), np.log(0.8))))
    enlarge = cv2.INTER_CUBIC if generator.random() < 0.3 else cv2.INTER_LINEAR
    shrunk = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
    return cv2.resize(shrunk, image.shape[:2], interpolation=enlarge)


def noise(generator: np.random.Generator, image: Image) -> Image:
    """Add uniform noise of up to ±32 levels."""
    reach = int(generator.integers(4, 33))
    return np.clip(image + generator.integers(-reach, reach + 1, image.shape, np.int16), 0, 255).astype(np.uint8)


def jpeg_artefacts(generator: np.random.Generator, image: Image) -> Image:
    """Compress with a JPEG quality of 8 to 50."""
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(generator.integers(8, 51))])[1]
    return cv2.imdecode(encoded, cv2.IMREAD_COLOR)


KINDS = (gaussian_blur, motion_blur, low_resolution, noise, jpeg_artefacts)
