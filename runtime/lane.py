"""One lane of the GPU road: a stream with the network on it, and memory that reaches from the host to the device."""

from __future__ import annotations

from contextlib import suppress

from runtime.cuda import Cuda, Stream
from runtime.cuda_errors import CudaError
from runtime.engine import Context, Engine


class Staged:
    """Page-locked host memory with its counterpart on the device or, ``mapped``, both in one."""

    def __init__(self, cuda: Cuda, nbytes: int, mapped: bool) -> None:
        self._cuda, self.nbytes = cuda, nbytes
        self._host = cuda.host_buffer(nbytes, mapped=mapped)
        try:
            self._device = None if mapped else cuda.device_buffer(nbytes)
        except BaseException:
            self._host.close()
            raise
        self.array = self._host.array  # (nbytes,) uint8, on the host
        self.pointer = self._host.device_pointer if self._device is None else self._device.pointer  # as the device addresses it

    def upload(self, nbytes: int, stream: Stream) -> None:
        """Queue the copy of the first ``nbytes`` to the device."""
        if self._device is not None:
            self._cuda.upload(self.pointer, self._host.pointer, nbytes, stream)

    def download(self, nbytes: int, stream: Stream) -> None:
        """Queue the copy of the first ``nbytes`` from the device."""
        if self._device is not None:
            self._cuda.download(self._host.pointer, self.pointer, nbytes, stream)

    def close(self) -> None:
        self._host.close()
        if self._device is not None:
            self._device.close()


class Lane:
    """Runs the network between two device addresses, in a stream of its own. What it takes from ``cuda`` that closes at the latest."""

    def __init__(self, engine: Engine, cuda: Cuda, input_pointer: int, output_pointer: int, blocking: bool) -> None:
        """``blocking``: `wait` sleeps instead of spinning."""
        self._engine, self._pointers = engine, (input_pointer, output_pointer)
        self.stream = cuda.stream()
        self._event = cuda.event(blocking=blocking)
        self._contexts: dict[int, Context] = {}

    def context(self, batch: int) -> Context:
        """The network for ``batch`` inputs. One for each size and lane: a captured graph stays bound to the state of its context."""
        if batch not in self._contexts:
            self._contexts[batch] = self._engine.context(batch, *self._pointers, self.stream)
        return self._contexts[batch]

    def mark(self) -> None:
        """What is queued by now is what `wait` waits for."""
        self._event.record(self.stream)

    def wait(self) -> None:
        self._event.synchronize()

    def close(self) -> None:
        """Wait until the device has left the lane's memory; the contexts go with the engine."""
        with suppress(CudaError):
            self.stream.synchronize()
