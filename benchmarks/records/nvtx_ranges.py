"""Ranges of NVTX. Home module of the package nvtx, NVIDIA's binding."""

from __future__ import annotations

from contextlib import AbstractContextManager

import nvtx


def annotate(name: str) -> AbstractContextManager[object]:
    """Return a range in the domain of this project."""
    return nvtx.annotate(name, domain="facemesh-edge")
