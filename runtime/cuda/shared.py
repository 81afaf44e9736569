"""Common part of the CUDA bindings: closing, page-locked memory, kernels and graphs."""

from __future__ import annotations

import atexit
import gc
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from runtime.compiled import native
from runtime.cuda.driver import Device
from runtime.cuda.errors import CudaError
from runtime.models.shipped import KERNELS_PTX

native.driver.raise_failures_as(CudaError)

Live = dict["Resource", None]  # in the order of their making
_UNFIT = {
    # The device is older than the PTX, or the driver older than any kernel here.
    "CUDA_ERROR_NO_BINARY_FOR_GPU",
    "CUDA_ERROR_INVALID_PTX",
    "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
    # There is only PTX for this device, and the driver cannot compile that.
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


@contextmanager
def no_collection() -> Iterator[None]:
    """Keep Python from collecting garbage.

    While a graph is captured, that could free an object of another library with a call of the driver that a capture
    forbids, and spoil it.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class PageLocked(Resource):
    """`runtime.cuda.interface.HostBuffer`: its arrays own the memory, and so may outlive it and its `Cuda`."""

    def __init__(self, live: Live, context: Any, nbytes: int, mapped: bool) -> None:
        """Allocate; raises `CudaError`."""
        memory = native.driver.PageLocked(context, nbytes, mapped)
        self.pointer = memory.pointer
        self.device_pointer = memory.device_pointer
        self.array = memory.array()
        super().__init__(live, self._let_go)

    def _let_go(self) -> None:
        self.array = np.empty(0, np.uint8)


class NativeGraph(Resource):
    """`runtime.cuda.interface.Graph`"""

    def __init__(self, live: Live, graph: Any) -> None:
        """Take over a graph of the native module."""
        super().__init__(live, graph.close)
        self._launch = graph.launch

    def launch(self, stream: Any) -> None:
        """Queue the recorded work on ``stream``; raises `CudaError`."""
        self._launch(stream.handle)


class OpenDevice:
    """The part of `runtime.cuda.interface.Cuda` that is the same for all bindings."""

    def __init__(self, device: Device, spin: bool) -> None:
        """Enter the device's context and load the kernels; raises `CudaError`."""
        self.name = device.name
        self.compute_capability = device.compute_capability
        self.integrated = device.integrated
        self.kernels: Any = None
        self._live: Live = {}
        atexit.register(self.close)  # before the driver is shut down
        try:
            if spin:
                native.driver.spin_while_waiting()
            self._context = native.driver.Context()
            Resource(self._live, self._context.close)
            self._enter_context()
            self.kernels = self._load_kernels()
        except BaseException:
            self.close()
            raise

    def _enter_context(self) -> None:
        """Make the primary context current, with a `Resource` for every step to undo."""
        raise NotImplementedError

    def make_current(self) -> None:
        """Let the calling thread use the device; see `runtime.cuda.interface.Cuda`."""

    def host_buffer(self, nbytes: int, *, mapped: bool = False) -> PageLocked:
        """Allocate page-locked memory; see `runtime.cuda.interface.Cuda`."""
        return PageLocked(self._live, self._context, nbytes, mapped)

    def capture(self, stream: Any, enqueue: Callable[[], object]) -> NativeGraph:
        """Return a graph of the work that ``enqueue`` queues; see `runtime.cuda.interface.Cuda`."""
        with no_collection():
            native.driver.begin_capture(stream.handle)
            try:
                enqueue()
            except BaseException:
                with suppress(CudaError):
                    native.driver.Graph(stream.handle).close()
                raise
            graph = native.driver.Graph(stream.handle)
        try:
            graph.upload(stream.handle)
        except BaseException:
            graph.close()
            raise
        return NativeGraph(self._live, graph)

    def close(self) -> None:
        """Close everything that is still open."""
        atexit.unregister(self.close)
        close_all(self._live)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _load_kernels(self) -> Any:
        """Return the kernels on the current device, None if none fit it."""
        try:
            kernels = native.KernelModule(kernel_images())
        except CudaError as error:
            if error.status not in _UNFIT:
                raise
            warnings.warn(f"crop and decode run on the CPU: {error}", stacklevel=2)
            return None
        Resource(self._live, kernels.close)
        return kernels


def kernel_images() -> list[bytes]:
    """Return the kernels as machine code, if this module was built with a CUDA compiler, and as PTX."""
    machine_code = Path(native.__file__).with_name("kernels.fatbin")
    return [path.read_bytes() for path in (machine_code, KERNELS_PTX) if path.is_file()]
