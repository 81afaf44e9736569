"""Home of ``tensorrt_rtx`` for running engines."""

from __future__ import annotations

import tensorrt_rtx as trt

__all__ = ["trt"]
