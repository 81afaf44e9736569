"""Build libfacemesh and the program that measures it."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.records.provenance import REPOSITORY
from runtime.errors import FaceMeshError

TARGET = "facemesh_frames"
HEADERS = REPOSITORY / "build" / "onnxruntime"  # where .ci/onnxruntime_headers puts them


def build_program(folder: Path) -> Path:
    """Configure and build into ``folder`` with CMake, over Python's own ONNX Runtime; return the program.

    Raises `FaceMeshError` with the first line of a failure.
    """
    if shutil.which("cmake") is None:
        raise FaceMeshError("the C library is built by cmake, which is not installed; install cmake and a C++ compiler")
    wheel = importlib.util.find_spec("onnxruntime")
    if wheel is None or wheel.origin is None:
        raise FaceMeshError("the C library needs ONNX Runtime; pip install 'facemesh-edge[cpu]'")
    roots = ";".join(map(str, (Path(wheel.origin).parent, HEADERS)))
    _run(
        ["cmake", "-S", str(REPOSITORY), "-B", str(folder), "-DCMAKE_BUILD_TYPE=Release", "-DFACEMESH_PYTHON=OFF",
         "-DFACEMESH_CUDA=OFF", f"-DONNXRUNTIME_ROOT={roots}", "-DFACEMESH_ONNXRUNTIME=ON"]
    )  # fmt: skip
    _run(["cmake", "--build", str(folder), "--parallel", "2", "--target", TARGET])
    return folder / TARGET


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        return
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    told = next((line for line in lines if "error" in line.lower()), lines[0] if lines else "no word why")
    remedy = "docs/c_library.md says what a build needs"
    raise FaceMeshError(f"{' '.join(command[:2])}: {told[:300]}; {remedy}")
