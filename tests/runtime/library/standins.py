"""Compiled stand-ins for the CUDA driver, TensorRT and TensorRT-RTX, and CMake's options that find them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.runtime.library.building import HEADERS, need, run

STANDINS, NATIVE = REPOSITORY / "tests" / "standins", REPOSITORY / "runtime" / "native"


@dataclass(frozen=True)
class Version:
    """A library that runs engines: its numbers up to the build's, and the name of its file."""

    numbers: tuple[int, int, int, int]
    file: str

    @property
    def is_rtx(self) -> bool:
        return "rtx" in self.file

    def header(self) -> str:
        names = ("MAJOR", "MINOR", "PATCH", "BUILD")
        lines = [f"#define NV_TENSORRT_{name} {number}" for name, number in zip(names, self.numbers, strict=True)]
        return "\n".join([*(["#define TRT_MAJOR_RTX 1"] if self.is_rtx else []), *lines, ""])


TENSORRT_8 = Version((8, 6, 1, 6), "libnvinfer.so.8")
TENSORRT_10 = Version((10, 3, 0, 26), "libnvinfer.so.10")
RTX = Version((1, 7, 1, 116), "libtensorrt_rtx.so.1")


def compile_standins(folder: Path, versions: Sequence[Version], flags: Sequence[str] = ()) -> list[str]:
    """Compile them into ``folder``; return the options of CMake that find their headers."""
    need("g++")
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs ONNX Runtime: pip install onnxruntime")
    if not (HEADERS / "onnxruntime_c_api.h").is_file():
        pytest.skip("needs the header of ONNX Runtime's C API: .ci/onnxruntime_headers build/onnxruntime")
    folder.mkdir(exist_ok=True)
    runtime = folder / "libonnxruntime.so.1"
    if not runtime.exists():
        runtime.symlink_to(next((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.1.*")))
    compiler = ["g++", "-std=c++17", "-O1", "-g1", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-shared"]
    compiler += ["-fPIC", f"-I{NATIVE}", f"-I{HEADERS}", *flags]
    driver = folder / "libcuda.so.1"
    sources = [STANDINS / "fake_libcuda" / "libcuda.cpp", NATIVE / "gpu" / "host_kernels.cpp"]
    run([*compiler, "-Wl,-soname,libcuda.so.1", "-o", driver, *sources])
    options = ["-UTensorRT_*"]  # what CMake found before
    for version in versions:
        include = folder / version.file.replace(".", "_") / "include"
        include.mkdir(parents=True, exist_ok=True)
        for header in (STANDINS / "fake_nvinfer").glob("*.h"):
            (include / header.name).write_text(header.read_text())
        (include / "NvInferVersion.h").write_text(version.header())
        source = STANDINS / "fake_nvinfer" / "nvinfer.cpp"
        target = folder / version.file
        # As the backend calls the classes of TensorRT-RTX, so that sanitizers know them.
        names = ["-Dnvinfer1=nvinfer1_rtx"] if version.is_rtx else []
        own = [*names, f"-Wl,-soname,{version.file}", f"-I{include}"]
        run([*compiler, *own, "-o", target, source, driver, runtime])
        kind = "TENSORRT_RTX" if version.is_rtx else "TENSORRT"
        # Of TensorRT 8 the headers alone, so that its library is looked for at run time.
        places = [include.parent, *([] if version is TENSORRT_8 else [folder])]
        options += [f"-DFACEMESH_{kind}=ON", f"-D{kind}_ROOT={';'.join(map(str, places))}"]
        options.append(f"-DTensorRT_CUDA_INCLUDE_DIR={include}")
    return options
