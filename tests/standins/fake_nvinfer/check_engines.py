"""Engines in the C library over the stand-ins for the CUDA driver, TensorRT and TensorRT-RTX.

`tests/runtime/library/test_engines.py` runs this file in a process of its own, since a process has one libcuda.so.1.
FACEMESH_STANDINS is the folder of the compiled stand-ins, FACEMESH_LIBRARY the library, FACEMESH_VERSION the file of
the stand-in for the engines, such as libnvinfer.so.10.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.cuda.driver import Device, platform_name
from runtime.models.manifest import EngineManifest
from runtime.models.shipped import ASSETS, SHIPPED, SHIPPED_PICTURE
from tests.runtime.library.facemesh_h import FAILED, Faces, Library, floats, image_of
from tests.runtime.library.standins import RTX, TENSORRT_8, TENSORRT_10
from tests.standins.fake_engine import write_engine

VERSION = {version.file: version for version in (TENSORRT_8, TENSORRT_10, RTX)}[os.environ["FACEMESH_VERSION"]]
STANDINS = Path(os.environ["FACEMESH_STANDINS"])
# From now on the libraries of these names in this process.
driver = ctypes.CDLL(str(STANDINS / "libcuda.so.1"), ctypes.RTLD_GLOBAL)
library = Library(Path(os.environ["FACEMESH_LIBRARY"]))  # brings ONNX Runtime, which the next one computes with
engines = ctypes.CDLL(str(STANDINS / VERSION.file))
driver.fake_log.restype = engines.fake_trt_log.restype = ctypes.c_char_p
DEVICE = Device("Stand-in", "8.7", True, 8)
NUMBERS = ".".join(map(str, VERSION.numbers[: 3 if VERSION is not RTX else 4]))
NAME = "tensorrt-rtx" if VERSION is RTX else "tensorrt"
BUILT = {"library": NAME, "version": NUMBERS}
# An engine of today's builder: several sizes of batch, and graphs.
WORDS = {TENSORRT_8: {"shares_profile": True}, TENSORRT_10: {}, RTX: {"rtx": True, "user_allocation": True}}[VERSION]
OUT_OF_MEMORY, NO_DEVICE, LAUNCH_FAILED, CAPTURE_UNSUPPORTED = 2, 100, 719, 900
SIZES = [1, 2, 3, 4, 6, 8]
PHOTO = cv2.imread(str(SHIPPED_PICTURE))


def left() -> tuple[int, int, int]:
    """Return what is not released, what is still pushed, and what was released too late."""
    return driver.fake_live(), driver.fake_depth(), engines.fake_trt_late()


@pytest.fixture(autouse=True)
def nothing_survives():
    driver.fake_heal()
    engines.fake_trt_fail(b"")
    engines.fake_trt_log()
    before = left()
    yield
    engines.fake_trt_fail(b"")
    assert left() == before


@pytest.fixture
def folder(tmp_path):
    shutil.copy(ASSETS / "uv_topology.npz", tmp_path)
    return tmp_path


@pytest.fixture
def make_engine(folder):
    def make(changes=None, **words):
        return write_engine(folder / "m.engine", SHIPPED["fp32"], BUILT | (changes or {}), **WORDS | words)

    return make


def open_model(path: Path, max_batch: int = 8) -> int | None:
    params = library.model_default_params()
    params.max_batch = max_batch
    return library.model_open(str(path).encode(), params)


@pytest.fixture(scope="module")
def onnx():
    model = open_model(SHIPPED["fp32"])
    yield model
    library.model_free(model)


def refused(path: Path, *words: str, max_batch: int = 8) -> str:
    assert open_model(path, max_batch) is None
    return one_line(*words)


def one_line(*words: str) -> str:
    message = library.message()
    assert "\n" not in message
    assert ";" in message, message
    assert all(word in message for word in words), message
    return message


def boxes_of(count: int) -> np.ndarray:
    return np.float32((180, 70, 270, 190)) + np.random.default_rng(count).uniform(-3, 3, (count, 4)).astype(np.float32)


def meshes_of(model: int, count: int) -> list:
    faces = Faces(count, library.vertex_count(model))
    assert library.from_boxes(model, image_of(PHOTO), floats(boxes_of(count)), None, count, faces.array) == count
    return faces.meshes(count)


def assert_same(model: int, other: int, counts) -> None:
    for count in counts:
        for face, wanted in zip(meshes_of(model, count), meshes_of(other, count), strict=True):
            assert np.array_equal(face.vertices, wanted.vertices)
            assert np.array_equal(face.landmarks, wanted.landmarks)
            assert face.confidence == wanted.confidence


def infer(model: int, crop: np.ndarray) -> tuple[np.ndarray, float]:
    output, confidence = np.zeros(library.output_count(model), np.float32), ctypes.c_float()
    assert library.infer(model, floats(crop), floats(output), ctypes.byref(confidence)) == 0
    return output, confidence.value


def calls() -> list[str]:
    return [line.split()[0] for line in driver.fake_log().decode().splitlines()]


def runs() -> list[int]:
    """Return the sizes of batch that the network was asked for since the last question."""
    lines = engines.fake_trt_log().decode().splitlines()
    return [int(line.partition(" ")[2]) for line in lines if line.startswith("run")]


def warnings_of(model: int) -> list[str]:
    return library.warnings(model).decode().splitlines()


def fail(call: str, status: int, nth: int = 1) -> None:
    driver.fake_heal()
    driver.fake_fail(call.encode(), nth, status)


def test_the_same_faces_as_onnx_runtime(make_engine, onnx):
    model = open_model(make_engine())
    assert model, library.message()
    assert NAME in library.backends().decode().split()
    assert warnings_of(model) == []
    assert_same(model, onnx, range(1, 12))
    library.model_free(model)


def test_one_crop(make_engine, onnx):
    model = open_model(make_engine())
    crop = np.random.default_rng(1).uniform(-1, 1, library.input_count(model)).astype(np.float32)
    for (output, confidence), (wanted, other) in [(infer(model, crop), infer(onnx, crop))] * 2:
        assert np.array_equal(output, wanted)
        assert confidence == other
    library.model_free(model)


@pytest.mark.parametrize("types", [("HALF", "HALF", "HALF"), ("FLOAT", "HALF", "FLOAT"), ("HALF", "FLOAT", "FLOAT")])
def test_engines_of_half_precision(make_engine, onnx, types):
    model = open_model(make_engine(**dict(zip(("input_type", "output_type", "confidence_type"), types, strict=True))))
    crop = np.random.default_rng(2).uniform(-1, 1, library.input_count(model)).astype(np.float32)
    rounded = crop.astype(np.float16).astype(np.float32) if types[0] == "HALF" else crop
    (output, confidence), (wanted, other) = infer(model, crop), infer(onnx, rounded)
    assert np.array_equal(output, wanted.astype(np.float16) if types[1] == "HALF" else wanted)
    assert confidence == (np.float16(other) if types[2] == "HALF" else other)
    assert np.abs(meshes_of(model, 3)[2].vertices - meshes_of(onnx, 3)[2].vertices).max() < 1
    library.model_free(model)


def test_a_frame_takes_no_memory(make_engine):
    model = open_model(make_engine())
    assert runs() == [size for size in SIZES for _ in range(2)]  # a first run, and one that becomes a graph
    for count in (1, 5, 8):
        meshes_of(model, count)
        driver.fake_heal()
        meshes_of(model, count)
        assert calls() == [
            "cuCtxPushCurrent",
            "cuGraphLaunch",
            "cuEventRecord",
            "cuEventSynchronize",
            "cuCtxPopCurrent",
        ]
    assert runs() == []
    library.model_free(model)


@pytest.mark.parametrize(
    ("batch", "max_batch", "sizes"),
    [
        ((1, 1, 8), 1, [1]), ((1, 1, 8), 5, [1, 2, 3, 4, 5]), ((1, 1, 3), 8, [1, 2, 3]), ((2, 2, 4), 8, [2, 3, 4]),
        ((4, 4, 4), 8, [4]), ((4, 4, 8), 2, [4]),
    ],
)  # fmt: skip
def test_sizes_of_batch(make_engine, onnx, batch, max_batch, sizes):
    model = open_model(make_engine(batch=batch), max_batch)
    assert sorted(set(runs())) == sizes
    assert_same(model, onnx, (1, 2, 5, 9))
    library.model_free(model)


def test_too_large_a_batch(make_engine):
    refused(make_engine(batch=(100, 100, 100)), "100 faces", "--batch")


@pytest.mark.skipif(VERSION is not TENSORRT_8, reason="newer ones share the profile")
def test_a_profile_that_is_not_shared(make_engine, onnx):
    path = make_engine(shares_profile=False)
    assert open_model(path) is None
    assert "give max_batch 1, or build it again with 'python -m export engine" in library.message()
    assert library.message().endswith(": Profile 0 has been chosen by another IExecutionContext.")
    model = open_model(path, max_batch=1)
    assert_same(model, onnx, (1, 3))
    library.model_free(model)


@pytest.mark.skipif(VERSION is not RTX, reason="tells by failing")
def test_an_engine_that_allocates_while_it_runs(make_engine, onnx):
    model = open_model(make_engine(user_allocation=False))
    (warning,) = warnings_of(model)
    assert "no CUDA graph can be made (this engine allocates while it runs; build it again" in warning
    assert "cuStreamBeginCapture" not in calls()
    assert_same(model, onnx, (1, 5))
    library.model_free(model)


@pytest.mark.parametrize("call", ["cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiate", "cuGraphUpload"])
def test_a_driver_that_makes_no_graphs(make_engine, onnx, call):
    fail(call, CAPTURE_UNSUPPORTED)
    model = open_model(make_engine())
    (warning,) = warnings_of(model)
    assert f"{call} failed with CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED" in warning
    driver.fake_heal()
    assert_same(model, onnx, (1, 5))
    assert "cuGraphLaunch" not in calls()
    library.model_free(model)


def test_a_library_that_refuses_a_capture(make_engine, onnx):
    engines.fake_trt_fail(b"capture")
    model = open_model(make_engine())
    (warning,) = warnings_of(model)
    assert "operation not permitted when stream is capturing" in warning
    assert_same(model, onnx, (1, 5))
    library.model_free(model)


def test_warnings(make_engine):
    engines.fake_trt_fail(b"warn")
    path = make_engine({"multiprocessors": 16})
    model = open_model(path)
    doubt, warning = warnings_of(model)
    assert doubt == f"{path}: {EngineManifest.load_for(path).doubt(DEVICE)}"
    assert warning == f"{path}: Using an engine plan file across different models of devices is not recommended"
    library.model_free(model)


@pytest.mark.parametrize(
    "changes",
    [
        {"version": "9.1.0"}, {"version": "9.1.0.44"}, {"version": "99.0+"}, {"version": "8.0.0+"},
        {"compute_capabilities": ["8.6", "9.0"], "device": None}, {"compute_capabilities": ["8.9+"]},
        {"platform": "linux-x86_64"}, {"platform": "win32-AMD64", "version": "9.1.0"},
    ],
)  # fmt: skip
def test_engines_for_other_machines(make_engine, changes):
    """Judged by Python's rules, in Python's words."""
    path = make_engine(changes)
    version = changes.get("version", NUMBERS)
    # As many as the manifest has; TensorRT 8 does not tell the build's.
    numbers = VERSION.numbers[: 4 if version.count(".") == 3 and VERSION is not TENSORRT_8 else 3]
    reason = EngineManifest.load_for(path).why_not(".".join(map(str, numbers)), DEVICE)
    if reason is None:
        library.model_free(open_model(path))
    else:
        assert refused(path) == f"{path}: {reason}"
    assert bool(reason) or changes == {"version": "8.0.0+"}
    assert (runs() == []) == bool(reason)


@pytest.mark.parametrize(
    "changes",
    [
        {"version": "+".join([NUMBERS, ""])}, {"version": f"{VERSION.numbers[0]}+"},
        {"compute_capabilities": ["7.5+"]}, {"platform": platform_name(DEVICE)}, {"dla_core": 1},
    ],
)  # fmt: skip
def test_engines_for_more_machines(make_engine, changes):
    path = make_engine(changes, version_compatible="+" in changes.get("version", ""))
    assert EngineManifest.load_for(path).why_not(NUMBERS, DEVICE) is None
    model = open_model(path)
    assert model, library.message()
    assert ("DLA 1" in engines.fake_trt_log().decode()) == ("dla_core" in changes)
    library.model_free(model)


def test_no_device(make_engine):
    path = make_engine()
    fail("cuInit", NO_DEVICE)
    assert refused(path) == f"{path}: {EngineManifest.load_for(path).why_not(NUMBERS, None)}"


@pytest.mark.parametrize("content", [b"", b"plan of another", None])
def test_another_engine_than_the_manifest_s(make_engine, content):
    path = make_engine()
    path.write_bytes(path.read_bytes()[:-1] if content is None else content)
    refused(path, "SHA-256", "m.engine.json", "python -m export engine")
    assert calls() == []  # nothing of it was loaded


def test_an_engine_without_a_manifest(make_engine):
    path = make_engine()
    EngineManifest.path_for(path).unlink()
    refused(path, "m.engine.json", "no such file", "python -m export engine")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("library", "onnxruntime", "library must be one of tensorrt, tensorrt-rtx"),
        ("version", "new", "version must be numbers with dots"),
        ("version", "10..3", "version must be numbers with dots"),
        ("version", None, "version must be a text"),
        ("batch", [1, 4, 2], "batch must be three numbers"),
        ("compute_capabilities", [], "compute_capabilities must name one"),
        ("compute_capabilities", ["8.x "], "compute_capabilities must be numbers"),
        ("compute_capabilities", [8.7], "compute_capabilities must be a list of texts"),
        ("dla_core", "1", "dla_core must be"),
        ("spec", 3, "spec must be an object"),
        ("spec", {}, "is missing"),
        ("engine_sha256", "0" * 64, "SHA-256"),
        ("command", "a\nb", ""),
    ],
)
def test_damaged_manifests(make_engine, field, value, words):
    path = make_engine({"version": "9.1.0"} if field == "command" else None)
    manifest = EngineManifest.path_for(path)
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {field: value}))
    refused(path, "m.engine", words)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '{"spec": {}}'])
def test_what_is_no_manifest(make_engine, text):
    path = make_engine()
    EngineManifest.path_for(path).write_text(text)
    refused(path, "m.engine.json", "python -m export engine")


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("start", "does not start here: CUDA initialization failure"),
        ("load", "cannot load this engine, build it again here with 'python -m export engine"),
        ("memory", "cannot load this engine"),
        ("context", "makes no execution context for 1 faces"),
        ("shape", "refuses to run 1 faces: Set dimensions for tensor image are out of range"),
        ("run", "does not run this engine: Cuda Runtime (launch failed)"),
    ],
)
def test_steps_of_the_library_that_fail(make_engine, step, words):
    path = make_engine()
    engines.fake_trt_fail(step.encode())
    assert open_model(path) is None
    message = library.message()
    assert message.startswith(f"{path}: {NAME} {NUMBERS} {words}")
    assert "\n" not in message
    engines.fake_trt_fail(b"")
    library.model_free(open_model(path))


@pytest.mark.parametrize(
    ("words", "found"),
    [({"outputs": 1}, "another_output FLOAT []"), ({"vectorised": True}, "plain order"),
     ({"input_type": "INT8"}, "image INT8 [-1, 3, 128, 128]")],
)  # fmt: skip
def test_tensors_that_are_not_the_spec_s(make_engine, words, found):
    refused(make_engine(**words), "its spec wants image [-1, 3, 128, 128]", found, "build it again")


def test_an_engine_of_the_other_library(make_engine):
    path = make_engine(rtx=VERSION is not RTX)
    assert open_model(path) is None
    assert "was not generated by this library" in library.message()


def test_every_call_of_the_driver_fails_once(make_engine, onnx):
    path = make_engine()
    driver.fake_heal()
    library.model_free(open_model(path, 2))
    made = calls()
    closing = len(made) - made[::-1].index("cuEventSynchronize")
    nothing = left()
    places = {(call, made[: place + 1].count(call)) for place, call in enumerate(made[:closing])}
    for call, nth in sorted(places):
        # Waits and releases fail with what the work before them failed with.
        needs_no_memory = call.endswith(("Synchronize", "Destroy", "PopCurrent"))
        for status in (LAUNCH_FAILED,) if needs_no_memory else (OUT_OF_MEMORY, LAUNCH_FAILED):
            driver.fake_heal()
            driver.fake_fail(call.encode(), nth, status)
            model = open_model(path, 2)
            message = library.message()
            driver.fake_heal()
            if model is None:
                assert "\n" not in message, (call, nth, message)
            else:  # of graphs, which are not needed
                assert status == OUT_OF_MEMORY
                assert_same(model, onnx, (1, 2))
                library.model_free(model)
            assert left() == nothing, (call, nth, status)


@pytest.mark.parametrize("call", ["cuGraphLaunch", "cuEventRecord", "cuEventSynchronize", "cuCtxPushCurrent"])
def test_a_device_that_is_lost(make_engine, call):
    model, faces = open_model(make_engine()), Faces(1)
    fail(call, LAUNCH_FAILED)
    for _ in range(2):
        assert library.from_boxes(model, image_of(PHOTO), floats(boxes_of(1)), None, 1, faces.array) == FAILED
        one_line("m.engine", "CUDA_ERROR_LAUNCH_FAILED", "lost to this process; start it again")
    library.model_free(model)
    driver.fake_heal()


def test_a_run_that_fails_once(make_engine, onnx):
    model, faces = open_model(make_engine()), Faces(1)
    fail("cuGraphLaunch", OUT_OF_MEMORY)
    assert library.from_boxes(model, image_of(PHOTO), floats(boxes_of(1)), None, 1, faces.array) == FAILED
    one_line("cuGraphLaunch failed with CUDA_ERROR_OUT_OF_MEMORY: the GPU's memory is full")
    driver.fake_heal()
    assert_same(model, onnx, (1, 2))
    library.model_free(model)


@pytest.mark.parametrize("first", [0, 1])
def test_two_models_at_once(make_engine, onnx, first):
    path = make_engine()
    models = [open_model(path), open_model(path)]
    for model in models:
        assert_same(model, onnx, (1, 4))
    library.model_free(models[first])
    assert_same(models[1 - first], onnx, (2,))
    library.model_free(models[1 - first])


def test_threads_take_turns(make_engine, onnx):
    model = open_model(make_engine())
    wanted, found, depths = meshes_of(onnx, 2), [], []

    def work() -> None:
        found.extend(meshes_of(model, 2))
        depths.append(driver.fake_depth())

    for _ in range(2):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert depths == [0, 0]
    assert all(np.array_equal(face.vertices, wanted[number % 2].vertices) for number, face in enumerate(found))
    thread = threading.Thread(target=library.model_free, args=(model,))
    thread.start()
    thread.join()


@pytest.mark.skipif(VERSION is not RTX, reason="compiles nothing at its first run")
@pytest.mark.parametrize("damage", [None, b"", b"kern"])
def test_compiled_code_is_kept(make_engine, damage):
    path = make_engine()
    cache = Path(f"{path}.cache")
    library.model_free(open_model(path))
    assert cache.read_bytes() == b"kernels 1 2 3 4 6 8"
    if damage is not None:
        cache.write_bytes(damage)
    engines.fake_trt_log()
    library.model_free(open_model(path))
    assert ("cache" in engines.fake_trt_log().decode()) == (damage is None)
    assert cache.read_bytes() == b"kernels 1 2 3 4 6 8"
    assert sorted(file.name for file in path.parent.iterdir() if "cache" in file.name) == ["m.engine.cache"]


def test_a_manifest_elsewhere(make_engine, onnx, tmp_path_factory):
    path, elsewhere = make_engine(), tmp_path_factory.mktemp("elsewhere") / "m.json"
    EngineManifest.path_for(path).rename(elsewhere)
    params = library.model_default_params()
    params.spec, params.topology = str(elsewhere).encode(), str(ASSETS / "uv_topology.npz").encode()
    model = library.model_open(str(path).encode(), params)
    assert model, library.message()
    assert_same(model, onnx, (1,))
    library.model_free(model)
