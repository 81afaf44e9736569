"""Clock, assignment, motion, scene and settings."""

from __future__ import annotations

import itertools
import math

import cv2
import numpy as np
import pytest

from runtime.errors import FaceMeshError
from runtime.tracking.assignment import assign
from runtime.tracking.clock import USUAL_STEP_S, Clock
from runtime.tracking.motion import Motion, Place
from runtime.tracking.options import OneEuro, Smoothing, Tracking
from runtime.tracking.scene import Scene


def steps(stamps):
    clock = Clock()
    for stamp in stamps:
        clock.tick(stamp)
        yield round(clock.step_s, 6), clock.has_jumped


def test_clock_of_sound_stamps():
    assert list(steps([5.0, 5.04, 5.08, 5.28])) == [
        (round(USUAL_STEP_S, 6), False),
        (0.04, False),
        (0.04, False),
        (0.2, False),
    ]


def test_clock_of_stamps_that_repeat_or_are_missing():
    assert list(steps([0, 0.04, 0.04, None, math.nan, math.inf, 0.12]))[1:] == [(0.04, False)] * 5 + [(0.08, False)]


def test_clock_of_stamps_that_jump():
    assert list(steps([0, 0.04, 60.04, 60.08]))[1:] == [(0.04, False), (60.0, True), (0.04, False)]
    assert list(steps([9, 9.04, 1.0, 1.04]))[1:] == [(0.04, False), (0.04, True), (0.04, False)]


def test_clock_never_stands():
    clock, before = Clock(), 0.0
    for stamp in np.random.default_rng(0).choice([0.0, 1.0, 1.5, 1e9, math.nan], 300):
        clock.tick(float(stamp))
        assert clock.time_s > before
        before = clock.time_s


def cheapest(costs, most):
    """By trying all."""
    columns = [*range(len(costs[0])), *[None] * len(costs)]
    return min(
        sum(most if column is None else min(most, costs[row][column]) for row, column in enumerate(chosen))
        for chosen in set(itertools.permutations(columns, len(costs)))
    )


def test_assignment_is_the_cheapest():
    generator = np.random.default_rng(0)
    for _ in range(60):
        costs = generator.uniform(0, 2, generator.integers(1, 4, 2)).tolist()
        pairs = assign(costs, 1.2)
        assert len({row for row, _ in pairs}) == len(pairs) == len({column for _, column in pairs})
        assert all(costs[row][column] < 1.2 for row, column in pairs)
        total = sum(costs[row][column] for row, column in pairs) + 1.2 * (len(costs) - len(pairs))
        assert total == pytest.approx(cheapest(costs, 1.2))


@pytest.mark.parametrize(
    ("costs", "pairs"),
    [
        ([], []),
        ([[]], []),
        ([[2.0]], []),
        ([[0.1, 0.2], [0.15, 0.9]], [(0, 1), (1, 0)]),  # the nearest pair first would be dearer
        ([[math.inf, 0.5]], [(0, 1)]),
    ],
)
def test_assignment_of_little(costs, pairs):
    assert assign(costs, 1.0) == pairs


def test_motion_goes_straight_on_and_does_not_heed_the_last_moments():
    motion = Motion()
    for index in range(30):
        time_s = index / 25
        motion.add(time_s, Place(100 + 50 * min(time_s, 1.0), 200 - 20 * time_s, 80.0))
    assert motion.expected(29 / 25) == pytest.approx((100 + 50 * 29 / 25, 200 - 20 * 29 / 25, 80), abs=0.5)
    later, last = motion.expected(1.5), motion.expected(60.0)
    assert 100 + 50 * 29 / 25 < later.x < 175
    assert last.x == pytest.approx(100 + 50 * (29 / 25 + 0.7), abs=0.5)  # a speed does not last


def test_motion_of_a_face_just_found_is_its_place():
    motion = Motion()
    motion.add(0.0, Place(1, 2, 3))
    assert motion.expected(9.0) == (1, 2, 3)


def test_distance_of_places():
    assert Place(0, 0, 10).distance(Place(30, 40, 10)) == pytest.approx(5)
    assert Place(0, 0, 10).distance(Place(0, 0, 10 * math.e)) == pytest.approx(1)


def test_scene_sees_cuts_and_no_motion(portrait):
    picture = cv2.resize(cv2.imread(str(portrait)), (640, 480))
    scene, generator = Scene(), np.random.default_rng(0)
    for shift in range(0, 60, 6):
        noisy = np.clip(np.roll(picture, shift, axis=1) + generator.normal(0, 8, picture.shape), 0, 255)
        scene.look(noisy.astype(np.uint8))
        assert not scene.is_cut
    scene.look(np.ascontiguousarray(picture[::-1, ::-1]))
    assert scene.is_cut
    scene.look(np.zeros((480, 640, 3), np.uint8))  # a fade to black says nothing
    assert not scene.is_cut


def test_a_board_before_a_plain_wall_is_no_cut():
    wall = np.full((720, 1280, 3), 96, np.uint8)
    wall[200:500, 300:500] = 200
    board = wall.copy()
    board[150:550, 250:550] = (60, 30, 130)
    scene = Scene()
    for picture in (wall, board, wall):
        scene.look(picture)
        assert not scene.is_cut


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 2000, 3), (2000, 5, 3)])
def test_scene_of_pictures_of_any_shape(shape):
    scene = Scene()
    for shade in (0, 255, 100):
        scene.look(np.full(shape, shade, np.uint8))
        assert not scene.is_cut


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Tracking(max_faces=0), "max_faces must be at least 1, is 0"),
        (lambda: Tracking(redetect_s=0), "redetect_s must be above 0 seconds, is 0"),
        (lambda: Tracking(redetect_s=math.nan), "redetect_s must be above 0 seconds"),
        (lambda: OneEuro(0, 1, 1), "cutoffs must be above 0 Hz"),
        (lambda: OneEuro(1, -1, 1), "beta at least 0"),
        (lambda: OneEuro(1, 1, math.inf), "give values such as 1, 2 and 10"),
        (lambda: Smoothing(points=OneEuro(math.nan, 1, 1)), "cutoffs"),
    ],
)
def test_settings_out_of_range(make, message):
    with pytest.raises(FaceMeshError, match=message):
        make()
