"""A model that runs, whatever library runs it: the `Runner` protocol and `open_runner`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.errors import FaceMeshError
from runtime.spec import ModelSpec, file_sha256

if TYPE_CHECKING:
    from runtime.mesher import Mesher
    from runtime.topology import UVTopology

ENGINE_SUFFIXES = {".engine", ".plan", ".trt"}
SHIPPED_MODEL = Path(__file__).parent / "assets" / "edge.onnx"


class Runner(Protocol):
    """Crops in, position maps out. All buffers are allocated once, when it is opened; a context manager."""

    spec: ModelSpec
    max_batch: int
    input: NDArray[np.float32]  # (max_batch, 3, S, S) or (max_batch, S, S, 3) by spec.input.layout: write the crops here

    def infer(self, n: int) -> NDArray[np.float32]:
        """Run the first ``n`` crops of ``input``: (n, 3, M, M) or (n, M, M, 3), a view that the next call overwrites."""
        ...

    def mesher(self, topology: UVTopology, dense: bool = True) -> Mesher:
        """From frames to meshes the fastest way that this runner has; ``dense`` False: landmarks alone, (0, 3) vertices."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Runner: ...

    def __exit__(self, *_: object) -> None: ...


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
    or "mapped", None is what suits the device; ``trust_engine`` takes one without a fitting manifest, see `runtime.engine_file.read_engine`.
    Raises `FaceMeshError` when the model, its spec or manifest is missing, they do not belong together, or the library is not installed.
    """
    path = SHIPPED_MODEL if model is None else Path(model)
    if max_batch < 1 or (threads is not None and threads < 1):
        raise ValueError(f"max_batch and threads must be at least 1, are {max_batch} and {threads}")
    if not path.is_file():
        raise FaceMeshError(f"{path}: no model file there; check the path, or leave it out for the shipped model")
    if path.suffix.lower() in ENGINE_SUFFIXES:
        from runtime.tensorrt_runner import open_engine

        return open_engine(path, max_batch, sync, memory, trust_engine)
    if path.suffix.lower() != ".onnx":
        raise FaceMeshError(f"{path}: no runner for {path.suffix or 'files without a suffix'}; give an .onnx model or an .engine")
    spec = load_spec(path)
    try:
        from runtime.onnx_runner import OnnxRunner
    except ModuleNotFoundError as error:
        raise FaceMeshError(f"{path}: running it needs {error.name}, which is not installed; pip install 'facemesh-edge[cpu]'") from error
    return OnnxRunner(path, spec, max_batch, threads)


def load_spec(path: Path) -> ModelSpec:
    """The spec beside the model, once it is sure that they belong together."""
    spec = ModelSpec.load(ModelSpec.path_for(path))
    check_family(path, spec)
    if (found := file_sha256(path)) != spec.onnx_sha256:
        raise FaceMeshError(
            f"{path}: its SHA-256 {found[:12]}… is not the {spec.onnx_sha256[:12]}… of {ModelSpec.path_for(path).name}; "
            "one of the two files is another version or damaged, export the model again"
        )
    return spec


def check_family(path: Path, spec: ModelSpec) -> None:
    """Raises `FaceMeshError` for what this runtime has no decoder for."""
    if spec.family != "position_map":
        raise FaceMeshError(f"{path}: models of the family {spec.family} cannot be run yet; give a position_map model")
