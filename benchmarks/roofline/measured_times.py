"""What others measured with TensorRT, and the layers of the networks they measured (`measured_times.json`)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.roofline.gpu_figures import Device, find_device
from benchmarks.roofline.layers import Layer
from benchmarks.roofline.least_time import LeastTime, least_time
from runtime.errors import FaceMeshError

MEASURED_FILE = Path(__file__).with_name("measured_times.json")


@dataclass(frozen=True)
class Measurement:
    """A time, and the least time of the same network on the same device."""

    network: str
    ms: float
    least: LeastTime


@cache
def _document() -> dict[str, Any]:
    return json.loads(MEASURED_FILE.read_text(encoding="utf-8"))


def network_names() -> list[str]:
    """The networks whose layers are on file; ours are among them."""
    return list(_document()["networks"])


def network_layers(name: str) -> list[Layer]:
    """The layers of one of `network_names`. Raises `FaceMeshError` for any other name."""
    if name not in network_names():
        raise FaceMeshError(f"{name}: no such file, and no network of this name; give an .onnx file or one of {', '.join(network_names())}")
    rows = _document()["networks"][name]["layers"]
    return [_layer(f"{name} {number}", *row) for number, (count, *row) in enumerate(rows, 1) for _ in range(count)]


def measurements() -> list[Measurement]:
    """Everything that a prediction may be fitted to."""
    found = []
    for entry in _document()["measured"]:
        least = least_time(network_layers(entry["network"]), find_device(entry["device"]), entry["precision"])
        if least is not None:
            found.append(Measurement(entry["network"], entry["ms"], least))
    return found


def measured_ms(network: str, device: Device, precision: str) -> float | None:
    """What somebody measured for exactly this with TensorRT."""
    wanted = (network, device.id, precision)
    return next((entry["ms"] for entry in _document()["measured"] if (entry["network"], entry["device"], entry["precision"]) == wanted), None)


def _layer(name: str, operator: str, groups: int, channels_in: int, channels_out: int, kernel: int, side_in: int, side_out: int) -> Layer:
    return Layer(
        **{"name": name, "operator": operator, "groups": groups, "channels_in": channels_in, "channels_out": channels_out},
        positions=(side_in if operator == "ConvTranspose" else side_out) ** 2 * kernel**2,
        weights=groups * channels_in * channels_out * kernel**2,
        inputs=groups * channels_in * side_in**2,
        outputs=groups * channels_out * side_out**2,
    )
