"""One lane of the GPU road: a stream with the network on it, and memory that reaches from the host to the device."""

from __future__ import annotations

from contextlib import suppress

from runtime.cuda.errors import CudaError
from runtime.cuda.interface import Cuda
from runtime.inference.trt.engine import Context, Engine


class NetworkStream:
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
