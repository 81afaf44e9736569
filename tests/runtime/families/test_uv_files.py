"""Files of a UV topology with three vertices: PRNet's folder and npz, read exactly or refused by name."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from runtime.errors import FaceMeshError
from runtime.families.uv_topology import load_topology
from runtime.models.shipped import ASSETS

PIXELS = [0, 5, 65535]
X, Y = np.resize([5, 0, 255], 68), np.resize([0, 0, 255], 68)


def text(rows) -> str:
    return "".join(" ".join(f"{number:.18e}" for number in np.atleast_1d(row)) + "\n" for row in rows)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "uv-data"
    path.mkdir()
    (path / "face_ind.txt").write_text(text(PIXELS))
    (path / "uv_kpt_ind.txt").write_text(text([X, Y]))
    (path / "triangles.txt").write_text(text([[0, 1, 2], [2, 1, 0]]))
    np.save(path / "canonical_vertices.npy", np.arange(9.0).reshape(3, 3))
    return path


@pytest.fixture
def write_npz(tmp_path: Path):
    def write(resolution) -> Path:  # each in a folder of its own, as what was read is kept
        path = tmp_path / str(len(list(tmp_path.iterdir()))) / "small.npz"
        path.parent.mkdir()
        arrays = {"face_indices": np.array(PIXELS), "landmark_indices": np.resize(PIXELS, 68)}
        arrays |= {"triangles": np.array([[0, 1, 2]]), "canonical_vertices": np.zeros((3, 3))}
        np.savez(path, resolution=resolution, **arrays)
        return path

    return write


def test_prnets_folder(folder):
    topology = load_topology(folder)
    assert topology.resolution == 256
    assert topology.face_indices.tolist() == PIXELS
    assert topology.landmark_indices.tolist() == np.resize([5, 0, 65535], 68).tolist()
    assert topology.triangles.tolist() == [[0, 1, 2], [2, 1, 0]]
    np.testing.assert_array_equal(topology.canonical_vertices, np.arange(9).reshape(3, 3))
    for name in ("face_indices", "landmark_indices", "triangles"):
        assert getattr(topology, name).dtype == np.int32
        assert not getattr(topology, name).flags.writeable
    assert topology.canonical_vertices.dtype == np.float32
    assert not topology.canonical_vertices.flags.writeable
    assert load_topology(str(folder)) is topology


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("uv_kpt_ind.txt", text([np.full(68, 256), Y]), r"uv-data: .*uv_kpt_ind\.txt must hold pixels 0\.\.255"),
        ("uv_kpt_ind.txt", text([X, np.full(68, -1)]), r"uv_kpt_ind\.txt must hold pixels 0\.\.255"),
        ("uv_kpt_ind.txt", text([X[:67], Y[:67]]), r"must hold two rows of 68, holds \(2, 67\)"),
        ("uv_kpt_ind.txt", text([X]), r"must hold two rows of 68, holds \(68,\)"),
        ("uv_kpt_ind.txt", text([X, np.full(68, 1)]), "names pixels that are not face: 256, 261, 511"),
        ("face_ind.txt", text([0, 5.5]), r"face_ind\.txt: holds something other than whole numbers"),
        ("face_ind.txt", text([0, np.inf]), r"face_ind\.txt: holds something other than whole numbers"),
        ("face_ind.txt", text([0, 2.0**40]), r"face_ind\.txt: holds something other than whole numbers"),
        ("face_ind.txt", text([-(2.0**40), 5]), r"face_ind\.txt: holds something other than whole numbers"),
        ("face_ind.txt", text([0, 2.0**31 + 2]), r"face_ind\.txt: holds something other than whole numbers"),
        ("face_ind.txt", text([0, 2.0**31]), r"face_indices must be 0\.\.65535, spans 0\.\.2147483648"),
        ("face_ind.txt", text([0, 5, 65536]), r"face_indices must be 0\.\.65535, spans 0\.\.65536"),
        ("triangles.txt", "", r"triangles must have shape \(-1, 3\) \(-1: any\), has \(0,\)"),
        ("triangles.txt", text([[0, 1, 3]]), r"triangles must have shape|triangles must be 0\.\.2, spans 0\.\.3"),
        ("triangles.txt", text([[0, 1], [1, 2]]), r"triangles must have shape \(-1, 3\) \(-1: any\), has \(2, 2\)"),
        (
            "canonical_vertices.npy",
            "text",
            r"canonical_vertices\.npy: cannot be read as \.npy .*copy PRNet's file again",
        ),
    ],
)
def test_a_damaged_file_is_named(folder, name, content, message):
    (folder / name).write_text(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(FaceMeshError, match=message):
            load_topology(folder)


def test_all_missing_files_are_named(folder):
    for name in ("face_ind.txt", "canonical_vertices.npy"):
        (folder / name).unlink()
    with pytest.raises(FaceMeshError, match=r"uv-data folder, lacks face_ind\.txt, canonical_vertices\.npy; copy"):
        load_topology(folder)


def test_the_resolution_of_an_npz_is_one_integer(write_npz):
    assert load_topology(write_npz(256)).resolution == 256
    for wrong in (256.0, [256], np.array([[256, 1]])):
        with pytest.raises(FaceMeshError, match=r"small\.npz: .*resolution must be one integer"):
            load_topology(write_npz(wrong))


def test_no_name_means_the_shipped_file(folder):
    assert load_topology() is load_topology("uv_topology.npz")
    assert load_topology() is load_topology(ASSETS / "uv_topology.npz")
    assert load_topology(folder) is not load_topology()
