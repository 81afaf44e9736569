"""The C library installed, under valgrind, and compiled for another processor."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime import FaceMeshPipeline, YuNetDetector, open_runner
from runtime.models.shipped import SHIPPED, SHIPPED_PICTURE
from tests.runtime.library.building import PROGRAM, SOAK, VALGRIND_SUPPRESSIONS, Build, build_library, need, run

pytest.importorskip("onnx")
from tests.runtime.library.checking import check, check_arguments

pytestmark = pytest.mark.slow
OTHER_KERNELS_PX = 0.02  # ONNX Runtime sums in another order on another processor


@pytest.fixture(scope="module")
def arguments(tmp_path_factory) -> list[str]:
    """What check_faces is called with, the tolerance aside: the FP32 model, toys, and Python's landmarks."""
    return check_arguments(tmp_path_factory.mktemp("check"))


def test_a_program_in_c(build: Build, arguments, tmp_path):
    run(check(build.program(PROGRAM, tmp_path / "check"), arguments, 1e-4))


def test_valgrind(build: Build, arguments, tmp_path):
    need("valgrind")
    (tmp_path / "suppressions").write_text(VALGRIND_SUPPRESSIONS)
    command = check(build.program(PROGRAM, tmp_path / "check"), arguments, OTHER_KERNELS_PX)
    options = ["--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=definite", "--quiet"]
    run(["valgrind", *options, f"--suppressions={tmp_path / 'suppressions'}", *command])


def test_nothing_grows(build: Build, arguments, tmp_path):
    """Opened 40 times, and over 2000 frames."""
    program = build.program(SOAK, tmp_path / "soak")
    assert "40 opens: " in run([program, *arguments[:5], 40, 2000])


def test_aarch64(repository, arguments, tmp_path):
    """Compiled with a cross compiler and run by an emulator; ``.ci/aarch64_sysroot build/aarch64`` gets the parts."""
    need("aarch64-linux-gnu-g++")
    need("qemu-aarch64-static")
    sysroot = repository / "build" / "aarch64"
    if not (sysroot / "onnxruntime").is_dir():
        pytest.skip("needs zlib and ONNX Runtime for aarch64: .ci/aarch64_sysroot build/aarch64 python3")
    zlib = sysroot / "lib" / "aarch64-linux-gnu" / "libz.so.1"
    options = [
        "-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64", "-DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++",
        f"-DZLIB_LIBRARY={zlib}", f"-DZLIB_INCLUDE_DIR={sysroot / 'usr' / 'include'}",
    ]  # fmt: skip
    build = build_library(repository / "build" / "library-aarch64", options, sysroot / "onnxruntime")
    flags = [f"-Wl,-rpath-link,{zlib.parent}"]
    program = build.program(PROGRAM, tmp_path / "check", flags, "aarch64-linux-gnu-gcc")
    paths = ":".join(map(str, (zlib.parent, build.folder, build.folder / "onnxruntime")))
    emulator = ["qemu-aarch64-static", "-cpu", "cortex-a57", "-L", emulated_root(tmp_path / "root")]
    run([*emulator, "-E", f"LD_LIBRARY_PATH={paths}", *check(program, arguments, OTHER_KERNELS_PX)])


def emulated_root(folder: Path) -> Path:
    """Make the root that the emulator shows: ONNX Runtime breaks where /proc/cpuinfo tells of another processor."""
    (folder / "proc").mkdir(parents=True)
    (folder / "lib").symlink_to("/usr/aarch64-linux-gnu/lib")
    core = (
        "processor\t: {}\nFeatures\t: fp asimd crc32 cpuid\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
        "CPU variant\t: 0x0\nCPU part\t: 0xd07\nCPU revision\t: 0\n\n"
    )
    (folder / "proc" / "cpuinfo").write_text("".join(core.format(number) for number in range(os.cpu_count() or 1)))
    return folder


@pytest.fixture(scope="module")
def prefix(build: Build, tmp_path_factory) -> Path:
    """The library as ``cmake --install`` lays it out."""
    path = tmp_path_factory.mktemp("prefix")
    run(["cmake", "--install", build.folder, "--prefix", path])
    return path


def libraries_of(prefix: Path) -> Path:
    return next(prefix.rglob("libfacemesh.so")).parent


@pytest.fixture(scope="module")
def examples(repository, prefix, tmp_path_factory) -> Path:
    """Folder of the example programs, built by ``find_package(facemesh)``."""
    folder, source = tmp_path_factory.mktemp("examples"), repository / "runtime" / "native" / "examples"
    run(["cmake", "-S", source, "-B", folder, f"-DCMAKE_PREFIX_PATH={prefix}"])
    run(["cmake", "--build", folder])
    return folder


def example(examples: Path, name: str, prefix: Path, packages: str) -> list[Path]:
    """Return an example's command up to the detector."""
    if not (examples / name).is_file():
        pytest.skip(f"needs {packages}")
    assets = prefix / "share" / "facemesh"
    return [examples / name, assets / "edge-int8.onnx", assets / "yunet.onnx"]


def test_the_example_becomes_python_s_mesh(examples, prefix, tmp_path):
    """A photo becomes an OBJ."""
    mesh = tmp_path / "mesh.obj"
    command = example(examples, "photo_to_obj", prefix, "libjpeg-dev")
    assert "score 0.9" in run([*command, SHIPPED_PICTURE, mesh])
    rows = [line.split() for line in mesh.read_text().splitlines()]
    vertices = np.array([row[1:] for row in rows if row[0] == "v"], np.float64) * (1, -1, 1)
    with open_runner(SHIPPED["int8"]) as runner:
        pipeline = FaceMeshPipeline(runner, YuNetDetector())
        (face,) = pipeline(cv2.imread(str(SHIPPED_PICTURE)))
    assert np.abs(vertices - face.vertices).max() < 0.5  # two JPEG decoders, and six digits
    faces = np.array([row[1:] for row in rows if row[0] == "f"], int) - 1
    assert np.array_equal(faces[:, ::-1], pipeline.family.topology.triangles[:, [1, 2, 0]])


@pytest.fixture
def gstreamer(examples, prefix) -> list[Path]:
    return example(examples, "gstreamer", prefix, "libgstreamer1.0-dev and libgstreamer-plugins-base1.0-dev")


def test_gstreamer(gstreamer, tmp_path):
    """Frames out of one pipeline, through the library, into another one."""
    source = f"filesrc location={SHIPPED_PICTURE} ! jpegdec ! imagefreeze num-buffers=5 ! videoconvert"
    drawn = f"appsrc ! videoconvert ! pngenc ! multifilesink location={tmp_path}/%d.png"
    rows = run([*gstreamer, f"{source} ! video/x-raw,format=BGR,framerate=25/1 ! appsink", drawn]).split()
    assert len(rows) == 5 * 4
    assert rows[1::4] == ["1"] * 5
    nose = np.array([rows[2], rows[3]], float)
    with open_runner(SHIPPED["int8"]) as runner:
        (face,) = FaceMeshPipeline(runner, YuNetDetector())(cv2.imread(str(SHIPPED_PICTURE)))
    assert np.abs(nose - face.landmarks[30, :2]).max() < 0.5  # another JPEG decoder
    picture = cv2.imread(str(tmp_path / "4.png"))
    x, y = np.rint(nose).astype(int)
    assert tuple(picture[y, x]) == (0, 255, 0)


TAKEN = "appsrc ! videoconvert ! fakesink"
PICTURES = "videotestsrc num-buffers=3 ! video/x-raw,format=BGR ! appsink"


@pytest.mark.parametrize(
    ("first", "second", "word"),
    [
        ("nothing ! appsink", TAKEN, "nothing"),
        ("appsink", TAKEN, "two elements"),
        ("videotestsrc ! fakesink", TAKEN, "appsink"),
        ("filesrc location=/nosuch.jpg ! jpegdec ! appsink", TAKEN, "/nosuch.jpg"),
        (f"filesrc location={__file__} ! decodebin ! videoconvert ! appsink", TAKEN, "text file"),
        (f"filesrc location={__file__} ! jpegdec ! appsink", TAKEN, "jpegdec"),
        (PICTURES, "appsrc ! filesink location=/nosuch/folder", "/nosuch/folder"),
        (PICTURES, "appsrc ! jpegdec ! fakesink", "appsrc"),
    ],
)
def test_pipelines_that_break_off(gstreamer, first, second, word):
    broken = subprocess.run([*gstreamer, first, second], capture_output=True, text=True, timeout=60)
    assert (broken.returncode, broken.stderr.count("\n")) == (1, 1), broken.stderr
    assert broken.stderr.startswith("gstreamer: ")
    assert word in broken.stderr


def test_a_camera_that_is_not_there(examples, prefix):
    command = [*example(examples, "camera", prefix, "Linux"), "/dev/nowhere"]
    broken = subprocess.run(command, capture_output=True, text=True)
    assert (broken.returncode, broken.stderr) == (1, "camera: /dev/nowhere: No such file or directory\n")


def compiled_by_pkg_config(prefix: Path, target: Path) -> tuple[Path, dict[str, str]]:
    """Compile check_faces as the page says; return it, and the environment that it runs in."""
    need("pkg-config")
    folder = str(libraries_of(prefix))
    flags = run(
        ["pkg-config", "--cflags", "--libs", "facemesh"], env={**os.environ, "PKG_CONFIG_PATH": f"{folder}/pkgconfig"}
    )
    run(["cc", "-std=c11", str(PROGRAM), "-o", str(target), *flags.split(), "-lm"])
    return target, {**os.environ, "LD_LIBRARY_PATH": folder}


def test_pkg_config(prefix, arguments, tmp_path):
    """Also where the whole folder has moved."""
    moved = shutil.copytree(prefix, tmp_path / "moved", symlinks=True)
    program, environment = compiled_by_pkg_config(moved, tmp_path / "check")
    run(check(program, arguments, 1e-4), env=environment)


def test_pkg_config_of_absolute_folders(tmp_path):
    """Of libraries in a folder that ``--prefix`` does not move."""
    prefix = tmp_path / "prefix"
    options = [f"-DCMAKE_INSTALL_LIBDIR={prefix / 'lib' / 'here'}", "-DCMAKE_BUILD_TYPE=None"]
    build = build_library(tmp_path / "build", options)
    run(["cmake", "--install", build.folder, "--prefix", prefix])
    compiled_by_pkg_config(prefix, tmp_path / "check")


def test_the_static_library(prefix, arguments, tmp_path):
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.18)\nproject(user C CXX)\nfind_package(facemesh 0.1 REQUIRED)\n"
        "add_executable(check check.c)\nset_target_properties(check PROPERTIES LINKER_LANGUAGE CXX)\n"
        "target_link_libraries(check facemesh::facemesh_static m)\n"
    )
    shutil.copy(PROGRAM, tmp_path / "check.c")
    run(["cmake", "-S", tmp_path, "-B", tmp_path / "build", f"-DCMAKE_PREFIX_PATH={prefix}"])
    run(["cmake", "--build", tmp_path / "build"])
    run(check(tmp_path / "build" / "check", arguments, 1e-4))
