"""Arrays that grow by rows on disk, and become one .npz file at the end."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from runtime.storage.whole_files import whole_file, write_error


class GrowingArrays:
    """Arrays of one length.

    Their rows lie in files without a name: memory does not grow, and nothing stays behind a process that was killed.
    """

    def __init__(self, folder: Path) -> None:
        """Keep the rows in ``folder`` until `save`."""
        self._folder = folder
        self._columns: dict[str, _Column] = {}
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, **values: ArrayLike) -> None:
        """Add one row to every array; the first row fixes dtypes and shapes. Raises `FaceMeshError` if it cannot."""
        rows = {name: np.asarray(value) for name, value in values.items()}
        try:
            if not self._columns:
                self._columns = {name: _Column(self._folder, row) for name, row in rows.items()}
            for name, column in self._columns.items():
                column.append(rows[name], self._length)
        except OSError as error:
            raise write_error(self._folder, error) from error
        self._length += 1

    def save(self, path: Path, constants: Mapping[str, NDArray[Any]]) -> None:
        """Write all rows and some whole arrays to ``path``; raises `FaceMeshError` if that fails."""
        with whole_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for name, column in self._columns.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    column.copy_to(member, self._length)
            for name, array in constants.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)

    def close(self) -> None:
        """Give the space on disk back."""
        for column in self._columns.values():
            column.file.close()


class _Column:
    """The rows of one array, one behind the other."""

    def __init__(self, folder: Path, row: NDArray[Any]) -> None:
        self.file: BinaryIO = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by GrowingArrays
        self._dtype = row.dtype
        self._shape = row.shape

    def append(self, row: NDArray[Any], index: int) -> None:
        row = np.ascontiguousarray(row, self._dtype).reshape(self._shape)
        self.file.seek(index * row.nbytes)  # over what a full disk has left of a row
        self.file.write(row.tobytes())

    def copy_to(self, member: IO[bytes], length: int) -> None:
        header = {"descr": self._dtype.str, "fortran_order": False, "shape": (length, *self._shape)}
        np.lib.format.write_array_header_1_0(member, header)
        self.file.flush()
        self.file.truncate(length * self._dtype.itemsize * int(np.prod(self._shape)))
        self.file.seek(0)
        shutil.copyfileobj(self.file, member, 1 << 20)
