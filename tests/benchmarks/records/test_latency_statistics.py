"""Statistics against distributions whose answer is known; the error rates by simulation, seeded."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.records.latency_statistics import (
    batch_medians,
    block_length,
    median_ratio,
    paired_ratio,
    summarise,
    thin,
)


def latencies(rng: np.random.Generator, count: int, memory: float = 0.0, spread: float = 0.05) -> np.ndarray:
    """Around a median of 1, with neighbours correlated by ``memory`` and a tail of slow frames."""
    weights = memory ** np.arange(200) * np.sqrt(1 - memory**2)
    noise = np.convolve(rng.standard_normal(count + 199), weights, "valid")
    slow = (rng.random(count) < 0.03) & (noise > 0)
    return np.exp(spread * np.where(slow, 10 * noise, noise))


def test_summary_of_a_known_series():
    figures = summarise(np.arange(1, 102))
    assert figures["p50_ms"] == 51
    assert figures["p90_ms"] == 91
    assert figures["p99_ms"] == 100
    assert figures["max_ms"] == 101
    assert figures["cv"] == pytest.approx(np.std(np.arange(101), ddof=1) / 51)


def test_one_frame_has_no_spread():
    assert summarise([4.0]) == {"p50_ms": 4, "p90_ms": 4, "p99_ms": 4, "max_ms": 4, "mean_ms": 4, "cv": 0}


def test_thinning_keeps_ends_and_order():
    kept = thin(np.arange(10_001), 101)
    np.testing.assert_array_equal(kept, np.arange(0, 10_001, 100))
    assert len(thin(np.arange(5), 101)) == 5


@pytest.mark.parametrize(("memory", "least", "most"), [(0.0, 1, 3), (0.6, 5, 20), (0.95, 40, 100)])
def test_blocks_are_as_long_as_the_memory(memory, least, most):
    rng = np.random.default_rng(0)
    lengths = [block_length(latencies(rng, 1000, memory)) for _ in range(20)]
    assert least <= np.median(lengths) <= most


def test_blocks_of_a_constant_and_of_a_short_series():
    assert block_length(np.ones(100)) == 1
    assert block_length(np.array([1.0, 2.0])) == 1


@pytest.mark.slow
@pytest.mark.parametrize("memory", [0.0, 0.6])
def test_interval_of_medians_is_passed_as_often_as_stated(memory):
    rng, trials, error = np.random.default_rng(1), 100, 0.05
    low = high = 0
    for _ in range(trials):
        interval = median_ratio(1.2 * latencies(rng, 200, memory), latencies(rng, 200, memory), error, rng)
        low += interval.low > 1.2
        high += interval.high < 1.2
    assert 0 < low + high <= trials * 2 * error * 1.6  # resampling is known to be a little too sure of itself


def test_interval_of_medians_narrows_with_the_number_of_frames():
    rng = np.random.default_rng(2)
    few, many = (median_ratio(latencies(rng, count), latencies(rng, count), 0.05, rng) for count in (100, 2000))
    assert many.high - many.low < (few.high - few.low) / 2


@pytest.mark.parametrize("memory", [0.0, 0.4])
def test_false_alarms_of_pairs(memory):
    """At the worst, a slowdown of exactly the limit, alarms are as rare as designed (1 %, with 80 observations)."""
    rng, trials, error = np.random.default_rng(3), 200, 0.01
    alarms = sum(
        paired_ratio(1.1 * latencies(rng, 160, memory, 0.1), latencies(rng, 160, memory, 0.1), error, rng).low > 1.1
        for _ in range(trials)
    )
    assert alarms <= trials * error * 3


def test_no_change_raises_no_alarm_and_a_fifth_more_always_does():
    rng = np.random.default_rng(4)
    for _ in range(50):
        new, baseline = latencies(rng, 240, 0.2, 0.1), latencies(rng, 240, 0.2, 0.1)
        assert paired_ratio(new, baseline, 0.002, rng).low < 1.1
        assert paired_ratio(1.2 * new, baseline, 0.002, rng).low > 1.1


def test_pairs_cancel_drift_and_the_advantage_of_the_second():
    """The machine gets slower by 1 % with every pair, and the second in a pair is 10 % faster."""
    pairs = np.arange(200)
    drift, second_is_new = 1.01**pairs, pairs % 2 == 0
    new, baseline = drift * np.where(second_is_new, 0.9, 1), drift * np.where(second_is_new, 1, 0.9)
    interval = paired_ratio(1.05 * new, baseline, 0.01, np.random.default_rng(0))
    assert interval.estimate == pytest.approx(1.05)
    assert interval.high - interval.low < 1e-9


def test_pairs_survive_outliers():
    new, baseline = np.ones(100), np.ones(100)
    new[::10], baseline[5::10] = 50, 50
    assert paired_ratio(new, baseline, 0.01, np.random.default_rng(0)).estimate == pytest.approx(1)


def test_batch_medians():
    np.testing.assert_array_equal(batch_medians([1, 2, 300, 4, 5, 6], 2), [2, 5])
