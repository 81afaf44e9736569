"""The model files of a Triton repository: one ONNX file, or engines of one network for several kinds of GPU."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from export.handover.triton_config import Network
from runtime.detection.open_detector import open_detector
from runtime.errors import FaceMeshError
from runtime.families.table import open_family
from runtime.inference.open_runner import BACKENDS, open_runner, require_trained
from runtime.models.detector_spec import DetectorSpec, detector_spec, mesh_spec
from runtime.models.file_kinds import ENGINE_SUFFIXES
from runtime.models.manifest import EngineManifest
from runtime.models.shipped import is_asset
from runtime.models.spec import ModelSpec, load_spec, with_face_model

ANY_NEWER = "+"  # behind the compute capability of an engine that newer devices run, too


@dataclass(frozen=True, eq=False)
class Source:
    """A network and the files that it needs."""

    network: Network
    vertex_count: int
    files: dict[str, Path]  # name in the repository -> model file, its JSON, its face model
    detector: dict[str, Path]  # the same of a detector; empty: the shipped one finds the faces

    @property
    def needs_gpu(self) -> bool:
        """True if the network or the detector is an engine."""
        return any(path.suffix.lower() in ENGINE_SUFFIXES for path in (*self.files.values(), *self.detector.values()))


def open_models(
    models: Sequence[Path], batch: int, face_model: Path | None = None, detectors: Sequence[Path] = ()
) -> Source:
    """Read and check the model files; ``batch`` is the most crops of one run of an ONNX file.

    ``detectors`` is one .onnx file or engines, as ``models``. Raises `FaceMeshError` for a file that is missing, of
    another kind or damaged, for engines that do not belong together, and for a network that needs landmarks.
    """
    source = _onnx(models[0], batch, face_model) if _are_onnx(models) else _engines(models, face_model)
    if detectors:
        source = replace(source, detector=_detector(detectors))
    require_trained(source.network.spec)
    if source.network.spec.input.landmark_channel:
        problem = "this network takes landmarks beside the picture, and nothing finds them in the server"
        raise FaceMeshError(f"{models[0]}: {problem}; export a network that takes the picture alone")
    return source


def _onnx(path: Path, batch: int, face_model: Path | None) -> Source:
    from calibration.precision.model_file import sound_model
    from export.engines.engine_source import read_whole_onnx
    from export.graphs.model_file import check_interface

    if not path.is_file():
        raise FaceMeshError(f"{path}: no model file there; check the path")
    spec = load_spec(path)
    _, model = read_whole_onnx(path)
    with sound_model(path):
        check_interface(model, spec, path)
        lead = next(value for value in model.graph.input if value.name == spec.input.name).type.tensor_type.shape.dim[0]
    fixed = lead.HasField("dim_value")
    if not spec.input.landmark_channel:
        with open_runner(path, batch, face_model=face_model) as runner:
            batch = runner.max_batch
    name = "model.onnx"
    network = Network(spec, "onnxruntime", lead.dim_value if fixed else batch, fixed, {}, name)
    return _source(network, {name: path, f"{name}.json": ModelSpec.path_for(path)}, path, face_model)


def _are_onnx(models: Sequence[Path]) -> bool:
    """Return True for an ONNX file, False for engines. Raises `FaceMeshError` for other files and several ONNX ones."""
    for path in models:
        if path.suffix.lower() not in BACKENDS:
            raise FaceMeshError(f"{path}: no kind of model that Triton runs here; give an .onnx or .engine files")
    kinds = {path.suffix.lower() == ".onnx" for path in models}
    if len(models) > 1 and True in kinds:
        several = "several files must be engines (.engine) of one network, each for another kind of GPU"
        raise FaceMeshError(f"{models[1]}: {several}; write each ONNX model under another --name")
    return kinds == {True}


def _engines(paths: Sequence[Path], face_model: Path | None) -> Source:
    manifests = [EngineManifest.load_for(path) for path in paths]
    first = manifests[0]
    spec = mesh_spec(first.spec, paths[0])
    for path, manifest in zip(paths, manifests, strict=True):
        _check_engine(path, manifest)
    names, files = _engine_files(paths, manifests)
    newer = _default_engine(names, paths)
    exact = {capability: name for capability, name in names.items() if not capability.endswith(ANY_NEWER)}
    fixed = first.batch[0] == first.batch[2]
    network = Network(spec, "tensorrt", first.batch[2], fixed, exact, newer)
    return _source(network, files, paths[0], face_model)


def _detector(paths: Sequence[Path]) -> dict[str, Path]:
    """Return the files of a detector by name, which has a size of its own."""
    if _are_onnx(paths):
        open_detector(paths[0]).close()
        return {"model.onnx": paths[0], "model.onnx.json": DetectorSpec.path_for(paths[0])}
    manifests = [EngineManifest.load_for(path) for path in paths]
    for path, manifest in zip(paths, manifests, strict=True):
        detector_spec(manifest.spec, path)
    names, files = _engine_files(paths, manifests)
    _default_engine(names, paths)
    return files


def _engine_files(paths: Sequence[Path], manifests: Sequence[EngineManifest]) -> tuple[dict[str, str], dict[str, Path]]:
    """Return the names of engines by compute capability, and the files by name."""
    names: dict[str, str] = {}
    files: dict[str, Path] = {}
    first = manifests[0]
    for path, manifest in zip(paths, manifests, strict=True):
        if _essence(manifest) != _essence(first):
            raise FaceMeshError(
                f"{path}: not the network of {paths[0]}, or of another batch; give engines of one model"
            )
        name = f"model_{'_'.join(manifest.compute_capabilities).replace('.', '').replace(ANY_NEWER, 'up')}.plan"
        for capability in manifest.compute_capabilities:
            if capability in names:
                raise FaceMeshError(f"{path}: the second engine for compute capability {capability}; give one of them")
            names[capability] = name
        files |= {name: path, f"{name}.json": EngineManifest.path_for(path)}
    return names, files


def _check_engine(path: Path, manifest: EngineManifest) -> None:
    """Raise `FaceMeshError` for an engine that Triton's TensorRT backend cannot run."""
    if manifest.library != "tensorrt":
        remedy = "build it with --backend tensorrt, or give the ONNX file"
        raise FaceMeshError(f"{path}: an engine of {manifest.library}, which Triton has no backend for; {remedy}")
    if 1 < manifest.batch[0] < manifest.batch[2]:
        remedy = "build it with --batch 1 4 8"
        raise FaceMeshError(f"{path}: runs no fewer than {manifest.batch[0]} faces, and Triton sends one; {remedy}")


def _essence(manifest: EngineManifest) -> object:
    """Return the part of a manifest that engines of one repository share."""
    return replace(manifest.spec, name="", precision="fp32", onnx_sha256=""), manifest.batch[0], manifest.batch[2]


def _default_engine(names: dict[str, str], paths: Iterable[Path]) -> str | None:
    """Return the file for devices that no engine names; Triton knows no other way to say "this and newer"."""
    found = {name for capability, name in names.items() if capability.endswith(ANY_NEWER)}
    if len(found) > 1:
        given = ", ".join(map(str, paths))
        raise FaceMeshError(f"{given}: several engines for newer devices, too; give one of them")
    return found.pop() if found else None


def _source(network: Network, files: dict[str, Path], path: Path, face_model: Path | None) -> Source:
    spec = with_face_model(network.spec, path, face_model)
    family = open_family(spec)
    if not is_asset(spec.topology):
        files[Path(network.spec.topology).name] = Path(spec.topology)
    return Source(network, len(family.topology.canonical_vertices), files, {})
