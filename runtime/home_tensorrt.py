"""Home of ``tensorrt`` for running engines."""

from __future__ import annotations

import tensorrt as trt

__all__ = ["trt"]
