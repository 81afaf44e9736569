"""Newest frame of a run, for its viewers. Slow ones do not hold up the run."""

from __future__ import annotations

import json
import struct
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.outputs.results_jsonl import pose_document
from runtime.rendering.colours import vertex_colours
from runtime.rendering.maps import face_size
from runtime.rendering.overlay import OverlayPainter
from runtime.types import FaceMesh, Frame, MeshTopology
from runtime.viewer.stage_clock import StageClock

JPEG_QUALITY = 80
LARGEST_SIDE = 1280  # px of the streamed picture
LEAST_PAUSE_S = 1 / 20  # between two pictures of the stream
IDLE_S = 3.0  # without a request: frames are no longer kept
MESH_HEADER = "<II4f"  # frame, vertices, centre x y z, px per unit
INT16_MAX = 32767


@dataclass(frozen=True, eq=False)
class Shown:
    """One frame with its faces and figures."""

    number: int  # counts what was shown
    image: NDArray[np.uint8]
    faces: tuple[FaceMesh, ...]
    state: bytes  # JSON


class Newest:
    """Newest frame with its faces; older ones are forgotten. All methods may be called from any thread."""

    def __init__(self, topology: MeshTopology) -> None:
        """Take the topology of the faces."""
        self.topology = topology
        self._painter = OverlayPainter(topology)
        self._changed = threading.Condition()
        self._encoding = threading.Lock()
        self._shown: Shown | None = None
        self._picture: tuple[int, bytes] = (0, b"")
        self._mesh: tuple[int, bytes] = (0, b"")
        self._asked = time.monotonic()
        self._number = 0
        self.closed = False

    def show(self, frame: Frame, faces: Sequence[FaceMesh], clock: StageClock) -> None:
        """Replace the newest frame. The picture is copied, and only if somebody looks on."""
        self._number += 1
        if self._shown is not None and time.monotonic() - self._asked > IDLE_S:
            return
        state = _state(frame, faces, clock)
        shown = Shown(self._number, frame.image.copy(), tuple(faces), state)
        with self._changed:
            self._shown = shown
            self._changed.notify_all()

    def close(self) -> None:
        """Wake up all that wait; there will be no newer frame."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    def state(self) -> bytes:
        """Return the JSON of the newest frame, ``{}`` before the first."""
        self._asked = time.monotonic()
        return b"{}" if self._shown is None else self._shown.state

    def picture_after(self, number: int, timeout_s: float) -> tuple[int, bytes] | None:
        """Wait for a frame after ``number``; return its number and annotated JPEG, None if there is none in time."""
        shown = self._after(number, timeout_s)
        if shown is None:
            return None
        with self._encoding:  # whoever comes first does the work for all
            if self._picture[0] < shown.number:
                self._picture = shown.number, self._draw(shown)
            return self._picture

    def mesh_after(self, number: int, timeout_s: float) -> tuple[int, bytes] | None:
        """Wait for a frame after ``number``; return its number and the mesh of its largest face, see `mesh_bytes`."""
        shown = self._after(number, timeout_s)
        if shown is None:
            return None
        with self._encoding:
            if self._mesh[0] < shown.number:
                self._mesh = shown.number, mesh_bytes(shown)
            return self._mesh

    def _after(self, number: int, timeout_s: float) -> Shown | None:
        self._asked = time.monotonic()
        with self._changed:
            self._changed.wait_for(lambda: self.closed or self._is_newer(number), timeout_s)
            return self._shown if self._is_newer(number) else None

    def _is_newer(self, number: int) -> bool:
        return self._shown is not None and self._shown.number > number

    def _draw(self, shown: Shown) -> bytes:
        drawn = self._painter.draw(shown.image, shown.faces)
        factor = LARGEST_SIDE / max(drawn.shape[:2])
        if factor < 1:
            drawn = cv2.resize(drawn, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        return cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def mesh_bytes(shown: Shown) -> bytes:
    """Return the mesh of the largest face: header `MESH_HEADER`, int16 positions (V, 3), uint8 colours (V, 3) RGB.

    A position times the header's px per unit plus the centre is a vertex. Without a face there is the header alone.
    """
    faces = [face for face in shown.faces if len(face.vertices)]
    if not faces:
        return struct.pack(MESH_HEADER, shown.number, 0, 0, 0, 0, 0)
    face = max(faces, key=face_size)
    low, high = face.vertices.min(axis=0), face.vertices.max(axis=0)
    centre = (low + high) / 2
    unit = max(float((high - low).max()), 1e-6) / 2 / INT16_MAX
    header = struct.pack(MESH_HEADER, shown.number, len(face.vertices), *centre.tolist(), unit)
    positions = np.rint((face.vertices - centre) / unit).astype("<i2")
    colours = np.rint(vertex_colours(shown.image, face.vertices)).astype(np.uint8)
    return header + positions.tobytes() + colours.tobytes()


def _state(frame: Frame, faces: Sequence[FaceMesh], clock: StageClock) -> bytes:
    document = {
        "source": frame.source,
        "frame": frame.index,
        "size_wh": list(frame.image.shape[1::-1]),
        "rate_hz": round(clock.rate_hz, 2),
        "stages_ms": {name: round(mean, 2) for name, mean in clock.means_ms.items()},
        "faces": [
            {
                "track_id": face.track_id,
                "score": round(face.score, 3),
                "confidence": None if face.confidence is None else round(face.confidence, 3),
                **pose_document(face.pose, digits=1),
            }
            for face in faces
        ],
    }
    return json.dumps(document).encode("ascii")
