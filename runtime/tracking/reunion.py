"""Lost people and the faces that may be theirs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.inference.second_look import Look
from runtime.tracking.appearance import appearance_of, difference
from runtime.tracking.assignment import assign
from runtime.tracking.motion import place_of
from runtime.tracking.track import Track

# Distance, in sizes of the face, at which a face can be that of a lost track; it grows with the time since.
REACH = 0.8
REACH_PER_S = 0.8
# Of the pairs of 120 photographs of different people 1 % differ by less than 0.2 in appearance and 5 % by less than
# 0.3. The same photographs at another size and brightness differ by less than 0.2 in 99 % of the cases.
SAME_LOOKS = 0.25
# Price of a pair, below 1: somebody who looks the same may be anywhere, somebody at the right place may have turned.
LOOKS_PRICE = 1.65  # of a difference of 1 in appearance
PLACE_PRICE = 0.25  # of a distance as far as the track reaches
MOST_REACHES = 2.0  # beyond it all places are as good
NEAR_REACHES = 1.5  # of a lost person who may be the one that a face shows
CLEAR = 0.9  # confidence of a face in front of all others; faces behind others look different


def reunited(
    tracks: Sequence[Track], looks: Sequence[Look], are_clear: Sequence[bool], image: NDArray[np.uint8], time_s: float
) -> list[tuple[Track, Look]]:
    """Return which lost track each look shows, by the place where it is expected and by appearance.

    The appearance of a look that is not clear says nothing: only its place can tell, if one lost person alone is near.
    """
    if not tracks or not looks:
        return []
    size_wh = image.shape[1::-1]
    places = [[reaches(track, look, time_s, size_wh) for look in looks] for track in tracks]
    shown = [look_appearance(look, image) if clear else None for look, clear in zip(looks, are_clear, strict=True)]
    costs: list[list[float]] = []
    for track, row in zip(tracks, places, strict=True):
        costs.append([])
        for column, (place, appearance) in enumerate(zip(row, shown, strict=True)):
            if appearance is not None and track.appearance is not None:
                unlike = LOOKS_PRICE * difference(track.appearance, appearance)
                costs[-1].append(unlike + PLACE_PRICE * min(place, MOST_REACHES))
            else:
                is_alone = are_clear[column] or sum(other[column] < NEAR_REACHES for other in places) == 1
                costs[-1].append(place if is_alone else 1.0)
    return [(tracks[row], looks[column]) for row, column in assign(costs, 1.0)]


def reaches(track: Track, look: Look, time_s: float, size_wh: tuple[int, int]) -> float:
    """Return how far a look lies from the expected place of a lost track, in distances that the track can go."""
    distance = place_of(look.box_xyxy).distance(track.expected(time_s).inside(size_wh))
    return distance / (REACH + REACH_PER_S * track.lost_for(time_s))


def recognised(tracks: Sequence[Track], looks: Sequence[Look], image: NDArray[np.uint8]) -> list[tuple[Track, Look]]:
    """Return which track each look shows, by appearance alone; of these tracks it is known."""
    shown = [look_appearance(look, image) for look in looks] if tracks else []
    costs = [[1.0 if other is None else difference(track.appearance, other) for other in shown] for track in tracks]
    return [(tracks[row], looks[column]) for row, column in assign(costs, SAME_LOOKS)]


def look_appearance(look: Look, image: NDArray[np.uint8]) -> NDArray[np.float32] | None:
    """Return the appearance of the face of a look at ``image`` (H, W, 3)."""
    return appearance_of(image, look.face.landmarks, place_of(look.box_xyxy).size)
