"""The state of the first NVIDIA GPU as its driver sees it. Home of pynvml (distribution nvidia-ml-py)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pynvml

# Documented in NVML's reference, group "NvmlClocksEventReasons".
SLOWED_BY = {
    0x4: "GPU power cap",
    0x8: "GPU hardware slowdown",
    0x20: "GPU heat",
    0x40: "GPU heat (hardware)",
    0x80: "GPU power brake",
}


def read_gpu() -> dict[str, Any]:
    """Read clocks (MHz), temperature (°C), power (W), load and throttling; empty without a driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return {}
    try:
        gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
        milliwatts = _ask(lambda: pynvml.nvmlDeviceGetPowerUsage(gpu))
        reasons = _slowed_by(gpu)
        return {
            "gpu_mhz": _ask(lambda: pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_SM)),
            "gpu_max_mhz": _ask(lambda: pynvml.nvmlDeviceGetMaxClockInfo(gpu, pynvml.NVML_CLOCK_SM)),
            "gpu_memory_mhz": _ask(lambda: pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_MEM)),
            "gpu_c": _ask(lambda: pynvml.nvmlDeviceGetTemperature(gpu, pynvml.NVML_TEMPERATURE_GPU)),
            "gpu_w": None if milliwatts is None else milliwatts / 1000,
            "gpu_slowed_by": [name for bit, name in SLOWED_BY.items() if reasons & bit],
            "gpu_busy_percent": _ask(lambda: pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu),
            "driver": _ask(pynvml.nvmlSystemGetDriverVersion),
        }
    except pynvml.NVMLError:  # no device
        return {}
    finally:
        pynvml.nvmlShutdown()


def _slowed_by(gpu: Any) -> int:
    """Return the bits of the reasons for low clocks; the call got another name with driver 535."""
    for name in ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"):
        call = getattr(pynvml, name, None)
        reasons = None if call is None else _ask(partial(call, gpu))
        if reasons is not None:
            return reasons
    return 0


def _ask(question: Callable[[], Any]) -> Any:
    """Return the answer, or None if this GPU or this driver has none."""
    try:
        answer = question()
    except pynvml.NVMLError:
        return None
    return answer.decode() if isinstance(answer, bytes) else answer
