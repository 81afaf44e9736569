"""Films made from labelled photographs, with the truth for every frame. All chance is seeded.

Films of one face move the whole photograph over a grey picture of 1280 x 720. Films of several people cut heads out of
their photographs and move them over a grey picture; the later ones of a cast stand in front.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.labelled_faces import FaceSet
from runtime.types import Frame
from training.turning.render import render_turned
from training.turning.turned_mesh import make_photo_mesh, turned_pose

SIZE_WH = (1280, 720)
FPS = 25.0
GREY = 96
FACE_PX = 200.0  # sqrt(width × height) of the box of a face in a film of one face
HEAD = 1.45  # height and width of a head, in those of the box of the landmarks
RISE = 0.17  # of the head's middle over that of the box, in heights of the box
MOST_COVERED = 0.4  # share of a head behind others or outside the picture; beyond it the face is not there
BLUR = 0.03  # largest sigma, of the face's size
CUT_EVERY_S = 1.6


@dataclass(frozen=True, eq=False)
class TrueFace:
    """One person in one frame."""

    person: int
    points: NDArray[np.float64]  # (68, 2) px
    visible: bool

    @property
    def box_xyxy(self) -> NDArray[np.float64]:
        """Tight box (4,) px of the points."""
        return np.concatenate([self.points.min(axis=0), self.points.max(axis=0)])


MadeFrame = tuple[Frame, list[TrueFace]]
FilmMaker = Callable[[FaceSet, np.random.Generator, int], Iterator[MadeFrame]]


@dataclass(frozen=True, eq=False)
class Photo:
    """A photograph and the points (68, 2) px of its face."""

    image: NDArray[np.uint8]
    points: NDArray[np.float64]

    @property
    def size(self) -> float:
        """Root of width × height, px, of the points' box."""
        return float(np.sqrt(np.prod(np.ptp(self.points, axis=0))))

    @property
    def middle(self) -> NDArray[np.float64]:
        """Middle (2,) of the points' box."""
        return (self.points.min(axis=0) + self.points.max(axis=0)) / 2


def photo_of(faces: FaceSet, row: int) -> Photo:
    """Return one labelled photograph."""
    return Photo(faces.images[row], faces.labels.pts68[row, :, :2].astype(np.float64))


def similarity(photo: Photo, place_xy: Sequence[float], size: float, roll_deg: float = 0.0) -> NDArray[np.float64]:
    """Return the (2, 3) matrix, px of the photo -> px of the film, for a face of ``size`` px at a place."""
    scale, roll = size / photo.size, math.radians(roll_deg)
    c, s = scale * math.cos(roll), scale * math.sin(roll)
    linear = np.array([[c, -s], [s, c]])
    return np.column_stack([linear, np.asarray(place_xy) - linear @ photo.middle])


def moved_points(points: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return points (N, 2) after a (2, 3) matrix."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def shown(image: NDArray[np.uint8], matrix: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the film's picture with ``image`` moved by ``matrix`` over grey, antialiased where it shrinks."""
    scale = math.sqrt(abs(np.linalg.det(matrix[:, :2])))
    if scale < 1:
        image = cv2.GaussianBlur(image, (0, 0), 0.5 * math.sqrt(1 / scale**2 - 1) + 1e-3)
    return cv2.warpAffine(image, matrix, SIZE_WH, flags=cv2.INTER_LINEAR, borderValue=(GREY,) * 3)


def _frame(image: NDArray[np.uint8], index: int, name: str) -> Frame:
    return Frame(image, index, index / FPS, name)


def _one_face(faces: FaceSet, generator: np.random.Generator, count: int, name: str, path: Callable) -> Iterator:
    """Yield a film of one face; ``path`` gives place, size and roll by the time 0..1."""
    photo = photo_of(faces, int(generator.integers(len(faces))))
    for index in range(count):
        place, size, roll = path(index / count, index / FPS)
        matrix = similarity(photo, place, size, roll)
        yield _frame(shown(photo.image, matrix), index, name), [TrueFace(0, moved_points(photo.points, matrix), True)]


def zoom_film(faces: FaceSet, generator: np.random.Generator, count: int) -> Iterator[MadeFrame]:
    """Yield a face that grows to 1.8 times its size and shrinks to 0.4 times."""

    def path(share: float, time_s: float) -> tuple:
        return (640, 360), FACE_PX * 0.85 * 2.1 ** math.sin(math.tau * share), 0.0

    return _one_face(faces, generator, count, "zoom", path)


def pan_film(faces: FaceSet, generator: np.random.Generator, count: int) -> Iterator[MadeFrame]:
    """Yield a face that moves to and fro by up to 3.5 of its sizes per second."""

    def path(share: float, time_s: float) -> tuple:
        x = 640 + 400 * math.sin(math.tau * time_s / 3.6)
        return (x, 360 + 120 * math.sin(math.tau * time_s / 2.3)), FACE_PX, 0.0

    return _one_face(faces, generator, count, "pan", path)


def roll_film(faces: FaceSet, generator: np.random.Generator, count: int) -> Iterator[MadeFrame]:
    """Yield a face that turns once round in the picture, and back."""

    def path(share: float, time_s: float) -> tuple:
        return (640, 360), FACE_PX, 360 * math.sin(math.pi * share)

    return _one_face(faces, generator, count, "roll", path)


def turn_film(faces: FaceSet, generator: np.random.Generator, count: int) -> Iterator[MadeFrame]:
    """Yield a head that turns to and fro by 35° to each side, rendered from a photograph of a frontal face."""
    row = int(generator.choice(np.flatnonzero(np.abs(faces.labels.yaw_deg) < 15)))
    turner = HeadTurner(faces, row)
    for index in range(count):
        photo = turner.photo(35 * math.sin(math.tau * index / FPS / 3))
        matrix = similarity(photo, (640, 360), FACE_PX * photo.size / turner.size)
        yield _frame(shown(photo.image, matrix), index, "turn"), [TrueFace(0, moved_points(photo.points, matrix), True)]


def blur_film(faces: FaceSet, generator: np.random.Generator, count: int) -> Iterator[MadeFrame]:
    """Yield a face that is blurred twice, by up to 3 % of its size, and moves a little."""
    photo = photo_of(faces, int(generator.integers(len(faces))))
    for index in range(count):
        time_s = index / FPS
        matrix = similarity(photo, (640 + 30 * math.sin(time_s), 360), FACE_PX)
        sigma = BLUR * FACE_PX * math.sin(math.tau * index / count) ** 2
        image = shown(photo.image, matrix)
        if sigma > 0.3:
            image = cv2.GaussianBlur(image, (0, 0), sigma)
        yield _frame(image, index, "blur"), [TrueFace(0, moved_points(photo.points, matrix), True)]


def cut_film(faces: FaceSet, generator: np.random.Generator, count: int) -> Iterator[MadeFrame]:
    """Yield another person at another place every 1.6 s."""
    person, index = -1, 0
    while index < count:
        person += 1
        photo = photo_of(faces, int(generator.integers(len(faces))))
        place = generator.uniform((300, 250), (980, 470))
        for _ in range(min(round(CUT_EVERY_S * FPS), count - index)):
            matrix = similarity(photo, place, FACE_PX, 5 * math.sin(index / 9))
            points = moved_points(photo.points, matrix)
            yield _frame(shown(photo.image, matrix), index, "cut"), [TrueFace(person, points, True)]
            index += 1


def occlusion_film(faces: FaceSet, generator: np.random.Generator, count: int) -> Iterator[MadeFrame]:
    """Yield two people; every 2 s a board passes in front of one of them for half a second."""
    cast = [photo_of(faces, row) for row in _frontal_rows(faces, generator, 2)]
    places = ((380, 360), (900, 360))
    for index in range(count):
        time_s = index / FPS
        image = np.full((SIZE_WH[1], SIZE_WH[0], 3), GREY, np.uint8)
        truth = []
        for person, (photo, place) in enumerate(zip(cast, places, strict=True)):
            x = place[0] + 40 * math.sin(time_s + person)
            truth.append(_paste(image, photo, person, (x, place[1]), FACE_PX))
        if time_s >= 1 and (time_s - 1) % 2 < 0.5:
            hidden = truth[int((time_s - 1) // 2) % 2]
            x1, y1, x2, y2 = hidden.box_xyxy.astype(int)
            image[max(0, y1 - 90) : y2 + 30, x1 - 40 : x2 + 40] = (60, 90, 130)
            truth[hidden.person] = TrueFace(hidden.person, hidden.points, False)
        yield _frame(image, index, "occlusion"), truth


def crossing_film(faces: FaceSet, generator: np.random.Generator, count: int) -> Iterator[MadeFrame]:
    """Yield three people walking past each other, over and over."""

    def path(person: int, time_s: float) -> tuple:
        speed = (0.9, -0.7, 0.5)[person]
        return 640 + 460 * math.sin(speed * time_s + 2.1 * person), 360 + 25 * (person - 1), (130, 150, 170)[person]

    return _cast(faces, generator, count, "crossing", 3, path)


def ten_film(faces: FaceSet, generator: np.random.Generator, count: int) -> Iterator[MadeFrame]:
    """Yield ten people swaying in two rows, three of them changing sides."""

    def path(person: int, time_s: float) -> tuple:
        column, row = person % 5, person // 5
        x = 140 + 250 * column + 40 * math.sin(1.3 * time_s + person)
        if person in (7, 8, 9):
            x = 140 + 250 * (column + (1.5 - column) * (1 - math.cos(0.8 * time_s)))
        return x, 190 + 330 * row + 15 * math.sin(2 * time_s + 2 * person), 105 + 3 * person

    return _cast(faces, generator, count, "ten", 10, path)


FILMS: dict[str, FilmMaker] = {
    "zoom": zoom_film,
    "pan": pan_film,
    "roll": roll_film,
    "turn": turn_film,
    "blur": blur_film,
    "cut": cut_film,
    "occlusion": occlusion_film,
    "crossing": crossing_film,
    "ten": ten_film,
}


class HeadTurner:
    """Views of one photograph's head from other sides, with their points."""

    def __init__(self, faces: FaceSet, row: int) -> None:
        """Take one labelled photograph."""
        self._picture = faces.images[row]
        self._mesh = make_photo_mesh(faces.labels, row, faces.model)
        self._keypoints = faces.model.keypoints68
        self.size = photo_of(faces, row).size  # px, of the face in the photograph

    def photo(self, azimuth_deg: float) -> Photo:
        """Return the view with the nose to the image right by ``azimuth_deg``, in px of the photograph."""
        pose = turned_pose(self._mesh, azimuth_deg, 0.0)
        points = pose.apply(self._mesh.face[self._keypoints])[:, :2]
        image = render_turned(self._picture, self._mesh, pose, len(self._picture))
        return Photo(image, points)


def _cast(
    faces: FaceSet, generator: np.random.Generator, count: int, name: str, people: int, path: Callable
) -> Iterator[MadeFrame]:
    """Yield a film of several people; ``path`` gives x, y and size by person and time."""
    cast = [photo_of(faces, row) for row in _frontal_rows(faces, generator, people)]
    for index in range(count):
        image = np.full((SIZE_WH[1], SIZE_WH[0], 3), GREY, np.uint8)
        truth: list[TrueFace] = []
        owner = np.full(image.shape[:2], -1, np.int8)
        heads = []
        for person, photo in enumerate(cast):
            x, y, size = path(person, index / FPS)
            truth.append(_paste(image, photo, person, (x, y), size))
            x1, y1, x2, y2 = truth[-1].box_xyxy
            head = np.zeros(owner.shape, np.uint8)
            middle = (round((x1 + x2) / 2), round((y1 + y2) / 2))
            cv2.ellipse(head, middle, (round((x2 - x1) / 2), round((y2 - y1) / 2)), 0, 0, 360, 1, -1)
            heads.append(head.astype(bool))
            owner[heads[-1]] = person
        for person, head in enumerate(heads):
            x1, y1, x2, y2 = truth[person].box_xyxy
            shown = np.count_nonzero(owner[head] == person) / (math.pi / 4 * (x2 - x1) * (y2 - y1))
            if 1 - shown > MOST_COVERED:
                truth[person] = TrueFace(person, truth[person].points, False)
        yield _frame(image, index, name), truth


def _paste(image: NDArray[np.uint8], photo: Photo, person: int, place_xy: Sequence[float], size: float) -> TrueFace:
    """Draw a head into ``image`` and return its truth."""
    matrix = similarity(photo, place_xy, size)
    width, height = np.ptp(photo.points, axis=0)
    mask = np.zeros(photo.image.shape[:2], np.float32)
    middle = photo.middle - (0, RISE * height)
    axes = (round(HEAD * width / 2), round(HEAD * height / 2))
    cv2.ellipse(mask, (round(middle[0]), round(middle[1])), axes, 0, 0, 360, 1.0, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), 0.03 * photo.size)
    alpha = cv2.warpAffine(mask, matrix, SIZE_WH)[..., None]
    image[:] = np.rint(alpha * shown(photo.image, matrix) + (1 - alpha) * image)
    return TrueFace(person, moved_points(photo.points, matrix), True)


def _frontal_rows(faces: FaceSet, generator: np.random.Generator, count: int) -> list[int]:
    rows = np.flatnonzero(np.abs(faces.labels.yaw_deg) < 30)
    return [int(row) for row in generator.choice(rows, count, replace=False)]
