"""A face, or a part of it, on another head."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from runtime.geometry.pose import pose_to_rotation
from runtime.rendering.face_swap import FaceSwapper, _recoloured
from runtime.rendering.maps import MapPainter
from runtime.types import Pose
from tests.standins.meshes import face_of

SIZE = (320, 240)
FRONT = Pose(0, 0, 0)


def face_at(topology, pose=FRONT, scale=0.8, place=(160, 120)):
    centred = topology.canonical_vertices - topology.canonical_vertices.mean(axis=0)
    vertices = (scale * centred @ pose_to_rotation(pose).T + (*place, 50)).astype(np.float32)
    face = dataclasses.replace(face_of(vertices), pose=pose)
    return dataclasses.replace(face, landmarks=vertices[topology.landmark_vertices])


@pytest.fixture(scope="module")
def swapper(topology):
    return FaceSwapper(topology, 256)


def noise(seed, mean=(90, 110, 140)):
    """A grainy picture of one colour."""
    grain = np.random.default_rng(seed).normal(scale=12, size=(SIZE[1], SIZE[0], 1))
    return np.clip(np.array(mean) + cv2.GaussianBlur(grain, (0, 0), 2)[..., None] * 3, 0, 255).astype(np.uint8)


def spotted(topology, image, face, landmark, colour):
    """The picture with a spot at a landmark."""
    x, y, _ = face.vertices[topology.landmark_vertices[landmark]]
    return cv2.circle(image.copy(), (round(x), round(y)), 7, colour, cv2.FILLED)


def changed_at(topology, before, after, face, landmark):
    x, y, _ = face.vertices[topology.landmark_vertices[landmark]]
    patch = np.s_[round(y) - 2 : round(y) + 3, round(x) - 2 : round(x) + 3]
    return np.abs(after[patch].astype(int) - before[patch]).mean()


@pytest.mark.parametrize("pose", [Pose(0, 0, 0), Pose(35, 5, 15)])
def test_marks_of_the_reference_appear_at_their_place_on_the_head(topology, swapper, pose):
    head, other = face_at(topology, pose, 0.9), face_at(topology, Pose(-10, 0, -20), 0.7, (150, 110))
    image, reference = noise(1), noise(2)
    marked = spotted(topology, reference, other, 30, (255, 255, 255))  # the tip of the nose
    plain, painted = (swapper.swap(image, head, picture, other) for picture in (reference, marked))
    assert changed_at(topology, plain, painted, head, 30) > 25
    assert changed_at(topology, plain, painted, head, 8) < 12


@pytest.mark.parametrize(("part", "inside", "outside"), [("eyes", 37, 57), ("nose", 30, 57), ("mouth", 62, 30)])
def test_a_part_alone(topology, swapper, part, inside, outside):
    face = face_at(topology)
    image, reference = noise(1), noise(2)
    for landmark in (inside, outside):
        reference = spotted(topology, reference, face, landmark, (255, 255, 255))
    result = swapper.swap(image, face, reference, face, part)
    assert changed_at(topology, image, result, face, inside) > 40
    assert changed_at(topology, image, result, face, outside) == 0
    assert changed_at(topology, image, swapper.swap(image, face, reference, face), face, outside) > 40


def test_a_face_on_itself_changes_little(topology, swapper):
    face, image = face_at(topology), noise(1)
    assert np.abs(swapper.swap(image, face, image, face).astype(int) - image).mean() < 1


def test_nothing_outside_the_face_changes_and_the_border_is_soft(topology, swapper):
    face = face_at(topology)
    image, reference = noise(1, (40, 40, 40)), noise(2, (200, 200, 200))
    with_contrast = spotted(topology, image, face, 30, (255, 255, 255))
    result = swapper.swap(with_contrast, face, reference, face)
    covered = np.isfinite(MapPainter(topology).depth([face], SIZE))
    np.testing.assert_array_equal(result[~covered], with_contrast[~covered])
    border = covered & cv2.dilate((~covered).astype(np.uint8), np.ones((3, 3))).astype(bool)
    assert np.abs(result[border].astype(int) - with_contrast[border]).mean() < 3


def test_colours_come_from_the_head(topology, swapper):
    face = face_at(topology)
    image, reference = noise(1, (90, 110, 140)), noise(2, (160, 120, 70))
    result = swapper.swap(image, face, reference, face)
    x1, y1, x2, y2 = face.box_xyxy.astype(int)
    middle = np.s_[y1 + 50 : y2 - 50, x1 + 50 : x2 - 50]
    assert np.abs(result[middle].mean(axis=(0, 1)) - image[middle].mean(axis=(0, 1))).max() < 6


def test_colours_without_weight_stay():
    texture = noise(3)
    assert _recoloured(texture, noise(4), np.zeros(texture.shape[:2], np.float32)) is texture


@pytest.mark.parametrize("place", [(20, 20), (310, 230), (5000, 0)])
def test_a_face_at_the_edge_and_outside(topology, swapper, place):
    face, image = face_at(topology, place=place), noise(1)
    result = swapper.swap(image, face, noise(2, (160, 120, 70)), face_at(topology))
    assert result.shape == image.shape
    assert (result != image).any() == (place != (5000, 0))


def test_unknown_parts(topology, swapper):
    with pytest.raises(KeyError):
        swapper.swap(noise(1), face_at(topology), noise(2), face_at(topology), "ears")
