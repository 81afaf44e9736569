"""One person over time."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from runtime.families.family import Family
from runtime.inference.second_look import Look
from runtime.tracking.face_crop import FaceCrop
from runtime.tracking.motion import Motion, Place, place_of
from runtime.tracking.one_euro import PointFilter
from runtime.tracking.options import Smoothing

RELIEF_S = 1.0
SURE = 0.5  # confidence of a face that needs no check
JUMP = 0.5  # sizes of the face from frame to frame; what moves further is not in motion but somewhere else


class Doubt:
    """Distances between the detector's checks of a face with a low confidence: they double from check to check."""

    def __init__(self) -> None:
        """Start with a check at once."""
        self.since_s: float | None = None  # of a low confidence that the detector does not confirm
        self.misses = 0  # detections in turn without it
        self._last_s = 0.0  # of a low confidence
        self._gap = 0  # frames
        self._waited = 0
        self._level = 1.0

    def relieved(self, time_s: float) -> None:
        """Note a frame with a high confidence; after a second of them all is forgotten."""
        self.since_s = None
        if self._gap and time_s - self._last_s > RELIEF_S:
            self._gap, self._level = 0, 1.0

    def wants_check(self, confidence: float, time_s: float) -> bool:
        """Count a frame with a low confidence; return True if the detector is to look. A further drop is urgent."""
        self._last_s = time_s
        self._waited += 1
        return self._waited > self._gap or confidence < self._level / 2

    def confirmed(self, confidence: float) -> None:
        """Note that the detector sees the face."""
        self.since_s = None
        self.misses = 0
        self.checked(confidence)

    def checked(self, confidence: float) -> None:
        """Wait longer before the next check."""
        self._gap = max(1, 2 * self._gap)
        self._waited = 0
        self._level = confidence


class Track:
    """One person: number, last look, motion, crop and filters."""

    def __init__(self, number: int, look: Look, score: float, family: Family, smoothing: Smoothing | None) -> None:
        """Start with a look at the face; ``score`` is its detection's. `see` comes next."""
        self.number = number
        self.look = look
        self.score = score
        self.place = place_of(look.box_xyxy)
        self.doubt = Doubt()
        self.lost_s: float | None = None  # when it was lost
        self.appearance: NDArray[np.float32] | None = None
        self.appearance_s = -math.inf  # of its last look
        self._motion = Motion()  # of the looks that the network is sure of
        self._sure_roll_deg = 0.0
        self._crop = FaceCrop(family, None if smoothing is None else smoothing.crop)
        self._smoothing = smoothing
        self._filters: list[PointFilter] = []
        self._is_new = True

    def see(self, look: Look, time_s: float, step_s: float, has_jumped: bool = False) -> None:
        """Take the look at this frame, ``step_s`` after the one before; ``has_jumped``: the past does not count."""
        place = place_of(look.box_xyxy)
        if has_jumped:
            self._motion = Motion()
        if self._is_new or has_jumped or place.distance(self.place) > JUMP:
            self._crop.reset()
            self._filters = []
        self._is_new = False
        self.look = look
        self.place = place
        roll_deg = look.picture_roll_deg
        confidence = look.face.confidence
        if confidence is None or confidence >= SURE or not self._motion:
            self._motion.add(time_s, place)
            self._sure_roll_deg = roll_deg
        self._crop.follow(look.face.landmarks, roll_deg, step_s, place.size)

    def lose(self, time_s: float) -> None:
        """Keep the number and the motion until the face is found again."""
        self.lost_s = time_s

    def lost_for(self, time_s: float) -> float:
        """Return the time since the face was lost, 0 for one that is seen."""
        return 0.0 if self.lost_s is None else time_s - self.lost_s

    def find(self, score: float | None) -> None:
        """Go on after a loss; filters start anew, and `see` comes next. ``score`` None keeps the last one."""
        self.lost_s = None
        self.doubt = Doubt()
        self._is_new = True
        if score is not None:
            self.score = score

    def crop_matrix(self, time_s: float, size_wh: tuple[int, int]) -> NDArray[np.float64]:
        """Return the crop for the next frame, of a lost face at the place in the picture where it is expected."""
        if self.lost_s is None:
            return self._crop.matrix()
        return self._crop.matrix_at(self.expected(time_s).inside(size_wh), self._sure_roll_deg)

    def expected(self, time_s: float) -> Place:
        """Return the place at a time, by the motion before."""
        return self._motion.expected(time_s)

    def rescale(self, factor: float) -> None:
        """Follow a change of the frame's size by ``factor``."""
        self.place = self.place.scaled(factor)
        self.look = self.look.scaled(factor)
        self._crop.rescale(factor)
        self._is_new = True
        self._motion.rescale(factor)

    def smooth(self, step_s: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return vertices and landmarks of the last look, filtered: in arrays of their own if a filter is on."""
        vertices, landmarks = self.look.face.vertices, self.look.face.landmarks
        if self._smoothing is None:
            return vertices, landmarks
        if not self._filters:
            self._filters = [PointFilter(self._smoothing.points), PointFilter(self._smoothing.points)]
        landmarks = landmarks.copy()  # the look keeps the measured ones for the next crop
        for points, point_filter in zip((vertices, landmarks), self._filters, strict=True):
            point_filter(points, step_s, self.place.size)
        return vertices, landmarks
