"""The import rules of the house; `tests.test_import_graph` has those between modules.

1. Packages import in one direction: runtime <- calibration, training <- export <- benchmarks.
2. Importing any module needs the standard library, numpy and OpenCV. Every other library has home modules that import
   it plainly at their top; everybody else imports the home module inside a function.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "runtime": {"runtime"},
    "calibration": {"calibration", "runtime"},
    "training": {"training", "runtime"},
    "export": {"export", "calibration", "training", "runtime"},
    "benchmarks": {"benchmarks", "export", "calibration", "training", "runtime"},
}
EVERYWHERE = {*sys.stdlib_module_names, "numpy", "cv2"}
PASSES = {
    *("export.passes.absorb_crop", "export.passes.absorb_padding", "export.passes.block_narrow"),
    *("export.passes.flip_transposed", "export.passes.fold_batch_norm", "export.passes.fold_constants"),
    *("export.passes.graph", "export.passes.split_batch_norm", "export.passes.subpixel_transposed"),
}
# Library -> its home modules. PyTorch has several: modules whose business it is.
HOMES = {
    "av": {"runtime.outputs.h264_film", "runtime.sources.pyav_film"},
    "cuda": {"runtime.cuda.cuda_python_binding"},
    "gi": {"runtime.native.examples.deepstream_probes"},
    # Protobuf, for the error of a damaged ONNX file.
    "google": {"calibration.precision.model_file"},
    "jinja2": {"benchmarks.report.page"},
    "jtop": {"benchmarks.records.jetson"},
    "matplotlib": {
        *("benchmarks.latency.soak_chart", "benchmarks.report.charts", "benchmarks.robustness.chart"),
        "benchmarks.films.jitter_chart",
        *("calibration.accuracy.loss_chart", "training.curve", "training.confidence.reliability_diagram"),
    },
    "mediapipe": {"benchmarks.peers.mediapipe_worker"},
    "onnx": {
        "benchmarks.gpu.without_tensorrt.onnx_in_torch",
        *("export.engines.engine_source", "export.engines.half_tensors"),
        *("export.graphs.fp16", "export.graphs.model_file"),
        *("export.checks.agreement", "export.checks.half_loss", "export.checks.views", "export.graphs.own_range"),
        "export.graphs.heavy_weights",
        *("export.passes.fold_constants", "training.networks.folded"),
        *("export.graphs.rewrite", "export.graphs.summary", "export.graphs.to_onnx", "export.graphs.verify"),
        *("export.graphs.yunet", "export.graphs.foreign"),
        *("calibration.precision.equalise", "calibration.precision.half", "calibration.precision.half_rounding"),
        *("calibration.precision.model_file", "calibration.precision.qdq", "calibration.ranges.sessions"),
        "calibration.precision.vector_products",
    },
    "onnx_ir": {*PASSES, "export.graphs.fp16", "export.graphs.heavy_weights", "export.graphs.rewrite"},
    "onnxruntime": {
        *("export.graphs.verify", "runtime.inference.onnx_runner", "runtime.inference.onnx_providers"),
    },
    "onnxsim": {"export.graphs.rewrite"},
    "nvtx": {"benchmarks.records.nvtx_ranges"},
    "pyarrow": {
        *("runtime.archives.face_rows", "runtime.archives.pictures"),
        *("runtime.archives.places", "runtime.archives.plan"),
    },
    "pyds": {"runtime.native.examples.deepstream_probes"},
    "pycuda": {"runtime.cuda.pycuda_binding"},
    "pygltflib": {"runtime.outputs.glb"},
    "pynvml": {"benchmarks.records.nvml"},
    "pytest": {"benchmarks.suites.conftest"},
    "safetensors": {"export.checkpoints.safetensors_file"},
    "scipy": {"benchmarks.latency.sen_slope"},
    # ROS 2
    "hri_msgs": {"runtime.serving.ros2_node"},
    "rclpy": {"runtime.serving.ros2_node"},
    "sensor_msgs": {"runtime.serving.ros2_node"},
    "ray": {"runtime.archives.ray_pool"},
    "skimage": {"benchmarks.peers.prnet"},
    "threadpoolctl": {"benchmarks.peers.thread_limit"},
    "tensorrt": {"export.engines.tensorrt_builder"},
    "tensorrt_rtx": {"export.engines.rtx_builder"},
    "torch": {
        *("training.networks.edge", "training.networks.prnet", "training.uv.targets", "training.loop"),
        *("training.compression", "training.checkpoints", "training.networks.folded", "training.uv.hand_points"),
        *("training.confidence.error_samples", "training.confidence.fit_head", "training.confidence.reliability"),
        "training.networks.confidence",
        *("training.averaging", "training.networks.inputs", "training.start", "training.uv.labelled_faces"),
        *("training.uv.map_objective", "training.coefficients.critic", "training.coefficients.face_numbers"),
        *("training.coefficients.losses", "training.coefficients.objective", "training.coefficients.start"),
        *("training.networks.two_dasl", "training.networks.mb05", "training.networks.edge_coefficients"),
        "training.networks.e2far",
        "training.eyes.eye_network",
        "training.networks.low_rank",
        *("export.checkpoints.checkpoint", "export.graphs.to_onnx"),
        *("training.networks.untrained", "benchmarks.peers.mb05"),
        *("benchmarks.gpu.without_tensorrt.onnx_in_torch", "benchmarks.gpu.without_tensorrt.torch_network"),
    },
    "tqdm": {"runtime.console.progress"},
    "triton_python_backend_utils": {"runtime.serving.triton_model"},
    "tritonclient": {"benchmarks.serving.triton_load"},
}


def modules() -> dict[str, Path]:
    """Return dotted name -> file, of every module of the five packages."""
    found = {}
    for path in (path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(tree: ast.AST, *, executed_only: bool = False) -> Iterator[tuple[str, bool]]:
    """Yield the root name of every import in the tree, functions included, and True for a relative one.

    ``executed_only`` leaves out imports for type checkers.
    """
    for node in ast.iter_child_nodes(tree):
        if executed_only and isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0], node.level > 0
        else:
            yield from imported(node, executed_only=executed_only)


def direction_faults(module: str, tree: ast.AST) -> list[str]:
    allowed = MAY_IMPORT[module.partition(".")[0]]
    names = list(imported(tree))
    faults = [f"{module}: relative import" for _, is_relative in names if is_relative]
    return faults + [f"{module} imports {name}" for name, _ in names if name in {*MAY_IMPORT, "tests"} - allowed]


def library_faults(module: str, tree: ast.AST) -> list[str]:
    names = {name for name, is_relative in imported(tree, executed_only=True) if not is_relative}
    strangers = names - EVERYWHERE - {*MAY_IMPORT, "tests"}
    faults = [name for name in strangers if module not in HOMES.get(name, ())]
    return [f"{module} imports {name}, at home in {HOMES.get(name, 'no module yet')}" for name in faults]


@cache
def parsed() -> dict[str, ast.AST]:
    return {module: ast.parse(path.read_text(encoding="utf-8"), str(path)) for module, path in modules().items()}


def test_packages_import_in_one_direction():
    faults = [fault for module, tree in parsed().items() for fault in direction_faults(module, tree)]
    assert not faults


def test_libraries_are_imported_in_their_home_modules_alone():
    faults = [fault for module, tree in parsed().items() for fault in library_faults(module, tree)]
    assert not faults


def test_home_modules_exist_and_import_plainly_at_their_top():
    trees = parsed()
    for library, homes in HOMES.items():
        for home in homes:
            assert home in trees, f"HOMES names {home}, which is gone"
            top = ast.Module([node for node in trees[home].body if isinstance(node, (ast.Import, ast.ImportFrom))], [])
            assert library in {name for name, _ in imported(top)}, f"{home} does not import {library} at its top"


@pytest.mark.parametrize(
    ("module", "source", "faults"),
    [
        ("runtime.x", "import numpy as np, cv2\nfrom runtime.errors import FaceMeshError\nfrom pathlib import Path", 0),
        ("runtime.x", "def f():\n    from training.data.labels import load_labels", 1),
        ("training.x", "import export.graphs.to_onnx", 1),
        ("benchmarks.x", "from tests import conftest", 1),
        ("runtime.x", "from .errors import FaceMeshError", 1),
        ("runtime.x", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch", 0),
        ("runtime.x", "class A:\n    def f(self):\n        import onnxruntime", 1),
        ("runtime.x", "try:\n    import scipy.io\nexcept ImportError:\n    pass", 1),
        ("export.x", "import unheard_of", 1),
        ("runtime.inference.onnx_runner", "import onnxruntime", 0),
    ],
)
def test_the_rules_find_what_breaks_them(module, source, faults):
    tree = ast.parse(source)
    assert len(direction_faults(module, tree) + library_faults(module, tree)) == faults


IMPORT_ALL_BARE = """
import importlib, json, sys

class Bare:  # as if nothing but these were installed
    def __init__(self, allowed):
        self.allowed = allowed
    def find_spec(self, name, path=None, target=None):
        root = name.partition(".")[0]
        if root not in self.allowed:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

modules, allowed = json.load(sys.stdin)
sys.meta_path.insert(0, Bare(set(allowed)))
result = {}
for module in modules:
    try:
        importlib.import_module(module)
        result[module] = None
    except ModuleNotFoundError as error:
        result[module] = error.name.partition(".")[0]
    except Exception as error:
        result[module] = repr(error)
json.dump(result, sys.stdout)
"""


def test_every_module_imports_without_optional_libraries(tmp_path):
    """Only the standard library, numpy and OpenCV can be found; home modules fail by their own library."""
    (tmp_path / "import_all.py").write_text(IMPORT_ALL_BARE)
    run = subprocess.run(
        [sys.executable, tmp_path / "import_all.py"],
        input=json.dumps([sorted(modules()), sorted({*EVERYWHERE, *MAY_IMPORT})]),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    faults = {}
    for module, missing in json.loads(run.stdout).items():
        own = {library for library, homes in HOMES.items() if module in homes}
        if (missing is None) == bool(own) or (missing and missing not in own):
            faults[module] = missing
    assert not faults, f"want a library that is not at home in them, or do not need the one that is: {faults}"
