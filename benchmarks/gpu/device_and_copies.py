"""Parts of `benchmarks.gpu.gpu_report`: facts of the device, building engines, and copies.

Each part opens its resources, yields measured rows or returns facts, and closes all.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.clocks import Facts, Row, SeriesLength, record_row, take_series, time_on_host
from benchmarks.gpu.kernels import BATCHES
from benchmarks.gpu.scene import PartSkipped, TimedDevice, frame
from runtime.cuda.driver import find_device
from runtime.cuda.open_cuda import open_cuda
from runtime.families.table import FAMILIES, open_family
from runtime.families.uv_topology import load_topology
from runtime.inference.trt.libraries import choose, installed
from runtime.models.manifest import LIBRARIES
from runtime.models.spec import ModelSpec, with_face_model


def describe_device() -> Facts:
    """Describe the device, its binding, the libraries that run engines on it, and the build of the native module."""
    from runtime import _native

    libraries = {name: [f"{module.__name__} {module.__version__}" for module in installed(name)] for name in LIBRARIES}
    with open_cuda() as cuda:
        free, total = cuda.memory_info()
        facts = {
            "name": cuda.name,
            "compute_capability": cuda.compute_capability,
            "shares_memory_with_host": cuda.integrated,
            "memory_mib": total >> 20,
            "free_mib": free >> 20,
            "binding": type(cuda).__module__.rpartition(".")[2],
            "kernels": cuda.kernels is not None,
            "libraries": libraries,
        }
    if _native.has_cuda:
        facts["kernels_built_with_cuda"] = _native.cuda_toolkit
        facts["kernels_built_for"] = _native.cuda_architectures
    return facts


def build(model: str, library: str, output: str, face_model: str | None = None) -> Facts:
    """Build an engine, for one to 16 faces if the model leaves the batch free; return its facts.

    ``face_model`` is for a network of coefficients: the engine's manifest names it.
    """
    from export.engines.build_engine import build_engine
    from export.engines.build_steps import EngineOptions
    from export.engines.engine_source import open_source

    source = open_source(Path(model))
    if isinstance(source.spec, ModelSpec) and FAMILIES[source.spec.family].has_face_model:
        spec = with_face_model(source.spec, Path(model), face_model and Path(face_model))
        source = dataclasses.replace(source, spec=spec)
        open_family(spec).topology  # noqa: B018  a face model that is missing or does not fit is told here, once
    batch = (1, 1, BATCHES[-1]) if source.batch is None else None
    started = time.monotonic()
    manifest = build_engine(source, EngineOptions(library=library, batch=batch), Path(output))
    seconds = time.monotonic() - started
    if reason := choose(manifest, find_device())[1]:
        raise PartSkipped(reason)
    return {
        "model": Path(model).name,
        "model_sha256": manifest.spec.onnx_sha256,
        "precision": manifest.spec.precision,
        "library": library,
        "version": manifest.version,
        "batch": list(manifest.batch),
        "megabytes": round(Path(output).stat().st_size / 1e6, 2),
        "build_s": round(seconds, 1),
    }


def torch_version() -> Facts:
    """Return the version of a PyTorch that can use the device; without one the part is left out."""
    if find_spec("torch") is None:
        raise PartSkipped("PyTorch is not installed")
    from benchmarks.gpu.without_tensorrt.torch_network import require_cuda, version

    require_cuda()
    return {"version": version()}


def copies(length: SeriesLength) -> Iterator[Row]:
    """Measure the upload of a frame and the download of its results, by the device's clock.

    The copy within the host's memory is measured by the host's clock.
    """
    picture, nbytes = frame().ravel(), frame().nbytes
    count = len(load_topology().canonical_vertices)
    with TimedDevice() as device:
        cuda, stream = device.cuda, device.stream
        pinned, buffer = cuda.host_buffer(nbytes), cuda.device_buffer(nbytes)
        # Host to host.
        copy = time_on_host(lambda: np.copyto(pinned.array, picture))
        yield _rated("host copies the frame", take_series(copy, length), nbytes)
        # Device to host.
        for name, points in ((f"{count:,} vertices down", count + 68), ("68 landmarks down", 68)):
            download = partial(cuda.download, pinned.pointer, buffer.pointer, 12 * points, stream)
            yield _rated(name, take_series(device.timed(download), length), 12 * points)
        # Host to device.
        for name, pointer in (("frame up, pinned", pinned.pointer), ("frame up, pageable", picture.ctypes.data)):
            upload = partial(cuda.upload, buffer.pointer, pointer, nbytes, stream)
            yield _rated(name, take_series(device.timed(upload), length), nbytes)


def _rated(name: str, milliseconds: NDArray[np.float64], nbytes: int) -> Row:
    rate = nbytes / max(float(np.median(milliseconds)), 1e-6) / 1e6
    return record_row(name, milliseconds, kilobytes=round(nbytes / 1e3, 1), gigabytes_per_s=round(rate, 2))
