"""The UV layout is PRNet's, though computed from the face model."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from runtime.families.face_model import FaceModel, load_face_model
from runtime.families.uv_topology import load_topology
from training.__main__ import main
from training.uv.uv_layout import build_topology, face_mask, grid_triangles, rasterise_uv, region_weights


@pytest.fixture(scope="module")
def model(shared_data):
    return load_face_model(shared_data / "face_model.npz")


@pytest.fixture(scope="module")
def topology(model):
    return build_topology(model)


@pytest.fixture(scope="module")
def prnet(shared_data):
    return load_topology(shared_data / "prnet_uv_data")


def test_landmark_pixels_lie_within_two_pixels_of_prnets(topology, prnet):
    ours, theirs = (np.stack(np.divmod(layout.landmark_indices, 256), axis=1) for layout in (topology, prnet))
    assert np.abs(ours - theirs).max() <= 2
    np.testing.assert_array_equal(topology.landmark_indices, prnet.landmark_indices)  # in fact they are the same


def test_vertices_are_numbered_as_in_prnet(topology, prnet):
    np.testing.assert_array_equal(topology.face_indices, prnet.face_indices)


@pytest.mark.slow
def test_triangles_are_prnets_and_the_one_it_lacks(topology, prnet):
    def key(triangles):
        rolled = [np.roll(triangle, -int(np.argmin(triangle))) for triangle in triangles]  # orientation kept
        return set(map(tuple, np.array(rolled).tolist()))

    assert key(prnet.triangles) < key(topology.triangles)
    assert len(topology.triangles) == len(prnet.triangles) + 1


def test_canonical_vertices_are_prnets_up_to_its_coarser_sampling(topology, prnet):
    difference = np.abs(topology.canonical_vertices - prnet.canonical_vertices)
    assert np.median(difference) < 0.2  # of about 210 units of width
    assert np.quantile(difference, 0.999) < 1.5
    assert difference.max() < 4.5
    assert np.abs((topology.canonical_vertices - prnet.canonical_vertices).mean(axis=0)).max() < 0.05  # no offset


def test_front_faces_wind_towards_the_camera(topology, prnet):
    for layout in (topology, prnet):
        corners = layout.canonical_vertices[layout.triangles]
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        area = np.linalg.norm(normal, axis=1)
        towards = normal[area > 1e-3, 2] > 0
        assert towards.mean() > 0.93  # the rest are folds: nostrils, lips, ears


def test_shipped_asset_is_what_the_command_makes(shared_data, tmp_path, capsys):
    output = tmp_path / "uv.npz"
    assert main(["uv-layout", "--face-model", str(shared_data / "face_model.npz"), "-o", str(output)]) == 0
    assert "43867 vertices" in capsys.readouterr().out
    made, shipped = load_topology(output), load_topology()
    for name in ("face_indices", "landmark_indices", "triangles"):
        np.testing.assert_array_equal(getattr(made, name), getattr(shipped, name))
    np.testing.assert_allclose(made.canonical_vertices, shipped.canonical_vertices, atol=2e-3)
    assert output.stat().st_size <= 1_000_000


def test_command_refuses_a_bad_face_model_in_one_line(tmp_path, capsys):
    assert main(["uv-layout", "--face-model", str(tmp_path / "absent.npz"), "-o", str(tmp_path / "uv.npz")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "absent.npz" in error
    assert len(error.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_rasteriser_agrees_with_the_precomputed_raster(model, shared_data):
    reference = np.load(shared_data / "uv_prnet.npz")
    triangle, barycentric = rasterise_uv(model)
    covered = reference["raster_covered"]
    assert (triangle == reference["raster_triangle"])[covered].mean() > 0.9999
    ours = np.einsum("hwk,hwkd->hwd", barycentric, model.mean[model.triangles[triangle]])
    theirs = np.einsum(
        "hwk,hwkd->hwd", reference["raster_bary"], model.mean[model.triangles[reference["raster_triangle"]]]
    )
    distance = np.linalg.norm(ours - theirs, axis=2)
    assert (distance > 200).sum() <= 8  # 0.1 % of the face, at gaps with two neighbours equally near
    assert distance.max() < 2000


def test_rasteriser_on_two_triangles_by_hand():
    uv = np.array(
        [[0, 1], [1, 1], [0, 0.25], [0.5, 0.5]], np.float32
    )  # v upwards: vertices 0 and 1 are the top corners
    triangles = np.array([[0, 1, 2], [0, 3, 3]], np.int32)  # the second has no area
    mean, basis, numbers = np.zeros((4, 3), np.float32), np.zeros((12, 1), np.float32), np.zeros(68, np.int32)
    model = FaceModel(mean, basis, 1, triangles, uv, keypoints68=numbers, symmetry=numbers[:4])
    triangle, barycentric = rasterise_uv(model, 5)
    assert (triangle == 0).all()
    np.testing.assert_allclose(barycentric[0, 0], [1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(barycentric[0, 2], [0.5, 0.5, 0], atol=1e-6)
    np.testing.assert_allclose(barycentric[1, 0], [2 / 3, 0, 1 / 3], atol=1e-6)
    np.testing.assert_allclose(
        barycentric[4, 0], barycentric[3, 0]
    )  # uncovered: its nearest covered neighbour is right above


def test_grid_triangles_tile_the_face_without_holes_or_overlap():
    face = face_mask()
    triangles = grid_triangles(face)
    rows, columns = np.divmod(np.flatnonzero(face), 256)
    corners = np.stack([columns, rows], axis=1)[triangles]
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    assert set((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).tolist()) == {1}  # all half a square, all turning the same way
    edges = np.concatenate([triangles[:, [i, (i + 1) % 3]] for i in range(3)])
    directed = len(np.unique(edges, axis=0))
    undirected = len(np.unique(np.sort(edges, axis=1), axis=0))
    assert directed == len(edges)  # no directed edge twice: no overlap
    assert face.sum() - undirected + len(triangles) == 1  # Euler's formula of a disc: one piece, no hole
    assert len(np.unique(triangles)) == face.sum()


def test_grid_triangles_of_a_small_mask():
    face = np.array([[1, 1, 0], [1, 1, 1]], bool)  # vertices 0 1 / 2 3 4
    np.testing.assert_array_equal(grid_triangles(face), [[0, 1, 2], [1, 3, 2]])
    face = np.array([[0, 1], [1, 1]], bool)
    np.testing.assert_array_equal(grid_triangles(face), [[0, 2, 1]])


def test_face_region_is_one_run_per_row_and_nearly_symmetric():
    face = face_mask()
    rows = np.flatnonzero(face.any(axis=1))
    assert (rows[0], rows[-1]) == (5, 201)
    assert (np.abs(np.diff(face.astype(int), axis=1)).sum(axis=1)[rows] == 2).all()
    assert (face != face[:, ::-1]).sum() < 100


def test_region_weights_are_the_papers():
    topology = load_topology()
    weights = region_weights(topology)
    assert weights.shape == (256, 256)
    assert weights.dtype == np.float32
    values, counts = np.unique(weights, return_counts=True)
    np.testing.assert_array_equal(values, [0, 3, 4, 16])
    assert counts[3] == 68
    assert counts[0] == 256 * 256 - 43867
    assert (weights.flat[topology.landmark_indices] == 16).all()
    assert weights[80, 95] == weights[105, 128] == weights[139, 128] == 4  # below an eye, on the nose, between the lips
    assert weights[150, 60] == weights[20, 128] == weights[180, 128] == 3  # cheek, forehead, chin


def test_region_weights_resemble_prnets_mask(shared_data):
    mask = cv2.imread(str(shared_data / "prnet_uv_data" / "uv_weight_mask.png"), cv2.IMREAD_GRAYSCALE)
    weights = region_weights(load_topology())
    plain = weights < 16  # landmarks aside
    ours, theirs = (weights == 4) & plain, (mask >= 60) & plain
    assert (ours & theirs).sum() / (ours | theirs).sum() > 0.85
