"""Face detection by YuNet through OpenCV; its boxes become tight boxes of the 68 landmarks."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.detection.box_map import landmark_boxes, load_box_map
from runtime.errors import FaceMeshError
from runtime.models.shipped import YUNET
from runtime.types import Detections

# Longer side of YuNet's input. Of the 25 faces that it finds in two group photos at any size it finds 22 at 320 px, 24
# at 480 and 25 at 640, in 2, 5 and 7 ms on one core; 1024 finds no more and takes 20 ms.
DETECTION_SIDE = 640
# Pictures beyond this longer side can hold faces that are too small at 640 px: they are searched at 1280 px, too.
LARGE_PICTURE = 2560
LARGE_SIDE = 1280
# YuNet finds faces that fill the picture better at a smaller size: of tight close-ups of 250 training faces it finds
# 84 % at 640 px and 99 % at 320, and its boxes overlap the labelled ones by 0.76 instead of 0.56. So pictures with a
# face above this share of the longer side, and pictures without any face, are searched again at the smaller size.
CLOSE_UP_SHARE = 0.5
CLOSE_UP_SIDE = 320
# Of faces that lie on their side YuNet finds half, most of them with a low score. Where its best face scores less than
# this, the picture is searched in quarter turns, too: of 300 training faces that holds for 6 % of the upright ones and
# for 95 % of those turned by 90 degrees. A face that is upside down often passes; its mesh tells.
SURE_SCORE = 0.85
# Three more searches of a picture without a face find more that is none: a turn must show a face that scores this much.
TURNED_SCORE = 0.78
LEAST_SIDE = 64
NMS_THRESHOLD = 0.3
SAME_FACE = 0.6  # share of the smaller box inside the other
MOST_CANDIDATES = 5000
# Roll of a face, degrees clockwise -> the turn of the picture that makes it upright.
QUARTER_TURNS = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, -90: cv2.ROTATE_90_CLOCKWISE}


class YuNetDetector:
    """YuNet (Wu, Peng, Yu 2023) of OpenCV's model zoo. One instance serves one thread."""

    def __init__(self, score_threshold: float = 0.6, max_faces: int | None = None, side: int | None = None) -> None:
        """Keep faces that score at least ``score_threshold``, at most the best ``max_faces``.

        ``side`` is the longer side, px, of the detector's main input; None: 640, and 1280 too for large pictures.
        """
        if not YUNET.is_file():
            raise FaceMeshError(f"{YUNET}: the detector's model is missing; install the package again")
        # OpenCV 5 warns about parts of the model that the detector does not need.
        verbosity = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        side_wh = (CLOSE_UP_SIDE, CLOSE_UP_SIDE)  # until the first picture
        try:
            self._network = cv2.FaceDetectorYN.create(
                str(YUNET), "", side_wh, score_threshold, NMS_THRESHOLD, MOST_CANDIDATES
            )
        except (cv2.error, AttributeError) as error:
            remedy = "install opencv-python-headless 4.8 or newer"
            raise FaceMeshError(f"{YUNET}: OpenCV {cv2.__version__} cannot run the detector; {remedy}") from error
        finally:
            cv2.utils.logging.setLogLevel(verbosity)
        self._max_faces = max_faces
        self._side = side

    def __call__(self, image: NDArray[np.uint8]) -> Detections:
        """Return the faces of ``image`` (H, W, 3) uint8 BGR, best first."""
        rows, rolls_deg = self.find(image), 0
        if _best(rows) < SURE_SCORE:
            rows, rolls_deg = self._find_turned(image, rows)
        rows = rows[: self._max_faces]
        boxes = landmark_boxes(rows, load_box_map())
        rolls = np.full(len(rows), rolls_deg, np.float32) if rolls_deg else None
        return Detections(_turned_back(boxes, rolls_deg, image.shape), np.ascontiguousarray(rows[:, 14]), rolls)

    def find(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return YuNet's own rows (N, 15) float32, best first.

        A row is x, y, w, h and five points (x, y) in px of ``image``, then the score. The points are right eye,
        left eye, nose tip, right and left mouth corner; right and left are the person's.
        """
        longer_side = max(image.shape[:2])
        rows = self._find_at(image, self._side or DETECTION_SIDE)
        if self._side is None and longer_side > LARGE_PICTURE:
            rows = _merged(rows, self._find_at(image, LARGE_SIDE))
        if longer_side > CLOSE_UP_SIDE and _largest(rows, default=longer_side) > CLOSE_UP_SHARE * longer_side:
            close_up = self._find_at(image, CLOSE_UP_SIDE)
            is_large = close_up[:, 2:4].max(axis=1) > CLOSE_UP_SHARE / 2 * longer_side
            rows = _merged(close_up[is_large], rows, close_up[~is_large])
        return rows[np.argsort(-rows[:, 14], kind="stable")]

    def _find_turned(self, image: NDArray[np.uint8], upright: NDArray[np.float32]) -> tuple[NDArray[np.float32], int]:
        """Return the rows of the quarter turn with the surest face, and the roll, degrees clockwise, of its faces.

        The rows are in px of the turned picture. ``upright`` are those of the picture itself.
        """
        best, best_roll = upright, 0
        small = _reduced(image, CLOSE_UP_SIDE)
        for roll_deg, turn in QUARTER_TURNS.items():
            rows = self._find_at(cv2.rotate(small, turn), CLOSE_UP_SIDE)
            if _best(rows) > _best(best):
                best, best_roll = rows, roll_deg
        if best_roll == 0 or _best(best) < TURNED_SCORE:
            return upright, 0
        best[:, :14] *= max(image.shape[:2]) / max(small.shape[:2])
        # Now that the turn is known, a search at full size finds small faces, too.
        return _merged(self.find(cv2.rotate(image, QUARTER_TURNS[best_roll])), best), best_roll

    def _find_at(self, image: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
        """Return the rows for ``image`` reduced to ``side`` px on its longer side, in px of ``image`` itself."""
        height, width = image.shape[:2]
        image = _reduced(image, side)
        size_wh = image.shape[1::-1]
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


def _reduced(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return ``image`` with at most ``side`` px on its longer side."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return image
    size_wh = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA)


def _best(rows: NDArray[np.float32]) -> float:
    """Return the best score, 0 if there are no rows."""
    return float(rows[:, 14].max()) if len(rows) else 0.0


def _turned_back(boxes: NDArray[np.float32], roll_deg: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return boxes (N, 4) of the picture turned by ``QUARTER_TURNS[roll_deg]`` in px of the picture of ``shape``."""
    height, width = shape[:2]
    x1, y1, x2, y2 = boxes.T
    if roll_deg == 90:  # the picture was turned back by 90 degrees, counterclockwise: turned (x, y) = (y, W - 1 - x)
        return np.stack([width - 1 - y2, x1, width - 1 - y1, x2], axis=1)
    if roll_deg == -90:
        return np.stack([y1, height - 1 - x2, y2, height - 1 - x1], axis=1)
    if roll_deg == 180:
        return np.stack([width - 1 - x2, height - 1 - y2, width - 1 - x1, height - 1 - y1], axis=1)
    return boxes


def _largest(rows: NDArray[np.float32], default: float) -> float:
    """Return the longest side of all boxes, ``default`` if there are none."""
    return float(rows[:, 2:4].max()) if len(rows) else default


def _merged(*groups: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the rows of all groups; of two rows that show one face, the one of the earlier group."""
    kept = groups[0]
    for rows in groups[1:]:
        new = [row for row in rows if not _shows_any(row, kept)]
        kept = np.concatenate([kept, np.array(new, np.float32).reshape(-1, 15)])
    return kept


def _shows_any(row: NDArray[np.float32], others: NDArray[np.float32]) -> bool:
    """Return True if ``row`` overlaps one of ``others`` so much that both show one face, or a part of it."""
    low = np.maximum(row[:2], others[:, :2])
    high = np.minimum(row[:2] + row[2:4], others[:, :2] + others[:, 2:4])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    smaller = np.minimum(np.prod(row[2:4]), np.prod(others[:, 2:4], axis=1))
    return bool((shared > SAME_FACE * smaller).any())
