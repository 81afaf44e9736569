"""Reading NumPy archives with errors that name the file."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.errors import FaceMeshError, one_line

_DAMAGED = (OSError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error)


def read_npz(path: Path, required: Sequence[str], optional: Sequence[str] = (), *, what: str) -> dict[str, NDArray]:
    """Return the arrays ``required`` and, as far as they are there, ``optional`` of an ``.npz`` file, by name.

    ``what`` names the content in error texts ("a face model"). Pickled objects are refused. Raises `FaceMeshError` for
    a file that is missing or damaged and for arrays that are missing.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in (*required, *optional) if key in archive}
    except FileNotFoundError:
        raise FaceMeshError(f"{path}: no such file; give {what} as .npz") from None
    except _DAMAGED as error:
        fault = f"cannot be read as {what} in an .npz file ({one_line(error)})"
        raise FaceMeshError(f"{path}: {fault}; get the file again") from None
    missing = [key for key in required if key not in arrays]
    if missing:
        raise FaceMeshError(f"{path}: lacks {', '.join(missing)}; {what} has the arrays {', '.join(required)}")
    return arrays


def check_shapes(arrays: Mapping[str, NDArray], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise `ValueError` with the name of the first array of another shape than given; -1 stands for any length."""
    for key, shape in shapes.items():
        actual = arrays[key].shape
        if len(actual) != len(shape) or any(want not in (-1, got) for want, got in zip(shape, actual, strict=True)):
            raise ValueError(f"{key} has shape {actual}, expected {shape} (-1: any)")
