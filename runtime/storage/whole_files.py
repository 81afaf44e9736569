"""Output files appear whole or not at all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from runtime.errors import FaceMeshError, reason


def write_error(path: Path, error: OSError) -> FaceMeshError:
    """Return the error for a file that the system does not let us write."""
    return FaceMeshError(f"{path}: cannot be written ({reason(error)}); free some space or choose another place")


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open ``path`` for binary writing under a temporary name, until the end of the ``with``.

    Nothing stays after an error. Raises `FaceMeshError` if the file cannot be written.
    """
    temporary = path.with_name(path.name + ".part")
    try:
        with open(temporary, "wb") as file:
            yield file
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise write_error(path, error) from error
        raise


def require_writable(path: Path) -> None:
    """Raise `FaceMeshError` if the file ``path`` could not be written in the end, before hours of work for it."""
    temporary = path.with_name(path.name + ".part")
    if path.is_dir():
        raise FaceMeshError(f"{path}: a folder has this name; choose another one")
    try:
        with open(temporary, "ab"):
            pass
        temporary.unlink()
    except OSError as error:
        raise write_error(path, error) from error


def rename_whole(temporary: Path, path: Path) -> None:
    """Give the finished file ``temporary`` its name ``path``; raises `FaceMeshError` if that fails."""
    try:
        os.replace(temporary, path)
    except OSError as error:
        raise write_error(path, error) from error


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
