"""Position maps as targets, and the loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.training.toy import toy_face_model, toy_labels
from training.uv.targets import PositionMapLoss, PositionMapTargets, bilinear_sampling, lowest_z
from training.uv.uv_layout import build_topology, region_weights


@pytest.fixture(scope="module")
def model():
    return toy_face_model()


def identity_poses(count: int) -> torch.Tensor:
    return torch.eye(3, 4).repeat(count, 1, 1)


def test_map_holds_the_face_model_at_every_pixel(model):
    """The toy's shape is linear in UV in x and y, so pixel (row, column) of the map has a known x and y."""
    targets = PositionMapTargets(model, build_topology(model), 64)
    maps, _ = targets(torch.zeros(1, 3), identity_poses(1), torch.tensor([False]))
    centre = (np.arange(64) + 0.5) * 4 - 0.5  # px of the 256 map
    expected = centre / 255 * 2 - 1
    np.testing.assert_allclose(maps[0, 0].numpy(), np.tile(expected, (64, 1)), atol=2e-3)
    np.testing.assert_allclose(maps[0, 1].numpy(), np.tile(-expected[:, None], (1, 64)), atol=2e-3)


def test_landmarks_equal_the_projected_key_points(model):
    labels = toy_labels(model, 5)
    poses = torch.zeros(5, 3, 4)
    poses[:, :, :3] = torch.from_numpy(labels.scale[:, None, None] * labels.rotation)
    poses[:, :, 3] = torch.from_numpy(labels.translation)
    targets = PositionMapTargets(model, build_topology(model), 64)
    _, landmarks = targets(torch.from_numpy(labels.coefficients), poses, torch.zeros(5, dtype=torch.bool))
    np.testing.assert_allclose(landmarks.numpy(), labels.pts68, atol=0.3)  # UV pixels are rounded: 1/255 of about 60 px


def test_mirrored_map_is_the_map_of_the_mirrored_face(model):
    """A face symmetric in x, its picture mirrored: the map must come out as for the unmirrored pose."""
    targets = PositionMapTargets(model, build_topology(model), 64)
    coefficients = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    mirrored_pose = identity_poses(2)
    mirrored_pose[:, 0, 0] = -1
    plain = targets(coefficients, identity_poses(2), torch.tensor([False, False]))
    mirrored = targets(coefficients, mirrored_pose, torch.tensor([True, True]))
    for a, b in zip(plain, mirrored, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=0)


def test_lowest_vertex_is_the_origin_of_z(model):
    labels = toy_labels(model, 70)  # more than one chunk
    floor = lowest_z(model, labels)
    for row in (0, 69):
        vertices = labels.scale[row] * model.vertices(labels.coefficients[row]) @ labels.rotation[row].T
        assert floor[row] == pytest.approx(vertices[:, 2].min(), abs=1e-3)


def test_bilinear_sampling_is_exact_on_a_linear_map():
    column, row = np.meshgrid(np.arange(64), np.arange(64))
    pixels = np.array([10 * 256 + 20, 100 * 256 + 37, 200 * 256 + 250])
    sampling = bilinear_sampling(pixels, 64)
    np.testing.assert_allclose(sampling.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(sampling @ column.ravel(), (pixels % 256 + 0.5) / 4 - 0.5, atol=1e-4)
    np.testing.assert_allclose(sampling @ row.ravel(), (pixels // 256 + 0.5) / 4 - 0.5, atol=1e-4)


def test_loss_is_the_distance_in_face_sizes_and_ignores_what_is_not_face(model):
    topology = build_topology(model)
    weights = region_weights(topology)
    loss = PositionMapLoss(weights, topology, 64, landmark_weight=2.0)
    target = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 10
    wanted = loss.landmarks(target)
    size = torch.tensor([50.0])
    shifted = target + torch.tensor([3.0, 4.0, 0.0])[None, :, None, None]
    assert loss(target, target, wanted, size).item() < 1e-3
    assert loss(shifted, target, wanted, size).item() == pytest.approx(
        0.1 * (1 + 2), rel=1e-3
    )  # 5 px of 50, map and landmarks
    neck = target.clone()
    neck[:, :, -8:] += 100.0  # below the chin
    assert loss(neck, target, wanted, size).item() < 1e-3
