"""The least time of a network on a GPU by the roofline model (Williams, Waterman and Patterson, CACM 2009).

The time of a layer is the longer of its arithmetic and its memory traffic.

- Arithmetic: multiply-adds at the dense peak rate of the precision. Tensor cores multiply whole blocks of channels, so
  both channel counts are rounded up to 8 (FP16) or 32 (INT8). Source: TensorRT documentation, *Optimizing for Tensor
  Cores*, table of suggested alignments; its INT8 layout CHW32 is the same block. FP32 and devices without tensor cores
  have no such padding.
- Depthwise convolutions are no matrix products and run on the plain cores. On devices with tensor cores they get the
  FP32 rate of the plain cores, whatever the precision. Their traffic takes longer at any rate.
- Traffic: weights, inputs and outputs once each, at the precision. Activations, normalisation, additions, cropping and
  reordering are taken as fused into the layer before them and cost nothing. Caches are ignored. `cached_ms` is the
  other extreme: all activations stay in the cache and only weights come from memory. The truth lies between, nearer to
  `cached_ms` on GPUs with tens of megabytes of L2.
- Not a law of nature: Winograd's algorithm saves up to 2.25 times the multiplications of 3×3 convolutions, at FP32
  mostly.
- In a model with Q/DQ the layers without it are taken as FP16 when the rest is INT8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.roofline.gpu_figures import GpuFigures
from benchmarks.roofline.layers import Layer

CHANNEL_BLOCK = {"fp32": 1, "fp16": 8, "int8": 32}  # of tensor cores
BYTES = {"fp32": 4, "fp16": 2, "int8": 1}


@dataclass(frozen=True)
class LayerTime:
    """Milliseconds of one layer."""

    layer: Layer
    precision: str
    arithmetic_ms: float
    weights_ms: float  # to read them
    activations_ms: float  # to read inputs and write outputs

    @property
    def traffic_ms(self) -> float:
        return self.weights_ms + self.activations_ms

    @property
    def least_ms(self) -> float:
        """With nothing in the caches."""
        return max(self.arithmetic_ms, self.traffic_ms)

    @property
    def cached_ms(self) -> float:
        """With all activations in the caches."""
        return max(self.arithmetic_ms, self.weights_ms)


@dataclass(frozen=True)
class LeastTime:
    """Layers run one after the other: every figure is a sum."""

    device: GpuFigures
    precision: str
    layers: tuple[LayerTime, ...]

    @property
    def arithmetic_ms(self) -> float:
        return sum(time.arithmetic_ms for time in self.layers)

    @property
    def traffic_ms(self) -> float:
        return sum(time.traffic_ms for time in self.layers)

    @property
    def least_ms(self) -> float:
        return sum(time.least_ms for time in self.layers)

    @property
    def cached_ms(self) -> float:
        return sum(time.cached_ms for time in self.layers)


def least_time(layers: Sequence[Layer], device: GpuFigures, precision: str, batch: int = 1) -> LeastTime | None:
    """Compute the least time of ``batch`` pictures; None if the device has nothing for the precision."""
    usable = device.usable(precision)
    if usable is None:
        return None
    has_quantisers = any(layer.is_quantised for layer in layers)
    times = []
    for layer in layers:
        stays_float = usable == "int8" and has_quantisers and not layer.is_quantised
        times.append(layer_time(layer, device, "fp16" if stays_float else usable, batch))
    return LeastTime(device, usable, tuple(times))


def layer_time(layer: Layer, device: GpuFigures, precision: str, batch: int = 1) -> LayerTime:
    """Compute the time of one layer on ``batch`` pictures; weights are read once for all of them."""
    multiply_adds = batch * layer.multiply_adds_by_blocks(CHANNEL_BLOCK[precision] if device.tensor_cores else 1)
    rate = device.fp32_tflops if device.tensor_cores and layer.is_depthwise else device.rate(precision)
    ms_per_number = BYTES[precision] / (1e6 * device.gigabytes_per_s)
    return LayerTime(
        layer,
        precision,
        arithmetic_ms=2 * multiply_adds / (1e9 * rate),
        weights_ms=layer.weights * ms_per_number,
        activations_ms=batch * (layer.inputs + layer.outputs) * ms_per_number,
    )
