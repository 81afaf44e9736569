"""The four methods against values worked out by hand and against ONNX Runtime's calibrators."""

from __future__ import annotations

import numpy as np
import pytest
from onnxruntime.quantization.calibrate import HistogramCollector

from calibration.ranges.histograms import BINS, Histogram
from calibration.ranges.methods import METHODS, entropy, minmax, mse, percentile


def histogram_of(values) -> Histogram:
    histogram = Histogram()
    histogram.add(np.asarray(values, np.float32))
    return histogram


def test_minmax_is_the_largest_magnitude():
    assert minmax(histogram_of([-5, 3, 0.5])) == 5


def test_percentile_by_hand():
    """10,000 values: 9,990 up to 1, ten at 100. 99.9 % end in the bin of 1; one more value needs the bin of 100."""
    histogram = histogram_of([1.0] * 9990 + [100.0] * 10)
    width = 128 / BINS
    assert histogram.width == width
    assert percentile(histogram, percent=99.9) == 1.0 + width
    assert percentile(histogram, percent=99.91) == 100
    assert percentile(histogram, percent=100) == 100


def test_mse_clips_a_lone_outlier_but_not_two_equal_halves():
    """A uniform mass of 10^6 in 0..1 and one value r: clipping it at 1 costs (r - 1)^2; keeping it costs about 10^6
    (r / 127)^2 / 12."""
    mass = np.linspace(0, 1, 1_000_000)
    clipped = mse(histogram_of([*mass, 20]))  # 361 against 2067
    assert 1 <= clipped < 10
    kept = mse(histogram_of([*mass[::1000], 20]))  # 361 against 2
    assert kept > 19


def test_mse_is_the_least_error_of_all_ranges():
    values = np.random.default_rng(3).standard_t(3, size=20000).astype(np.float32)
    best = mse(histogram_of(values))

    def error(end: float) -> float:
        step = end / 127
        return float(((values - np.clip(np.rint(values / step), -127, 127) * step) ** 2).mean())

    assert error(best) <= 1.01 * min(error(end) for end in np.linspace(1, np.abs(values).max(), 200))
    assert error(best) < 0.95 * error(np.abs(values).max())


def test_entropy_keeps_what_128_levels_hold_exactly_and_clips_a_far_tail():
    """Bins that are constant within each group of 16 lose nothing in 128 levels: divergence 0 only for the whole
    range."""
    histogram = Histogram()
    histogram.width, histogram.minimum, histogram.maximum = 1 / BINS, 0.0, 1.0
    histogram.counts = np.repeat(np.random.default_rng(5).integers(100, 1000, 128), 16).astype(np.int64)
    assert entropy(histogram) == 1.0
    normal = np.random.default_rng(6).normal(size=500_000)
    assert 3 < entropy(histogram_of([*normal, 64])) <= 8


def test_zeros_of_a_relu_change_no_entropy_range():
    values = np.abs(np.random.default_rng(7).normal(size=50_000))
    assert entropy(histogram_of([*values, *np.zeros(500_000)])) == entropy(histogram_of(values))


@pytest.mark.parametrize("method", METHODS)
def test_nothing_but_zeros_and_few_values(method):
    assert METHODS[method](histogram_of(np.zeros(10))) == 0
    assert METHODS[method](histogram_of([0.75])) == 0.75


@pytest.mark.parametrize("draw", ["normal", "laplace", "relu"])
def test_onnx_runtime_agrees(draw):
    generator = np.random.default_rng(8)
    values = {"normal": generator.normal, "laplace": generator.laplace, "relu": generator.normal}[draw](
        size=200_000
    ).astype(np.float32)
    if draw == "relu":
        values = np.maximum(values, 0)
    histogram = histogram_of(values)

    def theirs(method: str, bins: int) -> float:
        collector = HistogramCollector(method, True, bins, 128, 99.99, "same")
        collector.collect({"x": values})
        return float(collector.compute_collection_result()["x"][1])

    assert abs(percentile(histogram) - theirs("percentile", 2048)) <= 2 * histogram.width
    if draw != "relu":  # its zeros fill ONNX Runtime's middle bin, which then decides alone
        # Theirs has one level for two bins near every candidate and quantises both signs into 128 levels: about the
        # same, not equal.
        assert entropy(histogram) == pytest.approx(theirs("entropy", 2048), rel=0.25)
