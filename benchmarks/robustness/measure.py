"""Run a model over perturbed faces and over pictures without a face."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.labelled_faces import FaceSet
from benchmarks.robustness.conditions import Condition
from benchmarks.robustness.perturbations import FacePicture
from runtime.detection.interface import WholePicture
from runtime.geometry.boxes import SAME_FACE_IOU, box_iou
from runtime.geometry.nme import box_size, point_nme
from runtime.pipeline import FaceMeshPipeline
from runtime.types import FaceMesh
from training.data.backgrounds import background_crop

NO_FACE_SIDES = (160, 320, 640)  # px of pictures without a face


@dataclass(frozen=True)
class Certainty:
    """Score of a detection and confidence of a mesh, 0..1; NaN if unknown."""

    score: float
    confidence: float


UNKNOWN = Certainty(math.nan, math.nan)


@dataclass(frozen=True)
class Observation:
    """One face under one condition with one kind of boxes; NaN for what is not known, such as a missed face's error."""

    condition: int  # its number
    boxes: str  # "detected" or "ground-truth"
    seed: int
    nme: float  # in % of sqrt(width × height) of the labelled box
    certainty: Certainty


@dataclass(frozen=True)
class FalseFaces:
    """Faces in pictures without one."""

    pictures: int
    found: tuple[Certainty, ...]  # by the detector
    given: tuple[Certainty, ...]  # with the whole picture as the crop, one for each


def draw_rows(count: int, faces: int, seed: int) -> NDArray[np.int64]:
    """Draw ``faces`` different rows of ``count``, or all of them, by ``seed``."""
    return np.random.default_rng(seed).permutation(count)[:faces]


def observe_face(
    pipeline: FaceMeshPipeline,
    faces: FaceSet,
    row: int,
    conditions: Sequence[Condition],
    seed: int,
    detects: bool,
) -> list[Observation]:
    """Measure one face under all conditions, with the labelled box and, if ``detects``, with what is found."""
    original = FacePicture(faces.images[row], faces.labels.pts68[row, :, :2].astype(np.float64))
    observations = []
    for condition in conditions:
        generator = np.random.default_rng((seed, row, condition.number))
        face = condition.kind.perturb(original, condition.level, generator)
        given = pipeline.from_boxes(face.image, face.box_xyxy[None])[0]
        observations.append(_observation(condition, "ground-truth", seed, face, given))
        if detects:
            found = best_face(face.box_xyxy, pipeline(face.image))
            observations.append(_observation(condition, "detected", seed, face, found))
    return observations


def best_face(box_xyxy: NDArray[np.float64], found: Sequence[FaceMesh]) -> FaceMesh | None:
    """Return the face whose box overlaps the labelled one (4,) best; None below an IoU of 0.2.

    The box of a face is that of its landmarks.
    """
    overlap = box_iou(box_xyxy, np.array([mesh.box_xyxy for mesh in found]).reshape(-1, 4))
    return found[overlap.argmax()] if overlap.max(initial=0) >= SAME_FACE_IOU else None


def landmark_nme(mesh: FaceMesh, face: FacePicture) -> float:
    """Return the mean 2D distance of the landmarks in % of the labelled box's sqrt(width × height)."""
    return float(point_nme(mesh.landmarks[None, :, :2], face.points[None], box_size(face.box_xyxy[None]))[0])


def no_face_picture(faces: FaceSet, number: int) -> NDArray[np.uint8]:
    """Return picture ``number`` without a labelled face, (S, S, 3): the surroundings of a face, rarely noise."""
    generator = np.random.default_rng(number)
    side = int(generator.choice(NO_FACE_SIDES))
    return background_crop(generator, faces.images, faces.labels.box, np.arange(len(faces)), side)


def find_false_faces(
    pipeline: FaceMeshPipeline, pictures: Iterable[NDArray[np.uint8]], crop_scale: float, detects: bool
) -> FalseFaces:
    """Run over pictures without a face: with the whole picture as the crop and, if ``detects``, with what is found."""
    whole = WholePicture(crop_scale)
    count, found, given = 0, [], []
    for picture in pictures:
        count += 1
        if detects:
            found += [_certainty(mesh, is_detected=True) for mesh in pipeline(picture)]
        (mesh,) = pipeline.from_boxes(picture, whole(picture).boxes_xyxy)
        given.append(_certainty(mesh, is_detected=False))
    return FalseFaces(count, tuple(found), tuple(given))


def _observation(condition: Condition, boxes: str, seed: int, face: FacePicture, mesh: FaceMesh | None) -> Observation:
    if mesh is None:
        return Observation(condition.number, boxes, seed, math.nan, UNKNOWN)
    certainty = _certainty(mesh, is_detected=boxes == "detected")
    return Observation(condition.number, boxes, seed, landmark_nme(mesh, face), certainty)


def _certainty(mesh: FaceMesh, is_detected: bool) -> Certainty:
    confidence = math.nan if mesh.confidence is None else mesh.confidence
    return Certainty(mesh.score if is_detected else math.nan, confidence)
