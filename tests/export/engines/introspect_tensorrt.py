"""Which attributes the classes of TensorRT have, by version, from the real Python packages: ``python -m
tests.export.engines.introspect_tensorrt``.

Writes ``tensorrt_api.txt`` beside this file: one line per attribute, ``Class.attribute`` and the packages that have it;
names of the module itself have no class. The packages hold the classes, megabytes each; the libraries behind them
(gigabytes, and for TensorRT not in the public registry) are replaced by empty ones with the few symbols that importing
asks for, so nothing of this can be called. Needs x86-64 Linux, pip, a C compiler, and an interpreter that the packages
support: 8.6.1 ends at Python 3.11.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TABLE = Path(__file__).with_name("tensorrt_api.txt")
# Label -> package, its version, the module in it, the libraries that it links to.
INFER = ("libnvinfer.so.{0}", "libnvonnxparser.so.{0}", "libnvinfer_plugin.so.{0}", "libnvparsers.so.{0}")
PACKAGES = {
    "tensorrt-8.6": ("tensorrt-bindings", "8.6.1", "tensorrt_bindings", INFER),
    "tensorrt-10.3": ("tensorrt-cu12-bindings", "10.3.0", "tensorrt_bindings", INFER),  # JetPack 6.2
    "tensorrt-10.16": ("tensorrt-cu13-bindings", "10.16.1.11", "tensorrt_bindings", INFER),
    "tensorrt-11.4": ("tensorrt-cu13-bindings", "11.4.0.106", "tensorrt_bindings", INFER),
    "lean-10.16": ("tensorrt-lean-cu13-bindings", "10.16.1.11", "tensorrt_lean_bindings", ("libnvinfer_lean.so.{0}",)),
    "lean-11.4": ("tensorrt-lean-cu13-bindings", "11.4.0.106", "tensorrt_lean_bindings", ("libnvinfer_lean.so.{0}",)),
    "rtx-1.7": (
        "tensorrt-rtx-cu13-bindings",
        "1.7.1.116",
        "tensorrt_rtx_bindings",
        ("libtensorrt_rtx.so.1", "libtensorrt_onnxparser_rtx.so.1"),
    ),
}
# What export and runtime may need; other classes are left out of the table.
BUILDING = """Builder IBuilderConfig INetworkDefinition ILayer ITensor OnnxParser ParserError IOptimizationProfile IProgressMonitor ITimingCache
    BuilderFlag PreviewFeature NetworkDefinitionCreationFlag MemoryPoolType DeviceType LayerType HardwareCompatibilityLevel ComputeCapability"""
RUNNING = """ILogger IHostMemory DataType Dims Runtime ICudaEngine IExecutionContext IRuntimeConfig IRuntimeCache TensorIOMode TensorLocation
    ExecutionContextAllocationStrategy CudaGraphStrategy DynamicShapesKernelSpecializationStrategy EngineValidity"""
SYMBOLS = """createInferBuilder_INTERNAL createInferRefitter_INTERNAL createInferRuntime_INTERNAL createNvOnnxParser_INTERNAL
    createNvOnnxParserRefitter_INTERNAL getBuilderPluginRegistry getNvOnnxParserVersion getPluginRegistry
    initLibNvInferPlugins _ZN11nvuffparser15createUffParserEv _ZN11nvuffparser8FieldMapC1EPKcPKvNS_9FieldTypeEi
    _ZN14nvcaffeparser117createCaffeParserEv
    _ZN14nvcaffeparser123shutdownProtobufLibraryEv"""
LIST_ATTRIBUTES = """
import importlib, json, sys
module, classes = importlib.import_module(sys.argv[1]), sys.argv[2:]
found = [name for name in dir(module) if name in classes]
for name in list(found):
    cls = getattr(module, name)
    members = getattr(cls, "__members__", None)
    found += [f"{name}.{attribute}" for attribute in (members or dir(cls)) if not attribute.startswith("_")]
print(json.dumps(found))
"""


class NotAvailable(Exception):
    """The package cannot be had for this interpreter, or the registry cannot be reached."""


def attributes(label: str, folder: Path) -> list[str]:
    """``Class`` and ``Class.attribute`` of one package, unpacked into ``folder``. Raises `NotAvailable`."""
    package, version, module, libraries = PACKAGES[label]
    place = folder / label
    pip = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--dest",
        str(place),
        f"{package}=={version}",
    ]
    run = subprocess.run(pip, capture_output=True, text=True)
    if run.returncode != 0:
        raise NotAvailable(f"{package} {version}: {(run.stderr.strip().splitlines() or ['pip failed'])[-1]}")
    for wheel in place.glob("*.whl"):
        zipfile.ZipFile(wheel).extractall(place)
    stub = place / "stub.c"
    stub.write_text("".join(f"int {symbol}(void) {{ return 0; }}\n" for symbol in SYMBOLS.split()))
    for library in libraries:
        name = library.format(version.split(".")[0])
        subprocess.run(
            ["cc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(place / name), str(stub)], check=True
        )
    environment = {**os.environ, "LD_LIBRARY_PATH": str(place), "PYTHONPATH": str(place)}
    command = [sys.executable, "-c", LIST_ATTRIBUTES, module, *BUILDING.split(), *RUNNING.split()]
    return json.loads(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def all_attributes(labels: list[str]) -> dict[str, list[str] | NotAvailable]:
    """Label -> `attributes`, or why it could not be looked at."""

    def look(label: str) -> list[str] | NotAvailable:
        try:
            return attributes(label, Path(folder))
        except NotAvailable as error:
            return error

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as pool:
        return dict(zip(labels, pool.map(look, labels), strict=True))


def read_table() -> dict[str, set[str]]:
    """Label -> the attributes that the committed table gives it."""
    table = defaultdict(set)
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        name, *labels = line.split()
        for label in labels:
            table[label].add(name)
    return dict(table)


def main() -> None:
    found = all_attributes(list(PACKAGES))
    if missing := [str(reason) for reason in found.values() if isinstance(reason, NotAvailable)]:
        sys.exit("\n".join(missing))
    names = sorted({name for listed in found.values() for name in listed})
    TABLE.write_text(
        "".join(" ".join([name, *(label for label in PACKAGES if name in found[label])]) + "\n" for name in names),
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
