"""Published measurements with TensorRT, and the layers of the measured networks (`measured_times.json`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.roofline.gpu_figures import GpuFigures, find_gpu
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
    in_python: bool = False  # timed round a loop in Python, call and wait included


@cache
def _document() -> dict[str, Any]:
    return json.loads(MEASURED_FILE.read_text(encoding="utf-8"))


def network_names() -> list[str]:
    """Return the names of all networks on file; ours are among them."""
    return list(_document()["networks"])


def network_layers(name: str) -> list[Layer]:
    """Return the layers of one of `network_names`. Raises `FaceMeshError` for any other name."""
    if name not in network_names():
        names = ", ".join(network_names())
        raise FaceMeshError(f"{name}: no such file, and no network of this name; give an .onnx file or one of {names}")
    rows = _document()["networks"][name]["layers"]
    return [_layer(f"{name} {number}", row) for number, (count, *row) in enumerate(rows, 1) for _ in range(count)]


def measurements() -> list[Measurement]:
    """Return every measurement on file, for the fit of a prediction."""
    found = []
    for entry in _document()["measured"]:
        least = least_time(network_layers(entry["network"]), find_gpu(entry["device"]), entry["precision"])
        if least is not None:
            found.append(Measurement(entry["network"], entry["ms"], least, entry.get("loop") == "python"))
    return found


def measured_ms(network: str, device: GpuFigures, precision: str) -> float | None:
    """Return the published time of exactly this, None if there is none."""
    wanted = (network, device.id, precision)
    for entry in _document()["measured"]:
        if (entry["network"], entry["device"], entry["precision"]) == wanted:
            return entry["ms"]
    return None


def _layer(name: str, row: Sequence[Any]) -> Layer:
    """Return the layer of one row of the file."""
    operator, groups, channels_in, channels_out, kernel, side_in, side_out = row
    return Layer(
        name=name,
        operator=operator,
        groups=groups,
        channels_in=channels_in,
        channels_out=channels_out,
        positions=(side_in if operator == "ConvTranspose" else side_out) ** 2 * kernel**2,
        weights=groups * channels_in * channels_out * kernel**2,
        inputs=groups * channels_in * side_in**2,
        outputs=groups * channels_out * side_out**2,
    )
