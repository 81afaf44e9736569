"""The mesh of a photograph with a fitted face: the visible face and the background anchors, and both turned.

Everything is in px of the stored photograph: x right, y down, z towards the camera.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.compiled import native
from runtime.families.face_model import FaceModel
from runtime.geometry.pose import pose_to_rotation, rotation_to_pose
from runtime.types import Pose
from training.data.labels import FaceLabels
from training.turning.background_anchors import anchor_triangles, make_anchors

FLIP_Y = np.diag([1.0, -1.0, 1.0])
MIN_FACING = 0.2  # cosine between a triangle's normal and the view; surface seen more obliquely has no usable texture
DEPTH_TOLERANCE = 0.03  # of the face's size; a vertex this far behind the z-buffer still counts as visible
ANCHOR_GAP = 0.01  # of the face's size; anchors under the face lie this far behind it


@dataclass(frozen=True, eq=False)
class WeakPerspective:
    """A label's pose: ``scale * vertices @ rotation.T + translation``."""

    scale: float  # px per model unit
    rotation: NDArray[np.float64]  # (3, 3), with the flip of y
    translation: NDArray[np.float64]  # (3,) px

    def apply(self, vertices: NDArray[np.floating]) -> NDArray[np.float64]:
        """(V, 3) model units -> (V, 3) px."""
        return self.scale * vertices @ self.rotation.T + self.translation


@dataclass(frozen=True, eq=False)
class PhotoMesh:
    """V vertices of a face and H x W background anchors of one photograph."""

    face: NDArray[np.float32]  # (V, 3) model units, shape and expression applied
    pose: WeakPerspective
    size: float  # px, mean side of the landmark box
    triangles: NDArray[np.int32]  # (T, 3) what can be seen of the face, then the anchors (numbered from V)
    texture: NDArray[np.float32]  # (V + H * W, 2) px of the photograph, place of every vertex and anchor
    anchors: NDArray[np.float32]  # (H, W, 2) px
    carried: NDArray[np.float32]  # (H, W, 4), see `make_anchors`

    def turn(self, pose: WeakPerspective) -> NDArray[np.float32]:
        """Return vertices and anchors (V + H * W, 3) px when the face takes ``pose``."""
        vertices = pose.apply(self.face)
        motion = pose.rotation @ self.pose.rotation.T
        shift = pose.translation - motion @ self.pose.translation
        carried = self.carried.astype(np.float64)
        moved = carried[..., :3] @ motion.T + carried[..., 3:] * shift
        # Off the face its motion fades: towards no motion in x and y, towards the rear of the head in z.
        moved[..., :2] += self.anchors - carried[..., :2]
        moved[..., 2] += (1 - carried[..., 3]) * vertices[:, 2].min() - ANCHOR_GAP * self.size
        return np.concatenate([vertices, moved.reshape(-1, 3)]).astype(np.float32)


def make_photo_mesh(labels: FaceLabels, row: int, model: FaceModel) -> PhotoMesh:
    """Return the mesh of one labelled photograph."""
    face = model.vertices(labels.coefficients[row])
    pose = WeakPerspective(
        float(labels.scale[row]), labels.rotation[row].astype(np.float64), labels.translation[row].astype(np.float64)
    )
    vertices = pose.apply(face).astype(np.float32)
    side = int(labels.size[row])
    depth = native.rasterise(vertices, model.triangles, np.ascontiguousarray(vertices[:, 2:]), (side, side))[1]
    size = float((labels.box[row, 2:] - labels.box[row, :2]).mean())
    anchors, carried = make_anchors(depth)
    visible = visible_triangles(vertices, model.triangles, depth, DEPTH_TOLERANCE * size)
    return PhotoMesh(
        face=face,
        pose=pose,
        size=size,
        triangles=np.concatenate([visible, anchor_triangles(*anchors.shape[:2]) + np.int32(len(face))]),
        texture=np.concatenate([vertices[:, :2], anchors.reshape(-1, 2)]),
        anchors=anchors,
        carried=carried,
    )


def visible_triangles(
    vertices: NDArray[np.float32], triangles: NDArray[np.int32], depth: NDArray[np.float32], tolerance: float
) -> NDArray[np.int32]:
    """Return the triangles (T, 3) that face the camera and that ``depth`` (S, S) does not hide; ``tolerance`` in px."""
    a, b, c = (vertices[triangles[:, corner]] for corner in range(3))
    normals = np.cross(b - a, c - a)
    facing = normals[:, 2] > MIN_FACING * np.linalg.norm(normals, axis=1)
    x, y = np.clip(np.rint(vertices[:, :2]), 0, len(depth) - 1).astype(int).T
    in_front = vertices[:, 2] >= depth[y, x] - tolerance
    return triangles[facing & in_front[triangles].all(axis=1)]


def turned_pose(mesh: PhotoMesh, azimuth_deg: float, pitch_change_deg: float) -> WeakPerspective:
    """Return the mesh's pose turned to ``azimuth_deg`` (> 0: the nose points to the image right), the centroid kept."""
    before = rotation_to_pose(FLIP_Y @ mesh.pose.rotation)
    rotation = FLIP_Y @ pose_to_rotation(Pose(azimuth_deg, before.pitch_deg + pitch_change_deg, before.roll_deg))
    centroid = mesh.face.mean(axis=0, dtype=np.float64)
    translation = mesh.pose.translation + mesh.pose.scale * (mesh.pose.rotation - rotation) @ centroid
    return WeakPerspective(mesh.pose.scale, rotation, translation)


def azimuths_deg(rotation: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return (N,): direction of the nose as seen from above, for labels' rotations (N, 3, 3), > 0: image right."""
    return np.rad2deg(np.arctan2(rotation[:, 0, 2], rotation[:, 2, 2]).astype(np.float64))
