"""Access to CUDA: streams, events, page-locked and device memory, copies and graphs of one device.

`open_cuda` opens the device through the compiled module, which needs the driver alone. PyCUDA and cuda-python are for
programs that use one of them themselves: the device is then opened through that library, in the primary context, which
all of them share. Every status is checked and becomes a `CudaError`; every resource is a context manager, closed at the
latest with its `Cuda`.

One thread at a time may use a `Cuda`; another one calls `Cuda.make_current` first. Through PyCUDA and cuda-python
everything belongs to the thread that opened it. A process that forks after `open_cuda` cannot use CUDA in the child:
open it there, or start children with ``spawn``.
"""

from __future__ import annotations

import os
from importlib import import_module

from runtime.cuda.driver import query_device
from runtime.cuda.interface import Cuda
from runtime.errors import FaceMeshError

BINDINGS = {
    "native": "runtime.cuda.native_binding",
    "pycuda": "runtime.cuda.pycuda_binding",
    "cuda-python": "runtime.cuda.cuda_python_binding",
}
CHOICE = "FACEMESH_CUDA_BINDING"  # environment variable


def open_cuda(binding: str | None = None, *, spin: bool = True) -> Cuda:
    """Open the first device through ``binding``: "native", "pycuda" or "cuda-python".

    None takes the one that the environment variable FACEMESH_CUDA_BINDING names, "native" without it. ``spin``: waits
    poll also where the driver would let them sleep, as on a Jetson that saves power. Raises `CudaError` without a
    usable driver or device and `FaceMeshError` without the binding.
    """
    name = binding or os.environ.get(CHOICE) or "native"
    if name not in BINDINGS:
        raise FaceMeshError(f"{CHOICE}={name}: no such binding for CUDA; take {', '.join(BINDINGS)}, or leave it out")
    device = query_device()
    try:
        module = import_module(BINDINGS[name])
    except ImportError as error:
        remedy = f"pip install {name}, or leave {CHOICE} out"
        raise FaceMeshError(f"the binding {name} for CUDA cannot be imported ({error}); {remedy}") from error
    return module.open_device(device, spin)
