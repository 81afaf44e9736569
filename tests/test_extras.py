"""The extras of pyproject.toml: nothing for desktops on a Jetson, no PyTorch unasked, and every hint names one."""

from __future__ import annotations

import re
import sys

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from runtime.console.extras import EXTRA_OF, remedy

tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")

LINUX = {"sys_platform": "linux", "platform_system": "Linux", "python_version": "3.10"}
DESKTOP = {**LINUX, "platform_machine": "x86_64", "platform_release": "6.8.0-45-generic"}
JETSON = {**LINUX, "platform_machine": "aarch64", "platform_release": "5.15.148-tegra"}
THOR = {**JETSON, "python_version": "3.12", "platform_release": "6.8.12-tegra"}
SERVER = {**DESKTOP, "platform_machine": "aarch64"}
# Distribution -> module, where the names differ.
DISTRIBUTIONS = {"onnx_ir": "onnx-ir", "skimage": "scikit-image", "pynvml": "nvidia-ml-py", "cuda": "cuda-bindings"}
DISTRIBUTIONS |= {"tensorrt": "tensorrt-cu13", "tensorrt_rtx": "tensorrt-rtx"}
TORCH = {"train", "dev"}  # extras that bring it


@pytest.fixture(scope="module")
def project(request):
    return tomllib.loads((request.config.rootpath / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def installed(project, extra, machine):
    """Return distribution -> requirement of everything that an extra and the package itself ask for by name."""
    extras = project["optional-dependencies"]
    waiting = [*project["dependencies"], *extras[extra]]
    found = {}
    while waiting:
        requirement = Requirement(waiting.pop())
        if requirement.marker and not requirement.marker.evaluate({**machine, "extra": ""}):
            continue
        if requirement.name == project["name"]:
            waiting += [line for name in requirement.extras for line in extras[name]]
        else:
            found[requirement.name] = requirement
    return found


def extras_of(project):
    return sorted(project["optional-dependencies"])


@pytest.mark.parametrize("machine", [JETSON, THOR], ids=["JetPack 6", "JetPack 7"])
def test_a_jetson_keeps_what_jetpack_brings(project, machine):
    for extra in extras_of(project):
        found = installed(project, extra, machine)
        assert not [name for name in found if name.startswith(("opencv", "tensorrt"))], extra
        assert not found["numpy"].specifier.contains("2.2.0"), extra  # JetPack's OpenCV was compiled against NumPy 1
        assert found["numpy"].specifier.contains("1.21.5"), extra  # of Ubuntu 22.04


@pytest.mark.parametrize("machine", [DESKTOP, SERVER], ids=["x86-64", "aarch64"])
def test_elsewhere_opencv_and_tensorrt_come_along(project, machine):
    for extra in extras_of(project):
        found = installed(project, extra, machine)
        assert "opencv-python-headless" in found, extra
        assert ("tensorrt-cu13" in found) == (extra == "trt")
        assert ("tensorrt-cu12" in found) == (extra == "trt-cu12")
        assert ("tensorrt-rtx" in found) == (extra in {"rtx", "dev"})


@pytest.mark.parametrize(
    ("machine", "newest"), [(DESKTOP, "11.4.0.106"), (SERVER, "10.13.0.35")], ids=["x86-64", "aarch64"]
)
def test_tensorrt_for_cuda_12_is_one_whose_bindings_there_are(project, machine, newest):
    specifier = installed(project, "trt-cu12", machine)["tensorrt-cu12"].specifier
    assert max(specifier.filter(["10.13.0.35", "11.4.0.106"]), key=Version) == newest


def test_pytorch_comes_where_networks_are_trained_or_checkpoints_read(project):
    assert {extra for extra in extras_of(project) if "torch" in installed(project, extra, DESKTOP)} == TORCH


def test_engines_need_no_package_that_has_to_be_compiled(project):
    assert {extra for extra in extras_of(project) if "pycuda" in installed(project, extra, DESKTOP)} == {"pycuda"}


@pytest.mark.parametrize("extra", ["trt", "trt-cu12", "rtx", "jetson"])
def test_who_gets_a_builder_gets_what_export_engine_imports(project, extra):
    assert {"onnx", "onnxruntime", "tqdm"} <= installed(project, extra, DESKTOP).keys()


# Engines for tensorrt_lean run with all of TensorRT, too.
@pytest.mark.parametrize("machine", [DESKTOP, SERVER], ids=["x86-64", "aarch64"])
@pytest.mark.parametrize("library", sorted(EXTRA_OF.keys() - {"tensorrt_lean"}))
def test_the_hint_of_a_missing_library_installs_it(project, library, machine):
    found = installed(project, EXTRA_OF[library], machine)
    assert DISTRIBUTIONS.get(library, library) in found


def test_every_extra_has_a_command_that_tries_it(project, repository):
    program = (repository / "tests" / "programs" / "extras.sh").read_text(encoding="utf-8")
    labels = re.findall(r"^        ([a-z][a-z0-9 |-]*)\) ?", program, re.MULTILINE)
    assert {name for label in labels for name in label.split(" | ")} == set(extras_of(project))


def test_on_a_jetson_the_hint_is_jetpack(monkeypatch):
    monkeypatch.setattr("platform.release", lambda: "5.15.148-tegra")
    assert "--system-site-packages" in remedy("tensorrt")
    assert "pip install" not in remedy("tensorrt_rtx")  # which the extra leaves out
    assert "facemesh-edge[cpu]" in remedy("onnxruntime")


def test_without_opencv_the_import_is_one_line(monkeypatch):
    monkeypatch.delitem(sys.modules, "runtime")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="libopencv-python") as caught:
        __import__("runtime")
    assert "\n" not in str(caught.value)


def test_slow_tests_get_the_environments_that_they_are_skipped_without(repository):
    makefile = (repository / "Makefile").read_text(encoding="utf-8")
    made = set(re.findall(r"^\$\(VENV\)/(\w+)\.stamp:", makefile, re.MULTILINE)) - {"demo"}
    (wanted,) = re.findall(r"^test-slow:(.*)$", makefile, re.MULTILINE)
    assert made == set(re.findall(r"\$\(VENV\)/(\w+)\.stamp", wanted))
