"""Paths of the files that come with the package."""

from __future__ import annotations

from pathlib import Path

ASSETS = Path(__file__).resolve().parents[1] / "assets"
SHIPPED_MODEL = ASSETS / "edge.onnx"
SHIPPED_PICTURE = ASSETS / "astronaut.jpg"
YUNET = ASSETS / "face_detection_yunet_2023mar.onnx"
