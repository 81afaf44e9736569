"""The linear face model (3DMM): a mean shape, bases of shape and expression, and UV coordinates."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import FaceMeshError
from runtime.storage.npz_files import check_shapes, read_npz

KEYS = ("mean", "shape_basis", "exp_basis", "triangles", "uv", "keypoints68", "symmetry")
BASES = ("shape_basis", "exp_basis")
SCALE = "basis_scale"  # of INT8 bases alone
SCALE_BLOCK = 64  # vertices that share a scale, per axis and coefficient
PRECISIONS = {"float32": "fp32", "float64": "fp32", "float16": "fp16", "int8": "int8"}


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
    precision: str = "fp32"  # of the basis in its file: "fp32", "fp16" or "int8"; decoders hold it in as many bits

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
    """Read an ``.npz`` with the keys `KEYS`; bases may have any number of columns (40 + 10, 199 + 29).

    They are float32, float16, or int8 with the array ``basis_scale``, see `quantise_basis`. The arrays are read-only.
    Raises `FaceMeshError` that names the file and the array at fault.
    """
    arrays = read_npz(Path(path), KEYS, (SCALE,), what="a face model")
    try:
        check_arrays(arrays)
    except ValueError as error:
        remedy = "give an intact face model, 'python -m export face-model' makes one"
        raise FaceMeshError(f"{path}: {error}; {remedy}") from None
    precision = PRECISIONS[arrays["shape_basis"].dtype.name]
    fields: dict[str, NDArray[Any]] = {
        "mean": arrays["mean"].astype(np.float32),
        "basis": dequantise_basis(arrays),
        "triangles": arrays["triangles"].astype(np.int32),
        "uv": arrays["uv"].astype(np.float32),
        "keypoints68": arrays["keypoints68"].astype(np.int32),
        "symmetry": arrays["symmetry"].astype(np.int32),
    }
    for array in fields.values():
        array.setflags(write=False)
    return FaceModel(shape_count=arrays["shape_basis"].shape[1], precision=precision, **fields)


def quantise_basis(basis: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return a basis (3V, C) as int8 and its scales (B, 3, C), one for every `SCALE_BLOCK` vertices.

    basis = int8 * scale of the row's block and axis. The largest magnitude of a block becomes 127.
    """
    blocks = -(-len(basis) // (3 * SCALE_BLOCK))
    padded = np.zeros((blocks * SCALE_BLOCK, 3, basis.shape[1]), np.float32)
    padded.reshape(-1, basis.shape[1])[: len(basis)] = basis
    scale = np.abs(padded).reshape(blocks, SCALE_BLOCK, 3, -1).max(axis=1) / np.float32(127)
    divisor = np.where(scale > 0, scale, 1).astype(np.float32)
    return np.rint(basis / _by_row(divisor, len(basis))).astype(np.int8), scale


def dequantise_basis(arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """Return the basis (3V, C) of the arrays of a file, shape first, as float32."""
    basis = np.concatenate([arrays[key] for key in BASES], axis=1).astype(np.float32, order="C")
    if SCALE in arrays:
        basis *= _by_row(arrays[SCALE], len(basis))
    return basis


def _by_row(scale: NDArray[np.float32], rows: int) -> NDArray[np.float32]:
    """Return the scales (B, 3, C) of blocks as (3V, C), one for every entry of a basis."""
    return np.repeat(scale, SCALE_BLOCK, axis=0).reshape(-1, scale.shape[2])[:rows]


def check_arrays(arrays: Mapping[str, NDArray[Any]]) -> None:
    """Check shapes, types and ranges of the arrays of a file; raises `ValueError` that names the array."""
    count = arrays["uv"].size // 2
    shapes = {"mean": (count, 3), "shape_basis": (3 * count, -1), "exp_basis": (3 * count, -1), "triangles": (-1, 3)}
    check_shapes(arrays, {**shapes, "uv": (count, 2), "keypoints68": (68,), "symmetry": (count,)})
    is_int8 = arrays["shape_basis"].dtype == np.int8
    if is_int8:
        _check_scale(arrays)
    for key in ("mean", "uv", *(() if is_int8 else BASES)):
        if arrays[key].dtype.kind != "f" or not np.isfinite(arrays[key]).all():
            raise ValueError(f"{key} must be finite floating-point numbers")
    if arrays["shape_basis"].dtype.name not in PRECISIONS or arrays["shape_basis"].dtype != arrays["exp_basis"].dtype:
        found = f"{arrays['shape_basis'].dtype} and {arrays['exp_basis'].dtype}"
        raise ValueError(f"shape_basis and exp_basis must both be float32, float16 or int8, are {found}")
    if arrays["uv"].min() < 0 or arrays["uv"].max() > 1:
        raise ValueError("uv must lie in 0..1")
    for key in ("triangles", "keypoints68", "symmetry"):
        if arrays[key].dtype.kind not in "iu" or arrays[key].min() < 0 or arrays[key].max() >= count:
            raise ValueError(f"{key} must be vertex numbers below {count}")


def _check_scale(arrays: Mapping[str, NDArray[Any]]) -> None:
    """Check the scales of an INT8 basis."""
    if SCALE not in arrays:
        raise ValueError(f"shape_basis is int8 and there is no {SCALE}")
    blocks = -(-len(arrays["mean"]) // SCALE_BLOCK)
    check_shapes(arrays, {SCALE: (blocks, 3, sum(arrays[key].shape[1] for key in BASES))})
    if arrays[SCALE].dtype.kind != "f" or not np.isfinite(arrays[SCALE]).all() or arrays[SCALE].min() < 0:
        raise ValueError(f"{SCALE} must be finite floating-point numbers, not negative")
