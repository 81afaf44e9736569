"""Appearance tells the people of a film apart, also after cuts."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from runtime.tracking.appearance import appearance_of, blend, difference
from runtime.tracking.options import Tracking
from tests.standins.face_world import Person

SIZE = 200.0


@pytest.fixture
def landmarks(family):
    points = family.topology.canonical_vertices[family.topology.landmark_vertices].astype(np.float32)
    return (points - points.mean(axis=0)) * (SIZE / np.ptp(points[:, 0])) + np.float32([640, 360, 0])


def painted(number, x, y, size, background):
    """A picture with the face of a person, coarse colours of its own, at a place."""
    picture = np.random.default_rng(1000 + background).integers(0, 256, (9, 16, 3)).astype(np.uint8)
    picture = cv2.resize(picture, (1280, 720), interpolation=cv2.INTER_NEAREST)
    side = round(1.6 * size)
    face = np.random.default_rng(number).integers(0, 256, (7, 7, 3)).astype(np.uint8)
    face = cv2.resize(face, (side, side), interpolation=cv2.INTER_CUBIC)
    top, left = round(y - side / 2), round(x - side / 2)
    picture[top : top + side, left : left + side] = face
    return picture


def test_size_place_and_brightness_do_not_matter(landmarks):
    seen = appearance_of(painted(1, 640, 360, SIZE, 0), landmarks, SIZE)
    half = (landmarks - [640, 360, 0]) / 2 + [300, 200, 0]
    darker = (0.6 * painted(1, 300, 200, SIZE / 2, 5) + 20).astype(np.uint8)
    again = appearance_of(darker, half.astype(np.float32), SIZE / 2)
    other = appearance_of(painted(2, 640, 360, SIZE, 0), landmarks, SIZE)
    assert np.linalg.norm(seen) == pytest.approx(1)
    assert difference(seen, again) < 0.1
    assert difference(seen, other) > 0.5
    assert difference(blend(seen, other), seen) < difference(blend(seen, other), other)


def test_a_face_of_one_colour_has_none(landmarks):
    seen = appearance_of(painted(1, 640, 360, SIZE, 0), landmarks, SIZE)
    plain = appearance_of(np.full((720, 1280, 3), 90, np.uint8), landmarks, SIZE)
    assert plain is None
    assert difference(seen, plain) == difference(plain, seen) == difference(None, None) == 0
    assert blend(None, seen) is blend(seen, None) is seen


def test_landmarks_outside_the_picture(landmarks):
    assert np.isfinite(appearance_of(painted(1, 640, 360, SIZE, 0), landmarks + 600, SIZE)).all()


def shots(open_world, shots, settings=None):
    """Play shots (person, x, size) of a second each; returns the numbers of the faces of every shot."""
    now = {}
    world, follower = open_world(
        [lambda time_s, number=number: now.get(number) for number in range(5)], settings or Tracking(smoothing=None)
    )
    numbers = []
    for background, shot in enumerate(shots):
        now.clear()
        for number, x, size in shot:
            now[number] = Person(x, 360, size)
        image = painted(shot[0][0], shot[0][1], 360, shot[0][2], background)
        for number, x, size in shot[1:]:
            side = round(1.6 * size)
            part = slice(360 - side // 2, 360 + side // 2), slice(x - side // 2, x + side // 2)
            image[part] = painted(number, x, 360, size, background)[part]
        found = set()
        for _ in range(25):
            world.time_s += 1 / 25
            follower.begin(image, world.time_s)
            found.add(tuple(face.track_id for face in follower.finish()))
        numbers.append(found)
    return numbers


def test_people_keep_their_numbers_when_a_film_cuts_between_them(open_world):
    film = [[(1, 300, 150)], [(2, 900, 130)], [(1, 700, 100)], [(2, 400, 170)]]
    assert shots(open_world, film) == [{(1,)}, {(2,)}, {(1,)}, {(2,)}]
    assert shots(open_world, film, Tracking(max_faces=1, smoothing=None)) == [{(1,)}, {(2,)}, {(1,)}, {(2,)}]


def test_another_person_at_the_same_place_after_a_cut_is_somebody_else(open_world):
    film = [[(1, 600, 150)], [(2, 600, 150)], [(1, 600, 150)], [(1, 620, 160)]]
    assert shots(open_world, film) == [{(1,)}, {(2,)}, {(1,)}, {(1,)}]


def test_two_people_who_change_sides_in_a_cut(open_world):
    film = [[(1, 300, 150), (2, 900, 150)], [(2, 300, 140), (1, 900, 140)]]
    first, second = shots(open_world, film)
    assert first == second == {(1, 2)}


def two_faces(one, other, sides):
    """A picture with two faces side by side."""
    image = painted(one, sides[0], 360, 150, 0)
    side = 240
    part = slice(360 - side // 2, 360 + side // 2), slice(sides[1] - side // 2, sides[1] + side // 2)
    image[part] = painted(other, sides[1], 360, 150, 0)[part]
    return image


def test_two_people_who_change_places_behind_something_keep_their_numbers(open_world):
    """The place says the one, the appearance the other."""
    now = {}
    world, follower = open_world([now.get, lambda time_s: now.get(-time_s)])
    numbers = []
    for index in range(75):
        time_s = world.time_s = (index + 1) / 25
        sides = (500, 760) if index < 40 else (760, 500)
        is_hidden = 25 <= index < 40
        if not is_hidden:
            now[time_s], now[-time_s] = Person(sides[0], 360, 150), Person(sides[1], 360, 150)
        image = painted(9, 200, 360, 150, 0) if is_hidden else two_faces(1, 2, sides)
        follower.begin(image, time_s)
        faces = sorted(follower.finish(), key=lambda face: face.box_xyxy[0])
        numbers.append([face.track_id for face in faces])
    assert sorted(numbers[0]) == [1, 2]
    assert numbers[24] == numbers[0]
    assert numbers[-1] == numbers[0][::-1]


def test_motion_before_a_cut_says_nothing_about_the_place_after_it(open_world):
    now = {}
    world, follower = open_world([now.get])
    for index in range(33):
        world.time_s = index / 25
        x = 300 + 300 * world.time_s if index < 25 else 900
        now[world.time_s] = Person(x, 360, 150)
        follower.begin(painted(1, x, 360, 150, background=index // 25), world.time_s)
        assert [face.track_id for face in follower.finish()] == [1]
    (track,) = follower._tracker.seen
    assert track.expected(world.time_s + 0.2).x == pytest.approx(900, abs=5)
