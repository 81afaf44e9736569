"""``python -m benchmarks accuracy``: published figures, a model that knows the answer, and bad input."""

from __future__ import annotations

import json
import math

import cv2
import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.accuracy.accuracy import best_match
from benchmarks.accuracy.labelled_faces import DenseTruth, load_faces
from runtime.families.model_topology import FaceModelTopology
from runtime.geometry.crop import crop_matrix
from runtime.geometry.nme import box_size, point_nme

REFERENCES = [  # of the data's README: faces; mean; bins; balanced, in %
    ("mb05_aflw2000_dev.npz", "pts68_gt_boxes", "68 points 2D", 1000, 3.43, (2.96, 3.88, 4.86), 3.90),
    ("mb05_aflw2000_dev.npz", "pts68_gt_boxes", "68 points 2D, re-annotated", 1000, 2.99, (2.65, 3.15, 4.29), 3.36),
    ("mb05_aflw2000_dev.npz", "pts68_yunet_boxes", "68 points 2D", 990, 3.84, (3.36, 4.21, 5.47), 4.35),
    ("mb05_aflw2000_dev.npz", "pts68_yunet_boxes", "68 points 2D, re-annotated", 990, 3.52, (3.22, 3.54, 4.82), 3.86),
    ("prnet_40.npz", "kpt", "68 points 2D", 18, 2.75, None, None),
]


@pytest.mark.parametrize(("file", "key", "measure", "faces", "mean", "bins", "balanced"), REFERENCES)
def test_reference_predictions_score_what_their_readme_says(
    shared_data, tmp_path, file, key, measure, faces, mean, bins, balanced
):
    row = run(
        tmp_path,
        "--data",
        shared_data / "aflw2000_dev",
        "--predictions",
        shared_data / "reference" / file,
        "--key",
        key,
    )[measure]
    assert row["faces"] == faces
    assert round(row["mean"], 2) == mean
    if bins:
        assert tuple(round(value, 2) for value in row["bins"]) == bins
        assert round(row["balanced"], 2) == balanced


def test_dense_truth_agrees_with_the_labelled_landmarks(shared_data, topology):
    """To 0.8 %: the coefficients reproduce the published landmarks to 0.65 %, and the map rounds places to pixels."""
    faces = load_faces(shared_data / "aflw2000_dev", limit=20)
    truth = DenseTruth(faces.model, topology)
    landmarks = np.stack([truth(faces.labels, row)[topology.landmark_vertices] for row in range(20)])
    assert point_nme(landmarks, faces.labels.pts68, box_size(faces.labels.box)).mean() < 1.0


def test_model_that_knows_the_faces_has_no_error(toy_set, write_oracle, tmp_path):
    rows = run(tmp_path, "--data", toy_set.data, "--engine", write_oracle("exact.onnx"), "--boxes", "ground-truth")
    assert set(rows) == {"68 points 2D", "68 points 3D", "dense 2D", "dense 3D"}
    for row in rows.values():
        assert row["faces"] == 6
        assert (
            row["mean"] < 0.6
        )  # the map has 64 pixels along a side, a landmark lies up to half a pixel of 256 beside its vertex


@pytest.mark.parametrize(("shift_px", "counts_in"), [((5, 0, 0), "2D"), ((0, 0, 9), "neither")])
def test_shift_of_the_output_is_measured_in_the_photograph(toy_set, write_oracle, tmp_path, shift_px, counts_in):
    box = toy_set.labels.box[0]
    crop_px = crop_matrix(box, 1.6, 128)[0, 0]
    expected = 100 * 5 / crop_px / math.sqrt((box[2] - box[0]) * (box[3] - box[1])) if counts_in == "2D" else 0
    rows = run(
        tmp_path, "--data", toy_set.data, "--engine", write_oracle("moved.onnx", shift_px), "--boxes", "ground-truth"
    )
    for row in rows.values():
        assert row["mean"] == pytest.approx(expected, abs=0.6)
        assert row["balanced"] == pytest.approx(row["mean"])


def test_missed_faces_are_counted_and_named(toy_set, write_oracle, tmp_path, capsys):
    """There is nothing to detect in a grey picture."""
    document = run(
        tmp_path, "--data", toy_set.data, "--engine", write_oracle("exact.onnx"), "--rows", "validation", whole=True
    )
    assert document["missed"] == {"ground-truth": [], "detected": ["1.png", "3.png", "5.png"]}
    detected = [row for row in document["table"] if row["boxes"] == "detected"]
    assert all(row["faces"] == 0 and row["mean"] is None for row in detected)
    assert "missed with detected boxes: 3 (1.png, 3.png, 5.png)" in capsys.readouterr().out


def test_document_says_where_it_comes_from(toy_set, write_oracle, tmp_path):
    document = run(
        tmp_path,
        "--data",
        toy_set.data,
        "--engine",
        write_oracle("exact.onnx"),
        "--limit",
        "2",
        "--boxes",
        "ground-truth",
        whole=True,
    )
    assert document["data"]["faces"] == 2
    assert all(len(digest) == 64 for digest in [document["subject"]["sha256"], *document["data"]["sha256"].values()])
    assert document["data"]["sha256"].keys() == {"toy.npz", "toy.tar"}
    assert document["command"].startswith("python -m benchmarks")
    assert {"python", "numpy"} <= document["versions"].keys()
    assert {"cpu", "cores", "system"} <= document["machine"].keys()


def test_predictions_are_matched_by_name(toy_set, tmp_path):
    points = toy_set.labels.pts68[[4, 2]] + np.array([0, 1])[:, None, None]
    np.savez(tmp_path / "some.npz", names=["4.png", "2.png"], pts68=points)
    document = run(tmp_path, "--data", toy_set.data, "--predictions", tmp_path / "some.npz", whole=True)
    assert document["missed"]["given"] == ["0.png", "1.png", "3.png", "5.png"]
    row = document["table"][0]
    assert row["bins"][0] is None
    assert row["bins"][1] == pytest.approx(0, abs=1e-6)  # face 4
    assert row["bins"][2] > 1  # face 2


@pytest.mark.parametrize(
    ("names", "point", "message"),
    [
        (["faces/0.jpg", "faces/0.jpg"], 1.0, "names has 'faces/0.jpg' twice"),
        (["faces/0.jpg", "faces/1.jpg"], 1e300, "pts68 must be px up to 1,000,000, NaN where a face was missed"),
        (["faces/0.jpg", "faces/1.jpg"], "a", "pts68 must be px"),
    ],
)
def test_predictions_that_cannot_be_right(toy_set, tmp_path, capsys, names, point, message):
    np.savez(tmp_path / "own.npz", names=np.array(names), pts68=np.full((2, 68, 2), point))
    assert main(["accuracy", "--data", str(toy_set.data), "--predictions", str(tmp_path / "own.npz")]) == 1
    assert message in capsys.readouterr().err


def test_best_match():
    boxes = np.array([[0, 0, 10, 10], [2, 2, 12, 12], [50, 50, 60, 60]], np.float32)
    np.testing.assert_array_equal(best_match(np.array([2, 2, 11, 12]), boxes), boxes[1])
    assert best_match(np.array([100, 100, 110, 110]), boxes) is None
    assert best_match(np.array([8, 8, 18, 18]), boxes[:1]) is None  # 4 of 196: another face
    assert best_match(np.array([0, 0, 10, 10]), np.empty((0, 4), np.float32)) is None


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--data", "nowhere/set"], "nowhere/set.npz: no such file"),
        (["--engine", "nowhere.onnx"], "nowhere.onnx"),
        (["--predictions", "nowhere.npz"], "nowhere.npz: no such file"),
        (["--predictions", "SELF", "--key", "lips"], "lacks lips"),
        (["--predictions", "SELF", "--key", "box"], "expected (6, 68, 2 or 3)"),
        (["--json", "nowhere/out.json"], "there is no folder nowhere"),
    ],
)
def test_bad_input_is_one_line(toy_set, capsys, monkeypatch, options, what):
    monkeypatch.chdir(toy_set.folder)
    arguments = ["accuracy", "--data", "toy", *(option.replace("SELF", "toy.npz") for option in options)]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert what in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_predictions_for_other_photographs(toy_set, tmp_path, capsys):
    np.savez(tmp_path / "other.npz", names=["cat.jpg"], pts68=np.zeros((1, 68, 2)))
    assert main(["accuracy", "--data", str(toy_set.data), "--predictions", str(tmp_path / "other.npz")]) == 1
    assert "none of its 1 names is in the data" in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--boxes", "guessed"], ["--limit", "0"], ["--rows", "some"]])
def test_usage_errors(toy_set, options):
    with pytest.raises(SystemExit) as exit_code:
        main(["accuracy", "--data", str(toy_set.data), *options])
    assert exit_code.value.code == 2


def run(folder, *options, whole=False):
    """The JSON document, or its rows by measure."""
    path = folder / "out.json"
    assert main(["accuracy", *map(str, options), "--json", str(path)]) == 0
    document = json.loads(path.read_text())
    return document if whole else {row["measure"]: row for row in document["table"]}


def test_network_of_coefficients_is_measured_with_the_face_model_of_the_labels(toy_set, tmp_path):
    """It has vertices of its own, and its spec may name a file that is not here."""
    pytest.importorskip("onnx", reason="needs onnx to make a model")
    from tests.standins.coefficient_network import write_toy_model

    engine = write_toy_model(tmp_path)
    (tmp_path / "face_model.npz").unlink()
    rows = run(tmp_path, "--data", toy_set.data, "--engine", engine, "--boxes", "ground-truth")
    assert set(rows) == {"68 points 2D", "68 points 3D", "dense 2D", "dense 3D"}
    assert all(0 < row["mean"] < 100 for row in rows.values())


def test_dense_truth_of_a_face_model_is_its_own_vertices(toy_set):
    faces = load_faces(toy_set.data)
    truth = DenseTruth(faces.model, FaceModelTopology(faces.model))
    vertices = truth(faces.labels, 0)
    np.testing.assert_allclose(vertices[faces.model.keypoints68], faces.labels.pts68[0], atol=1e-3)


def test_a_folder_of_300w_lp_is_a_labelled_set(toy_set, tmp_path):
    """The names of its pictures lead to their labels; bins are those of their yaws."""
    scipy_io = pytest.importorskip("scipy.io", reason="SciPy, which writes MATLAB files, is not installed")
    model = toy_set.data.parent / "face_model.npz"
    folder = tmp_path / "300W_LP"
    folder.mkdir()
    for name, yaw in (("front_0", 0.1), ("side_0", -1.2)):
        columns = {"Shape_Para": np.zeros((199, 1)), "Exp_Para": np.zeros((29, 1))}
        pose = np.array([[0, yaw, 0, 200, 200, 0, 1e-3]])
        scipy_io.savemat(folder / f"{name}.mat", {**columns, "Pose_Para": pose})
        cv2.imwrite(str(folder / f"{name}.jpg"), np.full((450, 450, 3), 90, np.uint8))
    faces = load_faces(folder, model)
    assert len(faces) == 2
    assert faces.bins.tolist() == [0, 2]
    assert faces.images[1].shape == (450, 450, 3)
    assert faces.sha256 == {}
