"""The CUDA device of this machine, asked of the driver itself: no CUDA package is needed to know whether an engine fits."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

# https://docs.nvidia.com/cuda/cuda-driver-api: CUdevice_attribute
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76


@dataclass(frozen=True)
class Device:
    name: str  # "Orin", "NVIDIA GeForce RTX 4090"
    compute_capability: str  # "8.7"


def find_device() -> Device | None:
    """The first CUDA device, which is the one that engines are built for and run on; None without a driver or a device."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, name, numbers = ctypes.c_int(), ctypes.create_string_buffer(256), (ctypes.c_int(), ctypes.c_int())
    calls = (
        lambda: cuda.cuInit(0),
        lambda: cuda.cuDeviceGet(ctypes.byref(device), 0),
        lambda: cuda.cuDeviceGetName(name, len(name), device),
        lambda: cuda.cuDeviceGetAttribute(ctypes.byref(numbers[0]), CAPABILITY_MAJOR, device),
        lambda: cuda.cuDeviceGetAttribute(ctypes.byref(numbers[1]), CAPABILITY_MINOR, device),
    )
    if any(call() != 0 for call in calls):  # the first that fails ends it
        return None
    return Device(name.value.decode(errors="replace"), f"{numbers[0].value}.{numbers[1].value}")
