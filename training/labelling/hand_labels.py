"""Points that people marked, read from an ``.npz`` beside the ``.tar`` of its pictures."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.errors import FaceMeshError
from runtime.storage.label_values import check_names, check_values
from runtime.storage.npz_files import check_shapes, read_npz
from runtime.storage.picture_tar import beside
from training.labelling.point_model import CONTOUR, point_combinations

POINTS: dict[str, tuple[int, ...]] = {"hand68": (68, 2), "visible68": (68,), "hand21": (21, 2)}
EXTRAS: dict[str, tuple[int, ...]] = {"source": (), "is_val": ()}
# Weights of the fit: annotators place hidden points less well, and slide contour points along the outline.
HIDDEN_WEIGHT = 0.5
CONTOUR_WEIGHT = 0.5


@dataclass(frozen=True, eq=False)
class HandLabels:
    """N faces with points in pixels of their square pictures, y down, NaN where there is none."""

    names: NDArray[np.str_]  # (N,) member of the tar
    source: NDArray[np.str_]  # (N,)
    size: NDArray[np.int32]  # (N,) px, side of the picture
    is_val: NDArray[np.bool_]  # (N,)
    hand68: NDArray[np.float32]  # (N, 68, 2)
    visible68: NDArray[np.uint8]  # (N, 68): 2 visible, 1 hidden by a thing but placed, 0 turned away or without point
    hand21: NDArray[np.float32]  # (N, 21, 2) AFLW's points
    visibility_given: bool  # False: visible68 only says which points are placed

    def __len__(self) -> int:
        return len(self.names)

    def select(self, rows: NDArray) -> HandLabels:
        """Return the rows given by a boolean mask or by their numbers."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return HandLabels(
            **{name: value[rows] if isinstance(value, np.ndarray) else value for name, value in values.items()}
        )

    def weights(self) -> NDArray[np.float64]:
        """Return (N, 89) weights for `landmark_fit.fit_points`, 0 where there is no usable point.

        The 21 points count where a face has none of the 68. Beside them they gained 0.02 % of the box at
        held-out points, and a wrong one among them cost good faces.
        """
        weights68 = np.array([0, HIDDEN_WEIGHT, 1])[self.visible68]
        weights68[:, :CONTOUR] *= CONTOUR_WEIGHT
        weights21 = np.isfinite(self.hand21).all(axis=2) & point_combinations()[68:].any(axis=1)
        alone = ~(self.visible68 > 0).any(axis=1)
        return np.concatenate([weights68, weights21 & alone[:, None]], axis=1)


def read_hand_labels(path: str | os.PathLike[str], shifts: Mapping[str, tuple[float, float]]) -> HandLabels:
    """Read ``hand68`` (``visible68`` optional: then every finite point is visible) or ``hand21`` or both.

    ``shifts`` adds (x, y) px to all points of a source, for data whose labels lie beside the content of the pictures.
    Raises `FaceMeshError` that names the file and the array at fault.
    """
    path = beside(Path(path), ".npz")
    arrays = read_npz(path, ("names", "size"), (*POINTS, *EXTRAS), what="hand-marked points")
    if "hand68" not in arrays and "hand21" not in arrays:
        raise FaceMeshError(f"{path}: has neither hand68 nor hand21; give points to fit to")
    count = arrays["names"].size
    try:
        shapes = {"names": (), "size": ()} | POINTS | EXTRAS
        check_shapes(arrays, {key: (count, *row) for key, row in shapes.items() if key in arrays})
        _check_values(arrays)
    except ValueError as error:
        raise FaceMeshError(f"{path}: {error}; the file is damaged or of another kind") from None
    source = arrays.get("source", np.full(count, "hand"))
    if unknown := sorted(shifts.keys() - set(source.tolist())):
        raise FaceMeshError(
            f"{path}: has no rows of {', '.join(unknown)} to shift; "
            f"its sources are {', '.join(sorted(set(source.tolist())))}"
        )
    shift = np.array([shifts.get(name, (0, 0)) for name in source.tolist()], np.float32).reshape(count, 1, 2)
    hand68 = arrays.get("hand68", np.full((count, 68, 2), np.nan)).astype(np.float32) + shift
    hand21 = arrays.get("hand21", np.full((count, 21, 2), np.nan)).astype(np.float32) + shift
    visible68 = np.where(np.isfinite(hand68).all(axis=2), arrays.get("visible68", np.full((count, 68), 2)), 0).astype(
        np.uint8
    )
    is_val = arrays.get("is_val", np.zeros(count)).astype(bool)
    size = arrays["size"].astype(np.int32)
    return HandLabels(arrays["names"], source, size, is_val, hand68, visible68, hand21, "visible68" in arrays)


def _check_values(arrays: Mapping[str, NDArray]) -> None:
    """Raise `ValueError` that names the array whose values cannot be used."""
    if not arrays["names"].size:
        raise ValueError("names is empty")
    check_names(arrays["names"])
    for key in {"hand68", "hand21"} & arrays.keys():
        if arrays[key].dtype.kind != "f" or np.isinf(arrays[key]).any():
            raise ValueError(f"{key} must be floating-point pixels, NaN where there is no point")
    if "visible68" in arrays and not (
        arrays["visible68"].dtype.kind in "iu" and np.isin(arrays["visible68"], (0, 1, 2)).all()
    ):
        raise ValueError("visible68 must be integers 0 (no point), 1 (hidden) or 2 (visible)")
    check_values(arrays)
