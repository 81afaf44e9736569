"""Map YuNet's boxes to the tight boxes of the 68 landmarks."""

from __future__ import annotations

import json
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from runtime.errors import FaceMeshError
from runtime.models.shipped import ASSETS

BOX_MAP = ASSETS / "yunet_box_map.json"
FEATURES = 55
NEAR_BORDER = 0.1  # of the box's side


def landmark_boxes(
    rows: NDArray[np.float32], size_wh: ArrayLike, coefficients: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return the tight boxes of the 68 landmarks, (N, 4) float32 xyxy px, for YuNet's rows (N, 15).

    ``size_wh`` (2,) or (N, 2) px is that of the picture. ``coefficients`` (FEATURES, 4) map `box_features` to the shift
    of the centre in x and y, in units of YuNet's width and height, and to the logarithms of the growth in width and
    height.
    """
    change = box_features(rows, size_wh) @ coefficients
    size = rows[:, 2:4].astype(np.float64)
    centre = rows[:, :2] + size / 2 + change[:, :2] * size
    size = size * np.exp(change[:, 2:])
    return np.hstack([centre - size / 2, centre + size / 2]).astype(np.float32)


def box_features(rows: NDArray[np.float32], size_wh: ArrayLike) -> NDArray[np.float64]:
    """Return (N, FEATURES) features of YuNet's rows (N, 15) in a picture of ``size_wh`` px.

    A 1 and the five points (x, y), relative to the box's centre in units of its width and height; then the same times
    each of `border_touch`, since a face that is cut off has its box where the picture ends.
    """
    rows = rows.astype(np.float64)
    size = rows[:, 2:4]
    centre = rows[:, :2] + size / 2
    points = (rows[:, 4:14].reshape(-1, 5, 2) - centre[:, None]) / size[:, None]
    plain = np.hstack([np.ones((len(rows), 1)), points.reshape(-1, 10)])
    touch = np.hstack([np.ones((len(rows), 1)), border_touch(rows, size_wh)])
    return (touch[:, :, None] * plain[:, None]).reshape(-1, FEATURES)


def border_touch(rows: NDArray[np.floating], size_wh: ArrayLike) -> NDArray[np.float64]:
    """Return how near the boxes of YuNet's rows are to the picture's left, upper, right and lower border, (N, 4).

    0 at a tenth of the box's side inside the picture or more, 1 at the border, 1.5 at a twentieth outside or more.
    """
    rows = rows.astype(np.float64)
    start, size = rows[:, :2], rows[:, 2:4]
    gaps = np.hstack([start / size, (np.asarray(size_wh, np.float64) - start - size) / size])
    return np.clip(1 - gaps / NEAR_BORDER, 0, 1.5)


@lru_cache(maxsize=1)
def load_box_map() -> NDArray[np.float64]:
    """Return the shipped coefficients (FEATURES, 4) of `landmark_boxes`; `training.fit_box_map` makes them."""
    try:
        coefficients = np.array(json.loads(BOX_MAP.read_text(encoding="utf-8"))["coefficients"], np.float64)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FaceMeshError(f"{BOX_MAP}: cannot be read ({error}); install the package again") from error
    if coefficients.shape != (FEATURES, 4) or not np.isfinite(coefficients).all():
        found = f"must hold {FEATURES} x 4 finite coefficients, has {coefficients.shape}"
        raise FaceMeshError(f"{BOX_MAP}: {found}; install the package again")
    coefficients.flags.writeable = False
    return coefficients
