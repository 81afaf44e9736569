"""A small synthetic face set: a curved sheet as face model, pictures whose colours encode the place."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import cv2
import numpy as np

from runtime.families.face_model import FaceModel
from training.data.labels import FaceLabels
from training.uv.uv_layout import FACE_LEFT_EDGE

SIDE = 17  # vertices along an edge of the sheet


def toy_face_model() -> FaceModel:
    """289 vertices over the whole UV square, two shape columns and one expression column; symmetric in x."""
    u, v = np.meshgrid(np.linspace(0, 1, SIDE), np.linspace(1, 0, SIDE))
    x, y = 2 * u.ravel() - 1, 2 * v.ravel() - 1
    mean = np.stack([x, y, 0.8 - 0.5 * x**2 - 0.2 * y**2], 1)
    columns = [
        np.stack(c, 1)
        for c in ((0.1 * x, 0 * x, 0 * x), (0 * x, 0.1 * y, 0.05 * x**2), (0 * x, 0 * x, 0.1 * np.cos(3 * y)))
    ]
    corner = np.arange(SIDE * (SIDE - 1)).reshape(SIDE - 1, SIDE)[:, :-1].ravel()
    # Clockwise as one sees them in a picture, as the triangles of the real face model.
    below = corner + SIDE
    triangles = np.concatenate([np.stack([corner, corner + 1, below], 1), np.stack([corner + 1, below + 1, below], 1)])
    inside = np.flatnonzero((np.abs(x) < 0.6) & (y > -0.4) & (y < 0.9))
    assert FACE_LEFT_EDGE[0][0] < 255 * 0.2  # the chosen landmarks are face
    keypoints = inside[np.linspace(0, len(inside) - 1, 68).astype(int)]
    return FaceModel(
        mean=mean.astype(np.float32),
        basis=np.stack([column.ravel() for column in columns], 1).astype(np.float32),
        shape_count=2,
        triangles=triangles.astype(np.int32),
        uv=np.stack([u.ravel(), v.ravel()], 1).astype(np.float32),
        keypoints68=keypoints.astype(np.int32),
        symmetry=np.arange(SIDE * SIDE).reshape(SIDE, SIDE)[:, ::-1].ravel().astype(np.int32),
    )


def toy_labels(model: FaceModel, count: int, side: int = 160, seed: int = 0) -> FaceLabels:
    """Faces turned by up to ±40° in every axis, in the middle of square pictures; every fourth row is for
    validation."""
    generator = np.random.default_rng(seed)
    coefficients = generator.normal(size=(count, 3)).astype(np.float32)
    rotation = np.stack(
        [np.diag([1.0, -1.0, 1.0]) @ _rotation(*np.deg2rad(generator.uniform(-40, 40, 3))) for _ in range(count)]
    )
    scale = generator.uniform(22, 30, count)
    translation = np.concatenate([side / 2 + generator.uniform(-6, 6, (count, 2)), np.zeros((count, 1))], 1)
    points = scale[:, None, None] * model.landmarks(coefficients) @ rotation.transpose(0, 2, 1) + translation[:, None]
    return FaceLabels(
        names=np.array([f"{index}.jpg" for index in range(count)]),
        source=np.array(["left" if index % 2 else "right" for index in range(count)]),
        size=np.full(count, side, np.int32),
        scale=scale.astype(np.float32),
        rotation=rotation.astype(np.float32),
        translation=translation.astype(np.float32),
        coefficients=coefficients,
        pts68=points.astype(np.float32),
        box=np.concatenate([points[..., :2].min(1), points[..., :2].max(1)], 1).astype(np.float32),
        yaw_deg=np.rad2deg(np.arctan2(rotation[:, 0, 2], rotation[:, 2, 2])).astype(np.float32),
        is_val=np.arange(count) % 4 == 3,
    )


def coordinate_pictures(labels: FaceLabels) -> list[np.ndarray]:
    """(S, S, 3) uint8 each: blue is x, green is y, in px; red is 200."""
    side = int(labels.size[0])
    y, x = np.mgrid[:side, :side]
    return [np.dstack([x, y, np.full_like(x, 200)]).astype(np.uint8)] * len(labels.names)


def dot_pictures(labels: FaceLabels) -> list[np.ndarray]:
    """(S, S, 3) uint8 each: a bright dot at every landmark, its colour its number."""
    pictures = []
    for side, points in zip(labels.size, labels.pts68, strict=True):
        picture = np.zeros((side, side, 3), np.uint8)
        for number, (x, y, _) in enumerate(points):
            cv2.circle(picture, (round(float(x)), round(float(y))), 3, (255 - 3 * number, 55 + 3 * number, 128), -1)
        pictures.append(picture)
    return pictures


def write_toy_set(
    folder: Path, labels: FaceLabels, pictures: list[np.ndarray], name: str = "toy", **extra: np.ndarray
) -> Path:
    """Write NAME.npz, NAME.tar and face_model.npz in the layout of the project's data; return their stem.

    ``extra`` arrays are added to the npz.
    """
    model = toy_face_model()
    bases = {"shape_basis": model.basis[:, :2], "exp_basis": model.basis[:, 2:]}
    fields = {field: getattr(model, field) for field in ("mean", "triangles", "uv", "keypoints68", "symmetry")}
    np.savez(folder / "face_model.npz", **fields, **bases)
    names = (
        "names",
        "source",
        "size",
        "scale",
        "rotation",
        "translation",
        "pts68",
        "box",
        "yaw_deg",
        "is_val",
        "hand68",
        "visible68",
    )
    arrays = {field: getattr(labels, field) for field in names if getattr(labels, field) is not None} | extra
    np.savez(folder / f"{name}.npz", **arrays, shape=labels.coefficients[:, :2], exp=labels.coefficients[:, 2:])
    with tarfile.open(folder / f"{name}.tar", "w") as tar:
        for member_name, picture in zip(labels.names, pictures, strict=True):
            jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
            member = tarfile.TarInfo(member_name)
            member.size = len(jpeg)
            tar.addfile(member, io.BytesIO(jpeg))
    return folder / name


def _rotation(pitch: float, yaw: float, roll: float) -> np.ndarray:
    def about(axis: int, angle: float) -> np.ndarray:
        matrix = np.eye(3)
        i, j = [k for k in range(3) if k != axis]
        matrix[[i, i, j, j], [i, j, i, j]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        return matrix

    return about(0, pitch) @ about(1, yaw) @ about(2, roll)
