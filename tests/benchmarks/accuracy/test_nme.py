"""The metric on cases that can be worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.accuracy.nme import point_nme, summarise, yaw_bins

BOX = np.array([[10.0, 20.0, 50.0, 110.0]])  # 40 x 90: sqrt is 60


def points(dimensions: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 100, (1, 68, dimensions))


def test_a_shift_in_the_plane_counts_in_units_of_the_box():
    truth = points(2)
    np.testing.assert_allclose(point_nme(truth + (3, 4), truth, BOX), 100 * 5 / 60)


def test_only_the_origin_of_z_is_free_in_3d():
    truth = points(3)
    np.testing.assert_allclose(point_nme(truth + (0, 0, 1000), truth, BOX), 0, atol=1e-9)
    np.testing.assert_allclose(point_nme(truth + (0, 6, 0), truth, BOX), 10)
    tilted = truth + np.where(np.arange(68) % 2, 6, -6)[None, :, None] * (0, 0, 1)
    np.testing.assert_allclose(point_nme(tilted, truth, BOX), 10)


def test_inputs_are_not_changed():
    predicted, truth = points(3) + 1, points(3)
    point_nme(predicted, truth, BOX)
    np.testing.assert_array_equal(predicted, points(3) + 1)


def test_bins_are_of_the_absolute_yaw():
    np.testing.assert_array_equal(yaw_bins(np.array([0, -29.9, 30, -59.9, 60, 95])), [0, 0, 1, 1, 2, 2])


def test_balanced_is_the_mean_of_the_bins_and_missed_faces_do_not_count():
    score = summarise(np.array([1.0, 3.0, 4.0, 6.0, math.nan]), np.array([0, 0, 1, 2, 2]))
    assert (score.faces, score.mean, score.bins, score.balanced) == (4, 3.5, (2.0, 4.0, 6.0), 4.0)


def test_an_empty_bin_leaves_nothing_to_balance():
    score = summarise(np.array([1.0, 2.0]), np.array([0, 1]))
    assert score.mean == 1.5
    assert math.isnan(score.bins[2])
    assert math.isnan(score.balanced)


def test_all_missed():
    score = summarise(np.array([math.nan]), np.array([0]))
    assert score.faces == 0
    assert math.isnan(score.mean)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_perfect_is_zero(dimensions):
    np.testing.assert_array_equal(point_nme(points(dimensions), points(dimensions), BOX), 0)
