"""The CUDA device of this machine, as the driver describes it; needs no CUDA package.

So a machine without one can still tell if an engine fits its device.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from dataclasses import dataclass

from runtime.cuda.errors import CudaError

# https://docs.nvidia.com/cuda/cuda-driver-api: CUdevice_attribute
MULTIPROCESSORS = 16
INTEGRATED = 18
CAPABILITY_MAJOR = 75
CAPABILITY_MINOR = 76


@dataclass(frozen=True)
class Device:
    """A CUDA device."""

    name: str  # "Orin", "NVIDIA GeForce RTX 4090"
    compute_capability: str  # "8.7"
    integrated: bool = False  # shares its memory with the host, as a Jetson's does
    multiprocessors: int = 0  # 0: unknown; 8 on an Orin Nano, 16 on an AGX Orin of the same name


def find_device() -> Device | None:
    """Return the first CUDA device, or None without a driver or a device.

    Engines are built for that device and run on it.
    """
    try:
        return query_device()
    except CudaError:
        return None


def query_device() -> Device:
    """Return the first CUDA device; raises `CudaError` with the reason if there is none."""
    driver = _load_driver()
    device = ctypes.c_int()
    name = ctypes.create_string_buffer(256)

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
    return Device(
        name.value.decode(errors="replace"), capability, bool(attribute(INTEGRATED)), attribute(MULTIPROCESSORS)
    )


def platform_name(device: Device | None) -> str:
    """Return what plans of TensorRT are bound to beside the device: "linux-x86_64", "linux-aarch64-tegra"."""
    tegra = device is not None and device.integrated
    return f"{sys.platform}-{platform.machine()}" + "-tegra" * tegra


def status_name(text: str) -> str:
    """Return the name of the status that the driver describes by ``text``, "" for an unknown text.

    For example "out of memory" -> "CUDA_ERROR_OUT_OF_MEMORY".
    """
    driver = _load_driver()
    for status in range(1, 1000):
        if _describe(driver.cuGetErrorString, status) == text:
            return _describe(driver.cuGetErrorName, status)
    return ""


def _load_driver() -> ctypes.CDLL:
    """Return the driver's library; raises `CudaError` if it is not installed."""
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        remedy = "install the NVIDIA driver; in a container, start that with --gpus all or --runtime nvidia"
        raise CudaError("loading libcuda.so.1", "", remedy) from None


def _describe(describe: ctypes._NamedFuncPointer, status: int) -> str:
    """Return the text of a status by cuGetErrorName or cuGetErrorString."""
    text = ctypes.c_char_p()
    describe(status, ctypes.byref(text))
    return (text.value or f"status {status}".encode()).decode(errors="replace")
