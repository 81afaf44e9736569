"""Turned copies of photographs, one photograph at a time, in one process or several."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.errors import FaceMeshError
from runtime.families.face_model import FaceModel
from training.data.labels import FaceLabels
from training.turning.render import MAX_SIDE, render_turned, resized_pose
from training.turning.turn_plan import TurnPlan
from training.turning.turned_mesh import WeakPerspective, make_photo_mesh, turned_pose

JPEG_QUALITY = 85


@dataclass(frozen=True, eq=False)
class TurnedFace:
    """One copy and its label."""

    name: str  # in the archive
    source: str
    side: int  # px
    pose: WeakPerspective  # in px of the copy
    coefficients: NDArray[np.float32]  # (C,) of the photograph's label
    jpeg: bytes

    def without_picture(self) -> TurnedFace:
        """The label alone, for keeping."""
        return dataclasses.replace(self, jpeg=b"")


class PhotoTurner:
    """Turns the faces of labelled photographs; row i of ``labels`` belongs to ``images[i]``, (S, S, 3) uint8 BGR."""

    def __init__(self, model: FaceModel, labels: FaceLabels, images: Sequence[NDArray[np.uint8]]) -> None:
        self._model = model
        self._labels = labels
        self._images = images

    def turn(
        self, row: int, azimuth_deg: NDArray[np.float64], pitch_change_deg: NDArray[np.float64]
    ) -> list[TurnedFace]:
        """Return the copies of one photograph, turned to each azimuth (K,) with a change of pitch (K,), degrees."""
        labels, picture = self._labels, self._images[row]
        mesh = make_photo_mesh(labels, row, self._model)
        source = f"turned_{labels.source[row]}"
        stem = str(labels.names[row]).removeprefix(f"{labels.source[row]}/").rpartition(".")[0].replace("/", "_")
        side = min(MAX_SIDE, len(picture))
        copies = []
        for number, angles in enumerate(zip(azimuth_deg, pitch_change_deg, strict=True)):
            pose = turned_pose(mesh, *angles)
            image = render_turned(picture, mesh, pose, side)
            jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
            label_pose = resized_pose(pose, side / len(picture))
            copies.append(
                TurnedFace(
                    f"{source}/{stem}_{number:02d}.jpg", source, side, label_pose, labels.coefficients[row], jpeg
                )
            )
        return copies


def turn_photos(turner: PhotoTurner, plan: TurnPlan, workers: int) -> Iterator[TurnedFace]:
    """Yield the copies in the plan's order, whatever the number of processes."""
    starts = np.flatnonzero(np.diff(plan.rows, prepend=-1))
    ends = [*starts[1:], len(plan.rows)]
    parts = [slice(start, end) for start, end in zip(starts, ends, strict=True)]
    jobs = [(plan.rows[part.start], plan.azimuth_deg[part], plan.pitch_change_deg[part]) for part in parts]
    if workers == 1:
        for job in jobs:
            yield from turner.turn(*job)
        return
    try:
        # Fresh processes: a fork of one that runs threads may hang.
        with ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, (turner,)) as pool:
            try:
                for copies in pool.map(_turn_in_worker, *zip(*jobs, strict=True)):
                    yield from copies
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    except BrokenProcessPool:
        raise FaceMeshError(
            "a worker process was ended from outside, perhaps for want of memory; give fewer --workers"
        ) from None


_turner: PhotoTurner | None = None  # of this worker process


def _start_worker(turner: PhotoTurner) -> None:
    global _turner
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process stops the work
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    cv2.setNumThreads(1)
    _turner = turner


def _exit_with_parent() -> None:
    """End this worker when its parent is gone; the pool alone would let it wait for work for ever."""
    connection.wait([parent_process().sentinel])
    os._exit(1)


def _turn_in_worker(
    row: int, azimuth_deg: NDArray[np.float64], pitch_change_deg: NDArray[np.float64]
) -> list[TurnedFace]:
    return _turner.turn(row, azimuth_deg, pitch_change_deg)
