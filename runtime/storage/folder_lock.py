"""One run at a time in an output folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from runtime.errors import FaceMeshError, reason
from runtime.storage.whole_files import remove_quietly, write_error

LOCK_NAME = ".facemesh.lock"


class FolderLock:
    """The right to write into a folder.

    The system takes it from a process that ends, however it ends, so a file that was left behind locks nobody out.
    """

    def __init__(self, folder: Path) -> None:
        """Take the right.

        Raises `FaceMeshError` with the number of the process that has it, and if the lock's file cannot be used.
        """
        self._path = folder / LOCK_NAME
        self._file: int | None = None
        while self._file is None:
            file = self._open()
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = os.read(file, 32).decode("ascii", "replace").strip()
                os.close(file)
                remedy = "wait for its end, or choose another --output"
                fault = f"another run (process {owner or 'unknown'}) is writing into this folder"
                raise FaceMeshError(f"{folder}: {fault}; {remedy}") from None
            except OSError:  # a file system without locks
                os.close(file)
                return
            if self._is_current(file):
                self._file = file
            else:  # the run before has removed it meanwhile
                os.close(file)
        try:
            os.ftruncate(self._file, 0)
            os.write(self._file, f"{os.getpid()}\n".encode("ascii"))
        except OSError as error:  # a full disk
            self.release()
            raise write_error(self._path, error) from error

    def release(self) -> None:
        """Give the right back."""
        if self._file is not None:
            remove_quietly(self._path)
            os.close(self._file)
            self._file = None

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:  # another user's file
            remedy = "remove it if no run of its owner is under way, or choose another --output"
            raise FaceMeshError(f"{self._path}: this lock cannot be taken ({reason(error)}); {remedy}") from error

    def _is_current(self, file: int) -> bool:
        try:
            return os.path.samestat(os.fstat(file), os.stat(self._path))
        except FileNotFoundError:
            return False
