"""YuNet's network through OpenCV, where ONNX Runtime is not installed."""

from __future__ import annotations

from threading import Lock

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.detection.pictures import HostNetwork
from runtime.detection.yunet_rows import MOST_CANDIDATES, NMS_IOU, ROW
from runtime.errors import FaceMeshError
from runtime.models.shipped import YUNET

LEAST_SIDE = 64


class OpenCvYuNet(HostNetwork):
    """The file of OpenCV's model zoo as it is. Threads may share an instance, and take turns."""

    def __init__(self, score_threshold: float) -> None:
        """Open the shipped file. Raises `FaceMeshError` where it is missing or OpenCV is too old."""
        if not YUNET.is_file():
            raise FaceMeshError(f"{YUNET}: the detector's model is missing; install the package again")
        self._lock = Lock()  # between setting a size and detecting at it
        # OpenCV 5 warns about parts of the model that the detector does not need.
        verbosity = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        size_wh = (LEAST_SIDE, LEAST_SIDE)  # until the first picture
        try:
            self._network = cv2.FaceDetectorYN.create(
                str(YUNET), "", size_wh, score_threshold, NMS_IOU, MOST_CANDIDATES
            )
        except (cv2.error, AttributeError) as error:
            remedy = "install opencv-python-headless 4.8 or newer"
            raise FaceMeshError(f"{YUNET}: OpenCV {cv2.__version__} cannot run the detector; {remedy}") from error
        finally:
            cv2.utils.logging.setLogLevel(verbosity)

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return rows (N, 15): x, y, w, h, five points (x, y), score, best first, for (H, W, 3) uint8 BGR."""
        # OpenCV 4.10 reads memory that it did not write where the network's last layer is a single column or row.
        below, right = (max(0, LEAST_SIDE - side) for side in image.shape[:2])
        if below or right:
            image = cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_CONSTANT)
        with self._lock:
            self._network.setInputSize(image.shape[1::-1])
            rows = self._network.detect(image)[1]
        return np.empty((0, ROW), np.float32) if rows is None else rows
