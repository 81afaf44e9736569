"""Reading NumPy archives with errors that name the file."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.errors import FaceMeshError


def read_npz(path: Path, required: Sequence[str], optional: Sequence[str] = (), *, what: str) -> dict[str, NDArray]:
    """The arrays named, by name; ``what`` says in errors what the file should have been. Pickled objects are refused."""
    try:
        with np.load(path) as archive:
            arrays = {key: archive[key] for key in (*required, *optional) if key in archive}
    except FileNotFoundError:
        raise FaceMeshError(f"{path}: no such file; give {what} as .npz") from None
    except (OSError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise FaceMeshError(f"{path}: cannot be read as {what} ({error}); it must be an intact .npz") from None
    if missing := [key for key in required if key not in arrays]:
        raise FaceMeshError(f"{path}: lacks {', '.join(missing)}; {what} has the arrays {', '.join(required)}")
    return arrays


def check_shapes(arrays: dict[str, NDArray], shapes: dict[str, tuple[int, ...]]) -> None:
    """Raises `ValueError` naming the first array that has not the shape given for it, in which -1 stands for any length."""
    for key, shape in shapes.items():
        actual = arrays[key].shape
        if len(actual) != len(shape) or any(want not in (-1, got) for want, got in zip(shape, actual, strict=True)):
            raise ValueError(f"{key} has shape {actual}, expected {shape} (-1: any)")
