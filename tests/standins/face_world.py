"""A stand-in for a film, its detector and its network: people with known places, of whom crops show the nearest."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from runtime.geometry.pose import pose_to_rotation
from runtime.inference.interface import MeshedFace
from runtime.types import Detections, Pose

SIZE_WH = (1280, 720)
CAPTURE = 0.6  # sizes of the face that a crop may be off to show it


@dataclass(frozen=True)
class Person:
    """One person at one time; the nearest to the camera hides the others."""

    x: float
    y: float = 360.0
    size: float = 120.0
    roll_deg: float = 0.0
    depth: float = 0.0  # smaller is nearer to the camera
    visible: bool = True
    confidence: float = 0.99  # of the network where a crop shows this face
    found: bool = True  # by the detector


Path = Callable[[float], Person | None]  # by the time; None: not there


class FaceWorld:
    """People on paths. `time_s` says when; it is the mesher and the detector of that moment."""

    depth = 1

    def __init__(self, family, paths: Sequence[Path], has_confidence: bool = True, noise: float = 0.0) -> None:
        self.time_s = 0.0
        self.detections = 0
        self.crops: list[int] = []  # of every frame
        self.given: list = []  # landmarks that came with the last frame's crops
        self.image = np.zeros((SIZE_WH[1], SIZE_WH[0], 3), np.uint8)
        self.family = family
        self.paths = paths
        self.scale = 1.0  # of the picture
        self._has_confidence = has_confidence
        self._noise = noise
        self._generator = np.random.default_rng(0)
        self._in_flight: list = []
        points = family.topology.canonical_vertices[family.topology.landmark_vertices].astype(np.float64)
        self._points = (points - points.mean(axis=0)) / np.ptp(points[:, :2], axis=0).mean()

    def people(self) -> dict[int, Person]:
        """Return the people who are there, by number."""
        there = {number: path(self.time_s) for number, path in enumerate(self.paths)}
        return {number: person for number, person in there.items() if person is not None}

    def seen(self) -> dict[int, Person]:
        """Return those whom nobody nearer hides."""
        people = self.people()

        def is_hidden(person: Person) -> bool:
            return not (person.visible and 0 <= person.x < SIZE_WH[0]) or any(
                other.depth < person.depth and math.hypot(other.x - person.x, other.y - person.y) < 0.5 * other.size
                for other in people.values()
            )

        return {number: person for number, person in people.items() if not is_hidden(person)}

    def landmarks(self, person: Person) -> np.ndarray:
        """Return the landmarks (68, 3) float32 px of a person."""
        turned = self._points @ pose_to_rotation(Pose(0, 0, person.roll_deg)).T
        points = (self.scale * (person.size * turned + (person.x, person.y, 0))).astype(np.float32)
        return points + self._generator.normal(0, self._noise, points.shape).astype(np.float32)

    # The detector

    def __call__(self, image) -> Detections:
        self.detections += 1
        found = sorted((person for person in self.seen().values() if person.found), key=lambda person: -person.size)
        boxes = [self._box(self.landmarks(person)) for person in found]
        return Detections(np.array(boxes, np.float32).reshape(-1, 4), np.linspace(0.95, 0.7, len(boxes)))

    # The mesher

    def submit(self, image, matrices, landmarks=()) -> None:
        self.crops.append(len(matrices))
        self.given = list(landmarks)
        self._in_flight.append(self.again(image, matrices))

    def collect(self) -> list[MeshedFace]:
        return self._in_flight.pop(0)

    def again(self, image, matrices) -> list[MeshedFace]:
        return [self._face(matrix) for matrix in matrices]

    def discard(self) -> None:
        self._in_flight.clear()

    def _face(self, matrix) -> MeshedFace:
        middle = np.linalg.solve(matrix[:, :2], 63.5 - matrix[:, 2]) / self.scale
        side = 128 / math.sqrt(abs(np.linalg.det(matrix[:, :2]))) / self.scale / 1.6
        near = [
            person
            for person in self.seen().values()
            if math.hypot(person.x - middle[0], person.y - middle[1]) < CAPTURE * person.size
        ]
        if near:
            person = min(near, key=lambda person: math.hypot(person.x - middle[0], person.y - middle[1]))
            points, confidence = self.landmarks(person), person.confidence
        else:
            points, confidence = self.landmarks(Person(middle[0], middle[1], side)), 0.01
        vertices = np.empty((0, 3), np.float32)
        return MeshedFace(vertices, points, confidence if self._has_confidence else None)

    @staticmethod
    def _box(points):
        return np.concatenate([points[:, :2].min(axis=0), points[:, :2].max(axis=0)])
