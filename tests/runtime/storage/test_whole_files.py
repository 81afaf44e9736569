"""Output files are on the disk before they get their names, and get them all or none of them."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from runtime.errors import FaceMeshError
from runtime.storage.whole_files import rename_whole, whole_file, whole_files

WRITE_SLOWLY = """
import sys
from pathlib import Path
from runtime.storage.whole_files import whole_file
with whole_file(Path(sys.argv[1])) as file:
    file.write(b"first")
    file.flush()
    print("begun", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def calls(monkeypatch):
    """The order in which the system is asked to store and to rename."""
    made = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *given, real=real, name=name: (made.append(name), real(*given))[1])
    return made


def test_content_is_stored_before_it_gets_its_name(tmp_path, calls):
    with whole_files(tmp_path / "a", tmp_path / "b") as (first, second):
        first.write(b"1")
        second.write(b"2")
    assert calls == ["fsync", "fsync", "replace", "replace"]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"1", "b": b"2"}
    (tmp_path / "film.part").write_bytes(b"3")
    rename_whole(tmp_path / "film.part", tmp_path / "film")
    assert calls[4:] == ["fsync", "replace"]


def write_both(*paths):
    with whole_files(*paths) as files:
        for file in files:
            file.write(b"new")


@pytest.mark.parametrize("earlier", [{}, {"a": b"old"}, {"a": b"old", "b": b"older"}])
@pytest.mark.parametrize("has_links", [True, False])
def test_second_name_refused(tmp_path, monkeypatch, earlier, has_links):
    """The first file has its name by then: what was there before comes back."""
    for name, content in earlier.items():
        (tmp_path / name).write_bytes(content)
    real = os.replace

    def refuse(source, target):
        if str(source).endswith("b.part"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(source, target)

    def no_link(*_):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "replace", refuse)
    if not has_links:
        monkeypatch.setattr(os, "link", no_link)
    with pytest.raises(FaceMeshError, match="b: cannot be written"):
        write_both(tmp_path / "a", tmp_path / "b")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == earlier


def test_two_processes_never_write_one_file(tmp_path):
    path = tmp_path / "model.onnx"
    command = [sys.executable, "-c", WRITE_SLOWLY, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "begun\n"
        with pytest.raises(FaceMeshError, match=r"model\.onnx: .*another process is writing it"), whole_file(path):
            pass
        process.communicate("\n")
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["model.onnx"]


def test_what_a_killed_process_left_is_written_over(tmp_path):
    path = tmp_path / "model.onnx"
    path.with_name("model.onnx.part").write_bytes(b"long left over")
    with whole_file(path) as file:
        file.write(b"new")
    assert {found.name: found.read_bytes() for found in tmp_path.iterdir()} == {"model.onnx": b"new"}
