"""Boxes (x1, y1, x2, y2) in pixels: checks and overlap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from runtime.errors import FaceMeshError, reason

SAME_FACE_IOU = 0.2  # a detected box and the labelled box of one face overlap at least so much
LEAST_SIDE_PX = 1e-3  # a crop of less is no picture
MAX_COORDINATE_PX = 1e6  # far beyond any picture, near enough for float32


def check_box(box_xyxy: Sequence[float], least_side_px: float = 0.0) -> None:
    """Raise `FaceMeshError` unless x1 < x2, y1 < y2 and all four numbers are finite and at most `MAX_COORDINATE_PX`.

    A width or height below ``least_side_px`` is refused, too.
    """
    x1, y1, x2, y2 = box_xyxy
    far = MAX_COORDINATE_PX
    # Sound boxes, several per frame, must not pay for the text of an error.
    if -far <= x1 < x2 <= far and -far <= y1 < y2 <= far and min(x2 - x1, y2 - y1) >= least_side_px:
        return
    box = f"box {x1:g},{y1:g},{x2:g},{y2:g}"
    if not all(abs(coordinate) <= MAX_COORDINATE_PX for coordinate in box_xyxy):  # False for NaN
        raise FaceMeshError(f"{box}: not a box, not finite or far off; give x1,y1,x2,y2 in pixels of the picture")
    if x1 >= x2 or y1 >= y2:
        raise FaceMeshError(f"{box}: not a box, reversed or empty; give x1,y1,x2,y2 in pixels with x1 < x2 and y1 < y2")
    if min(x2 - x1, y2 - y1) < least_side_px:
        size = f"under {least_side_px:g} px wide or high"
        raise FaceMeshError(f"{box}: {size}; give x1,y1,x2,y2 in pixels of the picture")


def real_numbers(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """Return ``values`` as float64; raises `FaceMeshError` for ragged lists, texts, objects and complex numbers."""
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise FaceMeshError(f"{name}: {reason(error)}; give an array of numbers") from None
    if array.dtype.kind not in "biuf":
        raise FaceMeshError(f"{name} holds {array.dtype}; give an array of numbers")
    return array.astype(np.float64, copy=False)


def check_boxes(boxes_xyxy: ArrayLike, size_wh: tuple[int, int]) -> NDArray[np.float64]:
    """Return ``boxes_xyxy`` as (N, 4) float64 after checking every box for a picture of ``size_wh`` pixels.

    Raises `FaceMeshError` for another shape, for a box that `check_box` refuses and for one outside the picture.
    """
    boxes = real_numbers(boxes_xyxy, "boxes_xyxy")
    if boxes.size == 0:
        boxes = boxes.reshape(-1, 4)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise FaceMeshError(f"boxes_xyxy must be (N, 4), is {boxes.shape}")
    width, height = size_wh
    for x1, y1, x2, y2 in boxes.tolist():
        check_box((x1, y1, x2, y2), LEAST_SIDE_PX)
        if x1 >= width or y1 >= height or x2 <= -1 or y2 <= -1:
            raise FaceMeshError(
                f"box {x1:g},{y1:g},{x2:g},{y2:g}: lies outside the picture of {width} x {height}; "
                "boxes are in pixels of the picture as it is shown"
            )
    return boxes


def box_iou(box_xyxy: NDArray[Any], boxes_xyxy: NDArray[Any]) -> NDArray[np.float64]:
    """Return (N,) intersection over union of ``box_xyxy``, (4,) or (N, 4), with ``boxes_xyxy`` (N, 4)."""
    low = np.maximum(box_xyxy[..., :2], boxes_xyxy[..., :2])
    high = np.minimum(box_xyxy[..., 2:], boxes_xyxy[..., 2:])
    area = np.prod(np.clip(high - low, 0, None), axis=-1)
    union = _area(box_xyxy) + _area(boxes_xyxy) - area
    return area / np.maximum(union, 1e-12)


def _area(boxes_xyxy: NDArray[Any]) -> NDArray[np.float64]:
    return np.prod(boxes_xyxy[..., 2:] - boxes_xyxy[..., :2], axis=-1)
