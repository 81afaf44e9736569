"""Builds of the C library. A test whose tools are absent is skipped and says so."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

HEADERS = REPOSITORY / "build" / "onnxruntime"  # where .ci/onnxruntime_headers puts them
PROGRAM = REPOSITORY / "tests" / "runtime" / "library" / "check_faces.c"
SOAK = PROGRAM.with_name("check_soak.c")

SANITIZERS = "-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g1"
# What ONNX Runtime keeps until the end, and what it does with vectors longer than valgrind's.
VALGRIND_SUPPRESSIONS = "".join(
    f"{{\n   onnxruntime {kind}\n   Memcheck:{kind}\n   ...\n   obj:*libonnxruntime*\n}}\n"
    for kind in (
        "Leak",
        "Cond",
        "Value1",
        "Value2",
        "Value4",
        "Value8",
        "Value16",
        "Value32",
        "Addr8",
        "Addr16",
        "Overlap",
    )
)


@dataclass(frozen=True)
class Build:
    """A folder that CMake has built the library in."""

    folder: Path

    def program(self, source: Path, target: Path, flags: Sequence[str] = (), compiler: str = "cc") -> Path:
        """Compile a C program against the shared library; return ``target``."""
        run(
            [compiler, "-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O1", "-g", *flags,
             f"-I{REPOSITORY / 'runtime' / 'native' / 'include'}", str(source), "-o", str(target),
             f"-L{self.folder}", "-lfacemesh", f"-Wl,-rpath,{self.folder}", "-lm",
             f"-Wl,-rpath-link,{self.folder / 'onnxruntime'}"]
        )  # fmt: skip
        return target


def build_library(folder: Path, options: Sequence[str] = (), onnxruntime: Path | None = None) -> Build:
    """Configure and build the library with Python's own ONNX Runtime, or that of the folder ``onnxruntime``."""
    need("cmake")
    wheel = pytest.importorskip("onnxruntime", reason="needs ONNX Runtime: pip install onnxruntime")
    roots = [onnxruntime or Path(wheel.__file__).parent, HEADERS, *filter(None, [os.environ.get("ONNXRUNTIME_ROOT")])]
    configure = [
        "cmake", "-S", str(REPOSITORY), "-B", str(folder), "-DCMAKE_BUILD_TYPE=Release", "-DFACEMESH_PYTHON=OFF",
        "-DFACEMESH_CUDA=OFF", "-DFACEMESH_TENSORRT=OFF", "-DFACEMESH_TENSORRT_RTX=OFF",
        f"-DONNXRUNTIME_ROOT={';'.join(map(str, roots))}", *options,
    ]  # fmt: skip
    with _one_at_a_time(folder):
        found = subprocess.run(configure, capture_output=True, text=True)
        if "nlohmann_json" in found.stderr:
            pytest.skip("needs nlohmann-json3-dev")
        if "ZLIB" in found.stderr:
            pytest.skip("needs zlib1g-dev")
        if "no usable ONNX Runtime there" in " ".join(found.stderr.split()):
            pytest.skip("needs the header of ONNX Runtime's C API: .ci/onnxruntime_headers build/onnxruntime")
        assert found.returncode == 0, found.stderr
        run(["cmake", "--build", str(folder), "--parallel", "2", "--target", "facemesh", "facemesh_static"])
    return Build(folder)


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Let the workers that run tests at the same time build in ``folder`` one after the other."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def need(tool: str) -> None:
    """Skip the test where a program is not installed."""
    if shutil.which(tool) is None:
        pytest.skip(f"needs {tool}")


def run(command: Sequence[str], **options) -> str:
    """Run a command that must succeed; return its output."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout
