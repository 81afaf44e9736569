"""The one crop rule: from a face's box to the network's input. Training and runtime share it."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from runtime.compiled import native
from runtime.errors import FaceMeshError
from runtime.geometry.boxes import MAX_COORDINATE_PX, check_box
from runtime.storage.limits import PIXELS
from runtime.tensors import InputSpec

MAX_SUBSAMPLES = 8
COMMON_PIXELS = 40_000_000  # an image may have so many, whatever the limit


def crop_matrix(box_xyxy: ArrayLike, crop_scale: float, size: int) -> NDArray[np.float64]:
    """Return PRNet's landmark crop as a (2, 3) float64 similarity, frame px -> crop px.

    ``box_xyxy`` (4,) px is the tight box of the 68 landmarks. The square has the side ``crop_scale * (width + height) /
    2``, lies around the centre of the box and becomes ``size`` x ``size`` px (PRNet's ``api.py``: its edges go to 0 and
    size - 1). Raises `FaceMeshError` for a box that `check_box` refuses.
    """
    try:
        matrix = native.crop_matrix(box_xyxy, crop_scale, size, MAX_COORDINATE_PX)
    except (TypeError, ValueError):  # no aligned array of floats
        matrix = None
    if matrix is None:
        matrix = native.crop_matrix(np.array(_sides(box_xyxy), np.float64), crop_scale, size, MAX_COORDINATE_PX)
    return matrix


def turned_crop(matrix: NDArray[np.float64], centre_xy: ArrayLike, roll_deg: float) -> NDArray[np.float64]:
    """Return the crop of ``matrix`` (2, 3) after turning the frame about ``centre_xy`` (2,) px.

    A face that is turned clockwise by ``roll_deg`` is upright in the result; (2, 3) float64, frame px -> crop px.
    """
    if roll_deg == 0:
        return matrix
    centre, roll = np.asarray(centre_xy, np.float64), math.radians(roll_deg)
    c, s = math.cos(roll), math.sin(roll)
    linear = matrix[:, :2] @ np.array([[c, s], [-s, c]])
    shift = matrix[:, 2] + (matrix[:, :2] - linear) @ centre
    return np.column_stack([linear, shift])


def crop_roll_deg(matrix: NDArray[np.float64]) -> float:
    """Return the roll that a crop takes off a face: ``roll_deg`` of `turned_crop`, degrees in -180..180."""
    return math.degrees(math.atan2(matrix[0, 1], matrix[0, 0]))


def landmark_box(landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the tight box (4,) px of points (N, 3) px."""
    return np.array(native.upright_box(landmarks, 0.0), np.float32)


def upright_box(landmarks: NDArray[np.float32], roll_deg: float) -> tuple[tuple[float, float], float, float]:
    """Return middle (px of the frame), width and height of the box of points (N, 3) px that lies turned by a roll."""
    roll = math.radians(roll_deg)
    x1, y1, x2, y2 = native.upright_box(landmarks, roll)
    c, s, x, y = math.cos(roll), math.sin(roll), (x1 + x2) / 2, (y1 + y2) / 2
    return (c * x - s * y, s * x + c * y), x2 - x1, y2 - y1


def longer_side_crop_matrix(box_xyxy: ArrayLike, crop_scale: float, size: int) -> NDArray[np.float64]:
    """Return 3DDFA's landmark crop as a (2, 3) float64 similarity, frame px -> crop px.

    The square has the side ``crop_scale`` times the longer side of the box, lies around the centre of the box and
    becomes ``size`` x ``size`` px: the outer edges of its pixels go to those of the crop's, -0.5 and size - 0.5.
    ``box_xyxy`` and errors are those of `crop_matrix`.
    """
    x1, y1, x2, y2 = _sides(box_xyxy)
    scale = size / (crop_scale * max(x2 - x1, y2 - y1))
    middle = (size - 1) / 2
    return _upright(scale, middle - scale * (x1 + x2) / 2, middle - scale * (y1 + y2) / 2)


def _upright(scale: float, shift_x: float, shift_y: float) -> NDArray[np.float64]:
    return np.array((scale, 0.0, shift_x, 0.0, scale, shift_y)).reshape(2, 3)


def _sides(box_xyxy: ArrayLike) -> list[float]:
    """Return x1, y1, x2, y2 of a sound box."""
    box = np.asarray(box_xyxy)
    if box.shape != (4,):
        raise ValueError(f"box_xyxy must have shape (4,), has {box.shape}")
    sides = box.tolist()
    check_box(sides)
    return sides


def warp_crop(
    image: NDArray[np.uint8], matrix: NDArray[np.float64], size: int, out: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Return the crop (size, size, 3) uint8 of ``image`` (H, W, 3) uint8 by a similarity, black outside the picture.

    It is antialiased: for a crop that shrinks the picture by 1/s, every crop pixel is the mean of n x n bilinear
    samples, n = round(1/s), at most 8.
    """
    check_image(image)
    image = with_plain_rows(image)
    samples = _subsamples(check_matrix(matrix))
    if samples == 1:
        return cv2.warpAffine(image, matrix, (size, size), dst=out, flags=cv2.INTER_LINEAR)
    # The samples of crop pixel x are the fine pixels around n * x + (n - 1) / 2.
    fine = samples * np.asarray(matrix, dtype=np.float64)
    fine[:, 2] += (samples - 1) / 2
    warped = cv2.warpAffine(image, fine, (samples * size, samples * size), flags=cv2.INTER_LINEAR)
    return cv2.resize(warped, (size, size), dst=out, interpolation=cv2.INTER_AREA)


def crop_into(image: NDArray[np.uint8], matrix: NDArray[np.float64], spec: InputSpec, out: NDArray[np.float32]) -> None:
    """Write the `warp_crop` of a BGR picture into ``out``, in the colour order and value range of ``spec``.

    ``out`` is float32, contiguous and writable, of ``spec.shape``: one image of a runner's input batch.
    A matrix without rotation takes a native path that skips the rounding to uint8 in between. One that turns and
    shrinks takes it, too, and turns its result: the same antialiasing for a fifth of the time. A landmark channel is
    left as it is: `draw_landmarks` fills it.
    """
    form = (spec.layout == "NHWC", spec.colour_order == "RGB", *spec.value_range)
    colours = out[:3] if spec.landmark_channel else out
    # Behind a network this code is no longer in the caches, so that each line costs microseconds: first the common
    # case, which the native function checks by itself, and the words for what is wrong only when something is.
    try:
        if out.shape == spec.shape and native.crop_axis_aligned(image, matrix, MAX_SUBSAMPLES, colours, *form):
            return
    except (TypeError, ValueError):
        pass
    check_image(image)
    if out.shape != spec.shape or out.dtype != np.float32 or not (out.flags.c_contiguous and out.flags.writeable):
        raise ValueError(f"out must be a contiguous writable float32 {spec.shape}, is {out.dtype} of shape {out.shape}")
    image = with_plain_rows(image)
    check_matrix(matrix)
    native.crop_turned(image, matrix, colours, *form)


def draw_landmarks(landmarks: NDArray[np.float32], matrix: NDArray[np.float64], out: NDArray[np.float32]) -> None:
    """Fill the landmark channel of one image of a runner's input batch, ``out`` (4, S, S) float32.

    It is -1, and 1 at 18 points of ``landmarks`` (68, 3) float32, frame px: brows, eyes, nose, mouth (2DASL, Tu et al.,
    IEEE TMM 2020). Points outside the crop of ``matrix`` (2, 3) are drawn at its border.
    """
    native.draw_landmarks(landmarks, matrix, out[3])


def check_image(image: NDArray[np.uint8]) -> None:
    """Raise `ValueError` unless ``image`` is (H, W, 3) uint8 and not empty, `FaceMeshError` beyond the limit."""
    is_array = isinstance(image, np.ndarray)
    if not is_array or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        found = f"{image.dtype} of shape {image.shape}" if is_array else type(image).__name__
        raise ValueError(f"the image must be (H, W, 3) uint8 BGR and not empty, is {found}")
    height, width = image.shape[:2]
    # A view may have more than the memory of the machine. Frames must not pay for the look into the environment.
    if width * height > COMMON_PIXELS and (excess := PIXELS.excess(width * height)):
        raise FaceMeshError(f"the image has {width} x {height} px: {excess}; reduce the picture")


def with_plain_rows(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return ``image`` (H, W, 3) uint8, or a copy if its pixels do not follow each other.

    OpenCV would copy it, too, but ends the process where memory is short. Raises `FaceMeshError` there.
    """
    if image.strides[1:] == (3, 1) and image.strides[0] >= 3:
        return image
    try:
        return np.ascontiguousarray(image)
    except MemoryError:
        height, width = image.shape[:2]
        raise FaceMeshError(f"no memory for a copy of {width} x {height} px; give a contiguous array") from None


def check_matrix(matrix: NDArray[np.float64]) -> float:
    """Return the scale of a (2, 3) float64 crop matrix; raise `ValueError` if it is singular or not finite."""
    if matrix.shape != (2, 3) or matrix.dtype != np.float64:
        raise ValueError(f"the crop matrix must be (2, 3) float64, is {matrix.dtype} of shape {matrix.shape}")
    (a, b, x), (c, d, y) = matrix.tolist()
    scale = abs(a * d - b * c) ** 0.5
    if not (0 < scale < math.inf and math.isfinite(x + y)):
        raise ValueError(f"the crop matrix is singular or not finite: {matrix.tolist()}")
    return scale


def _subsamples(scale: float) -> int:
    """Return the samples per crop pixel and axis for a crop that scales by ``scale``."""
    return min(MAX_SUBSAMPLES, max(1, round(1 / scale)))
