"""The slope of a series and its interval, against series whose slope is known; the error rate by simulation, seeded."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="needs SciPy")

from benchmarks.latency.sen_slope import sen_slope


def test_slope_of_a_line_in_noise():
    rng, times = np.random.default_rng(5), np.arange(20.0)
    for _ in range(50):
        interval = sen_slope(times, 3 * times + rng.standard_normal(20), 0.01)
        assert interval.low < interval.estimate < interval.high
        assert 2.6 < interval.estimate < 3.4
        assert interval.low > 2


def test_slope_of_noise_is_found_as_seldom_as_stated():
    rng, times, trials = np.random.default_rng(6), np.arange(20.0), 1000
    alarms = sum(sen_slope(times, rng.standard_normal(20), 0.02).low > 0 for _ in range(trials))
    assert 0 < alarms <= trials * 0.02 * 1.5


def test_a_single_step_is_no_slope():
    assert sen_slope(np.arange(20.0), np.repeat([100.0, 130.0], 10), 0.01).low == 0
