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


def reunited(
    tracks: Sequence[Track], looks: Sequence[Look], image: NDArray[np.uint8], time_s: float
) -> list[tuple[Track, Look]]:
    """Return which lost track each look shows, by the place where it is expected and by appearance."""
    if not tracks or not looks:
        return []
    shown = [look_appearance(look, image) for look in looks]
    costs = []
    for track in tracks:
        expected, reach = track.expected(time_s), REACH + REACH_PER_S * track.lost_for(time_s)
        costs.append(
            [
                place_of(look.box_xyxy).distance(expected) / reach + difference(track.appearance, appearance)
                for look, appearance in zip(looks, shown, strict=True)
            ]
        )
    return [(tracks[row], looks[column]) for row, column in assign(costs, 1.0)]


def recognised(tracks: Sequence[Track], looks: Sequence[Look], image: NDArray[np.uint8]) -> list[tuple[Track, Look]]:
    """Return which track each look shows, by appearance alone; of these tracks it is known."""
    shown = [look_appearance(look, image) for look in looks] if tracks else []
    costs = [[1.0 if other is None else difference(track.appearance, other) for other in shown] for track in tracks]
    return [(tracks[row], looks[column]) for row, column in assign(costs, SAME_LOOKS)]


def look_appearance(look: Look, image: NDArray[np.uint8]) -> NDArray[np.float32] | None:
    """Return the appearance of the face of a look at ``image`` (H, W, 3)."""
    return appearance_of(image, look.face.landmarks, place_of(look.box_xyxy).size)
