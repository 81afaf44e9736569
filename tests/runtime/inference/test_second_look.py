"""Turned faces are cropped again, upright; upright ones cost nothing."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.families.table import open_family
from runtime.geometry.crop import check_matrix, crop_roll_deg
from runtime.geometry.pose import pose_to_rotation
from runtime.inference.interface import MeshedFace
from runtime.inference.second_look import MOST_LOOKS, SecondLook
from runtime.models.spec import load_spec
from runtime.types import Pose

IMAGE = np.zeros((9, 9, 3), np.uint8)


@pytest.fixture
def family(live_model):
    return open_family(load_spec(live_model))


def landmarks_at(family, roll_deg, yaw_deg=0.0, place=(300, 200, 0)):
    """Landmarks (68, 3) of a face of 120 px or so that is turned in the picture by ``roll_deg``."""
    canonical = family.topology.canonical_vertices[family.topology.landmark_vertices].astype(np.float64)
    points = (canonical - canonical.mean(axis=0)) @ pose_to_rotation(Pose(yaw_deg, 0, 0)).T
    turned = points @ pose_to_rotation(Pose(0, 0, roll_deg)).T
    return (120 / np.ptp(canonical[:, 1]) * turned + place).astype(np.float32)


class Network:
    """A mesher whose meshes are turned too little, by a share of the roll that the crop leaves; it logs the crops.

    While ``reversing``, it says of every crop that the face in it is upside down.
    """

    def __init__(self, faces, error):
        self.faces, self.error, self.crops, self.reversing = faces, error, [], False

    def again(self, image, matrices):
        assert image is IMAGE
        self.crops.append(matrices)
        return [self.face(matrix) for matrix in matrices]

    def face(self, matrix):
        truth = min(self.faces, key=lambda points: np.linalg.norm(_centre(matrix) - points[:, :2].mean(axis=0)))
        roll = (_roll(truth) - crop_roll_deg(matrix) + 180) % 360 - 180
        turn = 180 - roll if self.reversing else -self.error * roll
        middle = truth.mean(axis=0)
        wrong = (truth - middle) @ pose_to_rotation(Pose(0, 0, turn)).T + middle
        return MeshedFace(np.empty((0, 3), np.float32), wrong.astype(np.float32), None)


def _centre(matrix):
    check_matrix(matrix)
    return np.linalg.solve(matrix[:, :2], 63.5 - matrix[:, 2])


def _roll(points):
    """Degrees clockwise from the middle of the eyes to the chin."""
    down = points[8, :2] - points[36:48, :2].mean(axis=0)
    return np.degrees(np.arctan2(-down[0], down[1]))


def error(look, truth):
    return np.linalg.norm(look.face.landmarks - truth, axis=1).mean() / 120


def first_look(family, network):
    boxes = [np.concatenate([p[:, :2].min(axis=0), p[:, :2].max(axis=0)]) for p in network.faces]
    matrices = [family.crop_matrix(box) for box in boxes]
    return [network.face(matrix) for matrix in matrices], matrices


@pytest.mark.parametrize("roll", range(-180, 180, 30))
@pytest.mark.parametrize("yaw", [-80, 0, 80])
def test_every_roll_ends_upright(family, roll, yaw):
    network = Network([landmarks_at(family, roll, yaw)], error=0.3)
    faces, matrices = first_look(family, network)
    (look,) = SecondLook(network, family, 128)(IMAGE, faces, matrices)
    assert abs(look.roll_deg) < 20
    assert error(look, network.faces[0]) < 0.1
    assert bool(network.crops) == (abs(roll) * 0.7 > 20)


@pytest.mark.parametrize(
    ("offset", "growth", "looks"), [((0, 0), 1, 0), ((8, 0), 1, 0), ((25, 0), 1, 1), ((0, -30), 1, 1), ((0, 0), 1.5, 1)]
)
@pytest.mark.parametrize("roll", [0, 10])
def test_boxes_that_are_off(family, roll, offset, growth, looks):
    """The second crop is the one that the right box gives, without a turn, so that it is cropped the fast way."""
    network = Network([landmarks_at(family, roll)], error=0.0)
    _, (fitting,) = first_look(family, network)
    middle = np.array([63.5, 63.5])
    matrix = growth * (fitting - [[0, 0, middle[0]], [0, 0, middle[1]]])
    matrix[:, 2] += middle + np.array(offset) * fitting[0, 0]
    (look,) = SecondLook(network, family, 128)(IMAGE, [network.face(matrix)], [matrix])
    assert len(network.crops) == looks
    expected = fitting if looks else matrix
    np.testing.assert_allclose(look.matrix, expected, atol=1e-3)
    np.testing.assert_array_equal(
        look.box_xyxy, [*look.face.landmarks[:, :2].min(axis=0), *look.face.landmarks[:, :2].max(axis=0)]
    )


def test_upright_faces_cost_nothing_and_the_turned_ones_come_in_one_batch(family):
    places = [(300, 200, 0), (900, 200, 0), (300, 800, 0), (900, 800, 0)]
    rolls = [5, 90, -15, -120]
    network = Network(
        [landmarks_at(family, roll, place=place) for roll, place in zip(rolls, places, strict=True)], error=0.1
    )
    faces, matrices = first_look(family, network)
    looks = SecondLook(network, family, 128)(IMAGE, faces, matrices)
    assert [len(crops) for crops in network.crops] == [2]
    for look, truth in zip(looks, network.faces, strict=True):
        assert error(look, truth) < 0.05
    assert looks[0].face is faces[0]
    assert looks[2].face is faces[2]


def test_a_look_that_is_no_more_upright_is_dropped(family):
    """And a network that says "upside down" of everything is not asked for ever."""
    network = Network([landmarks_at(family, 0)], error=0.0)
    network.reversing = True
    faces, matrices = first_look(family, network)
    (look,) = SecondLook(network, family, 128)(IMAGE, faces, matrices)
    assert len(network.crops) < MOST_LOOKS
    assert look.face is faces[0]
