"""Two runs never write into one folder."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

import pytest

from runtime.errors import FaceMeshError
from runtime.storage.folder_lock import LOCK_NAME, FolderLock

HOLD = """
import sys, time
from pathlib import Path
from runtime.storage.folder_lock import FolderLock
lock = FolderLock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


def test_second_run_is_told_of_the_first(tmp_path):
    lock = FolderLock(tmp_path)
    with pytest.raises(FaceMeshError, match=rf"another run \(process {os.getpid()}\) is writing into this folder"):
        FolderLock(tmp_path)
    lock.release()
    assert list(tmp_path.iterdir()) == []
    FolderLock(tmp_path).release()


def test_lock_of_a_killed_run_is_none(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    with pytest.raises(FaceMeshError, match=rf"process {process.pid}\)"):
        FolderLock(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert (tmp_path / LOCK_NAME).read_text() == f"{process.pid}\n"
    FolderLock(tmp_path).release()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be two users")
def test_lock_of_another_user(tmp_path):
    """In a folder for all, whose files can be opened by their owners alone."""
    (tmp_path / LOCK_NAME).touch(mode=0o600)
    os.chown(tmp_path / LOCK_NAME, 12345, 12345)
    code = (
        "import os, sys; from pathlib import Path; from runtime.storage.folder_lock import FolderLock;"
        "os.setegid(54321); os.seteuid(54321); FolderLock(Path(sys.argv[1]))"
    )
    tmp_path.chmod(0o777)
    for folder in (tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert f"FaceMeshError: {tmp_path / LOCK_NAME}: this lock cannot be taken (Permission denied); " in run.stderr


def test_lock_that_is_no_file(tmp_path):
    (tmp_path / LOCK_NAME).mkdir()
    with pytest.raises(FaceMeshError, match=rf"{LOCK_NAME}: this lock cannot be taken \(Is a directory\); remove it"):
        FolderLock(tmp_path)


def test_full_disk(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(FaceMeshError, match=rf"{LOCK_NAME}: cannot be written \(No space left on device\)"):
        FolderLock(tmp_path)
    monkeypatch.undo()
    FolderLock(tmp_path).release()


def test_left_file_with_any_content(tmp_path):
    (tmp_path / LOCK_NAME).write_text("1\n")
    lock = FolderLock(tmp_path)
    assert (tmp_path / LOCK_NAME).read_text() == f"{os.getpid()}\n"
    lock.release()
