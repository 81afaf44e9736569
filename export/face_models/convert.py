"""A face model's arrays -> the ``.npz`` of the runtime: layout, precision, and what the files do not tell."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.face_models.sources import SourceArrays
from runtime.errors import FaceMeshError
from runtime.families.face_model import BASES, SCALE, check_arrays, dequantise_basis, quantise_basis
from runtime.storage.whole_files import whole_file

MARGIN = 0.05  # of the model's height: a vertex and its mirror image differ in height by less
ROWS = 512  # vertices whose mirror images are looked for at a time


def face_model_arrays(
    source: SourceArrays,
    triangles: NDArray[np.int64],
    uv: NDArray[np.float32],
    counts: tuple[int | None, int | None],
    precision: str,
) -> dict[str, NDArray]:
    """Return the arrays of the file.

    ``counts`` are the leading columns of shape and expression to keep, None for all. Raises `FaceMeshError` if the
    model has fewer.
    """
    bases = []
    for basis, count, what in zip((source.shape_basis, source.exp_basis), counts, ("shape", "expression"), strict=True):
        if count is not None and count > basis.shape[1]:
            raise FaceMeshError(f"the model has {basis.shape[1]} coefficients of {what}, not {count}; ask for fewer")
        bases.append(basis[:, :count])
    arrays = {
        "mean": source.mean.astype(np.float32),
        **_in_precision(bases, precision),
        "triangles": outward(source.mean, triangles).astype(np.int32),
        "uv": uv,
        "keypoints68": source.keypoints68.astype(np.int32),
        "symmetry": mirror_vertices(source.mean).astype(np.int32),
    }
    try:
        check_arrays(arrays)
    except ValueError as error:
        raise FaceMeshError(f"the face model cannot be used: {error}; give intact files") from None
    return arrays


def rounding(arrays: Mapping[str, NDArray], source: SourceArrays) -> tuple[float, float]:
    """Return the largest and the mean error of the bases, in parts of the largest entry of each column."""
    exact = np.concatenate([source.shape_basis, source.exp_basis], axis=1)
    shape_count, count = arrays["shape_basis"].shape[1], source.shape_basis.shape[1]
    kept = np.r_[:shape_count, count : count + arrays["exp_basis"].shape[1]]
    error = np.abs(dequantise_basis(arrays) - exact[:, kept]) / np.abs(exact[:, kept]).max(axis=0)
    return float(error.max()), float(error.mean())


def write_face_model(arrays: Mapping[str, NDArray], path: Path) -> None:
    """Write the file, whole or not at all. Raises `FaceMeshError` if it cannot be written."""
    with whole_file(path) as file:
        np.savez_compressed(file, **arrays)


def outward(mean: NDArray[np.float32], triangles: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the triangles with their front faces as the runtime draws them.

    Of those that a camera in front sees, most have ``cross(v1 - v0, v2 - v0).z > 0`` with y downwards.
    """
    a, b, c = (mean[triangles[:, corner], :2] * (1, -1) for corner in range(3))
    u, v = b - a, c - a
    area = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
    # Triangles that lie far in front are seen; a head's back is turned away.
    depth = mean[triangles, 2].mean(axis=1)
    seen = area[depth >= np.median(depth)]
    return triangles if seen.sum() >= 0 else triangles[:, ::-1]


def cylinder_uv(mean: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return UV coordinates (V, 2) of the cylinder round the vertical axis, for files without any."""
    centred = mean - (mean.min(axis=0) + mean.max(axis=0)) / 2
    angle = np.arctan2(centred[:, 0], centred[:, 2] + np.ptp(centred[:, 2]) / 2)
    uv = np.stack([angle, centred[:, 1]], axis=1)
    return ((uv - uv.min(axis=0)) / np.ptp(uv, axis=0)).astype(np.float32)


def mirror_vertices(mean: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the vertex nearest to the mirror image of every vertex, (V,)."""
    points = mean.astype(np.float64) - (mean[:, 0].min() + mean[:, 0].max()) / 2 * np.array([1, 0, 0])
    order = np.argsort(points[:, 1], kind="stable")
    height = points[order, 1]
    margin = MARGIN * np.ptp(height)
    result = np.empty(len(points), np.int64)
    for start in range(0, len(points), ROWS):
        rows = order[start : start + ROWS]
        low, high = np.searchsorted(height, (height[start] - margin, points[rows[-1], 1] + margin))
        candidates = order[low:high]
        mirrored = points[rows] * (-1, 1, 1)
        distance = sum((mirrored[:, None, axis] - points[None, candidates, axis]) ** 2 for axis in range(3))
        result[rows] = candidates[distance.argmin(axis=1)]
    return result


def _in_precision(bases: list[NDArray[np.float32]], precision: str) -> dict[str, NDArray]:
    if precision == "int8":
        integers, scale = quantise_basis(np.concatenate(bases, axis=1))
        shape, expression = np.split(integers, [bases[0].shape[1]], axis=1)
        return {"shape_basis": shape, "exp_basis": expression, SCALE: scale}
    kind = {"fp16": np.float16, "fp32": np.float32}[precision]
    return {key: basis.astype(kind) for key, basis in zip(BASES, bases, strict=True)}
