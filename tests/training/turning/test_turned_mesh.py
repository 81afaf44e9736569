"""Turned copies show every visible vertex at the place that their label gives."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from runtime.compiled import native
from runtime.geometry.pose import rotation_to_pose
from tests.training.toy import coordinate_pictures, toy_face_model, toy_labels
from training.turning.photo_turner import PhotoTurner
from training.turning.render import render_turned, resized_pose
from training.turning.turned_mesh import FLIP_Y, azimuths_deg, make_photo_mesh, turned_pose, visible_triangles

MODEL = toy_face_model()
LABELS = toy_labels(MODEL, 8)
AZIMUTHS = azimuths_deg(LABELS.rotation)


def turned_on(row: int, degrees: float) -> float:
    """The azimuth of a face turned on to its own side."""
    return AZIMUTHS[row] + np.copysign(degrees, AZIMUTHS[row])


def visible_twice(mesh, pose, side: int) -> np.ndarray:
    """Vertices well inside the visible surface before and after the turn."""
    before = set(mesh.triangles[(mesh.triangles < len(mesh.face)).all(axis=1)].ravel().tolist())
    vertices = pose.apply(mesh.face).astype(np.float32)
    depth = native.rasterise(vertices, MODEL.triangles, np.ascontiguousarray(vertices[:, 2:]), (side, side))[1]
    after = visible_triangles(vertices, MODEL.triangles, depth, tolerance=0.5)
    # A vertex on the rim is seen beside the background.
    inner = (np.abs(MODEL.mean[:, :2]) < 0.8).all(axis=1)
    return np.array([vertex for vertex in sorted(before & set(after.ravel().tolist())) if inner[vertex]])


@pytest.mark.parametrize("row", range(8))
def test_copy_shows_each_vertex_where_its_label_says(row):
    """The colours of the picture are its coordinates: a copy's colour names the place of the photograph it shows."""
    picture = coordinate_pictures(LABELS)[row].astype(np.float32)  # whole numbers would be up to 0.5 off
    mesh = make_photo_mesh(LABELS, row, MODEL)
    pose = turned_pose(mesh, turned_on(row, 25), 3.0)
    image = render_turned(picture, mesh, pose, len(picture))
    chosen = visible_twice(mesh, pose, len(picture))
    assert len(chosen) > 60
    predicted = pose.apply(mesh.face)[chosen, :2].astype(np.float32)
    shown = cv2.remap(image, predicted[None, :, 0], predicted[None, :, 1], cv2.INTER_LINEAR)[0, :, :2]
    error = np.linalg.norm(shown - mesh.texture[chosen], axis=1)
    assert np.median(error) < 0.05
    assert np.percentile(error, 90) < 0.3  # beside the outline a pixel of the copy mixes two surfaces


def test_dot_on_the_photograph_is_found_at_the_predicted_place():
    row = 0
    mesh = make_photo_mesh(LABELS, row, MODEL)
    pose = turned_pose(mesh, turned_on(row, 20), 0.0)
    side = int(LABELS.size[row])
    inner = [vertex for vertex in visible_twice(mesh, pose, side) if (np.abs(MODEL.mean[vertex, :2]) < 0.4).all()]
    assert len(inner) > 30
    y, x = np.mgrid[:side, :side]
    for vertex in inner[::6]:
        at_x, at_y = mesh.texture[vertex]
        dot = 255 * np.exp(-((x - at_x) ** 2 + (y - at_y) ** 2) / (2 * 1.5**2))
        image = render_turned(np.dstack([dot] * 3).round().astype(np.uint8), mesh, pose, side)[..., 0].astype(float)
        found = np.array([(image * x).sum(), (image * y).sum()]) / image.sum()
        assert np.linalg.norm(found - pose.apply(mesh.face)[vertex, :2]) < 0.15


def test_mesh_of_the_face_is_the_formula_of_the_labels():
    mesh = make_photo_mesh(LABELS, 2, MODEL)
    pose = turned_pose(mesh, turned_on(2, 30), -4.0)
    expected = pose.scale * MODEL.vertices(LABELS.coefficients[2]) @ pose.rotation.T + pose.translation
    np.testing.assert_allclose(mesh.turn(pose)[: len(mesh.face)], expected, atol=1e-3)


def test_unturned_mesh_lies_on_its_photograph():
    """Without a turn the anchors stay where they are, so the copy is the photograph."""
    mesh = make_photo_mesh(LABELS, 1, MODEL)
    np.testing.assert_allclose(mesh.turn(mesh.pose)[:, :2], mesh.texture, atol=1e-2)
    picture = coordinate_pictures(LABELS)[1]
    difference = np.abs(render_turned(picture, mesh, mesh.pose, len(picture)).astype(int) - picture)
    assert difference[1:-1, 1:-1].max() <= 1


def test_label_of_a_smaller_copy_keeps_pixel_centres():
    pose = resized_pose(make_photo_mesh(LABELS, 0, MODEL).pose, 0.5)
    whole = LABELS.scale[0] * MODEL.mean @ LABELS.rotation[0].T + LABELS.translation[0]
    np.testing.assert_allclose(pose.apply(MODEL.mean)[:, :2], (whole[:, :2] + 0.5) / 2 - 0.5, atol=1e-4)


def test_turn_keeps_roll_size_and_place():
    mesh = make_photo_mesh(LABELS, 3, MODEL)
    pose = turned_pose(mesh, turned_on(3, 15), 2.0)
    before, after = rotation_to_pose(FLIP_Y @ mesh.pose.rotation), rotation_to_pose(FLIP_Y @ pose.rotation)
    np.testing.assert_allclose(after.yaw_deg, turned_on(3, 15), atol=1e-3)
    np.testing.assert_allclose(
        [after.pitch_deg - before.pitch_deg, after.roll_deg - before.roll_deg], [2, 0], atol=1e-3
    )
    assert pose.scale == mesh.pose.scale
    np.testing.assert_allclose(np.linalg.det(pose.rotation), -1, atol=1e-6)
    np.testing.assert_allclose(pose.apply(mesh.face).mean(axis=0), mesh.pose.apply(mesh.face).mean(axis=0), atol=1e-3)


def test_copies_have_no_holes():
    """A white photograph gives white copies: neither the turned face nor the background leaves a pixel black."""
    white = [np.full((160, 160, 3), 255, np.uint8)] * len(LABELS)
    turner = PhotoTurner(MODEL, LABELS, white)
    for row in range(len(LABELS)):
        for copy in turner.turn(
            row, np.array([turned_on(row, 20), np.copysign(85, AZIMUTHS[row])]), np.array([8.0, -8.0])
        ):
            assert cv2.imdecode(np.frombuffer(copy.jpeg, np.uint8), cv2.IMREAD_COLOR).min() > 250
