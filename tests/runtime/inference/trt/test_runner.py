"""Engines, opened and run: what is refused before it is touched, every version of the library, and what goes wrong.

All with stand-ins.
"""

from __future__ import annotations

import gc
import json

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="needs ONNX Runtime, which the stand-in runs engines with")

from runtime.cuda.driver import Device
from runtime.errors import FaceMeshError
from runtime.families.table import open_family
from runtime.inference.cpu_mesher import CpuMesher
from runtime.inference.open_runner import open_runner
from runtime.inference.trt.engine import Engine
from runtime.inference.trt.engine_file import EngineFile, read_engine
from runtime.inference.trt.messages import Messages, logger_for
from runtime.models.manifest import EngineManifest
from runtime.models.spec import ModelSpec
from tests.standins.fake_engine import VERSIONS, make_plan, write_engine
from tests.standins.small_detector import write_small_detector

TENSORRT = [label for label in VERSIONS if label.startswith("tensorrt")]
LEAN = [label for label in VERSIONS if label.startswith("lean")]
RTX = "rtx-1.7"


def changes_for(label):
    """Of the manifest, so that the engine fits the library of ``label``."""
    return {
        "library": "tensorrt-rtx" if label == RTX else "tensorrt",
        "version": VERSIONS[label] + "+" * label.startswith("lean"),
    }


def engine_for(label, path, model, **words):
    words = {"rtx": label == RTX, "version_compatible": label.startswith("lean"), "shares_profile": True, **words}
    return write_engine(path, model, changes_for(label), **words)


def assert_released(machine):
    gc.collect()
    assert not machine.cuda.live
    assert not machine.library.late


@pytest.mark.parametrize("label", VERSIONS)
@pytest.mark.parametrize(
    ("input_type", "output_type"), [("FLOAT", "FLOAT"), ("HALF", "FLOAT"), ("FLOAT", "HALF"), ("HALF", "HALF")]
)
def test_every_library_computes_what_the_model_does(gpu_machine, live_model, tmp_path, label, input_type, output_type):
    machine = gpu_machine(label)
    path = engine_for(label, tmp_path / "m.engine", live_model, input_type=input_type, output_type=output_type)
    crops = np.random.default_rng(0).uniform(-1, 1, (3, 3, 128, 128)).astype(np.float32)
    with open_runner(live_model) as onnx, open_runner(path) as runner:
        assert (runner.max_batch, runner.input.shape, runner.input.dtype, runner.spec) == (
            8,
            (8, 3, 128, 128),
            np.float32,
            onnx.spec,
        )
        onnx.input[:3] = runner.input[:3] = crops
        expected = onnx.infer(3)
        for _ in range(2):
            np.testing.assert_allclose(
                runner.infer(3), expected, atol=0 if output_type == input_type == "FLOAT" else 1e-3
            )
        np.testing.assert_array_equal(runner.infer(1), runner.infer(3)[:1])
    assert_released(machine)


@pytest.mark.parametrize("kind", ["FLOAT", "HALF"])
@pytest.mark.parametrize("memory", ["copy", "mapped"])
def test_confidences_come_with_the_maps(gpu_machine, sure_model, tmp_path, kind, memory):
    """In the same download, after the same wait, whatever the type of either output."""
    machine = gpu_machine()
    other = "HALF" if kind == "FLOAT" else "FLOAT"
    path = write_engine(tmp_path / "m.engine", sure_model, output_type=other, confidence_type=kind)
    with open_runner(path, memory=memory) as runner:
        runner.input[:5] = np.linspace(-1, 1, 5)[:, None, None, None]
        runner.infer(1)
        machine.cuda.log.clear()
        maps = runner.infer(5)
        assert maps.shape == (5, 3, 64, 64)
        np.testing.assert_allclose(runner.confidence[:5], np.linspace(0, 1, 5), atol=2e-3)
        assert runner.confidence.dtype == np.float32
        machine.cuda.log.clear()
        runner.infer(5)
    assert len(machine.cuda.calls("download")) == (memory == "copy")
    assert len(machine.cuda.calls("record")) == 1


@pytest.mark.parametrize(
    ("batch", "max_batch", "taken", "sizes"),
    [
        ((1, 1, 8), 8, 8, {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 7: 8, 8: 8}),
        ((1, 1, 8), 6, 6, {1: 1, 3: 3, 5: 6, 6: 6}),
        ((1, 1, 24), 24, 24, {9: 12, 13: 16, 17: 24}),
        ((1, 1, 3), 8, 3, {1: 1, 2: 2, 3: 3}),
        ((2, 4, 8), 1, 2, {1: 2, 2: 2}),
        ((4, 4, 4), 8, 4, {1: 4, 4: 4}),
    ],
)
def test_batches_are_padded_to_few_sizes_within_what_the_engine_takes(
    gpu_machine, live_model, tmp_path, batch, max_batch, taken, sizes
):
    machine = gpu_machine()
    with open_runner(write_engine(tmp_path / "m.engine", live_model, batch=batch), max_batch) as runner:
        assert runner.max_batch == taken
        for n, size in sizes.items():
            assert len(runner.infer(n)) == n
            assert machine.library.contexts[-1][0] == size
        with pytest.raises(ValueError, match=rf"n must be 1\.\.{taken}"):
            runner.infer(taken + 1)


def test_input_and_output_are_the_same_page_locked_memory_every_time(gpu_machine, engine):
    machine = gpu_machine()
    with open_runner(engine) as runner:
        address, first = runner.input.ctypes.data, runner.infer(1)
        allocated = len(machine.cuda.live)
        assert np.shares_memory(first, runner.infer(2))
        runner.infer(1)
        assert runner.input.ctypes.data == address
        assert address in [
            buffer.pointer for buffer in machine.cuda.live if getattr(buffer, "kind", "") == "host_buffer"
        ]
        assert len(machine.cuda.live) == allocated


@pytest.mark.parametrize("sync", ["spin", "block"])
def test_how_to_wait(gpu_machine, engine, sync):
    machine = gpu_machine()
    with open_runner(engine, sync=sync) as runner:
        runner.infer(1)
    assert [details["blocking"] for _, details in machine.cuda.calls("event")] == [sync == "block"]


@pytest.mark.parametrize("memory", ["copy", "mapped", None])
def test_memory_of_the_users_choice(gpu_machine, engine, memory):
    machine = gpu_machine(integrated=True)
    with open_runner(engine, memory=memory) as runner:
        runner.infer(1)
    assert bool(machine.cuda.calls("upload", "download")) == (memory == "copy")


def test_unknown_ways_to_wait(gpu_machine, engine):
    gpu_machine()
    with pytest.raises(ValueError, match="sync must be one of"):
        open_runner(engine, sync="sleep")


def test_without_kernels_crop_and_decode_run_on_the_cpu(gpu_machine, engine, topology):
    gpu_machine(kernels=False)
    with open_runner(engine) as runner:
        with pytest.warns(RuntimeWarning, match="no kernels for this device.*: crop and decode run on the CPU"):
            mesher = runner.mesher(open_family(runner.spec, topology))
        assert isinstance(mesher, CpuMesher)


# What the manifest forbids


def test_engine_that_is_refused_is_not_touched(gpu_machine, engine, tmp_path):
    """Neither the device nor the library sees it."""
    machine = gpu_machine()
    manifest = EngineManifest.path_for(engine)
    fitting, plan = json.loads(manifest.read_text()), engine.read_bytes()
    cases = {
        "compute capability 8.7; this is tensorrt 10.3.0": ({"version": "10.4.0"}, plan),
        r"capability 8\.9; this is Orin of compute capability 8\.7; build it here with 'python -m export engine live": (
            {"compute_capabilities": ["8.9"]},
            plan,
        ),
        "for tensorrt-rtx 10.3.0, .*tensorrt-rtx is not installed here; pip install 'facemesh-edge.rtx": (
            {"library": "tensorrt-rtx"},
            plan,
        ),
        r"live\.engine: its SHA-256 .* is not the .*--trust-engine": ({}, plan[:-1]),
        r"its SHA-256 .* build it again with .*--trust-engine \(trust_engine=True\) alone": ({}, plan + b"x"),
        "field family must be one of position_map, coefficients, is 'hologram'": (
            {"spec": {**fitting["spec"], "family": "hologram"}},
            plan,
        ),
        "field batch must be three numbers": ({"batch": [3, 2, 1]}, plan),
    }
    for message, (changes, content) in cases.items():
        manifest.write_text(json.dumps({**fitting, **changes}))
        engine.write_bytes(content)
        with pytest.raises(FaceMeshError, match=message) as caught:
            open_runner(engine)
        assert "\n" not in str(caught.value)
    manifest.unlink()
    with pytest.raises(
        FaceMeshError,
        match=r"live\.engine\.json: no engine manifest there.*loading an engine runs code.*--trust-engine",
    ):
        open_runner(engine)
    assert machine.cuda.log == machine.library.calls == []


def test_machine_without_a_device(gpu_machine, engine):
    gpu_machine(device=None)
    with pytest.raises(FaceMeshError) as caught:
        open_runner(engine)
    assert (
        str(caught.value)
        == f"{engine}: built on Orin for tensorrt 10.3.0, compute capability 8.7; no CUDA device is found here"
    )


@pytest.mark.parametrize("suffix", [".engine", ".plan", ".trt", ".ENGINE"])
def test_suffixes(gpu_machine, engine, suffix):
    gpu_machine()
    path = engine.rename(engine.with_suffix(suffix))
    EngineManifest.path_for(engine).rename(EngineManifest.path_for(path))
    with open_runner(path) as runner:
        assert runner.max_batch == 8


@pytest.mark.parametrize("label", ["tensorrt-10.3", *LEAN])
def test_version_compatible_engines_may_bring_host_code_and_no_others(gpu_machine, live_model, tmp_path, label):
    machine = gpu_machine(label)
    compatible = write_engine(tmp_path / "c.engine", live_model, {"version": "10.3.0+"}, version_compatible=True)
    open_runner(compatible).close()
    assert machine.library.asked("Runtime.engine_host_code_allowed") == [True]
    machine = gpu_machine(label)
    plain = write_engine(tmp_path / "p.engine", live_model, {"version": VERSIONS[label]})
    if label in LEAN:
        with pytest.raises(FaceMeshError, match="tensorrt is not installed here; pip install"):
            open_runner(plain)
    else:
        open_runner(plain).close()
    assert machine.library.asked("Runtime.engine_host_code_allowed") == []


def test_dla_core_of_the_manifest(gpu_machine, live_model, tmp_path):
    machine = gpu_machine()
    open_runner(write_engine(tmp_path / "m.engine", live_model, {"dla_core": 1})).close()
    assert machine.library.asked("Runtime.DLA_core") == [1]


# Trusted engines


def test_trusted_engine_with_the_spec_of_its_onnx_file(gpu_machine, live_model, tmp_path):
    gpu_machine()
    path = tmp_path / "live.engine"
    path.write_bytes(make_plan(live_model.read_bytes(), version_compatible=True))
    with pytest.raises(
        FaceMeshError, match=r"nothing says what this engine takes; put the spec .* beside it, as live\.onnx\.json"
    ):
        open_runner(path, trust_engine=True)
    spec = ModelSpec.load(ModelSpec.path_for(live_model))
    spec.save(tmp_path / "live.onnx.json")
    with open_runner(path, trust_engine=True) as runner:
        assert runner.spec == spec
        assert runner.infer(1).shape == (1, 3, 64, 64)


def test_trusted_engine_beside_the_manifest_of_an_earlier_build(gpu_machine, engine, live_model):
    gpu_machine()
    spec = EngineManifest.load_for(engine).spec
    engine.write_bytes(make_plan(live_model.read_bytes(), (1, 2)))
    with open_runner(engine, trust_engine=True) as runner:
        assert (runner.spec, runner.max_batch) == (spec, 2)


def test_engine_of_a_detector_makes_no_meshes(gpu_machine, tmp_path):
    """It opens as an engine, with its tensors by their names; a mesh runner refuses it before it is loaded."""
    machine = gpu_machine()
    model = write_small_detector(tmp_path / "d.onnx", width=96, height=64)
    path = write_engine(tmp_path / "d.engine", model, batch=(1, 1, 1), input_type="HALF", confidence_type="HALF")
    with Engine(read_engine(path)) as engine:
        assert (engine.input_shape, engine.input_dtype, engine.batches) == ((3, 64, 96), np.float16, (1, 1))
        assert engine.output_dtypes == {"stride_8": np.float32, "stride_16": np.float16, "stride_32": np.float16}
        assert engine.input_nbytes == 3 * 64 * 96 * 2
    with pytest.raises(FaceMeshError, match=r"d\.engine: a detector, which makes no meshes; give it to --detector"):
        open_runner(path)
    with pytest.raises(FaceMeshError, match=r"d\.engine: a detector has no face model; leave f\.npz out"):
        open_runner(path, face_model="f.npz")
    path.with_name("d.engine.json").unlink()  # the spec of the ONNX file says what it is
    with pytest.raises(FaceMeshError, match=r"d\.engine: a detector, which makes no meshes"):
        open_runner(path, trust_engine=True)
    assert_released(machine)


def test_trust_does_not_change_what_a_fitting_manifest_says(gpu_machine, engine):
    gpu_machine(device=Device("NVIDIA H200", "9.0"))
    with pytest.raises(FaceMeshError, match="this is NVIDIA H200 of compute capability 9"):
        open_runner(engine, trust_engine=True)


def test_trusted_engine_without_a_library(gpu_machine, engine, monkeypatch):
    gpu_machine()
    engine.write_bytes(b"of another build")
    monkeypatch.setattr("runtime.inference.trt.engine_file.installed", lambda library: [])
    with pytest.raises(FaceMeshError, match="neither TensorRT nor TensorRT-RTX is installed here"):
        open_runner(engine, trust_engine=True)


# As after `pip install tensorrt-cu13-bindings` alone, or an installation that was broken off.
@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("raise ImportError('libnvinfer.so.11: cannot open')", r"libnvinfer\.so\.11: cannot open"),
        ("import tensorrt_bindings_of_no_machine", "No module named 'tensorrt_bindings_of_no_machine'"),
    ],
)
def test_a_library_that_is_installed_and_does_not_load(gpu_machine, engine, broken_module, source, cause):
    gpu_machine()
    broken_module("tensorrt", source)
    verdict = rf"tensorrt is installed here but does not load \({cause}\); install it again, or its missing part"
    with pytest.raises(FaceMeshError, match=rf"compute capability 8\.7; {verdict}$"):
        open_runner(engine)
    engine.write_bytes(b"of another build")
    with pytest.raises(FaceMeshError, match=rf"live\.engine: {verdict}$"):
        open_runner(engine, trust_engine=True)


@pytest.mark.parametrize("content", [b"", b"junk" * 100, None])
def test_trusted_engine_that_is_damaged(gpu_machine, engine, content):
    machine = gpu_machine()
    engine.write_bytes(engine.read_bytes()[:-1] if content is None else content)
    with pytest.raises(
        FaceMeshError,
        match=r"live\.engine: tensorrt 10\.3\.0 cannot load this engine, build it .*Plan file is truncated or damaged",
    ):
        open_runner(engine, trust_engine=True)
    assert_released(machine)


# Engines of other networks


@pytest.mark.parametrize(
    ("part", "field", "value", "message"),
    [
        (
            "input",
            "name",
            "photo",
            r"its spec wants photo \[-1, 3, 128, 128\], position_map .* the engine has image FLOAT \[-1, 3, 128, 128\]",
        ),
        ("input", "size", 160, r"wants image \[-1, 3, 160, 160\]"),
        ("input", "layout", "NHWC", r"wants image \[-1, 128, 128, 3\]"),
        ("output", "name", "map", "wants image .*, map "),
        ("output", "size", 128, r"position_map \[-1, 3, 128, 128\]"),
    ],
)
def test_engine_that_does_not_fit_its_spec(gpu_machine, engine, part, field, value, message):
    machine = gpu_machine()
    path = EngineManifest.path_for(engine)
    document = json.loads(path.read_text())
    document["spec"][part][field] = value
    path.write_text(json.dumps(document))
    with pytest.raises(FaceMeshError, match=f"{message}.*build it again"):
        open_runner(engine)
    assert_released(machine)


@pytest.mark.parametrize("words", [{"outputs": 1}, {"vectorised": True}, {"output_type": "INT32"}])
def test_tensors_that_the_runtime_cannot_feed(gpu_machine, live_model, tmp_path, words):
    machine = gpu_machine()
    with pytest.raises(FaceMeshError, match="FLOAT or HALF in plain order, the engine has image FLOAT"):
        open_runner(write_engine(tmp_path / "m.engine", live_model, **words))
    assert_released(machine)


def test_contexts_of_8_6_share_a_profile_where_the_engine_was_built_so(gpu_machine, live_model, tmp_path, topology):
    machine = gpu_machine("tensorrt-8.6")
    with open_runner(engine_for("tensorrt-8.6", tmp_path / "s.engine", live_model)) as runner:
        runner.mesher(open_family(runner.spec, topology))
    machine = gpu_machine("tensorrt-8.6")
    with (
        open_runner(engine_for("tensorrt-8.6", tmp_path / "a.engine", live_model, shares_profile=False)) as runner,
        pytest.raises(
            FaceMeshError, match=r"refuses to run 2 faces: Profile 0 has been chosen by another IExecutionContext\."
        ),
    ):
        runner.mesher(open_family(runner.spec, topology))
    assert_released(machine)


# TensorRT-RTX


def test_what_rtx_compiles_is_kept_beside_the_engine(gpu_machine, live_model, tmp_path):
    path = engine_for(RTX, tmp_path / "m.engine", live_model)
    cache = tmp_path / "m.engine.cache"
    for content, restored in ((None, []), (None, [{(1, 3, 128, 128)}]), (b"of another driver", [])):
        if content is not None:
            cache.write_bytes(content)
        machine = gpu_machine(RTX)
        with open_runner(path) as runner:
            runner.infer(1)
        assert machine.library.asked("IRuntimeCache.deserialize") == restored
        assert cache.read_bytes() == b"compiled[[1, 3, 128, 128]]"
    strategy = machine.library.DynamicShapesKernelSpecializationStrategy.EAGER
    assert machine.library.asked("IRuntimeConfig.dynamic_shapes_kernel_specialization_strategy") == [strategy]
    # The library's own capture would lie within ours, which CUDA refuses.
    strategy = machine.library.CudaGraphStrategy.DISABLED
    assert machine.library.asked("IRuntimeConfig.cuda_graph_strategy") == [strategy]


def test_rtx_cache_that_cannot_be_written_is_done_without(gpu_machine, live_model, tmp_path):
    gpu_machine(RTX)
    path = engine_for(RTX, tmp_path / "m.engine", live_model)
    (tmp_path / "m.engine.cache").mkdir()
    with open_runner(path) as runner:
        assert len(runner.infer(1)) == 1


# Faults


@pytest.mark.parametrize("label", VERSIONS)
@pytest.mark.parametrize(
    ("failing", "message"),
    [
        ("start", "does not start here .*CUDA initialization failure with error: 35"),
        ("load", r"build it again here with 'python -m export engine [^']*': Error Code 1: .* assertion magicTagRead"),
        ("memory", "cannot load this engine, build it again .*: cudaMalloc failed with CUDA_ERROR_OUT_OF_MEMORY"),
        ("shape", r"refuses to run 1 faces: Set dimensions \[1, 3, 128, 128\]"),
        ("run", "execute_async_v3 failed: .*m.engine: Cuda Runtime"),
    ],
)
def test_what_the_library_fails_at(gpu_machine, live_model, tmp_path, label, failing, message):
    machine = gpu_machine(label)
    path = engine_for(label, tmp_path / "m.engine", live_model)
    machine.library.failing = failing
    with pytest.raises(FaceMeshError, match=message) as caught, open_runner(path) as runner:
        runner.infer(1)
    assert "\n" not in str(caught.value)
    assert_released(machine)


@pytest.mark.parametrize("call", ["device_buffer", "host_buffer", "stream", "event"])
def test_out_of_memory_at_any_allocation(gpu_machine, engine, topology, call):
    def open_all():
        with open_runner(engine) as runner:
            runner.mesher(open_family(runner.spec, topology))
            runner.infer(1)

    machine = gpu_machine(integrated=False)
    open_all()
    count = len(machine.cuda.calls(call))
    assert count >= 2
    for nth in range(1, count + 1):
        machine = gpu_machine(integrated=False)
        machine.cuda.fail(call, nth)
        with pytest.raises(FaceMeshError, match="CUDA_ERROR_OUT_OF_MEMORY") as caught:
            open_all()
        assert "\n" not in str(caught.value)
        assert_released(machine)


def test_warnings_of_the_library_are_passed_on(gpu_machine, engine):
    gpu_machine().library.failing = "warn"
    with pytest.warns(
        RuntimeWarning,
        match=r"live\.engine: Using an engine plan file across different models of devices is not recommended",
    ):
        open_runner(engine).close()


def test_the_real_library_says_why_it_cannot_load_a_file(make_spec, tmp_path):
    """TensorRT-RTX starts without a GPU, so that its logger and its answer can be had anywhere."""
    library = pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
    with pytest.raises(
        FaceMeshError, match=r"m\.engine: tensorrt_rtx \S+ cannot load this .*': (?!the library gives no reason)"
    ):
        Engine(EngineFile(tmp_path / "m.engine", b"junk" * 100, make_spec(), library, host_code=False))


def test_the_real_library_speaks_to_every_engine_that_is_open(make_spec, tmp_path):
    """It takes the first logger that it is given, and warns of every other one."""
    library = pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
    first, second = Messages(), Messages()
    runtimes = [library.Runtime(logger_for(library, messages)) for messages in (first, second)]
    assert first.warnings() == second.warnings() == []
    del runtimes[0], first
    gc.collect()
    assert runtimes[0].deserialize_cuda_engine(b"junk" * 100) is None
    assert "Serialization" in second.reasons()


# The end


def test_a_runner_that_nobody_closes_goes_before_its_device(gpu_machine, engine, topology, monkeypatch):
    """At the exit of Python, of which the device's own close, registered when it was opened, is a later part."""
    at_exit = []
    monkeypatch.setattr("runtime.inference.trt.runner.atexit.register", at_exit.append)
    machine = gpu_machine()
    runner = open_runner(engine)
    runner.mesher(open_family(runner.spec, topology))
    runner.infer(1)
    assert at_exit == [runner.close]
    at_exit.pop()()
    assert_released(machine)


def test_a_closed_runner_is_not_run_again(gpu_machine, engine, topology):
    """What was mapped is no memory any more."""
    machine = gpu_machine()
    with open_runner(engine) as runner:
        mesher, image = runner.mesher(open_family(runner.spec, topology)), np.zeros((60, 80, 3), np.uint8)
        runner.infer(1)
        mesher.submit(image, [np.eye(2, 3)])
    for use in (
        lambda: runner.input,
        lambda: runner.infer(1),
        lambda: mesher.submit(image, []),
        lambda: mesher.frame_buffer(60, 80),
    ):
        with pytest.raises(RuntimeError, match="the runner is closed"):
            use()
    runner.close()
    assert_released(machine)
