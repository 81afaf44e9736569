"""The --boxes file."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.errors import FaceMeshError
from runtime.sources.boxes_csv import read_boxes

HEADER = "path,x1,y1,x2,y2\n"


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    return [folder / name for name in ("a.jpg", "b c.jpg")]


def write(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "boxes.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_several_lines_per_picture_and_none(tmp_path, pictures):
    boxes = read_boxes(write(tmp_path, HEADER + "a.jpg,1,2,30,40\n\na.jpg, 5 , 6.5 ,70,80\n"), pictures)
    np.testing.assert_array_equal(boxes[str(pictures[0])], [[1, 2, 30, 40], [5, 6.5, 70, 80]])
    assert boxes[str(pictures[0])].dtype == np.float32
    assert boxes[str(pictures[1])].shape == (0, 4)


@pytest.mark.parametrize("name", ["b c.jpg", "photos/b c.jpg", "./photos/../photos/b c.jpg", "ABSOLUTE"])
def test_ways_to_write_a_path(tmp_path, pictures, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    name = str(pictures[1].resolve()) if name == "ABSOLUTE" else name
    assert len(read_boxes(write(tmp_path, f'{HEADER}"{name}",1,2,30,40\n'), pictures)[str(pictures[1])]) == 1


def test_spreadsheet_dialect(tmp_path, pictures):
    text = "\ufeffPath,X1,Y1,X2,Y2\r\na.jpg,1,2,30,40\r\n"
    assert len(read_boxes(write(tmp_path, text), pictures)[str(pictures[0])]) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"boxes\.csv: the header line is missing"),
        ("a.jpg,1,2,30,40\n", "the header line is missing or different; it must be path,x1,y1,x2,y2"),
        ("path;x1;y1;x2;y2\na.jpg;1;2;3;4\n", "the header line is missing or different"),
        (HEADER + "a.jpg,1,2,30\n", "line 2: 4 columns instead of 5"),
        (HEADER + "a.jpg,1,2,30,40\na.jpg,1,2,30,40,0.9\n", "line 3: 6 columns instead of 5"),
        (HEADER + "a.jpg,1,2,wide,40\n", "line 2: could not convert string to float: 'wide'"),
        (HEADER + "a.jpg,1,2,1_50,40\n", "line 2: '1_50' is no number in digits from 0 to 9; x1,y1"),
        (HEADER + "a.jpg,1,2,١٥٠,40\n", "line 2: '١٥٠' is no number"),
        (HEADER + "a.jpg,1,2,0x10,40\n", "line 2: could not convert"),
        (HEADER + "a.jpg,1,nan,30,40\n", "line 2: box .*: not a box, not finite"),
        (HEADER + "a.jpg,1,2,inf,40\n", "line 2: box .*: not a box, not finite"),
        (HEADER + "a.jpg,30,2,1,40\n", "line 2: box .*: not a box, reversed"),
        (HEADER + "a.jpg,1,40,30,2\n", "line 2: box .*: not a box, reversed"),
        (HEADER + "a.jpg,1,2,1.5,40\n", "line 2: box .*: under 1 px"),
        (HEADER + "z.jpg,1,2,30,40\n", "line 2: 'z.jpg' is not a picture of the source"),
    ],
)
def test_bad_lines_are_named(tmp_path, pictures, text, message):
    with pytest.raises(FaceMeshError, match=message):
        read_boxes(write(tmp_path, text), pictures)


@pytest.mark.parametrize("content", [b"\xff\xd8\xff\xe0\x00\x10", b"path,x1,y1,x2,y2\n\x00\x00,1,2,3,4\n"])
def test_no_text_at_all(tmp_path, pictures, content):
    path = tmp_path / "boxes.csv"
    path.write_bytes(content)
    with pytest.raises(FaceMeshError, match=r"boxes\.csv"):
        read_boxes(path, pictures)


def test_missing_file_and_folder(tmp_path, pictures):
    for path in (tmp_path / "nothing.csv", tmp_path):
        with pytest.raises(FaceMeshError, match="cannot be read"):
            read_boxes(path, pictures)
