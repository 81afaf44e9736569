"""Pickles of NumPy arrays, as 3DDFA_V2 keeps them, read without running any code in them."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import FaceMeshError, one_line

# Everything that a pickled array calls; NumPy 2 has renamed its module.
_ALLOWED = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0] for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): np.float32(0).__reduce__()[0] for core in ("core", "_core")},
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _ArraysAlone(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):  # how Python 2 wrote bytes
            return lambda text, encoding: text.encode(encoding)
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"would call {module}.{name}")
        return _ALLOWED[module, name]


def read_pickle(path: Path | str, content: bytes) -> dict[str, NDArray]:
    """Return the arrays of a pickled dictionary by name, or the one array of a pickle under the name "".

    ``path`` is for errors. Raises `FaceMeshError` for a damaged file and for anything but arrays.
    """
    try:
        found = _ArraysAlone(io.BytesIO(content), encoding="latin1").load()
    except Exception as error:  # a damaged pickle raises nearly anything
        problem = f"cannot be read as a pickle of arrays ({one_line(error, 120)})"
        raise FaceMeshError(f"{path}: {problem}; get the file again, or save its arrays as .npy") from None
    arrays = found if isinstance(found, dict) else {"": found}
    strangers = [str(name) for name, value in arrays.items() if not isinstance(value, (np.ndarray, np.generic))]
    if strangers or not all(isinstance(name, str) for name in arrays):
        kinds = f"not arrays are {', '.join(strangers[:5])}" if strangers else "its names are no text"
        raise FaceMeshError(f"{path}: holds more than arrays ({kinds}); save its arrays as .npy")
    return {name: np.asarray(value) for name, value in arrays.items()}
