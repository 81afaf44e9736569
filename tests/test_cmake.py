"""The build: its choice of CUDA architectures, its words for what does not work or is missing. Nothing is compiled."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

CMAKE = shutil.which("cmake")
NVCC = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CMAKE is None, reason="needs cmake")]


@pytest.fixture
def configure(tmp_path, request):
    """``configure("-DNAME=VALUE", …, VARIABLE=…)``: everything that CMake says about this project.

    ``fails=True`` expects an error.
    """

    def configure(*options, fails=False, **environment):
        command = [CMAKE, "-S", str(request.config.rootpath), "-B", str(tmp_path / "build"), "-DFACEMESH_PYTHON=OFF"]
        own = {name: value for name, value in os.environ.items() if name not in ("CUDAARCHS", "CUDACXX", "CUDAHOSTCXX")}
        done = subprocess.run([*command, *options], capture_output=True, text=True, env={**own, **environment})
        if "nlohmann_json" in done.stderr or "ZLIB" in done.stderr:
            pytest.skip("needs nlohmann-json3-dev and zlib1g-dev")
        assert (done.returncode != 0) == fails, done.stderr
        return done.stdout + done.stderr

    return configure


def test_a_cuda_compiler_that_does_not_work_is_told_with_the_variable_that_helps(configure, tmp_path):
    nvcc = tmp_path / "nvcc"
    nvcc.write_text("#!/bin/sh\necho 'error: -- unsupported GNU version!' >&2\nexit 1\n")
    nvcc.chmod(0o755)
    said = " ".join(configure(CUDACXX=str(nvcc)).split())
    assert "CMake Warning" in said
    assert "does not work" in said
    assert "export CUDAHOSTCXX=" in said


def test_nothing_is_said_of_it_when_no_kernels_are_wanted(configure):
    assert "CUDAHOSTCXX" not in configure("-DFACEMESH_CUDA=OFF", CUDACXX="/nowhere/nvcc")


@pytest.mark.parametrize("option", ["CUDA", "ONNXRUNTIME", "TENSORRT", "TENSORRT_RTX"])
def test_choices_that_there_are_not(configure, option):
    said = " ".join(configure("-DFACEMESH_CUDA=OFF", f"-DFACEMESH_{option}=maybe", fails=True).split())
    assert f"FACEMESH_{option}=maybe: no such choice; give -DFACEMESH_{option}=AUTO, ON or OFF" in said


@pytest.mark.parametrize(
    ("library", "title"),
    [("ONNXRUNTIME", "ONNX Runtime"), ("TENSORRT", "TensorRT"), ("TENSORRT_RTX", "TensorRT-RTX")],
)
def test_a_folder_that_lacks_the_library(configure, tmp_path, library, title):
    """Told even where the library is in another place, and was found there before."""
    for name in ("include/onnxruntime_c_api.h", "lib/libonnxruntime.so", "include/NvInferRuntime.h",
                 "include/NvInferVersion.h", "include/cuda_runtime_api.h"):  # fmt: skip
        (tmp_path / "there" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "there" / name).write_text("#define NV_TENSORRT_MAJOR 10\n")
    others = ["-DFACEMESH_CUDA=OFF", f"-DCMAKE_PREFIX_PATH={tmp_path / 'there'}"]
    assert f"without {title}:" not in configure(*others, f"-D{library}_ROOT={tmp_path / 'there'}")
    said = " ".join(configure(*others, f"-D{library}_ROOT=/nosuch", fails=True).split())
    assert f"{library}_ROOT=/nosuch: no usable {title} there: give" in said
    assert f"give -D{library}_ROOT=FOLDER" in said
    configure(*others, f"-DFACEMESH_{library}=OFF")


@pytest.mark.skipif(NVCC is None, reason="needs nvcc")
def test_kernels_belong_to_python_alone(configure, tmp_path):
    assert "CUDA kernels as machine code" in configure(CUDACXX=NVCC)
    assert "kernels.fatbin" not in (tmp_path / "build" / "cmake_install.cmake").read_text()


@pytest.mark.skipif(NVCC is None, reason="needs nvcc")
@pytest.mark.parametrize(
    ("release", "present", "absent"),
    [
        ("5.15.148-tegra", {"87-real"}, {"75-real", "86-real", "89-real"}),
        ("6.8.0-45-generic", {"75-real", "86-real"}, set()),
    ],
)
def test_on_a_jetson_jetsons_alone_are_built_for(configure, release, present, absent):
    said = configure("-DCMAKE_SYSTEM_NAME=Linux", f"-DCMAKE_SYSTEM_VERSION={release}", CUDACXX=NVCC)
    (line,) = (line for line in said.splitlines() if "CUDA kernels as machine code" in line and "architectures" in line)
    built = set(line.partition("architectures ")[2].split())
    assert present <= built
    assert not absent & built
    assert "72-real" not in built
