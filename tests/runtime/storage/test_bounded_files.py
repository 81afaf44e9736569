"""Files of users: plain ones alone, nothing is waited for, and every bound can be raised."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from runtime.errors import FaceMeshError
from runtime.models.spec import ModelSpec
from runtime.sources.boxes_csv import read_boxes
from runtime.sources.photos import read_photo
from runtime.storage import limits
from runtime.storage.bounded_files import read_bounded
from runtime.storage.mat_files import read_mat
from runtime.storage.npz_files import read_npz
from runtime.storage.picture_tar import read_tar
from runtime.storage.whole_files import file_sha256
from tests.standins.bounded_run import is_refused

READERS = {
    "photo.jpg": read_photo,
    "boxes.csv": lambda path: read_boxes(path, [Path("a.jpg")]),
    "spec.json": ModelSpec.load,
    "labels.mat": read_mat,
    "faces.npz": lambda path: read_npz(path, ["names"], what="labels"),
    "model.onnx": file_sha256,
    "faces.tar": lambda path: read_tar(path, ["a"]),
}


def make_pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def make_socket(path: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    return path


def make_link_to(target: str):
    def make(path: Path) -> Path:
        path.symlink_to(target)
        return path

    return make


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    "make",
    [make_pipe, make_socket, make_link_to("/dev/zero"), make_link_to("/dev/null"), make_link_to("/proc/self")],
    ids=["pipe", "socket", "zero", "null", "folder"],
)
def test_nothing_but_plain_files_is_read(tmp_path, name, make):
    path = make(tmp_path / name)
    with pytest.raises(FaceMeshError) as caught:
        READERS[name](path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", READERS)
def test_files_that_cannot_be_opened_are_one_line(tmp_path, name):
    for path in (tmp_path / name / "below", tmp_path / ("x" * 300 + name), tmp_path / f"a\0{name}"):
        with pytest.raises(FaceMeshError) as caught:
            READERS[name](path)
        assert "\n" not in str(caught.value)


def test_a_bound_is_told_and_can_be_raised(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(bytes(100))
    monkeypatch.setenv("FACEMESH_MAX_FILE_BYTES", "99")
    with pytest.raises(OSError, match=r"100 bytes in one file, the limit is 99 \(raise it with FACEMESH_MAX_FILE"):
        read_bounded(path)
    monkeypatch.setenv("FACEMESH_MAX_FILE_BYTES", "100")
    assert read_bounded(path) == bytes(100)


@pytest.mark.parametrize("text", ["0", "-1", "1e9", "many", "9" * 19, "٣"])
def test_a_bound_must_be_a_number(monkeypatch, text):
    monkeypatch.setenv("FACEMESH_MAX_PIXELS", text)
    with pytest.raises(FaceMeshError, match="FACEMESH_MAX_PIXELS must be a whole number"):
        _ = limits.PIXELS.value


def test_bounds_have_their_own_variables_and_are_documented(repository):
    variables = [limit.variable for limit in limits.ALL]
    assert len(set(variables)) == len(variables) == sum(isinstance(x, limits.Limit) for x in vars(limits).values())
    page = (repository / "docs" / "limits.md").read_text(encoding="utf-8")
    for limit in limits.ALL:
        assert f"| `{limit.variable}` | {limit.default:,} |" in page


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[" * 65 + "]" * 65, "65 levels of nesting, the limit is 64"),
        ("[" * 100_000, "100,000 levels"),
        ('{"a":' * 100_000, "100,000 levels"),
        ('{"name": ' + "9" * 5000 + "}", "5,000 digits in one number"),
        ('{"name": 1e999}', "lacks fields"),
        ('{"' + "x" * 5000 + '": 1}', "unknown fields: x{200};"),
        ('{"name": "\\ud83d\\ude00"}', "lacks fields"),
        ('{"name": "\\ud800"}', r"\\ud8… at byte 10 is half of a surrogate pair"),
        ('{"name": "\\\\\\uDC00\\uDC00"}', "half of a surrogate pair"),
        ('["\\ud83d\\ude00\\ud83d"]', "half of a surrogate pair"),
        ('{"name": {"a": 1, "b": 2, "a": 3}}', "the field 'a' stands there twice"),
        ("\x00", "cannot be read"),
        ("NaN", "must be a JSON object"),
    ],
)
def test_documents_are_bounded(tmp_path, text, problem):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(FaceMeshError, match=problem) as caught:
        ModelSpec.load(path)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "text",
    ['{"a":"' + '\\"' * 4_000_000, '{"a":"' + "x" * 8_000_000 + '"}', "[" + "[]," * 2_700_000 + "1]", '"' * 8_000_000],
    ids=["quotes", "text", "lists", "texts"],
)
def test_a_document_takes_little_time_and_memory(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    before = time.process_time()
    assert is_refused(ModelSpec.load, tmp_path / "a.json")
    assert time.process_time() - before < 10


def test_a_document_is_small(tmp_path):
    (tmp_path / "a.json").write_text(" " * 9_000_000)
    with pytest.raises(FaceMeshError, match="9,000,000 bytes in one JSON file, the limit is 8,388,608"):
        ModelSpec.load(tmp_path / "a.json")


def test_brackets_in_text_are_no_depth(tmp_path, make_spec):
    import dataclasses

    spec = dataclasses.replace(make_spec(), name='[{"\\' * 100)
    spec.save(tmp_path / "a.json")
    assert ModelSpec.load(tmp_path / "a.json") == spec
