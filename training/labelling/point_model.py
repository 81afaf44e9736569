"""The face model seen through the points of annotators: 68 landmarks, AFLW's 21 and the curves of the outline.

Lengths are in *face sizes*: sqrt(width * height) of the box of the mean face's 68 landmarks. Axes: x right, y **up**,
z towards the camera. Coefficients are whitened: a face of the prior has latent numbers of mean 0 and variance 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.families.face_model import FaceModel

CONTOUR = 17  # the first 17 of the 68 landmarks run along the jaw
OUTLINE_STEPS = 12  # candidate vertices for each contour point
OUTLINE_REACH = 0.55  # candidates lie on the first part of the way from the contour to the middle of the face
# AFLW's 21 points as means of the 68; the two ears (12, 16) have no landmark.
AFLW21 = (
    *((17,), (19,), (21,), (22,), (24,), (26,)),
    *((36,), (36, 37, 38, 39, 40, 41), (39,), (42,), (42, 43, 44, 45, 46, 47), (45,)),
    *((), (31,), (30,), (35,), ()),
    *((48,), (62, 66), (54,), (8,)),
)
MIRROR68 = np.concatenate(
    [
        *(np.arange(16, -1, -1), np.arange(26, 16, -1), np.arange(27, 31), np.arange(35, 30, -1)),
        *([45, 44, 43, 42, 47, 46], [39, 38, 37, 36, 41, 40]),
        *(np.arange(54, 47, -1), np.arange(59, 54, -1), np.arange(64, 59, -1), np.arange(67, 64, -1)),
    ]
)
MIRROR21 = np.array([5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7, 6, 16, 15, 14, 13, 12, 19, 18, 17, 20])
MIRROR = np.concatenate([MIRROR68, 68 + MIRROR21])  # (89,) of the points in the order of `PointModel`


@dataclass(frozen=True, eq=False)
class CoefficientPrior:
    """A Gaussian over the C coefficients of a face model: ``coefficients = mean + factor @ latent``."""

    mean: NDArray[np.float64]  # (C,)
    factor: NDArray[np.float64]  # (C, C), of full rank

    def coefficients(self, latent: NDArray) -> NDArray[np.float64]:
        """Return (N, C) coefficients of (N, C) latent numbers."""
        return self.mean + latent @ self.factor.T

    def latent(self, coefficients: NDArray) -> NDArray[np.float64]:
        """Return (N, C) latent numbers of (N, C) coefficients."""
        return np.linalg.solve(self.factor, (coefficients - self.mean).T).T


@dataclass(frozen=True, eq=False)
class PointModel:
    """K = 89 observable points (68, then 21) and M candidates for each of the 17 contour points; C latent numbers."""

    size: float  # model units per face size
    middle: NDArray[np.float64]  # (3,) model units, origin of the points
    prior: CoefficientPrior
    mean: NDArray[np.float64]  # (K, 3) face sizes
    basis: NDArray[np.float64]  # (K, 3, C)
    outline_mean: NDArray[np.float64]  # (17, M, 3)
    outline_basis: NDArray[np.float64]  # (17, M, 3, C)
    outward: NDArray[np.float64]  # (17, 2) unit vectors away from the middle of an upright face

    def points(self, latent: NDArray) -> NDArray[np.float64]:
        """Return (N, K, 3) of (N, C) latent numbers."""
        return self.mean + np.tensordot(latent, self.basis, axes=(1, 2))

    def outline_candidates(self, latent: NDArray) -> NDArray[np.float64]:
        """Return (N, 17, M, 3) of (N, C) latent numbers."""
        return self.outline_mean + np.tensordot(latent, self.outline_basis, axes=(1, 3))


def make_point_model(model: FaceModel, prior: CoefficientPrior) -> PointModel:
    """Return the points of ``model`` under ``prior``."""
    vertices = np.concatenate([model.keypoints68[:, None], _outline_vertices(model)], axis=None)
    basis = model.basis.reshape(len(model.mean), 3, -1)[vertices].astype(np.float64)
    mean = model.mean[vertices].astype(np.float64) + basis @ prior.mean
    basis = basis @ prior.factor

    # Lengths in sizes of the mean face, counted from its middle.
    extent = mean[:68, :2].max(axis=0) - mean[:68, :2].min(axis=0)
    size = float(np.sqrt(extent.prod()))
    middle = mean[:68].mean(axis=0)
    mean, basis = (mean - middle) / size, basis / size
    combine = point_combinations()
    outward = mean[:CONTOUR, :2] - mean[CONTOUR:68, :2].mean(axis=0)
    return PointModel(
        size=size,
        middle=middle,
        prior=prior,
        mean=combine @ mean[:68],
        basis=np.tensordot(combine, basis[:68], axes=1),
        outline_mean=mean[68:].reshape(CONTOUR, OUTLINE_STEPS, 3),
        outline_basis=basis[68:].reshape(CONTOUR, OUTLINE_STEPS, 3, -1),
        outward=outward / np.linalg.norm(outward, axis=1, keepdims=True),
    )


def point_combinations() -> NDArray[np.float64]:
    """Return (89, 68): the 68 landmarks themselves, then AFLW's 21 as means of them; the rows of the ears are 0."""
    combine = np.zeros((21, 68))
    for row, members in zip(combine, AFLW21, strict=True):
        row[list(members)] = 1 / max(1, len(members))
    return np.concatenate([np.eye(68), combine])


def _outline_vertices(model: FaceModel) -> NDArray[np.int64]:
    """Return (17, M) vertices on the way in the UV plane from each contour landmark to the middle."""
    uv = model.uv.astype(np.float64)
    landmarks = uv[model.keypoints68]
    steps = np.linspace(0, OUTLINE_REACH, OUTLINE_STEPS)[:, None]
    middle = landmarks[CONTOUR:].mean(axis=0)
    places = landmarks[:CONTOUR, None] + steps * (middle - landmarks[:CONTOUR, None])
    return np.array([[((uv - place) ** 2).sum(axis=1).argmin() for place in row] for row in places])
