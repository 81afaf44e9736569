"""Access to CUDA: streams, events, page-locked and device memory, copies and graphs of one device.

`open_cuda` opens the device through PyCUDA or, if that is not installed, through cuda-python; both implement the
protocols of `runtime.cuda.interface`. Every status is checked and becomes a `CudaError`; every resource is a context
manager, closed at the latest with its `Cuda`.

Everything belongs to the thread that opened it. A process that forks after `open_cuda` cannot use CUDA in the child:
open it there, or start children with ``spawn``.
"""

from __future__ import annotations

from importlib import import_module

from runtime.cuda.driver import query_device
from runtime.cuda.interface import Cuda
from runtime.errors import FaceMeshError

# Name -> module, in the order of preference.
_BINDINGS = {"pycuda": "runtime.cuda.pycuda_binding", "cuda-python": "runtime.cuda.cuda_python_binding"}


def open_cuda(binding: str | None = None) -> Cuda:
    """Open the first device through ``binding``, "pycuda" or "cuda-python"; None takes the first one installed.

    Raises `CudaError` without a usable driver or device and `FaceMeshError` without a binding.
    """
    device = query_device()
    failures = []
    for name in [binding] if binding else _BINDINGS:
        try:
            module = import_module(_BINDINGS[name])
        except ImportError as error:
            failures.append(f"{name}: {error}")
        else:
            return module.open_device(device)
    remedy = "pip install 'facemesh-edge[trt]', or cuda-python alone where PyCUDA cannot be compiled"
    raise FaceMeshError(f"no binding for CUDA can be imported ({'; '.join(failures)}): {remedy}")
