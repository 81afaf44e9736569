"""UH-E2FAR from its checkpoint to files that run: narrow ones, and the whole network in little memory."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
torch = pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("onnxsim", reason="needs onnxsim")

from export.__main__ import main  # noqa: E402
from export.graphs import heavy_weights  # noqa: E402
from export.graphs.heavy_weights import put_back, take_out  # noqa: E402
from runtime.families.table import open_family  # noqa: E402
from runtime.inference.open_runner import open_runner  # noqa: E402
from runtime.models.spec import ModelSpec, load_spec  # noqa: E402
from tests.runtime.conftest import gpu_machine  # noqa: E402, F401  (a fixture)
from tests.standins.coefficient_network import save_face_model, wide_face_model  # noqa: E402
from tests.standins.networks import live_e2far  # noqa: E402
from training.__main__ import main as train  # noqa: E402
from training.networks.e2far import E2far  # noqa: E402

WIDTH = 16
POSE = [45.0, 0, 0, 90, 0, 45, 0, 90, 0, 0, 45, 0]  # the sheet, 90 px wide, in the middle of the crop
BOX = np.array([20.0, 20, 80, 80])
MOST_MEMORY = 2.5  # of the weights


def write_files(folder: Path, network: torch.nn.Module) -> Path:
    """Checkpoint, statistics and face model side by side; return the checkpoint."""
    mean = np.array([*POSE, *np.zeros(50)], np.float32)
    std = np.repeat([0.5, 1.0], [12, 50]).astype(np.float32)
    np.savez(folder / "e2far_param_mean_std.npz", mean=mean, std=std)
    save_face_model(folder / "face_model.npz", model=wide_face_model())
    torch.save({"network": network.state_dict()}, folder / "e2far.pt")
    return folder / "e2far.pt"


@pytest.fixture
def files(tmp_path):
    return write_files(tmp_path, live_e2far(WIDTH))


@pytest.fixture
def weighty(monkeypatch):
    """The narrow network's weights count as heavy ones."""
    monkeypatch.setattr(heavy_weights, "LEAST_MODEL_BYTES", 1 << 20)
    monkeypatch.setattr(heavy_weights, "LEAST_BYTES", 1 << 17)


def export(weights: Path, *arguments: object, name: str = "e2far.onnx") -> Path:
    target = weights.with_name(name)
    assert main(["onnx", "--arch", "e2far", "--weights", str(weights), "-o", str(target), *map(str, arguments)]) == 0
    return target


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)


def mesh(model: Path, image: np.ndarray) -> np.ndarray:
    with open_runner(model) as runner:
        family = open_family(runner.spec)
        mesher = runner.mesher(family)
        for _ in range(3):
            mesher.submit(image, [family.crop_matrix(BOX)])
            (face,) = mesher.collect()
    return face.vertices


@pytest.mark.slow
def test_heavy_weights_change_neither_file_nor_figures(files, image, monkeypatch, capsys):
    plain = export(files, "--no-rewrite", name="plain.onnx")
    figures = capsys.readouterr().out
    half = export(files, "--no-rewrite", "--precision", "fp16", name="plain-half.onnx")
    monkeypatch.setattr(heavy_weights, "LEAST_MODEL_BYTES", 1 << 20)
    monkeypatch.setattr(heavy_weights, "LEAST_BYTES", 1 << 17)
    capsys.readouterr()
    heavy = export(files, "--no-rewrite", name="heavy.onnx")
    heavy_figures = capsys.readouterr().out
    for row in ("parameters", "GFLOP", "MB"):
        (line,) = (line for line in figures.splitlines() if line.startswith(row))
        assert line in heavy_figures
    heavy_half = export(files, "--no-rewrite", "--precision", "fp16", name="heavy-half.onnx")
    for one, other in ((plain, heavy), (half, heavy_half)):
        onnx.checker.check_model(str(other), full_check=True)
        models = onnx.load(one), onnx.load(other)
        weights = [{tensor.name: tensor.raw_data for tensor in model.graph.initializer} for model in models]
        assert weights[0] == weights[1]
        assert len(models[1].graph.input) == 1
        np.testing.assert_array_equal(mesh(one, image), mesh(other, image))
        load_spec(other)  # its hash covers every byte
    again = heavy.with_name("again.onnx")
    assert main(["onnx", "--weights", str(heavy), "--no-rewrite", "--precision", "fp16", "-o", str(again)]) == 0
    np.testing.assert_array_equal(mesh(again, image), mesh(half, image))


@pytest.mark.slow
def test_pieces_are_the_model(files, weighty):
    path = export(files)
    model = onnx.load(path)
    whole = model.SerializeToString(deterministic=True)
    heavy = take_out(model)
    assert heavy.keys() == {"identity.0.weight", "expression.0.weight"}
    assert len(model.graph.input) == 1 + len(heavy)
    back = put_back(model, heavy)
    assert back.ByteSize() == len(whole)
    for tensor in onnx.load(path).graph.initializer:
        held = next(entry for entry in back.graph.initializer if entry.name == tensor.name)
        assert (held.raw_data, held.dims, held.data_type) == (tensor.raw_data, tensor.dims, tensor.data_type)


@pytest.mark.slow
def test_weights_beyond_half_precision_stay(files, image, weighty, capsys):
    network = live_e2far(WIDTH)
    with torch.no_grad():
        network.identity[0].weight[0] = -1e6  # what it reads is not negative, so that the ReLU puts out 0
    torch.save({"network": network.state_dict()}, files)
    half = export(files, "--precision", "fp16")
    assert "stays in FP32: identity.0.weight reaches" in capsys.readouterr().err
    types = {tensor.name: tensor.data_type for tensor in onnx.load(half).graph.initializer}
    assert types["identity.0.weight"] == onnx.TensorProto.FLOAT
    assert onnx.TensorProto.FLOAT16 in types.values()
    assert np.isfinite(mesh(half, image)).all()


@pytest.fixture(scope="module")
def precisions(tmp_path_factory):
    """The narrow network in FP32, FP16 and INT8."""
    from calibration.__main__ import main as calibrate
    from tests.calibration.small import write_face_set

    folder = tmp_path_factory.mktemp("precisions")
    weights = write_files(folder, live_e2far(WIDTH))
    plain, half = export(weights), export(weights, "--precision", "fp16", name="half.onnx")
    int8 = folder / "int8.onnx"
    arguments = ["--crops", str(write_face_set(folder)), "--max-nme-increase", "1", "-o", str(int8)]
    assert calibrate([str(plain), *arguments]) == 0
    assert int8.stat().st_size < 0.3 * plain.stat().st_size
    return plain, half, int8


@pytest.mark.slow
def test_precisions_run(precisions, image, gpu_machine):  # noqa: F811
    """On the CPU, and on the stand-in for a GPU."""
    from tests.standins.fake_engine import write_engine

    exact = mesh(precisions[0], image)
    for model, most, atol in zip(precisions, (0, 0.5, 8), (0.05, 0.5, 0.5), strict=True):
        gpu_machine(integrated=False)
        assert np.abs(mesh(model, image) - exact).max() <= most
        engine = write_engine(model.with_suffix(".engine"), model)
        np.testing.assert_allclose(mesh(engine, image), mesh(model, image), atol=atol)


@pytest.mark.slow
def test_precisions_become_engines(precisions, capsys):
    pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
    for model in precisions:
        engine = model.with_suffix(".rtx.engine")
        assert main(["engine", str(model), "-o", str(engine), "--backend", "tensorrt-rtx"]) == 0
        assert main(["inspect", str(engine)]) == 0
        assert "coefficients: 12 pose + 40 shape + 10 expression" in capsys.readouterr().out


@pytest.mark.slow
def test_shrunk_network_is_exported(files, image, capsys):
    small = files.with_name("small.pt")
    assert train(["shrink", "--weights", str(files), "--rank", "30", "-o", str(small)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines[:4]] == [
        *("identity.0", "identity.2", "expression.0", "expression.2")
    ]
    assert "of the squares of its weights" in lines[0]
    assert "rank 30, 0.6 -> 0.2 million weights" in lines[-1]
    statistics = files.with_name("e2far_param_mean_std.npz")
    whole, part = export(files), export(small, "--whitening", statistics, name="small.onnx")
    assert part.stat().st_size < 0.8 * whole.stat().st_size
    assert 0 < np.abs(mesh(whole, image) - mesh(part, image)).max() < 60
    capsys.readouterr()
    for arguments, problem in (
        (["--weights", small, "--rank", "30"], "its layers have rank 30 or less already"),
        (["--weights", files, "--rank", "9", "--face-model", "x.npz"], "nothing is measured without --data"),
        (["--weights", files.with_name("face_model.npz"), "--rank", "9"], "face_model.npz"),
        (["--weights", files, "--latent", "9"], "give --data"),
    ):
        assert train(["shrink", *map(str, arguments), "-o", str(files.with_name("no.pt"))]) == 1
        error = capsys.readouterr().err
        assert problem in error
        assert error.count("\n") == 1
    assert not files.with_name("no.pt").exists()


def refused(capsys, weights: Path, *arguments: object) -> str:
    """The export ended with one line and left nothing; return the line."""
    target = weights.with_name("no.onnx")
    assert main(["onnx", "--arch", "e2far", "--weights", str(weights), "-o", str(target), *map(str, arguments)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1, error
    assert not list(weights.parent.glob("no.onnx*"))
    return error


@pytest.mark.slow
def test_checkpoints_that_are_refused(files, capsys):
    state = torch.load(files, weights_only=True)["network"]
    torch.save({"network": {**state, "expression.4.weight": torch.zeros(29, 64)}}, files)
    assert "expression.4.weight (29, 64) instead of (10, 64)" in refused(capsys, files)
    torch.save({"network": {**state, "identity.0.bias": torch.full((256,), torch.nan)}}, files)
    assert "NaN or infinity in identity.0.bias" in refused(capsys, files)
    torch.save({"network": {name: value for name, value in state.items() if name.startswith("conv")}}, files)
    assert "missing: " in refused(capsys, files)
    names = {f"features.{place}": f"conv1_{place // 2 + 1}" for place in (0, 2)}
    renamed = {next((n.replace(o, t) for t, o in names.items() if n.startswith(o)), n): v for n, v in state.items()}
    torch.save({"network": renamed}, files)
    export(files)  # torchvision's names of the trunk


# VmHWM, since ru_maxrss keeps the peak of the process that started this one.
PEAK = """
import sys
from pathlib import Path
from export.__main__ import main
code = main(sys.argv[1:])
lines = Path("/proc/self/status").read_text().splitlines()
print(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024)
sys.exit(code)
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """All 135 million weights as a checkpoint."""
    return write_files(tmp_path_factory.mktemp("whole"), live_e2far())


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_export_of_all_weights_fits_in_little_memory(whole, precision, image):
    target = whole.with_name(f"{precision}.onnx")
    arguments = ["onnx", "--arch", "e2far", "--weights", whole, "--precision", precision, "-o", target]
    command = [sys.executable, "-c", PEAK, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    with torch.device("meta"):
        weights = 4 * sum(parameter.numel() for parameter in E2far().parameters())
    assert weights > 540e6
    assert int(done.stdout.splitlines()[-1]) < MOST_MEMORY * weights
    assert target.stat().st_size == pytest.approx(weights / (1 if precision == "fp32" else 2), rel=0.01)
    assert np.isfinite(mesh(target, image)).all()
    if importlib.util.find_spec("tensorrt_rtx") is not None:
        engine = target.with_suffix(".engine")
        assert main(["engine", str(target), "-o", str(engine), "--backend", "tensorrt-rtx"]) == 0
        manifest = json.loads(engine.with_name(f"{engine.name}.json").read_text())
        assert manifest["spec"]["precision"] == precision
        assert engine.stat().st_size > 0.9 * target.stat().st_size
    assert ModelSpec.load(ModelSpec.path_for(target)).precision == precision
