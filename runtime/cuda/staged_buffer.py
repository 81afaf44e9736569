"""Memory that host and device share, copied or mapped."""

from __future__ import annotations

from runtime.cuda.interface import Cuda, Stream


class StagedBuffer:
    """Page-locked host memory with its counterpart on the device, or one memory for both."""

    def __init__(self, cuda: Cuda, nbytes: int, mapped: bool) -> None:
        """Allocate ``nbytes`` twice or, for ``mapped``, once."""
        self._cuda = cuda
        self.nbytes = nbytes
        self._host = cuda.host_buffer(nbytes, mapped=mapped)
        try:
            self._device = None if mapped else cuda.device_buffer(nbytes)
        except BaseException:
            self._host.close()
            raise
        self.array = self._host.array  # (nbytes,) uint8, on the host
        # The address for the device.
        self.pointer = self._host.device_pointer if self._device is None else self._device.pointer

    def upload(self, nbytes: int, stream: Stream) -> None:
        """Queue the copy of the first ``nbytes`` to the device."""
        if self._device is not None:
            self._cuda.upload(self.pointer, self._host.pointer, nbytes, stream)

    def download(self, nbytes: int, stream: Stream) -> None:
        """Queue the copy of the first ``nbytes`` from the device."""
        if self._device is not None:
            self._cuda.download(self._host.pointer, self.pointer, nbytes, stream)

    def close(self) -> None:
        """Free the memory."""
        self._host.close()
        if self._device is not None:
            self._device.close()
