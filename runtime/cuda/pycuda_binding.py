"""CUDA through PyCUDA. Home of pycuda.

PyCUDA never raises while releasing a resource: on a lost device it prints a warning to stderr.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import pycuda.driver as driver

from runtime.cuda.driver import Device, status_name
from runtime.cuda.errors import CudaError
from runtime.cuda.shared import Live, OpenDevice, Resource

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING, which PyCUDA has no name for


class _Stream(Resource):
    def __init__(self, live: Live) -> None:
        self.raw = _call(driver.Stream, _NON_BLOCKING)
        self.handle = self.raw.handle
        super().__init__(live, self._destroy)

    def synchronize(self) -> None:
        _call(self.raw.synchronize)

    def _destroy(self) -> None:
        self.raw = None  # the only reference


class _Event(Resource):
    def __init__(self, live: Live, blocking: bool, timing: bool) -> None:
        flags = driver.event_flags
        chosen = (blocking and int(flags.BLOCKING_SYNC)) | (not timing and int(flags.DISABLE_TIMING))
        self.raw = _call(driver.Event, chosen)
        super().__init__(live, self._destroy)

    def record(self, stream: _Stream) -> None:
        _call(self.raw.record, stream.raw)

    def hold(self, stream: _Stream) -> None:
        _call(stream.raw.wait_for_event, self.raw)

    def synchronize(self) -> None:
        _call(self.raw.synchronize)

    def done(self) -> bool:
        return _call(self.raw.query)

    def elapsed_ms(self, since: _Event) -> float:
        return _call(self.raw.time_since, since.raw)

    def _destroy(self) -> None:
        self.raw = None  # the only reference


class _DeviceBuffer(Resource):
    def __init__(self, live: Live, nbytes: int) -> None:
        allocation = _call(driver.mem_alloc, nbytes)
        self.nbytes = nbytes
        self.pointer = int(allocation)
        super().__init__(live, allocation.free)


class _Cuda(OpenDevice):
    def _enter_context(self) -> None:
        _call(driver.init, 0)
        context = _call(_call(driver.Device, 0).retain_primary_context)
        # Detached while still current, so that PyCUDA takes it off its own stack; otherwise PyCUDA aborts at exit.
        Resource(self._live, context.detach)
        _call(context.push)

    def stream(self) -> _Stream:
        return _Stream(self._live)

    def event(self, *, blocking: bool = False, timing: bool = False) -> _Event:
        return _Event(self._live, blocking, timing)

    def device_buffer(self, nbytes: int) -> _DeviceBuffer:
        return _DeviceBuffer(self._live, nbytes)

    def upload(self, device_pointer: int, host_pointer: int, nbytes: int, stream: _Stream) -> None:
        host = (ctypes.c_uint8 * nbytes).from_address(host_pointer)
        _call(driver.memcpy_htod_async, device_pointer, host, stream.raw)

    def download(self, host_pointer: int, device_pointer: int, nbytes: int, stream: _Stream) -> None:
        host = (ctypes.c_uint8 * nbytes).from_address(host_pointer)
        _call(driver.memcpy_dtoh_async, host, device_pointer, stream.raw)

    def memory_info(self) -> tuple[int, int]:
        return _call(driver.mem_get_info)


def open_device(device: Device, spin: bool) -> _Cuda:
    """Open ``device``, the first one; raises `CudaError`."""
    return _Cuda(device, spin)


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return the result of a function of PyCUDA; its errors become `CudaError`."""
    try:
        return function(*arguments)
    except driver.Error as error:  # "cuMemAlloc failed: out of memory"
        call, _, text = str(error).partition(" failed: ")
        del function, arguments  # otherwise the traceback keeps alive a stream or event that is closed meanwhile
        raise CudaError(call, status_name(text), text) from None
