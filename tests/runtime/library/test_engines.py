"""The C library runs engines as it runs ONNX files, over stand-ins for the driver, TensorRT and TensorRT-RTX."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from runtime import FaceMeshPipeline, YuNetDetector, open_runner
from runtime.models.shipped import ASSETS, SHIPPED, SHIPPED_PICTURE, YUNET_ONNX
from tests.runtime.library.building import PROGRAM, SANITIZERS, Build, build_library, need, run
from tests.runtime.library.standins import RTX, TENSORRT_8, TENSORRT_10, Version, compile_standins
from tests.standins.fake_engine import write_engine

pytestmark = pytest.mark.slow
CHECKS = "tests/standins/fake_nvinfer/check_engines.py"
QUICK = ["-DCMAKE_BUILD_TYPE=None", "-DCMAKE_CXX_FLAGS=-O1"]  # to compile
SIDE = 256  # px of the picture: sanitizers take their time


@pytest.fixture(scope="module")
def standins(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("standins")


@pytest.fixture(scope="module")
def newer(repository, standins) -> Build:
    """The library with TensorRT 10 and TensorRT-RTX."""
    options = compile_standins(standins, [TENSORRT_10, RTX])
    return build_library(repository / "build" / "library-engines", [*options, *QUICK])


@pytest.fixture(scope="module")
def older(repository, standins) -> Build:
    """The library with TensorRT 8."""
    options = compile_standins(standins, [TENSORRT_8])
    return build_library(repository / "build" / "library-engines-8", [*options, *QUICK])


def python(standins: Path, build: Build, version: Version, *command: str) -> subprocess.CompletedProcess:
    environment = {
        **os.environ,
        "FACEMESH_STANDINS": str(standins),
        "FACEMESH_LIBRARY": str(build.folder / "libfacemesh.so"),
        "FACEMESH_VERSION": version.file,
    }
    return subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, timeout=550)


def check(standins: Path, build: Build, version: Version) -> None:
    done = python(standins, build, version, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", CHECKS)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr
    assert " passed" in done.stdout


def test_tensorrt_10(standins, newer):
    check(standins, newer, TENSORRT_10)


def test_tensorrt_rtx(standins, newer):
    check(standins, newer, RTX)


def test_tensorrt_8(standins, older):
    check(standins, older, TENSORRT_8)


def test_a_library_that_is_not_installed(standins, older, tmp_path):
    path = write_engine(tmp_path / "m.engine", SHIPPED["fp32"], {"version": "8.6.1"})
    script = (
        "import ctypes, os\n"
        "ctypes.CDLL(os.environ['FACEMESH_STANDINS'] + '/libcuda.so.1', ctypes.RTLD_GLOBAL)\n"
        "from tests.runtime.library.facemesh_h import Library\n"
        "library, params = Library(os.environ['FACEMESH_LIBRARY']), None\n"
        "params = library.model_default_params()\n"
        f"params.topology = {str(ASSETS / 'uv_topology.npz').encode()!r}\n"
        f"assert library.model_open({str(path).encode()!r}, params) is None\n"
        "print(library.message())\n"
    )
    line = python(standins, older, TENSORRT_8, "-c", script).stdout
    assert line == (
        f"{path}: built on Orin for tensorrt 8.6.1, compute capability 8.7; tensorrt is not installed here; "
        "install TensorRT, or name the folder of libnvinfer.so.8 in LD_LIBRARY_PATH\n"
    )


def test_a_library_without_backends_for_engines(library, tmp_path):
    for changes, option in (({}, "TENSORRT=ON"), ({"library": "tensorrt-rtx"}, "TENSORRT_RTX=ON")):
        path = write_engine(tmp_path / "m.engine", SHIPPED["fp32"], changes)
        params = library.model_default_params()
        params.topology = str(ASSETS / "uv_topology.npz").encode()
        assert library.model_open(str(path).encode(), params) is None
        name = changes.get("library", "tensorrt")
        assert library.message() == (
            f"{path}: an engine of {name} 10.3.0, which this library was built without; build it with "
            f"-DFACEMESH_{option}, or give the .onnx that the engine is from"
        )
    assert library.warnings(None) == b""


@pytest.mark.parametrize("option", ["FACEMESH_TENSORRT", "FACEMESH_TENSORRT_RTX"])
def test_a_backend_that_is_asked_for_and_not_there(repository, tmp_path, option):
    need("cmake")
    command = ["cmake", "-S", repository, "-B", tmp_path, "-DFACEMESH_PYTHON=OFF", f"-D{option}=ON"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    if "nlohmann_json" in done.stderr or "ZLIB" in done.stderr:
        pytest.skip("needs nlohmann-json3-dev and zlib1g-dev")
    if done.returncode == 0:
        pytest.skip("it is here")
    assert f"{option}=ON, but TensorRT" in done.stderr
    assert f"give -D{option.removeprefix('FACEMESH_')}_ROOT=FOLDER" in " ".join(done.stderr.split())


@pytest.fixture(scope="module")
def arguments(tmp_path_factory) -> list[str]:
    """What check_faces is called with, but for model and tolerance: a picture, and what Python finds in it."""
    folder = tmp_path_factory.mktemp("check")
    photo = cv2.resize(cv2.imread(str(SHIPPED_PICTURE)), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    with open_runner(SHIPPED["fp32"]) as runner:
        (face,) = FaceMeshPipeline(runner, YuNetDetector())(photo)
    (folder / "picture").write_bytes(photo.tobytes())
    (folder / "landmarks").write_bytes(face.landmarks.tobytes())
    return [*map(str, (YUNET_ONNX, folder / "picture", SIDE, SIDE, folder / "landmarks"))]


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> list[Path]:
    """The same network as an engine of TensorRT, one of TensorRT-RTX, and an ONNX file."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copy(ASSETS / "uv_topology.npz", folder)
    changes = {"library": "tensorrt-rtx", "version": "1.7.1.116"}
    return [
        write_engine(folder / "m.engine", SHIPPED["fp32"]),
        write_engine(folder / "rtx.engine", SHIPPED["fp32"], changes, rtx=True, user_allocation=True),
        SHIPPED["fp32"],
    ]


def test_sanitizers(repository, arguments, models, tmp_path):
    flags, standins = SANITIZERS.split(), tmp_path / "standins"
    options = compile_standins(standins, [TENSORRT_10, RTX], flags)
    options += ["-DCMAKE_BUILD_TYPE=None", f"-DCMAKE_CXX_FLAGS=-O1 {SANITIZERS}"]
    build = build_library(repository / "build" / "library-sanitized", options)
    program = build.program(PROGRAM, tmp_path / "check", flags)
    (tmp_path / "leaks").write_text("leak:libonnxruntime\n")
    environment = {
        **os.environ,
        "LSAN_OPTIONS": f"suppressions={tmp_path / 'leaks'}",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "LD_LIBRARY_PATH": str(standins),
    }
    for model in models:
        run([program, model, *arguments, "1e-4"], env=environment)
