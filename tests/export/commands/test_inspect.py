"""``python -m export inspect``: what a file is, and whether this machine can run it."""

from __future__ import annotations

import dataclasses
import sys
from types import ModuleType

import numpy as np
import onnx
import pytest

from export.__main__ import main
from runtime.cuda.driver import Device
from runtime.models.detector_spec import DetectorSpec
from runtime.models.manifest import EngineManifest
from runtime.models.shipped import SHIPPED_MODEL
from runtime.models.spec import ModelSpec
from runtime.storage.json_documents import save_document
from runtime.storage.whole_files import file_sha256
from tests.export.small_models import write_small_model
from tests.standins.small_detector import write_small_detector


@pytest.fixture
def inspect(capsys):
    """``inspect(path)`` -> exit code, label -> text of the lines (the first line has the label "")."""

    def inspect(path):
        code = main(["inspect", str(path)])
        out, err = capsys.readouterr()
        head, *lines = out.splitlines() or [err]
        return code, {"": head, **{line[2:14].strip(): line[14:] for line in lines if line[2:14].strip()}}

    return inspect


@pytest.fixture
def engine(tmp_path):
    """A file with the manifest of an engine for Orin; never a real one, since nothing may load it."""
    path = tmp_path / "m.engine"
    path.write_bytes(b"no engine")
    manifest = EngineManifest(
        spec=ModelSpec.load(ModelSpec.path_for(SHIPPED_MODEL)),
        engine_sha256=file_sha256(path),
        library="tensorrt-rtx",
        version="1.2.3",
        batch=(1, 2, 8),
        compute_capabilities=("8.9",),
        device=None,
        dla_core=None,
        created="2026-11-20T12:00:00+00:00",
        command="python -m export engine edge.onnx -o m.engine --backend tensorrt-rtx",
    )
    save_document(manifest, EngineManifest.path_for(path))
    return path


def test_detector(inspect, engine, tmp_path):
    """An ONNX file and an engine of one tell the same of it."""
    path = write_small_detector(tmp_path / "d.onnx", width=96, height=64)
    manifest = EngineManifest.load(EngineManifest.path_for(engine))
    spec = DetectorSpec.load(DetectorSpec.path_for(path))
    save_document(dataclasses.replace(manifest, spec=spec), EngineManifest.path_for(engine))
    for file in (path, engine):
        code, lines = inspect(file)
        assert code == 0
        assert lines["model"] == "small, detector, fp32"
        assert lines["input"] == "planes: 96 x 64 px, NCHW, BGR, 0 to 255"
        assert lines["outputs"] == "stride_8, stride_16, stride_32: 16 numbers every 8, 16, 32 px"
    assert inspect(path)[1]["spec"] == "belongs to this file"
    dataclasses.replace(spec, onnx_sha256="0" * 64).save(DetectorSpec.path_for(path))
    assert "its SHA-256" in inspect(path)[1]["spec"]


@pytest.fixture
def machine(monkeypatch):
    """``machine(version, device)``: what `inspect` finds here."""

    def machine(version, device):
        library = ModuleType("tensorrt_rtx")
        library.__version__ = version
        monkeypatch.setitem(sys.modules, "tensorrt_rtx", library if version else None)
        monkeypatch.setattr("export.commands.inspect_command.find_device", lambda: device)

    return machine


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_onnx(inspect, tmp_path, precision):
    path = write_small_model(tmp_path / "m.onnx", precision=precision)
    code, lines = inspect(path)
    assert code == 0
    assert lines[""] == f"{path}: {path.stat().st_size:,} bytes, {precision} model"
    multiply_adds = 16 * 16 * (4 * 3 * 9 + 3 * 4 * 9)
    assert f"{216} parameters, {2 * multiply_adds / 1e9:.3g} GFLOP" in lines["network"]
    assert lines["layers"] == (
        "2 Cast, 2 Conv, 1 Relu, 1 Sigmoid" if precision == "fp16" else "2 Conv, 1 Relu, 1 Sigmoid"
    )
    assert lines["weights"] == ("2 FLOAT16" if precision == "fp16" else "2 FLOAT")
    assert lines["input"] == "image: 32 px, NCHW, RGB, 0 to 1"
    assert lines["spec"] == "belongs to this file"
    assert lines["SHA-256"] == file_sha256(path)


def test_confidence_of_a_model_and_of_an_engine(inspect, tmp_path, engine, machine):
    path = write_small_model(tmp_path / "m.onnx", confidence=True)
    assert inspect(path)[1]["confidence"] == "confidence: 0 to 1"
    assert "confidence" not in inspect(write_small_model(tmp_path / "n.onnx"))[1]
    machine("1.2.3", Device("NVIDIA L4", "8.9"))
    manifest = EngineManifest.load(EngineManifest.path_for(engine))
    for name, lines in ((None, {}), ("sure", {"confidence": "sure: 0 to 1"})):
        spec = dataclasses.replace(manifest.spec, confidence=name)
        save_document(dataclasses.replace(manifest, spec=spec), EngineManifest.path_for(engine))
        code, found = inspect(engine)
        assert code == 0
        assert {label: text for label, text in found.items() if label == "confidence"} == lines


@pytest.mark.parametrize(
    ("precision", "kinds"), [("fp32", ["FLOAT"] * 2), ("fp16", ["FLOAT16"] * 2), ("int8", ["FLOAT", "INT8"])]
)
def test_every_layer_with_weights_is_named(tmp_path, capsys, precision, kinds):
    """The names are what ``export onnx --keep`` takes."""
    path = write_small_model(tmp_path / "m.onnx", precision=precision)
    if precision == "int8":
        quantise_w2(path)
    assert main(["inspect", str(path)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[-2:]]
    assert lines == [["weighted", "c1", "Conv", "4x3x3x3", kinds[0]], ["c2", "Conv", "3x4x3x3", kinds[1]]]


def quantise_w2(path):
    """The weights of the second layer as int8 with a DequantizeLinear, as the calibration writes them."""
    model = onnx.load(path)
    model.graph.initializer[1].CopyFrom(onnx.numpy_helper.from_array(np.ones((3, 4, 3, 3), np.int8), "w2_int8"))
    model.graph.node.insert(0, onnx.helper.make_node("DequantizeLinear", ["w2_int8", "scale"], ["w2"]))
    onnx.save(model, path)


def test_two_computed_factors_have_no_weights(tmp_path, capsys):
    path = write_small_model(tmp_path / "m.onnx")
    model = onnx.load(path)
    model.graph.node.append(onnx.helper.make_node("MatMul", ["a", "b"], ["product"], "attention"))
    onnx.save(model, path)
    assert main(["inspect", str(path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == ["attention", "MatMul", "–", "–"]


@pytest.mark.parametrize("unknown", ["sides", "operator"])
def test_arithmetic_that_is_unknown(inspect, tmp_path, unknown):
    path = write_small_model(tmp_path / "m.onnx")
    model = onnx.load(path)
    if unknown == "sides":
        for dim, name in zip(model.graph.input[0].type.tensor_type.shape.dim[2:], "HW", strict=True):
            dim.dim_param = name
    else:
        model.graph.node[1].op_type = "Unheard"
    onnx.save(model, path)
    code, lines = inspect(path)
    assert code == 0
    assert "216 parameters, – GFLOP for one input" in lines["network"]


def test_onnx_without_its_spec(inspect, tmp_path):
    path = write_small_model(tmp_path / "m.onnx")
    ModelSpec.path_for(path).unlink()
    code, lines = inspect(path)
    assert (code, "input" in lines) == (0, False)
    assert "no model spec there" in lines["spec"]


def test_onnx_with_the_spec_of_another(inspect, tmp_path):
    path = write_small_model(tmp_path / "m.onnx", onnx_sha256="ab" * 32)
    assert "is not the abababababab" in inspect(path)[1]["spec"]


def test_no_onnx(inspect, tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"junk" * 100)
    code, lines = inspect(tmp_path / "m.onnx")
    assert code == 1
    assert lines[""].startswith("error: ")


def test_engine_that_runs_here(inspect, engine, machine):
    machine("1.2.3", Device("NVIDIA GeForce RTX 4090", "8.9"))
    code, lines = inspect(engine)
    assert code == 0
    assert lines[""] == f"{engine}: 9 bytes, fp32 engine"
    assert lines["library"] == "tensorrt-rtx 1.2.3"
    assert lines["batch"] == "1 to 8, fastest at 2"
    assert lines["model"].startswith("edge, position_map")
    assert lines["here"] == "tensorrt-rtx 1.2.3, NVIDIA GeForce RTX 4090 of compute capability 8.9"
    assert lines["verdict"] == "runs on this machine"


@pytest.mark.parametrize(
    ("version", "device", "reason"),
    [
        (
            "1.2.4",
            Device("NVIDIA GeForce RTX 4090", "8.9"),
            "this is tensorrt-rtx 1.2.4; build it here with 'python -m export engine edge.onnx",
        ),
        ("1.2.3", Device("NVIDIA H200", "9.0"), "this is NVIDIA H200 of compute capability 9.0; build it here with"),
        (None, Device("NVIDIA H200", "8.9"), "tensorrt-rtx is not installed here; pip install 'facemesh-edge[rtx]'"),
        ("1.2.3", None, "no CUDA device is found here"),
    ],
)
def test_engine_that_does_not(inspect, engine, machine, version, device, reason):
    machine(version, device)
    code, lines = inspect(engine)
    assert code == 0
    assert lines["verdict"].startswith(
        "does not run on this machine: built without a device for tensorrt-rtx 1.2.3, compute capability 8.9; "
    )
    assert reason in lines["verdict"]


def test_engine_whose_library_does_not_load(inspect, engine, machine, broken_module):
    machine("1.2.3", Device("NVIDIA GeForce RTX 4090", "8.9"))
    broken_module("tensorrt_rtx", "raise ImportError('libtensorrt_rtx.so.1: cannot open shared object file')")
    code, lines = inspect(engine)
    assert code == 0
    assert lines["here"].startswith("tensorrt-rtx does not load, NVIDIA GeForce RTX 4090")
    assert "tensorrt_rtx is installed here but does not load (libtensorrt_rtx.so.1: cannot" in lines["verdict"]


def test_engine_on_a_dla(inspect, engine):
    manifest = EngineManifest.load_for(engine)
    save_document(dataclasses.replace(manifest, library="tensorrt", dla_core=1), EngineManifest.path_for(engine))
    assert inspect(engine)[1]["runs on"] == "compute capability 8.9, DLA core 1"


def test_engine_without_a_manifest(inspect, engine):
    EngineManifest.path_for(engine).unlink()
    code, lines = inspect(engine)
    assert code == 1
    assert "no engine manifest there" in lines[""]


def test_missing_file(inspect, tmp_path):
    assert inspect(tmp_path / "gone.engine")[0] == inspect(tmp_path / "gone.onnx")[0] == 1


def test_branches_of_a_graph_count(inspect, tmp_path):
    """Weights inside an If are weights too."""
    path = write_small_model(tmp_path / "m.onnx")
    model = onnx.load(path)
    value = onnx.numpy_helper.from_array(
        onnx.numpy_helper.to_array(model.graph.initializer[0]).astype("float16"), "inner"
    )
    branch = onnx.helper.make_graph([onnx.helper.make_node("Constant", [], ["y"], value=value)], "b", [], [])
    model.graph.node.append(onnx.helper.make_node("If", ["c"], ["z"], "branch", then_branch=branch, else_branch=branch))
    onnx.save(model, path)
    code, lines = inspect(path)
    assert code == 0
    assert lines["weights"] == "2 FLOAT, 2 FLOAT16"
    assert lines[""].endswith("fp16 model")
