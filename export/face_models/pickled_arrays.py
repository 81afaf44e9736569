"""Pickles of NumPy arrays, as 3DDFA_V2 keeps them, read without running any code in them."""

from __future__ import annotations

import io
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import FaceMeshError, one_line, reason

_NUMBERS = re.compile(r"[<>|=]?([biufc]\d{1,2})")
_MOST_BYTES = 16  # of one number


class _Dtype:
    """State of a pickled dtype; NumPy's own would believe any, and end the process."""

    def __init__(self, text: str, *_: object) -> None:
        self._text, self._order = text, "="

    def __setstate__(self, state: tuple) -> None:
        self._order = state[1]

    def dtype(self) -> np.dtype:
        numbers = _NUMBERS.fullmatch(self._text)
        if numbers is None or self._order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError("an array of no numbers")
        dtype = np.dtype(numbers[1]).newbyteorder(self._order)
        if dtype.itemsize > _MOST_BYTES:
            raise pickle.UnpicklingError("numbers of too many bytes")
        return dtype


class _Array:
    """State of a pickled array."""

    def __setstate__(self, state: tuple) -> None:
        _, self._shape, self._dtype, self._is_fortran, self._content = state

    def array(self) -> NDArray:
        if not isinstance(self._content, (bytes, str)):
            raise pickle.UnpicklingError("an array of no bytes")
        content = self._content.encode("latin1") if isinstance(self._content, str) else self._content
        shape = tuple(int(side) for side in self._shape)
        if min(shape, default=1) < 0:
            raise pickle.UnpicklingError("a side below 0")
        flat = np.frombuffer(content, self._dtype.dtype())
        return flat.reshape(shape, order="F" if self._is_fortran else "C").copy()


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _scalar(dtype: _Dtype, content: bytes | str) -> _Array:
    scalar = _Array()
    scalar.__setstate__((1, (), dtype, False, content))
    return scalar


# Everything that a pickled array calls; NumPy 2 has renamed its module.
_ALLOWED: dict[tuple[str, str], Any] = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
}


class _ArraysAlone(pickle._Unpickler):
    """The unpickler in Python: damaged pickles make the one in C read freed memory."""

    # Of protocol 5; it allocates what it claims before it reads.
    dispatch = {code: load for code, load in pickle._Unpickler.dispatch.items() if code != pickle.BYTEARRAY8[0]}

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
        named = found if isinstance(found, dict) else {"": found}
        arrays = {name: value.array() for name, value in named.items() if isinstance(value, _Array)}
    except Exception as error:  # a damaged pickle raises nearly anything
        problem = f"cannot be read as a pickle of arrays ({reason(error)})"
        raise FaceMeshError(f"{path}: {problem}; get the file again, or save its arrays as .npy") from None
    strangers = [one_line(name, 40) for name in named if name not in arrays]
    if strangers or not all(isinstance(name, str) for name in named):
        kinds = f"not arrays are {', '.join(strangers[:5])}" if strangers else "its names are no text"
        raise FaceMeshError(f"{path}: holds more than arrays ({kinds}); save its arrays as .npy")
    return arrays
