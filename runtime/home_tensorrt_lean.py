"""Home of ``tensorrt_lean``, which runs version-compatible engines alone."""

from __future__ import annotations

import tensorrt_lean as trt

__all__ = ["trt"]
