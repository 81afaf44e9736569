"""What `export.engines.tensorrt_builder` asks of TensorRT 8.6, 10 and 11, held against a stand-in that has exactly
their attributes."""

from __future__ import annotations

import errno
import os
import platform
import signal
import sys
import time

import pytest

pytest.importorskip("onnx")

from export.__main__ import main
from export.engines.build_steps import Progress
from runtime.cuda.driver import Device
from runtime.models.detector_spec import DetectorSpec
from runtime.models.manifest import EngineManifest
from tests.export.small_models import write_small_model, write_spec
from tests.standins import fake_tensorrt
from tests.standins.small_detector import write_small_detector

VERSIONS = {
    "tensorrt-8.6": "8.6.1",
    "tensorrt-10.3": "10.3.0",
    "tensorrt-10.16": "10.16.1.11",
    "tensorrt-11.4": "11.4.0.106",
}
ORIN = Device("Orin", "8.7")


@pytest.fixture
def install(monkeypatch):
    """``install(label, device=ORIN)``: the stand-in of a version becomes ``tensorrt``, on a machine with that
    device."""

    def install(label, device=ORIN, version=None):
        trt = fake_tensorrt.make(label, version or VERSIONS[label])
        monkeypatch.setitem(sys.modules, "tensorrt", trt)
        monkeypatch.delitem(sys.modules, "export.engines.tensorrt_builder", raising=False)
        monkeypatch.setattr("runtime.cuda.driver.find_device", lambda: device)
        return trt

    yield install
    sys.modules.pop("export.engines.tensorrt_builder", None)  # the one that holds the stand-in


@pytest.fixture
def build(tmp_path, capsys):
    """``build(*options, **variant of the model)`` -> exit code, stderr, path of the engine."""

    def build(*options, **variant):
        model = write_small_model(tmp_path / "m.onnx", **variant)
        code = main(["engine", str(model), "-o", str(tmp_path / "m.engine"), *options])
        return code, capsys.readouterr().err, tmp_path / "m.engine"

    return build


def left_behind(engine):
    return sorted(path.name for path in engine.parent.iterdir() if not path.name.startswith("m.onnx"))


@pytest.mark.parametrize("label", VERSIONS)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_engine_and_manifest(install, build, label, precision):
    trt = install(label)
    code, stderr, path = build("--batch", "1", "2", "4", precision=precision)
    assert (code, stderr) == (0, "warning: TensorRT: a layer falls back to the GPU\n")
    assert path.read_bytes() == fake_tensorrt.PLAN
    assert left_behind(path) == ["m.engine", "m.engine.json"]
    manifest = EngineManifest.load_for(path)
    assert (manifest.library, manifest.version, manifest.device, manifest.compute_capabilities) == (
        "tensorrt",
        VERSIONS[label],
        "Orin",
        ("8.7",),
    )
    assert (manifest.batch, manifest.spec.precision, manifest.dla_core) == ((1, 2, 4), precision, None)
    assert trt.asked("IOptimizationProfile.set_shape") == [("image", *((n, 3, 32, 32) for n in (1, 2, 4)))]
    assert "TF32" in trt.asked("clear_flag")


@pytest.mark.parametrize("label", VERSIONS)
@pytest.mark.parametrize("half", [False, True])
def test_engine_of_a_detector(install, tmp_path, capsys, label, half):
    """Its batch is fixed, and other batches are refused."""
    trt = install(label)
    model = write_small_detector(tmp_path / "d.onnx")
    if half:
        assert main(["detector", "--size", "64x32", "--precision", "fp16", "-o", str(model)]) == 0
    command = ["engine", str(model), "-o", str(tmp_path / "d.engine")]
    assert main([*command, "--opt-level", "5", "--version-compatible"]) == 0
    manifest = EngineManifest.load_for(tmp_path / "d.engine")
    assert manifest.spec == DetectorSpec.load(DetectorSpec.path_for(model))
    assert (manifest.batch, manifest.version) == ((1, 1, 1), f"{VERSIONS[label]}+")
    assert trt.asked("IOptimizationProfile.set_shape") == []
    capsys.readouterr()
    assert main([*command, "--batch", "1", "2", "4"]) == 1
    assert "its batch is fixed to 1" in capsys.readouterr().err


@pytest.mark.parametrize("label", VERSIONS)
def test_networks_are_strongly_typed_from_10_on(install, build, label):
    trt = install(label)
    assert build(precision="fp16")[0] == 0
    (flags,) = trt.asked("create_network")
    wanted = {
        "tensorrt-8.6": "EXPLICIT_BATCH",
        "tensorrt-10.3": "STRONGLY_TYPED",
        "tensorrt-10.16": "STRONGLY_TYPED",
    }.get(label)
    assert flags == (1 << trt.NetworkDefinitionCreationFlag[wanted] if wanted else 0)
    if label != "tensorrt-8.6":
        assert trt.asked("set_flag") == trt.asked("ILayer.precision") == []


def test_layers_of_8_6_are_held_to_the_types_of_the_file(install, build):
    trt = install("tensorrt-8.6")
    assert build(precision="fp16")[0] == 0
    assert trt.asked("set_flag") == ["FP16", "OBEY_PRECISION_CONSTRAINTS"]
    assert trt.asked("ILayer.set_output_type") == [
        ("a", "HALF"),
        ("b", "HALF"),
        ("c", "HALF"),
        ("position_map", "FLOAT"),
    ]
    assert [kind.name for kind in trt.asked("ILayer.precision")] == ["HALF", "HALF", "HALF", "FLOAT"]


@pytest.mark.parametrize("label", VERSIONS)
def test_contexts_of_an_engine_may_share_its_profile(install, build, label):
    """8.6 has to be asked for that."""
    trt = install(label)
    assert build()[0] == 0
    assert trt.asked("set_preview_feature") == ([("PROFILE_SHARING_0806", True)] if label == "tensorrt-8.6" else [])


@pytest.mark.parametrize("label", VERSIONS)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_manifest_tells_of_the_confidence(install, build, label, precision):
    install(label)
    code, _, path = build(precision=precision, confidence=True)
    assert code == 0
    assert EngineManifest.load_for(path).spec.outputs == {"position_map": (3, 16, 16), "confidence": (1,)}


def test_output_that_the_spec_does_not_tell_of(install, tmp_path, capsys):
    """An engine of it would be built for minutes, and refused when it is opened."""
    trt = install("tensorrt-10.3")
    model = write_small_model(tmp_path / "m.onnx", confidence=True)
    write_spec(model)
    assert main(["engine", str(model), "-o", str(tmp_path / "m.engine")]) == 1
    error = capsys.readouterr().err
    assert "m.onnx: its spec does not tell of the output confidence, and the runtime takes no such engine" in error
    assert error.count("\n") == 1
    assert not trt.calls
    assert left_behind(tmp_path / "m.engine") == []


def test_8_6_without_half_precision(install, build):
    trt = install("tensorrt-8.6")
    assert build()[0] == 0
    assert trt.asked("set_flag") == ["OBEY_PRECISION_CONSTRAINTS"]
    assert {kind.name for kind in trt.asked("ILayer.precision")} == {"FLOAT"}


def test_quantised_layers_of_8_6_are_left_to_their_q_and_dq_nodes(install, build):
    trt = install("tensorrt-8.6")
    assert build(precision="int8")[0] == 0
    assert trt.asked("set_flag") == ["INT8", "OBEY_PRECISION_CONSTRAINTS"]
    assert [name for name, _ in trt.asked("ILayer.set_output_type")] == ["a", "b", "position_map"]


@pytest.mark.parametrize("label", VERSIONS)
def test_options_reach_the_library_and_the_manifest(install, build, tmp_path, label):
    trt = install(label)
    cache = tmp_path / "m.onnx.cache"
    options = [
        "--timing-cache",
        str(cache),
        "--workspace",
        "64",
        "--opt-level",
        "5",
        "--dla-core",
        "1",
        "--hardware-compat",
        "--version-compatible",
    ]
    code, _, path = build("--batch", "1", "1", "1", *options, precision="fp16")
    assert code == 0
    assert ("WORKSPACE", 64 << 20) in trt.asked("set_memory_pool_limit")
    assert trt.asked("IBuilderConfig.builder_optimization_level") == [5]
    assert trt.asked("IBuilderConfig.hardware_compatibility_level") == [trt.HardwareCompatibilityLevel.AMPERE_PLUS]
    assert (trt.asked("IBuilderConfig.default_device_type"), trt.asked("IBuilderConfig.DLA_core")) == (
        [trt.DeviceType.DLA],
        [1],
    )
    assert {"VERSION_COMPATIBLE", "GPU_FALLBACK"} <= set(trt.asked("set_flag"))
    assert cache.read_bytes() == b"measured"
    manifest = EngineManifest.load_for(path)
    assert (manifest.version, manifest.compute_capabilities, manifest.dla_core) == (VERSIONS[label] + "+", ("8.0+",), 1)
    assert all(option in manifest.command for option in options)
    assert manifest.multiprocessors is None  # engines for all of Ampere and newer
    assert build("--batch", "1", "1", "1", *options, precision="fp16")[0] == 0  # with the cache of the first time
    assert cache.read_bytes() == b"measuredmeasured"


@pytest.mark.parametrize("batch", [2, 4])
def test_a_fixed_batch_has_no_profile(install, build, batch):
    trt = install("tensorrt-10.3")
    code, _, path = build(batch=batch)
    assert code == 0
    assert EngineManifest.load_for(path).batch == (batch,) * 3
    assert trt.asked("IOptimizationProfile.set_shape") == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dla-core", "2"], "--dla-core 2: this device has 2 DLA cores for TensorRT 10.3.0"),
        (["--dla-core", "0"], "the DLA takes one batch size alone, give --batch 1 1 1"),
        (["--timing-cache", "."], ".: the timing cache cannot be read (Is a directory)"),
    ],
)
def test_options_that_cannot_be(install, build, options, message):
    install("tensorrt-10.3")
    code, stderr, path = build(*options, precision="fp16")
    assert (code, left_behind(path)) == (1, [])
    assert message in stderr


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_models_of_which_nothing_runs_on_the_dla(install, build, precision):
    install("tensorrt-10.3")
    code, stderr, path = build("--dla-core", "0", "--batch", "1", "1", "1", precision=precision)
    assert (code, left_behind(path)) == (1, [])
    assert f"of a model in {precision} nothing runs there; export it with --precision fp16" in stderr


def test_the_manifest_tells_platform_and_size_of_the_device(install, build):
    install("tensorrt-10.3", Device("Orin", "8.7", integrated=True, multiprocessors=8))
    manifest = EngineManifest.load_for(build()[2])
    assert (manifest.platform, manifest.multiprocessors) == (f"{sys.platform}-{platform.machine()}-tegra", 8)


@pytest.mark.parametrize(
    ("cache", "message"),
    [
        ("out/m.engine", "m.engine: --timing-cache and -o would write the same file"),
        ("out/../out/m.engine.json", "m.engine.json: --timing-cache and -o would write the same file"),
        ("gone/timing.cache", "gone: no such folder; make it first or choose another place with --timing-cache"),
        ("/proc/timing.cache", "/proc"),
    ],
)
def test_timing_cache_that_could_not_be_written_stops_before_the_build(install, tmp_path, capsys, cache, message):
    trt = install("tensorrt-10.3")
    engine = tmp_path / "out" / "m.engine"
    engine.parent.mkdir()
    model = write_small_model(tmp_path / "m.onnx")
    assert main(["engine", str(model), "-o", str(engine), "--timing-cache", str(tmp_path / cache)]) == 1
    assert message in capsys.readouterr().err
    assert (left_behind(engine), trt.calls) == ([], [])


def test_folder_that_takes_no_engine_stops_before_the_build(install, tmp_path, capsys):
    trt = install("tensorrt-10.3")
    assert main(["engine", str(write_small_model(tmp_path / "m.onnx")), "-o", "/proc/m.engine"]) == 1
    assert "error: /proc" in capsys.readouterr().err
    assert trt.calls == []


def test_full_disk_that_shows_at_the_last_moment(install, build):
    """A plan smaller than the buffer of its file does not fail before it is flushed; the earlier pair of files stays
    as it was."""
    install("tensorrt-10.3")
    _, _, engine = build()
    before = {path.name: path.read_bytes() for path in engine.parent.iterdir()}
    engine.with_name("m.engine.part").symlink_to("/dev/full")
    code, stderr, _ = build("--batch", "1", "1", "2")
    assert code == 1
    assert f"error: {engine}: cannot be written ({os.strerror(errno.ENOSPC)})" in stderr
    assert {path.name: path.read_bytes() for path in engine.parent.iterdir()} == before


def test_timing_cache_of_another_version(install, build, tmp_path):
    install("tensorrt-10.3")
    cache = tmp_path / "m.onnx.cache"
    cache.write_bytes(b"of another world")
    code, stderr, path = build("--timing-cache", str(cache))
    assert (code, left_behind(path)) == (1, [])
    assert "no timing cache of TensorRT 10.3.0 on this device, remove it" in stderr
    assert cache.read_bytes() == b"of another world"


@pytest.mark.parametrize("label", VERSIONS)
def test_unsupported_operator_is_named(install, build, label):
    install(label)
    code, stderr, path = build(activation=fake_tensorrt.UNSUPPORTED_OPERATOR)
    assert (code, left_behind(path)) == (1, [])
    assert stderr.count("\n") == 1
    assert (
        f"tensorrt {VERSIONS[label]} cannot take this network: "
        "node act (Det): no importer for this operator [ModelImporter.cpp:7 parseNode]" in stderr
    )


@pytest.mark.parametrize("label", VERSIONS)
def test_failing_build_tells_what_the_library_said(install, build, label):
    install(label).failing = "build"
    code, stderr, path = build()
    assert (code, left_behind(path)) == (1, [])
    assert stderr.count("\n") == 1
    assert "m.onnx: the engine could not be built: Could not find any implementation for node c2" in stderr


def test_library_that_does_not_start(install, build):
    install("tensorrt-10.3").failing = "start"
    code, stderr, _ = build()
    assert code == 1
    assert "tensorrt 10.3.0 does not start here" in stderr
    assert "CUDA initialization failure with error: 35" in stderr


def test_machine_without_a_device(install, build):
    install("tensorrt-10.3", device=None)
    code, stderr, path = build()
    assert (code, left_behind(path)) == (1, [])
    assert "no CUDA device is found here" in stderr


def test_version_too_old(install, build):
    install("tensorrt-8.6", version="8.5.2")
    code, stderr, _ = build()
    assert code == 1
    assert "TensorRT 8.5.2 is too old" in stderr


@pytest.mark.parametrize("label", ["tensorrt-10.3", "tensorrt-11.4"])
def test_ctrl_c_stops_the_build_through_the_monitor(install, build, monkeypatch, interruptible, label):
    install(label)
    steps = []
    step = Progress.step

    def interrupted_step(progress, phase, number):
        steps.append(number)
        time.sleep(0.2)  # until the main thread waits for the result
        os.kill(os.getpid(), signal.SIGINT)
        deadline = time.monotonic() + 10
        while not progress.cancelled and time.monotonic() < deadline:
            time.sleep(0.01)
        return step(progress, phase, number)

    monkeypatch.setattr(Progress, "step", interrupted_step)
    code, stderr, path = build()
    assert (code, left_behind(path), steps) == (130, [], [0])
    assert stderr.splitlines()[-1].startswith("stopped")
