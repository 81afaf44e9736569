"""A model repository for NVIDIA's Triton Inference Server.

    REPOSITORY/NAME/config.pbtxt          pictures in, faces out: Python backend
    REPOSITORY/NAME/1/model.py            and the model's files beside it, those of its detector in a folder
    REPOSITORY/NAME/warmup/portrait       a photograph that every instance sees before its first request
    REPOSITORY/NAME_network/config.pbtxt  crops in, the network's outputs out: ONNX Runtime or TensorRT
    REPOSITORY/NAME_network/1/model.onnx  or an engine for each compute capability

A repository that is there gets the next version; servers go over to it when they are told, or poll.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path

from export.handover.triton_config import WARM_UP_FILE, interface_of, network_config, service_config
from export.handover.triton_source import Source
from runtime.errors import FaceMeshError
from runtime.models.shipped import SHIPPED_PICTURE
from runtime.serving.model_folder import DETECTOR
from runtime.storage.whole_files import write_error

MODEL_PY = '''\
"""Written by python -m export triton: the program is the package facemesh-edge, the model lies beside this file."""

import os
import sys

# Triton's Python does not look there by itself.
sys.path += filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
try:
    from runtime.serving.triton_model import TritonPythonModel  # noqa: F401
except ModuleNotFoundError as error:
    python = sys.executable or "the Python of this server"
    remedy = f"{python} -m pip install 'facemesh-edge[cpu]'"
    raise ImportError(f"facemesh needs {error.name}, which this server's Python lacks; {remedy}") from None
'''
CONFIG = "config.pbtxt"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class ServerOptions:
    """Options of the Python model."""

    name: str = "facemesh"
    instances: int = 1  # processes, on every GPU or on the CPU
    workers: int = 0  # threads of an instance that decode and detect; 0: one for each core of the server
    batch: int = 16  # pictures of one batch


@dataclass(frozen=True)
class Written:
    """Result of `write_repository`."""

    models: tuple[str, str]  # of pictures, of crops
    version: int
    replaced: tuple[Path, ...]  # configurations that were another before


def write_repository(source: Source, options: ServerOptions, output: Path) -> Written:
    """Write a new version of both models into the repository ``output``; it is there whole or not at all.

    Raises `FaceMeshError` for a place that cannot be written, for a folder of another kind, and for models of that name
    with other inputs or outputs.
    """
    names = (options.name, f"{options.name}_network")
    configs = dict(zip(names, _configs(source, options, names), strict=True))
    _check_place(output, configs)
    version = 1 + max((number for name in names for number in versions(output / name)), default=0)
    try:
        place = Path(os.path.realpath(output))
        with tempfile.TemporaryDirectory(prefix=f".{place.name}.", dir=_beside(place)) as temporary:
            new = Path(temporary, "new")
            _write_models(new, source, configs, version)
            replaced = _move(new, place, names, version)
    except OSError as error:
        raise write_error(output, error) from error
    return Written(names, version, replaced)


def _beside(place: Path) -> Path:
    """Return a folder on the same file system as the repository: within it if another one is mounted there."""
    is_mounted = place.is_dir() and place.stat().st_dev != place.parent.stat().st_dev
    return place if is_mounted else place.parent


def versions(model: Path) -> list[int]:
    """Return the numbers of the versions in a model's folder, rising; none if there is no such folder."""
    if not model.is_dir():
        return []
    found = (item.name for item in model.iterdir() if item.is_dir())
    return sorted(int(name) for name in found if re.fullmatch(r"[1-9]\d{0,17}", name))


def _configs(source: Source, options: ServerOptions, names: tuple[str, str]) -> tuple[str, str]:
    service = service_config(
        names[0],
        source.vertex_count,
        on_gpu=source.needs_gpu,
        instances=options.instances,
        workers=options.workers,
        batch=options.batch,
    )
    return service, network_config(names[1], source.network)


def _check_place(output: Path, configs: dict[str, str]) -> None:
    if output.exists() and not output.is_dir():
        raise FaceMeshError(f"{output}: is no folder; give one for the model repository with -o")
    if not output.absolute().parent.is_dir():
        raise FaceMeshError(f"{output.parent}: no such folder; make it first or choose another place with -o")
    if (output / CONFIG).is_file() or versions(output):
        raise FaceMeshError(f"{output}: is a model, not a repository; give the folder round it with -o")
    if (output.absolute().parent / CONFIG).is_file():
        raise FaceMeshError(f"{output}: is in a model's folder; give the repository round that with -o")
    for name, config in configs.items():
        folder = output / name
        if not folder.exists():
            continue
        if not (folder / CONFIG).is_file() or not versions(folder):
            raise FaceMeshError(f"{folder}: is there and no model of Triton; move it away or choose another --name")
        if interface_of((folder / CONFIG).read_text(encoding="utf-8", errors="replace")) != interface_of(config):
            problem = "the model there has other inputs or outputs, its clients would fail"
            raise FaceMeshError(f"{folder}: {problem}; choose another --name")


def _write_models(new: Path, source: Source, configs: dict[str, str], version: int) -> None:
    service, network = (new / name for name in configs)
    for folder, config in zip((service, network), configs.values(), strict=True):
        (folder / str(version)).mkdir(parents=True)
        (folder / CONFIG).write_text(config, encoding="utf-8")
    for name, path in source.files.items():
        _copy(path, service / str(version) / name)
        if name.endswith((".onnx", ".plan")):
            _copy(path, network / str(version) / name)
    for name, path in source.detector.items():
        (service / str(version) / DETECTOR).mkdir(exist_ok=True)
        _copy(path, service / str(version) / DETECTOR / name)
    (service / str(version) / "model.py").write_text(MODEL_PY, encoding="utf-8")
    (service / "warmup").mkdir()
    photo = SHIPPED_PICTURE.read_bytes()
    (service / "warmup" / WARM_UP_FILE).write_bytes(struct.pack("<I", len(photo)) + photo)


def _copy(path: Path, to: Path) -> None:
    if path.is_dir():
        shutil.copytree(path, to)
    else:
        shutil.copyfile(path, to)


def _move(new: Path, output: Path, names: tuple[str, str], version: int) -> tuple[Path, ...]:
    """Give the finished folders their places; those that have one already are taken back after an error."""
    if not output.exists():
        os.chmod(new, 0o755)
        os.rename(new, output)
        return ()
    moved: list[Path] = []
    replaced = []
    try:
        for name in reversed(names):
            part = Path(name) if not (output / name).exists() else Path(name, str(version))
            os.rename(new / part, output / part)
            moved.append(output / part)
        for name in names:
            config, old = new / name / CONFIG, output / name / CONFIG
            if config.exists() and config.read_bytes() != old.read_bytes():
                shutil.copyfile(old, old.with_name(f"{CONFIG}.before"))
                os.replace(config, old)
                replaced.append(old)
    except OSError:
        for folder in moved:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return tuple(replaced)
