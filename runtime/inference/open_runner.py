"""A model that runs, whatever library runs it: the `Runner` protocol and `open_runner`."""

from __future__ import annotations

import os
from pathlib import Path

from runtime.errors import FaceMeshError
from runtime.inference.interface import Runner
from runtime.models.shipped import SHIPPED_MODEL
from runtime.models.spec import load_spec

ENGINE_SUFFIXES = {".engine", ".plan", ".trt"}


def open_runner(
    model: str | os.PathLike[str] | None = None,
    max_batch: int = 8,
    threads: int | None = None,
    *,
    sync: str = "spin",
    memory: str | None = None,
    trust_engine: bool = False,
) -> Runner:
    """Open a model file with the library that its suffix asks for; None is the shipped model.

    ``max_batch`` faces run in one call; ``threads`` None leaves the number to the library's runner. An engine (.engine, .plan, .trt) runs on the
    GPU where its manifest says so: ``sync`` is how to wait for it, "spin" or "block"; ``memory`` how frames and points come there and back, "copy"
    or "mapped", None is what suits the device; ``trust_engine`` takes one without a fitting manifest, see `runtime.inference.trt.engine_file.read_engine`.
    Raises `FaceMeshError` when the model, its spec or manifest is missing, they do not belong together, or the library is not installed.
    """
    path = SHIPPED_MODEL if model is None else Path(model)
    if max_batch < 1 or (threads is not None and threads < 1):
        raise ValueError(f"max_batch and threads must be at least 1, are {max_batch} and {threads}")
    if not path.is_file():
        raise FaceMeshError(f"{path}: no model file there; check the path, or leave it out for the shipped model")
    if path.suffix.lower() in ENGINE_SUFFIXES:
        from runtime.inference.trt.runner import open_engine

        return open_engine(path, max_batch, sync, memory, trust_engine)
    if path.suffix.lower() != ".onnx":
        raise FaceMeshError(f"{path}: no runner for {path.suffix or 'files without a suffix'}; give an .onnx model or an .engine")
    spec = load_spec(path)
    try:
        from runtime.inference.onnx_runner import OnnxRunner
    except ModuleNotFoundError as error:
        raise FaceMeshError(f"{path}: running it needs {error.name}, which is not installed; pip install 'facemesh-edge[cpu]'") from error
    return OnnxRunner(path, spec, max_batch, threads)
