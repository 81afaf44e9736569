"""Common part of the CUDA bindings: closing, and the kernels and graphs of the native module."""

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
_UNFIT = {
    # The native module was built for other devices, or with a newer CUDA than the driver's.
    "CUDA_ERROR_NO_BINARY_FOR_GPU",
    "CUDA_ERROR_INSUFFICIENT_DRIVER",
    "CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER",
    "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
    # It has only PTX for this device, and the driver cannot compile that.
    "CUDA_ERROR_JIT_COMPILER_NOT_FOUND",
    "CUDA_ERROR_JIT_COMPILATION_DISABLED",
}


class Resource:
    """`runtime.cuda.interface.Closes`, by one call of ``release``; in ``live`` until then."""

    def __init__(self, live: Live, release: Callable[[], object]) -> None:
        """Enter ``live``; ``release`` gives the resource back to the driver."""
        self._live = live
        self._release = release
        live[self] = None

    def close(self) -> None:
        """Release the resource; a second call does nothing."""
        if self not in self._live:
            return
        try:
            self._release()
        except CudaError as error:
            # On a lost device the resource is gone, and the call that met the loss has raised.
            if not error.lost:
                raise
        finally:
            del self._live[self]

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def close_all(live: Live) -> None:
    """Close all resources, the last one first; an error does not keep the others open."""
    with ExitStack() as closing:
        for resource in live:
            closing.callback(resource.close)


class NativeGraph(Resource):
    """`runtime.cuda.interface.Graph`"""

    def __init__(self, live: Live, graph: Any) -> None:
        """Take over a graph of the native module."""
        super().__init__(live, graph.close)
        self._launch = graph.launch

    def launch(self, stream: Any) -> None:
        """Queue the recorded work on ``stream``; raises `CudaError`."""
        try:
            self._launch(stream.handle)
        except RuntimeError as error:
            raise native_error(error) from None


class NativeKernels:
    """`runtime.cuda.interface.Kernels`"""

    def __init__(self, native: ModuleType) -> None:
        """Take the kernels of the native module ``native``; their failures become `CudaError`."""
        self.crop = _checked(native.crop)
        self.decode = _checked(native.decode)
        self.decode_coefficients = _checked(native.decode_coefficients)


class OpenDevice:
    """The part of `runtime.cuda.interface.Cuda` that is the same for all bindings."""

    def __init__(self, device: Device) -> None:
        """Enter the device's context and load the kernels; raises `CudaError`."""
        self.name = device.name
        self.compute_capability = device.compute_capability
        self.integrated = device.integrated
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
        """Retain the primary context and make it current, with a `Resource` for every step to undo."""
        raise NotImplementedError

    def capture(self, stream: Any, enqueue: Callable[[], object]) -> NativeGraph:
        """Return a graph of the work that ``enqueue`` queues; see `runtime.cuda.interface.Cuda`."""
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
        """Close everything that is still open."""
        atexit.unregister(self.close)
        close_all(self._live)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _native_module() -> ModuleType | None:
    """Return the native module's kernels and graphs, or None if it has none for the current device."""
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
    """Return ``function`` of the native module with its failures as `CudaError`."""

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except RuntimeError as error:
            raise native_error(error) from None

    return call
