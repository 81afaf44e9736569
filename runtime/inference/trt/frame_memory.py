"""A frame's pixels in page-locked memory, and on the device the whole of it or the rows that crops touch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.compiled import native
from runtime.cuda.interface import Cuda, DeviceBuffer, HostBuffer, Stream
from runtime.geometry.crop import check_image, check_matrix

# A crop that is finer than this many frame pixels takes one sample per crop pixel, see runtime/native/gpu/crop_body.h.
ONE_SAMPLE = 1.5


class FrameMemory:
    """Room for one frame. It grows with the frames; arrays of earlier ones stay valid."""

    def __init__(self, cuda: Cuda, mapped: bool) -> None:
        """Allocate nothing yet. ``mapped``: the device can read the host's memory."""
        self._cuda = cuda
        self._mapped = mapped
        self._buffers: tuple[HostBuffer, DeviceBuffer] | None = None
        self.pixels = np.empty((0, 0, 3), np.uint8)  # of the frame, on the host
        self._address = 0  # of the pixels
        self._is_whole = False  # the frame at hand is on the device, all of it

    def fit(self, height: int, width: int, stream: Stream) -> NDArray[np.uint8]:
        """Return the pixels (height, width, 3). ``stream`` must have left the memory where it has to grow."""
        if self.pixels.shape[:2] != (height, width):
            nbytes = 3 * height * width
            self.pixels = self.pixels[:0, :0]
            self._is_whole = False
            if self._buffers is None or nbytes > self._buffers[1].nbytes:
                stream.synchronize()  # a frame that nobody collected may be at work
                self._buffers = self._larger(nbytes)
            host, _ = self._buffers
            self.pixels = host.array[:nbytes].reshape(height, width, 3)
            self._address = host.pointer
        return self.pixels

    def load(self, image: NDArray[np.uint8], matrices: Sequence[NDArray[np.float64]], size: int, stream: Stream) -> int:
        """Queue the upload of the rows that the crops touch; return the address of the frame for the device.

        What lies elsewhere than in `pixels` is copied there first, as far as the crops of ``size`` px touch it. Where
        host and device share their memory, crops that read every pixel about once read it in place: the device caches
        nothing of it, and larger ones read each pixel many times. After `load_whole` nothing is left to do.
        """
        if image is not self.pixels:
            check_image(image)
        height, width = image.shape[:2]
        pixels = self.fit(height, width, stream)
        assert self._buffers is not None  # after `fit`
        host, device = self._buffers
        if self._is_whole:
            return device.pointer
        is_held = self._holds(image)
        if not is_held and np.may_share_memory(image, pixels):  # a part of it, which copying would change on the way
            image = image.copy()
        first, end, is_fine = height, 0, self._mapped
        for matrix in matrices:
            rows, columns = crop_region(matrix, size, height, width)
            if rows.start < rows.stop:
                first, end = min(first, rows.start), max(end, rows.stop)
            if not is_held:
                pixels[rows, columns] = image[rows, columns]
            if is_fine:
                (a, b, _), (c, d, _) = matrix.tolist()
                is_fine = abs(a * d - b * c) * ONE_SAMPLE**2 >= 1
        if is_fine:
            return host.device_pointer
        if end > first:
            offset, nbytes = 3 * width * first, 3 * width * (end - first)
            self._cuda.upload(device.pointer + offset, self._address + offset, nbytes, stream)
        return device.pointer

    def load_whole(self, image: NDArray[np.uint8], stream: Stream) -> int:
        """Queue the upload of the whole frame, once until `forget`; return its address for the device.

        It is copied even where host and device share their memory: a detector reads every pixel many times.
        """
        height, width = image.shape[:2]
        pixels = self.fit(height, width, stream)
        assert self._buffers is not None  # after `fit`
        _, device = self._buffers
        if not self._is_whole:
            if not self._holds(image):
                pixels[:] = image
            self._cuda.upload(device.pointer, self._address, pixels.nbytes, stream)
            self._is_whole = True
        return device.pointer

    def forget(self) -> None:
        """Make room for another frame: the one at hand is on the device no more."""
        self._is_whole = False

    def _holds(self, image: NDArray[np.uint8]) -> bool:
        if image is self.pixels:
            return True
        return image.__array_interface__["data"][0] == self._address and image.strides == self.pixels.strides

    def _larger(self, nbytes: int) -> tuple[HostBuffer, DeviceBuffer]:
        """Return buffers in place of those there are."""
        for buffer in self._buffers or ():
            buffer.close()
        self._buffers = None
        host = self._cuda.host_buffer(nbytes, mapped=self._mapped)
        try:
            return host, self._cuda.device_buffer(nbytes)
        except BaseException:
            host.close()
            raise


def crop_region(matrix: NDArray[np.float64], size: int, height: int, width: int) -> tuple[slice, slice]:
    """Return the rows and columns of a (height, width) frame under a crop of ``size`` px, with a pixel to spare.

    ``matrix`` is (2, 3), frame px -> crop px. Raises `ValueError` for one that is singular or not finite.
    """
    try:
        top, bottom, left, right = native.crop_region(matrix, size, height, width)
    except TypeError:
        check_matrix(matrix)  # tells what it is
        raise
    return slice(top, bottom), slice(left, right)
