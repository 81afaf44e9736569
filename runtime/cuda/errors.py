"""Failures of CUDA as one line each."""

from __future__ import annotations

from runtime.errors import FaceMeshError

# After one of these every later call reports it again, releases too.
LOST = {
    "CUDA_ERROR_ASSERT",
    "CUDA_ERROR_CONTAINED",
    "CUDA_ERROR_CONTEXT_IS_DESTROYED",
    "CUDA_ERROR_DEINITIALIZED",
    "CUDA_ERROR_DEVICE_UNAVAILABLE",
    "CUDA_ERROR_ECC_UNCORRECTABLE",
    "CUDA_ERROR_EXTERNAL_DEVICE",
    "CUDA_ERROR_HARDWARE_STACK_ERROR",
    "CUDA_ERROR_ILLEGAL_ADDRESS",
    "CUDA_ERROR_ILLEGAL_INSTRUCTION",
    "CUDA_ERROR_INVALID_ADDRESS_SPACE",
    "CUDA_ERROR_INVALID_PC",
    "CUDA_ERROR_LAUNCH_FAILED",
    "CUDA_ERROR_LAUNCH_TIMEOUT",
    "CUDA_ERROR_MISALIGNED_ADDRESS",
    "CUDA_ERROR_UNKNOWN",
}
_LOST = "the device is lost to this process; start it again (`dmesg | grep -iE 'xid|nvgpu'` tells what happened)"
_NO_DEVICE = (
    "no CUDA device can be seen; check nvidia-smi (on a Jetson tegrastats), CUDA_VISIBLE_DEVICES and, in a container, "
    "--gpus all"
)
_DRIVER = (
    "the NVIDIA driver does not fit this CUDA software; update the driver (on a Jetson JetPack), or install packages "
    "for an older CUDA"
)
_MISUSE = (
    "CUDA was used after close(), after a fork, or in another thread than the one that opened it (call make_current() "
    "there first)"
)
_UNAVAILABLE = "another process holds the device (exclusive mode? nvidia-smi -q -d COMPUTE), or it is lost; start again"
_STUB = "the libcuda.so.1 found is the stub that CUDA's toolkit links against; take it out of LD_LIBRARY_PATH"
_MEMORY = "the GPU's memory is full (a Jetson shares it with the system); close other programs, or lower the batch"
_NO_KERNELS = "there are no kernels for this GPU; they need compute capability 7.5 (Turing) or newer"
_REMEDIES = {
    **dict.fromkeys(LOST, _LOST),
    "CUDA_ERROR_NO_DEVICE": _NO_DEVICE,
    "CUDA_ERROR_INVALID_DEVICE": _NO_DEVICE,
    "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH": _DRIVER,
    "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE": _DRIVER,
    "CUDA_ERROR_UNSUPPORTED_PTX_VERSION": _DRIVER,
    "CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER": _DRIVER,
    "CUDA_ERROR_NOT_FOUND": _DRIVER,
    "CUDA_ERROR_NOT_INITIALIZED": _MISUSE,
    "CUDA_ERROR_INVALID_CONTEXT": _MISUSE,
    "CUDA_ERROR_INVALID_HANDLE": _MISUSE,
    "CUDA_ERROR_DEVICE_UNAVAILABLE": _UNAVAILABLE,
    "CUDA_ERROR_STUB_LIBRARY": _STUB,
    "CUDA_ERROR_OUT_OF_MEMORY": _MEMORY,
    "CUDA_ERROR_NO_BINARY_FOR_GPU": _NO_KERNELS,
}


class CudaError(FaceMeshError):
    """A failed CUDA call: its name ``call`` and the driver's name of the ``status``, such as CUDA_ERROR_OUT_OF_MEMORY.

    ``status`` is "" for a failure without one.
    """

    is_fatal = True

    def __init__(self, call: str, status: str, explanation: str = "") -> None:
        """Build the message from the call, the status and its remedy, or ``explanation`` for a status without one."""
        self.call = call
        self.status = status
        failure = f"{call} failed with {status}" if status else f"{call} failed"
        remedy = _REMEDIES.get(status, explanation)
        super().__init__(f"{failure}: {remedy}" if remedy else failure)

    @property
    def lost(self) -> bool:
        """True if the device cannot be used before the process is started again."""
        return self.status in LOST
