"""2DASL from its authors' checkpoint to a model that runs with landmarks; at a quarter of the width, for speed."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
torch = pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("onnxsim", reason="needs onnxsim")

from calibration.__main__ import main as calibrate  # noqa: E402
from export.__main__ import main  # noqa: E402
from export.checkpoints.checkpoint import load_checkpoint  # noqa: E402
from runtime.models.manifest import EngineManifest  # noqa: E402
from runtime.models.shipped import SHIPPED, SHIPPED_PICTURE  # noqa: E402
from runtime.models.spec import ModelSpec  # noqa: E402
from runtime.run import main as run  # noqa: E402
from tests.calibration.small import write_face_set  # noqa: E402
from tests.standins.coefficient_network import save_face_model, wide_face_model  # noqa: E402
from tests.standins.networks import live_coefficients  # noqa: E402
from training.networks import create_network  # noqa: E402

POSE = [30.0, 0, 0, 60, 0, 30, 0, 60, 0, 0, 30, 0]  # the sheet, 60 px wide, in the middle of the crop
MEAN = np.array([*POSE, *np.zeros(50)], np.float32)
STD = np.repeat([0.5, 1.0], [12, 50]).astype(np.float32)


def authors_file(path: Path, network: torch.nn.Module, **changes: torch.Tensor) -> Path:
    """A checkpoint as 2DASL's authors save it."""
    state = {f"module.{name}": value for name, value in network.state_dict().items()}
    critic = {"module.a": torch.zeros(2)}
    torch.save({"epoch": 3, "res_state_dict": {**state, **changes}, "dis_state_dict": critic}, path)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """Checkpoint, statistics, face model, FP32 export."""
    folder = tmp_path_factory.mktemp("2dasl")
    np.savez(folder / "param_mean_std.npz", mean=MEAN, std=STD)
    save_face_model(folder / "face_model.npz", model=wide_face_model())
    weights = authors_file(folder / "2DASL.pth.tar", live_coefficients("2dasl-quarter"))
    assert export(weights) == 0
    return folder


def export(weights: Path, *arguments: object, arch: str = "2dasl-quarter", output: str = "2dasl.onnx") -> int:
    options = ("--whitening", weights.with_name("param_mean_std.npz"), "-o", weights.with_name(output), *arguments)
    return main(["onnx", "--arch", arch, "--weights", str(weights), *map(str, options)])


def landmarks(model: Path, folder: Path, *options: object) -> np.ndarray:
    """(68, 3) of the shipped picture's face, by the program."""
    command = ["--engine", model, "--source", SHIPPED_PICTURE, "--output", folder, "--landmarks-from", SHIPPED["fp32"]]
    assert run([str(part) for part in [*command, *options]]) == 0
    (line,) = (folder / "results.jsonl").read_text().splitlines()
    return np.array(json.loads(line)["faces"][0]["landmarks"])


@pytest.mark.slow
def test_authors_checkpoint_becomes_a_model(files, tmp_path):
    spec = ModelSpec.load(files / "2dasl.onnx.json")
    assert (spec.family, spec.input.size, spec.input.landmark_channel) == ("coefficients", 120, True)
    assert spec.input.shape == (4, 120, 120)
    assert spec.output.origin == (0.0, 121.0)
    operators = [node.op_type for node in onnx.load(files / "2dasl.onnx").graph.node]
    assert "BatchNormalization" not in operators  # all folded
    assert operators.count("Conv") == 53
    found = landmarks(files / "2dasl.onnx", tmp_path / "out", "--save", "json,overlay,obj")
    assert found.shape == (68, 3)
    assert np.isfinite(found).all()
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".jsonl", ".jpg", ".obj"}


@pytest.mark.slow
def test_fp16_and_int8_run_and_become_engines(files, tmp_path, capsys):
    plain = files / "2dasl.onnx"
    exact = landmarks(plain, tmp_path / "exact")
    half = files / "half.onnx"
    assert main(["onnx", "--weights", str(plain), "--precision", "fp16", "-o", str(half)]) == 0
    assert 0 < np.abs(landmarks(half, tmp_path / "half") - exact).max() < 0.5
    int8 = files / "int8.onnx"
    arguments = ["--crops", str(write_face_set(tmp_path)), "--max-nme-increase", "1", "-o", str(int8)]
    assert calibrate([str(plain), *arguments]) == 0
    assert 0 < np.abs(landmarks(int8, tmp_path / "int8") - exact).max() < 8
    assert ModelSpec.load(ModelSpec.path_for(int8)).input.landmark_channel
    capsys.readouterr()
    assert main(["inspect", str(half)]) == 0
    assert "and a channel of landmarks" in capsys.readouterr().out
    if importlib.util.find_spec("tensorrt_rtx") is None:
        return
    for model in (plain, half, int8):
        engine = model.with_suffix(".engine")
        assert main(["engine", str(model), "-o", str(engine), "--backend", "tensorrt-rtx"]) == 0
        assert EngineManifest.load_for(engine).spec == ModelSpec.load(ModelSpec.path_for(model))


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["2dasl", "edge-coefficients"])
def test_whole_networks_become_engines(tmp_path, arch):
    pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
    network = live_coefficients(arch)
    whitening = {"mean": torch.from_numpy(MEAN), "std": torch.from_numpy(STD)}
    torch.save({"network": network.state_dict(), "whitening": whitening}, tmp_path / "weights.pt")
    save_face_model(tmp_path / "face_model.npz", model=wide_face_model())
    for precision in ("fp32", "fp16"):
        model = tmp_path / f"{precision}.onnx"
        arguments = ["--arch", arch, "--weights", tmp_path / "weights.pt", "--precision", precision, "-o", model]
        assert main(["onnx", *map(str, arguments)]) == 0
        engine = model.with_suffix(".engine")
        assert main(["engine", str(model), "-o", str(engine), "--backend", "tensorrt-rtx"]) == 0
        assert EngineManifest.load_for(engine).spec.precision == precision
        assert engine.stat().st_size > 0.9 * model.stat().st_size


@pytest.mark.slow
def test_int8_needs_faces_with_landmarks(files, tmp_path, capsys):
    """A folder of pictures has none to draw."""
    (tmp_path / "pictures").mkdir()
    shutil.copy(SHIPPED_PICTURE, tmp_path / "pictures")
    output = tmp_path / "int8.onnx"
    command = [str(files / "2dasl.onnx"), "--crops", str(tmp_path / "pictures"), "-o", str(output)]
    assert calibrate([*command, "--labels", str(write_face_set(tmp_path))]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "takes landmarks beside the picture, and these faces have none; give a set of .npz and .tar" in error
    assert not output.exists()


@pytest.mark.slow
def test_landmarks_matter(files, tmp_path):
    """Another first network, that of a quarter of the face's size off, gives another mesh."""
    from runtime.inference.guided_runner import GuidedRunner
    from runtime.inference.open_runner import open_runner
    from runtime.pipeline import FaceMeshPipeline

    picture = cv2.imread(str(SHIPPED_PICTURE))
    box = np.array([[179.2, 88.4, 270.2, 176.2]])
    meshes = []
    for shift in (0, 20):
        with open_runner(files / "2dasl.onnx", landmarks_from=SHIPPED["fp32"]) as runner:
            assert isinstance(runner, GuidedRunner)
            pipeline = FaceMeshPipeline(runner)
            complete = pipeline._mesher._completed
            pipeline._mesher._completed = lambda *a, c=complete, s=shift: [p + np.float32(s) for p in c(*a)]
            meshes.append(pipeline.from_boxes(picture, box)[0].landmarks)
    assert np.abs(meshes[0] - meshes[1]).max() > 0.01


def line_of(capsys) -> str:
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert error.startswith("error: ")
    return error


@pytest.mark.slow
def test_missing_landmark_source(files, tmp_path, capsys):
    command = ["--engine", str(files / "2dasl.onnx"), "--source", str(SHIPPED_PICTURE)]
    command += ["--output", str(tmp_path / "out")]
    assert run(command) == 1
    error = line_of(capsys)
    assert "takes landmarks beside the picture, and nothing finds them" in error
    assert "--landmarks-from" in error
    assert not (tmp_path / "out").exists()
    for model, problem in (
        (tmp_path / "absent.onnx", "absent.onnx: no model file there"),
        (files / "2dasl.onnx", "takes landmarks itself"),
    ):
        assert run([*command, "--landmarks-from", str(model)]) == 1
        assert problem in line_of(capsys)


def test_a_source_for_a_network_that_takes_none(tmp_path, capsys):
    edge = str(SHIPPED["fp32"])
    command = ["--engine", edge, "--landmarks-from", edge, "--source", str(SHIPPED_PICTURE)]
    assert run([*command, "--output", str(tmp_path / "out")]) == 1
    assert "takes no landmarks beside the picture; leave --landmarks-from out" in line_of(capsys)


@pytest.mark.slow
def test_checkpoints_of_other_networks(files, tmp_path, capsys):
    for name in ("param_mean_std.npz", "face_model.npz"):
        shutil.copy(files / name, tmp_path)
    network = live_coefficients("2dasl-quarter")
    head = {"module.fc.weight": torch.zeros(240, 512), "module.fc.bias": torch.zeros(240)}
    assert export(authors_file(tmp_path / "split.pth", network, **head)) == 1
    assert "fc.weight (240, 512) instead of (62, 512)" in line_of(capsys)
    three = {"module.conv1.weight": torch.zeros(16, 3, 7, 7)}
    assert export(authors_file(tmp_path / "three.pth", network, **three)) == 1
    assert "conv1.weight (16, 3, 7, 7) instead of (16, 4, 7, 7)" in line_of(capsys)
    np.savez(tmp_path / "param_mean_std.npz", mean=MEAN[:60], std=STD[:60])
    assert export(authors_file(tmp_path / "good.pth", network)) == 1
    assert "60 numbers in mean, the network puts out 62" in line_of(capsys)
    assert not list(tmp_path.glob("*.onnx"))


@pytest.mark.slow
def test_a_trained_checkpoint_brings_its_statistics(files, tmp_path, capsys):
    """As `python -m training fit` writes it."""
    shutil.copy(files / "face_model.npz", tmp_path)
    record = {"mean": torch.from_numpy(MEAN), "std": torch.from_numpy(STD)}
    state = {"network": live_coefficients("2dasl-quarter").state_dict(), "training": {}, "whitening": record}
    torch.save(state, tmp_path / "best.pt")
    command = ["onnx", "--arch", "2dasl-quarter", "--weights", str(tmp_path / "best.pt")]
    command += ["-o", str(tmp_path / "q.onnx")]
    assert main(command) == 0
    assert ModelSpec.load(tmp_path / "q.onnx.json").output.std == tuple(STD.tolist())
    del state["whitening"]["std"]
    torch.save(state, tmp_path / "best.pt")
    assert main(command) == 1
    assert "best.pt" in capsys.readouterr().err


@pytest.mark.slow
def test_the_full_network_is_imported(tmp_path):
    network = create_network("2dasl")
    for norm in (module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        torch.nn.init.uniform_(norm.running_mean, -0.1, 0.1)
    found = load_checkpoint("2dasl", authors_file(tmp_path / "2DASL.pth.tar", network))
    for name, value in network.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name
    np.savez(tmp_path / "param_mean_std.npz", mean=MEAN, std=STD)
    save_face_model(tmp_path / "face_model.npz", model=wide_face_model())
    assert export(authors_file(tmp_path / "live.pth.tar", live_coefficients("2dasl")), arch="2dasl") == 0
    assert landmarks(tmp_path / "2dasl.onnx", tmp_path / "out").shape == (68, 3)
