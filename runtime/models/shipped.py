"""Paths of the files that come with the package."""

from __future__ import annotations

from pathlib import Path

from runtime.cores import has_byte_products
from runtime.errors import FaceMeshError

ASSETS = Path(__file__).resolve().parents[1] / "assets"
SHIPPED = {  # precision -> the same network in it
    "fp32": ASSETS / "edge.onnx",
    "fp16": ASSETS / "edge-fp16.onnx",
    "int8": ASSETS / "edge-int8.onnx",
}
SHIPPED_MODEL = SHIPPED["fp32"]
SHIPPED_PICTURE = ASSETS / "astronaut.jpg"
EYE_OPENING = ASSETS / "eye_opening.npz"  # a small network, see runtime/expressions/eye_opening.py
YUNET = ASSETS / "face_detection_yunet_2023mar.onnx"  # of OpenCV's model zoo
KERNELS_PTX = ASSETS / "kernels.ptx"  # made by `python -m tests.programs.kernel_ptx` out of runtime/native/gpu
YUNET_ONNX = ASSETS / "yunet.onnx"  # the same network, rewritten by `python -m export detector`


def is_asset(name: str) -> bool:
    """Return True for the bare name of a shipped file: it stands for that file, in whichever folder."""
    return Path(name).name == name and (ASSETS / name).is_file()


def shipped_model(precision: str | None = None) -> Path:
    """Return the shipped model in ``precision``; None: in the one that runs fastest on the cores of this machine.

    That is INT8 where the cores have instructions for it, and FP32 elsewhere. Raises `FaceMeshError` for a precision
    that is not shipped.
    """
    if precision is None:
        precision = "int8" if has_byte_products() else "fp32"
    if precision not in SHIPPED:
        raise FaceMeshError(f"the shipped model has no precision {precision}; choose from {', '.join(SHIPPED)}")
    return SHIPPED[precision]
