"""Pictures as a network of YuNet sees them: whole, reduced or turned. The searches of a detector go over these."""

from __future__ import annotations

from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.cuda.interface import DeviceFrame
from runtime.geometry.crop import with_plain_rows


class Picture(Protocol):
    """A picture in which a network finds faces."""

    size_wh: tuple[int, int]  # px

    def reduced(self, side: int) -> Picture:
        """Return it with at most ``side`` px on its longer side."""

    def turned(self, roll_deg: float) -> Picture:
        """Return the whole of it, turned so that faces with ``roll_deg`` (clockwise) are upright; corners black."""

    def rows(self) -> NDArray[np.float32]:
        """Return rows (N, 15) as `runtime.detection.yunet_rows.face_rows` does, in px of this picture."""


class YuNetNetwork(Protocol):
    """A network of YuNet. Threads may share it."""

    on_device: bool  # it looks at frames on a GPU

    def picture(self, image: NDArray[np.uint8], frame: DeviceFrame | None = None) -> Picture:
        """Return ``image`` (H, W, 3) uint8 BGR as this network sees it; ``frame`` is the same on the device."""

    def close(self) -> None:
        """Free the network."""


class HostNetwork:
    """A `YuNetNetwork` for pictures in the memory of the host."""

    on_device = False

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the rows of ``image`` (H, W, 3) uint8 BGR as it is; see `Picture.rows`."""
        raise NotImplementedError

    def picture(self, image: NDArray[np.uint8], frame: DeviceFrame | None = None) -> HostPicture:
        """Return ``image`` as a `Picture`."""
        return HostPicture(image, self)

    def close(self) -> None:
        """Free the network with its last reference."""


class HostPicture:
    """`Picture` over an array, by OpenCV."""

    def __init__(self, image: NDArray[np.uint8], network: HostNetwork) -> None:
        """Take ``image`` (H, W, 3) uint8 BGR."""
        self.size_wh: tuple[int, int] = (image.shape[1], image.shape[0])
        self._image = with_plain_rows(image)
        self._network = network

    def reduced(self, side: int) -> HostPicture:
        """See `Picture`."""
        size_wh = reduced_size(self.size_wh, side)
        if size_wh == self.size_wh:
            return self
        return HostPicture(cv2.resize(self._image, size_wh, interpolation=cv2.INTER_AREA), self._network)

    def turned(self, roll_deg: float) -> HostPicture:
        """See `Picture`."""
        matrix, size_wh = turn_matrix(self.size_wh, roll_deg)
        return HostPicture(cv2.warpAffine(self._image, matrix, size_wh, flags=cv2.INTER_LINEAR), self._network)

    def rows(self) -> NDArray[np.float32]:
        """See `Picture`."""
        return self._network(self._image)


def reduced_size(size_wh: tuple[int, int], side: int) -> tuple[int, int]:
    """Return the size of a picture that is reduced to at most ``side`` px on its longer side."""
    width, height = size_wh
    scale = side / max(width, height)
    return size_wh if scale >= 1 else (max(1, round(width * scale)), max(1, round(height * scale)))


def turn_matrix(size_wh: tuple[int, int], roll_deg: float) -> tuple[NDArray[np.float64], tuple[int, int]]:
    """Return the (2, 3) matrix from px of a picture to px of the `Picture.turned` one, and that one's size."""
    width, height = size_wh
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), roll_deg, 1.0)
    size = np.abs(matrix[:, :2]) @ (width, height)
    turned_wh = max(1, round(size[0])), max(1, round(size[1]))
    matrix[:, 2] += (turned_wh[0] - width) / 2, (turned_wh[1] - height) / 2
    return matrix, turned_wh
