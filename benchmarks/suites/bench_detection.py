"""YuNet's network on a picture of 640 x 360 px, in ONNX Runtime and in OpenCV, one thread."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.records.measured_faces import Face
from runtime.detection.onnx_yunet import OnnxYuNet
from runtime.detection.opencv_yunet import OpenCvYuNet


@pytest.fixture
def picture(face: Face) -> Iterator[NDArray[np.uint8]]:
    """Return the shipped picture at that size; one thread meanwhile."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield cv2.resize(face.image, (640, 360))
    cv2.setNumThreads(threads)


def test_detection_in_onnx_runtime(measured, picture):
    measured(OnnxYuNet(0.6), picture, rounds=200)


def test_detection_in_opencv(measured, picture):
    measured(OpenCvYuNet(0.6), picture, rounds=200)
