"""Files at paths and URIs: local ones, s3://, gs://, hdfs:// and others that Arrow knows."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pyarrow as pa
from pyarrow import fs

from runtime.errors import FaceMeshError, reason
from runtime.storage.limits import FILE_BYTES

ARROW_ERRORS = (OSError, ValueError, NotImplementedError, pa.ArrowException)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def is_remote(place: str) -> bool:
    """Return True for a URI, False for a path of this machine."""
    return _SCHEME.match(place) is not None


def is_web(place: str) -> bool:
    """Return True for an address of a web server, which lists nothing."""
    return place.lower().startswith(("http://", "https://"))


def absolute(place: str) -> str:
    """Return a path from the root, so that workers with other working folders find it; URIs of other places stay."""
    address = urlsplit(place) if place.lower().startswith("file:") else None
    if address is not None and address.netloc in ("", "localhost"):
        place = unquote(address.path, errors="surrogateescape")
    return place if is_remote(place) else str(Path(place).absolute())


def identity(place: str) -> str:
    """Return the same text for all ways to a file through folders and links to folders."""
    if is_remote(place):
        return place
    folder, name = os.path.split(place)
    return os.path.join(_real_folder(folder), name)


@lru_cache
def _real_folder(folder: str) -> str:
    """Return a folder without links, which the files in it, one after the other, need not find out anew."""
    return os.path.realpath(folder)


def suffix_of(place: str) -> str:
    """Return the suffix in lower case, without the query of a URI."""
    return PurePosixPath(place.partition("?")[0] if is_remote(place) else place).suffix.lower()


def inside(place: str, name: str) -> str:
    """Return the address of the file ``name`` in the folder ``place``, a URI."""
    address, mark, query = place.partition("?")
    return f"{address.rstrip('/')}/{quote(name)}{mark}{query}"


def as_text(name: str) -> str:
    """Return a name in UTF-8, as Arrow's texts are; other bytes of it are written out."""
    return name.encode("utf-8", "backslashreplace").decode()


def list_files(place: str, recursive: bool) -> list[str] | None:
    """Return the files of a folder, by name, without hidden ones; None for a file.

    Raises `FaceMeshError` for a place that is not there or cannot be listed.
    """
    if not is_remote(place):
        return _list_local(place, recursive)
    with _reported(place):
        filesystem, path = fs.FileSystem.from_uri(place)
        info = filesystem.get_file_info(path)
        if info.type == fs.FileType.NotFound:
            raise FaceMeshError(f"{place}: no such file or folder; check the address given to --source")
        if info.type != fs.FileType.Directory:
            return None
        found = filesystem.get_file_info(fs.FileSelector(path, recursive=recursive))
    names = sorted(each.path[len(path) :].strip("/") for each in found if each.type == fs.FileType.File)
    return [inside(place, name) for name in names if not any(part.startswith(".") for part in name.split("/"))]


def _list_local(place: str, recursive: bool) -> list[str] | None:
    """Do `list_files` here, for names of any bytes; a folder that links lead to several times counts once."""
    if not os.path.exists(place):
        raise FaceMeshError(f"{place}: no such file or folder; check the path given to --source")
    if not os.path.isdir(place):
        return None
    found: list[str] = []
    visited: set[str] = set()
    with _reported(place):
        for root, folders, files in os.walk(place, onerror=_raise, followlinks=True):
            visited.add(os.path.realpath(root))
            found += (os.path.join(root, name) for name in files if not name.startswith("."))
            below = (name for name in folders if recursive and not name.startswith("."))
            folders[:] = (name for name in below if os.path.realpath(os.path.join(root, name)) not in visited)
    return sorted(found)


def _raise(error: OSError) -> None:
    raise error


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
        file = _open_remote(place) if is_remote(place) else _open_local(place)
    with file:
        yield file


def _open_remote(place: str) -> Any:
    filesystem, path = fs.FileSystem.from_uri(place)
    if filesystem.get_file_info(path).type != fs.FileType.File:
        raise _no_file(place)
    return filesystem.open_input_file(path)


def _open_local(place: str) -> Any:
    if not os.path.isfile(place):
        raise _no_file(place)
    return pa.OSFile(os.fsencode(place))


def _no_file(place: str) -> FaceMeshError:
    return FaceMeshError(f"{place}: no plain file there; it was moved or is of another kind")


@contextmanager
def _reported(place: str) -> Iterator[None]:
    """Turn errors of Arrow into one line."""
    try:
        yield
    except ARROW_ERRORS as error:
        raise FaceMeshError(
            f"{place}: cannot be read ({reason(error)}); check the address and its permissions"
        ) from None
