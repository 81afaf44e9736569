"""Values that arrays of labelled faces may hold, checked when they are read: else figures would lack faces."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import one_line

_PX = (-1e6, 1e6)
# Smallest and largest value by the name of the array.
RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("translation", "pts68", "pts68_reannotated", "box", "hand68", "hand21"), _PX),
    **{"size": (1, 65535), "scale": (1e-9, 1e6), "rotation": (-2, 2), "yaw_deg": (-360, 360), "fit_nme": (0, 1e6)},
    **{"shape": (-1e9, 1e9), "exp": (-1e9, 1e9), "is_val": (0, 1), "bin": (0, 2)},
}
WHOLE = ("size", "is_val", "bin")
HOLES = ("hand68", "hand21")  # NaN where a face has no such point


def check_values(arrays: Mapping[str, NDArray[Any]], holes: Collection[str] = HOLES) -> None:
    """Raise `ValueError` for the first value outside `RANGES`; ``arrays`` have a row per face.

    NaN is allowed in the arrays ``holes`` alone. The text names array and row.
    """
    for key, (low, high) in RANGES.items():
        if key not in arrays:
            continue
        rows = arrays[key].reshape(len(arrays[key]), math.prod(arrays[key].shape[1:]))
        is_good = (rows >= low) & (rows <= high)  # NaN is neither
        if rows.dtype.kind == "f" and key in holes:
            is_good |= np.isnan(rows)
        if rows.dtype.kind == "f" and key in WHOLE:
            is_good &= rows == np.rint(rows)
        if not is_good.all():
            row, column = np.argwhere(~is_good)[0]
            kind = "whole numbers" if key in WHOLE else "numbers"
            name = f" ({one_line(repr(str(arrays['names'][row])), 100)})" if "names" in arrays else ""
            raise ValueError(f"{key} of row {row}{name} holds {rows[row, column]:g}, not {kind} {low:g} to {high:g}")


def check_boxes(names: NDArray[Any], box: NDArray[Any]) -> None:
    """Raise `ValueError` for boxes (N, 4) without an inside, NaN among them."""
    is_empty = ~((box[:, 2] > box[:, 0]) & (box[:, 3] > box[:, 1]) & np.isfinite(box).all(axis=1))
    if is_empty.any():
        first = one_line(str(names[is_empty][0]), 100)
        raise ValueError(f"{is_empty.sum()} of {len(box)} rows have no face, first {first}")


def check_names(names: NDArray[Any]) -> None:
    """Raise `ValueError` for a name that two rows have."""
    first, counts = np.unique(names, return_index=True, return_counts=True)[1:]
    if (counts > 1).any():
        twice = first[counts > 1].min()
        raise ValueError(f"names has {one_line(repr(str(names[twice])), 100)} twice, first in row {twice}")
