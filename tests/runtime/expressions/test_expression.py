"""Expressions: eyes from the picture, the mouth from the landmarks."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from runtime.expressions.expression import BLENDSHAPES, read_expression
from runtime.expressions.eye_opening import eye_features, eye_openings, eye_patches
from runtime.geometry.pose import pose_to_rotation
from runtime.inference.open_runner import open_runner
from runtime.pipeline import FaceMeshPipeline
from runtime.types import Pose
from tests.standins.meshes import face_of

FRONT = Pose(0, 0, 0)
ARKIT = {"eyeBlinkLeft", "eyeBlinkRight", "jawOpen", "mouthPucker", "mouthSmileLeft", "mouthSmileRight"}
GREY = np.full((400, 400, 3), 127, np.uint8)


@pytest.fixture(scope="module")
def portrait_face(portrait):
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
    image = cv2.imread(str(portrait))
    with open_runner() as runner:
        return image, FaceMeshPipeline(runner).from_boxes(image, [[177, 76, 268, 171]])[0]


def relaxed(topology):
    """Landmarks of the mean face, with the lips closed."""
    points = topology.canonical_vertices[topology.landmark_vertices].astype(float)
    middle = (points[[61, 62, 63]] + points[[67, 66, 65]]) / 2
    points[[61, 62, 63]] = points[[67, 66, 65]] = middle
    return points


def eye_distance(points):
    return np.linalg.norm(points[45] - points[36])


def seen(points, pose=FRONT, scale=1.2):
    centred = points - points.mean(axis=0)
    landmarks = (scale * centred @ pose_to_rotation(pose).T + (200, 200, 50)).astype(np.float32)
    return dataclasses.replace(face_of(landmarks), landmarks=landmarks, pose=pose)


@pytest.mark.parametrize("pose", [Pose(0, 0, 0), Pose(50, -15, 20), Pose(-80, 10, 150)])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.21, 0.5])
def test_mouth_opening_whatever_the_pose(topology, pose, share):
    points = relaxed(topology)
    points[[67, 66, 65], 1] += share * eye_distance(points)
    expression = read_expression(seen(points, pose), GREY)
    assert expression.mouth_opening == pytest.approx(share, abs=1e-3)
    assert expression.blendshapes["jawOpen"] == pytest.approx(min(1, max(0, (share - 0.02) / 0.38)), abs=0.01)


def test_smile_and_pucker(topology):
    points = relaxed(topology)
    rest = read_expression(seen(points), GREY).blendshapes
    smile, pucker = points.copy(), points.copy()
    smile[[48, 54], 1] -= 0.06 * eye_distance(points)
    middle = pucker[[48, 54]].mean(axis=0)
    pucker[48:68, 0] = middle[0] + 0.7 * (pucker[48:68, 0] - middle[0])
    smiling, pursed = (read_expression(seen(each), GREY).blendshapes for each in (smile, pucker))
    assert smiling["mouthSmileLeft"] > rest["mouthSmileLeft"] + 0.4
    assert smiling["mouthSmileLeft"] == smiling["mouthSmileRight"]
    assert smiling["mouthPucker"] == pytest.approx(rest["mouthPucker"], abs=0.05)
    assert pursed["mouthPucker"] > rest["mouthPucker"] + 0.4
    assert pursed["mouthSmileLeft"] == pytest.approx(rest["mouthSmileLeft"], abs=0.05)


def test_names_are_those_of_arkit(topology):
    blendshapes = read_expression(seen(relaxed(topology)), GREY).blendshapes
    assert {*blendshapes} == {*BLENDSHAPES} == ARKIT
    assert all(0 <= value <= 1 for value in blendshapes.values())


def with_lid(image, face, corners, closed):
    """The picture with skin painted over the eye, and a dark line where the lids meet."""
    first, last = (face.landmarks[corner, :2] for corner in corners)
    width = np.linalg.norm(last - first)
    centre, angle = (first + last) / 2, np.degrees(np.arctan2(*(last - first)[::-1]))
    painted = image.copy()
    skin = image[round(centre[1] + 0.75 * width), round(centre[0])].tolist()
    axes = round(0.55 * width), round(0.3 * width)
    cv2.ellipse(painted, np.rint(centre).astype(int).tolist(), axes, angle, 0, 360, skin, cv2.FILLED, cv2.LINE_AA)
    down = centre + (0, 0.12 * width)
    cv2.ellipse(painted, np.rint(down).astype(int).tolist(), (axes[0], 2), angle, 0, 180, (40, 50, 70), 1, cv2.LINE_AA)
    return cv2.GaussianBlur(painted, (0, 0), 0.6) if closed else image


@pytest.mark.parametrize(("side", "corners"), [("left", (42, 45)), ("right", (36, 39))])
def test_an_eye_that_is_painted_shut(portrait_face, side, corners):
    image, face = portrait_face
    before = read_expression(face, image)
    after = read_expression(face, with_lid(image, face, corners, True))
    other = {"left": "right", "right": "left"}[side]
    opening = f"eye_opening_{side}"
    assert getattr(before, opening) > 0.24
    assert getattr(after, opening) < getattr(before, opening) - 0.08
    assert getattr(after, f"eye_opening_{other}") == pytest.approx(getattr(before, f"eye_opening_{other}"), abs=0.06)
    weight = np.clip((0.26 - getattr(after, opening)) / 0.14, 0, 1)
    assert after.blendshapes[f"eyeBlink{side.capitalize()}"] == pytest.approx(weight)
    assert (before.blink_left, before.blink_right) == (False, False)


def test_eyes_of_a_turned_and_a_mirrored_picture(portrait_face):
    image, face = portrait_face
    left, right = eye_openings(face, image)
    turn = cv2.getRotationMatrix2D((220, 120), 40, 1.5)
    turned_points = face.landmarks.copy()
    turned_points[:, :2] = face.landmarks[:, :2] @ turn[:, :2].T + turn[:, 2]
    turned_points[:, 2] *= 1.5
    turned = eye_openings(dataclasses.replace(face, landmarks=turned_points), cv2.warpAffine(image, turn, (512, 512)))
    assert turned == pytest.approx((left, right), abs=0.05)
    mirror = np.array([*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1)])
    mirror = np.append(mirror, [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40])
    mirror = np.append(mirror, [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65])
    mirrored_points = face.landmarks[mirror] * np.float32([-1, 1, 1]) + np.float32([image.shape[1] - 1, 0, 0])
    mirrored = eye_openings(dataclasses.replace(face, landmarks=mirrored_points), np.ascontiguousarray(image[:, ::-1]))
    assert mirrored == pytest.approx((right, left), abs=0.02)


def test_patches_lie_upright_with_the_outer_corner_on_the_left(topology):
    """Red marks the outer corners, bright the inner ones."""
    for roll in (0, 35, 180):
        face = seen(topology.canonical_vertices[topology.landmark_vertices].astype(float), Pose(0, 0, roll))
        image = np.zeros((400, 400, 3), np.uint8)
        for landmark, colour in ((36, 100), (45, 100), (39, 255), (42, 255)):
            x, y, _ = face.landmarks[landmark]
            cv2.circle(image, (round(x), round(y)), 2, (colour,) * 3, cv2.FILLED)
        patches = eye_patches(face.landmarks, image)
        assert patches.shape == (2, 24, 32)
        for patch in patches:
            assert 40 < patch[:, :16].max() <= 110
            assert patch[:, 16:].max() > 150


def test_features_know_no_brightness_and_contrast():
    patch = np.random.default_rng(0).integers(80, 120, (24, 32)).astype(np.uint8)
    features = eye_features(patch)
    assert features.shape == (768,)
    np.testing.assert_allclose(eye_features(patch + 50), features, atol=1e-4)
    np.testing.assert_allclose(eye_features(((patch - 80) * 3).astype(np.uint8)), features, atol=1e-3)
    assert np.isfinite(eye_features(np.full((24, 32), 9, np.uint8))).all()


@pytest.mark.parametrize("shift", [(-1000, 0), (0, 1000), (-180, -180)])
def test_eyes_outside_the_picture(topology, shift):
    face = seen(relaxed(topology))
    moved = dataclasses.replace(face, landmarks=face.landmarks + np.float32([*shift, 0]))
    assert np.isfinite(eye_openings(moved, GREY)).all()
