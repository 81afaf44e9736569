"""Texture maps: colours of known places, hidden parts, sizes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from runtime.errors import FaceMeshError
from runtime.families.model_topology import FaceModelTopology
from runtime.rendering.texture import TextureMapper, sample
from tests.standins.meshes import PlainTopology, face_of, plane, turn_y
from tests.training.toy import toy_face_model


@pytest.fixture(scope="module")
def gradient():
    """Red rises to the right, green downwards."""
    x, y = np.meshgrid(np.arange(250), np.arange(200))
    return np.dstack([np.full_like(x, 40), y, x]).astype(np.uint8)


def unit_square(columns=5, rows=5):
    vertices, triangles = plane(0, 0, 1, 1, columns=columns, rows=rows)
    return PlainTopology(triangles, vertices, uv=vertices[:, :2] * (1, -1) + (0, 1))


@pytest.mark.parametrize("size", [16, 64, 256])
def test_a_plane_is_unwrapped_as_it_lies_in_the_picture(gradient, size):
    topology = unit_square()
    vertices = topology.canonical_vertices * np.float32([160, 120, 1]) + np.float32([30, 50, 0])
    texture = TextureMapper(topology, size).texture(gradient, face_of(vertices))
    v, u = (np.mgrid[:size, :size] + 0.5) / size
    expected = np.stack([np.full_like(u, 40), 50 + 120 * v, 30 + 160 * u], axis=2)
    assert texture.shape == (size, size, 3)
    assert np.abs(texture - expected).max() <= (1.01 if size >= 128 else 5)  # small ones average pixels


def test_both_families_unwrap_to_the_same_place():
    """u to the right, v upwards, also for triangles that turn the other way on the map."""
    topology = FaceModelTopology(toy_face_model())
    vertices = (topology.canonical_vertices + 1) * 50
    spread = TextureMapper(topology, 256).spread(vertices[:, :2])
    np.testing.assert_allclose(spread, topology.position_map(vertices)[..., :2], atol=0.01)


def test_a_texture_of_the_grids_size_is_the_position_map(topology):
    vertices = topology.canonical_vertices
    spread = TextureMapper(topology, 256).spread(vertices)
    grid = topology.position_map(vertices)
    np.testing.assert_allclose(spread[grid.any(axis=2)], grid[grid.any(axis=2)], atol=0.01)


def test_pixels_outside_the_face_continue_it(topology):
    spread = TextureMapper(topology, 64).spread(topology.canonical_vertices)
    low, high = topology.canonical_vertices.min(axis=0), topology.canonical_vertices.max(axis=0)
    assert (spread >= low - 0.1).all()
    assert (spread <= high + 0.1).all()


def test_the_two_halves_of_the_layouts_mirror_each_other(topology):
    spread = TextureMapper(topology, 128).spread(topology.canonical_vertices)
    face = face_of(topology.canonical_vertices + np.float32([200, 0, 0]))
    inside = TextureMapper(topology, 128).visible(face, (500, 500)) > 0.9
    both = inside & inside[:, ::-1]
    assert both.mean() > 0.4
    assert np.abs(spread - spread[:, ::-1] * (-1, 1, 1))[both].mean() < 3  # of 210 units


def test_a_hidden_half_is_taken_from_the_other(topology):
    """The left cheek of the picture is painted; turned away, its texture comes from the right one."""
    centred = topology.canonical_vertices - topology.canonical_vertices.mean(axis=0)
    vertices = (centred @ turn_y(70).T * 1.5 + (200, 200, 0)).astype(np.float32)
    image = np.full((400, 400, 3), 255, np.uint8)
    hull = cv2.convexHull(np.rint(vertices[:, :2]).astype(np.int32))
    cv2.fillConvexPoly(image, hull, (20, 60, 90))
    image[:, 260:] = (0, 0, 255)  # what lies before the hidden side
    mapper, face = TextureMapper(topology, 128), face_of(vertices)
    seen = mapper.visible(face, (400, 400))
    assert seen[:, :50].mean() > seen[:, 78:].mean() + 0.3
    place = 64, 100  # of the right cheek, out of view
    assert seen[place] == 0
    assert seen[64, 27] == 1
    np.testing.assert_allclose(mapper.completed(image, face)[place], mapper.texture(image, face)[64, 27], atol=30)


def test_a_large_face_is_averaged(gradient):
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3)).astype(np.uint8)
    topology = unit_square()
    vertices = topology.canonical_vertices * 511
    texture = TextureMapper(topology, 32).texture(noise, face_of(vertices))
    assert texture.std() < 12  # of 74


@pytest.mark.parametrize("shift", [(-1000, 0), (0, 1000), (np.nan, np.nan), (1e30, -1e30)])
def test_a_face_outside_the_picture_has_the_colours_of_its_border(gradient, shift):
    topology = unit_square()
    face = face_of(topology.canonical_vertices * 50 + np.array([*shift, 0], np.float32))
    mapper = TextureMapper(topology, 16)
    assert mapper.texture(gradient, face).shape == (16, 16, 3)
    assert not mapper.visible(face, (250, 200)).any()


def test_one_pixel_pictures():
    assert sample(np.full((1, 1, 3), 7, np.uint8), np.zeros((4, 4, 2), np.float32), 16).tolist() == [[[7] * 3] * 4] * 4


@pytest.mark.parametrize("size", [15, 0, -1, 8193])
def test_sizes_out_of_range(size):
    with pytest.raises(FaceMeshError, match=f"a texture of {size} px cannot be made; choose a size from 16 to 8192"):
        TextureMapper(unit_square(), size)


def test_uv_coordinates_without_area():
    topology = unit_square()
    flat = PlainTopology(topology.triangles, topology.canonical_vertices, uv=np.zeros_like(topology.uv))
    with pytest.raises(FaceMeshError, match="cover no pixel"):
        TextureMapper(flat, 16).spread(topology.canonical_vertices)
