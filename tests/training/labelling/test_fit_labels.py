"""The command on pictures of a small head: what it writes, what it leaves out, what it refuses."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tests.training.labelling.head import head_model, head_points, random_fits, save_head_model
from training.__main__ import main
from training.data.labels import load_labels, read_images
from training.labelling.face_fits import label_arrays
from training.labelling.write_labels import write_tar

COUNT, SIDE = 8, 64


def write_data(folder, **changes):
    """Points of random heads, y down, with their pictures and the face model; returns the stem."""
    save_head_model(folder / "face_model.npz")
    model, truth = head_points(), random_fits(COUNT, 30)
    points = truth.project(model.points(truth.latent))[:, :68, :2] * (1, -1)
    arrays = {
        "names": np.array([f"hand/{i}.jpg" for i in range(COUNT)]),
        "size": np.full(COUNT, SIDE, np.int32),
        "source": np.array(["a", "b"] * (COUNT // 2)),
        "is_val": np.arange(COUNT) % 4 == 3,
        "hand68": points.astype(np.float32),
    }
    np.savez(folder / "hand.npz", **{key: value for key, value in {**arrays, **changes}.items() if value is not None})
    picture = cv2.imencode(".jpg", np.zeros((SIDE, SIDE, 3), np.uint8))[1].tobytes()
    with open(folder / "hand.tar", "wb") as file:
        write_tar(file, dict.fromkeys(arrays["names"].tolist(), picture))
    return folder / "hand"


def fit(stem, *options):
    return main(["fit-labels", "--data", str(stem), "-o", str(stem.with_name("out")), *map(str, options)])


def hand68_of(stem):
    return np.load(stem.with_suffix(".npz"))["hand68"]


def test_labels_can_be_read_and_mean_the_same_faces(tmp_path, capsys):
    stem = write_data(tmp_path)
    assert fit(stem, "--contour", "vertices") == 0
    labels = load_labels(tmp_path / "out", head_model())
    truth = label_arrays(random_fits(COUNT, 30), head_points(), head_model())
    assert labels.names.tolist() == [f"hand/{i}.jpg" for i in range(COUNT)]
    assert labels.is_val.tolist() == [False, False, False, True] * 2
    assert set(labels.source) == {"a", "b"}
    assert np.abs(labels.pts68[..., :2] - truth["pts68"][..., :2]).mean() < 1  # px of faces of 100 px
    np.testing.assert_allclose(labels.yaw_deg, truth["yaw_deg"], atol=3)
    np.testing.assert_allclose(np.linalg.det(labels.rotation), -1, atol=1e-4)
    landmarks = (
        labels.scale[:, None, None] * head_model().landmarks(labels.coefficients) @ labels.rotation.transpose(0, 2, 1)
    )
    np.testing.assert_allclose(landmarks + labels.translation[:, None], labels.pts68, atol=1e-2)
    np.testing.assert_array_equal(labels.hand68, hand68_of(stem))
    assert len(read_images(tmp_path / "out", labels)) == COUNT
    assert f"{COUNT} of {COUNT} faces fitted" in capsys.readouterr().out


def test_second_run_writes_the_same(tmp_path):
    stem = write_data(tmp_path)
    contents = []
    for _ in range(2):
        assert fit(stem) == 0
        contents.append({key: value.tobytes() for key, value in np.load(tmp_path / "out.npz").items()})
    assert contents[0] == contents[1]


def test_bad_fits_are_left_out_and_listed(tmp_path, capsys):
    stem = write_data(tmp_path)
    points = hand68_of(stem)
    points[1, 4:] = np.nan  # four points are left
    points[2] = np.random.default_rng(0).uniform(0, SIDE, (68, 2))  # no face
    points[3, 30] += 60  # one point far off
    write_data(tmp_path, hand68=points)
    assert fit(stem) == 0
    assert [name[5] for name in np.load(tmp_path / "out.npz")["names"]] == ["0", "4", "5", "6", "7"]
    listing = dict(line.split(",") for line in (tmp_path / "out_dropped.csv").read_text().splitlines())
    assert listing["hand/1.jpg"] == "fewer than 6 points"
    assert "mean residual" in listing["hand/2.jpg"]
    assert listing["hand/3.jpg"] == "a point 15 % off or more"
    assert "left out: 3" in capsys.readouterr().out


def test_shift_moves_one_source(tmp_path):
    stem = write_data(tmp_path)
    assert fit(stem, "--shift", "b=-1.5,0.5") == 0
    moved = np.load(tmp_path / "out.npz")["hand68"] - hand68_of(stem)
    np.testing.assert_allclose(moved[1::2], np.broadcast_to((-1.5, 0.5), (4, 68, 2)), atol=1e-4)
    assert not moved[::2].any()


def test_given_visibility_is_kept_and_missing_one_is_found(tmp_path):
    turned = random_fits(COUNT, 1)
    angle = np.deg2rad(60)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    turned = type(turned)(turned.scale, turn @ turned.rotation, turned.translation, turned.latent)
    points = (turned.project(head_points().points(turned.latent))[:, :68, :2] * (1, -1)).astype(np.float32)
    stem = write_data(tmp_path, hand68=points)
    assert fit(stem, "--contour", "vertices") == 0
    visible = np.load(tmp_path / "out.npz")["visible68"]
    assert (visible[:, :4] == 2).all()  # the near side
    assert (visible[:, 13:16] == 0).all()  # the nose points to the right, so the right contour is turned away
    given = np.full((COUNT, 68), 1, np.int8)
    write_data(tmp_path, hand68=points, visible68=given)
    assert fit(stem, "--contour", "vertices") == 0
    np.testing.assert_array_equal(np.load(tmp_path / "out.npz")["visible68"], given)


def test_faces_from_the_front_keep_their_contour(tmp_path):
    straight = random_fits(COUNT, 5)
    points = straight.project(head_points().points(straight.latent))[:, :68, :2] * (1, -1)
    assert fit(write_data(tmp_path, hand68=points.astype(np.float32)), "--contour", "vertices") == 0
    assert (np.load(tmp_path / "out.npz")["visible68"] == 2).mean() > 0.9


def test_start_and_check_read_what_was_written(tmp_path, capsys):
    stem = write_data(tmp_path)
    assert fit(stem) == 0
    (tmp_path / "out.npz").rename(tmp_path / "first.npz")
    (tmp_path / "out.tar").rename(tmp_path / "first.tar")
    assert fit(stem, "--start", tmp_path / "first") == 0
    lines = []
    for seed in (0, 0, 1):
        capsys.readouterr()
        assert main(["fit-labels", "--data", str(tmp_path / "first"), "--check", "b", "--seed", str(seed)]) == 0
        lines.append(capsys.readouterr().out)
    assert "b: 2 faces" in lines[0]  # those for validation
    assert lines[0] == lines[1] != lines[2]


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"hand68": None}, (), "has neither hand68 nor hand21"),
        ({"hand68": np.zeros((COUNT, 67, 2))}, (), "hand68 has shape"),
        ({"hand68": np.full((COUNT, 68, 2), np.inf)}, (), "hand68 must be floating-point pixels"),
        ({"hand68": np.zeros((COUNT, 68, 2), np.int32)}, (), "hand68 must be floating-point pixels"),
        ({"hand68": np.full((COUNT, 68, 2), np.nan, np.float32)}, (), "none of the 8 faces has a good fit"),
        ({"hand68": np.full((COUNT, 68, 2), 1e300)}, (), "hand68 of row 0 ('hand/0.jpg') holds 1e+300, not"),
        ({"size": np.full(COUNT, np.nan)}, (), "size of row 0 ('hand/0.jpg') holds nan, not whole numbers"),
        ({"size": np.full(COUNT, -5)}, (), "size of row 0 ('hand/0.jpg') holds -5, not whole numbers"),
        ({"visible68": np.full((COUNT, 68), 7)}, (), "visible68 must be integers"),
        ({"names": np.array(["same.jpg"] * COUNT)}, (), "names has 'same.jpg' twice"),
        ({"names": np.array([f"other/{i}.jpg" for i in range(COUNT)])}, (), "lacks 8 of the 8 pictures"),
        ({}, ("--shift", "c=1,0"), "has no rows of c to shift"),
        ({}, ("--offsets", "nothing.npz"), "nothing.npz: no such file"),
        ({}, ("--check", "c"), "hand.npz: lacks"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, capsys, changes, options, message):
    stem = write_data(tmp_path, **changes)
    before = sorted(path.name for path in tmp_path.iterdir())
    assert fit(stem, *options) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_output_may_not_be_the_data(tmp_path, capsys):
    stem = write_data(tmp_path)
    assert main(["fit-labels", "--data", str(stem), "-o", str(stem)]) == 1
    assert "the data themselves" in capsys.readouterr().err


@pytest.mark.parametrize("option", [("--shift", "a=1"), ("--noise", "-1"), ("--max-residual", "x")])
def test_unusable_options_are_usage_errors(tmp_path, option):
    with pytest.raises(SystemExit, match="2"):
        fit(tmp_path / "hand", *option)
