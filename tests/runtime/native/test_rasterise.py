"""The z-buffer behind the overlay."""

from __future__ import annotations

import numpy as np
import pytest

from runtime import _native

QUAD = np.array([[0, 1, 2], [0, 2, 3]], np.int32)  # clockwise on screen: front


def quad(x1: float, y1: float, x2: float, y2: float, z: float) -> np.ndarray:
    return np.array([[x1, y1, z], [x2, y1, z], [x2, y2, z], [x1, y2, z]], np.float32)


def draw(vertices, triangles=QUAD, values=None, size_wh=(12, 10)):
    values = np.ones((len(vertices), 1), np.float32) if values is None else values
    return _native.rasterise(vertices, triangles, values, size_wh)


def test_pixels_whose_centres_are_covered():
    image, depth = draw(quad(2.5, 1.5, 6.5, 4.5, 7))
    expected = np.zeros((10, 12), bool)
    expected[2:5, 3:7] = True
    assert image.shape == (10, 12, 1)
    assert depth.shape == (10, 12)
    assert np.array_equal(image[..., 0] > 0.99, expected)
    assert depth[expected] == pytest.approx(7)
    assert np.all(depth[~expected] == -np.inf)


def test_values_and_depth_are_interpolated():
    """A linear ramp over the vertices is that ramp in every pixel."""
    vertices = np.array([[0, 0, 0], [11, 0, 22], [11, 9, 49], [0, 9, 27]], np.float32)  # z = 2 x + 3 y
    values = np.stack([vertices[:, 0], 5 - vertices[:, 1], np.full(4, 9)], axis=1).astype(np.float32)
    image, depth = draw(vertices, values=values)
    y, x = np.mgrid[:10, :12]
    assert image == pytest.approx(np.stack([x, 5 - y, np.full_like(x, 9)], axis=2), abs=1e-4)
    assert depth == pytest.approx(2 * x + 3 * y, abs=1e-4)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_larger_z_hides_smaller_z(order):
    corners = [quad(0, 0, 11, 9, 1), quad(4, 3, 7, 6, 2)]
    vertices = np.concatenate([corners[i] for i in order])
    values = np.repeat(np.float32([[10], [20]])[list(order)], 4, axis=0)
    image, depth = draw(vertices, np.concatenate([QUAD, QUAD + 4]), values)
    assert np.all(image[3:7, 4:8, 0] == pytest.approx(20))
    assert depth.max() == 2
    assert (image[..., 0] > 15).sum() == 16


def test_back_faces_are_left_out():
    image, _ = draw(quad(0, 0, 11, 9, 1), QUAD[:, ::-1].copy())
    assert not image.any()


def test_a_fine_mesh_leaves_no_cracks():
    rng = np.random.default_rng(0)
    side = 90
    y, x = np.mgrid[:side, :side].astype(np.float32)
    inner = (x > 0) & (x < side - 1) & (y > 0) & (y < side - 1)
    jitter = rng.uniform(-0.3, 0.3, (2, side, side)).astype(np.float32) * inner
    vertices = np.stack([x + jitter[0], y + jitter[1], np.zeros_like(x)], axis=2).reshape(-1, 3) * np.float32(
        [0.73, 0.73, 1]
    )
    corner = (np.arange(side - 1)[:, None] * side + np.arange(side - 1)).reshape(-1)
    triangles = np.concatenate(
        [np.stack([corner, corner + 1, corner + side + 1], 1), np.stack([corner, corner + side + 1, corner + side], 1)]
    )
    _, depth = draw(vertices.astype(np.float32), triangles.astype(np.int32), size_wh=(60, 60))
    assert np.all(depth == 0)


def test_what_lies_outside_or_is_not_finite_is_left_out():
    image, _ = draw(quad(-50, -50, 500, 500, 1))
    assert np.all(image == pytest.approx(1))
    for corners in ((50, 50, 60, 60), (-60, -60, -50, -50), (np.nan, 0, 5, 5), (-np.inf, 0, 5, 5), (0, 0, 1e30, 1e30)):
        image, depth = draw(quad(*corners, 1))
        assert not image.any()
        assert np.all(depth == -np.inf)


def test_face_mesh_looks_into_the_camera(topology):
    """The nose tip (landmark 30) is seen and nearest; the picture is filled as a face fills it."""
    vertices = topology.canonical_vertices - topology.canonical_vertices.min(axis=0)
    width, height = (int(side) + 1 for side in vertices.max(axis=0)[:2])
    _, depth = draw(vertices, topology.triangles, size_wh=(width, height))
    nose = vertices[topology.landmark_vertices[30]]
    row, column = np.unravel_index(depth.argmax(), depth.shape)
    assert abs(column - nose[0]) < 8
    assert abs(row - nose[1]) < 15
    assert 0.6 < np.isfinite(depth).mean() < 0.95


@pytest.mark.parametrize("bad", [-1, 4])
def test_triangle_indices_are_checked(bad):
    with pytest.raises(ValueError, match="a triangle names a vertex that is not there"):
        draw(quad(0, 0, 5, 5, 1), np.array([[0, 1, bad]], np.int32))


@pytest.mark.parametrize("size_wh", [(0, 5), (5, -1)])
def test_empty_pictures_are_refused(size_wh):
    with pytest.raises(ValueError, match="width and height must be positive"):
        draw(quad(0, 0, 5, 5, 1), size_wh=size_wh)


def test_wrong_dtypes_and_lengths_are_refused():
    vertices = quad(0, 0, 5, 5, 1)
    with pytest.raises(ValueError, match="one row per vertex"):
        draw(vertices, values=np.ones((3, 1), np.float32))
    with pytest.raises(TypeError):
        draw(vertices.astype(np.float64))
    with pytest.raises(TypeError):
        draw(vertices, QUAD.astype(np.int64))
    with pytest.raises(TypeError):
        draw(vertices[:, :2].copy())


@pytest.mark.parametrize("channels", [0, 1, 2, 3, 4, 7])
def test_any_number_of_values(channels):
    vertices = quad(0, 0, 11, 9, 1)
    values = np.arange(4 * channels, dtype=np.float32).reshape(4, channels)
    image, depth = draw(vertices, values=values)
    assert image.shape == (10, 12, channels)
    assert np.all(depth == pytest.approx(1))
    for corner, (y, x) in enumerate([(0, 0), (0, 11), (9, 11), (9, 0)]):
        assert image[y, x] == pytest.approx(values[corner], abs=1e-3)


@pytest.mark.parametrize("width", [2**24 - 1, 2**24, 2**24 + 1, 2**24 + 3])
def test_pictures_wider_than_a_float_counts(width):
    """Beyond 2^24 px a float knows every second pixel at most; none outside the picture is ever written."""
    vertices = quad(width - 40.0, -5, width + 4000.0, 5, 3)
    image, depth = draw(vertices, size_wh=(width, 1))
    assert np.all(depth[0, -38:] == pytest.approx(3))
    assert np.all(depth[0, :-42] == -np.inf)
    assert np.array_equal(image[0, :, 0] > 0, depth[0] > -np.inf)


@pytest.mark.parametrize("size_wh", [(2**31 - 1, 2**31 - 1), (2**30, 2**12)])
def test_pictures_that_no_memory_holds(size_wh):
    with pytest.raises((MemoryError, ValueError)):
        draw(quad(0, 0, 5, 5, 1), values=np.ones((4, 4), np.float32), size_wh=size_wh)


def test_triangles_without_area_draw_nothing():
    line = np.array([[1, 1, 0], [8, 8, 0], [4, 4, 0]], np.float32)
    point = np.array([[3, 3, 0]] * 3, np.float32)
    tiny = np.array([[3, 3, 0], [3 + 1e-23, 3, 0], [3, 3 + 1e-23, 0]], np.float32)
    for vertices in (line, point, tiny, np.full((3, 3), 1e-45, np.float32)):
        image, depth = draw(vertices, np.array([[0, 1, 2]], np.int32))
        assert not image.any()
        assert np.all(depth == -np.inf)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38, -3e38])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_bad_vertex_takes_its_own_triangles_along_and_no_others(bad, axis):
    vertices = np.concatenate([quad(0, 0, 4, 9, 1), quad(7, 0, 11, 9, 1)])
    vertices[0, axis] = bad
    with np.errstate(all="ignore"):
        image, depth = draw(vertices, np.concatenate([QUAD, QUAD + 4]), np.ones((8, 1), np.float32))
    assert np.all(image[:, 7:] == pytest.approx(1))
    assert np.all(depth[:, 7:] == pytest.approx(1))


def test_faces_partly_outside_are_cut_at_the_border():
    whole, whole_depth = draw(quad(2, 2, 17, 14, 5), size_wh=(20, 20))
    for x, y in ((9, 0), (-9, 3), (4, -8), (0, 12), (30, 0), (0, -30)):
        image, depth = draw(quad(2 + x, 2 + y, 17 + x, 14 + y, 5), size_wh=(20, 20))
        moved = np.full((20, 20), -np.inf)
        rows, columns = np.mgrid[:20, :20]
        inside = (rows - y >= 0) & (rows - y < 20) & (columns - x >= 0) & (columns - x < 20)
        moved[inside] = whole_depth[(rows - y)[inside], (columns - x)[inside]]
        np.testing.assert_array_equal(np.isfinite(depth), np.isfinite(moved))
        assert image.sum() == pytest.approx(np.isfinite(moved).sum(), rel=1e-4)
    assert whole.any()
