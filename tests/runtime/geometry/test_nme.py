"""The metric on cases that can be worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from runtime.geometry.nme import balanced_mean, bin_means, box_size, point_nme, yaw_bins

BOX = np.array([[10.0, 20.0, 50.0, 110.0]])  # 40 x 90
SIZE = np.array([60.0])


def points(dimensions: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 100, (1, 68, dimensions))


def test_the_unit_is_the_geometric_mean_of_the_sides():
    np.testing.assert_allclose(box_size(BOX), SIZE)


def test_a_shift_in_the_plane_counts_in_units_of_the_box():
    truth = points(2)
    np.testing.assert_allclose(point_nme(truth + (3, 4), truth, SIZE), 100 * 5 / 60)


def test_only_the_origin_of_z_is_free_in_3d():
    truth = points(3)
    np.testing.assert_allclose(point_nme(truth + (0, 0, 1000), truth, SIZE), 0, atol=1e-9)
    np.testing.assert_allclose(point_nme(truth + (0, 6, 0), truth, SIZE), 10)
    tilted = truth + np.where(np.arange(68) % 2, 6, -6)[None, :, None] * (0, 0, 1)
    np.testing.assert_allclose(point_nme(tilted, truth, SIZE), 10)


def test_each_face_has_its_own_depth_and_unit():
    truth = np.concatenate([points(3), points(3) + 7, points(3) * 2])
    moved = truth + np.array([[0, 6, 5], [0, 6, -80], [0, 0, 900]])[:, None]
    np.testing.assert_allclose(point_nme(moved, truth, np.array([60.0, 30.0, 1.0])), [10, 20, 0], atol=1e-9)


def test_inputs_are_not_changed():
    predicted, truth = points(3) + 1, points(3)
    point_nme(predicted, truth, SIZE)
    np.testing.assert_array_equal(predicted, points(3) + 1)


def test_bins_are_of_the_absolute_yaw():
    np.testing.assert_array_equal(yaw_bins(np.array([0, -29.9, 30, -59.9, 60, 95])), [0, 0, 1, 1, 2, 2])


def test_means_of_bins_are_nan_where_empty_and_the_balanced_mean_may_skip_those():
    means = bin_means(np.array([1.0, 3.0, 4.0]), np.array([0, 0, 1]))
    assert means[:2] == (2.0, 4.0)
    assert math.isnan(means[2])
    assert math.isnan(balanced_mean(means))
    assert balanced_mean(means, skip_empty=True) == 3.0
    assert balanced_mean((1.0, 2.0, 6.0)) == 3.0


@pytest.mark.filterwarnings("error")
def test_means_of_nothing_are_nan_without_a_warning():
    nothing = bin_means(np.empty(0), np.empty(0, np.int64))
    assert all(math.isnan(mean) for mean in nothing)
    assert math.isnan(balanced_mean(nothing, skip_empty=True))


@pytest.mark.parametrize("dimensions", [2, 3])
def test_perfect_is_zero(dimensions):
    np.testing.assert_array_equal(point_nme(points(dimensions), points(dimensions), SIZE), 0)
