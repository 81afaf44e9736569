"""Boxes (x1, y1, x2, y2) in pixels: checks and overlap."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def box_iou(box_xyxy: NDArray, boxes_xyxy: NDArray) -> NDArray[np.float64]:
    """(4,) or (N, 4) and (N, 4) -> (N,) intersection over union."""
    low, high = np.maximum(box_xyxy[..., :2], boxes_xyxy[..., :2]), np.minimum(box_xyxy[..., 2:], boxes_xyxy[..., 2:])
    area = np.prod(np.clip(high - low, 0, None), axis=-1)
    union = np.prod(box_xyxy[..., 2:] - box_xyxy[..., :2], axis=-1) + np.prod(boxes_xyxy[..., 2:] - boxes_xyxy[..., :2], axis=-1) - area
    return area / np.maximum(union, 1e-12)
