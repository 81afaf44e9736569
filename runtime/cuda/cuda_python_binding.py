"""CUDA through cuda-python. Home of cuda."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from cuda.bindings import driver

from runtime.cuda.driver import Device
from runtime.cuda.errors import CudaError
from runtime.cuda.shared import Live, OpenDevice, Resource

_SUCCESS = driver.CUresult.CUDA_SUCCESS
_NOT_READY = driver.CUresult.CUDA_ERROR_NOT_READY


class _Stream(Resource):
    def __init__(self, live: Live) -> None:
        self.raw = _call(driver.cuStreamCreate, int(driver.CUstream_flags.CU_STREAM_NON_BLOCKING))
        self.handle = int(self.raw)
        super().__init__(live, partial(_call, driver.cuStreamDestroy, self.raw))

    def synchronize(self) -> None:
        _call(driver.cuStreamSynchronize, self.raw)


class _Event(Resource):
    def __init__(self, live: Live, blocking: bool, timing: bool) -> None:
        flags = driver.CUevent_flags
        chosen = (blocking and int(flags.CU_EVENT_BLOCKING_SYNC)) | (not timing and int(flags.CU_EVENT_DISABLE_TIMING))
        self.raw = _call(driver.cuEventCreate, chosen)
        super().__init__(live, partial(_call, driver.cuEventDestroy, self.raw))

    def record(self, stream: _Stream) -> None:
        _call(driver.cuEventRecord, self.raw, stream.raw)

    def hold(self, stream: _Stream) -> None:
        _call(driver.cuStreamWaitEvent, stream.raw, self.raw, 0)

    def synchronize(self) -> None:
        _call(driver.cuEventSynchronize, self.raw)

    def done(self) -> bool:
        (status,) = driver.cuEventQuery(self.raw)
        if status not in (_SUCCESS, _NOT_READY):
            raise _error(driver.cuEventQuery, status)
        return status == _SUCCESS

    def elapsed_ms(self, since: _Event) -> float:
        return _call(driver.cuEventElapsedTime, since.raw, self.raw)


class _DeviceBuffer(Resource):
    def __init__(self, live: Live, nbytes: int) -> None:
        self.nbytes = nbytes
        self.pointer = int(_call(driver.cuMemAlloc, nbytes))
        super().__init__(live, partial(_call, driver.cuMemFree, self.pointer))


class _Cuda(OpenDevice):
    def _enter_context(self) -> None:
        _call(driver.cuInit, 0)
        device = _call(driver.cuDeviceGet, 0)
        context = _call(driver.cuDevicePrimaryCtxRetain, device)
        Resource(self._live, partial(_call, driver.cuDevicePrimaryCtxRelease, device))
        _call(driver.cuCtxPushCurrent, context)
        Resource(self._live, partial(_call, driver.cuCtxPopCurrent))

    def stream(self) -> _Stream:
        return _Stream(self._live)

    def event(self, *, blocking: bool = False, timing: bool = False) -> _Event:
        return _Event(self._live, blocking, timing)

    def device_buffer(self, nbytes: int) -> _DeviceBuffer:
        return _DeviceBuffer(self._live, nbytes)

    def upload(self, device_pointer: int, host_pointer: int, nbytes: int, stream: _Stream) -> None:
        _call(driver.cuMemcpyHtoDAsync, device_pointer, host_pointer, nbytes, stream.raw)

    def download(self, host_pointer: int, device_pointer: int, nbytes: int, stream: _Stream) -> None:
        _call(driver.cuMemcpyDtoHAsync, host_pointer, device_pointer, nbytes, stream.raw)

    def memory_info(self) -> tuple[int, int]:
        free, total = _call(driver.cuMemGetInfo)
        return int(free), int(total)


def open_device(device: Device, spin: bool) -> _Cuda:
    """Open ``device``, the first one; raises `CudaError`."""
    return _Cuda(device, spin)


def _call(function: Callable[..., tuple[Any, ...]], *arguments: Any) -> Any:
    """Call a function of the driver and return its result without the status: None, a value or a tuple of values.

    Raises `CudaError` for any status but success.
    """
    try:
        status, *values = function(*arguments)
    except RuntimeError as error:  # the driver does not have it
        raise CudaError(function.__name__, "CUDA_ERROR_NOT_FOUND") from error
    if status != _SUCCESS:
        raise _error(function, status)
    return values[0] if len(values) == 1 else tuple(values) or None


def _error(function: Callable[..., Any], status: Any) -> CudaError:
    """Return the `CudaError` for a status of ``function``."""
    _, text = driver.cuGetErrorString(status)
    return CudaError(function.__name__, getattr(status, "name", str(status)), (text or b"").decode(errors="replace"))
