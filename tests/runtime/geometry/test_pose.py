"""Head pose: signs, angles, and the labels of the training photographs."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.errors import FaceMeshError
from runtime.geometry.crop import crop_matrix, crop_roll_deg, landmark_box, turned_crop
from runtime.geometry.pose import (
    PoseEstimator,
    picture_roll_deg,
    pose_to_rotation,
    rotation_to_pose,
    rotation_to_quaternion,
)
from runtime.types import Pose


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Yaw @ pitch @ roll, each written from what it does on screen (x right, y down, z to the camera)."""
    y, p, r = np.radians([yaw, pitch, roll])
    yaw_matrix = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])  # z axis to the right
    pitch_matrix = np.array(
        [[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]]
    )  # z axis up, that is to -y
    roll_matrix = np.array(
        [[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]]
    )  # x axis towards y: clockwise
    return yaw_matrix @ pitch_matrix @ roll_matrix


def angles(pose: Pose) -> list[float]:
    return [pose.yaw_deg, pose.pitch_deg, pose.roll_deg]


@pytest.fixture(scope="module")
def canonical(topology) -> np.ndarray:
    return topology.canonical_vertices[topology.landmark_vertices].astype(np.float64)


@pytest.mark.parametrize(
    "expected", [(0, 0, 0), (30, 0, 0), (0, 20, 0), (0, 0, 40), (-85, 10, -15), (95, -12, 170), (12, -60, 33)]
)
def test_rotation_is_recovered_whatever_scale_and_place(topology, canonical, expected):
    landmarks = 0.37 * canonical @ rotation(*expected).T + [2300, 700, -40]
    assert angles(PoseEstimator(topology)(landmarks.astype(np.float32))) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("expected", [(0, 0, 0), (30, 10, -5), (-85, 20, 40)])
def test_pose_and_rotation_are_inverse(expected):
    np.testing.assert_allclose(pose_to_rotation(Pose(*expected)), rotation(*expected), atol=1e-12)
    assert angles(rotation_to_pose(rotation(*expected))) == pytest.approx(expected, abs=1e-9)


def test_signs_are_what_the_eye_sees(topology, canonical):
    """No rotation matrix involved: move the nose tip and look; turn the picture and look."""
    estimate = PoseEstimator(topology)
    middle = canonical.mean(axis=0)
    assert np.allclose(angles(estimate(canonical)), 0, atol=1e-6)
    yawed = canonical.copy()
    yawed[:, 0] += 0.3 * (canonical[:, 2] - middle[2])  # what is nearer to the camera moves to the right
    assert estimate(yawed).yaw_deg > 3
    pitched = canonical.copy()
    pitched[:, 1] -= 0.3 * (canonical[:, 2] - middle[2])  # what is nearer to the camera moves up
    assert estimate(pitched).pitch_deg > 3
    quarter = np.stack(
        [-canonical[:, 1], canonical[:, 0], canonical[:, 2]], axis=1
    )  # the top of the head goes to the right
    assert angles(estimate(quarter)) == pytest.approx([0, 0, 90], abs=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_the_rotation_is_that_of_the_singular_value_decomposition(topology, canonical, seed):
    """Kabsch's: also for points far from any face."""
    generator = np.random.default_rng(seed)
    noise = generator.normal(0, 10 ** (seed % 4), (68, 3))
    landmarks = (canonical @ rotation(*generator.uniform(-180, 180, 3)).T + noise).astype(np.float32)
    weights = np.repeat([0.3, 1.0, 0.1], [17, 31, 20])
    weights /= weights.sum()
    reference = (canonical - weights @ canonical) * weights[:, None]
    left, _, right = np.linalg.svd(landmarks.astype(np.float64).T @ reference)
    left[:, 2] *= np.sign(np.linalg.det(left @ right))
    expected = rotation_to_pose(left @ right)
    found = PoseEstimator(topology)(landmarks)
    np.testing.assert_allclose(pose_to_rotation(found), pose_to_rotation(expected), atol=1e-9)


@pytest.mark.parametrize("pitch", [90, -90])
@pytest.mark.parametrize("excess", [0, 1e-12])  # of a rotation that was rounded
def test_straight_up_and_down_have_angles_too(pitch, excess):
    looks = rotation(0, pitch, 0) * (1 + excess)
    assert angles(rotation_to_pose(looks))[1] == pytest.approx(pitch)


@pytest.mark.parametrize("pitch", [90, -90])
def test_faces_that_look_straight_up_or_down_have_a_pose(topology, canonical, pitch):
    """Rounding must not carry the sine of the pitch beyond 1."""
    estimate = PoseEstimator(topology)
    for turn in range(0, 360, 7):
        landmarks = (canonical @ (rotation(turn, pitch, 0)).T).astype(np.float32)
        assert estimate(landmarks).pitch_deg == pytest.approx(pitch, abs=0.05)


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 2, 3), (-3, 1, -2), (2, -5, -1)])
@pytest.mark.parametrize("angle", [0, 20, 110, 175, 250, 340])
def test_quaternion_turns_points_as_the_rotation_does(axis, angle):
    """Rodrigues' formula gives the rotation; w is never negative."""
    x, y, z = direction = np.array(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    turn = np.radians(angle)
    matrix = np.eye(3) + np.sin(turn) * cross + (1 - np.cos(turn)) * cross @ cross
    half = np.append(np.sin(turn / 2) * direction, np.cos(turn / 2))
    expected = half if half[3] >= 0 else -half
    np.testing.assert_allclose(rotation_to_quaternion(matrix), expected, atol=1e-9)


def test_open_mouth_hardly_pitches(topology, canonical):
    landmarks = canonical.copy()
    landmarks[5:12, 1] += 12  # the chin and the lower lip go down by a tenth of the face
    landmarks[55:60, 1] += 12
    assert abs(PoseEstimator(topology)(landmarks).pitch_deg) < 3


def test_agrees_with_the_labels(topology, shared_data):
    with np.load(shared_data / "train.npz") as labels:
        rows = np.flatnonzero(labels["is_val"])
        points, rotations, yaw_deg = (
            labels["pts68"][rows],
            labels["rotation"][rows].astype(np.float64),
            labels["yaw_deg"][rows],
        )
    estimate = PoseEstimator(topology)
    estimated = np.array([angles(estimate(landmarks)) for landmarks in points])
    labelled = np.array(
        [angles(rotation_to_pose(matrix @ np.diag([1, -1, 1]))) for matrix in rotations]
    )  # the model's y axis points up
    errors = np.abs((estimated - labelled + 180) % 360 - 180)
    assert np.all(errors.mean(axis=0) < [0.4, 1.0, 0.4])  # yaw, pitch, roll
    assert (
        np.abs(estimated[:, 0] - yaw_deg).mean() < 2
    )  # the labels' own yaw is another decomposition, the same only without pitch
    assert np.corrcoef(estimated[:, 0], yaw_deg)[0, 1] > 0.99


def test_unusable_landmarks_are_refused(topology):
    estimate = PoseEstimator(topology)
    with pytest.raises(ValueError, match=r"shape \(68, 3\)"):
        estimate(np.zeros((5, 3), np.float32))
    for value in (np.nan, np.inf, 17.3):
        with pytest.raises(FaceMeshError, match="model's output is unusable"):
            estimate(np.full((68, 3), value, np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf, 17.3])
def test_unusable_landmarks_are_refused_in_a_crop_too(topology, value):
    with pytest.raises(FaceMeshError, match="model's output is unusable"):
        PoseEstimator(topology).look(np.full((68, 3), value, np.float32), np.eye(2, 3))


@pytest.mark.parametrize("turn", [0, 25, -170])
@pytest.mark.parametrize("expected", [(0, 0, 0), (30, 10, -5), (-40, 20, 178)])
def test_a_crop_shows_the_head_less_the_roll_that_it_takes_off(topology, canonical, expected, turn):
    landmarks = (0.37 * canonical @ rotation(*expected).T + [2300, 700, -40]).astype(np.float32)
    box = landmark_box(landmarks)
    matrix = turned_crop(crop_matrix(box, 1.5, 128), (box[:2] + box[2:]) / 2, turn)
    estimator = PoseEstimator(topology)
    found = estimator.look(landmarks, matrix)
    assert found.pose == estimator(landmarks)
    assert found.picture_roll_deg == pytest.approx(picture_roll_deg(found.pose), abs=1e-9)
    difference = found.picture_roll_deg - crop_roll_deg(matrix)
    assert found.crop_roll_deg == pytest.approx((difference + 180) % 360 - 180, abs=1e-6)
    np.testing.assert_array_equal(found.box_xyxy, box)


@pytest.mark.parametrize("roll", [-150, -90, -10, 0, 60, 179])
@pytest.mark.parametrize(("yaw", "pitch"), [(0, 0), (40, -20), (-80, 15), (90, 0)])
def test_roll_in_the_picture_is_what_turning_the_picture_adds(yaw, pitch, roll):
    """Whatever the yaw: of a profile, too, where the pose's own roll means something else."""
    before = picture_roll_deg(Pose(yaw, pitch, 0))
    turned = rotation_to_pose(rotation(0, 0, roll) @ rotation(yaw, pitch, 0))
    assert (picture_roll_deg(turned) - before - roll + 180) % 360 - 180 == pytest.approx(0, abs=1e-6)
    assert picture_roll_deg(Pose(0, 0, roll)) == pytest.approx(roll)


def test_a_mirrored_face_has_the_nearest_rotation_and_no_reflection(topology, canonical):
    """A mesh with its depth reversed fits a mirror image best; a head cannot become one."""
    for flip in ((1, 1, -1), (-1, 1, 1)):
        landmarks = (canonical * flip @ rotation(20, 5, 10).T).astype(np.float32)
        weights = np.repeat([0.3, 1.0, 0.1], [17, 31, 20])
        centred = canonical - np.average(canonical, axis=0, weights=weights)
        left, _, right = np.linalg.svd(landmarks.T.astype(np.float64) @ (centred * weights[:, None]))
        assert np.linalg.det(left @ right) < 0
        left[:, 2] = -left[:, 2]
        found = PoseEstimator(topology)(landmarks)
        np.testing.assert_allclose(pose_to_rotation(found), left @ right, atol=1e-4)
