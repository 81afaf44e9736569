"""Face detection: YuNet through OpenCV, its boxes turned into the one meaning of "box", the tight box of the 68 landmarks."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.errors import FaceMeshError
from runtime.types import Detections

ASSETS = Path(__file__).parent / "assets"
YUNET = ASSETS / "face_detection_yunet_2023mar.onnx"
BOX_MAP = ASSETS / "yunet_box_map.json"

# Longer side of what YuNet sees. Of the 25 faces that it finds in two group photos at any size it finds 22 at 320 px, 24 at 480
# and 25 at 640, in 2, 5 and 7 ms on one core; 1024 finds no more and takes 20 ms.
DETECTION_SIDE = 640
# It sees faces that fill the picture better from afar: of tight close-ups of 250 training faces it finds 84 % at 640 px and
# 99 % at 320, and its boxes overlap the labelled ones by 0.76 instead of 0.56. So pictures with a face above this share of
# the longer side, and those without any, are looked at again.
CLOSE_UP_SHARE = 0.5
CLOSE_UP_SIDE = 320
LEAST_SIDE = 64
NMS_THRESHOLD = 0.3
MOST_CANDIDATES = 5000


class Detector(Protocol):
    """Finds the faces of one picture, (H, W, 3) uint8 BGR."""

    def __call__(self, image: NDArray[np.uint8]) -> Detections: ...


class YuNetDetector:
    """YuNet (Wu, Peng, Yu 2023) of OpenCV's model zoo. One instance serves one thread."""

    def __init__(self, score_threshold: float = 0.6, max_faces: int | None = None) -> None:
        """Keep faces that score at least ``score_threshold``, at most the best ``max_faces``."""
        if not YUNET.is_file():
            raise FaceMeshError(f"{YUNET}: the detector's model is missing; install the package again")
        verbosity = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # OpenCV 5 warns of what does not concern us
        try:
            self._network = cv2.FaceDetectorYN.create(str(YUNET), "", (CLOSE_UP_SIDE, CLOSE_UP_SIDE), score_threshold, NMS_THRESHOLD, MOST_CANDIDATES)
        except (cv2.error, AttributeError) as error:
            raise FaceMeshError(f"{YUNET}: OpenCV {cv2.__version__} cannot run the detector; install opencv-python-headless 4.8 or newer") from error
        finally:
            cv2.utils.logging.setLogLevel(verbosity)
        self._max_faces = max_faces

    def __call__(self, image: NDArray[np.uint8]) -> Detections:
        """Faces of ``image`` (H, W, 3) uint8 BGR, best first."""
        rows = self.find(image)[: self._max_faces]
        return Detections(landmark_boxes(rows, load_box_map()), np.ascontiguousarray(rows[:, 14]))

    def find(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """YuNet's own rows (N, 15) float32, best first: x, y, w, h and five points (x, y) in px of ``image``, then the score.

        The points are right eye, left eye, nose tip, right and left mouth corner; right and left are the person's.
        """
        rows = self._find_at(image, DETECTION_SIDE)
        longer_side = max(image.shape[:2])
        if longer_side > CLOSE_UP_SIDE and (len(rows) == 0 or rows[:, 2:4].max() > CLOSE_UP_SHARE * longer_side):
            close_up = self._find_at(image, CLOSE_UP_SIDE)
            rows = close_up if len(close_up) else rows
        return rows[np.argsort(-rows[:, 14], kind="stable")]

    def _find_at(self, image: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
        height, width = image.shape[:2]
        scale = min(1.0, side / max(height, width))
        size_wh = max(1, round(width * scale)), max(1, round(height * scale))
        if size_wh != (width, height):
            image = cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA)
        # OpenCV 4.10 reads memory that it did not write where the network's last layer is a single column or row.
        padding = [max(0, LEAST_SIDE - side) for side in size_wh]
        if any(padding):
            image = cv2.copyMakeBorder(image, 0, padding[1], 0, padding[0], cv2.BORDER_CONSTANT)
        self._network.setInputSize(image.shape[1::-1])
        rows = self._network.detect(image)[1]
        if rows is None:
            return np.empty((0, 15), np.float32)
        rows[:, 0:14:2] *= width / size_wh[0]
        rows[:, 1:14:2] *= height / size_wh[1]
        return rows


class WholePicture:
    """For pictures that are already cut round one face: the face whose square crop is the picture, with score 1."""

    def __init__(self, crop_scale: float) -> None:
        self._crop_scale = crop_scale

    def __call__(self, image: NDArray[np.uint8]) -> Detections:
        height, width = image.shape[:2]
        side = (width + height) / 2 / self._crop_scale
        x, y = (width - 1) / 2, (height - 1) / 2
        box = np.array([[x - side / 2, y - side / 2, x + side / 2, y + side / 2]], np.float32)
        return Detections(box, np.ones(1, np.float32))


def landmark_boxes(rows: NDArray[np.float32], coefficients: NDArray[np.float64]) -> NDArray[np.float32]:
    """Tight boxes of the 68 landmarks (N, 4) float32 xyxy px from YuNet's rows (N, 15).

    ``coefficients`` (11, 4): from `box_features` to the shift of the centre, in units of YuNet's width and height, and the
    logarithms of the growth in width and height.
    """
    change = box_features(rows) @ coefficients
    size = rows[:, 2:4].astype(np.float64)
    centre = rows[:, :2] + size / 2 + change[:, :2] * size
    size = size * np.exp(change[:, 2:])
    return np.hstack([centre - size / 2, centre + size / 2]).astype(np.float32)


def box_features(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N, 11) from YuNet's rows (N, 15): 1 and the five points (x, y) from the box's centre, in units of its width and height."""
    rows = rows.astype(np.float64)
    size = rows[:, 2:4]
    centre = rows[:, :2] + size / 2
    points = (rows[:, 4:14].reshape(-1, 5, 2) - centre[:, None]) / size[:, None]
    return np.hstack([np.ones((len(rows), 1)), points.reshape(-1, 10)])


@lru_cache(maxsize=1)
def load_box_map() -> NDArray[np.float64]:
    """The shipped coefficients (11, 4) of `landmark_boxes`, made by ``python -m training fit-box-map``."""
    try:
        coefficients = np.array(json.loads(BOX_MAP.read_text(encoding="utf-8"))["coefficients"], np.float64)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FaceMeshError(f"{BOX_MAP}: cannot be read ({error}); install the package again") from error
    if coefficients.shape != (11, 4) or not np.isfinite(coefficients).all():
        raise FaceMeshError(f"{BOX_MAP}: must hold 11 x 4 finite coefficients, has {coefficients.shape}; install the package again")
    coefficients.flags.writeable = False
    return coefficients
