"""Data of one frame: the frame, its detections, its face meshes.

Pixel coordinates everywhere: x right, y down, an integer is a pixel centre; z towards the camera in the same unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

LANDMARK_COUNT = 68  # iBUG 300-W


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a source, turned the way a person sees it."""

    image: NDArray[np.uint8]  # (H, W, 3) BGR, contiguous
    index: int  # position in its source, from 0
    timestamp_s: float  # seconds since the start of the source; 0.0 for photos
    source: str  # file path or camera address it came from


@dataclass(frozen=True, eq=False)
class Detections:
    """Faces found in one frame, best first. No face is ``N = 0``, never ``None``."""

    boxes_xyxy: NDArray[np.floating[Any]]  # (N, 4) px, the tight box of the 68 landmarks
    scores: NDArray[np.floating[Any]]  # (N,) confidence 0..1
    # (N,) degrees clockwise that each face is turned by, roughly; the mesh says it better. None: all are upright
    rolls_deg: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True)
class Pose:
    """Head rotation in degrees; all zero looks straight into the camera.

    yaw > 0: the nose points to the image right; pitch > 0: it points up; roll > 0: the head is turned clockwise.
    """

    yaw_deg: float
    pitch_deg: float
    roll_deg: float

    @property
    def angles_deg(self) -> tuple[float, float, float]:
        """Yaw, pitch and roll."""
        return self.yaw_deg, self.pitch_deg, self.roll_deg


@dataclass(frozen=True, eq=False)
class FaceMesh:
    """One face. It owns its arrays: nothing in it changes when the next frame is processed."""

    vertices: NDArray[np.float32]  # (V, 3) px of the frame; z >= 0 roughly, own origin per face
    landmarks: NDArray[np.float32]  # (68, 3) px, iBUG 300-W order
    box_xyxy: NDArray[np.float32]  # (4,) px, tight box of ``landmarks``
    score: float  # confidence of the detection, 1.0 for boxes that were given
    pose: Pose
    # The network's own probability 0..1 that the landmarks are right: an NME below 8 %. None: the model does not tell.
    confidence: float | None = None
    track_id: int | None = None  # number of the person in a film that is tracked, from 1; None: not tracked


class MeshTopology(Protocol):
    """The parts of a mesh that all faces share; read-only arrays."""

    @property
    def triangles(self) -> NDArray[np.int32]:
        """(T, 3) into the V vertices; front faces have cross(v1 - v0, v2 - v0).z > 0."""

    @property
    def canonical_vertices(self) -> NDArray[np.float32]:
        """(V, 3) mean shape; x right, y down, z to the camera."""

    @property
    def landmark_vertices(self) -> NDArray[np.int32]:
        """(68,) vertices of the landmarks, iBUG 300-W order."""

    @property
    def uv(self) -> NDArray[np.float32]:
        """(V, 2) texture coordinates 0..1 of the vertices, u right, v up; the face is mirrored by u -> 1 - u."""

    def border_distance(self) -> NDArray[np.float32]:
        """Return (V,) distances to the border of the mesh, in steps between neighbouring vertices."""

    def grid_lines(self, step: int) -> NDArray[np.bool_]:
        """Return (V,) True for vertices on the lines of a drawn grid, ``step`` vertices apart."""

    def smooth(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (V, C) ``values`` averaged over a few neighbours of each vertex."""

    def position_map(self, vertices: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the UV position map (R, R, 3) of (V, 3) ``vertices``, in their unit."""
