"""Open a model file with the backend for its suffix."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from runtime.errors import FaceMeshError
from runtime.inference.guided_runner import GuidedRunner
from runtime.inference.interface import Runner, RunnerOptions
from runtime.models.file_kinds import refuse_other_kind
from runtime.models.shipped import shipped_model
from runtime.models.spec import ModelSpec

# Suffix of a model file -> the backend's module and the extra of this distribution that installs its library.
BACKENDS = {
    ".onnx": ("runtime.inference.onnx_runner", "cpu"),
    ".engine": ("runtime.inference.trt.runner", "trt"),
    ".plan": ("runtime.inference.trt.runner", "trt"),
    ".trt": ("runtime.inference.trt.runner", "trt"),
}


def open_runner(
    model: str | os.PathLike[str] | None = None,
    max_batch: int = 8,
    threads: int | None = None,
    *,
    precision: str | None = None,
    sync: str = "spin",
    memory: str | None = None,
    trust_engine: bool = False,
    provider: str | None = None,
    face_model: str | os.PathLike[str] | None = None,
    landmarks_from: str | os.PathLike[str] | None = None,
    reuse_landmarks: bool = False,
) -> Runner:
    """Open a model file; None is the shipped model, and ``precision`` ("fp32", "fp16" or "int8") chooses its form.

    Without a ``precision`` it is the fastest on this machine's cores, see `runtime.models.shipped.shipped_model`;
    ``spec.precision`` of the runner tells it. ``max_batch`` faces run in one call. ``threads`` is for CPUs, None leaves
    the number to the backend. ``sync`` ("spin" or "block"), ``memory`` ("copy", "mapped" or None) and ``trust_engine``
    are for engines (.engine, .plan, .trt), see `RunnerOptions` and `runtime.inference.trt.engine_file.read_engine`.
    ``provider`` ("cuda", "tensorrt", "nv-tensorrt-rtx") runs an .onnx file on a GPU, see
    `runtime.inference.onnx_providers`; the shipped model is then FP16.
    ``face_model`` is for networks of coefficients; None is the one that the model's spec names. ``landmarks_from`` is
    the model file of a first network, for a model that takes landmarks beside the picture; with ``reuse_landmarks``
    faces that are tracked are given those of their last frame instead, see `GuidedRunner`.
    Raises `FaceMeshError` if the model, its spec or manifest is missing, if they do not belong together, if the
    library is not installed, and for a precision that is not shipped or comes with a model file.
    """
    chosen = None if face_model is None else Path(face_model)
    options = RunnerOptions(max_batch, threads, sync, memory, trust_engine, provider, chosen)
    if model is not None and precision is not None:
        problem = f"precision {precision} chooses a form of the shipped model"
        raise FaceMeshError(f"{os.fspath(model)}: {problem}; leave one of the two out")
    if provider is not None:
        precision = precision or "fp16"  # the INT8 form is one for CPUs
    path = shipped_model(precision) if model is None else Path(model)
    runner = _open(path, options)
    if landmarks_from is None:
        return runner
    with ExitStack() as stack:
        stack.enter_context(runner)
        first = stack.enter_context(_open(Path(landmarks_from), replace(options, face_model=None)))
        guided = GuidedRunner(runner, first, reuse_landmarks)
        stack.pop_all()
        return guided


def require_trained(spec: ModelSpec) -> None:
    """Raise `FaceMeshError` for a model of random weights."""
    if spec.untrained:
        problem = f"{spec.name} is untrained: its weights are random, for timing, and its meshes mean nothing"
        raise FaceMeshError(f"{problem}; give a trained model ('python -m runtime.run --untrained' times this one)")


def _open(path: Path, options: RunnerOptions) -> Runner:
    """Open one model file. Raises `FaceMeshError`."""
    if not os.path.isfile(path):  # False for names that are too long, too
        raise FaceMeshError(f"{path}: no model file there; check the path, or leave it out for the shipped model")
    refuse_other_kind(path, "model")
    if path.suffix.lower() not in BACKENDS:
        known = "give an .onnx model or an .engine"
        raise FaceMeshError(f"{path}: no runner for {path.suffix or 'files without a suffix'}; {known}")
    if options.provider is not None and path.suffix.lower() != ".onnx":
        problem = f"this is an engine, and the provider {options.provider} of ONNX Runtime runs .onnx models"
        raise FaceMeshError(f"{path}: {problem}; leave --provider out, or give the model that it was built from")
    module, extra = BACKENDS[path.suffix.lower()]
    try:
        backend = import_module(module)
    except ModuleNotFoundError as error:
        remedy = f"pip install 'facemesh-edge[{extra}]'"
        raise FaceMeshError(f"{path}: running it needs {error.name}, which is not installed; {remedy}") from error
    return backend.open_model(path, options)
