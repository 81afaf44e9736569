"""Dense throughput and bandwidth of the GPUs in `devices.json`, each figure with its source."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from runtime.errors import FaceMeshError

DEVICES_FILE = Path(__file__).with_name("devices.json")
PRECISIONS = ("fp16", "int8")


@dataclass(frozen=True)
class GpuFigures:
    """One GPU at its full clock. A rate is None if the device has none that is worth using."""

    id: str
    name: str
    family: str  # "jetson", or "discrete": cards with memory of their own
    compute_capability: str
    fp32_tflops: float  # of the plain cores
    fp16_tflops: float | None  # of the tensor cores if there are some, else of the plain cores
    int8_tops: float | None
    gigabytes_per_s: float
    tensor_cores: bool
    source: str
    host_gigabytes_per_s: float | None = None  # of its slot, one way; None: it shares the host's memory
    cannot_run: str | None = None  # why the runtime cannot use it

    def usable(self, precision: str) -> str | None:
        """Return the precision of a network of ``precision`` on this GPU.

        A device without FP16 takes FP32; one without INT8 cannot run INT8 (None).
        """
        if precision == "fp16" and self.fp16_tflops is None:
            return "fp32"
        return None if precision == "int8" and self.int8_tops is None else precision

    def rate(self, precision: str) -> float:
        """Return 10¹² operations per second in convolutions and matrix products; a multiply-add is two."""
        rate = {"fp32": self.fp32_tflops, "fp16": self.fp16_tflops, "int8": self.int8_tops}[precision]
        if rate is None:
            raise ValueError(f"{self.name} has no {precision}")
        return rate


@cache
def all_gpus() -> tuple[GpuFigures, ...]:
    """Return every device of `devices.json`, small ones first."""
    document = json.loads(DEVICES_FILE.read_text(encoding="utf-8"))
    return tuple(GpuFigures(**entry) for entry in document["devices"])


def find_gpu(name: str) -> GpuFigures:
    """Return the device with this id. Raises `FaceMeshError` that lists all ids."""
    return find_gpus([name])[0]


def find_gpus(names: Sequence[str]) -> list[GpuFigures]:
    """Return devices by their ids, or all of a family by its name, each once and in the order of the file.

    No names mean all devices. Raises `FaceMeshError` for an unknown name.
    """
    devices = all_gpus()
    for name in names:
        if not any(name in (device.id, device.family) for device in devices):
            ids = ", ".join(device.id for device in devices)
            raise FaceMeshError(f"no device {name!r}; there are jetson and discrete (all of a kind), {ids}")
    return [device for device in devices if not names or device.id in names or device.family in names]
