"""Bind what computes in this process to as many threads. Home of threadpoolctl.

ONNX Runtime takes its number when a session opens. OpenCV and the BLAS behind NumPy would take every core.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import cv2
from threadpoolctl import threadpool_limits


@contextmanager
def limited_threads(count: int) -> Iterator[None]:
    """Give OpenCV and BLAS ``count`` threads each, and afterwards what they had."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(count)
    try:
        with threadpool_limits(count):
            yield
    finally:
        cv2.setNumThreads(before)
