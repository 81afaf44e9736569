"""The one way in which files of users are opened: plain files alone, and not beyond a documented size."""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO

from runtime.storage.limits import FILE_BYTES, Limit

SPECIAL_FILES = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_bounded(path: str | os.PathLike[str], limit: Limit | None = FILE_BYTES) -> BinaryIO:
    """Open a plain file for reading.

    Raises `OSError` with a ``strerror`` for users, also for pipes, sockets, devices and folders, which are never waited
    for, and for a file beyond ``limit``; None is for files that are read in part.
    """
    try:
        file = open(path, "rb", opener=_open_without_waiting)  # noqa: SIM115 - the caller closes it
    except ValueError as error:  # a null character in the name
        raise OSError(errno.EINVAL, str(error)) from None
    try:
        if limit is not None and (excess := limit.excess(file_length(file))):
            raise OSError(errno.EFBIG, excess)
    except BaseException:
        file.close()
        raise
    return file


def read_bounded(path: str | os.PathLike[str], limit: Limit = FILE_BYTES) -> bytes:
    """Return the content of a plain file; errors are those of `open_bounded`."""
    with open_bounded(path, limit) as file:
        return file.read()


def file_length(file: BinaryIO) -> int:
    """Return the bytes of an open file."""
    return os.fstat(file.fileno()).st_size


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a plain file and refuse anything else; a pipe without a writer does not block."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
    if kind != stat.S_IFREG:
        os.close(descriptor)
        if kind == stat.S_IFDIR:
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        raise OSError(errno.EINVAL, f"it is {SPECIAL_FILES.get(kind, 'no plain file')}, a plain file is wanted")
    return descriptor
