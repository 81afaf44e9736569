"""A small head: half an ellipsoid with 68 landmarks that lie as those of a face do, and random poses of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from runtime.families.face_model import FaceModel
from training.labelling.landmark_fit import FaceFit
from training.labelling.point_model import MIRROR68, CoefficientPrior, PointModel, make_point_model

RINGS, SPOKES = 24, 48  # vertices from the nose to the rim, and around
SIGMA = 0.05  # of every coefficient


def head_model() -> FaceModel:
    """1152 vertices, 3 + 2 coefficients; y up, about 2 units wide."""
    ring, spoke = np.meshgrid(np.arange(1, RINGS + 1) / RINGS, 2 * np.pi * np.arange(SPOKES) / SPOKES, indexing="ij")
    u, v = (ring * np.cos(spoke)).ravel(), (ring * np.sin(spoke)).ravel()
    mean = np.stack([u, 1.2 * v, np.sqrt(np.maximum(0, 1.02 - u**2 - v**2))], axis=1)
    mean[:, 2] += 0.35 * np.exp(-12 * (u**2 + v**2))  # the nose tells left from right
    zero = 0 * u
    columns = [
        (u, zero, zero),
        (zero, u**2, zero),
        (zero, zero, mean[:, 2]),
        (zero, np.cos(3 * v), zero),
        (zero, zero, np.cos(4 * v)),
    ]
    places = _landmark_places()
    return FaceModel(
        mean=mean.astype(np.float32),
        basis=np.stack([np.stack(column, axis=1).ravel() for column in columns], axis=1).astype(np.float32),
        shape_count=3,
        triangles=np.array([[0, 1, 2]], np.int32),
        uv=np.stack([u / 2 + 0.5, v / 2 + 0.5], axis=1).astype(np.float32),
        keypoints68=np.array([((u - x) ** 2 + (v - y) ** 2).argmin() for x, y in places], np.int32),
        symmetry=np.arange(len(u), dtype=np.int32),
    )


def _landmark_places() -> np.ndarray:
    """(68, 2) u, v: the contour along the lower rim, the others inside; mirror landmarks lie mirrored."""
    generator = np.random.default_rng(3)
    inner = generator.uniform(-0.55, 0.55, (68, 2))
    places = (inner + inner[MIRROR68] * (-1, 1)) / 2 + np.sign(np.arange(68) - MIRROR68)[:, None] * (0.2, 0)
    angle = np.pi * (1 + np.arange(17) / 16)
    places[:17] = 0.95 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return places


def head_prior() -> CoefficientPrior:
    """Independent coefficients of standard deviation SIGMA."""
    return CoefficientPrior(np.zeros(5), SIGMA * np.eye(5))


def head_points() -> PointModel:
    """The points of the head."""
    return make_point_model(head_model(), head_prior())


def random_fits(count: int, yaw_deg: float, seed: int = 0) -> FaceFit:
    """Faces of 100 px turned by up to ``yaw_deg``, pitch up to 15 degrees, roll up to 25."""
    generator = np.random.default_rng(seed)
    yaw, pitch, roll = np.deg2rad(generator.uniform(-1, 1, (count, 3)) * (yaw_deg, 15, 25)).T
    rotation = _about(2, roll) @ _about(1, yaw) @ _about(0, pitch)
    return FaceFit(
        generator.uniform(90, 110, count),
        rotation,
        generator.uniform(-200, 200, (count, 2)),
        generator.normal(size=(count, 5)),
    )


def _about(axis: int, angle: np.ndarray) -> np.ndarray:
    matrix = np.tile(np.eye(3), (len(angle), 1, 1))
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix[:, first, first] = matrix[:, second, second] = np.cos(angle)
    matrix[:, first, second], matrix[:, second, first] = -np.sin(angle), np.sin(angle)
    return matrix


def save_head_model(path: Path) -> None:
    """Write the head as a face model file with the spread of its coefficients."""
    head = head_model()
    np.savez(
        path,
        mean=head.mean,
        shape_basis=head.basis[:, :3],
        exp_basis=head.basis[:, 3:],
        triangles=head.triangles,
        uv=head.uv,
        keypoints68=head.keypoints68,
        symmetry=head.symmetry,
        shape_mu=np.zeros(3),
        shape_sigma=np.full(3, SIGMA),
        exp_mu=np.zeros(2),
        exp_sigma=np.full(2, SIGMA),
    )
