"""Both runtimes on the same pictures: the same faces to 1e-4 px."""

from __future__ import annotations

import ctypes
import math
import tarfile
from collections.abc import Sequence
from functools import cache
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime import FaceMeshPipeline
from runtime.models.shipped import SHIPPED_PICTURE
from runtime.types import FaceMesh, Frame
from tests.runtime.library.facemesh_h import Faces, Library, image_of

MOST = 32
TOLERANCE_PX = 1e-4
PHOTOGRAPHS = 44  # of faces, beside those in photos/


def open_model(library: Library, path: Path, **fields) -> int:
    """Open a model that must open; ``fields`` are parameters other than the usual ones."""
    params = library.model_default_params()
    for name, value in fields.items():
        setattr(params, name, value)
    handle = library.model_open(str(path).encode(), params)
    assert handle, library.message()
    return handle


def assert_same(found: Sequence[FaceMesh], wanted: Sequence[FaceMesh]) -> None:
    """Compare faces one by one."""
    assert len(found) == len(wanted)
    for face, other in zip(found, wanted, strict=True):
        if len(face.vertices) or len(other.vertices):
            assert np.abs(face.vertices - other.vertices).max() <= TOLERANCE_PX
        assert np.abs(face.landmarks - other.landmarks).max() <= TOLERANCE_PX
        assert np.abs(face.box_xyxy - other.box_xyxy).max() <= TOLERANCE_PX
        assert face.score == pytest.approx(other.score, abs=1e-6)
        assert face.confidence == (None if other.confidence is None else pytest.approx(other.confidence, abs=1e-6))
        assert face.track_id == other.track_id
        for angle in ("yaw_deg", "pitch_deg", "roll_deg"):
            assert getattr(face.pose, angle) == pytest.approx(getattr(other.pose, angle), abs=1e-4)


def compare(library: Library, model: int, detector: int, pipeline: FaceMeshPipeline, picture: np.ndarray) -> int:
    """Compare both runtimes on a picture; return the number of faces."""
    faces = Faces(MOST, library.vertex_count(model))
    count = library.find(model, detector, image_of(picture), faces.array, MOST)
    assert count >= 0, library.message()
    assert_same(faces.meshes(count), pipeline(picture))
    return count


def compare_film(
    library: Library, model: int, detector: int, pipeline: FaceMeshPipeline, frames: Sequence[np.ndarray], **fields
) -> set[int]:
    """Compare both runtimes frame by frame; ``fields`` are the tracker's. Return the numbers of all people."""
    params, people = library.tracker_default_params(), set()
    for name, value in fields.items():
        setattr(params, name, value)
    tracker = library.tracker_new(model, detector, params)
    assert tracker, library.message()
    faces = Faces(MOST, library.vertex_count(model) if params.vertices else 0)
    for number, frame in enumerate(frames):
        wanted = pipeline(Frame(frame, number, number / 25, "film"))
        count = library.track(tracker, image_of(frame), ctypes.c_double(number / 25), faces.array, MOST)
        assert count >= 0, library.message()
        assert_same(faces.meshes(count), wanted)
        people.update(face.track_id for face in wanted)
    assert library.tracker_detections(tracker) == pipeline.detections
    library.tracker_free(tracker)
    return people


@cache
def fifty_pictures(shared_data: Path) -> list[np.ndarray]:
    """Return photographs of one to thirty people."""
    pictures = [cv2.imread(str(path)) for path in sorted((shared_data / "photos").glob("*.jpg"))]
    with tarfile.open(shared_data / "aflw2000_dev.tar") as archive:
        for member in islice(archive, PHOTOGRAPHS):
            content = np.frombuffer(archive.extractfile(member).read(), np.uint8)
            pictures.append(cv2.imdecode(content, cv2.IMREAD_COLOR))
    assert len(pictures) == 50
    return pictures


def moving_portrait(count: int) -> list[np.ndarray]:
    """Return frames of a portrait that sways and turns, leaves, and comes back."""
    photo, frames = cv2.imread(str(SHIPPED_PICTURE)), []
    for number in range(count):
        matrix = cv2.getRotationMatrix2D((220, 140), 35 * math.sin(number / 6), 0.8)
        matrix[0, 2] += 5 * number if number < count // 2 else 5 * (count - number)
        frames.append(cv2.warpAffine(photo, matrix, (480, 360)))
    return frames
