"""Perturbations of a photograph that move the landmarks of its face along.

Every function takes a `FacePicture`, a level in the unit that it names, and a random generator for what the level
leaves open, a direction for instance. It returns a new `FacePicture`. The whole picture is perturbed, not a crop, so
that detection sees the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.errors import FaceMeshError
from runtime.geometry.nme import box_size

RIGHT_ANGLE_DEG = 90
MOST_PIXELS = 10**8  # of a scaled picture
STEPS_PER_PX = 8  # of the line that motion blur averages along


@dataclass(frozen=True, eq=False)
class FacePicture:
    """A picture and the landmarks of one face in it. The landmarks may lie outside the picture."""

    image: NDArray[np.uint8]  # (H, W, 3) BGR
    points: NDArray[np.float64]  # (68, 2) px

    @property
    def box_xyxy(self) -> NDArray[np.float64]:
        """Tight box of the landmarks, (4,) px."""
        return np.concatenate([self.points.min(axis=0), self.points.max(axis=0)])

    @property
    def size_px(self) -> float:
        """Size of the face: sqrt(width × height) of its box."""
        return float(box_size(self.box_xyxy[None])[0])


def unchanged(face: FacePicture, level: float, generator: np.random.Generator) -> FacePicture:
    """Return the face itself."""
    return face


def roll(face: FacePicture, degrees: float, generator: np.random.Generator) -> FacePicture:
    """Turn the picture clockwise. It grows, so that no part of it is lost; black fills the corners."""
    if degrees % RIGHT_ANGLE_DEG == 0:
        return _turn_by_right_angles(face, round(degrees / RIGHT_ANGLE_DEG) % 4)
    height, width = face.image.shape[:2]
    radians = math.radians(degrees)
    turn = np.array([[math.cos(radians), -math.sin(radians)], [math.sin(radians), math.cos(radians)]])  # y down
    grown = np.ceil(np.abs(turn) @ (width, height)).astype(int)
    centre = np.array([width - 1, height - 1]) / 2
    matrix = np.hstack([turn, ((grown - 1) / 2 - turn @ centre)[:, None]])
    image = cv2.warpAffine(face.image, matrix, grown.tolist(), flags=cv2.INTER_CUBIC)
    return FacePicture(image, face.points @ turn.T + matrix[:, 2])


def size(face: FacePicture, pixels: float, generator: np.random.Generator) -> FacePicture:
    """Scale the picture so that the face, sqrt(width × height) of its box, has that many pixels."""
    scale = pixels / face.size_px
    return _resize(face, scale, scale)


def aspect(face: FacePicture, factor: float, generator: np.random.Generator) -> FacePicture:
    """Stretch the picture in x by a factor, as a film shown with the wrong aspect is."""
    return _resize(face, factor, 1.0)


def blur(face: FacePicture, percent: float, generator: np.random.Generator) -> FacePicture:
    """Blur by a Gaussian with a standard deviation in % of the face's size."""
    sigma = percent / 100 * face.size_px
    return FacePicture(cv2.GaussianBlur(face.image, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), face.points)


def motion_blur(face: FacePicture, percent: float, generator: np.random.Generator) -> FacePicture:
    """Average along a straight line of a length in % of the face's size, in a random direction."""
    length = percent / 100 * face.size_px
    angle = generator.uniform(0, math.pi)
    along = np.linspace(-length / 2, length / 2, max(2, math.ceil(STEPS_PER_PX * length)))
    reach = math.ceil(length / 2)
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    x, y = reach + along * math.cos(angle), reach + along * math.sin(angle)
    # Every step adds to the four pixels around it.
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    for column, row in ((0, 0), (1, 0), (0, 1), (1, 1)):
        weight = (1 - np.abs(x - left - column)) * (1 - np.abs(y - top - row))
        inside = weight > 0
        np.add.at(kernel, (top[inside] + row, left[inside] + column), weight[inside])
    image = cv2.filter2D(face.image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)
    return FacePicture(image, face.points)


def gain(face: FacePicture, factor: float, generator: np.random.Generator) -> FacePicture:
    """Multiply the grey levels; what exceeds 255 is lost, as in an overexposed picture."""
    return _with_levels(face, factor * np.arange(256.0))


def gamma(face: FacePicture, exponent: float, generator: np.random.Generator) -> FacePicture:
    """Raise the grey levels, as shares of 255, to a power: above 1 the picture gets darker, black and white stay."""
    return _with_levels(face, 255 * (np.arange(256) / 255) ** exponent)


def contrast(face: FacePicture, factor: float, generator: np.random.Generator) -> FacePicture:
    """Multiply the distance of the grey levels to 127.5: below 1 the picture is hazy."""
    return _with_levels(face, 127.5 + factor * (np.arange(256) - 127.5))


def noise(face: FacePicture, sigma: float, generator: np.random.Generator) -> FacePicture:
    """Add Gaussian noise with a standard deviation in grey levels, independent in all pixels and channels."""
    noisy = face.image + sigma * generator.standard_normal(face.image.shape, np.float32)
    return FacePicture(_grey_levels(noisy), face.points)


def jpeg(face: FacePicture, quality: float, generator: np.random.Generator) -> FacePicture:
    """Compress as JPEG of a quality from 1 to 100."""
    data = cv2.imencode(".jpg", face.image, [cv2.IMWRITE_JPEG_QUALITY, round(quality)])[1]
    return FacePicture(cv2.imdecode(data, cv2.IMREAD_COLOR), face.points)


def occlusion(face: FacePicture, percent: float, generator: np.random.Generator) -> FacePicture:
    """Cover a share of the box, in %, by a rectangle of one colour; place, colour and shape are random."""
    share = percent / 100
    low, high = face.box_xyxy[:2], face.box_xyxy[2:]
    longest = min(2.0, 1 / share)
    shape = math.exp(generator.uniform(-math.log(longest), math.log(longest)))
    covered = (high - low) * math.sqrt(share) * np.array([math.sqrt(shape), 1 / math.sqrt(shape)])
    start = generator.uniform(low, high - covered)
    # The edges of pixels are at halves.
    (left, top), (right, bottom) = np.clip((np.array([start, start + covered]) + 0.5).round().astype(int), 0, None)
    image = face.image.copy()
    image[top:bottom, left:right] = generator.integers(0, 256, 3)
    return FacePicture(image, face.points)


def cut_top(face: FacePicture, percent: float, generator: np.random.Generator) -> FacePicture:
    """Cut the picture's top off so that a share of the height of the face, in %, is beyond its border."""
    top = _edge(face.box_xyxy[1], face.box_xyxy[3], percent, face.image.shape[0])
    return FacePicture(np.ascontiguousarray(face.image[top:]), face.points - (0, top))


def cut_bottom(face: FacePicture, percent: float, generator: np.random.Generator) -> FacePicture:
    """Cut the picture's bottom off, as `cut_top`."""
    return _flipped(cut_top(_flipped(face, 1), percent, generator), 1)


def cut_left(face: FacePicture, percent: float, generator: np.random.Generator) -> FacePicture:
    """Cut the picture's left part off so that a share of the width of the face, in %, is beyond its border."""
    left = _edge(face.box_xyxy[0], face.box_xyxy[2], percent, face.image.shape[1])
    return FacePicture(np.ascontiguousarray(face.image[:, left:]), face.points - (left, 0))


def cut_right(face: FacePicture, percent: float, generator: np.random.Generator) -> FacePicture:
    """Cut the picture's right part off, as `cut_left`."""
    return _flipped(cut_left(_flipped(face, 0), percent, generator), 0)


def _edge(low: float, high: float, percent: float, length: int) -> int:
    """Return the first pixel of ``length`` that stays, at least the last one."""
    return int(np.clip(round(low + percent / 100 * (high - low) + 0.5), 0, length - 1))


def _flipped(face: FacePicture, axis: int) -> FacePicture:
    """Mirror in x (0) or y (1); the landmarks keep their order."""
    length = face.image.shape[1 - axis]
    points = face.points.copy()
    points[:, axis] = length - 1 - points[:, axis]
    return FacePicture(np.ascontiguousarray(np.flip(face.image, 1 - axis)), points)


def _turn_by_right_angles(face: FacePicture, count: int) -> FacePicture:
    """Turn clockwise without interpolation."""
    for _ in range(count):
        height = face.image.shape[0]
        points = np.stack([height - 1 - face.points[:, 1], face.points[:, 0]], axis=1)
        face = FacePicture(np.ascontiguousarray(np.rot90(face.image, -1)), points)
    return face


def _resize(face: FacePicture, scale_x: float, scale_y: float) -> FacePicture:
    """Scale to whole pixels; the landmarks follow the rounded size."""
    old = np.array(face.image.shape[1::-1])
    new = np.maximum(1, (old * (scale_x, scale_y)).round().astype(int))
    if new.prod() > MOST_PIXELS:
        found = (
            f"a picture of {old[0]} x {old[1]} px with a face of {face.size_px:.0f} px would become {new[0]} x {new[1]}"
        )
        raise FaceMeshError(f"{found}; leave 'size' out with --only, or cut the pictures round their faces")
    shrinks = new.prod() < old.prod()
    image = cv2.resize(face.image, new.tolist(), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return FacePicture(image, (face.points + 0.5) * (new / old) - 0.5)


def _with_levels(face: FacePicture, levels: NDArray[np.float64]) -> FacePicture:
    """Replace every grey level by that of ``levels`` (256,)."""
    return FacePicture(cv2.LUT(face.image, _grey_levels(levels)), face.points)


def _grey_levels(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
