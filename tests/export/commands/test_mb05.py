"""3DDFA_V2's network from its checkpoint to a model that runs: export, precisions, accuracy, and what is refused."""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
torch = pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("onnxsim", reason="needs onnxsim")

from benchmarks.accuracy.labelled_faces import load_faces  # noqa: E402
from export.__main__ import main  # noqa: E402
from runtime.families.table import open_family  # noqa: E402
from runtime.geometry.crop import crop_into  # noqa: E402
from runtime.geometry.nme import balanced_mean, bin_means, box_size, point_nme  # noqa: E402
from runtime.inference.open_runner import open_runner  # noqa: E402
from runtime.models.manifest import EngineManifest  # noqa: E402
from runtime.models.spec import ModelSpec  # noqa: E402
from tests.standins.coefficient_network import save_face_model, wide_face_model  # noqa: E402
from tests.standins.networks import live_mb05  # noqa: E402

POSE = [30.0, 0, 0, 60, 0, 30, 0, 60, 0, 0, 30, 0]  # the sheet, 60 px wide, in the middle of the crop
BOX = np.array([20.0, 20, 80, 80])


def write_checkpoint(path: Path, **changes: object) -> Path:
    """The file as 3DDFA_V2 saves it: names with ``module.``, and the weights of a head for training."""
    state = {f"module.{name}": value for name, value in live_mb05().state_dict().items()}
    state |= {"module.fc_lm.weight": torch.zeros(136, 512), "module.fc_lm.bias": torch.zeros(136)}
    torch.save({"epoch": 50, "state_dict": {**state, **changes}}, path)
    return path


def whitening(count: int = 62) -> dict[str, np.ndarray]:
    mean = np.array([*POSE, *np.zeros(count - 12)], np.float32)
    return {"mean": mean, "std": np.repeat([0.5, 1.0], [12, count - 12]).astype(np.float32)}


@pytest.fixture
def files(tmp_path):
    """Checkpoint, statistics and face model side by side."""
    np.savez(tmp_path / "mb05_param_mean_std.npz", **whitening())
    save_face_model(tmp_path / "face_model.npz", model=wide_face_model())
    return write_checkpoint(tmp_path / "mb05_120x120.pth")


def export(weights: Path, *arguments: object, output: Path | None = None) -> int:
    target = output or weights.with_name("mb05.onnx")
    return main(["onnx", "--arch", "mb05", "--weights", str(weights), "-o", str(target), *map(str, arguments)])


def meshes(model: Path, image: np.ndarray) -> np.ndarray:
    """(289, 3) vertices of the face in `BOX`, by one look."""
    with open_runner(model) as runner:
        family = open_family(runner.spec)
        mesher = runner.mesher(family)
        mesher.submit(image, [family.crop_matrix(BOX)])
        return mesher.collect()[0].vertices


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)


@pytest.mark.slow
def test_checkpoint_becomes_a_model_that_runs(files, image, capsys):
    assert export(files) == 0
    output = capsys.readouterr().out
    assert "PyTorch and its export differ by" in output
    spec = ModelSpec.load(files.with_name("mb05.onnx.json"))
    assert (spec.name, spec.family, spec.input.size, spec.input.colour_order) == ("mb05", "coefficients", 120, "BGR")
    assert spec.crop_scale == pytest.approx(2**0.5)
    assert spec.output.mean == tuple(whitening()["mean"].tolist())
    assert spec.output.describe() == "12 pose + 40 shape + 10 expression"
    found = meshes(files.with_name("mb05.onnx"), image)

    # The same by PyTorch and the definition.
    from runtime.families.coefficients import decode_numpy

    crop = np.zeros((3, 120, 120), np.float32)
    matrix = open_family(spec).crop_matrix(BOX)
    crop_into(image, matrix, spec.input, crop)
    with torch.no_grad():
        output = live_mb05()(torch.from_numpy(crop[None])).numpy()[0]
    expected, _ = decode_numpy(output, matrix, wide_face_model(), spec)
    np.testing.assert_allclose(found, expected, atol=0.01)


@pytest.mark.slow
def test_precisions_run_and_become_engines(files, image, capsys):
    """FP16 and INT8 of both forms run; TensorRT-RTX, where it is installed, builds what is meant for it."""
    from tests.calibration.small import write_face_set

    plain = files.with_name("mb05.onnx")
    assert export(files) == 0
    exact = meshes(plain, image)
    half = files.with_name("half.onnx")
    assert main(["onnx", "--weights", str(plain), "--precision", "fp16", "-o", str(half)]) == 0
    assert 0 < np.abs(meshes(half, image) - exact).max() < 0.5
    faces = write_face_set(files.parent)
    for target in ("tensorrt", "cpu"):
        from calibration.__main__ import main as calibrate

        int8 = files.with_name(f"int8-{target}.onnx")
        arguments = [str(plain), "--crops", str(faces), "--target", target, "--max-nme-increase", "1", "-o", str(int8)]
        assert calibrate(arguments) == 0
        assert 0 < np.abs(meshes(int8, image) - exact).max() < 5
        assert ModelSpec.load(ModelSpec.path_for(int8)).precision == "int8"
    assert main(["inspect", str(half)]) == 0
    assert "coefficients: 12 pose + 40 shape + 10 expression" in capsys.readouterr().out
    if importlib.util.find_spec("tensorrt_rtx") is None:
        return
    for model in (plain, half, files.with_name("int8-tensorrt.onnx")):
        engine = model.with_suffix(".engine")
        assert main(["engine", str(model), "-o", str(engine), "--backend", "tensorrt-rtx"]) == 0
        spec = EngineManifest.load_for(engine).spec
        assert spec == ModelSpec.load(ModelSpec.path_for(model))
        assert main(["inspect", str(engine)]) == 0
        assert "coefficients: 12 pose + 40 shape + 10 expression" in capsys.readouterr().out


@pytest.mark.slow
def test_published_onnx_file_is_taken(files, image, tmp_path):
    """3DDFA_V2 also publishes ONNX files, without a spec."""
    assert export(files, "--no-rewrite") == 0
    published = tmp_path / "published" / "mb1_120x120.onnx"
    published.parent.mkdir()
    onnx.save(onnx.load(files.with_name("mb05.onnx")), published)
    statistics = tmp_path / "param_mean_std_62d_120x120.pkl"
    statistics.write_bytes(pickle.dumps(whitening()))
    again = tmp_path / "again.onnx"
    paths = ("--whitening", statistics, "--face-model", tmp_path / "face_model.npz")
    assert export(published, *paths, output=again) == 0
    np.testing.assert_allclose(meshes(again, image), meshes(files.with_name("mb05.onnx"), image), atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mb05_param_mean_std.npz", "param_mean_std_62d_120x120.pkl", "param_whitening.pkl"])
def test_statistics_lie_beside_the_weights(files, name):
    files.with_name("mb05_param_mean_std.npz").unlink()
    if name.endswith(".npz"):
        np.savez(files.with_name(name), **whitening())
    else:
        prefix = "param_" if "whitening" in name else ""
        content = {f"{prefix}{key}": value for key, value in whitening().items()}
        files.with_name(name).write_bytes(pickle.dumps(content))
    assert export(files) == 0


def refused(capsys, weights: Path, *arguments: object) -> str:
    """The export ended with one line and left nothing; return the line."""
    assert export(weights, *arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1, error
    assert not list(weights.parent.glob("mb05.onnx*"))
    return error


def test_checkpoint_of_another_split(files, capsys):
    head = {"module.fc_param.weight": torch.zeros(102, 512), "module.fc_param.bias": torch.zeros(102)}
    write_checkpoint(files, **head)
    error = refused(capsys, files)
    assert "mb05_120x120.pth: not the" in error
    assert "fc_param.weight (102, 512) instead of (62, 512)" in error


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        (whitening(102), "102 numbers in mean, the network puts out 62"),
        ({"mean": whitening()["mean"]}, "no finite array std or param_std"),
        ({**whitening(), "std": np.zeros(62, np.float32)}, "a standard deviation is 0"),
        ({**whitening(), "mean": np.full(62, np.nan, np.float32)}, "no finite array mean or param_mean"),
        ({**whitening(), "mean": np.array(["text"] * 62)}, "no finite array mean or param_mean"),
    ],
)
def test_statistics_of_another_network(files, capsys, arrays, problem):
    np.savez(files.with_name("mb05_param_mean_std.npz"), **arrays)
    assert problem in refused(capsys, files)


def test_missing_statistics(files, capsys):
    files.with_name("mb05_param_mean_std.npz").unlink()
    error = refused(capsys, files)
    names = "mb05_param_mean_std.npz, param_mean_std_62d_120x120.pkl nor param_whitening.pkl"
    assert f"neither {names} is beside it" in error
    assert "--whitening FILE" in error
    assert "absent.npz: no such file" in refused(capsys, files, "--whitening", files.with_name("absent.npz"))


@pytest.mark.slow
def test_missing_face_model(files, capsys, monkeypatch):
    files.with_name("face_model.npz").unlink()
    monkeypatch.chdir(files.parent)
    assert "face_model.npz: no such file; a network of coefficients needs" in refused(capsys, files)


@pytest.mark.slow
def test_a_face_model_in_another_folder_is_found_from_any(files, image, monkeypatch):
    """The spec names it from its own folder, also after a second command, whose output lies elsewhere again."""
    root = files.parent
    for name in ("here", "models", "there"):
        (root / name).mkdir()
    files.with_name("face_model.npz").rename(root / "models" / "sheet.npz")
    monkeypatch.chdir(root / "here")
    assert export(files, "--face-model", "../models/sheet.npz", output=root / "mb05.onnx") == 0
    half = Path("../there/half.onnx")
    assert main(["onnx", "--weights", "../mb05.onnx", "--precision", "fp16", "-o", str(half)]) == 0
    monkeypatch.chdir(root / "models")
    assert ModelSpec.load(root / "mb05.onnx.json").topology == "models/sheet.npz"
    np.testing.assert_allclose(meshes(half, image), meshes(root / "mb05.onnx", image), atol=0.5)


@pytest.mark.slow
def test_face_model_of_another_network(files, capsys):
    save_face_model(files.with_name("face_model.npz"))
    assert "its 2 + 1 coefficients of shape and expression are not the network's 40 + 10" in refused(capsys, files)


@pytest.mark.slow
def test_statistics_for_a_position_map(edge_checkpoint, tmp_path, capsys):
    arguments = ["--weights", str(edge_checkpoint), "--arch", "edge", "-o", str(tmp_path / "edge.onnx")]
    assert main(["onnx", *arguments, "--whitening", "x.npz"]) == 1
    assert "--arch edge puts out a position map; leave it out" in capsys.readouterr().err
    assert main(["onnx", *arguments, "--face-model", "x.npz"]) == 1
    assert "family position_map has no face model" in capsys.readouterr().err


# The published weights


@pytest.fixture(scope="module")
def published(shared_data, tmp_path_factory):
    """The model of the published weights."""
    path = tmp_path_factory.mktemp("mb05") / "mb05.onnx"
    face_model = shared_data / "face_model.npz"
    assert export(shared_data / "models" / "mb05_120x120.pth", "--face-model", face_model, output=path) == 0
    return path


@pytest.mark.slow
def test_published_weights_reach_the_reference(shared_data, published):
    """Balanced NME on the development half of AFLW2000-3D, crops of the ground truth.

    The squares of 30 of the 1000 faces reach beyond the picture. The program behind the reference, 3.90, cut them there
    when it placed the landmarks, not when it cropped, so these 30 come out squeezed (7.2 instead of 5.1). Placed in the
    same way our landmarks have the same error. Placed rightly they are better by those faces.
    """
    faces = load_faces(shared_data / "aflw2000_dev")
    data = np.load(shared_data / "aflw2000_dev.npz")
    reference = np.load(shared_data / "reference" / "mb05_aflw2000_dev.npz")["pts68_gt_boxes"][..., :2]
    squares = data["roi_3ddfa"].astype(float)
    is_whole = squares[:, 2] - squares[:, 0] == squares[:, 3] - squares[:, 1]
    truth, size = faces.labels.pts68[..., :2], box_size(faces.labels.box)

    def balanced(points, rows=slice(None)):
        return balanced_mean(bin_means(point_nme(points[rows], truth[rows], size[rows]), faces.bins[rows]))

    ours, as_published = [], []
    with open_runner(published, max_batch=1) as runner:
        family = open_family(runner.spec)
        decode = family.decoder(dense=False)
        for image, box, square in zip(faces.images, faces.labels.box, squares, strict=True):
            matrix = family.crop_matrix(box)
            crop_into(image, matrix, runner.spec.input, runner.input[0])
            ours.append(decode(runner.infer(1)[0], matrix)[1][:, :2])
            # The published crop begins at the pixel of the square's corner: half a pixel further left and up.
            matrix[:, 2] += matrix[0, 0] / 2
            crop_into(image, matrix, runner.spec.input, runner.input[0])
            left, top, right, bottom = square
            x, y = 120 / (right - left), 120 / (bottom - top)
            placed = np.array([[x, 0, -left * x], [0, y, -top * y]])
            as_published.append(decode(runner.infer(1)[0], placed)[1][:, :2])
    ours, as_published = np.array(ours), np.array(as_published)
    assert balanced(reference) == pytest.approx(3.90, abs=0.005)
    assert balanced(as_published) == pytest.approx(balanced(reference), abs=0.02)
    assert (~is_whole).sum() == 30
    assert balanced(ours, is_whole) == pytest.approx(balanced(reference, is_whole), abs=0.02)
    assert balanced(ours) < balanced(reference)
    assert balanced(ours, ~is_whole) < balanced(reference, ~is_whole) - 1.5
