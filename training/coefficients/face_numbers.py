"""Between labels, the whitened numbers of a network, and points of the face in crop pixels."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from runtime.errors import FaceMeshError
from runtime.families.face_model import FaceModel
from training.data.dataset import CropBatch
from training.networks.coefficients import CoefficientNetwork, Whitening

POSE_COUNT = 12
DEPTH_SHIFT = 11  # number of the pose that has no meaning: z has no origin under weak perspective
VERTEX_STEP = 24  # vertices of a face that losses look at: every so many-th


class FaceNumbers(nn.Module):
    """Rows of whitened numbers and the landmarks and vertices that they mean, for one face model and one network.

    Points are (B, N, 3) crop px: x right, y down, z towards the camera, from the model's own origin. A network without
    pose takes that of the label.
    """

    def __init__(self, model: FaceModel, network: CoefficientNetwork) -> None:
        """Take split, origin and whitening from ``network``. Raises `FaceMeshError` if the model does not fit."""
        super().__init__()
        wanted, found = (network.shape_count, network.expression_count), (model.shape_count, model.expression_count)
        if wanted != found:
            raise FaceMeshError(
                f"the face model has {found[0]} + {found[1]} coefficients of shape and expression, the network "
                f"{wanted[0]} + {wanted[1]}; give --face-model and data that fit it"
            )
        self.pose_count = network.pose_count
        self.origin = network.origin
        whitening = network.whitening or unit_whitening(network.count)
        self.register_buffer("number_mean", torch.from_numpy(whitening.mean), persistent=False)
        self.register_buffer("number_std", torch.from_numpy(whitening.std), persistent=False)
        vertices = np.arange(0, len(model.mean), VERTEX_STEP)
        for name, rows in (("landmark", model.keypoints68), ("vertex", vertices)):
            self.register_buffer(f"{name}_basis", _columns(model, rows), persistent=False)
            self.register_buffer(f"mirrored_{name}_basis", _columns(model, model.symmetry[rows]), persistent=False)
        matrix, shift = mirror_map(model)
        self.register_buffer("mirror_matrix", torch.from_numpy(matrix), persistent=False)
        self.register_buffer("mirror_shift", torch.from_numpy(shift), persistent=False)

    def rows(self, coefficients: Tensor, poses: Tensor, mirrored: Tensor) -> Tensor:
        """Return the whitened numbers (B, P) of labels: coefficients (B, C), poses (B, 3, 4) as in `CropBatch`.

        ``mirrored`` (B,) bool: the face that is seen is the mirror image of the label's, whose coefficients follow.
        """
        turned = coefficients @ self.mirror_matrix.T + self.mirror_shift
        numbers = torch.where(mirrored[:, None], turned, coefficients)
        if self.pose_count:
            numbers = torch.cat([self._pose_numbers(poses, mirrored), numbers], 1)
        return (numbers - self.number_mean) / self.number_std

    def _pose_numbers(self, poses: Tensor, mirrored: Tensor) -> Tensor:
        sign = torch.where(mirrored, -1.0, 1.0)[:, None, None]
        linear = torch.cat([poses[:, :, :1] * sign, poses[:, :, 1:3]], 2)
        right, top = self.origin
        depth = self.number_mean[DEPTH_SHIFT].expand(len(poses), 1)
        x = torch.cat([linear[:, 0], poses[:, 0, 3:] - right], 1)
        y = torch.cat([-linear[:, 1], top - poses[:, 1, 3:]], 1)
        return torch.cat([x, y, linear[:, 2], depth], 1)

    def numbers(self, rows: Tensor) -> Tensor:
        """Return what whitened rows (B, P) mean."""
        return rows * self.number_std + self.number_mean

    def points(self, rows: Tensor, poses: Tensor, mirrored: Tensor) -> tuple[Tensor, Tensor]:
        """Return landmarks (B, 68, 3) and vertices (B, V / `VERTEX_STEP`, 3) of whitened rows (B, P).

        ``poses`` and ``mirrored`` as in `rows`; networks with a pose of their own have no use for them.
        """
        numbers = self.numbers(rows)
        if self.pose_count:
            pose = numbers[:, :POSE_COUNT].unflatten(1, (3, 4))
            right, top = self.origin
            flip = torch.tensor([1.0, -1.0, 1.0], device=rows.device)
            linear = pose[:, :, :3] * flip[:, None]
            shift = torch.stack([pose[:, 0, 3] + right, top - pose[:, 1, 3], torch.zeros_like(pose[:, 0, 3])], 1)
        else:
            sign = torch.where(mirrored, -1.0, 1.0)[:, None, None]
            linear = torch.cat([poses[:, :, :1] * sign, poses[:, :, 1:3]], 2)
            shift = _without_depth(poses[:, :, 3])
        coefficients = numbers[:, self.pose_count :]
        return tuple(_place(basis, coefficients, linear, shift) for basis in (self.landmark_basis, self.vertex_basis))

    def true_points(self, coefficients: Tensor, poses: Tensor, mirrored: Tensor) -> tuple[Tensor, Tensor]:
        """Return landmarks and vertices of labels; those of mirrored crops are the mirrored ones, exactly."""
        linear, shift = poses[:, :, :3], _without_depth(poses[:, :, 3])
        pairs = (
            (self.landmark_basis, self.mirrored_landmark_basis),
            (self.vertex_basis, self.mirrored_vertex_basis),
        )
        return tuple(
            torch.where(
                mirrored[:, None, None],
                _place(other, coefficients, linear, shift),
                _place(basis, coefficients, linear, shift),
            )
            for basis, other in pairs
        )


def unit_whitening(count: int) -> Whitening:
    """Return the whitening that changes nothing."""
    return Whitening(np.zeros(count, np.float32), np.ones(count, np.float32))


def measure_whitening(numbers: FaceNumbers, coefficients: Tensor, batches: Iterable[CropBatch]) -> Whitening:
    """Return mean and standard deviation of the numbers of labels, as the crops of ``batches`` show them.

    ``numbers`` must not be whitened itself; ``coefficients`` are those of all labels (N, C).
    """
    parts = []
    for batch in batches:
        poses, mirrored = torch.from_numpy(batch.poses), torch.from_numpy(batch.mirrored)
        parts.append(numbers.rows(coefficients[torch.from_numpy(batch.rows)], poses, mirrored))
    rows = torch.cat(parts).double()
    std = rows.std(0, correction=0)
    # A number that does not vary (the depth's shift) needs no scale.
    std = torch.where(std > 1e-6 * (rows.mean(0).abs() + 1e-6), std, 1.0)
    return Whitening(rows.mean(0).float().numpy(), std.float().numpy())


def mirror_map(model: FaceModel) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return matrix (C, C) and shift (C,) from the coefficients of a face to those of its mirror image.

    By least squares over all vertices: a basis need not be symmetric. BFM's leaves 0.4 % of the face's size.
    """
    basis = model.basis.astype(np.float64)
    gram = basis.T @ basis
    flipped = _flipped(model, basis)
    shift = _flipped(model, model.mean.reshape(-1, 1).astype(np.float64)) - model.mean.reshape(-1, 1)
    solution = np.linalg.solve(gram, basis.T @ np.concatenate([flipped, shift], axis=1))
    return solution[:, :-1].astype(np.float32), solution[:, -1].astype(np.float32)


def _flipped(model: FaceModel, columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return columns (3V, K) of the mirrored face: each vertex has its mirror vertex's values, x with another sign."""
    flipped = columns.reshape(len(model.mean), 3, -1)[model.symmetry]
    return (flipped * np.array([-1.0, 1.0, 1.0])[:, None]).reshape(columns.shape)


def _columns(model: FaceModel, rows: NDArray[np.integer]) -> Tensor:
    """Return mean and basis of vertices as one (N, 3, 1 + C) float32."""
    basis = model.basis.reshape(len(model.mean), 3, -1)[rows]
    return torch.from_numpy(np.concatenate([model.mean[rows][..., None], basis], 2).astype(np.float32))


def _place(basis: Tensor, coefficients: Tensor, linear: Tensor, shift: Tensor) -> Tensor:
    """Return points (B, N, 3): a basis (N, 3, 1 + C) by coefficients (B, C), linear parts (B, 3, 3), shifts (B, 3)."""
    weights = torch.cat([torch.ones_like(coefficients[:, :1]), coefficients], 1)
    points = (weights @ basis.flatten(0, 1).T).unflatten(1, (-1, 3))
    return points @ linear.transpose(1, 2) + shift[:, None]


def _without_depth(shift: Tensor) -> Tensor:
    return shift * torch.tensor([1.0, 1.0, 0.0], device=shift.device)
