"""Files that once broke a reader end as ``../shared/data/faults/README.md`` says: one line, no bomb, no traceback."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from runtime import FaceMeshPipeline, open_runner
from runtime.errors import FaceMeshError
from runtime.families.face_model import load_face_model
from runtime.families.uv_topology import load_topology
from runtime.models.manifest import EngineManifest
from runtime.sources.photos import read_photo
from runtime.storage.mat_files import read_mat
from runtime.storage.picture_tar import read_tar
from tests.standins.bounded_run import bounded_run

PRNET_FOLDER = ("face_ind.txt", "uv_kpt_ind.txt", "triangles.txt")
BOX = [[40, 40, 200, 220], [240, 60, 380, 220]]


@pytest.fixture(scope="module")
def faults(shared_data) -> Path:
    folder = shared_data / "faults"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data/faults, which is not here")
    return folder


def read_index(path: Path) -> object:
    from export.checkpoints.tensor_bundle import read_index

    return read_index(path)


def read_prnet_folder(path: Path) -> object:
    folder = path.with_suffix("")
    folder.mkdir()
    for name in PRNET_FOLDER:
        (folder / name).write_text("0 1 2\n")
    shutil.copy(path, folder / "canonical_vertices.npy")
    return load_topology(folder)


@pytest.mark.parametrize(
    ("name", "as_name", "read"),
    [
        ("mat_one_byte.mat", "x.mat", read_mat),
        ("mat_segv_35.mat", "x.mat", read_mat),
        ("png_claim_45_bytes.png", "x.png", read_photo),
        ("png_hang_357.png", "x.png", read_photo),
        ("tar_skip_2p70.tar", "x.tar", lambda path: read_tar(path, ["a.jpg"])),
        ("sparse.tar", "x.tar", lambda path: read_tar(path, ["a.jpg"])),
        ("keys.index", "x.index", read_index),
        ("ManifestT_2484.bin", "x.engine.json", EngineManifest.load),
        *(
            (f"{name}.bin", "x.npz", read)
            for name in ("TopologyT_31", "TopologyT_81", "FaceModelT_165", *(f"atheris_npz_{n}" for n in (1, 2, 3)))
            for read in (load_topology, load_face_model)
        ),
        ("PrnetFolderT_110.bin", "x.npy", read_prnet_folder),
    ],
)
def test_a_damaged_file_is_one_line(faults, tmp_path, name: str, as_name: str, read: Callable[[Path], object]):
    path = Path(shutil.copy(faults / name, tmp_path / as_name))
    with bounded_run(), pytest.raises(FaceMeshError) as caught:
        read(path)
    text = str(caught.value)
    assert str(tmp_path / "x") in text
    assert "\n" not in text
    assert len(text) < 1000


@pytest.mark.parametrize("name", ["OnnxInspectT_6", "OnnxInspectT_444", "OnnxLoadT_39"])
@pytest.mark.parametrize("command", ["inspect", "onnx"])
def test_a_damaged_onnx_is_one_line(faults, tmp_path, capsys, name, command):
    pytest.importorskip("onnx", reason="needs onnx")
    pytest.importorskip("torch", reason="needs torch")
    from export.__main__ import main

    path = str(shutil.copy(faults / f"{name}.bin", tmp_path / "x.onnx"))
    onnx = ["onnx", "--arch", "edge", "--weights", path, "-o", str(tmp_path / "out.onnx")]
    code = main(["inspect", path] if command == "inspect" else onnx)
    error = capsys.readouterr().err
    if code == 0:  # it says what it is, and has no spec
        assert (command, name) == ("inspect", "OnnxLoadT_39")
        return
    assert code == 1
    assert error.startswith(f"error: {path}: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "out.onnx").exists()


def test_a_batch_that_is_free_in_name_only_runs_one_by_one(faults):
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
    picture = np.random.default_rng(0).integers(0, 256, (240, 400, 3), np.uint8)
    with open_runner(faults / "baked1.onnx") as runner:
        assert runner.max_batch == 1
        both = FaceMeshPipeline(runner).from_boxes(picture, BOX)
        alone = [FaceMeshPipeline(runner).from_boxes(picture, [box])[0] for box in BOX]
    for face, other in zip(both, alone, strict=True):
        np.testing.assert_array_equal(face.vertices, other.vertices)


def test_vertices_that_are_not_finite_are_refused(faults):
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
    picture = np.zeros((240, 400, 3), np.uint8)
    with open_runner(faults / "nanpart.onnx") as runner:
        with pytest.raises(FaceMeshError, match="the vertices are not finite"):
            FaceMeshPipeline(runner).from_boxes(picture, BOX)
        assert len(FaceMeshPipeline(runner, dense=False).from_boxes(picture, BOX)) == 2
