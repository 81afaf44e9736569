"""Faces from whatever holds faces: folders, films, 300W-LP; and the set that ``pack`` makes of them."""

from __future__ import annotations

import shutil

import cv2
import numpy as np
import pytest

from calibration.__main__ import main
from calibration.crops import read_crops
from calibration.face_sources import load_faces
from calibration.faces import Faces, set_apart
from calibration.quantise import judged_rows
from runtime.errors import FaceMeshError
from runtime.models.shipped import SHIPPED_PICTURE
from tests.calibration.small import SPEC

BOX = (179.2, 88.4, 270.2, 176.2)


@pytest.fixture
def pictures(tmp_path):
    """A folder of the astronaut, the same turned by EXIF, and a picture without a face."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    shutil.copy(SHIPPED_PICTURE, folder / "a.jpg")
    image = cv2.imread(str(SHIPPED_PICTURE))
    cv2.imwrite(str(folder / "dark.png"), image // 2)
    cv2.imwrite(str(folder / "empty.jpg"), np.full((64, 64, 3), 90, np.uint8))
    return folder


def write_turned(path) -> None:
    """Store the astronaut on its side, with the EXIF tag that turns it upright."""
    side = cv2.rotate(cv2.imread(str(SHIPPED_PICTURE)), cv2.ROTATE_90_COUNTERCLOCKWISE)
    data = cv2.imencode(".jpg", side)[1].tobytes()
    tag = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    path.write_bytes(data[:2] + b"\xff\xe1" + (len(tag) + 2).to_bytes(2, "big") + tag + data[2:])


def test_pictures_without_a_face_are_counted_and_listed(pictures, capsys):
    faces = load_faces(pictures)
    assert len(faces) == 2
    assert "warning: no face found in 1 of 3 pictures: empty.jpg" in capsys.readouterr().err


def test_names_of_pictures_do_not_steer_the_terminal(pictures, capsys):
    (pictures / "\x1b[31m\n.jpg").write_bytes(b"no picture")
    load_faces(pictures)
    assert "\x1b" not in (said := capsys.readouterr().err)
    assert "left out: " in said
    assert "\\x1b[31m\\n.jpg" in said


def test_a_folder_of_folders(pictures):
    assert len(load_faces(pictures.parent)) == 2


def test_boxes_of_a_part_of_the_pictures(pictures, tmp_path, capsys):
    csv = tmp_path / "boxes.csv"
    csv.write_text(f"path,x1,y1,x2,y2\na.jpg,{','.join(map(str, BOX))}\n")
    assert len(load_faces(pictures, csv)) == 1
    error = capsys.readouterr().err
    assert "boxes.csv: boxes for 1 of 3 pictures; no face is looked for in the others: dark.png, empty.jpg" in error


def test_film(tmp_path):
    image = cv2.imread(str(SHIPPED_PICTURE))
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, image.shape[1::-1])
    for _ in range(5):
        writer.write(image)
    writer.release()
    faces = load_faces(path)
    assert len(faces) == 5
    np.testing.assert_allclose(faces.boxes_xyxy.mean(0), BOX, atol=12)
    crops = read_crops(faces, SPEC)
    assert crops[0][0].std() > 0.05
    assert len(crops.sha256()) == 64
    with pytest.raises(FaceMeshError, match=r"frames of a film have no names; leave out --boxes"):
        load_faces(path, tmp_path / "boxes.csv")


def test_300w_lp(tmp_path):
    io = pytest.importorskip("scipy.io", reason="SciPy, which writes MATLAB files, is not installed")
    points = np.random.default_rng(0).uniform(100, 300, (2, 68))
    for name in ("one", "two"):
        shutil.copy(SHIPPED_PICTURE, tmp_path / f"{name}.jpg")
        pose = np.array([[0.1, np.deg2rad(-30), 0, 0, 0, 0, 1e-3]])
        io.savemat(tmp_path / f"{name}.mat", {"pt2d": points, "Pose_Para": pose})
    faces = load_faces(tmp_path)
    assert len(faces) == 2
    np.testing.assert_allclose(faces.landmarks_xy[0], points.T - 1, atol=1e-3)
    np.testing.assert_allclose(faces.yaw_deg, 30, atol=1e-3)
    np.testing.assert_allclose(faces.boxes_xyxy[1], [*(points.min(1) - 1), *(points.max(1) - 1)], atol=1e-3)
    io.savemat(tmp_path / "two.mat", {"pt2d": points[:, :5]})
    with pytest.raises(FaceMeshError, match=r"two\.mat: no 68 points \(pt3d_68 or pt2d\) in it"):
        load_faces(tmp_path)


def test_pack_makes_a_set_of_the_same_crops(pictures, tmp_path, capsys):
    write_turned(pictures / "turned.jpg")
    stem = tmp_path / "faces"
    assert main(["pack", str(pictures), "-o", str(stem), "--judging", "34%"]) == 0
    assert "faces.tar: 3 faces in 3 pictures, 1 of them for judging" in capsys.readouterr().out
    folder, packed = load_faces(pictures), load_faces(stem)
    assert packed.names.tolist() == ["a.jpg", "dark.png", "turned.jpg"]
    assert packed.is_val.sum() == 1
    np.testing.assert_array_equal(packed.boxes_xyxy, folder.boxes_xyxy)
    for row in range(3):
        crop, expected = (read_crops(faces, SPEC)[row][0] for faces in (packed, folder))
        assert np.abs(crop - expected).mean() < (0.02 if row == 2 else 1e-6)
    assert main(["pack", str(stem), "-o", str(tmp_path / "again")]) == 1
    assert "it is a set already" in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_found_before_the_work(pictures, tmp_path, capsys, monkeypatch):
    (tmp_path / "faces.tar").mkdir()
    monkeypatch.setattr("calibration.pack.load_faces", None)
    assert main(["pack", str(pictures), "-o", str(tmp_path / "faces")]) == 1
    assert "faces.tar: a folder has this name; choose another one" in capsys.readouterr().err


def test_two_pictures_are_enough_and_one_is_not(tmp_path, capsys):
    names = np.array(["a", "a", "b"])
    faces = Faces(tmp_path, names, np.zeros((3, 4), np.float32), np.zeros(3), np.zeros(3, bool), None)
    assert set_apart(faces, 0.25).is_val.sum() in (1, 2)
    assert not set_apart(faces, 0.0).is_val.any()
    one = set_apart(faces.select(faces.names == "a"), 0.25)
    assert not one.is_val.any()
    with pytest.raises(FaceMeshError, match=r"one picture with faces, and two are the least.*; give more, some 200"):
        judged_rows(one, None)
