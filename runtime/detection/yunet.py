"""Face detection by YuNet; its boxes become tight boxes of the 68 landmarks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from runtime.cuda.interface import DeviceFrame
from runtime.detection.box_map import landmark_boxes, load_box_map
from runtime.detection.onnx_yunet import OnnxYuNet
from runtime.detection.opencv_yunet import OpenCvYuNet
from runtime.detection.pictures import HostNetwork, Picture, YuNetNetwork, turn_matrix
from runtime.detection.yunet_rows import DEFAULT_SCORE, ROW
from runtime.geometry.crop import check_image
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
TURNED_SCORE = 0.75
SAME_FACE = 0.6  # share of the smaller box inside the other
# Rolls of faces, degrees clockwise, to search for one after the other, and the size to reduce the picture to. The
# diagonal ones follow if the others show nothing; a diagonal picture is longer by the square root of 2.
TURNS = (((90.0, 180.0, -90.0), CLOSE_UP_SIDE), ((45.0, 135.0, -135.0, -45.0), round(CLOSE_UP_SIDE / 2**0.5)))


class YuNetDetector:
    """YuNet (Wu, Peng, Yu 2023) of OpenCV's model zoo. Threads may share an instance."""

    def __init__(
        self,
        score_threshold: float = DEFAULT_SCORE,
        max_faces: int | None = None,
        side: int | None = None,
        network: YuNetNetwork | None = None,
    ) -> None:
        """Keep faces that score at least ``score_threshold``, at most the best ``max_faces``.

        ``side`` is the longer side, px, of the detector's main input; None: 640, and 1280 too for large pictures.
        ``network`` keeps faces by its own threshold and closes with the detector;
        `runtime.detection.open_detector.open_detector` opens one. None: the shipped one, on the CPU.
        """
        if not 0 <= score_threshold <= 1:
            raise ValueError(f"score_threshold must be from 0 to 1, is {score_threshold}")
        if (max_faces is not None and max_faces < 1) or (side is not None and side < 1):
            raise ValueError(f"max_faces and side must be at least 1, are {max_faces} and {side}")
        self._network = network or open_on_cpu(score_threshold)
        self.on_device = self._network.on_device
        self._max_faces = max_faces
        self._side = side

    def __call__(self, image: NDArray[np.uint8], frame: DeviceFrame | None = None) -> Detections:
        """Return the faces of ``image`` (H, W, 3) uint8 BGR, best first; ``frame`` is the same on the device.

        Raises `ValueError` for another array and `FaceMeshError` beyond `runtime.storage.limits.PIXELS`.
        """
        check_image(image)
        picture = self._network.picture(image, frame)
        rows, roll_deg = self._find(picture), 0.0
        if _best(rows) < SURE_SCORE:
            rows, roll_deg = self._find_turned(picture, rows)
        rows = rows[: self._max_faces]
        scores = np.ascontiguousarray(rows[:, 14])
        if roll_deg == 0:
            return Detections(landmark_boxes(rows, picture.size_wh, load_box_map()), scores)
        matrix, size_wh = turn_matrix(picture.size_wh, roll_deg)
        boxes = _turned_back(landmark_boxes(rows, size_wh, load_box_map()), matrix, roll_deg)
        return Detections(boxes, scores, np.full(len(rows), roll_deg, np.float32))

    def find(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return YuNet's own rows (N, 15) float32, best first.

        A row is x, y, w, h and five points (x, y) in px of ``image``, then the score. The points are right eye,
        left eye, nose tip, right and left mouth corner; right and left are the person's. Errors are those of a call.
        """
        check_image(image)
        return self._find(self._network.picture(image))

    def close(self) -> None:
        """Free the network; the detector cannot be used afterwards."""
        self._network.close()

    def __enter__(self) -> YuNetDetector:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _find(self, picture: Picture) -> NDArray[np.float32]:
        """Return the rows of a picture; see `find`."""
        longer_side = max(picture.size_wh)
        rows = self._find_at(picture, self._side or DETECTION_SIDE)
        if self._side is None and longer_side > LARGE_PICTURE:
            rows = _merged(rows, self._find_at(picture, LARGE_SIDE))
        if longer_side > CLOSE_UP_SIDE and _largest(rows, default=longer_side) > CLOSE_UP_SHARE * longer_side:
            close_up = self._find_at(picture, CLOSE_UP_SIDE)
            is_large = close_up[:, 2:4].max(axis=1) > CLOSE_UP_SHARE / 2 * longer_side
            rows = _merged(close_up[is_large], rows, close_up[~is_large])
        return rows[np.argsort(-rows[:, 14], kind="stable")]

    def _find_turned(self, picture: Picture, upright: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
        """Return the rows of a turn that shows a sure face, in px of the turned picture, and the roll of its faces.

        ``upright`` are the rows of the picture itself; they are returned, with roll 0, if no turn shows a surer face.
        """
        for rolls_deg, side in TURNS:
            small = picture.reduced(side)
            found = [(self._find_at(small.turned(roll_deg), CLOSE_UP_SIDE), roll_deg) for roll_deg in rolls_deg]
            rows, roll_deg = max(found, key=lambda turn: _best(turn[0]))
            if _best(rows) <= _best(upright):
                continue
            # Now that the turn is known, a search at full size finds small faces, too, and is surer.
            rows[:, :14] *= max(picture.size_wh) / max(small.size_wh)
            rows = _merged(self._find(picture.turned(roll_deg)), rows)
            if _best(rows) >= TURNED_SCORE:
                return rows, roll_deg
        return upright, 0.0

    def _find_at(self, picture: Picture, side: int) -> NDArray[np.float32]:
        """Return the rows for a picture reduced to ``side`` px on its longer side, in px of the picture itself."""
        small = picture.reduced(side)
        (width, height), size_wh, rows = picture.size_wh, small.size_wh, small.rows()
        rows[:, 0:14:2] *= width / size_wh[0]
        rows[:, 1:14:2] *= height / size_wh[1]
        return rows


def open_on_cpu(score_threshold: float) -> HostNetwork:
    """Open the network in ONNX Runtime, or where that is not installed in OpenCV; both say the same."""
    try:
        return OnnxYuNet(score_threshold)
    except ModuleNotFoundError:
        return OpenCvYuNet(score_threshold)


def _best(rows: NDArray[np.float32]) -> float:
    """Return the best score, 0 if there are no rows."""
    return float(rows[:, 14].max()) if len(rows) else 0.0


def _turned_back(boxes: NDArray[np.float32], matrix: NDArray[np.float64], roll_deg: float) -> NDArray[np.float32]:
    """Return boxes (N, 4) in px of the picture that ``matrix`` turned: moved, and on their side at 90 degrees."""
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    centre = ((boxes[:, :2] + boxes[:, 2:]) / 2 - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    half = half[:, ::-1] if abs(roll_deg) == 90 else half
    return np.hstack([centre - half, centre + half]).astype(np.float32)


def _largest(rows: NDArray[np.float32], default: float) -> float:
    """Return the longest side of all boxes, ``default`` if there are none."""
    return float(rows[:, 2:4].max()) if len(rows) else default


def _merged(*groups: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the rows of all groups; of two rows that show one face, the one of the earlier group."""
    kept = groups[0]
    for rows in groups[1:]:
        new = [row for row in rows if not _shows_any(row, kept)]
        kept = np.concatenate([kept, np.array(new, np.float32).reshape(-1, ROW)])
    return kept


def _shows_any(row: NDArray[np.float32], others: NDArray[np.float32]) -> bool:
    """Return True if ``row`` overlaps one of ``others`` so much that both show one face, or a part of it."""
    low = np.maximum(row[:2], others[:, :2])
    high = np.minimum(row[:2] + row[2:4], others[:, :2] + others[:, 2:4])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    smaller = np.minimum(np.prod(row[2:4]), np.prod(others[:, 2:4], axis=1))
    return bool((shared > SAME_FACE * smaller).any())
