"""``UVTopology``: the pixels of a UV position map that are face, landmarks and triangles."""

from __future__ import annotations

import io
import os
import warnings
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.errors import FaceMeshError, reason
from runtime.models.shipped import ASSETS, is_asset
from runtime.storage.bounded_files import read_bounded
from runtime.storage.npz_files import read_npy, read_npz
from runtime.types import LANDMARK_COUNT

PRNET_RESOLUTION = 256  # PRNet's files do not say it


@dataclass(frozen=True, eq=False)
class UVTopology:
    """The layout of one position map, in read-only copies. Raises `ValueError` for an array that does not fit."""

    resolution: int  # side of the grid that the indices count in
    face_indices: NDArray[np.int32]  # (V,) pixels of the flattened grid that are vertices, ascending
    landmark_indices: NDArray[
        np.int32
    ]  # (68,) pixels of the flattened grid, iBUG 300-W order, all of them among face_indices
    triangles: NDArray[
        np.int32
    ]  # (T, 3) into the V vertices; front faces have cross(v1 - v0, v2 - v0).z > 0 (x right, y down, z to the camera)
    canonical_vertices: NDArray[np.float32]  # (V, 3) mean shape; x right, y down, z to the camera

    def __post_init__(self) -> None:
        if not 1 <= self.resolution <= 4096:
            raise ValueError(f"resolution must be 1..4096, is {self.resolution}")
        pixels = self.resolution**2
        face = self._set("face_indices", _indices(self.face_indices, "face_indices", (-1,), pixels))
        if not (len(face) > 0 and np.all(np.diff(face) > 0)):
            raise ValueError("face_indices must ascend, one entry per pixel")
        landmarks = self._set(
            "landmark_indices", _indices(self.landmark_indices, "landmark_indices", (LANDMARK_COUNT,), pixels)
        )
        if outside := sorted(set(landmarks.tolist()) - set(face.tolist())):
            raise ValueError(f"landmark_indices names pixels that are not face: {', '.join(map(str, outside[:5]))}")
        self._set("triangles", _indices(self.triangles, "triangles", (-1, 3), len(face)))
        canonical = self._set("canonical_vertices", np.array(self.canonical_vertices, dtype=np.float32, order="C"))
        if canonical.shape != (len(face), 3) or not np.all(np.isfinite(canonical)):
            raise ValueError(f"canonical_vertices must be finite ({len(face)}, 3), is {canonical.shape}")

    @property
    def landmark_vertices(self) -> NDArray[np.int32]:
        """(68,) the landmarks as indices into the V vertices."""
        return np.searchsorted(self.face_indices, self.landmark_indices).astype(np.int32)

    @property
    def uv(self) -> NDArray[np.float32]:
        """(V, 2) texture coordinates 0..1, u right, v up: the centres of the vertices' pixels."""
        row, column = np.divmod(self.face_indices, self.resolution)
        pixels = np.stack([column + 0.5, self.resolution - row - 0.5], axis=1).astype(np.float32)
        return pixels / np.float32(self.resolution)

    def border_distance(self) -> NDArray[np.float32]:
        """Return (V,) distances to the border of the face region (the grid's own edge is one too), px of the grid."""
        mask = np.zeros(self.resolution**2, np.uint8)
        mask[self.face_indices] = 1
        # One ring of background around the grid, so that a face pixel at its edge counts as border.
        mask = cv2.copyMakeBorder(mask.reshape(self.resolution, -1), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        distance: NDArray[np.float32] = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
        return distance[1:-1, 1:-1].ravel()[self.face_indices]

    def grid_lines(self, step: int) -> NDArray[np.bool_]:
        """Return (V,) True for vertices in every ``step``-th row or column of the grid."""
        row, column = np.divmod(self.face_indices, self.resolution)
        return (row % step == 0) | (column % step == 0)

    def smooth(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (V, C) ``values`` blurred over the grid (Gaussian, 1.5 px; 0 outside the face)."""
        grid = np.zeros((self.resolution**2, values.shape[1]), np.float32)
        grid[self.face_indices] = values
        blurred = cv2.GaussianBlur(grid.reshape(self.resolution, self.resolution, -1), (0, 0), 1.5)
        return blurred.reshape(len(grid), -1)[self.face_indices]

    def position_map(self, vertices: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the grid (R, R, 3) with (V, 3) ``vertices`` in their pixels, 0 outside the face."""
        grid = np.zeros((self.resolution**2, 3), np.float32)
        grid[self.face_indices] = vertices
        return grid.reshape(self.resolution, self.resolution, 3)

    def _set(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        array.setflags(write=False)
        object.__setattr__(self, name, array)
        return array


def load_topology(path: str | os.PathLike[str] | None = None) -> UVTopology:
    """The topology in ``path``: an ``.npz`` whose keys are the fields, or a PRNet ``uv-data`` folder.

    ``None`` or the bare name of a shipped asset loads that asset, whatever the current folder holds. The result is kept
    for the next call.
    Raises `FaceMeshError` where a file is missing, damaged or inconsistent.
    """
    name = "uv_topology.npz" if path is None else os.fspath(path)
    return _load(ASSETS / name if is_asset(name) else Path(name).absolute())


@lru_cache(maxsize=8)
def _load(path: Path) -> UVTopology:
    try:
        arrays = _read_prnet_folder(path) if path.is_dir() else _read_npz(path)
        return UVTopology(**arrays)
    except ValueError as error:
        raise FaceMeshError(f"{path}: not a usable UV topology: {reason(error)}; get the file again") from None


def _read_npz(path: Path) -> dict[str, Any]:
    arrays = read_npz(path, [field.name for field in fields(UVTopology)], what="a UV topology")
    if arrays["resolution"].shape != () or not np.issubdtype(arrays["resolution"].dtype, np.integer):
        raise ValueError("resolution must be one integer")
    return {**arrays, "resolution": int(arrays["resolution"])}


def _read_prnet_folder(folder: Path) -> dict[str, Any]:
    """Read PRNet's ``Data/uv-data`` (github.com/YadiraF/PRNet): indices as float text, landmarks as two rows x, y."""
    names = ("face_ind.txt", "uv_kpt_ind.txt", "triangles.txt", "canonical_vertices.npy")
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise FaceMeshError(
            f"{folder}: not a PRNet uv-data folder, lacks {', '.join(missing)}; copy PRNet's Data/uv-data there"
        )
    face_indices, landmarks_xy, triangles = (_read_text(folder / name) for name in names[:3])
    try:
        canonical_vertices = read_npy(folder / names[3])
    except (OSError, ValueError) as error:
        fault = f"cannot be read as .npy ({reason(error)})"
        raise FaceMeshError(f"{folder / names[3]}: {fault}; copy PRNet's file again") from None
    if landmarks_xy.shape != (2, LANDMARK_COUNT):
        raise ValueError(f"uv_kpt_ind.txt must hold two rows of {LANDMARK_COUNT}, holds {landmarks_xy.shape}")
    if landmarks_xy.min() < 0 or landmarks_xy.max() >= PRNET_RESOLUTION:
        raise ValueError(f"uv_kpt_ind.txt must hold pixels 0..{PRNET_RESOLUTION - 1}")
    return {
        "resolution": PRNET_RESOLUTION,
        "face_indices": face_indices,
        "landmark_indices": landmarks_xy[1] * PRNET_RESOLUTION + landmarks_xy[0],
        "triangles": triangles,
        "canonical_vertices": canonical_vertices,
    }


def _read_text(path: Path) -> NDArray[np.int64]:
    """Whole numbers written as floats, as ``np.savetxt`` does it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an empty file, which has the wrong shape
            numbers = np.loadtxt(io.BytesIO(read_bounded(path)))
    except (OSError, ValueError) as error:
        raise FaceMeshError(f"{path}: cannot be read as numbers ({reason(error)}); copy PRNet's file again") from None
    if not np.all(np.isfinite(numbers)) or np.any(numbers != np.rint(numbers)) or np.any(np.abs(numbers) > 2**31):
        raise FaceMeshError(f"{path}: holds something other than whole numbers; copy PRNet's file again")
    return numbers.astype(np.int64)


def _indices(values: NDArray[Any], name: str, shape: tuple[int, ...], stop: int) -> NDArray[np.int32]:
    """``values`` as an own int32 array, refused unless integers of ``shape`` (-1: any length) in 0..stop-1."""
    array = np.asarray(values)
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{name} must be integers, is {array.dtype}")
    if array.ndim != len(shape) or any(want not in (-1, got) for want, got in zip(shape, array.shape, strict=True)):
        raise ValueError(f"{name} must have shape {shape} (-1: any), has {array.shape}")
    if array.size and not (array.min() >= 0 and array.max() < stop):
        raise ValueError(f"{name} must be 0..{stop - 1}, spans {array.min()}..{array.max()}")
    return np.array(array, dtype=np.int32, order="C")


def landmarks_alone(topology: UVTopology) -> UVTopology:
    """The same layout with no other vertices than the landmarks."""
    pixels = np.unique(topology.landmark_indices)
    vertices = topology.canonical_vertices[np.searchsorted(topology.face_indices, pixels)]
    return UVTopology(topology.resolution, pixels, topology.landmark_indices, np.empty((0, 3), np.int32), vertices)
