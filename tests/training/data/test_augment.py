"""Draws of turns and cuts."""

from __future__ import annotations

import numpy as np

from training.data.augment import Augmentation

BOX = np.array([40.0, 50.0, 110.0, 120.0])


def angles_deg(augmentation: Augmentation, mirrored: bool = False) -> np.ndarray:
    generator = np.random.default_rng(0)
    turns = np.stack([augmentation.draw_turn(generator, BOX, mirrored)[0] for _ in range(300)])
    centre = np.array([75.0, 85.0, 1.0])
    np.testing.assert_allclose(turns @ centre, np.tile(centre, (300, 1)))
    np.testing.assert_allclose(np.linalg.det(turns), -1 if mirrored else 1)
    return np.rad2deg(np.arctan2(-turns[:, 0, 1], turns[:, 1, 1]))


def test_any_roll_turns_by_the_whole_circle():
    for mirrored in (False, True):
        angles = angles_deg(Augmentation(any_roll=1.0), mirrored)
        counts, _ = np.histogram(angles, np.linspace(-180, 180, 9))
        assert counts.min() > 15
        assert np.abs(angles_deg(Augmentation(), mirrored)).max() <= 45


def test_any_roll_is_a_probability():
    beyond = np.abs(angles_deg(Augmentation(any_roll=0.4))) > 45
    assert 0.2 < beyond.mean() < 0.4  # three quarters of the circle, of 0.4


def test_cuts_end_near_the_face_and_inside_the_picture():
    augmentation, generator = Augmentation(cut=1.0), np.random.default_rng(0)
    cuts = np.array([augmentation.draw_cut(generator, BOX, 200, 180) for _ in range(300)])
    assert (cuts[:, :2] >= 0).all()
    assert (cuts[:, 2:] <= (200, 180)).all()
    assert (cuts[:, 2:] - cuts[:, :2] >= 8).all()
    moved = cuts != (0, 0, 200, 180)
    assert 0.4 < moved.mean() < 0.6
    outwards = (cuts - BOX) * (-1, -1, 1, 1) / 70
    assert outwards[moved].min() >= -0.09
    assert outwards[moved].max() <= 0.46


def test_a_box_beyond_the_picture_leaves_something():
    augmentation, generator = Augmentation(cut=1.0), np.random.default_rng(0)
    for _ in range(100):
        x0, y0, x1, y1 = augmentation.draw_cut(generator, np.array([190.0, -60.0, 260.0, 10.0]), 200, 180)
        assert 0 <= x0 < x1 <= 200
        assert 0 <= y0 < y1 <= 180


def test_no_cut_is_the_whole_picture():
    assert Augmentation().draw_cut(np.random.default_rng(0), BOX, 200, 180) == (0, 0, 200, 180)


def test_boxes_of_upside_down_faces_lie_further_off():
    augmentation, generator = Augmentation(translation=0.1), np.random.default_rng(0)

    def furthest(angle: float) -> float:
        boxes = np.array([augmentation.jitter_box(generator, BOX, angle) for _ in range(300)])
        return np.abs((boxes[:, :2] + boxes[:, 2:]) / 2 - [75, 85]).max() / 70

    assert 0.09 < furthest(0) <= 0.1
    assert 0.25 < furthest(np.pi / 2) <= 0.1 + 0.35 / 2
    assert 0.4 < furthest(np.pi) <= 0.45
