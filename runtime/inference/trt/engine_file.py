"""Read an engine file. Its manifest is judged first, because loading an engine runs code that is in it."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from runtime.console.extras import REPAIR
from runtime.console.extras import remedy as install_remedy
from runtime.cuda.driver import find_device
from runtime.errors import FaceMeshError
from runtime.errors import reason as cause
from runtime.inference.trt.libraries import choose, fault, installed
from runtime.models.detector_spec import AnySpec, load_any_spec
from runtime.models.manifest import EngineManifest
from runtime.models.spec import ModelSpec, with_face_model
from runtime.storage.bounded_files import read_bounded

NEEDS_TRUST = (
    "loading an engine runs code that is in it: "
    "one without a fitting manifest is taken with --trust-engine (trust_engine=True) alone"
)


@dataclass(frozen=True)
class EngineFile:
    """The input of `runtime.inference.trt.engine.Engine`."""

    path: Path
    data: bytes  # of the file
    spec: AnySpec
    library: ModuleType  # tensorrt, tensorrt_lean or tensorrt_rtx
    host_code: bool  # whether the engine may bring code for the CPU: version-compatible ones do
    dla_core: int | None = None
    command: str = "python -m export engine"  # builds it again


def read_engine(path: Path, trust: bool = False, face_model: Path | None = None) -> EngineFile:
    """Read an engine after its manifest: the hash must fit, and this machine must be able to run it.

    ``trust`` takes an engine without a fitting manifest. The spec then comes from a manifest of an earlier build, or
    from the ONNX file of the same name (model.engine: model.onnx.json). The library is TensorRT if it is installed,
    else TensorRT-RTX. ``face_model`` as in `runtime.models.spec.with_face_model`. Raises `FaceMeshError`.
    """
    try:
        data = read_bounded(path)
    except OSError as error:
        raise FaceMeshError(f"{path}: cannot be read ({cause(error)}); check the path and its permissions") from error
    try:
        manifest = EngineManifest.load_for(path, hashlib.sha256(data).hexdigest())
    except FaceMeshError as error:
        if not trust:
            raise FaceMeshError(f"{error}; {NEEDS_TRUST}") from None
        return _trusted(path, data, face_model)
    device = find_device()
    library, reason = choose(manifest, device)
    if library is None or reason is not None:
        raise FaceMeshError(f"{path}: {reason}")
    if doubt := manifest.doubt(device):
        warnings.warn(f"{path}: {doubt}", RuntimeWarning, stacklevel=2)
    spec = _placed(manifest.spec, path, face_model)
    return EngineFile(path, data, spec, library, manifest.version_compatible, manifest.dla_core, manifest.command)


def _placed(spec: AnySpec, path: Path, face_model: Path | None) -> AnySpec:
    """Return the spec with the place of its topology; a detector has none."""
    if isinstance(spec, ModelSpec):
        return with_face_model(spec, path, face_model)
    if face_model is not None:
        raise FaceMeshError(f"{path}: a detector has no face model; leave {face_model} out")
    return spec


def _trusted(path: Path, data: bytes, face_model: Path | None) -> EngineFile:
    spec = _placed(_trusted_spec(path), path, face_model)
    libraries = [*installed("tensorrt"), *installed("tensorrt-rtx")]
    if not libraries:
        if broken := fault("tensorrt") or fault("tensorrt-rtx"):
            raise FaceMeshError(f"{path}: {broken}; {REPAIR}")
        problem = "neither TensorRT nor TensorRT-RTX is installed here"
        raise FaceMeshError(f"{path}: {problem}; {install_remedy('tensorrt')}")
    return EngineFile(path, data, spec, libraries[0], host_code=True)


def _trusted_spec(path: Path) -> AnySpec:
    manifest, onnx_spec = EngineManifest.path_for(path), ModelSpec.path_for(path.with_suffix(".onnx"))
    try:
        return EngineManifest.load(manifest).spec
    except FaceMeshError:
        if onnx_spec.is_file():
            return load_any_spec(onnx_spec)
    raise FaceMeshError(
        f"{path}: nothing says what this engine takes; "
        f"put the spec of the ONNX file that it is from beside it, as {onnx_spec.name}"
    )
