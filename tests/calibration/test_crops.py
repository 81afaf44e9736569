"""Crops from folders and archives: which faces, in which order, and what is refused."""

from __future__ import annotations

import shutil

import cv2
import numpy as np
import pytest

from calibration.crops import read_crops
from calibration.face_sources import load_faces
from calibration.faces import Faces, sample, set_apart
from runtime.errors import FaceMeshError
from runtime.geometry.crop import crop_into, crop_matrix
from tests.calibration.small import SPEC


def faces_with(yaw_deg) -> Faces:
    count = len(yaw_deg)
    names = np.array([str(number) for number in range(count)])
    return Faces(
        None, names, np.zeros((count, 4), np.float32), np.asarray(yaw_deg, np.float32), np.zeros(count, bool), None
    )


def test_sample_takes_all_poses_alike():
    """90 frontal faces, 20 half turned, 4 in profile: of 24, the few profiles all come and the rest is shared."""
    chosen = sample(faces_with([0] * 90 + [-40] * 20 + [80] * 4), 24)
    assert [int((chosen.yaw_deg == yaw).sum()) for yaw in (0, -40, 80)] == [10, 10, 4]


def test_sample_is_seeded_and_in_order():
    faces = faces_with(np.linspace(-90, 90, 500))
    first, again, other = sample(faces, 50, 1), sample(faces, 50, 1), sample(faces, 50, 2)
    assert first.names.tolist() == again.names.tolist() != other.names.tolist()
    assert np.all(np.diff(first.names.astype(int)) > 0)
    assert len(sample(faces, 1000)) == 500
    assert len(sample(faces_with([np.nan] * 30), 7)) == 7


def test_archive(write_faces):
    stem = write_faces(8)
    for path in (stem, stem.with_suffix(".npz"), stem.with_suffix(".tar")):
        faces = load_faces(path)
        assert faces.names.tolist() == [f"{index:03}.png" for index in range(8)]
        assert faces.is_val.sum() == 2
        assert faces.landmarks_xy.shape == (8, 68, 2)
    crops = read_crops(faces.select([5, 2]), SPEC)
    assert crops.faces.names.tolist() == ["005.png", "002.png"]
    assert np.any(crops[0][0] != crops[1][0])


def test_folder_crops_are_those_of_the_runtime(portrait_folder, tmp_path):
    (tmp_path / "boxes.csv").write_text("path,x1,y1,x2,y2\na.png,180,90,270,176\n")
    faces = load_faces(portrait_folder, tmp_path / "boxes.csv")
    image, matrix = read_crops(faces, SPEC)[0]
    expected = np.zeros((3, 32, 32), np.float32)
    crop_into(
        cv2.imread(str(portrait_folder / "a.png")), crop_matrix((180, 90, 270, 176), 1.6, 32), SPEC.input, expected
    )
    np.testing.assert_array_equal(image[0], expected)
    np.testing.assert_array_equal(matrix, crop_matrix((180, 90, 270, 176), 1.6, 32))


def test_folder_without_boxes_is_detected(portrait_folder):
    faces = load_faces(portrait_folder)
    assert len(faces) == 1
    assert np.abs(faces.boxes_xyxy[0] - (180, 90, 270, 176)).max() < 20


def test_hash_tells_pictures_boxes_and_order_apart(write_faces, tmp_path):
    faces = load_faces(write_faces(6))
    digest = read_crops(faces, SPEC).sha256()
    moved = Faces(faces.origin, faces.names, faces.boxes_xyxy + 1, faces.yaw_deg, faces.is_val, None)
    others = [
        read_crops(faces.select(np.arange(6)[::-1]), SPEC),
        read_crops(moved, SPEC),
        read_crops(faces.select(np.arange(5)), SPEC),
    ]
    assert len({digest, *(other.sha256() for other in others)}) == 4
    for suffix in (".npz", ".tar"):
        shutil.copy(tmp_path / f"faces{suffix}", tmp_path / f"copy{suffix}")
    assert read_crops(load_faces(tmp_path / "copy"), SPEC).sha256() == digest


@pytest.fixture
def portrait_folder(repository, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), cv2.imread(str(repository / "runtime" / "assets" / "astronaut.jpg")))
    return folder


def test_pictures_without_a_face_are_left_out_and_named(portrait_folder, capsys):
    cv2.imwrite(str(portrait_folder / "b.png"), np.zeros((64, 64, 3), np.uint8))
    (portrait_folder / "c.jpg").write_bytes(b"no picture")
    assert len(load_faces(portrait_folder)) == 1
    error = capsys.readouterr().err
    assert "no face found in 1 of 3 pictures: b.png" in error
    assert "c.jpg" in error
    for path in portrait_folder.iterdir():
        if path.name[0] not in "bc":
            path.unlink()
    with pytest.raises(FaceMeshError, match="no face found in any picture"):
        load_faces(portrait_folder)


def test_pictures_set_apart_keep_all_of_their_faces(tmp_path):
    names = np.array(["a", "a", "b", "c", "c", "d"])
    boxes, unknown = np.tile([0, 0, 9, 9], (6, 1)).astype(np.float32), np.full(6, np.nan, np.float32)
    apart = set_apart(Faces(tmp_path, names, boxes, unknown, np.zeros(6, bool), None), 0.5)
    assert len({*names[apart.is_val]}) == len({*names[~apart.is_val]}) == 2
    assert not {*names[apart.is_val]} & {*names[~apart.is_val]}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("", "no box for any of the 1 pictures"),
        ("b.png,1,1,9,9\n", "'b.png' is not a picture of the source"),
    ],
)
def test_boxes_that_do_not_match(portrait_folder, tmp_path, lines, message):
    (tmp_path / "boxes.csv").write_text("path,x1,y1,x2,y2\n" + lines)
    with pytest.raises(FaceMeshError, match=message):
        load_faces(portrait_folder, tmp_path / "boxes.csv")


def test_box_outside_its_picture(write_faces):
    stem = write_faces(4, box=np.full((4, 4), (300, 300, 340, 340), np.float32))
    with pytest.raises(FaceMeshError, match=r"000\.png: the box .* outside the 80 x 80 picture"):
        read_crops(load_faces(stem), SPEC)[0]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"box": np.full((4, 4), np.nan, np.float32)}, r"4 of 4 rows have no face, first 000\.png"),
        ({"box": np.full((4, 4), 1e300)}, r"box of row 0 \('000\.png'\) holds 1e\+300"),
        ({"pts68": np.full((4, 68, 2), np.nan)}, r"pts68 of row 0 \('000\.png'\) holds nan"),
        ({"yaw_deg": np.full(4, np.inf)}, r"yaw_deg of row 0 \('000\.png'\) holds inf"),
        ({"box": np.zeros((3, 4), np.float32)}, r"box has shape \(3, 4\), expected \(4, 4\)"),
        ({"box": None}, "lacks box"),
    ],
)
def test_archives_that_are_no_face_sets(write_faces, arrays, message):
    with pytest.raises(FaceMeshError, match=message):
        load_faces(write_faces(4, **arrays))


def test_no_crops(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FaceMeshError, match="no photos in this folder"):
        load_faces(tmp_path / "empty")
    with pytest.raises(FaceMeshError, match=r"gone\.npz: no such file; give crops as a folder, or"):
        load_faces(tmp_path / "gone")


def test_archive_with_boxes(write_faces, tmp_path):
    with pytest.raises(FaceMeshError, match="brings its own boxes"):
        load_faces(write_faces(4), tmp_path / "boxes.csv")
