"""From the least time to one that may be expected, by what others measured with TensorRT on other networks (`benchmarks.roofline.measured_times`).

    expected = least / efficiency + layers × cost of a layer

One efficiency for plain cores and one for tensor cores, one cost of a layer for Jetsons and one for cards: four numbers, fitted by least
squares of the relative error, every device with the same weight. The cost of a layer covers launches, ramps and the small kernels between
layers, and is what decides on small networks: without it the errors double. It is a prediction, for the network alone and for TensorRT as it
is today. Its band is the range of measured ÷ predicted when each device in turn is left out of the fit.

Left out of the file: PRNet's own 9.8 ms on a GTX 1080 (TensorFlow, PRNet issue 7; a Titan X took 10 ms too, so the framework was what was
measured), which is 4.5 times what is expected of TensorRT; MobileNetV1 on TX2 with TensorRT 3, which had no depthwise kernels (12.9 ms, 5
times); networks far from ours in arithmetic.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from benchmarks.roofline.gpu_figures import Device
from benchmarks.roofline.least_time import LeastTime
from benchmarks.roofline.measured_times import Measurement, measurements


@dataclass(frozen=True)
class Expectation:
    """Milliseconds: what is expected, and the band around it."""

    low_ms: float
    ms: float
    high_ms: float


@dataclass(frozen=True)
class Fit:
    """The four numbers, and measured ÷ predicted on devices left out."""

    plain_efficiency: float
    tensor_efficiency: float
    jetson_layer_ms: float
    discrete_layer_ms: float
    lowest_ratio: float
    highest_ratio: float

    def expect(self, least: LeastTime) -> Expectation:
        """What ``least`` takes in practice, by this fit; never less than the least time itself."""
        numbers = np.array([1 / self.plain_efficiency, 1 / self.tensor_efficiency, self.jetson_layer_ms, self.discrete_layer_ms])
        ms = float(_terms(least) @ numbers)
        return Expectation(max(least.least_ms, self.lowest_ratio * ms), ms, self.highest_ratio * ms)

    def __str__(self) -> str:
        efficiency = f"{self.plain_efficiency:.2f} (tensor cores: {self.tensor_efficiency:.2f})"
        layer = f"{1000 * self.jetson_layer_ms:.1f} µs per layer (cards: {1000 * self.discrete_layer_ms:.1f})"
        return f"least / {efficiency} + {layer}; devices left out of the fit took {self.lowest_ratio:.2f} to {self.highest_ratio:.2f} times as long"


@cache
def default_fit() -> Fit:
    """The fit to everything on file."""
    return fit(measurements())


def fit(found: Sequence[Measurement]) -> Fit:
    """The four numbers for these measurements, and how far off they are on devices that they were not fitted to."""
    ratios = [ratio for device in {m.least.device for m in found} for ratio in left_out_ratios(found, device)]
    plain, tensor, jetson, discrete = _solve(found).tolist()
    return Fit(1 / plain, 1 / tensor, jetson, discrete, min(ratios), max(ratios))


def left_out_ratios(found: Sequence[Measurement], device: Device) -> list[float]:
    """Measured ÷ predicted for each measurement on ``device``, by the fit to all others."""
    numbers = _solve([m for m in found if m.least.device != device])
    return [float(m.ms / (_terms(m.least) @ numbers)) for m in found if m.least.device == device]


def _terms(least: LeastTime) -> NDArray[np.float64]:
    """(4,) what each of the four numbers is multiplied by: ms, ms, layers, layers."""
    layers, is_jetson = len(least.layers), least.device.family == "jetson"
    cores = (0.0, least.least_ms) if least.device.tensor_cores else (least.least_ms, 0.0)
    return np.array([*cores, layers if is_jetson else 0, 0 if is_jetson else layers])


def _solve(found: Sequence[Measurement]) -> NDArray[np.float64]:
    """(4,) 1 / efficiency of plain and tensor cores, ms per layer on Jetsons and cards."""
    counts = Counter(m.least.device for m in found)
    weights = np.array([counts[m.least.device] ** -0.5 for m in found])
    relative = np.array([_terms(m.least) / m.ms for m in found])
    return np.linalg.lstsq(relative * weights[:, None], weights, rcond=None)[0]
