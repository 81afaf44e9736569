"""Two runs never write into one folder."""

from __future__ import annotations

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


def test_left_file_with_any_content(tmp_path):
    (tmp_path / LOCK_NAME).write_text("1\n")
    lock = FolderLock(tmp_path)
    assert (tmp_path / LOCK_NAME).read_text() == f"{os.getpid()}\n"
    lock.release()
