"""Streaming histograms: exact counts whatever the order, bounded memory."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.ranges.histograms import BINS, Histogram


def histogram_of(*batches: np.ndarray) -> Histogram:
    histogram = Histogram()
    for batch in batches:
        histogram.add(np.asarray(batch, np.float32))
    return histogram


def test_counts_are_those_of_numpy():
    values = np.random.default_rng(0).normal(size=(3, 50, 70)).astype(np.float32)
    histogram = histogram_of(values)
    expected, _ = np.histogram(np.abs(values), BINS, (0, BINS * histogram.width))
    np.testing.assert_array_equal(histogram.counts, expected)
    assert histogram.width == 2.0 ** np.ceil(np.log2(np.abs(values).max())) / BINS
    assert (histogram.minimum, histogram.maximum) == (values.min(), values.max())


def test_order_of_batches_does_not_matter_though_the_range_grows_a_thousandfold():
    generator = np.random.default_rng(1)
    batches = [generator.normal(scale=scale, size=1000) for scale in (0.01, 3, 0.5, 40)]
    forward, backward, together = (
        histogram_of(*batches),
        histogram_of(*batches[::-1]),
        histogram_of(np.concatenate(batches)),
    )
    for other in (backward, together):
        np.testing.assert_array_equal(forward.counts, other.counts)
        assert forward.width == other.width
    assert forward.counts.sum() == 4000
    assert forward.counts.shape == (BINS,)


def test_power_of_two_is_inside():
    """The upper end of the bins does not belong to them; a magnitude of exactly 2**k needs the next k."""
    histogram = histogram_of([1.0, -1.0, 0.25])
    assert histogram.width == 2 / BINS
    assert histogram.counts[BINS // 2] == 2
    assert histogram.counts[BINS // 8] == 1


def test_zeros_before_and_after():
    histogram = histogram_of(np.zeros(5))
    assert (histogram.width, histogram.peak, histogram.counts[0]) == (0, 0, 5)
    histogram.add(np.float32([0, 3]))
    assert (histogram.counts[0], histogram.counts.sum(), histogram.peak) == (6, 7, 3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused(bad):
    with pytest.raises(ValueError, match="NaN or infinity"):
        histogram_of([1, bad, 2])
