"""What the bindings of `runtime.cuda.open_cuda` have in common: closing, and the kernels and graphs of the native module."""

from __future__ import annotations

import atexit
import warnings
from collections.abc import Callable
from contextlib import ExitStack, suppress
from types import ModuleType
from typing import Any

from runtime.cuda.driver import Device
from runtime.cuda.errors import CudaError, native_error

Live = dict["Resource", None]  # in the order of their making
# The native module was built for other devices, or with a newer CUDA than the driver's.
_UNFIT = {f"CUDA_ERROR_{what}" for what in ("NO_BINARY_FOR_GPU", "INSUFFICIENT_DRIVER", "CALL_REQUIRES_NEWER_DRIVER", "UNSUPPORTED_PTX_VERSION")}
_UNFIT |= {"CUDA_ERROR_JIT_COMPILER_NOT_FOUND", "CUDA_ERROR_JIT_COMPILATION_DISABLED"}  # there is PTX alone for it, which nothing here compiles


class Resource:
    """`runtime.cuda.interface.Closes`, by one call of ``release``; in ``live`` until then."""

    def __init__(self, live: Live, release: Callable[[], object]) -> None:
        self._live, self._release = live, release
        live[self] = None

    def close(self) -> None:
        if self not in self._live:
            return
        try:
            self._release()
        except CudaError as error:
            if not error.lost:  # else it is gone with the device, and the call that met the loss has raised
                raise
        finally:
            del self._live[self]

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def close_all(live: Live) -> None:
    """What was made last goes first; all of it, whatever fails."""
    with ExitStack() as closing:
        for resource in live:
            closing.callback(resource.close)


class NativeGraph(Resource):
    """`runtime.cuda.interface.Graph`"""

    def __init__(self, live: Live, graph: Any) -> None:
        super().__init__(live, graph.close)
        self._launch = graph.launch

    def launch(self, stream: Any) -> None:
        try:
            self._launch(stream.handle)
        except RuntimeError as error:
            raise native_error(error) from None


class NativeKernels:
    """`runtime.cuda.interface.Kernels`"""

    def __init__(self, native: ModuleType) -> None:
        self.crop, self.decode = _checked(native.crop), _checked(native.decode)


class OpenDevice:
    """The part of `runtime.cuda.interface.Cuda` that is the same for all bindings."""

    def __init__(self, device: Device) -> None:
        self.name, self.compute_capability, self.integrated = device.name, device.compute_capability, device.integrated
        self._live: Live = {}
        atexit.register(self.close)  # before the driver is shut down
        try:
            self._enter_context()
            self._native = _native_module()
        except BaseException:
            self.close()
            raise
        self.kernels = NativeKernels(self._native) if self._native else None

    def _enter_context(self) -> None:
        """Retain the primary context and make it current, with a `Resource` for what must be undone."""
        raise NotImplementedError

    def capture(self, stream: Any, enqueue: Callable[[], object]) -> NativeGraph:
        if self._native is None:
            raise CudaError("capture", "", "runtime._native has no CUDA kernels for this device")
        _checked(self._native.begin_capture)(stream.handle)
        try:
            enqueue()
        except BaseException:
            with suppress(RuntimeError):
                self._native.end_capture(stream.handle).close()
            raise
        return NativeGraph(self._live, _checked(self._native.end_capture)(stream.handle))

    def close(self) -> None:
        atexit.unregister(self.close)
        close_all(self._live)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _native_module() -> ModuleType | None:
    """The kernels and graphs for the current device; None without."""
    from runtime.compiled import native

    if not native.has_cuda:
        return None
    try:
        native.cuda.check_device()
    except RuntimeError as error:
        failure = native_error(error)
        if failure.status not in _UNFIT:
            raise failure from None
        warnings.warn(f"crop and decode run on the CPU: {failure}", stacklevel=2)
        return None
    return native.cuda


def _checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of the native module whose failures are `CudaError`."""

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except RuntimeError as error:
            raise native_error(error) from None

    return call
