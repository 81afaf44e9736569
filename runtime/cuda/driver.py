"""The CUDA device of this machine, asked of the driver itself: no CUDA package is needed to know whether an engine fits."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from runtime.cuda.errors import CudaError

# https://docs.nvidia.com/cuda/cuda-driver-api: CUdevice_attribute
INTEGRATED, CAPABILITY_MAJOR, CAPABILITY_MINOR = 18, 75, 76


@dataclass(frozen=True)
class Device:
    name: str  # "Orin", "NVIDIA GeForce RTX 4090"
    compute_capability: str  # "8.7"
    integrated: bool = False  # shares its memory with the host, as a Jetson's does


def find_device() -> Device | None:
    """The first CUDA device, which is the one that engines are built for and run on; None without a driver or a device."""
    try:
        return query_device()
    except CudaError:
        return None


def query_device() -> Device:
    """`find_device`, or CudaError that says why there is none."""
    driver, device, name = _load_driver(), ctypes.c_int(), ctypes.create_string_buffer(256)

    def check(call: str, *arguments: object) -> None:
        status = getattr(driver, call)(*arguments)
        if status != 0:
            raise CudaError(call, _describe(driver.cuGetErrorName, status))

    def attribute(number: int) -> int:
        value = ctypes.c_int()
        check("cuDeviceGetAttribute", ctypes.byref(value), number, device)
        return value.value

    check("cuInit", 0)
    check("cuDeviceGet", ctypes.byref(device), 0)
    check("cuDeviceGetName", name, len(name), device)
    capability = f"{attribute(CAPABILITY_MAJOR)}.{attribute(CAPABILITY_MINOR)}"
    return Device(name.value.decode(errors="replace"), capability, bool(attribute(INTEGRATED)))


def status_name(text: str) -> str:
    """The name of the status that the driver describes so: "out of memory" -> "CUDA_ERROR_OUT_OF_MEMORY"; "" where it is of none."""
    driver = _load_driver()
    for status in range(1, 1000):
        if _describe(driver.cuGetErrorString, status) == text:
            return _describe(driver.cuGetErrorName, status)
    return ""


def _load_driver() -> ctypes.CDLL:
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        remedy = "install the NVIDIA driver; in a container, start that with --gpus all or --runtime nvidia"
        raise CudaError("loading libcuda.so.1", "", remedy) from None


def _describe(describe: ctypes._NamedFuncPointer, status: int) -> str:
    """By cuGetErrorName or cuGetErrorString."""
    text = ctypes.c_char_p()
    describe(status, ctypes.byref(text))
    return (text.value or f"status {status}".encode()).decode(errors="replace")
