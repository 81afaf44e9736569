"""Files at paths and URIs: local ones, s3://, gs://, hdfs:// and others that Arrow knows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

from runtime.errors import FaceMeshError, reason
from runtime.storage.limits import FILE_BYTES

ARROW_ERRORS = (OSError, ValueError, NotImplementedError, pa.ArrowException)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def is_remote(place: str) -> bool:
    """Return True for a URI, False for a path of this machine."""
    return _SCHEME.match(place) is not None


def absolute(place: str) -> str:
    """Return a path from the root, so that workers with other working folders find it; URIs stay."""
    return place if is_remote(place) else str(Path(place).absolute())


def list_files(place: str, recursive: bool) -> list[str] | None:
    """Return the files of a folder, by name, without hidden ones; None for a file.

    Raises `FaceMeshError` for a place that is not there or cannot be listed.
    """
    with _reported(place):
        filesystem, path = _resolved(place)
        info = filesystem.get_file_info(path)
        if info.type == fs.FileType.NotFound:
            raise FaceMeshError(f"{place}: no such file or folder; check the address given to --source")
        if info.type != fs.FileType.Directory:
            return None
        found = filesystem.get_file_info(fs.FileSelector(path, recursive=recursive))
    names = sorted(each.path[len(path) :].strip("/") for each in found if each.type == fs.FileType.File)
    shown = (name for name in names if not any(part.startswith(".") for part in name.split("/")))
    return [f"{place.rstrip('/')}/{name}" for name in shown]


def read_whole(place: str) -> bytes:
    """Return the content of a file. Raises `FaceMeshError`, also for an empty one and beyond the limit."""
    with _reported(place), open_place(place) as file:
        if excess := FILE_BYTES.excess(file.size()):
            raise FaceMeshError(f"{place}: {excess}")
        content = file.read()
    if not content:
        raise FaceMeshError(f"{place}: the file is empty (0 bytes); copy or download it again")
    return content


@contextmanager
def open_place(place: str) -> Iterator[Any]:
    """Open a file for reading at any position: a `pyarrow.NativeFile`. Raises `FaceMeshError`."""
    with _reported(place):
        filesystem, path = _resolved(place)
        info = filesystem.get_file_info(path)
        if info.type != fs.FileType.File or (not is_remote(place) and not Path(path).is_file()):
            raise FaceMeshError(f"{place}: no plain file there; it was moved or is of another kind")
        file = filesystem.open_input_file(path)
    with file:
        yield file


def _resolved(place: str) -> tuple[fs.FileSystem, str]:
    if is_remote(place):
        return fs.FileSystem.from_uri(place)
    return fs.LocalFileSystem(), str(Path(place).absolute())


@contextmanager
def _reported(place: str) -> Iterator[None]:
    """Turn errors of Arrow into one line."""
    try:
        yield
    except ARROW_ERRORS as error:
        raise FaceMeshError(
            f"{place}: cannot be read ({reason(error)}); check the address and its permissions"
        ) from None
