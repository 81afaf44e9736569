"""Output files appear whole or not at all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from runtime.errors import FaceMeshError


def write_error(path: Path, error: OSError) -> FaceMeshError:
    """The one line for a file that the system would not let us write."""
    return FaceMeshError(f"{path}: cannot be written ({error.strerror or error}); free some space or choose another place")


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open ``path`` for binary writing under a temporary name; it gets its own name at the end, and nothing stays after an error.

    Raises `FaceMeshError` when the file cannot be written.
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


def rename_whole(temporary: Path, path: Path) -> None:
    try:
        os.replace(temporary, path)
    except OSError as error:
        raise write_error(path, error) from error


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Hex SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else hashlib.sha256(file.read()).hexdigest()
