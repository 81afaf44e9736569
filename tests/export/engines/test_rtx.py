"""Engines of TensorRT-RTX, really built; and what is refused before any library is asked, whichever it is."""

from __future__ import annotations

import errno
import json
import os
import sys

import onnx
import pytest
from onnx import TensorProto, helper

from export.__main__ import main
from export.engines.build_steps import run_build
from runtime.models.detector_spec import DetectorSpec
from runtime.models.manifest import EngineManifest
from runtime.models.shipped import SHIPPED_MODEL, SHIPPED_PICTURE
from runtime.models.spec import ModelSpec
from runtime.storage.whole_files import file_sha256
from tests.export.small_models import write_small_model, write_spec

rtx = pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
MAGIC = b"vtrt"  # first bytes of its engines


@pytest.fixture
def build(tmp_path, capsys):
    """``build(model, *options)`` -> exit code, stderr, path of the engine."""

    def build(model, *options):
        engine = tmp_path / "out" / "m.engine"
        engine.parent.mkdir(exist_ok=True)
        code = main(["engine", str(model), "-o", str(engine), "--backend", "tensorrt-rtx", *options])
        return code, capsys.readouterr().err, engine

    return build


def left_behind(engine):
    return sorted(path.name for path in engine.parent.iterdir())


def refused(result, *words):
    """The build ended with one line of an error that has the words, and left nothing."""
    code, stderr, engine = result
    assert (code, left_behind(engine)) == (1, [])
    assert stderr.startswith("error: ")
    assert stderr.count("\n") == 1, stderr
    for word in words:
        assert word in stderr


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_engine_of_a_dynamic_model(build, tmp_path, precision):
    model = write_small_model(tmp_path / "m.onnx", precision=precision)
    code, stderr, engine = build(model, "--batch", "1", "2", "4", "--workspace", "64")
    assert (code, stderr) == (0, "")
    assert left_behind(engine) == ["m.engine", "m.engine.json"]
    assert engine.read_bytes()[:4] == MAGIC
    manifest = EngineManifest.load_for(engine)
    assert manifest.spec == ModelSpec.load(ModelSpec.path_for(model))
    assert (manifest.spec.onnx_sha256, manifest.engine_sha256) == (file_sha256(model), file_sha256(engine))
    assert (manifest.library, manifest.version, manifest.device) == ("tensorrt-rtx", rtx.__version__, None)
    assert (manifest.batch, manifest.spec.precision) == ((1, 2, 4), precision)
    assert {"8.6", "8.9", "12.0"} <= {*manifest.compute_capabilities}
    assert "7.5" not in manifest.compute_capabilities


def test_fp32_is_not_tf32(build, tmp_path, monkeypatch):
    flags = []

    def look(source, builder, network, config, messages, progress):
        flags.append(
            (config.get_flag(rtx.BuilderFlag.TF32), network.get_flag(rtx.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        )
        return run_build(source, builder, network, config, messages, progress)

    monkeypatch.setattr("export.engines.rtx_builder.run_build", look)
    assert build(write_small_model(tmp_path / "m.onnx"))[0] == 0
    assert flags == [(False, True)]


def test_library_takes_the_engine_for_its_own(build, tmp_path):
    """Without a GPU it cannot be loaded; but its header is read, and another file's is not."""

    class Log(rtx.ILogger):
        def __init__(self):
            rtx.ILogger.__init__(self)
            self.texts = []

        def log(self, severity, text):
            self.texts.append(text)

    engine = build(write_small_model(tmp_path / "m.onnx"))[2]
    verdicts = []
    for header in (engine.read_bytes()[:64], b"x" * 64):
        log = Log()
        rtx.Runtime(log).get_engine_validity(header)
        verdicts.append(any("does not conform to the expected format" in text for text in log.texts))
    assert verdicts == [False, True]


def test_the_command_in_the_manifest_builds_it_again(build, tmp_path):
    code, _, engine = build(write_small_model(tmp_path / "m.onnx"))
    assert code == 0
    command = EngineManifest.load_for(engine).command.split()
    assert command[:3] == ["python", "-m", "export"]
    content = engine.read_bytes()
    engine.unlink()
    assert main(command[3:]) == 0
    assert engine.read_bytes() == content


def test_shipped_model(build):
    code, _, engine = build(SHIPPED_MODEL)
    assert code == 0
    assert EngineManifest.load_for(engine).batch == (1, 1, 8)
    assert engine.stat().st_size > 0.9 * SHIPPED_MODEL.stat().st_size


def test_fixed_batch(build, tmp_path):
    model = write_small_model(tmp_path / "m.onnx", batch=2)
    assert build(model, "--batch", "2", "2", "2")[0] == 0
    code, _, engine = build(model)
    assert code == 0
    assert EngineManifest.load_for(engine).batch == (2, 2, 2)


def test_batch_that_a_fixed_model_has_not(build, tmp_path):
    refused(
        build(write_small_model(tmp_path / "m.onnx", batch=2), "--batch", "1", "2", "2"),
        "its batch is fixed to 2; leave --batch out",
    )


def test_batch_that_falls(build, tmp_path):
    refused(build(write_small_model(tmp_path / "m.onnx"), "--batch", "4", "2", "8"), "--batch 4 2 8: must not fall")


@pytest.mark.parametrize(
    ("option", "value"), [("--batch", ["0", "1", "2"]), ("--opt-level", ["6"]), ("--workspace", ["1e3"])]
)
def test_numbers_out_of_range_are_usage_errors(build, tmp_path, option, value):
    with pytest.raises(SystemExit, match="2"):
        build(write_small_model(tmp_path / "m.onnx"), option, *value)


@pytest.mark.parametrize(
    "option",
    [
        ["--timing-cache", "x"],
        ["--opt-level", "3"],
        ["--dla-core", "0"],
        ["--hardware-compat"],
        ["--version-compatible"],
    ],
    ids=lambda o: o[0],
)
def test_options_that_the_library_has_not(build, tmp_path, option):
    refused(
        build(write_small_model(tmp_path / "m.onnx"), *option),
        f"TensorRT-RTX has no {option[0]}: ",
        "leave it out, or take --backend tensorrt",
    )


def test_unsupported_operators_are_named_with_their_nodes(build, tmp_path):
    model = write_small_model(tmp_path / "m.onnx", activation="Hardmax")
    document = onnx.load(model)
    document.graph.node[1].op_type = "Unheard"
    onnx.save(document, model)
    write_spec(model)
    refused(build(model), "m.onnx: tensorrt_rtx 1.", "cannot take this network: node act (Unheard): ")


def test_network_whose_layers_do_not_fit(build, tmp_path):
    model = write_small_model(tmp_path / "m.onnx")
    document = onnx.load(model)
    weight = next(tensor for tensor in document.graph.initializer if tensor.name == "w2")
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight)[:, :3], "w2"))
    onnx.save(document, model)
    write_spec(model)
    refused(build(model), "m.onnx: tensorrt_rtx 1.", "node c2 (Conv): ")


def test_failing_builder(build, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "export.engines.build_steps.Progress.step", lambda *_: False
    )  # the library takes it for a cancellation
    refused(build(write_small_model(tmp_path / "m.onnx")), "the engine could not be built: ", "Build canceled by user")


@pytest.mark.parametrize("sides", [["N", 3, "H", "W"], ["N", "C", 32, 32]])
def test_dynamic_sides(build, tmp_path, sides):
    model = write_small_model(tmp_path / "m.onnx")
    document = onnx.load(model)
    document.graph.input[0].CopyFrom(helper.make_tensor_value_info("image", TensorProto.FLOAT, sides))
    onnx.save(document, model)
    write_spec(model)
    refused(build(model), "only the batch may be free")


def test_spec_missing(build, tmp_path):
    model = write_small_model(tmp_path / "m.onnx")
    ModelSpec.path_for(model).unlink()
    refused(build(model), "m.onnx.json: no model spec there")


def test_spec_of_another_file(build, tmp_path):
    refused(
        build(write_small_model(tmp_path / "m.onnx", onnx_sha256="ab" * 32)), "its SHA-256", "is not the abababababab"
    )


def test_spec_of_another_precision(build, tmp_path):
    model = write_small_model(tmp_path / "m.onnx")
    write_spec(model, precision="fp16")
    refused(build(model), "its spec says fp16, the network is fp32")


@pytest.mark.parametrize("content", [b"", b"no model\n" * 99, b"\x08\x07"])
def test_no_onnx_file(build, tmp_path, content):
    model = write_small_model(tmp_path / "m.onnx")
    model.write_bytes(content)
    refused(build(model), "m.onnx: ", "ONNX model")


def test_missing_model(build, tmp_path):
    refused(build(tmp_path / "gone.onnx"), "gone.onnx: no such file")


@pytest.mark.parametrize(
    ("location", "where"),
    [("../secret.bin", "outside its folder"), ("/etc/hostname", "outside its folder"), ("w.bin", "beside it")],
)
def test_external_data(build, tmp_path, location, where):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(4 * 3 * 9 * 4))
    model = write_small_model(folder / "m.onnx")
    document = onnx.load(model)
    tensor = document.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    model.write_bytes(document.SerializeToString())
    write_spec(model)
    refused(build(model), f"the weights w1 lie in '{location}', a file {where}")


def test_missing_library_names_the_extra(build, tmp_path, monkeypatch):
    model = write_small_model(tmp_path / "m.onnx")
    monkeypatch.delitem(sys.modules, "export.engines.rtx_builder", raising=False)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    refused(build(model), "tensorrt_rtx, which is not installed: pip install 'facemesh-edge[rtx]'")
    monkeypatch.delitem(sys.modules, "export.engines.tensorrt_builder", raising=False)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    refused(build(model, "--backend", "tensorrt"), "tensorrt, which is not installed: pip install 'facemesh-edge[trt]'")


@pytest.mark.parametrize("full", ["m.engine.part", "m.engine.json.part"])
def test_disk_full(build, tmp_path, full):
    """The earlier pair of files stays as it was."""
    model = write_small_model(tmp_path / "m.onnx")
    _, _, engine = build(model)
    before = {path.name: path.read_bytes() for path in engine.parent.iterdir()}
    engine.with_name(full).symlink_to("/dev/full")
    code, stderr, _ = build(model, "--batch", "1", "1", "2")
    assert code == 1
    assert (
        f"error: {engine.with_name(full.removesuffix('.part'))}: cannot be written ({os.strerror(errno.ENOSPC)})"
        in stderr
    )
    assert {path.name: path.read_bytes() for path in engine.parent.iterdir()} == before


def test_an_engine_never_gets_its_name_before_its_manifest(build, tmp_path, monkeypatch):
    replaced = []
    real_replace = os.replace
    monkeypatch.setattr(
        "os.replace", lambda source, target: (replaced.append(os.path.basename(target)), real_replace(source, target))
    )
    assert build(write_small_model(tmp_path / "m.onnx"))[0] == 0
    assert [name for name in replaced if name.startswith("m.engine")] == ["m.engine.json", "m.engine"]


@pytest.mark.parametrize("name", ["m.onnx", "m.json", "folder", "no/such/m.engine"])
def test_output_names(tmp_path, capsys, name):
    model = write_small_model(tmp_path / "m.onnx")
    (tmp_path / "folder").mkdir()
    before = model.read_bytes()
    assert main(["engine", str(model), "-o", str(tmp_path / name), "--backend", "tensorrt-rtx"]) == 1
    assert "error: " in capsys.readouterr().err
    assert model.read_bytes() == before


@pytest.mark.parametrize("precision", ["fp32", "fp16", pytest.param("int8", marks=pytest.mark.slow)])
def test_detector_ends_in_an_engine(build, tmp_path, capsys, precision):
    """A warning of the library would be a fault of the file."""
    model, words = tmp_path / "d.onnx", ["detector", "--size", "320x192", "--precision", precision]
    if precision == "int8":
        (tmp_path / "faces").mkdir()
        for name in "ab":
            (tmp_path / "faces" / f"{name}.jpg").write_bytes(SHIPPED_PICTURE.read_bytes())
        words += ["--crops", str(tmp_path / "faces"), "--max-loss", "5%"]
    assert main([*words, "-o", str(model)]) == 0
    capsys.readouterr()
    code, stderr, engine = build(model)
    assert (code, stderr) == (0, "")
    manifest = EngineManifest.load_for(engine)
    assert manifest.spec == DetectorSpec.load(DetectorSpec.path_for(model))
    assert (manifest.spec.precision, manifest.batch) == (precision, (1, 1, 1))
    refused_later = build(model, "--batch", "1", "1", "8")
    assert refused_later[0] == 1
    assert "its batch is fixed to 1" in refused_later[1]


@pytest.mark.slow
def test_prnet_ends_in_engines(build, prnet_files):
    """Both engines hold all 13.4 M weights in the type of their file.

    `tests.export.commands.test_prnet_road` asserts the losses of the steps before.
    """
    for precision, size in (("fp32", 4), ("fp16", 2)):
        code, stderr, engine = build(prnet_files[precision], "--batch", "1", "1", "4")
        assert (code, stderr) == (0, "")
        assert EngineManifest.load_for(engine).spec.precision == precision
        assert 1 < engine.stat().st_size / (size * 13_353_618) < 1.1


def test_manifest_is_plain_json(build, tmp_path):
    document = json.loads(EngineManifest.path_for(build(write_small_model(tmp_path / "m.onnx"))[2]).read_text())
    assert {*document} == {
        *(
            "spec",
            "engine_sha256",
            "library",
            "version",
            "batch",
            "compute_capabilities",
            "device",
            "dla_core",
            "created",
            "command",
            "platform",
            "multiprocessors",
        ),
    }
    assert document["created"].endswith("+00:00")


def test_engines_can_be_captured(monkeypatch, build, tmp_path):
    """The flag that stream capture needs reaches the real library (release notes of TensorRT-RTX 1.2)."""
    import tensorrt_rtx as trt

    asked, set_flag = [], trt.IBuilderConfig.set_flag
    monkeypatch.setattr(trt.IBuilderConfig, "set_flag", lambda self, flag: (asked.append(flag), set_flag(self, flag)))
    assert build(write_small_model(tmp_path / "m.onnx"))[0] == 0
    assert trt.BuilderFlag.REQUIRE_USER_ALLOCATION in asked
