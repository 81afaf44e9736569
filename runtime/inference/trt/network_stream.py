"""A CUDA stream with the network on it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from runtime.cuda.errors import CudaError
from runtime.cuda.interface import Cuda
from runtime.inference.trt.engine import Context, Engine


class NetworkStream:
    """The network between addresses of the device, in a stream of its own.

    Its contexts, one per size of batch, never run at the same time, so they share their scratch memory. Closing the
    Cuda object frees everything allocated here.
    """

    def __init__(self, engine: Engine, cuda: Cuda, addresses: Mapping[str, int], blocking: bool) -> None:
        """Make stream and event; ``addresses`` as for `Engine.context`.

        ``blocking``: `wait` sleeps instead of spinning.
        """
        self._engine = engine
        self._addresses = addresses
        self.stream = cuda.stream()
        self._event = cuda.event(blocking=blocking)
        self._scratch = cuda.device_buffer(engine.scratch_nbytes) if engine.scratch_nbytes else None
        self._contexts: dict[int, Context] = {}

    def context(self, batch: int) -> Context:
        """Return the context for ``batch`` inputs; one per size: a captured graph stays bound to its context."""
        if batch not in self._contexts:
            self._contexts[batch] = self._engine.context(batch, self._addresses, self.stream, self._scratch)
        return self._contexts[batch]

    def mark(self) -> None:
        """Mark the work queued so far as the work that `wait` waits for."""
        self._event.record(self.stream)

    def wait(self) -> None:
        self._event.synchronize()

    def close(self) -> None:
        """Wait until the device has left the memory; the contexts go with the engine."""
        with suppress(CudaError):
            self.stream.synchronize()
