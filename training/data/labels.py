"""Labels of training faces, from the arrays of ``train.npz`` or from a 300W-LP folder, in one form; and their pictures.

A face is ``scale * model.vertices(coefficients) @ rotation.T + translation`` in pixels of its stored picture: x right,
y down, z towards the camera, an integer is a pixel centre. ``rotation`` holds the flip of y (the model's points up), so
its determinant is -1.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.errors import FaceMeshError
from runtime.families.face_model import FaceModel
from runtime.sources.photos import decode_photo, read_bytes
from runtime.storage.label_values import check_boxes, check_names, check_values
from runtime.storage.mat_files import read_mat
from runtime.storage.picture_tar import beside, read_rows, read_tar

# Arrays of an .npz and the shape of a row, -1 for any length.
ARRAYS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("names", "source", "size", "scale", "yaw_deg"), ()),
    **{"rotation": (3, 3), "translation": (3,), "shape": (-1,), "exp": (-1,), "pts68": (68, 3), "box": (4,)},
}
OPTIONAL_ARRAYS: dict[str, tuple[int, ...]] = {"is_val": (), "hand68": (68, 2), "visible68": (68,), "hand21": (21, 2)}

PARAMETERS_300W_LP = {"Pose_Para": 7, "Shape_Para": 199, "Exp_Para": 29}
SIDE_300W_LP = 450  # px, all pictures of 300W-LP
# 300W-LP counts pixels from 1 and y from the bottom; and its labels lie to the right of what they label, which was
# measured on its AFW part by registering pictures with the original photographs. Both together, to centres from 0:
SHIFT_X_300W_LP = -1.6  # px of 450
VALIDATION_SHARE_300W_LP = 0.05


@dataclass(frozen=True, eq=False)
class FaceLabels:
    """N faces, C coefficients of the face model each."""

    names: NDArray[np.str_]  # (N,) name of the picture in its archive or folder
    source: NDArray[np.str_]  # (N,) data set; labels differ in quality between them
    size: NDArray[np.int32]  # (N,) px, side of the square picture
    scale: NDArray[np.float32]  # (N,) px per model unit
    rotation: NDArray[np.float32]  # (N, 3, 3)
    translation: NDArray[np.float32]  # (N, 3) px; z has no absolute meaning
    coefficients: NDArray[np.float32]  # (N, C) shape, then expression
    pts68: NDArray[np.float32]  # (N, 68, 3) px, landmarks of the model
    box: NDArray[np.float32]  # (N, 4) px, x0 y0 x1 y1 of pts68
    yaw_deg: NDArray[np.float32]  # (N,) > 0: the nose points to the image right
    is_val: NDArray[np.bool_]  # (N,) row is for validation
    # (N, 68, 2) px by hand, on the content of the stored picture, NaN where there is none; the contour is the outline
    hand68: NDArray[np.float32] | None = None
    # (N, 68): 2 visible, 1 hidden by a thing but placed, 0 turned away or without point
    visible68: NDArray[np.uint8] | None = None
    hand21: NDArray[np.float32] | None = None  # (N, 21, 2) px by hand, AFLW's points, NaN where there is none

    def __len__(self) -> int:
        return len(self.names)

    def select(self, rows: NDArray) -> FaceLabels:
        """Return the rows given by a boolean mask (N,) or by their numbers."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return FaceLabels(**{name: None if value is None else value[rows] for name, value in values.items()})


def load_labels(path: str | os.PathLike[str], model: FaceModel) -> FaceLabels:
    """Return the labels of a set of faces.

    ``path`` is the common stem of an ``.npz`` and the ``.tar`` of its pictures, or either of the two, or a folder in
    the layout of 300W-LP (``.mat`` and ``.jpg`` in pairs). ``model`` is the face model that the coefficients belong to.
    Raises `FaceMeshError` that names the file at fault.
    """
    path = Path(path)
    return _load_300w_lp(path, model) if path.is_dir() else _load_arrays(beside(path, ".npz"), model)


def _load_arrays(path: Path, model: FaceModel) -> FaceLabels:
    arrays = read_rows(path, ARRAYS, OPTIONAL_ARRAYS, what="face labels")
    count = arrays["names"].size
    shape, expression = arrays.pop("shape"), arrays.pop("exp")
    columns = (shape.shape[1], expression.shape[1])
    if columns != (model.shape_count, model.expression_count):
        raise FaceMeshError(
            f"{path}: {columns[0]} + {columns[1]} coefficients do not belong to this face model; "
            "give the one they were made with"
        )
    try:
        check_names(arrays["names"])
        check_boxes(arrays["names"], arrays["box"])
    except ValueError as error:
        raise FaceMeshError(f"{path}: {error}; remove such rows") from None
    arrays["size"] = arrays["size"].astype(np.int32)
    arrays["is_val"] = arrays.get("is_val", np.zeros(count)).astype(bool)
    if "hand68" in arrays:
        arrays["visible68"] = _visibility(path, arrays["hand68"], arrays.get("visible68"))
    return FaceLabels(coefficients=np.concatenate([shape, expression], axis=1).astype(np.float32), **arrays)


def _visibility(path: Path, hand68: NDArray, visible68: NDArray | None) -> NDArray[np.uint8]:
    """Return (N, 68) uint8 of `FaceLabels`; without ``visible68`` every point of ``hand68`` counts as visible."""
    placed = np.isfinite(hand68).all(axis=2)
    if visible68 is None:
        return np.where(placed, 2, 0).astype(np.uint8)
    if visible68.dtype.kind not in "iu" or not ((visible68 >= 0) & (visible68 <= 2)).all():
        raise FaceMeshError(
            f"{path}: visible68 must be integers 0 (no point), 1 (hidden) or 2 (visible); the file is damaged"
        )
    return np.where(placed, visible68, 0).astype(np.uint8)


def _load_300w_lp(folder: Path, model: FaceModel) -> FaceLabels:
    """Return poses and coefficients as 3DDFA defines them (Zhu et al., CVPR 2016).

    The 199 + 29 coefficients there belong to the full Basel face model. A smaller model must consist of its leading
    columns, as the 40 + 10 of 3DDFA do, and leaves the rest of each face out: 0.41 % of the face size at the landmarks
    of 300W-LP's AFW part.
    """
    # Read: one .mat file per picture
    paths = sorted(path for path in folder.rglob("*.mat") if path.with_suffix(".jpg").exists())
    if not paths:
        raise FaceMeshError(
            f"{folder}: no .mat file with a .jpg of the same name beside it; "
            "give the folder of 300W-LP or one of its parts"
        )
    pose, shape, expression = (np.stack(column) for column in zip(*map(_read_parameters, paths), strict=True))
    coefficients = _leading_columns(folder, shape, expression, model)
    names = np.array([path.with_suffix(".jpg").relative_to(folder).as_posix() for path in paths])
    # To pixels of the picture: y down, centres counted from 0
    rotation = np.diag([1.0, -1.0, 1.0]) @ _rotation_3ddfa(*pose[:, :3].T)
    scale = pose[:, 6]
    translation = pose[:, 3:6] * (1, -1, 1) + (SHIFT_X_300W_LP, SIDE_300W_LP, 0)
    pts68 = scale[:, None, None] * model.landmarks(coefficients) @ rotation.transpose(0, 2, 1) + translation[:, None]
    try:
        check_values({"names": names, "scale": scale, "translation": translation, "pts68": pts68})
    except ValueError as error:
        raise FaceMeshError(f"{folder}: {error}; the .mat beside it is no intact label of 300W-LP") from None
    return FaceLabels(
        names=names,
        source=np.full(len(paths), "300wlp"),
        size=np.full(len(paths), SIDE_300W_LP, np.int32),
        scale=scale.astype(np.float32),
        rotation=rotation.astype(np.float32),
        translation=translation.astype(np.float32),
        coefficients=coefficients,
        pts68=pts68.astype(np.float32),
        box=np.concatenate([pts68[..., :2].min(axis=1), pts68[..., :2].max(axis=1)], axis=1).astype(np.float32),
        yaw_deg=-np.rad2deg(pose[:, 1]).astype(np.float32),
        is_val=np.array([_is_validation(path.stem) for path in paths]),
    )


def _read_parameters(path: Path) -> tuple[NDArray, NDArray, NDArray]:
    """Return pose (7,), shape (199,) and expression (29,); pose: pitch, yaw, roll in rad, x, y, z, scale."""
    variables = read_mat(path)
    if missing := [name for name in PARAMETERS_300W_LP if name not in variables]:
        raise FaceMeshError(f"{path}: lacks {', '.join(missing)}; it is not a label of 300W-LP")
    try:
        parts = [np.asarray(variables[name], np.float64).ravel() for name in PARAMETERS_300W_LP]
    except (TypeError, ValueError):
        parts = []
    finite = all((np.abs(part) < 1e9).all() for part in parts)
    if not finite or [part.size for part in parts] != list(PARAMETERS_300W_LP.values()):
        raise FaceMeshError(
            f"{path}: its parameters are not {PARAMETERS_300W_LP} finite numbers; it is no intact label of 300W-LP"
        )
    return tuple(parts)


def _leading_columns(folder: Path, shape: NDArray, expression: NDArray, model: FaceModel) -> NDArray[np.float32]:
    given, known = (shape.shape[1], expression.shape[1]), (model.shape_count, model.expression_count)
    if given[0] < known[0] or given[1] < known[1]:
        raise FaceMeshError(
            f"{folder}: {given[0]} + {given[1]} coefficients, the face model has {known[0]} + {known[1]}; "
            "give a smaller model"
        )
    if given != known:
        logging.getLogger(__name__).warning(
            "%s: the face model knows %d + %d of %d + %d coefficients; the rest is left out", folder, *known, *given
        )
    return np.concatenate([shape[:, : known[0]], expression[:, : known[1]]], axis=1).astype(np.float32)


def _rotation_3ddfa(pitch: NDArray, yaw: NDArray, roll: NDArray) -> NDArray[np.float64]:
    """Return the rotations (N, 3, 3) of angles in rad, each (N,), as 3DDFA's ``RotationMatrix`` does.

    About x, times about y, times about z, each with its sine's sign reversed.
    """
    one, zero = np.ones_like(pitch), np.zeros_like(pitch)

    def matrix(*rows: tuple[NDArray, ...]) -> NDArray[np.float64]:
        return np.stack([np.stack(row, axis=1) for row in rows], axis=1)

    about_x = matrix((one, zero, zero), (zero, np.cos(pitch), np.sin(pitch)), (zero, -np.sin(pitch), np.cos(pitch)))
    about_y = matrix((np.cos(yaw), zero, -np.sin(yaw)), (zero, one, zero), (np.sin(yaw), zero, np.cos(yaw)))
    about_z = matrix((np.cos(roll), np.sin(roll), zero), (-np.sin(roll), np.cos(roll), zero), (zero, zero, one))
    return about_x @ about_y @ about_z


def _is_validation(stem: str) -> bool:
    """Tell if a face is for validation, by the hash of its photograph.

    All views of a photograph (``AFW_134212_1_0`` to ``_17``) and its other faces fall on the same side.
    """
    photograph = re.sub(r"(_\d)?_\d{1,2}$", "", stem)
    return zlib.crc32(photograph.encode()) < VALIDATION_SHARE_300W_LP * 2**32


class JpegImages(Sequence):
    """Pictures kept as JPEG bytes, decoded at each access: item i is (H, W, 3) uint8 BGR of row i of its labels."""

    def __init__(self, names: NDArray[np.str_], sizes: NDArray[np.int32], jpegs: list[bytes]) -> None:
        self._names = names
        self._sizes = sizes
        self._jpegs = jpegs

    def __len__(self) -> int:
        return len(self._jpegs)

    def __getitem__(self, row: int) -> NDArray[np.uint8]:
        name, side = self._names[row], int(self._sizes[row])
        image = decode_photo(self._jpegs[row], name, cv2.IMREAD_IGNORE_ORIENTATION)
        if image.shape[:2] != (side, side):
            got = f"{image.shape[1]} x {image.shape[0]} px"
            raise FaceMeshError(
                f"{name}: {got}, its label is for {side} x {side}; labels and pictures do not belong together"
            )
        return image


def read_images(path: str | os.PathLike[str], labels: FaceLabels) -> JpegImages:
    """Return the pictures of all rows of ``labels``, possibly a selection; ``path`` as in `load_labels`."""
    path = Path(path)
    if path.is_dir():
        found = {name: read_bytes(path / name) for name in labels.names}
    else:
        found = read_tar(beside(path, ".tar"), labels.names.tolist())
    return JpegImages(labels.names, labels.size, [found[name] for name in labels.names])
