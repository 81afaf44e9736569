"""People keep their numbers, and the detector rarely looks."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from runtime.tracking.options import Tracking
from tests.standins.face_world import Person

FPS = 25


def play(world, follower, seconds, start=0.0, stamp=lambda time_s: time_s):
    """Play a film; returns, per frame, the track of every person found (the nearest one), and the number of faces."""
    rows = []
    for index in range(round(seconds * FPS)):
        world.time_s = start + index / FPS
        follower.begin(world.image, stamp(world.time_s))
        rows.append(tracks_of(world, follower.finish()))
    return rows


def tracks_of(world, faces):
    found = {}
    for face in faces:
        middle = face.landmarks[:, :2].mean(axis=0) / world.scale
        near = {
            number: math.hypot(person.x - middle[0], person.y - middle[1]) / person.size
            for number, person in world.seen().items()
        }
        number = min(near, key=near.get, default=None)
        found[number if number is not None and near[number] < 0.3 else f"ghost {face.track_id}"] = face.track_id
    assert len(found) == len(faces), "two tracks show one face"
    return found


def standing(x, **changes):
    return lambda time_s: Person(x, **changes)


def walking(x, speed, **changes):
    return lambda time_s: Person(x + speed * time_s, **changes)


def only(path, *spans):
    """The person of ``path``, there in these spans of time alone."""
    return lambda time_s: path(time_s) if any(start <= time_s < end for start, end in spans) else None


def hidden(path, *spans):
    """The person of ``path``, behind something in these spans of time."""
    return lambda time_s: replace(path(time_s), visible=not any(start <= time_s < end for start, end in spans))


def test_a_face_is_found_once_and_followed(open_world):
    world, follower = open_world([lambda time_s: Person(640 + 200 * math.sin(2 * time_s), 300 + 60 * time_s)])
    rows = play(world, follower, 2.9)
    assert rows == [{0: 1}] * len(rows)
    assert world.detections == follower.detections == 1


def test_a_face_is_followed_while_it_turns_and_grows(open_world):
    path = lambda time_s: Person(640, size=80 * 1.5**time_s, roll_deg=150 * time_s)  # noqa: E731
    world, follower = open_world([path])
    rows = play(world, follower, 2.9)
    assert rows == [{0: 1}] * len(rows)
    assert world.detections == 1


def test_newcomers_are_found_by_the_next_search(open_world):
    world, follower = open_world([standing(300), only(standing(900), (0.5, 99))], Tracking(redetect_s=1.0))
    rows = play(world, follower, 3)
    assert [len(row) for row in rows] == [1] * 25 + [2] * 50
    assert rows[-1] == {0: 1, 1: 2}
    assert world.detections == 3


def test_the_search_for_newcomers_comes_as_often_as_asked(open_world):
    world, follower = open_world([standing(300)], Tracking(redetect_s=0.2))
    play(world, follower, 2)
    assert world.detections == 10


def test_people_beyond_the_most_are_left_alone_and_not_searched_for(open_world):
    paths = [standing(300), standing(700, size=150), only(standing(1000, size=170), (0.3, 99))]
    world, follower = open_world(paths, Tracking(max_faces=1, redetect_s=0.2))
    rows = play(world, follower, 3)
    assert rows == [{1: 1}] * len(rows)  # the first detection's best
    assert world.detections == 1


def test_one_person_is_kept_through_a_short_occlusion_though_another_is_there(open_world):
    paths = [hidden(standing(700, size=150), (1.0, 2.0)), standing(300)]
    world, follower = open_world(paths, Tracking(max_faces=1))
    rows = play(world, follower, 4)
    assert rows == [{0: 1}] * 25 + [{}] * 25 + [{0: 1}] * 50


def test_another_person_is_taken_when_the_first_one_is_gone_for_long(open_world):
    paths = [only(standing(700, size=150), (0, 1)), standing(300)]
    world, follower = open_world(paths, Tracking(max_faces=1))
    rows = play(world, follower, 5)
    assert rows[24:26] == [{0: 1}, {}]
    assert rows[-1] == {1: 2}
    assert 2.5 * FPS < rows.index({1: 2}) - 25 < 3.5 * FPS


def test_a_cut_hands_the_place_to_another_person_at_once(open_world):
    paths = [only(standing(300), (0, 1)), only(standing(1000), (1, 99))]
    world, follower = open_world(paths, Tracking(max_faces=1))
    generator = np.random.default_rng(0)
    pictures = [generator.integers(0, 256, (720, 1280, 3)).astype(np.uint8) for _ in range(2)]
    rows = []
    for index in range(50):
        world.time_s, world.image = index / FPS, pictures[index >= 25]
        follower.begin(world.image, world.time_s)
        rows.append(tracks_of(world, follower.finish()))
    assert rows == [{0: 1}] * 25 + [{1: 2}] * 25
    assert world.detections == 2


def test_after_a_cut_the_detector_looks_at_the_same_frame(open_world):
    world, follower = open_world([lambda time_s: Person(300 if time_s < 1 else 1000, 360 if time_s < 1 else 500)])
    rows = play(world, follower, 2)
    assert all(0 in row for row in rows)
    assert world.detections <= 5  # three more for whoever was lost


def test_numbers_stay_through_occlusions_of_people_who_move(open_world):
    paths = [hidden(walking(200, 120), (1.5, 2.2)), standing(1100)]
    world, follower = open_world(paths)
    rows = play(world, follower, 4)
    assert {tuple(sorted(row.items())) for row in rows} == {((0, 1), (1, 2)), ((1, 2),)}
    assert sum(0 not in row for row in rows) <= 0.7 * FPS + 2


@pytest.mark.parametrize("speeds", [(200, -200), (120, -260), (300, -90), (60, -60)])
@pytest.mark.parametrize("front", [0, 1])
def test_numbers_stay_when_people_cross(open_world, speeds, front):
    start = [640 - 2 * speeds[0], 640 - 2 * speeds[1]]
    depths = (0, 1) if front == 0 else (1, 0)
    paths = [walking(x, v, depth=depth) for x, v, depth in zip(start, speeds, depths, strict=True)]
    world, follower = open_world(paths, noise=0.4)
    rows = play(world, follower, 4)
    first = rows[0]
    assert all(row[number] == first[number] for row in rows for number in row)
    assert rows[-1] == first
    assert all(front in row for row in rows)
    assert follower.detections <= 8


def test_ten_people_who_change_places(open_world):
    def path(number):
        def place(time_s):
            share = (1 - math.cos(0.9 * time_s)) / 2
            x = 100 + 115 * ((1 - share) * number + share * (number ^ 1))  # neighbours change places
            return Person(x, 360 + 12 * (number % 3), 80, depth=-number)

        return place

    world, follower = open_world([path(number) for number in range(10)], noise=0.3)
    rows = play(world, follower, 10)
    first = rows[0]
    assert len(first) == 10
    assert all(row[number] == first[number] for row in rows for number in row)
    assert set(rows[-1]) >= set(world.seen())


def test_everybody_gets_the_own_number_back_after_some_blank_frames(open_world):
    paths = [only(walking(100 + 110 * number, 10 * number), (0, 1), (1.3, 99)) for number in range(10)]
    world, follower = open_world(paths)
    rows = play(world, follower, 2)
    assert rows[25] == {}
    assert rows[0] == rows[-1] == {number: rows[0][number] for number in range(10)}


def test_somebody_who_comes_back_late_is_new(open_world):
    world, follower = open_world([standing(900), only(standing(300), (0, 1), (5, 99))])
    rows = play(world, follower, 9)
    assert rows[0] == {0: 1, 1: 2}
    assert rows[-1] == {0: 1, 1: 3}


def test_a_face_that_leaves_the_picture_is_gone(open_world):
    world, follower = open_world([standing(300), walking(900, 400)])
    rows = play(world, follower, 3)
    assert rows[-1] == {0: 1}
    assert not any(isinstance(number, str) for row in rows for number in row)


def test_no_face_for_long_and_then_one(open_world):
    world, follower = open_world([only(standing(300), (0, 0.2), (4, 99))])
    rows = play(world, follower, 5)
    assert [len(row) for row in rows] == [1] * 5 + [0] * 95 + [1] * 25
    assert follower.detections == 97  # as long as nobody is there


def test_no_face_for_a_minute(open_world):
    world, follower = open_world([only(standing(300), (0, 1), (61, 99))], Tracking())
    rows = play(world, follower, 63)
    assert [len(row) for row in rows] == [1] * 25 + [0] * 1500 + [1] * 50
    assert follower._tracker.lost == []


def test_an_unsure_face_is_checked_at_growing_distances(open_world):
    world, follower = open_world([standing(300, confidence=0.3)])
    rows = play(world, follower, 2.9)
    assert rows == [{0: 1}] * len(rows)
    assert 3 <= follower.detections <= 8


def test_an_unsure_face_that_the_detector_does_not_see_is_kept_for_a_moment(open_world):
    path = lambda time_s: Person(300, confidence=0.99 if time_s < 1 else 0.3, found=time_s < 1)  # noqa: E731
    world, follower = open_world([path])
    rows = play(world, follower, 3)
    assert 1.3 * FPS < sum(map(len, rows)) < 1.8 * FPS


def test_what_the_network_takes_for_no_face_is_none(open_world):
    world, follower = open_world([standing(300, confidence=0.02), standing(900)])
    assert play(world, follower, 1) == [{1: 1}] * FPS


def test_a_network_without_confidence_is_checked_by_the_detector(open_world):
    world, follower = open_world([standing(900), only(standing(300), (0, 2))], has_confidence=False)
    rows = play(world, follower, 4)
    assert rows[0] == {0: 1, 1: 2}
    assert rows[-1] == {0: 1}
    assert len(rows[round(2.9 * FPS)]) <= 2
    assert follower.detections <= 0.12 * len(rows)


@pytest.mark.parametrize(
    "stamp",
    [
        lambda time_s: 0.0,
        lambda time_s: None,
        lambda time_s: math.nan,
        lambda time_s: math.floor(10 * time_s) / 10,  # repeats
        lambda time_s: time_s if time_s < 1 else time_s + 1000,  # jumps
        lambda time_s: time_s if time_s < 1 else time_s - 1,  # goes back
        lambda time_s: -time_s,
        lambda time_s: 1e12 + time_s,
    ],
)
@pytest.mark.parametrize("smooth", [False, True])
def test_time_stamps_of_all_kinds(open_world, stamp, smooth):
    settings = Tracking() if smooth else Tracking(smoothing=None)
    world, follower = open_world([walking(300, 100), standing(1000)], settings)
    follower_rows = play(world, follower, 3, stamp=stamp)
    assert follower_rows == [{1: 1, 0: 2}] * 75 or follower_rows == [{0: 1, 1: 2}] * 75


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_people_stay_when_the_frames_size_changes(open_world, scale):
    world, follower = open_world([walking(300, 100), standing(900)], Tracking())
    first = play(world, follower, 1)
    world.scale = scale
    world.image = np.zeros((round(720 * scale), round(1280 * scale), 3), np.uint8)
    second = play(world, follower, 1, start=1.0)
    assert [*first, *second] == [first[0]] * 50
    assert world.detections == 1


def test_a_third_person_stays_when_one_of_two_goes_behind_the_other(open_world):
    """The numbers go with the sizes: the first one passes behind the third, the second stands beside them."""
    paths = [walking(200, 250, size=130, depth=1), standing(1100, size=125), standing(500, size=120)]
    world, follower = open_world(paths)
    rows = play(world, follower, 2.5)
    assert rows[0] == rows[-1] == {0: 1, 1: 2, 2: 3}
    assert all(row.get(1) == 2 and row.get(2) == 3 for row in rows)


def test_who_leaves_the_picture_and_comes_back_keeps_the_number(open_world):
    path = lambda time_s: Person(150 - 300 * time_s if time_s < 1.25 else -600 + 300 * time_s)  # noqa: E731
    world, follower = open_world([path, standing(900)])
    rows = play(world, follower, 3.5)
    assert rows[0] == rows[-1]
    assert {} not in rows
    assert min(len(row) for row in rows) == 1


def test_a_half_hidden_face_beside_a_lost_ones_place_is_nobody_new(open_world):
    """It comes out unsure, too far from the place expected; once it is sure, it counts."""

    def path(time_s):
        confidence = 0.3 if 1 <= time_s < 1.8 else 0.99
        return Person(300 if time_s < 1 else 460, visible=not 1 <= time_s < 1.3, confidence=confidence)

    world, follower = open_world([path, standing(900)])
    rows = play(world, follower, 4)
    assert {tuple(sorted(row.values())) for row in rows} <= {(1, 2), (2,), (1,)}


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_a_lost_person_is_found_after_the_frames_size_has_changed(open_world, scale):
    world, follower = open_world([hidden(walking(300, 150), (1.0, 2.2)), standing(1000)], Tracking())
    play(world, follower, 1.5)
    world.scale = scale
    world.image = np.zeros((round(720 * scale), round(1280 * scale), 3), np.uint8)
    crops = []
    original = world.submit
    world.submit = lambda image, matrices, landmarks=(): (crops.extend(matrices), original(image, matrices, landmarks))
    rows = play(world, follower, 1.5, start=1.5)
    assert np.isfinite(crops).all()
    assert rows[-1] == {0: 2, 1: 1} or rows[-1] == {0: 1, 1: 2}
    assert max(len(row) for row in rows) == 2


def test_landmarks_go_with_the_frames_size(open_world):
    """For networks that take landmarks beside the picture."""
    world, follower = open_world([standing(300)])
    play(world, follower, 1)
    (before,) = world.given
    world.scale = 2.0
    world.image = np.zeros((1440, 2560, 3), np.uint8)
    play(world, follower, 1 / FPS, start=1.0)
    np.testing.assert_allclose(world.given[0], 2 * before, rtol=1e-5)


def test_another_shape_of_frame_starts_anew(open_world):
    world, follower = open_world([standing(300)])
    play(world, follower, 1)
    world.image = np.zeros((1280, 720, 3), np.uint8)
    assert play(world, follower, 1, start=1.0) == [{0: 2}] * FPS or world.detections == 2
    assert world.detections == 2


def test_forgetting_starts_anew(open_world):
    world, follower = open_world([standing(300)])
    play(world, follower, 1)
    follower.forget()
    assert play(world, follower, 1) == [{0: 1}] * FPS
    assert world.detections == 2


def test_lost_people_are_looked_for_where_they_should_be(open_world):
    """By the network, at the price of one crop per frame; the detector looks at growing distances."""
    world, follower = open_world([hidden(standing(300), (1, 2.5)), standing(900)], Tracking(redetect_s=99))
    rows = play(world, follower, 4)
    assert world.crops[20] == 2
    assert world.crops[30] == 2
    assert rows[63] == {0: 1, 1: 2}
    assert follower.detections <= 7


def test_a_failing_detector_leaves_nothing_in_flight(open_world):
    world, follower = open_world([standing(300)])
    play(world, follower, 1)
    follower._detector = lambda image: 1 / 0
    world.paths = []
    follower.begin(world.image, 2.0)
    with pytest.raises(ZeroDivisionError):
        follower.finish()
    follower.forget()
    with pytest.raises(ZeroDivisionError):
        follower.begin(world.image, 2.1)
    assert world._in_flight == []


def test_the_next_crop_comes_with_the_last_landmarks(open_world):
    """For networks that take landmarks beside the picture; a face that is lost has none."""
    there = only(walking(500, 120), (0, 0.4))
    world, follower = open_world([standing(900), there])
    last, faces, given = [], [], []
    for index in range(20):
        world.time_s = index / FPS
        follower.begin(world.image, world.time_s)
        given = world.given
        last, faces = faces, follower.finish()
        if index in (3, 6, 9):
            assert len(given) == 2
            for points, face in zip(given, last, strict=True):
                np.testing.assert_array_equal(points, face.landmarks)
    assert len(faces) == 1
    assert given[0] is not None
    assert given[1:] == [None]
