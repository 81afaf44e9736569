"""Predict times from least times, by measurements with TensorRT on other networks.

    expected = least / efficiency + layers × cost of a layer

One efficiency for plain cores and one for tensor cores, one cost of a layer for Jetsons and one for cards, and a
loop's in Python for times measured through one: five numbers, fitted by least squares of the relative error to
`benchmarks.roofline.measured_times`, every device with the same weight. The cost of a layer covers launches, ramps and
the small kernels between layers. It decides on small networks: without it the errors grow by half. The prediction
is for the network alone, without such a loop, and for TensorRT as it is today. Its band is the range of measured ÷
predicted when each device in turn is left out of the fit.

Left out of the file are three groups. PRNet's own 9.8 ms on a GTX 1080 is 4.8 times the expectation for TensorRT; it
was TensorFlow (PRNet issue 7), and a Titan X took 10 ms too, so it measures the framework. MobileNetV1 on TX2 with
TensorRT 3 took 12.9 ms, 7 times the expectation: that version had no depthwise kernels. The third group is networks
far from ours in arithmetic.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from benchmarks.roofline.gpu_figures import GpuFigures
from benchmarks.roofline.least_time import LeastTime
from benchmarks.roofline.measured_times import Measurement, measurements


@dataclass(frozen=True)
class Expectation:
    """The expected time in milliseconds, and the band around it."""

    low_ms: float
    ms: float
    high_ms: float


@dataclass(frozen=True)
class Fit:
    """The five numbers, and measured ÷ predicted on devices left out."""

    plain_efficiency: float
    tensor_efficiency: float
    jetson_layer_ms: float
    discrete_layer_ms: float
    python_loop_ms: float  # in the measurements alone
    lowest_ratio: float
    highest_ratio: float

    def expect(self, least: LeastTime) -> Expectation:
        """Predict the time in practice; never less than the least time itself."""
        inverse_efficiencies = [1 / self.plain_efficiency, 1 / self.tensor_efficiency]
        numbers = np.array([*inverse_efficiencies, self.jetson_layer_ms, self.discrete_layer_ms, self.python_loop_ms])
        ms = float(_terms(least) @ numbers)
        return Expectation(max(least.least_ms, self.lowest_ratio * ms), ms, self.highest_ratio * ms)

    def __str__(self) -> str:
        efficiency = f"{self.plain_efficiency:.2f} (tensor cores: {self.tensor_efficiency:.2f})"
        layer = f"{1000 * self.jetson_layer_ms:.1f} µs per layer (cards: {1000 * self.discrete_layer_ms:.1f})"
        loop = f"loops in Python took {self.python_loop_ms:.2f} ms more"
        band = f"{self.lowest_ratio:.2f} to {self.highest_ratio:.2f}"
        return f"least / {efficiency} + {layer}; {loop}; devices left out of the fit took {band} times as long"


@cache
def default_fit() -> Fit:
    """Return the fit to everything on file."""
    return fit(measurements())


def fit(found: Sequence[Measurement]) -> Fit:
    """Fit the five numbers, and find their errors on devices left out of the fit."""
    ratios = [ratio for device in {m.least.device for m in found} for ratio in left_out_ratios(found, device)]
    plain, tensor, jetson, discrete, loop = _solve(found).tolist()
    return Fit(1 / plain, 1 / tensor, jetson, discrete, loop, min(ratios), max(ratios))


def left_out_ratios(found: Sequence[Measurement], device: GpuFigures) -> list[float]:
    """Return measured ÷ predicted for each measurement on ``device``, by the fit to all others."""
    numbers = _solve([m for m in found if m.least.device != device])
    own = [m for m in found if m.least.device == device]
    return [float(m.ms / (_terms(m.least, m.in_python) @ numbers)) for m in own]


def _terms(least: LeastTime, in_python: bool = False) -> NDArray[np.float64]:
    """Return the factors (5,) of the five numbers: ms, ms, layers, layers, loops."""
    layers = len(least.layers)
    is_jetson = least.device.family == "jetson"
    cores = (0.0, least.least_ms) if least.device.tensor_cores else (least.least_ms, 0.0)
    return np.array([*cores, layers if is_jetson else 0, 0 if is_jetson else layers, float(in_python)])


def _solve(found: Sequence[Measurement]) -> NDArray[np.float64]:
    """Return (5,): 1 / efficiency of plain and tensor cores, ms per layer on Jetsons and cards, ms of a loop."""
    counts = Counter(m.least.device for m in found)
    weights = np.array([counts[m.least.device] ** -0.5 for m in found])
    relative = np.array([_terms(m.least, m.in_python) / m.ms for m in found])
    return np.linalg.lstsq(relative * weights[:, None], weights, rcond=None)[0]
