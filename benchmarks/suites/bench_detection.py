"""YuNet's network on a picture of 640 x 360 px, in ONNX Runtime and in OpenCV, one thread."""

from __future__ import annotations

import cv2

from runtime.detection.onnx_yunet import OnnxYuNet
from runtime.detection.opencv_yunet import OpenCvYuNet

SIZE_WH = (640, 360)


def test_detection_in_onnx_runtime(measured, face, one_thread):
    measured(OnnxYuNet(0.6), cv2.resize(face.image, SIZE_WH), rounds=200)


def test_detection_in_opencv(measured, face, one_thread):
    measured(OpenCvYuNet(0.6), cv2.resize(face.image, SIZE_WH), rounds=200)
