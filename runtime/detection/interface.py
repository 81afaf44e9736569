"""Interface of face detectors, and the detector that takes the whole picture as one face."""

from __future__ import annotations

from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from runtime.cuda.interface import DeviceFrame
from runtime.types import Detections


class Detector(Protocol):
    """A face detector."""

    def __call__(self, image: NDArray[np.uint8]) -> Detections:
        """Return the faces of ``image`` (H, W, 3) uint8 BGR, best first."""


class DeviceDetector(Protocol):
    """A `Detector` that looks at frames on a GPU."""

    on_device: bool  # False: it takes no ``frame`` after all

    def __call__(self, image: NDArray[np.uint8], frame: DeviceFrame | None = None) -> Detections:
        """Return the faces of ``image``; ``frame`` is the same where a mesher on the same device has it."""


def device_detector(detector: Detector) -> DeviceDetector | None:
    """Return ``detector`` if it looks at frames on a GPU."""
    return cast(DeviceDetector, detector) if getattr(detector, "on_device", False) else None


class WholePicture:
    """Detector for pictures that are already cut round one face: it returns one box with score 1.

    The square crop of that box is the picture.
    """

    def __init__(self, crop_scale: float) -> None:
        """Take the factor ``crop_scale`` between box and crop of the model."""
        self._crop_scale = crop_scale

    def __call__(self, image: NDArray[np.uint8]) -> Detections:
        """Return the one face of ``image`` (H, W, 3)."""
        height, width = image.shape[:2]
        side = (width + height) / 2 / self._crop_scale
        x, y = (width - 1) / 2, (height - 1) / 2
        box = np.array([[x - side / 2, y - side / 2, x + side / 2, y + side / 2]], np.float32)
        return Detections(box, np.ones(1, np.float32))
