"""Labels become whitened numbers, and these the points of the face, as the runtime's decoder has them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from runtime.errors import FaceMeshError
from runtime.families.coefficients import CoefficientOutput, decode_numpy
from runtime.models.spec import ModelSpec
from runtime.tensors import InputSpec
from tests.standins.coefficient_network import wide_face_model
from tests.training.coefficients.tiny import Tiny, TinyWithoutPose, toy_crops, whitened
from tests.training.toy import toy_face_model, toy_labels
from training.coefficients.face_numbers import FaceNumbers, mirror_map
from training.networks import create_network


def faces(network: Tiny):
    crops = toy_crops(network)
    whitened(network, crops)
    batch = crops[1]
    assert batch.mirrored.any()
    assert not batch.mirrored.all()
    arrays = (crops.labels.coefficients[batch.rows], batch.poses, batch.mirrored)
    return FaceNumbers(toy_face_model(), network), *map(torch.from_numpy, arrays), batch, crops


@pytest.mark.parametrize("kind", [Tiny, TinyWithoutPose])
def test_numbers_of_labels_mean_the_labels_points(kind):
    """The toy face is symmetric, so mirrored faces have exact numbers, too."""
    numbers, coefficients, poses, mirrored, batch, _ = faces(kind())
    rows = numbers.rows(coefficients, poses, mirrored)
    assert rows.shape == (8, kind().count)
    truth = numbers.true_points(coefficients, poses, mirrored)
    for found, expected in zip(numbers.points(rows, poses, mirrored), truth, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-3)
    box = truth[0][..., :2].amax(1) - truth[0][..., :2].amin(1)
    np.testing.assert_allclose(box.prod(1).sqrt(), batch.box_size_px, rtol=0.35)  # a turned box has other sides


def test_true_landmarks_lie_on_their_dots():
    """Dots of landmark k have a blue of 255 - 3 k, whichever way the picture was turned or mirrored."""
    network = Tiny()
    numbers, coefficients, poses, mirrored, batch, _ = faces(network)
    labels = toy_labels(toy_face_model(), 64)
    landmarks = numbers.true_points(coefficients, poses, mirrored)[0].numpy()
    for face in np.flatnonzero(~batch.mirrored):
        row = batch.rows[face]
        # crop px of the label's own landmarks by the pose that maps its points
        scale = np.linalg.norm(batch.poses[face, :2, :3]) / np.linalg.norm(labels.scale[row] * labels.rotation[row][:2])
        spread = np.ptp(labels.pts68[row, :, 0]) + np.ptp(labels.pts68[row, :, 1])
        assert np.ptp(landmarks[face, :, 0]) + np.ptp(landmarks[face, :, 1]) == pytest.approx(scale * spread, rel=0.3)
        x, y = landmarks[face, 0, :2]
        pixel = batch.images[face, round(float(y)), round(float(x))].astype(int)
        assert pixel[0] > pixel[1]


def test_points_are_those_of_the_runtime():
    network = Tiny()
    numbers, coefficients, poses, mirrored, *_ = faces(network)
    rows = numbers.rows(coefficients, poses, mirrored)
    landmarks, vertices = numbers.points(rows, poses, mirrored)
    model = toy_face_model()
    output = CoefficientOutput(
        "p", 12, 2, 1, tuple(network.whitening.mean.tolist()), tuple(network.whitening.std.tolist()), network.origin
    )
    spec = ModelSpec(
        "m", "coefficients", InputSpec("image", 32, "NCHW", "BGR", (-1.0, 1.0)), output, 1.4, "f.npz", "fp32", ""
    )
    for face in range(len(rows)):
        mesh = decode_numpy(rows[face].numpy(), np.eye(2, 3), model, spec)
        np.testing.assert_allclose(landmarks[face, :, :2], mesh[1][:, :2], atol=1e-3)
        np.testing.assert_allclose(vertices[face, :, :2], mesh[0][::24, :2], atol=1e-3)
        depth = landmarks[face, :, 2].numpy() - mesh[1][:, 2]
        np.testing.assert_allclose(depth, depth.mean(), atol=1e-3)


def test_measured_whitening_gives_mean_zero_and_deviation_one():
    network = Tiny()
    numbers, *_, crops = faces(network)
    rows = []
    for index in range(len(crops)):
        batch = crops[index]
        arrays = (crops.labels.coefficients[batch.rows], batch.poses, batch.mirrored)
        rows.append(numbers.rows(*map(torch.from_numpy, arrays)))
    rows = torch.cat(rows)
    torch.testing.assert_close(rows.mean(0), torch.zeros(15), rtol=0, atol=1e-4)
    deviations = torch.ones(15)
    deviations[11] = 0  # the depth's shift has no meaning and is always the mean
    torch.testing.assert_close(rows.std(0, correction=0), deviations, rtol=0, atol=1e-3)
    assert network.whitening.std[11] == 1


def test_mirrored_coefficients_make_the_mirrored_face():
    model = toy_face_model()
    crooked = dataclasses.replace(model, basis=model.basis + 0.02 * np.random.default_rng(0).normal(size=(867, 3)))
    for wanted, exact in ((model, True), (crooked, False)):
        matrix, shift = mirror_map(wanted)
        coefficients = np.array([0.7, -1.1, 0.4])
        flipped = wanted.vertices(coefficients)[wanted.symmetry] * (-1, 1, 1)
        found = wanted.vertices(matrix @ coefficients + shift)
        assert (np.abs(found - flipped).max() < 1e-5) == exact
        assert np.linalg.norm(found - flipped) < np.linalg.norm(wanted.vertices(coefficients) - flipped) + 1e-4


def test_a_face_model_of_another_split_is_refused():
    with pytest.raises(FaceMeshError, match=r"2 \+ 1 coefficients .* the network 40 \+ 10"):
        FaceNumbers(toy_face_model(), create_network("mb05"))
    assert FaceNumbers(wide_face_model(), create_network("mb05")).pose_count == 12
