"""Read what users of morphable models have: 3DDFA's arrays, loose or in a wheel, 3DDFA_V2's pickles, BFM's .mat."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.face_models.pickled_arrays import read_pickle
from runtime.errors import FaceMeshError, reason
from runtime.storage.bounded_files import open_bounded, read_bounded
from runtime.storage.mat_files import read_mat
from runtime.storage.npz_files import open_zip, read_archive, read_array

ARRAYS_3DDFA = ("u_shp", "u_exp", "w_shp_sim", "w_exp_sim", "keypoints_sim")
REMEDY = (
    "give a folder or wheel with 3DDFA's u_shp.npy, u_exp.npy, w_shp_sim.npy, w_exp_sim.npy and keypoints_sim.npy, "
    "3DDFA_V2's bfm_….pkl, or a .mat with mean, both bases, triangles and key points"
)
# Names of the same thing in different files.
MEANS = (("mu_shape", "mu_exp"), ("shapeMU", "expMU"), ("meanshape",), ("u_shp", "u_exp"), ("u",))
SHAPES = ("w", "shapePC", "idBase", "w_shp_sim", "w_shp")
EXPRESSIONS = ("w_exp", "expPC", "exBase", "w_exp_sim")
TRIANGLES = ("tri", "triangles", "")
KEYPOINTS = ("keypoints", "kpt_ind", "keypoints_sim")
UVS = ("UV", "uv", "uv_coords", "")


@dataclass(frozen=True, eq=False)
class SourceArrays:
    """A face model as its files hold it: model units, x right, y up, z towards the camera."""

    mean: NDArray[np.float32]  # (V, 3)
    shape_basis: NDArray[np.float32]  # (3V, S)
    exp_basis: NDArray[np.float32]  # (3V, E)
    keypoints68: NDArray[np.int64]  # (68,)
    triangles: NDArray[np.int64] | None  # (T, 3), None if the files have none


def read_source(paths: list[Path]) -> SourceArrays:
    """Read a face model from one source, or from several files that hold its parts.

    Raises `FaceMeshError` for files that are missing, damaged or lack a part.
    """
    arrays: dict[str, NDArray] = {}
    for path in paths:
        arrays |= read_arrays(path)
    origin = ", ".join(map(str, paths))
    mean = _mean(origin, arrays)
    count = mean.size // 3
    return SourceArrays(
        mean=mean.reshape(-1, 3),
        shape_basis=_basis(origin, arrays, SHAPES, count, "identity"),
        exp_basis=_basis(origin, arrays, EXPRESSIONS, count, "expression"),
        keypoints68=_keypoints(origin, arrays, count),
        triangles=_triangles(origin, arrays, count),
    )


def read_triangles(path: Path, count: int) -> NDArray[np.int64]:
    """Read the triangles (T, 3) of a model of ``count`` vertices from a file of their own. Raises `FaceMeshError`."""
    triangles = _triangles(str(path), read_arrays(path), count)
    if triangles is None:
        raise FaceMeshError(f"{path}: no triangles in it (tri); give 3DDFA's tri.mat, tri.pkl or an .npy (3, T)")
    return triangles


def read_uv(path: Path, count: int) -> NDArray[np.float32]:
    """Read the UV coordinates (V, 2) of a model of ``count`` vertices. Raises `FaceMeshError`."""
    found = _first(read_arrays(path), UVS)
    is_array = found is not None and found.ndim == 2 and found.dtype.kind in "fiu"
    if not is_array or found.shape[0] != count or found.shape[1] < 2:
        shape = "none" if found is None else f"{found.dtype} of shape {found.shape}"
        raise FaceMeshError(f"{path}: UV coordinates must be ({count}, 2), are {shape}; give those of this face model")
    uv = found[:, :2].astype(np.float64)
    largest = max(1.0, np.abs(uv).max())  # some files count in pixels of a texture
    return np.clip(uv / largest, 0, 1).astype(np.float32)


def read_arrays(path: Path) -> dict[str, NDArray]:
    """Return the arrays of a .npy, .npz, .pkl or .mat file, of a wheel or a folder, by name.

    The one array of a .npy has the name of its file. In .mat files vertices are counted from 1; they are counted from 0
    here. Raises `FaceMeshError`.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.stem in ARRAYS_3DDFA or file.name == "tri.pkl")
        return _of_3ddfa(path, {file.name: _content(file) for file in files})
    if not path.is_file():
        raise FaceMeshError(f"{path}: no such file; {REMEDY}")
    if path.suffix == ".mat":
        return _read_mat(path)
    if path.suffix == ".whl":
        return _of_3ddfa(path, _members(path))
    content = _content(path)
    if path.suffix == ".npy":
        return {path.stem if path.stem in ARRAYS_3DDFA else "": _read_npy(path, content)}
    if path.suffix == ".npz":
        return _read_npz(path, content)
    if path.suffix == ".pkl":
        return read_pickle(path, content)
    raise FaceMeshError(f"{path}: no kind of file that holds arrays; {REMEDY}")


def _of_3ddfa(origin: Path, files: Mapping[str, bytes]) -> dict[str, NDArray]:
    """Return the arrays of 3DDFA's files, name -> content, by name without suffix."""
    arrays: dict[str, NDArray] = {}
    for name, content in files.items():
        place = f"{origin}: {name}"
        if name == "tri.pkl":
            arrays["tri"] = read_pickle(place, content).get("", np.zeros(0))
        else:
            arrays[name.partition(".")[0]] = _read_npy(place, content)
    return arrays


def _members(path: Path) -> dict[str, bytes]:
    """Return the arrays of 3DDFA inside a wheel, by file name."""
    try:
        with open_bounded(path) as file, open_zip(file) as wheel:
            members = {name.rpartition("/")[2]: name for name in wheel.namelist()}
            wanted = {member: name for member, name in members.items() if member.partition(".")[0] in ARRAYS_3DDFA}
            return {member: wheel.read(name) for member, name in wanted.items()}
    except Exception as error:  # zipfile and zlib raise a dozen types for damaged archives
        raise FaceMeshError(f"{path}: cannot be read as a wheel ({reason(error)}); download it again") from None


def _read_npy(place: Path | str, content: bytes) -> NDArray:
    try:
        return read_array(io.BytesIO(content), len(content))
    except ValueError as error:
        raise FaceMeshError(f"{place}: cannot be read as .npy ({reason(error)}); get the file again") from None


def _read_npz(place: Path | str, content: bytes) -> dict[str, NDArray]:
    try:
        return read_archive(io.BytesIO(content))
    except (OSError, ValueError) as error:
        raise FaceMeshError(f"{place}: cannot be read as .npz ({reason(error)}); get the file again") from None


def _content(path: Path) -> bytes:
    try:
        return read_bounded(path)
    except OSError as error:
        raise FaceMeshError(f"{path}: cannot be read ({reason(error)}); {REMEDY}") from None


def _read_mat(path: Path) -> dict[str, NDArray]:
    """Return the variables of a .mat file; those of a struct ``model``, as face3d writes it, are taken out of it."""
    variables = read_mat(path)
    struct = variables.pop("model", {})
    arrays = {name: value for name, value in variables.items() if isinstance(value, np.ndarray)}
    if isinstance(struct, dict):
        arrays |= struct
    counted = {name: arrays[name].astype(np.int64) - 1 for name in (*TRIANGLES, *KEYPOINTS) if name in arrays}
    return arrays | counted


def _first(arrays: Mapping[str, NDArray], names: tuple[str, ...]) -> NDArray | None:
    return next((arrays[name] for name in names if name in arrays), None)


def _mean(origin: str, arrays: Mapping[str, NDArray]) -> NDArray[np.float32]:
    """Return the neutral face (3V,): the mean of shape plus that of expression, if there are two."""
    names = next((names for names in MEANS if names[0] in arrays), None)
    if names is None:
        raise FaceMeshError(f"{origin}: no mean shape in it; {REMEDY}")
    parts = [_numbers(origin, name, arrays[name]).ravel() for name in names if name in arrays]
    if len({part.size for part in parts}) > 1 or parts[0].size % 3 or not parts[0].size:
        sizes = ", ".join(f"{name} {part.size}" for name, part in zip(names, parts, strict=False))
        raise FaceMeshError(f"{origin}: the means are not x y z of the same vertices ({sizes}); the files do not fit")
    return np.sum(parts, axis=0)


def _basis(
    origin: str, arrays: Mapping[str, NDArray], names: tuple[str, ...], count: int, what: str
) -> NDArray[np.float32]:
    found = next(((name, arrays[name]) for name in names if name in arrays), None)
    if found is None:
        raise FaceMeshError(f"{origin}: no basis of {what} in it; {REMEDY}")
    name, basis = found
    if basis.ndim != 2 or basis.shape[0] != 3 * count:
        raise FaceMeshError(
            f"{origin}: {name} has shape {basis.shape}, the mean has {count} vertices: ({3 * count}, …) is wanted; "
            "the files do not belong together"
        )
    return _numbers(origin, name, basis)


def _numbers(origin: str, name: str, array: NDArray) -> NDArray[np.float32]:
    if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise FaceMeshError(f"{origin}: {name} holds NaN or other things than numbers; get the file again")
    return array.astype(np.float32)


def _keypoints(origin: str, arrays: Mapping[str, NDArray], count: int) -> NDArray[np.int64]:
    """Return the 68 vertices; 3DDFA counts the rows x0 y0 z0 x1 … instead."""
    found = _first(arrays, KEYPOINTS)
    if found is None:
        raise FaceMeshError(f"{origin}: no key points in it; {REMEDY}")
    points = found.ravel().astype(np.int64)
    if points.size == 204 and (points.reshape(68, 3) == points[::3, None] + np.arange(3)).all():
        points = points[::3] // 3
    if points.size != 68 or points.min() < 0 or points.max() >= count:
        raise FaceMeshError(f"{origin}: its key points are not 68 of {count} vertices; give the model's own")
    return points


def _triangles(origin: str, arrays: Mapping[str, NDArray], count: int) -> NDArray[np.int64] | None:
    found = _first(arrays, TRIANGLES)
    if found is None:
        return None
    triangles = found.astype(np.int64)
    if triangles.ndim == 2 and triangles.shape[0] == 3:
        triangles = triangles.T
    if triangles.ndim != 2 or triangles.shape[1] != 3 or not triangles.size:
        raise FaceMeshError(f"{origin}: triangles must be (3, T) or (T, 3), are {found.shape}; give the model's own")
    if triangles.min() == 1 and triangles.max() == count:
        triangles = triangles - 1
    if triangles.min() < 0 or triangles.max() >= count:
        span = f"{triangles.min()}..{triangles.max()}"
        raise FaceMeshError(f"{origin}: its triangles name vertices {span} of {count}; give the model's own")
    return triangles
