"""YuNet's network through ONNX Runtime, twice as fast as through OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.cores import usable_cores
from runtime.detection.pictures import HostNetwork
from runtime.detection.yunet_rows import INPUT, face_rows
from runtime.errors import FaceMeshError, reason
from runtime.models.detector_spec import STRIDES
from runtime.models.shipped import YUNET_ONNX


class OnnxYuNet(HostNetwork):
    """The rewritten file (``python -m export detector``), for pictures of any size. Threads may share an instance."""

    def __init__(self, score_threshold: float) -> None:
        """Open the shipped file with as many threads as OpenCV has. Raises `FaceMeshError`.

        Raises `ModuleNotFoundError` where ONNX Runtime is not installed.
        """
        from runtime.inference.onnx_runner import MOST_THREADS, open_session

        try:
            self._session = open_session(YUNET_ONNX, min(MOST_THREADS, max(1, cv2.getNumThreads()), usable_cores()))
        except FaceMeshError as error:
            problem = "the detector's model is damaged" if YUNET_ONNX.is_file() else "the detector's model is missing"
            raise FaceMeshError(f"{YUNET_ONNX}: {problem}; install the package again") from error
        self._score_threshold = score_threshold

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return rows (N, 15) as `face_rows` gives them, for (H, W, 3) uint8 BGR.

        Raises `FaceMeshError` if ONNX Runtime fails.
        """
        height, width = image.shape[:2]
        below, right = -height % STRIDES[-1], -width % STRIDES[-1]
        if below or right:
            image = cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_CONSTANT)
        try:
            outputs = self._session.run(None, {INPUT: image[None]})
        except Exception as error:  # ONNX Runtime's exceptions have no common base of their own
            fault = f"the detector does not run on {width} x {height} px ({reason(error)})"
            raise FaceMeshError(f"{fault}; give it more memory or smaller pictures") from error
        return face_rows(outputs, self._score_threshold)
