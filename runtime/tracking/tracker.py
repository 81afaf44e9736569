"""Book of the people in a film: who is seen, who is lost, and which detection belongs to whom."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from runtime.families.family import Family
from runtime.geometry.boxes import SAME_FACE_IOU, box_iou
from runtime.inference.second_look import Look
from runtime.tracking.appearance import blend, difference
from runtime.tracking.motion import place_of
from runtime.tracking.options import Tracking
from runtime.tracking.reunion import CLEAR, NEAR_REACHES, look_appearance, reaches, recognised, reunited
from runtime.tracking.track import SURE, Track
from runtime.types import Detections

LEAST = 0.1  # confidence below which there is no face, unless the detector finds it
PATIENCE_S = 0.5  # that a face between the two is kept without being detected
MEMORY_S = 3.0  # for lost people
# The detector looks for lost people at once, then so often, then more rarely. In between the network looks at the place
# where they should be, in every frame.
SEARCH_S = 0.3
# Two meshes that overlap so much show one face: the other one is hidden behind it.
HIDDEN_IOU = 0.5
# A face that comes back must stand beside the others.
APART_IOU = 0.3
APPEARANCE_S = 0.5  # between two looks at the appearance of a face
APPEARANCE_ALONE_S = 2.0  # of a face whom nobody can be mistaken for
OTHER_LOOKS = 0.4  # difference beyond which a face at the same place after a cut is another person's
CUT_MEMORY_S = 30.0  # for people from before a cut
MARGIN = 0.05  # of a face that may lie outside the picture
MISSES = 2  # detections without it that lose a face whose network tells no confidence
UNSURE_REDETECT_S = 1.0  # time between them at most


class Tracker:
    """All tracks of a film. Per frame: `crops`, `see`, and after a detection `match` and `admit`."""

    def __init__(self, family: Family, settings: Tracking, has_confidence: bool) -> None:
        """Start without people; ``has_confidence``: the network tells when a crop holds no face."""
        self.seen: list[Track] = []  # by number
        self.lost: list[Track] = []
        self._absent: list[Track] = []  # lost at a cut; only another cut brings them back
        self._family = family
        self._settings = settings
        self._has_confidence = has_confidence
        self._redetect_s = settings.redetect_s if has_confidence else min(settings.redetect_s, UNSURE_REDETECT_S)
        self._count = 0
        self._detected_s = -np.inf
        self._search_due_s = 0.0  # for lost people

    def crops(self, time_s: float, size_wh: tuple[int, int]) -> list[NDArray[np.float64]]:
        """Return the crops of a frame of ``size_wh`` px: of the tracks seen, then of the lost ones where expected."""
        lost = self.lost if self._has_confidence else []
        return [track.crop_matrix(time_s, size_wh) for track in (*self.seen, *lost)]

    def landmarks(self) -> list[NDArray[np.float32] | None]:
        """Return what is known of the faces in `crops`: the last landmarks of the tracks seen, None for the lost."""
        lost = self.lost if self._has_confidence else []
        return [*(track.look.face.landmarks for track in self.seen), *(None for _ in lost)]

    def wants_detection(self, time_s: float, step_s: float) -> bool:
        """Return True if the detector is to look at this frame whatever the tracks show."""
        if not self.seen or (not self._has_confidence and any(track.doubt.misses for track in self.seen)):
            return True
        nearest_s = time_s + step_s / 2  # of the frames near the due time the nearest one
        if self.lost and nearest_s >= self._search_due_s:
            since_s = min(track.lost_for(time_s) for track in self.lost)
            self._search_due_s = time_s + max(SEARCH_S, since_s / 2)
            return True
        is_full = self._settings.max_faces is not None and len(self.seen) >= self._settings.max_faces
        return nearest_s - self._detected_s >= self._redetect_s and not (is_full and self._has_confidence)

    def see(
        self,
        looks: Sequence[Look],
        found: Sequence[Look | None],
        image: NDArray[np.uint8],
        time_s: float,
        step_s: float,
        has_jumped: bool,
        is_cut: bool,
    ) -> bool:
        """Take the looks of the tracks seen, and of the lost ones (None: nothing sure there).

        Returns True if the detector is to look at this frame now.
        """
        wants_check = False
        lost_before, back = list(self.lost), [look for look in found if look is not None]
        for track, look in zip(list(self.seen), looks, strict=True):
            is_other = is_cut and difference(track.appearance, look_appearance(look, image)) > OTHER_LOOKS
            if is_other or not _is_inside(look, image.shape[1::-1]):
                self._lose(track, time_s)
                wants_check = True
                continue
            track.see(look, time_s, step_s, has_jumped)
            confidence = look.face.confidence
            if confidence is None or confidence >= SURE:
                if self._has_confidence:
                    track.doubt.relieved(time_s)
            else:
                wants_check |= track.doubt.wants_check(confidence, time_s)
        self._part(image, time_s)
        for track, look in [] if is_cut else self._reunited(lost_before, back, image, time_s):
            if not self._is_hidden(look):
                self._return(track, look, None, time_s, step_s)
        self.lost = [track for track in self.lost if track.lost_for(time_s) <= MEMORY_S]
        self._absent = [track for track in self._absent if track.lost_for(time_s) <= CUT_MEMORY_S]
        self._note_appearances(image, time_s)
        return wants_check or not self.seen

    def match(self, found: Detections, time_s: float) -> list[int]:
        """Settle which tracks the detector confirms; return the numbers of the detections that are others.

        Tracks that need a detection and have none are lost. Detections that confirm a face of low confidence are
        returned, too: a crop by their box may fit better.
        """
        self._detected_s = time_s
        overlaps = [box_iou(track.look.box_xyxy, found.boxes_xyxy).tolist() for track in self.seen]
        pairs = sorted(
            ((iou, row, column) for row, line in enumerate(overlaps) for column, iou in enumerate(line)), reverse=True
        )
        free_rows, free_columns = set(range(len(self.seen))), set(range(len(found)))
        again = []
        for iou, row, column in pairs:
            if iou < SAME_FACE_IOU or row not in free_rows or column not in free_columns:
                continue
            free_rows.discard(row)
            free_columns.discard(column)
            track = self.seen[row]
            track.score = float(found.scores[column])
            confidence = track.look.face.confidence
            if confidence is not None and confidence < SURE:
                again.append(column)
            track.doubt.confirmed(1.0 if confidence is None else confidence)
        for track in [self.seen[row] for row in sorted(free_rows)]:
            self._miss(track, time_s)
        nearest = [max(column, default=0.0) for column in zip(*overlaps, strict=True)] or [0.0] * len(found)
        return sorted([*again, *(column for column in free_columns if nearest[column] < HIDDEN_IOU)])

    def admit(
        self,
        looks: Sequence[Look],
        scores: Sequence[float],
        image: NDArray[np.uint8],
        time_s: float,
        step_s: float,
        is_cut: bool,
    ) -> None:
        """Take the looks at the detections that `match` returned: better looks, people who are back, newcomers.

        ``is_cut``: the picture is another one, so that nobody lost is waited for, and appearance alone tells who it is.
        """
        candidates = []
        for look, score in zip(looks, scores, strict=True):
            if _confidence(look) < LEAST:
                continue
            same = [track for track in self.seen if _iou(track.look, look) > APART_IOU]
            if not same:
                candidates.append((look, score))
            elif len(same) == 1 and _confidence(same[0].look) < min(SURE, _confidence(look)):
                same[0].see(look, time_s, step_s)
        others = [look for look, _ in candidates]
        if is_cut:
            self._absent = [track for track in (*self._absent, *self.lost) if track.appearance is not None]
            self.lost = []
            found = recognised(self._absent, others, image)
        else:
            found = self._reunited(self.lost, others, image, time_s)
        pairs = {id(look): track for track, look in found}
        for look, score in candidates:
            if track := pairs.get(id(look)):
                if not self._is_hidden(look):
                    self._return(track, look, score, time_s, step_s, has_jumped=is_cut)
            elif self._has_room() and not self._is_hidden(look) and self._is_nobody_lost(look, image, time_s):
                self._count += 1
                track = Track(self._count, look, score, self._family, self._settings.smoothing)
                track.see(look, time_s, step_s)
                track.doubt.confirmed(_confidence(look))
                self.seen.append(track)
        self._note_appearances(image, time_s)

    def rescale(self, factor: float | None) -> None:
        """Follow a change of the frame's size by ``factor``; None: the shape is another one, so all start anew."""
        if factor is None:
            self.seen, self.lost, self._absent = [], [], []
            return
        for track in (*self.seen, *self.lost, *self._absent):
            track.rescale(factor)

    def _part(self, image: NDArray[np.uint8], time_s: float) -> None:
        """Lose one of two tracks that show the same face: the one that should be somewhere else."""
        for second, first in combinations(list(self.seen), 2):
            if _iou(first.look, second.look) <= HIDDEN_IOU or first.lost_s is not None or second.lost_s is not None:
                continue
            shown = look_appearance(first.look, image)
            strays = [
                track.place.distance(track.expected(time_s)) + difference(track.appearance, shown)
                for track in (first, second)
            ]
            self._lose(first if strays[0] >= strays[1] else second, time_s)

    def _note_appearances(self, image: NDArray[np.uint8], time_s: float) -> None:
        """Look at the appearance of sure faces, now and then, where nobody else's is in the way."""
        pause_s = APPEARANCE_S if len(self.seen) + len(self.lost) > 1 else APPEARANCE_ALONE_S
        for track in self.seen:
            if time_s - track.appearance_s < pause_s or _confidence(track.look) < SURE:
                continue
            if all(other is track or _iou(track.look, other.look) == 0 for other in self.seen):
                track.appearance = blend(track.appearance, look_appearance(track.look, image))
                track.appearance_s = time_s

    def _reunited(
        self, lost: Sequence[Track], looks: Sequence[Look], image: NDArray[np.uint8], time_s: float
    ) -> list[tuple[Track, Look]]:
        beside = [look for look in looks if not self._is_hidden(look)] if lost else []
        return reunited(lost, beside, [self._is_clear(look, image) for look in beside], image, time_s)

    def _is_clear(self, look: Look, image: NDArray[np.uint8]) -> bool:
        """Return True for a whole face that nothing covers, as far as the network and the other faces tell."""
        if not _is_whole(look, image.shape[1::-1]):
            return False
        confidence = _confidence(look)
        is_apart = all(_iou(track.look, look) == 0 for track in self.seen)
        return confidence >= CLEAR or (confidence >= SURE and is_apart)

    def _is_nobody_lost(self, look: Look, image: NDArray[np.uint8], time_s: float) -> bool:
        """Return False for a face that may be a lost person's, half hidden: it will be seen better soon."""
        size_wh = image.shape[1::-1]
        is_near = any(reaches(track, look, time_s, size_wh) <= NEAR_REACHES for track in self.lost)
        return not is_near or self._is_clear(look, image)

    def _is_hidden(self, look: Look) -> bool:
        return any(_iou(track.look, look) > APART_IOU for track in self.seen)

    def _has_room(self) -> bool:
        most = self._settings.max_faces
        return most is None or len(self.seen) + len(self.lost) < most

    def _miss(self, track: Track, time_s: float) -> None:
        """Judge a track that the detector does not see."""
        confidence = track.look.face.confidence
        if confidence is not None and confidence >= SURE:
            return
        doubt = track.doubt
        if confidence is None:
            doubt.misses += 1
            is_lost = doubt.misses >= MISSES
        else:
            doubt.checked(confidence)
            doubt.since_s = time_s if doubt.since_s is None else doubt.since_s
            is_lost = confidence < LEAST or time_s - doubt.since_s > PATIENCE_S
        if is_lost:
            self._lose(track, time_s)

    def _lose(self, track: Track, time_s: float) -> None:
        self.seen.remove(track)
        track.lose(time_s)
        self.lost.append(track)
        self._search_due_s = time_s + SEARCH_S

    def _return(
        self, track: Track, look: Look, score: float | None, time_s: float, step_s: float, has_jumped: bool = False
    ) -> None:
        for forgotten in (self.lost, self._absent):
            if track in forgotten:
                forgotten.remove(track)
        track.find(score)
        track.see(look, time_s, step_s, has_jumped)
        self.seen.append(track)
        self.seen.sort(key=lambda other: other.number)


def _iou(first: Look, second: Look) -> float:
    """Return the intersection over union of two boxes; for so few, plain numbers are faster than arrays."""
    a, b, c, d = first.box_xyxy.tolist()
    e, f, g, h = second.box_xyxy.tolist()
    width, height = min(c, g) - max(a, e), min(d, h) - max(b, f)
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((c - a) * (d - b) + (g - e) * (h - f) - shared)


def _confidence(look: Look) -> float:
    return 1.0 if look.face.confidence is None else look.face.confidence


def _is_whole(look: Look, size_wh: tuple[int, int]) -> bool:
    """Return True if a face lies in the picture, but for a margin."""
    x1, y1, x2, y2 = look.box_xyxy.tolist()
    x, y = MARGIN * (x2 - x1), MARGIN * (y2 - y1)
    return x1 >= -x and y1 >= -y and x2 <= size_wh[0] + x and y2 <= size_wh[1] + y


def _is_inside(look: Look, size_wh: tuple[int, int]) -> bool:
    """Return True if the middle of a face lies in the picture."""
    place = place_of(look.box_xyxy)
    return 0 <= place.x < size_wh[0] and 0 <= place.y < size_wh[1]
