"""The UV topology: what is shipped, what PRNet's users have, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from runtime.errors import FaceMeshError
from runtime.families.uv_topology import UVTopology, load_topology
from runtime.models.shipped import ASSETS

PRNET_FILES = ("face_ind.txt", "uv_kpt_ind.txt", "triangles.txt", "canonical_vertices.npy")


def write_npz(path: Path, topology: UVTopology, **changes) -> Path:
    arrays = {field.name: getattr(topology, field.name) for field in dataclasses.fields(topology)} | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


@pytest.fixture
def prnet_folder(tmp_path: Path, topology: UVTopology) -> Path:
    """The shipped topology written the way PRNet's files are."""
    folder = tmp_path / "uv-data"
    folder.mkdir()
    np.savetxt(folder / "face_ind.txt", topology.face_indices)
    np.savetxt(folder / "uv_kpt_ind.txt", np.stack([topology.landmark_indices % 256, topology.landmark_indices // 256]))
    np.savetxt(folder / "triangles.txt", topology.triangles)
    np.save(folder / "canonical_vertices.npy", topology.canonical_vertices)
    return folder


def same(one: UVTopology, other: UVTopology) -> bool:
    return all(
        np.array_equal(getattr(one, field.name), getattr(other, field.name)) for field in dataclasses.fields(one)
    )


def test_shipped_topology_has_prnets_size_and_front_faces(topology):
    assert topology.resolution == 256
    assert topology.face_indices.shape == (43867,)
    corners = topology.canonical_vertices[topology.triangles]
    normals_z = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2]
    assert (
        normals_z > 0
    ).mean() > 0.95  # the mean face looks into the camera; nostrils, lips and the rim of the ears may not


def test_landmark_vertices_are_the_landmark_pixels(topology):
    assert np.array_equal(topology.face_indices[topology.landmark_vertices], topology.landmark_indices)


def test_loading_twice_gives_the_same_read_only_object(topology):
    again = load_topology("uv_topology.npz")
    assert again is load_topology(ASSETS / "uv_topology.npz") is topology
    for array in (again.face_indices, again.landmark_indices, again.triangles, again.canonical_vertices):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_caller_keeps_ownership_of_its_arrays(topology):
    triangles = topology.triangles.copy()
    made = dataclasses.replace(topology, triangles=triangles)
    triangles[0] = 0
    assert np.array_equal(made.triangles, topology.triangles)


def test_prnet_folder_is_read(prnet_folder, topology):
    assert same(load_topology(prnet_folder), topology)


def test_prnets_own_folder_is_read(shared_data):
    prnet = load_topology(shared_data / "prnet_uv_data")
    tables = np.load(shared_data / "uv_prnet.npz")
    assert np.array_equal(prnet.face_indices, tables["face_ind"])
    assert np.array_equal(prnet.triangles, tables["triangles"])
    assert np.array_equal(prnet.landmark_indices % 256, tables["uv_kpt_ind"][0])
    assert np.array_equal(prnet.landmark_indices // 256, tables["uv_kpt_ind"][1])


def test_missing_npz_is_named(tmp_path):
    with pytest.raises(FaceMeshError, match=r"nothing\.npz: no such file; give a UV topology"):
        load_topology(tmp_path / "nothing.npz")


@pytest.mark.parametrize("keep", [0, 10, 5000, -30], ids=["empty", "no header", "half", "without its end"])
def test_truncated_npz_is_refused(tmp_path, keep):
    path = tmp_path / "cut.npz"
    path.write_bytes((ASSETS / "uv_topology.npz").read_bytes()[:keep])
    with pytest.raises(FaceMeshError, match=r"cut\.npz: cannot be read"):
        load_topology(path)


def test_npy_in_place_of_npz_is_refused(tmp_path):
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(FaceMeshError, match=r"one\.npy: cannot be read"):
        load_topology(tmp_path / "one.npy")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"triangles": None}, "lacks triangles"),
        ({"resolution": np.array(256.5)}, "resolution must be one integer"),
        ({"resolution": np.array(100)}, r"face_indices must be 0\.\.9999"),
        ({"face_indices": np.arange(10, dtype=np.float32)}, "face_indices must be integers"),
        ({"face_indices": np.array([5, 5, 6])}, "face_indices must ascend"),
        ({"landmark_indices": np.zeros(67, np.int32)}, r"landmark_indices must have shape \(68,\)"),
        ({"landmark_indices": np.zeros(68, np.int32)}, "landmark_indices names pixels that are not face: 0"),
        ({"triangles": np.array([[0, 1, 43867]])}, r"triangles must be 0\.\.43866"),
        ({"triangles": np.array([[0, 1, -1]])}, r"triangles must be 0\.\.43866"),
        ({"triangles": np.zeros((5, 4), np.int32)}, "triangles must have shape"),
        ({"canonical_vertices": np.zeros((7, 3), np.float32)}, r"canonical_vertices must be finite \(43867, 3\)"),
        ({"canonical_vertices": np.full((43867, 3), np.nan, np.float32)}, "canonical_vertices must be finite"),
    ],
)
def test_inconsistent_npz_is_refused_by_name(tmp_path, topology, changes, message):
    path = write_npz(tmp_path / "bad.npz", topology, **changes)
    with pytest.raises(FaceMeshError, match=message) as caught:
        load_topology(path)
    assert "bad.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", PRNET_FILES)
def test_missing_prnet_file_is_named(prnet_folder, name):
    (prnet_folder / name).unlink()
    with pytest.raises(FaceMeshError, match=f"lacks {name}"):
        load_topology(prnet_folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("face_ind.txt", "1.5\n2.5\n", "face_ind.txt: holds something other than whole numbers"),
        ("face_ind.txt", "nan\n", "face_ind.txt: holds something other than whole numbers"),
        ("triangles.txt", "0 1 2\n3 4\n", "triangles.txt: cannot be read as numbers"),
        ("triangles.txt", "one two three\n", "triangles.txt: cannot be read as numbers"),
        ("triangles.txt", "0 1 99999\n1 2 3\n", r"triangles must be 0\.\.43866"),
        ("uv_kpt_ind.txt", "1 2 3\n4 5 6\n", "uv_kpt_ind.txt must hold two rows of 68"),
        ("uv_kpt_ind.txt", f"{'300 ' * 68}\n{'0 ' * 68}\n", r"uv_kpt_ind.txt must hold pixels 0\.\.255"),
        ("canonical_vertices.npy", "no array", r"canonical_vertices.npy: cannot be read"),
    ],
)
def test_damaged_prnet_file_is_named(prnet_folder, name, content, message):
    (prnet_folder / name).write_text(content)
    with pytest.raises(FaceMeshError, match=message):
        load_topology(prnet_folder)


def test_folder_without_prnet_files_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FaceMeshError, match=r"not a PRNet uv-data folder, lacks face_ind\.txt"):
        load_topology(tmp_path / "empty")


def test_the_current_folder_cannot_replace_the_shipped_topology(tmp_path, topology, monkeypatch):
    write_npz(tmp_path / "uv_topology.npz", topology, canonical_vertices=topology.canonical_vertices * 2)
    monkeypatch.chdir(tmp_path)
    assert load_topology() is load_topology("uv_topology.npz") is topology
    assert not same(load_topology("./uv_topology.npz"), topology)
