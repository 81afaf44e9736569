"""The linear face model (3DMM): a mean shape, bases of shape and expression, and UV coordinates."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.errors import FaceMeshError
from runtime.storage.npz_files import check_shapes, read_npz

KEYS = ("mean", "shape_basis", "exp_basis", "triangles", "uv", "keypoints68", "symmetry")


@dataclass(frozen=True, eq=False)
class FaceModel:
    """V vertices moved by C coefficients, shape first, then expression.

    Model frame: x right, y up, z towards the camera.
    """

    mean: NDArray[np.float32]  # (V, 3) neutral face, model units
    basis: NDArray[np.float32]  # (3V, C) rows x0 y0 z0 x1 ..., model units per unit of coefficient
    shape_count: int  # how many of the C columns are shape; the rest are expression
    triangles: NDArray[np.int32]  # (T, 3)
    uv: NDArray[np.float32]  # (V, 2) in 0..1, v upwards
    keypoints68: NDArray[np.int32]  # (68,) vertices, iBUG 300-W order
    symmetry: NDArray[np.int32]  # (V,) mirror vertex of each

    @property
    def expression_count(self) -> int:
        return self.basis.shape[1] - self.shape_count

    def vertices(self, coefficients: NDArray[np.floating]) -> NDArray[np.float32]:
        """(C,) coefficients -> (V, 3) model units."""
        return self.mean + (self.basis @ coefficients.astype(np.float32)).reshape(-1, 3)

    def landmarks(self, coefficients: NDArray[np.floating]) -> NDArray[np.float32]:
        """(N, C) coefficients -> (N, 68, 3) model units, without making the whole faces."""
        basis = self.basis.reshape(len(self.mean), 3, -1)[self.keypoints68]
        return self.mean[self.keypoints68] + np.einsum(
            "kdc,nc->nkd", basis, coefficients.astype(np.float32), optimize=True
        )


def load_face_model(path: str | os.PathLike[str]) -> FaceModel:
    """Read an ``.npz`` with the keys `KEYS`; bases may be float16 and have any number of columns (40 + 10, 199 + 29).

    The arrays are read-only. Raises `FaceMeshError` that names the file and the array at fault.
    """
    arrays = read_npz(Path(path), KEYS, what="a face model")
    try:
        _check(arrays)
    except ValueError as error:
        raise FaceMeshError(f"{path}: {error}; give an intact face model") from None
    fields = {
        "mean": arrays["mean"].astype(np.float32),
        "basis": np.concatenate([arrays["shape_basis"], arrays["exp_basis"]], axis=1).astype(np.float32),
        "triangles": arrays["triangles"].astype(np.int32),
        "uv": arrays["uv"].astype(np.float32),
        "keypoints68": arrays["keypoints68"].astype(np.int32),
        "symmetry": arrays["symmetry"].astype(np.int32),
    }
    for array in fields.values():
        array.setflags(write=False)
    return FaceModel(shape_count=arrays["shape_basis"].shape[1], **fields)


def _check(arrays: dict[str, NDArray]) -> None:
    """Shapes, types and ranges; raises `ValueError` that names the array."""
    count = arrays["uv"].size // 2
    shapes = {"mean": (count, 3), "shape_basis": (3 * count, -1), "exp_basis": (3 * count, -1), "triangles": (-1, 3)}
    check_shapes(arrays, {**shapes, "uv": (count, 2), "keypoints68": (68,), "symmetry": (count,)})
    for key in ("mean", "shape_basis", "exp_basis", "uv"):
        if arrays[key].dtype.kind != "f" or not np.isfinite(arrays[key]).all():
            raise ValueError(f"{key} must be finite floating-point numbers")
    if arrays["uv"].min() < 0 or arrays["uv"].max() > 1:
        raise ValueError("uv must lie in 0..1")
    for key in ("triangles", "keypoints68", "symmetry"):
        if arrays[key].dtype.kind not in "iu" or arrays[key].min() < 0 or arrays[key].max() >= count:
            raise ValueError(f"{key} must be vertex numbers below {count}")
