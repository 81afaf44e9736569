"""Each loss against a calculation by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from runtime.compiled import native
from runtime.errors import FaceMeshError
from tests.training.coefficients.tiny import Tiny, TinyWithoutPose, toy_crops, whitened
from tests.training.toy import toy_face_model
from training.coefficients.critic import SelfCritic
from training.coefficients.face_numbers import FaceNumbers
from training.coefficients.losses import (
    LOSSES,
    CoefficientLoss,
    OffsetLoss,
    central_weights,
    check_losses,
    drawn_points,
    parse_losses,
    point_distance,
)
from training.coefficients.objective import draw_channels


@pytest.mark.parametrize("kind", [Tiny, TinyWithoutPose])
def test_importance_is_how_far_vertices_move(kind):
    """Of the mean face: numbers are replaced one by one in the matrix and the sum of the definition."""
    network = kind()
    whitened(network, toy_crops(network))
    numbers = FaceNumbers(toy_face_model(), network)
    loss = CoefficientLoss(numbers)
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    pose = np.concatenate([9 * turn, [[15.0], [14.0], [3.0]]], 1)
    poses = torch.tensor(pose[None], dtype=torch.float32)
    true_rows = numbers.rows(torch.zeros(1, 3), poses, torch.zeros(1, dtype=torch.bool))
    rows = true_rows + torch.randn(1, network.count, generator=torch.Generator().manual_seed(0))

    model, count = toy_face_model(), network.pose_count

    def vertices(row):
        values = row * network.whitening.std + network.whitening.mean
        matrix = values[:count].reshape(3, 4) if count else np.diag([1.0, -1, 1]) @ pose
        points = model.mean + (model.basis @ values[count:]).reshape(-1, 3)
        return (points @ matrix[:, :3].T + matrix[:, 3])[::24]

    row, true_row = rows[0].double().numpy(), true_rows[0].double().numpy()
    moved = []
    for number in range(network.count):
        replaced = true_row.copy()
        replaced[number] = row[number]
        moved.append(np.sqrt(np.square(vertices(replaced) - vertices(true_row)).sum(1).mean()))
    if count:
        moved[11] = 0
    weights = np.array(moved) / max(moved)
    np.testing.assert_allclose(loss.importance(rows, true_rows, poses)[0], weights, rtol=2e-3, atol=1e-5)
    expected = (weights * np.square(row - true_row)).mean()
    assert loss(rows, true_rows, poses).item() == pytest.approx(expected, rel=2e-3)


def test_coefficient_loss_is_zero_at_the_label_and_pulls_there():
    network = Tiny()
    whitened(network, toy_crops(network))
    numbers = FaceNumbers(toy_face_model(), network)
    loss = CoefficientLoss(numbers)
    poses = torch.tensor([[[9.0, 0, 0, 15], [0, -9, 0, 15], [0, 0, 9, 0]]])
    true_rows = numbers.rows(torch.zeros(1, 3), poses, torch.zeros(1, dtype=torch.bool))
    assert loss(true_rows, true_rows, poses).item() == 0
    rows = (true_rows + 0.5).requires_grad_()
    loss(rows, true_rows, poses).sum().backward()
    assert rows.grad[0, 11] == 0
    assert (rows.grad[0, [0, 3, 7, 12]] > 0).all()


def test_point_distance():
    points = torch.tensor([[[3.0, 4.0], [0.0, 0.0]], [[0.0, 1.0], [0.0, 5.0]]])
    truth, size = torch.zeros(2, 2, 2), torch.tensor([10.0, 5.0])
    torch.testing.assert_close(point_distance(points, truth, size), torch.tensor([0.25, 0.6]), rtol=0, atol=1e-4)
    weights = torch.tensor([3.0, 1.0])
    weighted = point_distance(points, truth, size, weights)
    torch.testing.assert_close(weighted, torch.tensor([0.375, 0.4]), rtol=0, atol=1e-4)
    known = torch.tensor([[True, True], [False, True]])
    truth[1, 0] = torch.nan
    points.requires_grad_()
    found = point_distance(points, truth, size, known=known)
    torch.testing.assert_close(found, torch.tensor([0.25, 0.5]), rtol=0, atol=1e-4)
    found.sum().backward()
    assert points.grad.isfinite().all()
    assert points.grad[1, 0].abs().sum() == 0


def test_central_points_are_nose_eyes_and_mouth():
    weights = central_weights(4.0)
    assert weights[:27].unique().tolist() == [1.0]
    assert weights[27:].unique().tolist() == [4.0]
    miss = torch.zeros(1, 68, 2)
    miss[0, 30] = torch.tensor([3.0, 4.0])
    nose = point_distance(miss, torch.zeros(1, 68, 2), torch.ones(1), weights).item()
    assert nose == pytest.approx(5 * 4 / (27 + 4 * 41), abs=1e-3)


def test_drawn_points_are_the_pixels_of_the_channel():
    landmarks = torch.rand(3, 68, 2, generator=torch.Generator().manual_seed(3)) * 70 + 20
    landmarks[1, 30] = torch.tensor([-8.0, 200.0])  # outside: drawn at the border
    points, planes = drawn_points(landmarks), draw_channels(landmarks.numpy(), 120)
    assert points.shape == (3, 18, 2)
    assert planes.shape == (3, 1, 120, 120)
    for face in range(3):
        expected = np.full((120, 120), -1, np.float32)
        for x, y in points[face].numpy():
            expected[int(np.clip(np.floor(y + 0.5), 1, 119)), int(np.clip(np.floor(x + 0.5), 1, 119))] = 1
        np.testing.assert_array_equal(planes[face, 0], expected)
    middle = (landmarks[0, 62] + landmarks[0, 66]) / 2
    assert (points[0] == middle).all(1).any()


def test_points_that_are_not_finite_are_not_drawn():
    landmarks = np.full((68, 3), np.nan, np.float32)
    landmarks[17] = 5, 6, 0
    plane = np.zeros((40, 40), np.float32)
    native.draw_landmarks(landmarks, np.eye(2, 3), plane)
    assert np.argwhere(plane == 1).tolist() == [[6, 5]]
    assert (plane == -1).sum() == 1599


def test_drawing_fills_strided_planes_and_refuses_others():
    landmarks = np.random.default_rng(0).uniform(0, 300, (68, 3)).astype(np.float32)
    matrix = np.array([[0.1, 0.02, 1.0], [-0.02, 0.1, 8.0]])
    plain, image = np.zeros((40, 40), np.float32), np.zeros((40, 40, 4), np.float32)
    native.draw_landmarks(landmarks, matrix, plain)
    native.draw_landmarks(landmarks, matrix, image[:, :, 3])
    np.testing.assert_array_equal(image[:, :, 3], plain)
    assert not image[:, :, :3].any()
    moved = landmarks.copy()
    moved[:, :2] = landmarks[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    np.testing.assert_array_equal(draw_channels(moved[None, :, :2], 40)[0, 0], plain)
    with pytest.raises(ValueError, match="square"):
        native.draw_landmarks(landmarks, matrix, np.zeros((40, 30), np.float32))
    with pytest.raises(ValueError, match="68"):
        native.draw_landmarks(landmarks[:5], matrix, plain)


def test_critic_and_network_learn_from_losses_of_their_own():
    torch.manual_seed(0)
    critic, images = SelfCritic(32, 3, 15), torch.randn(4, 3, 32, 32)
    rows, true_rows = torch.randn(4, 15, requires_grad=True), torch.randn(4, 15)
    critic.doubt(images, rows).sum().backward()
    assert rows.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in critic.parameters())
    rows.grad = None
    critic.error(images, rows, true_rows).sum().backward()
    assert rows.grad is None
    assert all(parameter.grad.abs().sum() > 0 for parameter in critic.parameters())
    # Values: - log p of the rows, and binary cross-entropy
    score, true_score = critic(images, rows), critic(images, true_rows)
    torch.testing.assert_close(critic.doubt(images, rows), -torch.log(torch.sigmoid(score)))
    entropy = -torch.log(torch.sigmoid(true_score)) - torch.log(1 - torch.sigmoid(score))
    torch.testing.assert_close(critic.error(images, rows, true_rows), entropy)


@pytest.mark.slow
def test_a_critic_learns_whether_numbers_belong_to_the_picture():
    """Labels are the mean brightness of the picture in every number, predictions that of another one."""
    torch.manual_seed(0)
    critic = SelfCritic(32, 3, 15)
    optimiser = torch.optim.Adam(critic.parameters(), lr=2e-3)

    def draw():
        level = torch.randn(64, 1)
        return level[:, :, None, None].expand(64, 3, 32, 32), level.roll(1, 0).expand(64, 15), level.expand(64, 15)

    for _ in range(150):
        optimiser.zero_grad()
        critic.error(*draw()).mean().backward()
        optimiser.step()
    images, rows, true_rows = draw()
    assert (critic(images, true_rows) > critic(images, rows)).float().mean() > 0.9


def test_losses_are_parsed():
    assert parse_losses("coefficients=1,cycle=0.5,critic=0") == {"coefficients": 1.0, "cycle": 0.5}
    for text, message in (
        ("nonsense=1", "no loss is called 'nonsense'; there are coefficients"),
        ("cycle", "NAME=WEIGHT"),
        ("cycle=x", "NAME=WEIGHT"),
        ("cycle=-1", "from 0 on"),
        ("cycle=nan", "from 0 on"),
        ("critic=0", "switches all losses off"),
    ):
        with pytest.raises(ValueError, match=message):
            parse_losses(text)


def test_losses_of_a_landmark_channel_need_one():
    check_losses(dict.fromkeys(LOSSES, 1.0), has_channel=True)
    with pytest.raises(FaceMeshError, match="cycle: the network takes no landmarks"):
        check_losses({"cycle": 1.0}, has_channel=False)


@pytest.mark.parametrize("kind", [Tiny, TinyWithoutPose])
def test_offsets_are_squares_by_shape_and_five_times_by_expression(kind):
    network = kind()
    whitened(network, toy_crops(network))
    numbers = FaceNumbers(toy_face_model(), network)
    rows, true_rows = torch.randn(2, 3, network.count, generator=torch.Generator().manual_seed(0))
    model = toy_face_model()
    low, high = (reduce(model.mean[model.keypoints68, :2], axis=0) for reduce in (np.min, np.max))
    basis = model.basis.reshape(len(model.mean), 3, -1)[::24] / np.sqrt((high - low).prod())
    wrong = ((rows - true_rows) * torch.from_numpy(network.whitening.std))[:, network.pose_count :].numpy()
    by_shape, by_expression = (
        np.square(np.einsum("vdc,bc->bvd", basis[:, :, part], wrong[:, part])).sum(2).mean(1)
        for part in (slice(0, 2), slice(2, 3))
    )
    found = OffsetLoss(numbers, network.shape_count)(rows, true_rows)
    np.testing.assert_allclose(found, by_shape + 5 * by_expression, rtol=1e-4)
