"""Output files appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from runtime.errors import FaceMeshError, reason
from runtime.storage.bounded_files import open_bounded


def write_error(path: Path, error: Exception) -> FaceMeshError:
    """Return the error for a file that the system does not let us write."""
    return FaceMeshError(f"{path}: cannot be written ({reason(error)}); free some space or choose another place")


@contextmanager
def whole_file(path: Path, temporary: Path | None = None) -> Iterator[BinaryIO]:
    """Open ``path`` for binary writing under the name ``temporary`` (None: with .part behind), until the ``with`` ends.

    Nothing stays after an error. Raises `FaceMeshError` if the file cannot be written or another process writes it.
    """
    with _Unfinished(path, temporary) as unfinished:
        yield unfinished.file
        unfinished.store()
        unfinished.rename()


@contextmanager
def whole_files(*paths: Path) -> Iterator[tuple[BinaryIO, ...]]:
    """Open several files as `whole_file` does. All get their names at the end, in this order, or none does."""
    with ExitStack() as opened:
        unfinished = [opened.enter_context(_Unfinished(path)) for path in paths]
        yield tuple(each.file for each in unfinished)
        for each in unfinished:
            each.store()
        with _put_back_on_error(paths[:-1]):
            for each in unfinished:
                each.rename()


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


def unique_name(path: Path) -> Path:
    """Return a temporary name beside ``path`` that no other writer has; readers of data sets leave it out."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")


def rename_whole(temporary: Path, path: Path) -> None:
    """Give the finished file ``temporary`` its name ``path``; raises `FaceMeshError` if that fails.

    Nothing stays after an error.
    """
    try:
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        remove_quietly(temporary)
        raise write_error(path, error) from error


def remove_quietly(path: Path) -> None:
    """Remove a file if there is one and the system lets us."""
    with contextlib.suppress(OSError):
        path.unlink()


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file in hexadecimal digits; raises `FaceMeshError` if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open_bounded(path, None) as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise FaceMeshError(f"{path}: cannot be read ({reason(error)}); check the file") from error
    return digest.hexdigest()


class _Unfinished:
    """A file under its temporary name, locked against other processes; a context manager without files after errors."""

    def __init__(self, path: Path, temporary: Path | None = None) -> None:
        self._path = path
        self._temporary = temporary or path.with_name(path.name + ".part")

    def __enter__(self) -> _Unfinished:
        try:
            self.file = _open_alone(self._temporary)
        except OSError as error:
            raise write_error(self._path, error) from error
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        try:
            self.file.close()  # after the rename: until then the lock is held
        except OSError as fault:
            error = error or fault
        if error is not None:
            remove_quietly(self._temporary)
        if isinstance(error, OSError):
            raise write_error(self._path, error) from error

    def store(self) -> None:
        """Bring the content to the disk, so that no crash of the machine leaves a name without its content."""
        try:
            self.file.flush()
            os.fsync(self.file.fileno())
        except OSError as error:
            raise write_error(self._path, error) from error

    def rename(self) -> None:
        try:
            os.replace(self._temporary, self._path)
        except OSError as error:
            raise write_error(self._path, error) from error


def _open_alone(path: Path) -> BinaryIO:
    """Open an empty file for writing; raises `OSError` if another process is writing it."""
    while True:
        file = open(path, "wb", opener=_open_untruncated)  # noqa: SIM115 - closed by the caller
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OSError(errno.EBUSY, "another process is writing it") from None
            except OSError:  # a file system without locks
                pass
            held = os.fstat(file.fileno())
            if os.path.samestat(held, os.stat(path)):
                if stat.S_ISREG(held.st_mode):
                    file.truncate(0)  # what a killed run has left
                return file
        except FileNotFoundError:  # the process that held it has just finished it
            pass
        except BaseException:
            file.close()
            raise
        file.close()


def _open_untruncated(path: str, flags: int) -> int:
    return os.open(path, flags & ~os.O_TRUNC, 0o666)


@contextmanager
def _put_back_on_error(paths: tuple[Path, ...]) -> Iterator[None]:
    """Let files be replaced, and put those of before back if that ends in an error."""
    copies: dict[Path, Path | None] = {}
    try:
        for path in paths:
            copies[path] = _keep(path) if path.exists() else None
        yield
    except BaseException:
        for path, copy in copies.items():
            with contextlib.suppress(OSError):
                if copy is None:
                    path.unlink()
                else:
                    os.replace(copy, path)
        raise
    finally:
        for copy in filter(None, copies.values()):
            remove_quietly(copy)


def _keep(path: Path) -> Path:
    """Return a second name of a file, or a copy of it where the file system has no links."""
    copy = path.with_name(path.name + ".old.part")
    remove_quietly(copy)
    try:
        os.link(path, copy)
    except OSError:
        try:
            shutil.copyfile(path, copy)
        except OSError as error:
            remove_quietly(copy)
            raise write_error(path, error) from error
    return copy
