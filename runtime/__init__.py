"""The fast road: frames in, dense face meshes out. Importing it needs numpy and OpenCV only.

The names below are the public API. Each is loaded at its first use, so ``import runtime`` needs no optional library.
"""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from runtime.console.early_interrupt import end_imports_quietly

end_imports_quietly()

# ONNX Runtime from 1.32 on keeps a database of events under the user's cache folder and sends it to its makers.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if find_spec("cv2") is None:  # on a Jetson pip leaves it to JetPack
    raise ModuleNotFoundError(
        "facemesh-edge needs OpenCV (cv2): on a Jetson 'sudo apt install libopencv-python' and a venv with "
        "--system-site-packages, elsewhere pip install opencv-python-headless",
        name="cv2",
    )

_HOMES = {
    "Camera": "runtime.geometry.camera",
    "Decoder": "runtime.families.position_map",
    "Detections": "runtime.types",
    "FaceMesh": "runtime.types",
    "FaceMeshError": "runtime.errors",
    "FaceMeshPipeline": "runtime.pipeline",
    "FaceSwapper": "runtime.rendering.face_swap",
    "Frame": "runtime.types",
    "FrameSource": "runtime.sources.frame_source",
    "MapPainter": "runtime.rendering.maps",
    "ModelSpec": "runtime.models.spec",
    "Pose": "runtime.types",
    "PoseEstimator": "runtime.geometry.pose",
    "OneEuro": "runtime.tracking.options",
    "Runner": "runtime.inference.interface",
    "Smoothing": "runtime.tracking.options",
    "TextureMapper": "runtime.rendering.texture",
    "Tracking": "runtime.tracking.options",
    "UVTopology": "runtime.families.uv_topology",
    "YuNetDetector": "runtime.detection.yunet",
    "open_detector": "runtime.detection.open_detector",
    "crop_into": "runtime.geometry.crop",
    "crop_matrix": "runtime.geometry.crop",
    "fit_camera": "runtime.geometry.camera",
    "load_topology": "runtime.families.uv_topology",
    "open_runner": "runtime.inference.open_runner",
    "read_expression": "runtime.expressions.expression",
    "visible_vertices": "runtime.rendering.maps",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("facemesh-edge")
        except PackageNotFoundError:  # a source folder on the path
            return "0+source"
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
