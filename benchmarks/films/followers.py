"""Points of the face in every frame of a scene, by this runtime and by its peers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.films.scenes import FPS, Scene
from benchmarks.peers.mediapipe_peer import MediaPipeProcess
from benchmarks.records.measured_faces import Face
from runtime.errors import FaceMeshError
from runtime.pipeline import FaceMeshPipeline
from runtime.tracking.one_euro import PointFilter
from runtime.tracking.options import OneEuro
from runtime.types import Frame

PASSING = OneEuro(cutoff_hz=1e6, beta=0.0, speed_cutoff_hz=1.0)  # a filter that changes nothing
AVERAGED = 3  # frames, of 3DDFA_V2's demo_video_smooth.py: one before and one after
# Corners, then pairs of upper and lower lid, of both eyes.
OUR_EYES = ((36, 39, 37, 41, 38, 40), (42, 45, 43, 47, 44, 46))
MEDIAPIPE_EYES = ((33, 133, 160, 144, 158, 153), (362, 263, 385, 380, 387, 373))
MEDIAPIPE_POINTS = 468


def pipeline_points(pipeline: FaceMeshPipeline, scene: Scene) -> NDArray[np.float32]:
    """Return the landmarks (T, 68, 3) px of the largest face; those of the frame before where none is found."""
    pipeline.forget_tracks()
    rows: list[NDArray[np.float32]] = []
    for index, image in enumerate(scene.images):
        faces = pipeline(Frame(image, index, index / FPS, scene.name))
        found = max(faces, key=lambda face: np.ptp(face.box_xyxy[::2]), default=None)
        rows.append(_kept(None if found is None else found.landmarks, rows, scene))
    return np.array(rows)


def mb05_points(steps: Callable[[Face], NDArray[np.float32]], scene: Scene) -> NDArray[np.float32]:
    """Return 3DDFA_V2's landmarks (T, 68, 3): as in its demo, the next crop is that of the last landmarks.

    ``steps`` runs it on one face. The first box is the labelled one.
    """
    box, rows = scene.box_xyxy, []
    for image in scene.images:
        rows.append(steps(Face(image, box)))
        box = landmarks_box(rows[-1])
    return np.array(rows)


def landmarks_box(landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the tight box (4,) of landmarks (68, 2 or 3), px."""
    return np.concatenate([landmarks[:, :2].min(axis=0), landmarks[:, :2].max(axis=0)])


class MediaPipeFilms(MediaPipeProcess):
    """MediaPipe's points in every frame of a scene."""

    def __init__(self, python: Path) -> None:
        """Start MediaPipe in ``python``. Raises `FaceMeshError` like `MediaPipeProcess`."""
        super().__init__(python, "points")

    def points(self, scene: Scene) -> NDArray[np.float32]:
        """Return its points (T, 468, 2) px; those of the frame before where it finds no face."""
        rows: list[NDArray[np.float32]] = []
        self.send(b"0 0\n")
        for image in scene.images:
            values = np.array(self.ask(image).split(), np.float32)
            found = values.reshape(-1, 2)[:MEDIAPIPE_POINTS] if len(values) > 1 else None
            rows.append(_kept(found, rows, scene))
        return np.array(rows)


def averaged(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return points (T, N, D) after 3DDFA_V2's averaging: a frame's mean with both neighbours, one frame later."""
    return np.array([points[max(0, index - AVERAGED + 1) : index + 1].mean(axis=0) for index in range(len(points))])


def filtered(points: NDArray[np.float32], settings: OneEuro, size: float) -> NDArray[np.float32]:
    """Return points (T, N, 3) after the runtime's One-Euro filter; ``size`` px is that of the face."""
    point_filter = PointFilter(settings)
    result = points.astype(np.float32, copy=True)
    for row in result:
        point_filter(row, 1 / FPS, size)
    return result


def settings_of_curve() -> Iterator[OneEuro]:
    """Yield the settings of the curves of jitter over lag."""
    for speed_cutoff in (1.0, 2.0, 4.0, 8.0):
        for beta in (5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0):
            for cutoff in (0.1, 0.2, 0.5, 1.0, 2.0, 4.0):
                yield OneEuro(cutoff, beta, speed_cutoff)


def _kept(found: NDArray | None, rows: list[NDArray], scene: Scene) -> NDArray:
    """Return what was found, or the last one; raise `FaceMeshError` if there is none yet."""
    if found is not None:
        return found
    if not rows:
        raise FaceMeshError(f"scene {scene.name!r}: no face found in its first frame; choose other faces with --seed")
    return rows[-1]
