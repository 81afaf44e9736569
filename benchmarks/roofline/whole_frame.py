"""Predict the time of a whole 720p frame with one face, from memory to memory, with tracking and with detection.

The face is 200 px wide. Crop and decode are layers without arithmetic and follow the network's formula
(`benchmarks.roofline.expected_time`). Copies of cards take SLOT_SHARE of their slot's rate; a Jetson copies the points
alone. The host's time is an estimate: crop matrix, launch of a graph, end of the wait, pose and a copy of the points,
which the device makes by now: on a card it is counted twice. Detection on the host is YuNet at 640 × 360 in one thread;
tracked frames have none. Detection on the GPU is YuNet in an engine of 640 × 384 (`runtime.detection.gpu_yunet`), with
the whole frame's copy and one more launch and wait; the faces are then cropped without a copy of their own.

None of this has been measured on these devices. The band is that of the network's prediction, over all of the GPU's
work; copies and host have none.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.roofline.expected_time import Expectation, Fit, default_fit
from benchmarks.roofline.gpu_figures import GpuFigures
from benchmarks.roofline.layers import Layer
from benchmarks.roofline.least_time import least_time
from benchmarks.roofline.measured_times import network_layers
from runtime.errors import FaceMeshError

HEIGHT, WIDTH = 720, 1280
CROP_SIDE = 320  # frame px: a box of 200 px times PRNet's 1.6
POINTS = 43_867 + 68
HEAD_LAYERS = 5  # the last ones: a confidence's layers follow the map's
LEAST_MAP = 32  # its side
SLOT_SHARE = 0.8  # of a slot's rate that page-locked copies reach; an assumption
HOST_MS = {"jetson": 0.36, "discrete": 0.10}  # estimates
ANOTHER_WAIT_MS = {"jetson": 0.10, "discrete": 0.03}  # launch and wait of a second graph; estimates
DETECTION_SIDES = (384, 640)  # of the 640 × 640 on file
# Milliseconds of YuNet on the host. Cards: measured on one core of an AMD EPYC in ONNX Runtime. Orin: OpenCV's own
# 2.6 ms at 160 × 120 on an Orin Nano, by pixels, and half of it for ONNX Runtime, as on that EPYC.
HOST_DETECTION_MS = {"discrete": (5.7, 5.7), "8.7": (16.0, 31.0)}


@dataclass(frozen=True)
class FrameTime:
    """Milliseconds of one whole frame; `tracked` and `detected` are sums of the parts."""

    device: GpuFigures
    precision: str
    network: Expectation
    kernels: Expectation  # crop and decode
    copies_ms: float
    host_ms: float
    detection: Expectation  # on the GPU, with copies and the second wait
    host_detection_ms: tuple[float, float] | None  # least and most; None: nothing is known

    @property
    def tracked(self) -> Expectation:
        """A frame whose faces are tracked."""
        return _sum(self.network, self.kernels, _certain(self.copies_ms + self.host_ms))

    @property
    def detected(self) -> Expectation:
        """A frame with detection on the GPU before it."""
        return _sum(self.tracked, self.detection)

    @property
    def detected_on_host(self) -> Expectation | None:
        """A frame with detection on the host before it; None: nothing is known of this host."""
        if self.host_detection_ms is None:
            return None
        low, high = self.host_detection_ms
        return _sum(self.tracked, Expectation(low, math.sqrt(low * high), high))


def frame_time(layers: Sequence[Layer], device: GpuFigures, precision: str) -> FrameTime | None:
    """Predict a frame with a network of position maps; None if the device has nothing for the precision.

    Raises `FaceMeshError` for a network without position map.
    """
    maps = [layer.outputs for layer in layers[-HEAD_LAYERS:] if _is_map(layer.outputs)]
    if not maps:
        raise FaceMeshError(
            f"{layers[-1].name}: no position map (3 square planes) at the end of the network; "
            "whole frames are predicted for prnet, edge and networks like them; leave out --whole-frame"
        )
    least = least_time(layers, device, precision)
    if least is None:
        return None
    fit = default_fit()
    crop = _copy_layer("crop", 3 * CROP_SIDE**2 // 2, layers[0].inputs)  # a pixel's bytes, counted in halves
    decode = _copy_layer("decode", maps[-1], 6 * POINTS)  # three floats a point
    return FrameTime(
        device,
        least.precision,
        fit.expect(least),
        _expected([crop, decode], device, fit),
        _slot_ms(device, 3 * WIDTH * CROP_SIDE) + _slot_ms(device, 12 * POINTS),
        HOST_MS[device.family],
        _detection(device, fit),
        HOST_DETECTION_MS.get(device.compute_capability, HOST_DETECTION_MS.get(device.family)),
    )


def frame_table(name: str, times: Sequence[FrameTime], form: Callable[[float], str]) -> list[tuple[str, ...]]:
    """Return a table of the network ``name`` with its head; ``form`` writes milliseconds."""

    def band(expected: Expectation | None) -> str:
        return "–" if expected is None else f"{form(expected.low_ms)}–{form(expected.high_ms)}"

    head = ("device", name, "network", "crop, decode", "copies", "host", "tracked", "detected", "detected on the host")
    lines = [head]
    for time in times:
        parts = (band(time.network), band(time.kernels), form(time.copies_ms), form(time.host_ms))
        sums = (band(time.tracked), band(time.detected), band(time.detected_on_host))
        lines.append((time.device.name, time.precision.upper(), *parts, *sums))
    return lines


def frame_figures(name: str, time: FrameTime) -> dict[str, Any]:
    """Return the JSON object of one frame."""
    parts = {part: getattr(time, part) for part in ("network", "kernels", "detection", "tracked", "detected")}
    figures: dict[str, Any] = {f"{part}_ms": list(dataclasses.astuple(value)) for part, value in parts.items()}
    host = time.detected_on_host
    return {
        "network": name,
        "device": time.device.id,
        "precision": time.precision,
        "copies_ms": time.copies_ms,
        "host_ms": time.host_ms,
        **figures,
        "detected_on_host_ms": None if host is None else list(dataclasses.astuple(host)),
    }


def _is_map(outputs: int) -> bool:
    return outputs >= 3 * LEAST_MAP**2 and 3 * math.isqrt(outputs // 3) ** 2 == outputs


def _detection(device: GpuFigures, fit: Fit) -> Expectation:
    """Predict the copy of the rows that no crop touches, preprocessing, YuNet, the choice of its cells, and a wait.

    A Jetson copies the frame within its memory, since a detector reads every pixel many times.
    """
    height, width = DETECTION_SIDES
    frame = [_copy_layer("frame", 3 * HEIGHT * WIDTH // 2, 3 * HEIGHT * WIDTH // 2)]
    preprocessing = _copy_layer("resize", 3 * HEIGHT * WIDTH // 2, 3 * height * width)
    chosen = _copy_layer("choose", 15 * (height * width) // 64, 2 * 15 * 512)
    network = [_cut(layer, height / width) for layer in network_layers("yunet")]
    fixed = _slot_ms(device, 3 * WIDTH * (HEIGHT - CROP_SIDE)) + ANOTHER_WAIT_MS[device.family]
    copied = frame if device.host_gigabytes_per_s is None else []
    return _sum(_expected([*copied, preprocessing, *network, chosen], device, fit), _certain(fixed))


def _expected(layers: Sequence[Layer], device: GpuFigures, fit: Fit) -> Expectation:
    least = least_time(layers, device, "fp16")
    assert least is not None  # every device has FP16, or FP32 in its place
    return fit.expect(least)


def _copy_layer(name: str, inputs: int, outputs: int) -> Layer:
    """Return a layer that only moves half-precision numbers."""
    return Layer(name, "Copy", 1, 0, 0, 0, weights=0, inputs=inputs, outputs=outputs)


def _cut(layer: Layer, share: float) -> Layer:
    """Return a layer on a picture cut to a ``share`` of its rows."""
    numbers = {name: round(share * getattr(layer, name)) for name in ("positions", "inputs", "outputs")}
    return dataclasses.replace(layer, **numbers)


def _slot_ms(device: GpuFigures, nbytes: int) -> float:
    """Return the time of a copy between host and GPU; none if they share their memory."""
    rate = device.host_gigabytes_per_s
    return 0.0 if rate is None else nbytes / (SLOT_SHARE * rate * 1e6)


def _certain(ms: float) -> Expectation:
    return Expectation(ms, ms, ms)


def _sum(*parts: Expectation) -> Expectation:
    return Expectation(
        sum(part.low_ms for part in parts), sum(part.ms for part in parts), sum(part.high_ms for part in parts)
    )
