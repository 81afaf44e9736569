"""Map YuNet's boxes to the tight boxes of the 68 landmarks."""

from __future__ import annotations

import json
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from runtime.errors import FaceMeshError
from runtime.models.shipped import ASSETS

BOX_MAP = ASSETS / "yunet_box_map.json"


def landmark_boxes(rows: NDArray[np.float32], coefficients: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the tight boxes of the 68 landmarks, (N, 4) float32 xyxy px, for YuNet's rows (N, 15).

    ``coefficients`` (11, 4) map `box_features` to the shift of the centre in x and y, in units of YuNet's width and
    height, and to the logarithms of the growth in width and height.
    """
    change = box_features(rows) @ coefficients
    size = rows[:, 2:4].astype(np.float64)
    centre = rows[:, :2] + size / 2 + change[:, :2] * size
    size = size * np.exp(change[:, 2:])
    return np.hstack([centre - size / 2, centre + size / 2]).astype(np.float32)


def box_features(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return (N, 11) features of YuNet's rows (N, 15): a 1 and the five points (x, y).

    The points are relative to the box's centre, in units of its width and height.
    """
    rows = rows.astype(np.float64)
    size = rows[:, 2:4]
    centre = rows[:, :2] + size / 2
    points = (rows[:, 4:14].reshape(-1, 5, 2) - centre[:, None]) / size[:, None]
    return np.hstack([np.ones((len(rows), 1)), points.reshape(-1, 10)])


@lru_cache(maxsize=1)
def load_box_map() -> NDArray[np.float64]:
    """Return the shipped coefficients (11, 4) of `landmark_boxes`; ``python -m training fit-box-map`` makes them."""
    try:
        coefficients = np.array(json.loads(BOX_MAP.read_text(encoding="utf-8"))["coefficients"], np.float64)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FaceMeshError(f"{BOX_MAP}: cannot be read ({error}); install the package again") from error
    if coefficients.shape != (11, 4) or not np.isfinite(coefficients).all():
        found = f"must hold 11 x 4 finite coefficients, has {coefficients.shape}"
        raise FaceMeshError(f"{BOX_MAP}: {found}; install the package again")
    coefficients.flags.writeable = False
    return coefficients
