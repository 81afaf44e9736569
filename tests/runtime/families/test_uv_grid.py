"""What a UV topology computes on its grid, on a grid small enough to work it out by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from runtime.families.uv_topology import UVTopology, landmarks_alone

SIDE = 16
ROWS, COLUMNS = range(9), range(3, 12)  # of the face: nine by nine, at the upper edge of the grid


def small(**changes) -> UVTopology:
    pixels = np.array([SIDE * row + column for row in ROWS for column in COLUMNS])
    corners = np.array([pixels[0], pixels[8], pixels[40], pixels[-1]])
    arrays = {
        "resolution": SIDE,
        "face_indices": pixels,
        "landmark_indices": np.resize(corners, 68),
        "triangles": np.array([[0, 1, 9], [1, 10, 9]]),
        "canonical_vertices": np.arange(3 * 81, dtype=np.float64).reshape(81, 3),
    }
    return UVTopology(**{**arrays, **changes})


@pytest.fixture(scope="module")
def topology() -> UVTopology:
    return small()


def on_grid(values: np.ndarray) -> np.ndarray:
    """(V,) as rows and columns of the face."""
    return values.reshape(len(ROWS), len(COLUMNS))


def test_texture_coordinates_are_centres_of_pixels_with_v_upwards(topology):
    assert topology.uv.dtype == np.float32
    np.testing.assert_allclose(topology.uv[0], [3.5 / 16, 15.5 / 16])
    np.testing.assert_allclose(topology.uv[-1], [11.5 / 16, 7.5 / 16])


def test_the_edge_of_the_grid_is_a_border_too(topology):
    straight = np.minimum.reduce(np.broadcast_arrays(*(np.minimum(axis, 8 - axis) for axis in np.ogrid[:9, :9])))
    np.testing.assert_allclose(on_grid(topology.border_distance()), straight + 1)


def test_all_four_edges_of_the_grid_are_borders():
    """A face that fills the grid."""
    whole = np.arange(SIDE**2)
    topology = small(face_indices=whole, canonical_vertices=np.zeros((SIDE**2, 3)))
    straight = np.minimum(np.arange(SIDE), SIDE - 1 - np.arange(SIDE)) + 1
    expected = np.minimum.outer(straight, straight)
    np.testing.assert_allclose(topology.border_distance().reshape(SIDE, SIDE), expected)


@pytest.mark.parametrize("step", [2, 3, 4])
def test_grid_lines_are_every_step_th_row_and_column(topology, step):
    expected = [[row % step == 0 or column % step == 0 for column in COLUMNS] for row in ROWS]
    np.testing.assert_array_equal(on_grid(topology.grid_lines(step)), expected)


def test_smoothing_is_a_gaussian_of_one_and_a_half_pixels(topology):
    values = np.zeros((81, 2), np.float32)
    values[40, 0], values[80, 1] = 1, 5  # the middle, and the lower right corner
    weights = np.exp(-0.5 * (np.arange(-12, 13) / 1.5) ** 2)
    weights[abs(np.arange(-12, 13)) > 6] = 0  # as far as OpenCV looks
    weights /= weights.sum()
    rows = weights[8:17] + weights[16:25]  # the grid is mirrored at its edge, which the face touches
    smooth = topology.smooth(values)
    assert smooth.shape == (81, 2)
    np.testing.assert_allclose(on_grid(smooth[:, 0]), np.outer(rows, weights[8:17]), atol=1e-6)
    np.testing.assert_allclose(on_grid(smooth[:, 1]), 5 * np.outer(weights[4:13], weights[4:13]), atol=1e-6)


def test_a_position_map_holds_the_vertices_in_their_pixels(topology):
    vertices = np.random.default_rng(0).random((81, 3)).astype(np.float32)
    grid = topology.position_map(vertices)
    assert grid.shape == (SIDE, SIDE, 3)
    np.testing.assert_array_equal(grid[:9, 3:12].reshape(81, 3), vertices)
    assert np.count_nonzero(grid) == np.count_nonzero(vertices)


def test_landmarks_alone_keep_grid_order_and_places(topology):
    alone = landmarks_alone(topology)
    assert alone.resolution == SIDE
    assert alone.face_indices.tolist() == [3, 11, 4 * 16 + 7, 8 * 16 + 11]
    assert alone.triangles.shape == (0, 3)
    np.testing.assert_array_equal(alone.landmark_indices, topology.landmark_indices)
    np.testing.assert_array_equal(alone.canonical_vertices, topology.canonical_vertices[[0, 8, 40, 80]])
    assert alone.landmark_vertices.tolist() == np.resize(range(4), 68).tolist()


@pytest.mark.parametrize("resolution", [0, -1, 4097])
def test_resolutions_beyond_all_measure_are_refused(resolution):
    with pytest.raises(ValueError, match=rf"resolution must be 1\.\.4096, is {resolution}"):
        small(resolution=resolution)


def test_the_least_and_the_largest_grid():
    one = np.zeros(1, np.int32)
    least = UVTopology(1, one, np.zeros(68, np.int32), np.zeros((0, 3), np.int32), np.zeros((1, 3)))
    assert least.uv.tolist() == [[0.5, 0.5]]
    last = 4096**2 - 1
    largest = UVTopology(4096, one + last, np.full(68, last), np.zeros((0, 3), np.int32), np.zeros((1, 3)))
    np.testing.assert_allclose(largest.uv, [[4095.5 / 4096, 0.5 / 4096]])
    with pytest.raises(ValueError, match=rf"face_indices must be 0\.\.{last}"):
        dataclasses.replace(largest, face_indices=one + last + 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"face_indices": np.zeros(0, np.int32)}, "face_indices must ascend"),
        ({"face_indices": np.array([3, 2])}, "face_indices must ascend"),
        ({"face_indices": np.array([[3, 4]])}, r"face_indices must have shape \(-1,\) \(-1: any\), has \(1, 2\)"),
        ({"landmark_indices": np.arange(68) + 100}, r"pixels that are not face: 108, 109, 110, 111, 112$"),
        ({"landmark_indices": np.full(68, 256)}, r"landmark_indices must be 0\.\.255, spans 256\.\.256"),
        ({"triangles": np.zeros((1, 3), bool)}, "triangles must be integers, is bool"),
        ({"canonical_vertices": np.full((81, 3), np.inf)}, r"canonical_vertices must be finite \(81, 3\)"),
        ({"canonical_vertices": np.zeros((81, 2))}, r"must be finite \(81, 3\), is \(81, 2\)"),
    ],
)
def test_arrays_that_do_not_fit_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        small(**changes)
