"""Depth, normals, PNCC and visibility of meshes with a known geometry."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.rendering.maps import MapPainter, coordinate_codes, covered_region, visible_vertices
from tests.standins.meshes import PlainTopology, cube, face_of, joined, plane, sphere, turn_x, turn_y

SIZE = (60, 50)


def painter_of(mesh, canonical=None):
    vertices, triangles = mesh
    return MapPainter(PlainTopology(triangles, vertices if canonical is None else canonical))


def test_depth_of_a_tilted_plane():
    mesh = plane(10, 5, 40, 45, z=lambda x, y: 100 + 2 * x + 0.5 * y, columns=7, rows=9)
    depth = painter_of(mesh).depth([face_of(mesh[0])], SIZE)
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    inside = (x >= 10) & (x <= 40) & (y >= 5) & (y <= 45)
    np.testing.assert_array_equal(np.isfinite(depth), inside)
    expected = 2 * (x - 10) + 0.5 * (y - 5)  # 0 at the farthest vertex
    np.testing.assert_allclose(depth[inside], expected[inside], atol=2e-4)


def test_normals_of_a_sphere():
    mesh = sphere(20, (30, 25, 0), columns=256, rows=128)
    normals = painter_of(mesh).normals([face_of(mesh[0])], SIZE)
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    nx, ny = (x - 30) / 20, (y - 25) / 20
    inner = nx**2 + ny**2 < 0.9
    expected = np.stack([nx, ny, np.sqrt(np.maximum(1 - nx**2 - ny**2, 0))], axis=2)
    assert np.abs(normals - expected)[inner].max() < 0.03
    assert not normals[nx**2 + ny**2 > 1.1].any()


def test_normals_of_a_turned_cube():
    rotation = turn_x(20) @ turn_y(30)
    vertices, triangles = cube(20, (30, 25, 0), rotation)
    flat = vertices[triangles].reshape(-1, 3), np.arange(36, dtype=np.int32).reshape(12, 3)  # no shared normals
    normals = painter_of(flat).normals([face_of(flat[0])], SIZE)
    found = np.unique(np.round(normals[normals.any(axis=2)], 4), axis=0)
    towards = [axis for axis in (*rotation.T, *-rotation.T) if axis[2] > 0]
    np.testing.assert_allclose(found, sorted(np.round(towards, 4).tolist()), atol=2e-3)


def test_pncc_is_the_place_on_the_mean_face():
    mean, triangles = plane(-8, -6, 8, 6, z=lambda x, y: x + y, columns=9, rows=9)
    vertices = mean * np.float32([2, 2, 1]) + np.float32([30, 25, 0])
    pncc = painter_of((vertices, triangles), mean).pncc([face_of(vertices)], SIZE)
    y, x = np.mgrid[13:38, 14:47]
    expected = np.stack([(x - 14) / 32, 1 - (y - 13) / 24, ((x - 30) / 2 + (y - 25) / 2 + 14) / 28], axis=2)
    np.testing.assert_allclose(pncc[13:38, 14:47], expected, atol=1e-4)
    pncc[13:38, 14:47] = 0
    assert not pncc.any()


def test_codes_span_the_cube(topology):
    codes = coordinate_codes(topology)
    assert codes.min(axis=0).tolist() == [0, 0, 0]
    assert codes.max(axis=0).tolist() == [1, 1, 1]
    nose, chin, right_eye = topology.landmark_vertices[[30, 8, 36]]
    assert codes[nose, 2] > 0.95
    assert codes[chin, 1] < 0.1  # y up
    assert codes[right_eye, 0] < 0.5  # the person's right is the picture's left


def test_a_larger_face_is_drawn_over_a_smaller_one():
    small, triangles = plane(20, 20, 30, 30, z=lambda x, y: x)
    large = plane(10, 10, 40, 40)[0]
    painter = painter_of((small, triangles))
    for faces in ([face_of(small), face_of(large)], [face_of(large), face_of(small)]):
        depth = painter.depth(faces, SIZE)
        assert np.nanmax(depth) == 0
        assert np.isfinite(depth).sum() == 31 * 31


@pytest.mark.parametrize("shift", [(-500, 0), (0, 500), (1e30, 0), (np.nan, 0), (-np.inf, np.inf)])
def test_a_face_outside_the_picture_draws_nothing(shift):
    mesh = plane(10, 10, 40, 40)
    face = face_of(mesh[0] + np.array([*shift, 0], np.float32))
    painter = painter_of(mesh)
    assert np.isnan(painter.depth([face], SIZE)).all()
    assert not painter.normals([face], SIZE).any()
    assert not painter.pncc([face], SIZE).any()
    assert not visible_vertices(face, PlainTopology(mesh[1], mesh[0]), SIZE).any()


def test_no_faces():
    painter = painter_of(plane(0, 0, 1, 1))
    assert painter.depth([], SIZE).shape == (50, 60)
    assert painter.pncc([], SIZE).shape == painter.normals([], SIZE).shape == (50, 60, 3)


def test_visible_vertices_lie_in_the_picture_and_before_all_others():
    back = plane(-20, 10, 40, 40, columns=13, rows=7)
    mesh = joined(back, plane(8, 8, 22, 42, z=30))
    found = visible_vertices(face_of(mesh[0]), PlainTopology(mesh[1], mesh[0]), SIZE)
    x = back[0][:, 0]
    np.testing.assert_array_equal(found[: len(x)], (x >= 0) & ~((x >= 8) & (x <= 22)))


@pytest.mark.parametrize(("yaw", "side"), [(0, None), (60, "left"), (-60, "right")])
def test_a_turned_face_hides_its_far_side(topology, yaw, side):
    centred = topology.canonical_vertices - topology.canonical_vertices.mean(axis=0)
    vertices = (centred @ turn_y(yaw).T + (200, 200, 0)).astype(np.float32)
    found = visible_vertices(face_of(vertices), topology, (400, 400))
    left, right = found[centred[:, 0] < -30].mean(), found[centred[:, 0] > 30].mean()
    if side is None:
        assert min(left, right) > 0.8
    else:  # the nose points to the right of the picture: the left side of the face is in view
        assert {"left": left - right, "right": right - left}[side] > 0.6


@pytest.mark.parametrize(
    ("points", "region"),
    [
        ([[1.5, 2.5], [7.2, 3]], ((1, 2), (9, 4))),
        ([[-5, -5], [1e9, 1e9]], ((0, 0), (60, 50))),
        ([[-9, 1], [-2, 5]], None),
        ([[np.nan, 1], [3, 4]], ((3, 4), (4, 5))),
    ],
)
def test_region_of_a_mesh(points, region):
    assert covered_region(np.insert(np.float32(points), 2, 0, axis=1), SIZE) == region
