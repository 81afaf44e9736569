"""Visibility of vertices: exact on meshes with a known geometry, whatever their size in pixels."""

from __future__ import annotations

import numpy as np
import pytest

from runtime import _native
from tests.standins.meshes import cube, joined, plane, sphere, turn_x, turn_y


def visible(mesh, margin=0.0):
    return _native.visible_vertices(*mesh, margin)


@pytest.mark.parametrize("scale", [1e-3, 1, 1e5])
def test_a_cube_shows_the_corners_of_its_front_faces(scale):
    assert np.flatnonzero(visible(cube(scale, (0, 0, 0), np.eye(3)))).tolist() == [1, 3, 5, 7]  # z = 1
    turned = visible(cube(scale, (3, 4, 5), turn_x(20) @ turn_y(30)))
    assert turned.sum() == 7
    # Only the corner that points away is hidden.
    vertices, _ = cube(scale, (3, 4, 5), turn_x(20) @ turn_y(30))
    assert not turned[vertices[:, 2].argmin()]


def test_an_occluder_hides_exactly_the_vertices_behind_it():
    back, front = plane(0, 0, 100, 100, z=0, columns=41, rows=41), plane(31, 20, 70, 60, z=10)
    found = visible(joined(back, front))
    x, y = back[0][:, 0], back[0][:, 1]
    behind = (x >= 31) & (x <= 70) & (y >= 20) & (y <= 60)
    np.testing.assert_array_equal(found[: len(x)], ~behind)
    assert found[len(x) :].all()
    assert behind.sum() > 100


def test_a_surface_within_the_margin_hides_nothing():
    near = joined(plane(0, 0, 10, 10, columns=5, rows=5), plane(-1, -1, 11, 11, z=2))
    assert visible(near, 2.5).all()
    assert visible(near, 1.5).tolist() == [False] * 25 + [True] * 4


def test_half_of_a_sphere_is_seen():
    vertices, triangles = sphere(50, (0, 0, 0))
    found = visible((vertices, triangles))
    assert found[vertices[:, 2] > 4].all()  # a triangle reaches over the horizon
    assert not found[vertices[:, 2] < -4].any()


def test_back_faces_are_neither_seen_nor_hide():
    front, back = plane(0, 0, 10, 10, columns=3, rows=3), plane(-5, -5, 15, 15, z=9)
    turned = back[0], back[1][:, ::-1].copy()
    assert visible(joined(front, turned)).tolist() == [True] * 9 + [False] * 4


def test_vertices_that_are_not_finite_are_not_seen():
    vertices, triangles = plane(0, 0, 10, 10, columns=5, rows=5)
    vertices[0] = np.nan
    vertices[12, 2] = np.inf
    vertices[24, 0] = -np.inf
    found = visible((vertices, triangles))
    assert not found[[0, 12, 24]].any()
    assert found[[2, 4, 10, 20, 22]].all()  # corners of triangles that are whole


def test_numbers_out_of_range_do_no_harm():
    vertices, triangles = plane(-3e38, -3e38, 3e38, 3e38, columns=5, rows=5)
    visible((vertices, triangles))
    assert visible((vertices * 0, triangles)).sum() == 0
    assert visible((np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))).shape == (0,)


@pytest.mark.parametrize("bad", [-1, 4])
def test_triangle_indices_are_checked(bad):
    vertices, _ = plane(0, 0, 5, 5)
    with pytest.raises(ValueError, match="visible_vertices: a triangle names a vertex that is not there"):
        visible((vertices, np.array([[0, 1, bad]], np.int32)))


@pytest.mark.parametrize("margin", [-1.0, float("nan")])
def test_the_margin_is_checked(margin):
    with pytest.raises(ValueError, match="margin must be a number from 0"):
        visible(plane(0, 0, 5, 5), margin)
