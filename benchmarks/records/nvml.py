"""The state of the first NVIDIA GPU as the driver's management library sees it. Home of pynvml (distribution nvidia-ml-py)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pynvml

# Documented in NVML's reference, group "NvmlClocksEventReasons".
SLOWED_BY = {0x4: "GPU power cap", 0x8: "GPU hardware slowdown", 0x20: "GPU heat", 0x40: "GPU heat (hardware)", 0x80: "GPU power brake"}


def read_gpu() -> dict[str, Any]:
    """Clocks, temperature, power and what slows the GPU down; what it does not support is left out, all of it without a driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return {}
    try:
        gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
        milliwatts = _asked(lambda: pynvml.nvmlDeviceGetPowerUsage(gpu))
        degrees = _asked(lambda: pynvml.nvmlDeviceGetTemperature(gpu, pynvml.NVML_TEMPERATURE_GPU))
        reasons = _slowed_by(gpu)
        return {
            "gpu_mhz": _asked(lambda: pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_SM)),
            "gpu_max_mhz": _asked(lambda: pynvml.nvmlDeviceGetMaxClockInfo(gpu, pynvml.NVML_CLOCK_SM)),
            "gpu_memory_mhz": _asked(lambda: pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_MEM)),
            "gpu_c": degrees,
            "gpu_w": None if milliwatts is None else milliwatts / 1000,
            "gpu_slowed_by": [name for bit, name in SLOWED_BY.items() if reasons & bit],
            "gpu_busy_percent": _asked(lambda: pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu),
            "driver": _asked(pynvml.nvmlSystemGetDriverVersion),
        }
    except pynvml.NVMLError:  # no device
        return {}
    finally:
        pynvml.nvmlShutdown()


def _slowed_by(gpu: Any) -> int:
    """The bits of why clocks are low; the call got another name with driver 535."""
    for name in ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"):
        if (ask := getattr(pynvml, name, None)) and (reasons := _asked(partial(ask, gpu))) is not None:
            return reasons
    return 0


def _asked(question: Callable[[], Any]) -> Any:
    """The answer, None where this GPU or this driver has none."""
    try:
        answer = question()
    except pynvml.NVMLError:
        return None
    return answer.decode() if isinstance(answer, bytes) else answer
