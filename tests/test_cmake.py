"""The build: its choice of CUDA architectures, its words for a compiler that does not work. Nothing is compiled."""

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
    """``configure("-DNAME=VALUE", …, VARIABLE=…)``: everything that CMake says about this project."""

    def configure(*options, **environment):
        command = [CMAKE, "-S", str(request.config.rootpath), "-B", str(tmp_path / "build"), "-DFACEMESH_PYTHON=OFF"]
        own = {name: value for name, value in os.environ.items() if name not in ("CUDAARCHS", "CUDACXX", "CUDAHOSTCXX")}
        done = subprocess.run([*command, *options], capture_output=True, text=True, env={**own, **environment})
        assert done.returncode == 0, done.stderr
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
