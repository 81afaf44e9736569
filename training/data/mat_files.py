"""MATLAB files. The one module that imports SciPy."""

from __future__ import annotations

from pathlib import Path

import scipy.io
from numpy.typing import NDArray

from runtime.errors import FaceMeshError


def read_mat(path: Path) -> dict[str, NDArray]:
    """Return the variables of a MATLAB 5 file by name. Raises `FaceMeshError` for any other file."""
    try:
        return scipy.io.loadmat(path)
    except Exception as error:  # a damaged file makes SciPy raise nearly anything, built-in exceptions too
        raise FaceMeshError(
            f"{path}: cannot be read as a MATLAB file ({error}); download it again or take it out of the folder"
        ) from None
