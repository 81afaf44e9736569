"""Position maps as training targets, made from face-model coefficients on the training device, and their loss."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from runtime.families.face_model import FaceModel
from runtime.families.uv_topology import UVTopology
from training.data.labels import FaceLabels
from training.uv.uv_layout import rasterise_uv


class PositionMapTargets(nn.Module):
    """Coefficients and poses -> position maps (B, 3, M, M) and the 68 landmarks (B, 68, 3), both in crop px.

    The face model is linear, so its basis is resampled once to the M × M pixels of the map and to the 68 landmarks.
    """

    def __init__(self, model: FaceModel, topology: UVTopology, resolution: int) -> None:
        super().__init__()
        self.resolution = resolution
        landmarks = topology.landmark_indices
        mirrored = landmarks // 256 * 256 + 255 - landmarks % 256
        self.register_buffer("map_basis", torch.from_numpy(_uv_basis(model, resolution)))
        full = _uv_basis(model, 256)
        self.register_buffer("landmark_basis", torch.from_numpy(full[landmarks].copy()))
        self.register_buffer("mirrored_landmark_basis", torch.from_numpy(full[mirrored].copy()))

    def forward(self, coefficients: Tensor, poses: Tensor, mirrored: Tensor) -> tuple[Tensor, Tensor]:
        """Return maps and landmarks of ``coefficients`` (B, C), ``poses`` (B, 3, 4), ``mirrored`` (B,) bool."""
        weights = torch.cat([torch.ones_like(coefficients[:, :1]), coefficients], 1)  # the mean shape is column 0
        maps = _project(self.map_basis, weights, poses).unflatten(2, (self.resolution, self.resolution))
        maps = torch.where(mirrored[:, None, None, None], maps.flip(3), maps)
        landmarks = torch.where(
            mirrored[:, None, None],
            _project(self.mirrored_landmark_basis, weights, poses),
            _project(self.landmark_basis, weights, poses),
        )
        return maps, landmarks.transpose(1, 2)


class PositionMapLoss(nn.Module):
    """Weighted mean distance between position maps plus ``landmark_weight`` × the mean distance of the 68 landmarks.

    Distances are Euclidean, in units of the face: sqrt(width × height) of the landmark box, as in the reported NME.
    ``region_weights`` (256, 256) are the paper's (section 3.3): landmarks 16, eyes-nose-mouth 4, face 3, rest 0.
    """

    def __init__(
        self, region_weights: NDArray[np.float32], topology: UVTopology, resolution: int, landmark_weight: float
    ) -> None:
        super().__init__()
        self.landmark_weight = landmark_weight
        weights = torch.from_numpy(cv2.resize(region_weights, (resolution, resolution), interpolation=cv2.INTER_AREA))
        self.register_buffer("weights", weights / weights.sum())
        self.register_buffer("sampling", torch.from_numpy(bilinear_sampling(topology.landmark_indices, resolution)))

    def landmarks(self, maps: Tensor) -> Tensor:
        """Return the landmarks (B, 68, 3) of maps (B, 3, M, M), sampled as the runtime's decoder does."""
        return (maps.flatten(2) @ self.sampling.T).transpose(1, 2)

    def forward(self, maps: Tensor, target_maps: Tensor, target_landmarks: Tensor, box_size_px: Tensor) -> Tensor:
        """Return the loss of each crop (B,); positions are in crop px."""
        distance = (((maps - target_maps) / box_size_px[:, None, None, None]).square().sum(1) + 1e-8).sqrt()
        dense = (distance * self.weights).sum((1, 2))
        shift = (self.landmarks(maps) - target_landmarks) / box_size_px[:, None, None]
        sparse = (shift.square().sum(2) + 1e-8).sqrt()
        return dense + self.landmark_weight * sparse.mean(1)


def bilinear_sampling(indices: NDArray[np.integer], resolution: int) -> NDArray[np.float32]:
    """Return the (N, M²) matrix that samples pixels of the 256 × 256 map, ``indices`` (N,), from an M × M map.

    The sampling is that of `runtime.families.position_map`.
    """
    basis = np.eye(resolution, dtype=np.float32)
    along = cv2.resize(basis, (resolution, 256), interpolation=cv2.INTER_LINEAR)  # (256, M): one axis
    return np.einsum("ni,nj->nij", along[indices // 256], along[indices % 256]).reshape(len(indices), -1)


def lowest_z(model: FaceModel, labels: FaceLabels) -> NDArray[np.float32]:
    """Return z of the lowest vertex of each face, (N,) px of its picture: the origin of z in a position map."""
    lowest = np.empty(len(labels.scale), np.float32)
    mean, basis = torch.tensor(model.mean), torch.tensor(model.basis)
    for start in range(0, len(lowest), 64):
        part = slice(start, start + 64)
        faces = torch.from_numpy(labels.coefficients[part].astype(np.float32)) @ basis.T + mean.reshape(-1)
        depth = faces.unflatten(1, (-1, 3)) @ torch.from_numpy(labels.rotation[part, 2].astype(np.float32))[:, :, None]
        lowest[part] = depth.amin(1)[:, 0].numpy() * labels.scale[part]
    return lowest


def _uv_basis(model: FaceModel, resolution: int) -> NDArray[np.float32]:
    """Return mean shape and basis at the pixels of the M × M map, averaged from 256 × 256: (M², 3, 1 + C)."""
    triangle, barycentric = rasterise_uv(model)
    corners = model.triangles[triangle]  # (256, 256, 3)
    columns = [model.mean, *model.basis.reshape(-1, 3, model.basis.shape[1]).transpose(2, 0, 1)]
    planes = []
    for column in columns:
        at_pixel = np.einsum("hwk,hwkc->hwc", barycentric, column[corners])
        planes.append(cv2.resize(at_pixel, (resolution, resolution), interpolation=cv2.INTER_AREA).reshape(-1, 3))
    return np.stack(planes, axis=2).astype(np.float32)


def _project(basis: Tensor, weights: Tensor, poses: Tensor) -> Tensor:
    """Return (B, 3, P) crop px of a basis (P, 3, 1 + C), weights (B, 1 + C) and poses (B, 3, 4)."""
    points = (weights @ basis.flatten(0, 1).T).unflatten(1, (-1, 3))
    return poses[:, :, :3] @ points.transpose(1, 2) + poses[:, :, 3:]
