"""CUDA through the compiled module, which finds the driver itself: no package for CUDA is needed."""

from __future__ import annotations

from runtime.compiled import native
from runtime.cuda.driver import Device
from runtime.cuda.shared import Live, OpenDevice, Resource


class _Stream(Resource):
    def __init__(self, live: Live) -> None:
        stream = native.driver.Stream()
        self.handle = stream.handle
        self.synchronize = stream.synchronize
        super().__init__(live, stream.close)


class _Event(Resource):
    def __init__(self, live: Live, blocking: bool, timing: bool) -> None:
        self.raw = native.driver.Event(blocking, timing)
        self.synchronize = self.raw.synchronize
        self.done = self.raw.done
        super().__init__(live, self.raw.close)

    def record(self, stream: _Stream) -> None:
        self.raw.record(stream.handle)

    def hold(self, stream: _Stream) -> None:
        self.raw.hold(stream.handle)

    def elapsed_ms(self, since: _Event) -> float:
        return self.raw.elapsed_ms(since.raw)


class _DeviceBuffer(Resource):
    def __init__(self, live: Live, nbytes: int) -> None:
        memory = native.driver.DeviceMemory(nbytes)
        self.nbytes = nbytes
        self.pointer = memory.pointer
        super().__init__(live, memory.close)


class _Cuda(OpenDevice):
    def _enter_context(self) -> None:
        self._context.push()
        Resource(self._live, self._context.pop)

    def make_current(self) -> None:
        self._context.make_current()

    def stream(self) -> _Stream:
        return _Stream(self._live)

    def event(self, *, blocking: bool = False, timing: bool = False) -> _Event:
        return _Event(self._live, blocking, timing)

    def device_buffer(self, nbytes: int) -> _DeviceBuffer:
        return _DeviceBuffer(self._live, nbytes)

    def upload(self, device_pointer: int, host_pointer: int, nbytes: int, stream: _Stream) -> None:
        native.driver.upload(device_pointer, host_pointer, nbytes, stream.handle)

    def download(self, host_pointer: int, device_pointer: int, nbytes: int, stream: _Stream) -> None:
        native.driver.download(host_pointer, device_pointer, nbytes, stream.handle)

    def memory_info(self) -> tuple[int, int]:
        return native.driver.memory_info()


def open_device(device: Device, spin: bool) -> _Cuda:
    """Open ``device``, the first one; raises `CudaError`."""
    return _Cuda(device, spin)
