"""The C library runs engines as it runs ONNX files, over stand-ins for the driver, TensorRT and TensorRT-RTX."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.models.shipped import ASSETS, SHIPPED
from tests.runtime.library.building import build_library, need
from tests.runtime.library.standins import RTX, TENSORRT_8, TENSORRT_10, Version, compile_standins
from tests.standins.fake_engine import write_engine

pytestmark = pytest.mark.slow
CHECKS = "tests/standins/fake_nvinfer/check_engines.py"
QUICK = ["-DCMAKE_BUILD_TYPE=None", "-DCMAKE_CXX_FLAGS=-O1"]  # to compile


@pytest.fixture(scope="module")
def standins(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("standins")


@pytest.fixture(scope="module")
def newer(repository, standins) -> Path:
    """The library with TensorRT 10 and TensorRT-RTX."""
    return library_with(repository, standins, [TENSORRT_10, RTX])


@pytest.fixture(scope="module")
def older(repository, standins) -> Path:
    """The library with TensorRT 8."""
    return library_with(repository, standins, [TENSORRT_8])


def library_with(repository: Path, standins: Path, versions: list[Version]) -> Path:
    """Build in one folder for all versions, since little but their backends is compiled anew; return a copy."""
    build = build_library(repository / "build" / "library-engines", [*compile_standins(standins, versions), *QUICK])
    return Path(shutil.copy(build.folder / "libfacemesh.so", standins / f"libfacemesh-{versions[0].numbers[0]}.so"))


def python(standins: Path, path: Path, version: Version, *command: str) -> subprocess.CompletedProcess:
    environment = {
        **os.environ,
        "FACEMESH_STANDINS": str(standins),
        "FACEMESH_LIBRARY": str(path),
        "FACEMESH_VERSION": version.file,
    }
    return subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, timeout=550)


def check(standins: Path, path: Path, version: Version) -> None:
    done = python(standins, path, version, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", CHECKS)
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
