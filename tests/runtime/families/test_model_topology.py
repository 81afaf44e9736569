"""A face model as the topology of meshes: borders, grid, neighbours, its UV position map."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from runtime.errors import FaceMeshError
from runtime.families.model_topology import FaceModelTopology, load_model_topology
from tests.training.toy import SIDE, toy_face_model


@pytest.fixture(scope="module")
def sheet() -> FaceModelTopology:
    """17 x 17 vertices, 16 pixels of the UV map apart."""
    return FaceModelTopology(toy_face_model())


def test_the_parts_of_a_mesh(sheet):
    model = sheet.model
    np.testing.assert_array_equal(sheet.canonical_vertices, model.mean * (1, -1, 1))
    np.testing.assert_array_equal(sheet.landmark_vertices, model.keypoints68)
    a, b, c = (sheet.canonical_vertices[model.triangles[:, k], :2].astype(float) for k in range(3))
    u, v = b - a, c - a
    assert (u[:, 0] * v[:, 1] > u[:, 1] * v[:, 0]).all()  # seen from the front
    with pytest.raises(ValueError, match="read-only"):
        sheet.canonical_vertices[0] = 0


def test_distance_to_the_border_counts_edges(sheet):
    row, column = np.divmod(np.arange(SIDE * SIDE), SIDE)
    # A diagonal from top right to bottom left lies in every square.
    straight = np.minimum.reduce([row, column, SIDE - 1 - row, SIDE - 1 - column])
    np.testing.assert_array_equal(sheet.border_distance(), straight)


def test_a_closed_surface_has_no_border():
    tetrahedron = np.array([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]], np.int32)
    topology = FaceModelTopology(dataclasses.replace(toy_face_model(), triangles=tetrahedron))
    assert np.isinf(topology.border_distance()).all()


def test_grid_lines_are_rows_and_columns_of_the_uv_map(sheet):
    row, column = np.divmod(np.arange(SIDE * SIDE), SIDE)
    lines = sheet.grid_lines(51)  # 255 / 51: every fifth part of the map, where vertices lie on 0 and 16 alone
    np.testing.assert_array_equal(lines, (row % (SIDE - 1) == 0) | (column % (SIDE - 1) == 0))
    assert sheet.grid_lines(255 // 15).mean() < 1


def test_smoothing_averages_neighbours(sheet):
    values = np.zeros((SIDE * SIDE, 2), np.float32)
    values[:, 1] = 3
    middle = SIDE * (SIDE // 2) + SIDE // 2
    values[middle, 0] = 49
    smooth = sheet.smooth(values)
    np.testing.assert_allclose(smooth[:, 1], 3, rtol=1e-6)
    assert smooth[middle, 0] == pytest.approx(7)  # itself and six neighbours, twice
    assert smooth[:, 0].sum() == pytest.approx(49, rel=1e-5)
    assert np.count_nonzero(smooth[:, 0]) == 19  # two rings of a triangle mesh


def test_position_map_interpolates_between_vertices(sheet):
    found = sheet.position_map(sheet.canonical_vertices)
    assert found.shape == (256, 256, 3)
    y, x = np.mgrid[:256, :256] / 127.5 - 1
    np.testing.assert_allclose(found[..., 0], x, atol=1e-4)
    np.testing.assert_allclose(found[..., 1], y, atol=1e-4)
    np.testing.assert_allclose(found[..., 2], 0.8 - 0.5 * x**2 - 0.2 * y**2, atol=0.003)  # flat between vertices


def test_position_map_of_a_mirrored_layout(sheet):
    """Triangles that turn the other way on the map are drawn as well."""
    mirrored = dataclasses.replace(sheet.model, uv=sheet.model.uv * (-1, 1) + (1, 0))
    found = FaceModelTopology(mirrored).position_map(sheet.canonical_vertices)
    np.testing.assert_allclose(found[:, ::-1], sheet.position_map(sheet.canonical_vertices), atol=1e-4)


def test_pixels_without_triangle_take_their_nearest_neighbours(sheet):
    half = dataclasses.replace(sheet.model, uv=(sheet.model.uv * (0.5, 1)).astype(np.float32))
    found = FaceModelTopology(half).position_map(sheet.canonical_vertices)
    np.testing.assert_allclose(found[:, 130:, 0], 1, atol=0.02)  # the right edge of the sheet
    np.testing.assert_allclose(found[:, 200, 1], np.linspace(-1, 1, 256), atol=0.02)


def test_a_layout_that_covers_nothing(sheet):
    point = dataclasses.replace(sheet.model, uv=np.full_like(sheet.model.uv, 0.5))
    with pytest.raises(FaceMeshError, match="cover no pixel"):
        FaceModelTopology(point).position_map(sheet.canonical_vertices)


def test_the_published_model_has_the_shipped_layout(shared_data, topology):
    """Its position map at the shipped pixels is the shipped mean face."""
    published = load_model_topology(shared_data / "face_model.npz")
    found = published.position_map(published.canonical_vertices).reshape(-1, 3)[topology.face_indices]
    canonical = topology.canonical_vertices
    scale = np.ptp(canonical[:, 0]) / np.ptp(found[:, 0])
    aligned = scale * found
    aligned += canonical.mean(axis=0) - aligned.mean(axis=0)
    distance = np.linalg.norm(aligned - canonical, axis=1) / np.ptp(canonical[:, 1])
    assert np.quantile(distance, 0.999) < 1e-4
    assert 0 < published.grid_lines(8).mean() < 0.3
    assert published.border_distance().max() > 30
