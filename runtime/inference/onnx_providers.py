"""Sessions of ONNX Runtime on a GPU, through the providers of its other packages. A home module of ONNX Runtime.

CUDA and TensorRT are part of onnxruntime-gpu, which takes the place of onnxruntime. TensorRT-RTX is a plug-in beside
onnxruntime: a package that tells its library (https://nvidia.github.io/TensorRT-RTX-EP-ABI/installation.html).
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

import onnxruntime

from runtime.errors import FaceMeshError
from runtime.models.detector_spec import AnySpec

PLUGIN = "onnxruntime_ep_nv_tensorrt_rtx"  # has get_ep_name() and get_library_path()
IN_PLACE = "pip uninstall onnxruntime, pip install onnxruntime-gpu"
BESIDE = "pip install 'onnxruntime>=1.24' onnxruntime-ep-nv-tensorrt-rtx (with CUDA 12 the package …-cu12)"


@dataclass(frozen=True)
class Provider:
    """A provider of `PROVIDERS`."""

    name: str  # ONNX Runtime's
    remedy: str  # for a machine without it
    shapes: str = ""  # prefix of its options for the least, the usual and the largest batch


PROVIDERS = {
    "cuda": Provider("CUDAExecutionProvider", IN_PLACE),
    "tensorrt": Provider("TensorrtExecutionProvider", f"{IN_PLACE} and TensorRT", "trt_profile"),
    "nv-tensorrt-rtx": Provider("NvTensorRTRTXExecutionProvider", BESIDE, "nv_profile"),
}


def open_on_gpu(
    path: Path, name: str, spec: AnySpec, batch: int, options: onnxruntime.SessionOptions
) -> onnxruntime.InferenceSession:
    """Open a model with a provider of `PROVIDERS` for up to ``batch`` faces.

    Layers that the provider cannot run stay on the CPU. Raises `FaceMeshError` if the provider is unknown, not
    installed, finds no device, or cannot load its own libraries: it is never replaced by the CPU in silence.
    """
    if name not in PROVIDERS:
        raise FaceMeshError(f"there is no provider {name!r}; choose from {', '.join(PROVIDERS)}")
    provider = PROVIDERS[name]
    settings = _settings(provider, spec, batch)
    try:
        if provider.name in onnxruntime.get_available_providers():
            session = _built_in(path, provider, settings, options)
        elif name == "nv-tensorrt-rtx":
            session = _plugged_in(path, provider, settings, options)
        else:
            raise _absent(path, name, f"this ONNX Runtime ({onnxruntime.__version__}) comes without it")
    except FaceMeshError:
        raise
    except Exception as error:  # ONNX Runtime's exceptions have no common base of their own
        raise FaceMeshError(f"{path}: the provider {name} cannot open it ({_first_line(error)})") from error
    used = session.get_providers()
    if provider.name not in used:
        raise FaceMeshError(
            f"{path}: the provider {name} was given up by ONNX Runtime for {', '.join(used)}; it needs an NVIDIA "
            "driver and the CUDA libraries of its version: pip install 'onnxruntime-gpu[cuda,cudnn]'"
        )
    return session


def _built_in(
    path: Path, provider: Provider, settings: Mapping[str, str], options: onnxruntime.SessionOptions
) -> onnxruntime.InferenceSession:
    if hasattr(onnxruntime, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):  # it prints
            onnxruntime.preload_dlls()  # CUDA and cuDNN from their packages, if they are there
    names = [provider.name, "CPUExecutionProvider"]
    return onnxruntime.InferenceSession(
        str(path), options, providers=names, provider_options=[dict(settings), {}], enable_fallback=False
    )


def _plugged_in(
    path: Path, provider: Provider, settings: Mapping[str, str], options: onnxruntime.SessionOptions
) -> onnxruntime.InferenceSession:
    plugin = _load_plugin(path)
    name = plugin.get_ep_name()
    if not _devices(name):
        try:
            onnxruntime.register_execution_provider_library(name, plugin.get_library_path())
        except Exception as error:  # ONNX Runtime's exceptions have no common base of their own
            raise _no_device(path, f"cannot be loaded ({_first_line(error)})") from error
    devices = _devices(name)
    if not devices:
        raise _no_device(path, "is installed and finds no device")
    options.add_provider_for_devices(devices[:1], dict(settings))
    return onnxruntime.InferenceSession(str(path), options)


def _load_plugin(path: Path) -> ModuleType:
    if not hasattr(onnxruntime, "register_execution_provider_library"):
        raise _absent(path, "nv-tensorrt-rtx", f"ONNX Runtime {onnxruntime.__version__} takes no plug-ins")
    try:
        return import_module(PLUGIN)
    except ModuleNotFoundError as error:
        raise _absent(path, "nv-tensorrt-rtx", f"{error.name} is not installed") from None


def _devices(name: str) -> list[onnxruntime.OrtEpDevice]:
    """Return the devices of a plug-in; none before it is registered."""
    return [device for device in onnxruntime.get_ep_devices() if device.ep_name == name]


def _settings(provider: Provider, spec: AnySpec, batch: int) -> dict[str, str]:
    """Return the provider's options: the first device, and the batches that one engine is for."""
    settings = {"device_id": "0"}
    if provider.shapes:
        sides = "x".join(map(str, spec.input.shape))
        for kind, count in (("min", 1), ("opt", 1), ("max", batch)):
            settings[f"{provider.shapes}_{kind}_shapes"] = f"{spec.input.name}:{count}x{sides}"
    if provider.name == "TensorrtExecutionProvider":
        # Building takes minutes; these files are loaded as code, so they lie in the user's own folder.
        settings |= {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(_cache_folder())}
    return settings


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "facemesh-edge" / "onnxruntime-tensorrt"


def _no_device(path: Path, problem: str) -> FaceMeshError:
    need = "it needs an NVIDIA driver and an RTX card"
    return FaceMeshError(f"{path}: the plug-in of the provider nv-tensorrt-rtx {problem}; {need}")


def _absent(path: Path, name: str, problem: str) -> FaceMeshError:
    return FaceMeshError(f"{path}: no provider {name} here: {problem}; {PROVIDERS[name].remedy}")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].strip().rstrip(".")
