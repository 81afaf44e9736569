"""The background follows the face and fades to the edge of the picture."""

from __future__ import annotations

import numpy as np

from training.turning.background_anchors import anchor_triangles, extend_harmonically, make_anchors, smooth_surface


def disc(side: int = 120, radius: int = 30) -> np.ndarray:
    """A z-buffer: half a ball in the middle, twice as deep as wide."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    square = radius**2 - x**2 - y**2
    return np.where(square > 0, 2 * np.sqrt(np.maximum(square, 0)), -np.inf).astype(np.float32)


def test_linear_function_is_its_own_extension():
    y, x = np.mgrid[:60, :80].astype(np.float32)
    values = np.stack([x, 3 - 2 * y], axis=2)
    known = np.zeros(x.shape, bool)
    known[[0, -1]] = known[:, [0, -1]] = True
    known[20:30, 30:40] = True
    extended = extend_harmonically(np.where(known[..., None], values, 0), known)
    assert np.abs(extended - values).max() < 0.02 * 80  # of the range of values
    np.testing.assert_array_equal(extended[known], values[known])


def test_extension_stays_between_its_boundary_values():
    generator = np.random.default_rng(0)
    values, known = generator.random((50, 50, 1)).astype(np.float32), generator.random((50, 50)) < 0.1
    extended = extend_harmonically(values, known)
    assert values[known].min() <= extended.min() <= extended.max() <= values[known].max()


def test_anchors_move_with_the_face_and_rest_at_the_edge():
    positions, carried = make_anchors(disc())
    shift = np.array([10.0, -4.0])
    moved = carried[..., 3:] * shift  # a motion without rotation
    middle = len(positions) // 2
    np.testing.assert_allclose(moved[middle, middle], shift)
    assert not moved[[0, -1]].any()
    assert not moved[:, [0, -1]].any()
    # Towards the edge the motion fades, it never grows.
    share = carried[middle, middle:, 3]
    assert (np.diff(share) <= 1e-3).all()
    assert 0.2 < share[len(share) * 3 // 4] < 0.8


def test_rims_and_steps_are_left_to_the_neighbours():
    depth = disc()
    held = smooth_surface(depth)
    assert held[60, 60]
    assert not held[~np.isfinite(depth)].any()
    assert not held[60, 31:34].any()  # the rim of the disc, where it falls off steeply
    depth[:60] += 20
    assert not smooth_surface(depth)[58:62].any()


def test_anchor_triangles_face_the_camera_and_fill_the_grid():
    y, x = np.mgrid[:3, :4]
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    a, b, c = (points[anchor_triangles(3, 4)[:, corner]] for corner in range(3))
    area = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    assert (area == 1).all()
    assert len(area) == 2 * 2 * 3
