"""Whole frames of films, detection or tracking included: this runtime beside programs that track.

Every program goes through the film by itself and in order, in blocks that take turns. The first frames of a block do
not count. A frame is a decoded picture; reading the film is left out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.films.followers import landmarks_box
from benchmarks.peers.mediapipe_peer import MediaPipeProcess
from benchmarks.records.measured_faces import Face
from runtime.detection.yunet import YuNetDetector
from runtime.inference.open_runner import open_runner
from runtime.pipeline import FaceMeshPipeline
from runtime.sources.frame_source import FrameSource
from runtime.tracking.options import Tracking
from runtime.types import Frame

BLOCK = 25  # frames of a turn
UNCOUNTED = 3  # frames at its start
SETTLE_S = 0.05
MOST_FRAMES = 500


class FilmPeer(Protocol):
    """A program that takes the frames of one film in order."""

    name: str

    def run(self, frame: Frame) -> float:
        """Return the seconds of a frame, NaN if no face was found in it."""
        ...

    def close(self) -> None:
        """Free everything."""
        ...


class RuntimeFilm:
    """This runtime with its detector in every frame, or tracked."""

    def __init__(self, engine: Path, threads: int, tracked: bool) -> None:
        """Open ``engine``; one face is looked for."""
        self._runner = open_runner(engine, max_batch=1, threads=threads)
        detector = YuNetDetector(max_faces=None if tracked else 1)
        self._pipeline = FaceMeshPipeline(self._runner, detector, tracking=Tracking(max_faces=1) if tracked else None)
        how = "tracked" if tracked else "detected in every frame"
        self.name = f"this runtime, {self._runner.spec.precision}, {how}"

    def run(self, frame: Frame) -> float:
        """Time a call of the pipeline, pose and smoothing included."""
        start = time.perf_counter()
        faces = self._pipeline(frame)
        seconds = time.perf_counter() - start
        return seconds if faces else math.nan

    def close(self) -> None:
        """Free the network."""
        self._runner.close()


class Mb05Film:
    """3DDFA_V2 as in its demo of films: the next crop is that of the last landmarks; the first box is YuNet's."""

    name = "3DDFA_V2 mb05, tracked"

    def __init__(self, peer: Any) -> None:
        """Take `benchmarks.peers.mb05.mb05_peer`."""
        self._peer = peer
        self._detector = YuNetDetector(max_faces=1)
        self._box: NDArray[np.float32] | None = None

    def run(self, frame: Frame) -> float:
        """Time crop, network and dense decode."""
        if self._box is None:
            boxes = self._detector(frame.image).boxes_xyxy
            if not len(boxes):
                return math.nan
            self._box = boxes[0]
        seconds, landmarks = self._peer.run(Face(frame.image, self._box))
        self._box = landmarks_box(landmarks)
        return sum(seconds)

    def close(self) -> None:
        """Free the network."""
        self._peer.close()


class MediaPipeFilm(MediaPipeProcess):
    """MediaPipe's Face Mesh as it takes films: it detects once and tracks."""

    def __init__(self, python: Path, threads: int) -> None:
        """Start MediaPipe in ``python``. Raises `FaceMeshError` like `MediaPipeProcess`."""
        super().__init__(python, "frames", threads=threads)
        self.name = f"MediaPipe Face Mesh {self.version}, tracked"

    def run(self, frame: Frame) -> float:
        """Return the seconds of one call, timed inside its process."""
        return float(self.ask(frame.image)) / 1000


def measure_film(path: Path, openers: list[Callable[[], FilmPeer]]) -> list[dict[str, Any]]:
    """Return name, frames with a face, and milliseconds of every program on a film."""
    with FrameSource(path) as source:
        frames = list(islice(source, MOST_FRAMES))
    with ExitStack() as stack:
        peers = [stack.enter_context(closing(open_peer())) for open_peer in openers]
        seconds = np.full((len(peers), len(frames)), math.nan)
        for turn, start in enumerate(range(0, len(frames), BLOCK)):
            for number in ((turn + place) % len(peers) for place in range(len(peers))):
                time.sleep(SETTLE_S)
                for row, frame in enumerate(frames[start : start + BLOCK], start):
                    seconds[number, row] = peers[number].run(frame)
    counted = np.arange(len(frames)) % BLOCK >= UNCOUNTED
    return [_summary(peer.name, path, row, counted) for peer, row in zip(peers, seconds, strict=True)]


def _summary(name: str, path: Path, seconds: NDArray[np.float64], counted: NDArray[np.bool_]) -> dict[str, Any]:
    found = np.isfinite(seconds)
    times = 1000 * seconds[found & counted]
    median, p90 = (float(np.percentile(times, share)) if len(times) else math.nan for share in (50, 90))
    mean = float(times.mean()) if len(times) else math.nan
    figures = {"median_ms": median, "p90_ms": p90, "mean_ms": mean}
    return {"film": path.name, "name": name, "frames": len(seconds), "found": int(found.sum()), **figures}
