"""One-Euro filters: the paper's steps, in numbers and in the compiled module."""

from __future__ import annotations

import math

import numpy as np
import pytest

from runtime.compiled import native
from runtime.tracking.one_euro import NumberFilter, PointFilter, smoothing_factor
from runtime.tracking.options import OneEuro

SETTINGS = OneEuro(cutoff_hz=1.0, beta=3.0, speed_cutoff_hz=2.0)


def paper(points, steps, size, settings):
    """Filter (T, N, 3) as the paper has it, a point's speed being the length of its filtered velocity."""
    filtered, speed = points[0].astype(np.float64), np.zeros(points[0].shape)
    rows = [filtered]
    for now, dt in zip(points[1:], steps, strict=True):
        speed = speed + smoothing_factor(settings.speed_cutoff_hz, dt) * ((now - filtered) / dt - speed)
        cutoff = settings.cutoff_hz + settings.beta * np.linalg.norm(speed, axis=1) / size
        weight = np.array([smoothing_factor(value, dt) for value in cutoff])[:, None]
        filtered = filtered + weight * (now - filtered)
        rows.append(filtered)
    return np.array(rows)


@pytest.mark.parametrize("count", [1, 68, 255, 256, 257, 1000])
def test_points_are_filtered_as_in_the_paper(count):
    generator = np.random.default_rng(count)
    points = (300 + np.cumsum(generator.normal(0, 3, (12, count, 3)), axis=0)).astype(np.float32)
    steps = generator.uniform(0.005, 0.2, 11)
    point_filter, found = PointFilter(SETTINGS), []
    for now, dt in zip(points, [1.0, *steps], strict=True):
        now = now.copy()
        point_filter(now, dt, 90.0)
        found.append(now)
    np.testing.assert_allclose(np.array(found), paper(points, steps, 90.0, SETTINGS), atol=0.01)


def test_a_film_that_stands_costs_no_more_than_one_that_moves():
    """Speeds that fade would become numbers too small for the processor's fast way."""
    generator = np.random.default_rng(0)
    point_filter, speeds = PointFilter(SETTINGS), []
    points = generator.uniform(0, 300, (500, 3)).astype(np.float32)
    point_filter(points + 1, 0.04, 90.0)
    for _ in range(600):
        point_filter(points, 0.04, 90.0)  # what comes out goes in again, so that nothing moves any more
        speeds.append(np.abs(point_filter._speeds))
    speeds = np.array(speeds)
    assert (speeds[speeds > 0] > np.finfo(np.float32).tiny).all()
    assert (speeds[-1] == 0).all()


def test_numbers_are_filtered_as_in_the_paper():
    generator = np.random.default_rng(0)
    values = np.cumsum(generator.normal(0, 3, (15, 5)), axis=0)
    steps = generator.uniform(0.005, 0.2, 14)
    number_filter = NumberFilter(SETTINGS)
    found = [number_filter(row, dt, 40.0) for row, dt in zip(values.tolist(), [1.0, *steps], strict=True)]
    points = np.stack([values, np.zeros_like(values), np.zeros_like(values)], axis=2)  # one axis is one number
    np.testing.assert_allclose(found, paper(points, steps, 40.0, SETTINGS)[..., 0], atol=1e-9)


def test_rest_is_smoothed_and_motion_is_followed():
    generator = np.random.default_rng(0)
    settings = OneEuro(cutoff_hz=0.5, beta=20.0, speed_cutoff_hz=2.0)
    still = (200 + generator.normal(0, 0.5, (400, 68, 3))).astype(np.float32)
    moving = still + (np.arange(400) * 4.0)[:, None, None].astype(np.float32)  # 1 size of the face per second
    deviation, lag = [], []
    for film, rows in ((still, deviation), (moving, lag)):
        point_filter = PointFilter(settings)
        for index, points in enumerate(film):
            filtered = points.copy()
            point_filter(filtered, 1 / 25, 100.0)
            rows.append(filtered - (200 if film is still else 200 + 4 * index))
    assert np.std(deviation[100:]) < 0.6 * 0.5
    assert abs(np.mean(lag[100:])) < 0.5 * 4  # half a frame


def test_the_filter_depends_on_time_not_on_frames():
    """A step is answered as fast in seconds at 15 as at 60 frames a second, as far as the steps allow."""
    reached = {}
    for rate in (15, 30, 60):
        point_filter = PointFilter(OneEuro(cutoff_hz=1.0, beta=0.0, speed_cutoff_hz=1.0))
        for index in range(rate // 3 + 1):
            points = np.full((1, 3), 0.0 if index == 0 else 1.0, np.float32)
            point_filter(points, 1 / rate, 1.0)
        reached[rate] = float(points[0, 0])
    assert max(reached.values()) - min(reached.values()) < 0.07
    assert reached[60] == pytest.approx(1 - math.exp(-2 * math.pi / 3), abs=0.07)


def test_other_numbers_of_points_start_anew():
    point_filter = PointFilter(SETTINGS)
    point_filter(np.zeros((5, 3), np.float32), 0.1, 1.0)
    points = np.ones((4, 3), np.float32)
    point_filter(points, 0.1, 1.0)
    np.testing.assert_array_equal(points, 1)


def test_no_points():
    point_filter = PointFilter(SETTINGS)
    for count in (0, 0, 4, 0):
        points = np.ones((count, 3), np.float32)
        point_filter(points, 0.1, 1.0)
        np.testing.assert_array_equal(points, np.ones((count, 3)))


@pytest.mark.parametrize(
    ("arrays", "dt", "error"),
    [
        ([(4, 3), (4, 3), (5, 3)], 0.1, ValueError),
        ([(4, 3), (3, 3), (4, 3)], 0.1, ValueError),
        ([(4, 3)] * 3, 0.0, ValueError),
        ([(4, 3)] * 3, math.nan, ValueError),
        ([(4, 2)] * 3, 0.1, TypeError),
    ],
)
def test_the_compiled_filter_refuses_what_does_not_fit(arrays, dt, error):
    with pytest.raises(error):
        native.one_euro(*(np.zeros(shape, np.float32) for shape in arrays), dt, 1.0, 1.0, 1.0)


def test_the_compiled_filter_refuses_other_dtypes():
    with pytest.raises(TypeError):
        native.one_euro(np.zeros((4, 3)), *(np.zeros((4, 3), np.float32),) * 2, 0.1, 1.0, 1.0, 1.0)
