"""The GPUs that the roofline knows: dense throughput and bandwidth, with where each figure comes from (`devices.json`)."""

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
class Device:
    """One GPU at its full clock. A rate is None where the device has none that is worth using."""

    id: str
    name: str
    family: str  # "jetson", or "discrete": cards with memory of their own
    compute_capability: str
    fp32_tflops: float  # of the plain cores
    fp16_tflops: float | None  # of the tensor cores where there are some, else of the plain cores
    int8_tops: float | None
    gigabytes_per_s: float
    tensor_cores: bool
    source: str

    def usable(self, precision: str) -> str | None:
        """What a network of ``precision`` runs in here: a device without FP16 takes FP32, one without INT8 has no such run."""
        if precision == "fp16" and self.fp16_tflops is None:
            return "fp32"
        return None if precision == "int8" and self.int8_tops is None else precision

    def rate(self, precision: str) -> float:
        """10¹² operations per second in convolutions and matrix products; a multiply-add is two."""
        rate = {"fp32": self.fp32_tflops, "fp16": self.fp16_tflops, "int8": self.int8_tops}[precision]
        if rate is None:
            raise ValueError(f"{self.name} has no {precision}")
        return rate


@cache
def all_devices() -> tuple[Device, ...]:
    """Every device of `devices.json`, small ones first."""
    return tuple(Device(**entry) for entry in json.loads(DEVICES_FILE.read_text(encoding="utf-8"))["devices"])


def find_device(name: str) -> Device:
    """The device with this id. Raises `FaceMeshError` listing what there is."""
    return find_devices([name])[0]


def find_devices(names: Sequence[str]) -> list[Device]:
    """Devices by id, or all of a family by its name, in the order of the file and each once; all devices for no names."""
    devices = all_devices()
    for name in names:
        if not any(name in (device.id, device.family) for device in devices):
            raise FaceMeshError(f"no device {name!r}; there are jetson and discrete (all of a kind), {', '.join(device.id for device in devices)}")
    return [device for device in devices if not names or device.id in names or device.family in names]
