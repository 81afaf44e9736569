"""The fast road: frames in, dense face meshes out. Importing it needs numpy and OpenCV only.

The names below are the public API; each is loaded when first used, so that ``import runtime`` stays free of optional libraries.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "Decoder": "runtime.decode",
    "Detections": "runtime.types",
    "FaceMesh": "runtime.types",
    "FaceMeshError": "runtime.errors",
    "FaceMeshPipeline": "runtime.pipeline",
    "Frame": "runtime.types",
    "FrameSource": "runtime.sources",
    "ModelSpec": "runtime.spec",
    "Pose": "runtime.types",
    "PoseEstimator": "runtime.pose",
    "Runner": "runtime.runner",
    "UVTopology": "runtime.topology",
    "YuNetDetector": "runtime.detector",
    "load_topology": "runtime.topology",
    "open_runner": "runtime.runner",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name == "_native":
        try:
            return import_module("runtime._native")
        except ModuleNotFoundError:  # a source folder hides a package that was installed without -e
            where = __path__[0]
            raise ImportError(f"{where}: the compiled module is not installed for this folder; run pip install -e '.[cpu]' beside it") from None
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
