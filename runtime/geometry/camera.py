"""Weak-perspective camera of a face, fitted to all of its vertices, and the mesh with the pose removed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.errors import FaceMeshError
from runtime.geometry.pose import rotation_to_pose
from runtime.types import FaceMesh, MeshTopology, Pose


@dataclass(frozen=True, eq=False)
class Camera:
    """Weak-perspective camera: frame px = ``scale`` * ``rotation`` @ point + ``translation``.

    Points are those of the topology's canonical face: x right, y down, z towards the camera.
    """

    scale: float  # px of the frame per unit of the canonical face
    rotation: NDArray[np.float64]  # (3, 3), canonical face -> frame
    translation: NDArray[np.float64]  # (3,) px; z by the face's own origin
    residual_px: float  # root mean square distance of the vertices from the canonical face seen so

    @property
    def matrix(self) -> NDArray[np.float64]:
        """(3, 4) matrix from homogeneous canonical points to frame px, its last row to depth."""
        return np.column_stack([self.scale * self.rotation, self.translation])

    @property
    def pose(self) -> Pose:
        """Pose of the head by all vertices; `runtime.types.FaceMesh.pose` is that of the landmarks."""
        return rotation_to_pose(self.rotation)

    def frontal(self, vertices: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return vertices (V, 3) px with the pose removed, in the units and at the place of the canonical face."""
        centred = (vertices - self.translation).astype(np.float64)
        return (centred @ self.rotation / self.scale).astype(np.float32)


def fit_camera(face: FaceMesh, topology: MeshTopology) -> Camera:
    """Fit the camera to all vertices of a face by least squares (Umeyama 1991, equations 40 to 42).

    Shape and expression count as noise. Raises `FaceMeshError` for vertices that are missing, not finite or all the
    same.
    """
    vertices = face.vertices.astype(np.float64)
    canonical = topology.canonical_vertices.astype(np.float64)
    if vertices.shape != canonical.shape:
        fault = f"the face has {len(vertices)} vertices, its topology {len(canonical)}"
        raise FaceMeshError(f"{fault}; make the pipeline with dense=True")
    if not np.isfinite(vertices).all() or np.ptp(vertices, axis=0).max() == 0:
        fault = "the vertices are not finite or all the same: the model's output is unusable"
        raise FaceMeshError(f"{fault}; check the engine with another picture")
    from_centre, to_centre = canonical.mean(axis=0), vertices.mean(axis=0)
    source, target = canonical - from_centre, vertices - to_centre
    left, singular, right = np.linalg.svd(target.T @ source)
    signs = np.array([1, 1, np.sign(np.linalg.det(left) * np.linalg.det(right))])  # a rotation, no reflection
    rotation = (left * signs) @ right
    scale = float(singular @ signs / (source**2).sum())
    residual = target - scale * source @ rotation.T
    translation = to_centre - scale * rotation @ from_centre
    return Camera(scale, rotation, translation, float(np.sqrt((residual**2).sum(axis=1).mean())))
