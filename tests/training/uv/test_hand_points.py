"""Loss against points by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from training.uv.hand_points import HandPointLoss
from training.uv.landmarks68 import INNER, MIRROR

FACES = 6


@pytest.fixture
def landmarks() -> Tensor:
    return torch.rand(FACES, 68, 3, generator=torch.Generator().manual_seed(0)) * 100


@pytest.fixture
def source() -> Tensor:
    return torch.tensor([0, 1] * (FACES // 2))


SIZES = torch.full((FACES,), 50.0)


def turned(angle_deg: float) -> Tensor:
    """Return poses (FACES, 3, 4) of faces turned in the image plane; y of the model points up."""
    c, s = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    linear = 30 * torch.tensor([[c, s], [s, -c]], dtype=torch.float32)
    poses = torch.zeros(FACES, 3, 4)
    poses[:, :2, :2] = linear
    poses[:, 2, 2] = 30.0
    return poses


def test_exact_points_have_no_loss(landmarks, source):
    loss = HandPointLoss(["a", "b"])
    assert loss(landmarks, landmarks[..., :2], turned(0), source, SIZES).item() == pytest.approx(0, abs=2e-4)


def test_the_unit_is_the_size_of_the_face(landmarks, source):
    distance, known = HandPointLoss(["a", "b"]).distances(
        landmarks, landmarks[..., :2] + torch.tensor([3.0, 4.0]), turned(0), source, SIZES
    )
    assert known.all()
    torch.testing.assert_close(distance, torch.full_like(distance, 5 / 50))


def test_missing_points_and_the_contour_count_as_nothing(landmarks, source):
    hand68 = landmarks[..., :2] + torch.tensor([3.0, 4.0])
    hand68[:, 20:] = torch.nan
    landmarks = landmarks.requires_grad_()
    loss = HandPointLoss(["a", "b"])
    value = loss(landmarks, hand68, turned(0), source, SIZES)
    assert value.item() == pytest.approx(3 * (5 / 50) / 51, rel=1e-3)  # points 17, 18, 19 of the 51
    value.backward()
    assert landmarks.grad.isfinite().all()
    moved = landmarks.grad.abs().sum((0, 2)) > 0
    assert moved.nonzero().flatten().tolist() == [17, 18, 19]


def test_offsets_of_a_source_are_learned_along_the_axes_of_the_face(landmarks, source):
    """Source 1 marks every point 2 px lower on the face, in upright pictures and in ones turned by 90 degrees."""
    loss = HandPointLoss(["a", "b"], prior=0.0)
    optimiser = torch.optim.Adam(loss.parameters(), lr=2e-3)
    hand68 = {angle: landmarks[..., :2].clone() for angle in (0, 90)}
    for angle, points in hand68.items():
        down = -turned(angle)[0, :2, 1] / 30
        points[source == 1] += 2 * down
    for _ in range(100):
        optimiser.zero_grad()
        sum(loss(landmarks, points, turned(angle), source, SIZES) for angle, points in hand68.items()).backward()
        optimiser.step()
    offsets = loss.symmetric_offsets()[:, INNER].detach()
    torch.testing.assert_close(offsets[1], torch.tensor([0.0, 2 / 50]).expand(51, 2), atol=4e-3, rtol=0)
    torch.testing.assert_close(offsets[0], torch.zeros(51, 2), atol=4e-3, rtol=0)


def test_offsets_of_a_mirrored_face_are_mirrored(landmarks, source):
    loss = HandPointLoss(["a", "b"])
    with torch.no_grad():
        loss.offsets.normal_(generator=torch.Generator().manual_seed(2))
    offsets = loss.symmetric_offsets()
    torch.testing.assert_close(offsets[:, MIRROR] * torch.tensor([-1.0, 1.0]), offsets)
    hand68 = landmarks[..., :2] + 1
    flip = torch.tensor([-1.0, 1.0])
    plain, _ = loss.distances(landmarks[..., :2], hand68, turned(0), source, SIZES)
    mirrored, _ = loss.distances(landmarks[:, MIRROR, :2] * flip, hand68[:, MIRROR] * flip, turned(0), source, SIZES)
    torch.testing.assert_close(mirrored, plain[:, MIRROR[INNER] - INNER.start])


def test_the_prior_pulls_offsets_to_zero(landmarks, source):
    loss = HandPointLoss(["a", "b"], prior=0.5)
    with torch.no_grad():
        loss.offsets.fill_(0.1)
    nothing = torch.full((FACES, 68, 2), torch.nan)
    value = loss(landmarks, nothing, turned(0), source, SIZES)
    assert value.item() == pytest.approx(0.5 * loss.symmetric_offsets().square().sum().item())
    assert value.item() > 0
