"""Short scenes of one face whose motion is known: still, sliding, turning, blinking; with a camera's noise.

A scene has a signal per frame: place of the slide, sine and cosine of the turn's angle, closing of the eyes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.labelled_faces import FaceSet
from benchmarks.films.made_films import GREY, HeadTurner, Photo, moved_points, photo_of, similarity

SIZE_WH = (640, 480)
FPS = 30.0
FACE_PX = 222.0  # sqrt(width × height) of the box of the landmarks
NOISE = 3.0  # standard deviation, grey levels
SETTLE = 30  # frames at the start that do not count
COUNT = 150  # frames of a scene
SLIDE_SPEED = 0.5  # sizes of the face per second
TURN_SPEED = 60.0  # degrees per second
TURN_DEG = 30.0  # to each side
BLINK_EVERY = 30  # frames
# Closing of the eyes in a blink of 0.27 s, frame by frame: faster shut than open.
BLINK = (0.35, 0.85, 1.0, 0.9, 0.6, 0.35, 0.15, 0.05)


@dataclass(frozen=True, eq=False)
class Scene:
    """A film of one face."""

    name: str
    images: list[NDArray[np.uint8]]
    signals: NDArray[np.float64]  # (T, S)
    box_xyxy: NDArray[np.float64]  # (4,) px, of the first frame's landmarks
    size: float  # px, of the face


def make_scenes(faces: FaceSet, row: int, seed: int) -> Iterator[Scene]:
    """Yield the four scenes of one photograph."""
    photo = photo_of(faces, row)
    generator = np.random.default_rng(seed)
    for name, pictures, signals, points in (
        ("still", *_still(photo)),
        ("slide", *_slide(photo)),
        ("turn", *_turn(faces, row)),
        ("blink", *_blink(photo)),
    ):
        box = np.concatenate([points.min(axis=0), points.max(axis=0)])
        yield Scene(name, _noisy(pictures, generator), np.array(signals, float).reshape(COUNT, -1), box, FACE_PX)


def _shown(photo: Photo, x: float = 0.0, size: float = FACE_PX) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return a picture of the photo with its face ``x`` px beside the middle, and its points."""
    matrix = similarity(photo, (SIZE_WH[0] / 2 + x, SIZE_WH[1] / 2), size)
    picture = cv2.warpAffine(photo.image, matrix, SIZE_WH, flags=cv2.INTER_LINEAR, borderValue=(GREY,) * 3)
    return picture, moved_points(photo.points, matrix)


def _noisy(pictures: list[NDArray[np.uint8]], generator: np.random.Generator) -> list[NDArray[np.uint8]]:
    """Add noise, another one to every frame."""
    height, width = SIZE_WH[1], SIZE_WH[0]
    pool = generator.normal(0, NOISE, (height + 256, width + 256, 3)).round().astype(np.int16)
    result = []
    for picture in pictures:
        y, x = generator.integers(0, 256, 2)
        noise = pool[y : y + height, x : x + width]
        result.append(np.clip(picture + noise, 0, 255).astype(np.uint8))
    return result


def _triangle(phase: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a wave of straight lines between -1 and 1, from 0 upwards, with period 1."""
    return 1 - 4 * np.abs((phase + 0.25) % 1 - 0.5)


def _still(photo: Photo) -> tuple:
    picture, points = _shown(photo)
    return [picture] * COUNT, np.zeros(COUNT), points


def _slide(photo: Photo) -> tuple:
    reach = 0.5 * FACE_PX
    period_s = 4 * reach / (SLIDE_SPEED * FACE_PX)
    places = reach * _triangle(np.arange(COUNT) / FPS / period_s)
    return [_shown(photo, x)[0] for x in places], places, _shown(photo)[1]


def _turn(faces: FaceSet, row: int) -> tuple:
    turner = HeadTurner(faces, row)
    angles = TURN_DEG * _triangle(np.arange(COUNT) / FPS / (4 * TURN_DEG / TURN_SPEED))
    views = {}
    for angle in np.unique(angles.round(6)):
        photo = turner.photo(float(angle))
        views[angle] = _shown(photo, size=FACE_PX * photo.size / turner.size)
    radians = np.radians(angles)
    signals = np.stack([np.sin(radians), np.cos(radians)], axis=1)
    shown = [views[angle] for angle in angles.round(6)]
    return [picture for picture, _ in shown], signals, shown[0][1]


def _blink(photo: Photo) -> tuple:
    open_eyes, points = _shown(photo)
    closing = np.zeros(COUNT)
    for start in range(SETTLE + 5, COUNT - len(BLINK), BLINK_EVERY):
        closing[start : start + len(BLINK)] = BLINK
    views = {share: close_eyes(open_eyes, points, share) for share in np.unique(closing)}
    return [views[share] for share in closing], closing, points


def close_eyes(picture: NDArray[np.uint8], points: NDArray[np.float64], share: float) -> NDArray[np.uint8]:
    """Return ``picture`` with both upper lids drawn down by ``share`` of the opening, the skin above stretched.

    ``points`` (68, 2) px are the landmarks with open eyes.
    """
    rows, columns = np.indices(picture.shape[:2], np.float32)
    source = rows.copy()
    for corner, lids, lower, brow in (
        (36, (37, 38, 39), (36, 41, 40, 39), (17, 18, 19, 20, 21)),
        (42, (43, 44, 45), (42, 47, 46, 45), (22, 23, 24, 25, 26)),
    ):
        left, right = points[corner, 0], points[corner + 3, 0]
        xs = np.arange(max(0, int(np.ceil(left))), min(picture.shape[1], int(right) + 1))

        def curve(numbers: tuple[int, ...], xs: NDArray = xs) -> NDArray[np.float64]:
            chosen = points[list(numbers)]
            return np.interp(xs, *chosen[np.argsort(chosen[:, 0])].T)

        upper_lid, lower_lid = curve((corner, *lids)), curve(lower)
        above = np.minimum(curve(brow), upper_lid - 4)
        moved = upper_lid + share * np.maximum(0, lower_lid - upper_lid)
        for x, low, lid, new, end in zip(xs, above, upper_lid, moved, lower_lid, strict=True):
            line = rows[:, x]
            skin, eye = (line >= low) & (line < new), (line >= new) & (line <= end)
            source[skin, x] = low + (line[skin] - low) * (lid - low) / max(1e-3, new - low)
            source[eye, x] = lid + (line[eye] - new) * (end - lid) / max(1e-3, end - new)
    return cv2.remap(picture, columns, source, cv2.INTER_LINEAR)
