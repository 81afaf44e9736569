"""Labels of both layouts: what they mean in pixels, and what is refused."""

from __future__ import annotations

import io
import logging
import tarfile

import cv2
import numpy as np
import pytest

from runtime.errors import FaceMeshError
from runtime.families.face_model import FaceModel, load_face_model
from training.data.labels import load_labels, read_images


@pytest.fixture(scope="module")
def face_model(shared_data):
    return load_face_model(shared_data / "face_model.npz")


@pytest.fixture(scope="module")
def train(shared_data, face_model):
    return load_labels(shared_data / "train.npz", face_model)


@pytest.fixture
def small_model():
    """80 vertices, 2 + 1 coefficients."""
    rng = np.random.default_rng(0)
    mean, basis = rng.normal(size=(80, 3)).astype(np.float32), rng.normal(size=(240, 3)).astype(np.float32)
    triangles, uv = np.array([[0, 1, 2]], np.int32), rng.random((80, 2)).astype(np.float32)
    return FaceModel(mean, basis, 2, triangles, uv, np.arange(68, dtype=np.int32), np.arange(80, dtype=np.int32))


def jpeg(side, grey=128):
    return cv2.imencode(".jpg", np.full((side, side, 3), grey, np.uint8))[1].tobytes()


def spoiled(shape, value):
    """An array of three rows, the last value of which is wrong."""
    array = np.ones((3, *shape))
    array.flat[-1] = value
    return array


def write_arrays(folder, count=3, side=16, **changes):
    """A small labels file and its archive; returns the common stem."""
    arrays = {
        "names": np.array([f"set/{i}.jpg" for i in range(count)]),
        "source": np.full(count, "set"),
        "size": np.full(count, side, np.int32),
        "scale": np.ones(count, np.float32),
        "rotation": np.tile(np.diag([1, -1, 1]).astype(np.float32), (count, 1, 1)),
        "translation": np.zeros((count, 3), np.float32),
        "shape": np.zeros((count, 2), np.float32),
        "exp": np.zeros((count, 1), np.float32),
        "pts68": np.zeros((count, 68, 3), np.float32),
        "box": np.tile(np.float32([2, 2, 14, 14]), (count, 1)),
        "yaw_deg": np.zeros(count, np.float32),
    }
    np.savez(folder / "set.npz", **{key: value for key, value in {**arrays, **changes}.items() if value is not None})
    write_tar(folder / "set.tar", {f"set/{i}.jpg": jpeg(side, 40 * i) for i in range(count)})
    return folder / "set"


def write_tar(path, members):
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def write_300w_lp(folder, name, shape, expression, pose):
    scipy_io = pytest.importorskip("scipy.io")
    folder.mkdir(exist_ok=True)
    columns = {"Shape_Para": np.zeros((199, 1)), "Exp_Para": np.zeros((29, 1)), "Pose_Para": np.array(pose)[None]}
    columns["Shape_Para"][: len(shape), 0], columns["Exp_Para"][: len(expression), 0] = shape, expression
    scipy_io.savemat(folder / f"{name}.mat", columns)
    (folder / f"{name}.jpg").write_bytes(jpeg(450))


def test_arrays_mean_what_the_formula_says(train, face_model):
    """Every landmark of every row: scale * face @ rotation.T + translation is pts68."""
    points = (
        train.scale[:, None, None] * face_model.landmarks(train.coefficients) @ train.rotation.transpose(0, 2, 1)
        + train.translation[:, None]
    )
    assert len(train) == 14016
    assert train.is_val.sum() == 1023
    assert np.abs(points - train.pts68).max() < 1 / 64
    np.testing.assert_allclose(np.linalg.det(train.rotation), -1, atol=1e-4)
    assert np.isnan(train.hand68[train.source == "aflw"]).all()
    np.testing.assert_array_equal(train.visible68 == 2, np.isfinite(train.hand68).all(axis=2))


def test_pictures_belong_to_their_rows(train, shared_data):
    rows = np.flatnonzero(train.source == "helen")[:5][::-1]
    chosen = train.select(rows)
    images = read_images(shared_data / "train", chosen)
    with tarfile.open(shared_data / "train.tar") as archive:
        for row, image in zip(rows, images, strict=True):
            data = archive.extractfile(train.names[row]).read()
            np.testing.assert_array_equal(image, cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))


def test_300w_lp_gives_the_same_labels_as_the_arrays_made_from_it(train, face_model, tmp_path):
    """Rows of the arrays are written back as 300W-LP's files (450 px, y up, angles), then read as a user's folder
    would be."""
    rows = np.flatnonzero(train.source == "300wlp_afw")[::400]
    zoom = 450 / 256
    for row in rows:
        proper = np.diag([1, -1, 1]) @ train.rotation[row].astype(float)
        pitch, yaw, roll = (
            np.arctan2(proper[1, 2], proper[2, 2]),
            -np.arcsin(proper[0, 2]),
            np.arctan2(proper[0, 1], proper[0, 0]),
        )
        x, y, z = (train.translation[row] + (0.5, 0.5, 0)) * zoom - (0.5, 0.5, 0)  # pixel centres of 450
        pose = (pitch, yaw, roll, x + 1.6, 450 - y, z, train.scale[row] * zoom)
        write_300w_lp(
            tmp_path / "AFW", f"AFW_{row}_1_0", train.coefficients[row, :40], train.coefficients[row, 40:], pose
        )
    labels = load_labels(tmp_path, face_model)
    order = [int(name.split("_")[1]) for name in labels.names]
    assert sorted(order) == rows.tolist()
    expected = (train.pts68[order] + (0.5, 0.5, 0)) * zoom - (0.5, 0.5, 0)
    np.testing.assert_allclose(labels.pts68, expected, atol=0.05)
    np.testing.assert_allclose(labels.rotation, train.rotation[order], atol=1e-3)
    np.testing.assert_allclose(labels.yaw_deg, train.yaw_deg[order], atol=0.02)
    np.testing.assert_array_equal(labels.coefficients, train.coefficients[order])
    np.testing.assert_allclose(labels.box[:, :2], labels.pts68[..., :2].min(axis=1))
    assert (labels.size == 450).all()
    assert read_images(tmp_path, labels)[0].shape == (450, 450, 3)


def test_300w_lp_pose_signs(small_model, tmp_path):
    """Pose by hand: where a quarter turn about each axis takes the unit vectors; y counted from the bottom."""
    quarter = np.pi / 2
    for name, angles in {"a_0": (0, quarter, 0), "b_0": (0, 0, quarter), "c_0": (quarter, 0, 0)}.items():
        write_300w_lp(tmp_path, name, [], [], (*angles, 100, 200, 5, 10))
    labels = load_labels(tmp_path, small_model)
    unit = np.eye(3)
    expected = {
        "a_0.jpg": [[0, 0, 10], [0, -10, 0], [-10, 0, 0]],  # x -> z, z -> -x
        "b_0.jpg": [[0, 10, 0], [10, 0, 0], [0, 0, 10]],  # x -> down, up -> x
        "c_0.jpg": [[10, 0, 0], [0, 0, -10], [0, -10, 0]],  # up -> away, towards -> up
    }
    for i, name in enumerate(labels.names):
        moved = labels.scale[i] * unit @ labels.rotation[i].T
        np.testing.assert_allclose(moved, expected[name], atol=1e-5)
        np.testing.assert_allclose(labels.translation[i], [100 - 1.6, 250, 5], atol=1e-5)
    np.testing.assert_allclose(labels.yaw_deg, [-90, 0, 0])


def test_300w_lp_leaves_out_what_the_model_does_not_know_and_says_so(small_model, tmp_path, caplog):
    write_300w_lp(tmp_path, "x_0", [1, 2, 3], [4, 5], (0, 0, 0, 0, 0, 0, 1))
    with caplog.at_level(logging.WARNING):
        labels = load_labels(tmp_path, small_model)
    np.testing.assert_array_equal(labels.coefficients, [[1, 2, 4]])
    assert "2 + 1 of 199 + 29" in caplog.text


def test_300w_lp_validation_rows_keep_photographs_together(small_model, tmp_path):
    for photo in range(60):
        for face, view in ((1, 0), (1, 12), (2, 0)):
            write_300w_lp(tmp_path, f"AFW_{photo}_{face}_{view}", [], [], (0, 0, 0, 0, 0, 0, 1))
    labels = load_labels(tmp_path, small_model)
    by_photo = {}
    for name, is_val in zip(labels.names, labels.is_val, strict=True):
        by_photo.setdefault(name.split("_")[1], set()).add(bool(is_val))
    assert len(by_photo) == 60
    assert all(len(sides) == 1 for sides in by_photo.values())
    assert 0 < labels.is_val.sum() < 0.25 * len(labels)


def test_bad_300w_lp_folders_are_refused(small_model, tmp_path):
    scipy_io = pytest.importorskip("scipy.io")
    with pytest.raises(FaceMeshError, match=r"no \.mat file"):
        load_labels(tmp_path, small_model)
    write_300w_lp(tmp_path, "x_0", [], [], (0, 0, 0, 0, 0, 0, 1))
    good = (tmp_path / "x_0.mat").read_bytes()
    for bad in (b"", b"no mat file" * 30, good[:200], good[: len(good) // 2]):
        (tmp_path / "x_0.mat").write_bytes(bad)
        with pytest.raises(FaceMeshError, match=r"x_0\.mat"):
            load_labels(tmp_path, small_model)
    zeros = {"Pose_Para": np.zeros(7), "Shape_Para": np.zeros(199), "Exp_Para": np.zeros(29)}
    for variables in (
        {"other": 1},
        {**zeros, "Pose_Para": np.zeros(6)},
        {**zeros, "Shape_Para": np.zeros(40)},
        {**zeros, "Exp_Para": "text"},
    ):
        scipy_io.savemat(tmp_path / "x_0.mat", variables)
        with pytest.raises(FaceMeshError, match=r"x_0\.mat.*300W-LP"):
            load_labels(tmp_path, small_model)


def test_common_stem_and_either_file_name_the_same_data(small_model, tmp_path):
    stem = write_arrays(tmp_path)
    for path in (stem, stem.with_suffix(".npz"), stem.with_suffix(".tar")):
        labels = load_labels(path, small_model)
        assert len(read_images(path, labels)) == len(labels) == 3
    assert not labels.is_val.any()
    assert labels.hand68 is None
    assert labels.select(labels.names == "set/1.jpg").names.tolist() == ["set/1.jpg"]


def test_visibility_of_hand_points(small_model, tmp_path):
    """Points without place are never visible; without the array every placed point is."""
    hand68 = np.ones((3, 68, 2), np.float32)
    hand68[1, 5, 0] = np.nan
    visible68 = np.tile(np.arange(68) % 3, (3, 1)).astype(np.int8)
    given = load_labels(write_arrays(tmp_path, hand68=hand68, visible68=visible68), small_model)
    assert given.visible68.dtype == np.uint8
    assert given.visible68[0].tolist() == visible68[0].tolist()
    assert (visible68[1, 5], given.visible68[1, 5]) == (2, 0)
    assert given.select([1]).visible68.shape == (1, 68)
    without = load_labels(write_arrays(tmp_path, hand68=hand68), small_model)
    assert (without.visible68 == np.where(np.isnan(hand68[..., 0]), 0, 2)).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hand68": np.zeros((3, 68, 2)), "visible68": np.full((3, 68), 3)}, "visible68 must be integers 0"),
        ({"hand68": np.zeros((3, 68, 2)), "visible68": np.zeros((3, 68))}, "visible68 must be integers 0"),
        ({"pts68": None}, "lacks pts68"),
        ({"scale": np.ones(2, np.float32)}, r"scale has shape \(2,\), expected \(3,\)"),
        ({"box": np.float32(1)}, r"box has shape \(\)"),
        ({"shape": np.zeros((3, 5), np.float32)}, r"5 \+ 1 coefficients do not belong"),
        ({"size": [16, np.nan, 16]}, r"size of row 1 \('set/1.jpg'\) holds nan, not whole numbers 1 to 65535"),
        ({"size": [16, 16, -5]}, r"size of row 2 \('set/2.jpg'\) holds -5, not"),
        ({"size": [16, 16.5, 16]}, r"size of row 1 .* holds 16.5, not whole numbers"),
        ({"is_val": [0, 2, 1]}, r"is_val of row 1 .* holds 2, not whole numbers 0 to 1"),
        ({"scale": [1, 1, 0]}, r"scale of row 2 .* holds 0, not"),
        *[
            ({key: spoiled(shape, value)}, f"{key} of row 2 .* holds {value:g}".replace("+", r"\+"))
            for key, shape in {"scale": (), "rotation": (3, 3), "shape": (2,), "exp": (1,), "pts68": (68, 3)}.items()
            for value in (np.nan, -np.inf, 1e300)
        ],
        ({"hand68": spoiled((68, 2), 1e300)}, r"hand68 of row 2 .* holds 1e\+300"),
        ({"box": np.zeros((3, 4))}, "3 of 3 rows have no face, first set/0.jpg; remove"),
        ({"names": np.array(["set/0.jpg", "set/1.jpg", "set/0.jpg"])}, r"names has 'set/0.jpg' twice, first in row 0"),
        ({"names": np.array(["set/0.jpg", "\ud800", "a"])}, "its text has characters that do not exist"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_unfit_arrays_are_refused(small_model, tmp_path, changes, message):
    stem = write_arrays(tmp_path, **changes)
    with pytest.raises(FaceMeshError, match=message) as caught:
        load_labels(stem, small_model)
    assert "\n" not in str(caught.value)


def test_pictures_that_do_not_fit_their_labels_are_refused(small_model, tmp_path):
    stem = write_arrays(tmp_path)
    labels = load_labels(stem, small_model)
    archive = stem.with_suffix(".tar")
    whole = archive.read_bytes()

    archive.write_bytes(whole[:1600])  # the second picture is cut
    with pytest.raises(FaceMeshError, match=r"set\.tar"):
        read_images(stem, labels)
    archive.write_bytes(b"no archive")
    with pytest.raises(FaceMeshError, match=r"set\.tar: cannot be read as a tar"):
        read_images(stem, labels)
    write_tar(archive, {"set/0.jpg": jpeg(16)})
    with pytest.raises(FaceMeshError, match=r"lacks 2 of the 3 pictures .* first set/1\.jpg"):
        read_images(stem, labels)
    write_tar(archive, {"set/0.jpg": jpeg(17), "set/1.jpg": b"", "set/2.jpg": b"no picture"})
    images = read_images(stem, labels)
    for row, message in enumerate(("17 x 17 px, its label is for 16 x 16", "1.jpg: damaged", "2.jpg: damaged")):
        with pytest.raises(FaceMeshError, match=message):
            images[row]
    archive.unlink()
    with pytest.raises(FaceMeshError, match=r"set\.tar: no such file"):
        load_labels(stem, small_model)
