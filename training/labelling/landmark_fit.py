"""Coefficients and pose from 2D points: maximum a posteriori by Gauss-Newton with Huber's weights, many faces at once.

A face is ``scale * rotation[:2] @ points + translation`` (weak perspective), everything as in
`training.labelling.point_model`. Inner points are vertices. A contour point is asked to lie on the visible outline:
its vertex is the outermost of its candidates in the present pose ("landmark marching", Zhu et al., CVPR 2015), and a
shift along the outline costs little.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from training.labelling.definition_offsets import DefinitionOffsets
from training.labelling.point_model import CONTOUR, PointModel

YAW_STARTS_DEG = (-80, -55, -30, 0, 30, 55, 80)
PITCH_STARTS_DEG = (-20, 0, 20)
CHUNK = 256  # faces at a time; bounds the memory to about 100 MB
MAX_TURN_RAD = 0.35  # in one step


@dataclass(frozen=True)
class FitSettings:
    """Knobs of the fit; lengths in face sizes."""

    noise: float = 0.015  # standard deviation of a point of weight 1 in x and in y
    huber: float = 1.5  # knee of Huber's loss, in standard deviations
    outline: bool = True  # contour points mark the visible outline; False: they are vertices like the others
    along_outline: float = 0.25  # weight, as a factor of the residual, of shifts along the outline
    start_spread: float = 0.5  # standard deviation of the latent numbers around a given start; the prior's own is 1
    pose_steps: int = 10
    steps: int = 15


@dataclass(frozen=True, eq=False)
class FaceFit:
    """N fitted faces; y up."""

    scale: NDArray[np.float64]  # (N,)
    rotation: NDArray[np.float64]  # (N, 3, 3) proper
    translation: NDArray[np.float64]  # (N, 2)
    latent: NDArray[np.float64]  # (N, C)

    def select(self, rows: NDArray | slice) -> FaceFit:
        """Return the faces of the rows."""
        return FaceFit(self.scale[rows], self.rotation[rows], self.translation[rows], self.latent[rows])

    def project(self, points: NDArray) -> NDArray[np.float64]:
        """Return (N, K, 3) of (N, K, 3): turned, scaled and shifted; z is only turned and scaled."""
        turned = self.scale[:, None, None] * points @ self.rotation.transpose(0, 2, 1)
        turned[..., :2] += self.translation[:, None]
        return turned

    @property
    def yaw(self) -> NDArray[np.float64]:
        """Yaw (N,) in rad, positive with the nose to the image right."""
        return np.arctan2(self.rotation[:, 0, 2], self.rotation[:, 2, 2])

    @property
    def roll(self) -> NDArray[np.float64]:
        """Angle (N,) in rad from the image's up to the face's up, anticlockwise with y up."""
        return np.arctan2(-self.rotation[:, 0, 1], self.rotation[:, 1, 1])


def fit_points(
    model: PointModel,
    points: NDArray,
    weights: NDArray,
    offsets: DefinitionOffsets,
    settings: FitSettings = FitSettings(),
    start: FaceFit | None = None,
) -> FaceFit:
    """Fit (N, 89, 2) points, y up, with (N, 89) weights, 0 where there is none.

    ``offsets`` brings the points to the definition of the vertices.
    With ``start``, its pose replaces the search and its latent numbers the prior's mean.
    """
    parts = []
    for first in range(0, len(points), CHUNK):
        rows = slice(first, first + CHUNK)
        chunk = points[rows], weights[rows]
        centre = np.zeros((len(chunk[0]), model.basis.shape[2])) if start is None else start.latent[rows]
        fit = _search_pose(model, *chunk) if start is None else start.select(rows)
        for _ in range(settings.pose_steps if start is None else 0):
            fit = _step(model, fit, *chunk, offsets, settings, centre, np.inf)
        stiffness = 1.0 if start is None else settings.start_spread**-2
        for _ in range(settings.steps):
            fit = _step(model, fit, *chunk, offsets, settings, centre, stiffness)
        parts.append(fit)
    names = ("scale", "rotation", "translation", "latent")
    return FaceFit(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def observed_vertices(
    model: PointModel, fit: FaceFit, outline: bool = True
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the projected points (N, 89, 3) and the candidates chosen (N, 17) for the contour.

    With ``outline`` the contour points are those on the visible outline, without they are the landmarks (candidate 0).
    """
    points = fit.project(model.points(fit.latent))
    if not outline:
        return points, np.zeros((len(points), CONTOUR), np.int64)
    candidates = model.outline_candidates(fit.latent)
    shape = candidates.shape
    candidates = fit.project(candidates.reshape(len(candidates), -1, 3)).reshape(shape)
    cos, sin = np.cos(fit.roll), np.sin(fit.roll)
    upright = np.stack([np.stack([cos, -sin], axis=1), np.stack([sin, cos], axis=1)], axis=1)
    outward = model.outward @ upright.transpose(0, 2, 1)
    chosen = np.einsum("nkmi,nki->nkm", candidates[..., :2], outward).argmax(axis=2)
    points[:, :CONTOUR] = np.take_along_axis(candidates, chosen[:, :, None, None], axis=2)[:, :, 0]
    return points, chosen


def _search_pose(model: PointModel, points: NDArray, weights: NDArray) -> FaceFit:
    """Return the best of a grid of turns of the mean face, each with the similarity that solves its least squares."""
    turns = np.stack(
        [_turn(np.deg2rad(yaw), np.deg2rad(pitch)) for yaw in YAW_STARTS_DEG for pitch in PITCH_STARTS_DEG]
    )
    shapes = (model.mean @ turns.transpose(0, 2, 1))[..., 0] + 1j * (model.mean @ turns.transpose(0, 2, 1))[..., 1]
    weights = weights / weights.sum(axis=1, keepdims=True)
    given = np.where(weights > 0, points[..., 0] + 1j * points[..., 1], 0)

    # Complex numbers: similarity is one factor (scale and roll) and one shift.
    given_mean, shape_mean = (weights * given).sum(axis=1), weights @ shapes.T
    spread = weights @ (np.abs(shapes) ** 2).T - np.abs(shape_mean) ** 2
    product = (weights * given) @ shapes.conj().T - given_mean[:, None] * shape_mean.conj()
    best = (np.abs(product) ** 2 / spread).argmax(axis=1)  # the variance explained
    rows = np.arange(len(points))
    factor = product[rows, best] / spread[rows, best]
    shift = given_mean - factor * shape_mean[rows, best]
    angle = np.angle(factor)
    rotation = _rotations(np.stack([0 * angle, 0 * angle, angle], axis=1)) @ turns[best]
    latent = np.zeros((len(points), model.basis.shape[2]))
    return FaceFit(np.abs(factor), rotation, np.stack([shift.real, shift.imag], axis=1), latent)


def _step(
    model: PointModel,
    fit: FaceFit,
    points: NDArray,
    weights: NDArray,
    offsets: DefinitionOffsets,
    settings: FitSettings,
    centre: NDArray,
    stiffness: float,
) -> FaceFit:
    """Return the fit after one Gauss-Newton step; ``stiffness`` infinite moves the pose alone."""
    seen, chosen = observed_vertices(model, fit, settings.outline)
    target = offsets.apply(points, fit.yaw, fit.roll, fit.scale)
    residual = np.where(weights[..., None] > 0, target - seen[..., :2], 0) / fit.scale[:, None, None]
    jacobian = _jacobian(model, fit, seen, chosen, pose_only=np.isinf(stiffness))

    # Along the outline, contour points may slide.
    frame = _outline_frames(seen[:, :CONTOUR, :2], settings.along_outline if settings.outline else 1.0)
    residual[:, :CONTOUR] = np.einsum("nkij,nkj->nki", frame, residual[:, :CONTOUR])
    jacobian[:, :CONTOUR] = frame @ jacobian[:, :CONTOUR]

    # Huber's weights, then the normal equations with the prior of the coefficients.
    distance = np.linalg.norm(residual, axis=2)
    robust = weights * np.minimum(1, settings.huber * settings.noise / np.maximum(distance, 1e-12)) / settings.noise**2
    weighted = (jacobian * robust[..., None, None]).reshape(len(points), -1, jacobian.shape[-1])
    normal = weighted.transpose(0, 2, 1) @ jacobian.reshape(weighted.shape)
    right = np.einsum("nrp,nr->np", weighted, residual.reshape(len(points), -1))
    latent_columns = np.arange(6, jacobian.shape[-1])
    if len(latent_columns):
        normal[:, latent_columns, latent_columns] += stiffness
        right[:, 6:] += stiffness * (centre - fit.latent)
    normal[:, np.arange(6), np.arange(6)] += 1e-6 / settings.noise**2
    return _moved(fit, np.linalg.solve(normal, right[..., None])[..., 0])


def _jacobian(model: PointModel, fit: FaceFit, seen: NDArray, chosen: NDArray, pose_only: bool) -> NDArray[np.float64]:
    """Return (N, 89, 2, 6 + C) in face sizes: ln(scale), turn about x, y, z, shift x, y, latent numbers.

    ``pose_only`` leaves the latent numbers out.
    """
    count = len(seen)
    arm = seen.copy()
    arm[..., :2] -= fit.translation[:, None]
    arm /= fit.scale[:, None, None]
    jacobian = np.zeros((count, seen.shape[1], 2, 6 + (0 if pose_only else model.basis.shape[2])))
    jacobian[..., 0] = arm[..., :2]
    jacobian[..., 0, 2], jacobian[..., 0, 3] = arm[..., 2], -arm[..., 1]
    jacobian[..., 1, 1], jacobian[..., 1, 3] = -arm[..., 2], arm[..., 0]
    jacobian[..., 0, 4] = jacobian[..., 1, 5] = 1
    if not pose_only:
        camera = fit.rotation[:, :2]
        outline = model.outline_basis[np.arange(CONTOUR), chosen]
        jacobian[:, :CONTOUR, :, 6:] = camera[:, None] @ outline
        jacobian[:, CONTOUR:, :, 6:] = camera[:, None] @ model.basis[CONTOUR:]
    return jacobian


def _outline_frames(outline: NDArray, along: float) -> NDArray[np.float64]:
    """Return (N, 17, 2, 2): rows are the outline's normal and ``along`` times its tangent."""
    padded = np.concatenate([outline[:, :1], outline, outline[:, -1:]], axis=1)
    tangent = padded[:, 2:] - padded[:, :-2]
    tangent = tangent / np.maximum(np.linalg.norm(tangent, axis=2, keepdims=True), 1e-9)
    normal = np.stack([tangent[..., 1], -tangent[..., 0]], axis=2)
    return np.stack([normal, along * tangent], axis=2)


def _moved(fit: FaceFit, step: NDArray) -> FaceFit:
    turn = step[:, 1:4]
    turn = turn * np.minimum(1, MAX_TURN_RAD / np.maximum(np.linalg.norm(turn, axis=1, keepdims=True), 1e-12))
    moved = replace(
        fit,
        scale=fit.scale * np.exp(np.clip(step[:, 0], -0.3, 0.3)),
        rotation=_rotations(turn) @ fit.rotation,
        translation=fit.translation + fit.scale[:, None] * step[:, 4:6],
    )
    return replace(moved, latent=fit.latent + step[:, 6:]) if step.shape[1] > 6 else moved


def _rotations(vectors: NDArray) -> NDArray[np.float64]:
    """Return the rotations (N, 3, 3) by rotation vectors (N, 3) in rad (Rodrigues' formula)."""
    angle = np.linalg.norm(vectors, axis=1)[:, None, None]
    x, y, z = (vectors / np.maximum(angle[:, :, 0], 1e-12)).T
    zero = np.zeros_like(x)
    cross = np.stack([np.stack([zero, -z, y], 1), np.stack([z, zero, -x], 1), np.stack([-y, x, zero], 1)], axis=1)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def _turn(yaw: float, pitch: float) -> NDArray[np.float64]:
    about_y, about_x = _rotations(np.array([[0, yaw, 0], [pitch, 0, 0]]))
    return about_y @ about_x
