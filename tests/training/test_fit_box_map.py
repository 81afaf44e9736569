"""The fit on faces whose map is known, and what the shipped map is worth on validation photographs."""

from __future__ import annotations

import argparse
import json

import numpy as np
import pytest

from runtime.detection.box_map import FEATURES, box_features, landmark_boxes, load_box_map
from runtime.errors import FaceMeshError
from runtime.families.face_model import load_face_model
from runtime.geometry.boxes import box_iou
from training import fit_box_map
from training.data.labels import load_labels
from training.fit_box_map import (
    Matches,
    box_targets,
    fit,
    match_faces,
    mirror_features,
    report,
    robust_least_squares,
    row_weights,
)

SIDE = 160  # px of the pictures


def symmetric_coefficients() -> np.ndarray:
    """(55, 4): some map that treats a face and its mirror image alike."""
    half = np.random.default_rng(1).normal(0, 0.2, (FEATURES, 4))
    mirrored = mirror_features(np.eye(FEATURES)) @ half * (-1, 1, 1, 1)
    return (half + mirrored) / 2


def matches(count: int = 400, outliers: int = 0) -> Matches:
    generator = np.random.default_rng(0)
    rows = np.zeros((count, 15), np.float32)
    # Some boxes lie near each border, some away from all.
    rows[:, :2], rows[:, 2:4] = generator.uniform(-9, 90, (count, 2)), generator.uniform(50, 90, (count, 2))
    typical = np.array([0.3, 0.4, 0.7, 0.4, 0.5, 0.6, 0.35, 0.8, 0.65, 0.8])
    places = (typical + generator.normal(0, 0.08, (count, 10))).reshape(count, 5, 2)
    rows[:, 4:14] = (rows[:, None, :2] + places * rows[:, None, 2:4]).reshape(count, 10)
    sizes = np.full((count, 2), SIDE)
    boxes = landmark_boxes(rows, sizes, symmetric_coefficients())
    boxes[:outliers] += generator.uniform(30, 60, (outliers, 1)).astype(np.float32)
    source = np.where(np.arange(count) % 3, "300wlp_afw", "other")
    yaw_deg, is_val = generator.uniform(-90, 90, count).astype(np.float32), np.arange(count) % 5 == 4
    return Matches(rows, sizes, boxes, source, yaw_deg, is_val, np.arange(count) % 7 == 3)


def test_known_map_is_found():
    np.testing.assert_allclose(fit(matches()), symmetric_coefficients(), atol=1e-3)


def test_outliers_hardly_move_it():
    given = matches(2000, outliers=40)
    boxes = landmark_boxes(given.rows[40:], given.size_wh[40:], fit(given))
    assert np.abs(boxes - given.boxes_xyxy[40:]).max() < 0.2
    design = box_features(given.rows, given.size_wh)
    plain = np.linalg.lstsq(design, box_targets(given.rows, given.boxes_xyxy), rcond=None)[0]
    assert np.abs(landmark_boxes(given.rows[40:], given.size_wh[40:], plain) - given.boxes_xyxy[40:]).max() > 2


def test_targets_are_the_inverse_of_the_runtime():
    """A constant map whose row is the target of a face gives that face's box."""
    given = matches(1)
    coefficients = np.zeros((FEATURES, 4))
    coefficients[0] = box_targets(given.rows, given.boxes_xyxy)[0]
    np.testing.assert_allclose(landmark_boxes(given.rows, given.size_wh, coefficients), given.boxes_xyxy, atol=1e-3)


def test_mirrored_picture_gives_mirrored_box():
    given = matches(20)
    coefficients, side = fit(matches()), SIDE
    flipped = given.rows.copy()
    flipped[:, 0] = side - given.rows[:, 0] - given.rows[:, 2]
    points = given.rows[:, 4:14].reshape(-1, 5, 2)[:, [1, 0, 2, 4, 3]] * (-1, 1) + (side, 0)
    flipped[:, 4:14] = points.reshape(-1, 10)
    x1, y1, x2, y2 = landmark_boxes(given.rows, given.size_wh, coefficients).T
    np.testing.assert_allclose(
        landmark_boxes(flipped, given.size_wh, coefficients), np.stack([side - x2, y1, side - x1, y2], 1), atol=1e-3
    )


def test_validation_rows_do_not_take_part():
    given = matches()
    given.boxes_xyxy[given.is_val] += 20
    np.testing.assert_allclose(fit(given), symmetric_coefficients(), atol=1e-3)


def test_constant_map_uses_the_box_alone():
    assert not fit(matches(), constant=True)[1:].any()


def test_sources_count_by_their_share():
    source = np.array(["aflw"] * 90 + ["helen"] * 10)
    weights = row_weights(source)
    assert weights[:90].sum() == pytest.approx(0.35 * 100)
    assert weights[90:].sum() == pytest.approx(0.15 * 100)
    np.testing.assert_array_equal(row_weights(np.array(["300wlp", "300wlp"])), 1)


def test_robust_least_squares_is_exact_without_noise():
    design = np.stack([np.ones(50), np.arange(50)], 1)
    target = design @ (3.0, -0.5)
    target[7] = 1000
    np.testing.assert_allclose(robust_least_squares(design, target, np.ones(50)), (3, -0.5), atol=1e-6)


def test_box_iou():
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]], np.float64)
    np.testing.assert_allclose(box_iou(boxes[0], boxes), [1, 50 / 150, 0])


def test_report_measures_in_box_sides():
    given = matches()
    given.boxes_xyxy[:] = given.rows[:, :2].repeat(2, axis=0).reshape(-1, 4) + (0, 0, 50, 50)
    given.rows[:, 2:4] = 50
    given.rows[:, 0] += 5  # a detector that looks 10 % too far to the right
    residual = report(given, np.zeros((FEATURES, 4)))["all"]
    assert residual["faces"] == (given.is_val & ~given.is_cut).sum()
    assert residual["shift_x_mean"] == pytest.approx(0.1)
    assert residual["shift_y_mean"] == residual["log_scale_mean"] == pytest.approx(0)
    assert residual["iou_mean"] == pytest.approx(45 / 55, abs=1e-3)


@pytest.fixture(scope="module")
def validation(shared_data):
    labels = load_labels(shared_data / "train", load_face_model(shared_data / "face_model.npz"))
    labels = labels.select(np.flatnonzero(labels.is_val)[::10])
    return labels, match_faces(labels, shared_data / "train")


def test_shipped_map_on_validation_photographs(validation):
    """IoU 0.83 over all of them; YuNet's own boxes have 0.66."""
    labels, found = validation
    assert len(found.rows) > 0.95 * len(labels)
    residual = report(found, load_box_map())["all"]
    assert residual["iou_mean"] > 0.8
    assert abs(residual["shift_x_mean"]) < 0.02
    assert abs(residual["shift_y_mean"]) < 0.02
    assert abs(residual["log_scale_mean"]) < 0.02
    assert report(found, np.zeros((FEATURES, 4)))["all"]["iou_mean"] < 0.75


@pytest.mark.slow
def test_command_writes_what_the_runtime_reads(validation, shared_data, tmp_path, monkeypatch, capsys):
    """On every 65th photograph; 55 coefficients from some hundred faces are near the shipped ones where it counts."""
    monkeypatch.setattr(
        fit_box_map, "load_labels", lambda *arguments: load_labels(*arguments).select(np.arange(0, 14016, 65))
    )
    path = tmp_path / "map.json"
    arguments = argparse.Namespace(data=shared_data / "train", face_model=None, output=path)
    fit_box_map.run(arguments)
    document = json.loads(path.read_text())
    coefficients = np.array(document["coefficients"])
    assert coefficients.shape == (FEATURES, 4)
    assert 320 < document["samples"] < 432
    found = validation[1]
    fitted, shipped = (landmark_boxes(found.rows, found.size_wh, each) for each in (coefficients, load_box_map()))
    assert box_iou(fitted, shipped).mean() > 0.9
    assert "fitted, all" in capsys.readouterr().out


def test_photographs_without_faces(shared_data, monkeypatch):
    labels = load_labels(shared_data / "train", load_face_model(shared_data / "face_model.npz")).select(np.arange(2))
    monkeypatch.setattr(fit_box_map, "read_images", lambda *_: [np.zeros((256, 256, 3), np.uint8)] * 2)
    with pytest.raises(FaceMeshError, match="YuNet finds none of the 2"):
        match_faces(labels, shared_data / "train")
