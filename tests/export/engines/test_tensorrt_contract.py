"""Everything that the code asks of TensorRT exists in the versions it is asked of.

``tensorrt_api.txt`` holds what the classes of the real packages have (see `tests.export.engines.introspect_tensorrt`);
here the sources are held against it by the names that variables have there: ``config.…`` is an ``IBuilderConfig``,
``trt.BuilderFlag.…`` a flag.
"""

from __future__ import annotations

import ast
import importlib
import platform
import shutil
import sys

import pytest

from tests.conftest import REPOSITORY
from tests.export.engines.introspect_tensorrt import (
    BUILDING,
    PACKAGES,
    RUNNING,
    NotAvailable,
    all_attributes,
    read_table,
)

TENSORRT = [label for label in PACKAGES if label.startswith("tensorrt-")]
LEAN = [label for label in PACKAGES if label.startswith("lean-")]
RTX = [label for label in PACKAGES if label.startswith("rtx-")]
# Module -> the packages that it must work with.
MODULES = {
    "export/engines/build_steps.py": [*TENSORRT, *RTX],
    "export/engines/tensorrt_builder.py": TENSORRT,
    "export/engines/rtx_builder.py": RTX,
    "runtime/inference/trt/messages.py": [*TENSORRT, *LEAN, *RTX],
    "runtime/inference/trt/engine.py": [*TENSORRT, *LEAN, *RTX],
    "runtime/inference/trt/rtx_contexts.py": RTX,
}
# Fewer would mean that the names are not recognised any more.
LEAST_USES = {"runtime/inference/trt/messages.py": 1, "runtime/inference/trt/rtx_contexts.py": 7}
# Name of a variable or argument in these modules -> its class. What the library gives goes by these names there.
CLASS_OF = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "fault": "ParserError",
    "profile": "IOptimizationProfile",
    "config": "IBuilderConfig",
    "cache": "ITimingCache",
    "layer": "ILayer",
    "tensor": "ITensor",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "runtime_config": "IRuntimeConfig",
    "runtime_cache": "IRuntimeCache",
}
# Used behind a test of the version: name -> the packages that it is used of, all of which have it.
GATED = {
    "NetworkDefinitionCreationFlag.EXPLICIT_BATCH": ["tensorrt-8.6"],
    "NetworkDefinitionCreationFlag.STRONGLY_TYPED": ["tensorrt-10.3", "tensorrt-10.16", *RTX],
    "BuilderFlag.FP16": ["tensorrt-8.6"],
    "BuilderFlag.INT8": ["tensorrt-8.6"],
    "BuilderFlag.OBEY_PRECISION_CONSTRAINTS": ["tensorrt-8.6"],
    "ILayer.precision": ["tensorrt-8.6"],
    "ILayer.set_output_type": ["tensorrt-8.6"],
    "PreviewFeature.PROFILE_SHARING_0806": ["tensorrt-8.6"],
    "ICudaEngine.create_execution_context_without_device_memory": ["tensorrt-8.6"],
    "ICudaEngine.device_memory_size": ["tensorrt-8.6"],
    "ICudaEngine.device_memory_size_v2": [*TENSORRT[1:], *LEAN, *RTX],
    "ExecutionContextAllocationStrategy": [*TENSORRT[1:], *LEAN, *RTX],
    "ExecutionContextAllocationStrategy.USER_MANAGED": [*TENSORRT[1:], *LEAN, *RTX],
    "IExecutionContext.set_device_memory": [*TENSORRT[1:], *LEAN, *RTX],
    "IExecutionContext.is_stream_capturable": RTX,
    "IProgressMonitor": ["tensorrt-10.3", "tensorrt-10.16", "tensorrt-11.4", *RTX],
    "IBuilderConfig.progress_monitor": ["tensorrt-10.3", "tensorrt-10.16", "tensorrt-11.4", *RTX],
}
REMOVED_IN_11 = """BuilderFlag.FP16 BuilderFlag.INT8 BuilderFlag.OBEY_PRECISION_CONSTRAINTS Builder.platform_has_fast_fp16
    IBuilderConfig.int8_calibrator IBuilderConfig.algorithm_selector IBuilderConfig.set_calibration_profile
    ILayer.precision
    ILayer.set_output_type"""


def uses(source: str) -> set[str]:
    """``Class`` of ``trt.Class``, ``Class.member`` of ``trt.Class.member``, ``Class.attribute`` of a name in
    `CLASS_OF` or ``self._name``."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Attribute):
            continue
        match node.value:
            case ast.Name(id="trt"):
                found.add(node.attr)
            case ast.Name(id=variable) if variable in CLASS_OF:
                found.add(f"{CLASS_OF[variable]}.{node.attr}")
            case ast.Attribute(value=ast.Name(id="self"), attr=variable) if variable[1:] in CLASS_OF:
                found.add(f"{CLASS_OF[variable[1:]]}.{node.attr}")
            case ast.Attribute(value=ast.Name(id="trt"), attr=cls):
                found.add(f"{cls}.{node.attr}")
    return {name for name in found if not name.rpartition(".")[2].startswith("__")}


def test_uses_are_found():
    source = (
        "class L(trt.ILogger): pass\nconfig.set_flag(trt.BuilderFlag.TF32)\n"
        "layer.precision = 3\nself._engine.x\nprint(trt.__version__)"
    )
    assert uses(source) == {
        "ILogger",
        "ICudaEngine.x",
        "IBuilderConfig.set_flag",
        "BuilderFlag",
        "BuilderFlag.TF32",
        "ILayer.precision",
    }


@pytest.mark.parametrize("module", MODULES)
def test_every_attribute_exists_in_every_version_that_it_is_used_of(module):
    table = read_table()
    used = {
        name for name in uses((REPOSITORY / module).read_text(encoding="utf-8")) if not name.endswith(".__members__")
    }
    assert len(used) >= LEAST_USES.get(module, 10)
    in_table = {*BUILDING.split(), *RUNNING.split()}
    assert {name.partition(".")[0] for name in used} <= in_table, "a class that the table leaves out"
    missing = {
        (name, label)
        for name in used
        for label in MODULES[module]
        if label in GATED.get(name, [label]) and name not in table[label]
    }
    assert not missing


def test_nothing_that_11_removed_is_used_of_it():
    """The table agrees with the migration guide (docs.nvidia.com, TensorRT 11.4, "Removed Python APIs"), and `GATED`
    with both."""
    table = read_table()
    for name in REMOVED_IN_11.split():
        assert name in table["tensorrt-10.3"]
        assert name not in table["tensorrt-11.4"]
    assert not [
        name for name, labels in GATED.items() if name not in table["tensorrt-11.4"] and "tensorrt-11.4" in labels
    ]


@pytest.mark.parametrize("label", LEAN)
def test_lean_has_the_classes_that_run_engines_and_none_that_build_them(label):
    """The same attributes as the library of its version: what runs engines with one runs them with the other."""
    table = read_table()
    full = table[label.replace("lean", "tensorrt")]
    assert {
        "Runtime.deserialize_cuda_engine",
        "ICudaEngine.num_io_tensors",
        "IExecutionContext.execute_async_v3",
    } <= table[label] & full
    running = {name for name in full if name.partition(".")[0] in RUNNING.split()}
    assert running <= table[label]
    assert not {"Builder", "OnnxParser", "INetworkDefinition"} & table[label]


def test_installed_tensorrt_rtx_is_what_the_table_says():
    library = pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
    for name in {
        name
        for module, labels in MODULES.items()
        if labels[-1:] == RTX
        for name in uses((REPOSITORY / module).read_text(encoding="utf-8"))
    }:
        if RTX[0] not in GATED.get(name, RTX):
            continue
        found = library
        for part in name.split("."):
            assert hasattr(found, part), name
            found = getattr(found, part)


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="needs the packages for x86-64 Linux"
)
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_the_table_is_what_the_packages_say():
    if importlib.util.find_spec("pip") is None:
        pytest.skip("needs pip")
    found = all_attributes(list(PACKAGES))
    looked_at = {label: names for label, names in found.items() if not isinstance(names, NotAvailable)}
    if not looked_at:
        pytest.skip(f"no package can be had: {found[RTX[0]]}")
    table = read_table()
    for label, names in looked_at.items():
        assert set(names) == table[label], label
