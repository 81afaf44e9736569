"""Meshes with a known geometry: a plane, a cube, a sphere; and faces made of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from runtime.types import FaceMesh, Pose


@dataclass(frozen=True, eq=False)
class PlainTopology:
    """`runtime.types.MeshTopology` whose smoothing changes nothing."""

    triangles: np.ndarray
    canonical_vertices: np.ndarray
    uv: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    landmark_vertices: np.ndarray = field(default_factory=lambda: np.zeros(68, np.int32))

    def border_distance(self):
        return np.full(len(self.canonical_vertices), np.inf, np.float32)

    def grid_lines(self, step):
        return np.zeros(len(self.canonical_vertices), bool)

    def smooth(self, values):
        return values

    def position_map(self, vertices):
        raise NotImplementedError


def plane(x0, y0, x1, y1, z=0.0, columns=2, rows=2):
    """Vertices (rows * columns, 3) and triangles of a flat grid that faces the camera; ``z`` may be f(x, y)."""
    x, y = np.meshgrid(np.linspace(x0, x1, columns), np.linspace(y0, y1, rows))
    depth = z(x, y) if callable(z) else np.full_like(x, z)
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    below = corner + columns
    triangles = np.concatenate([np.stack([corner, corner + 1, below], 1), np.stack([corner + 1, below + 1, below], 1)])
    return np.stack([x.ravel(), y.ravel(), depth.ravel()], 1).astype(np.float32), triangles.astype(np.int32)


def joined(*meshes):
    """One mesh of several."""
    offsets = np.cumsum([0, *(len(vertices) for vertices, _ in meshes)])
    triangles = [triangles + offset for (_, triangles), offset in zip(meshes, offsets, strict=False)]
    return np.concatenate([vertices for vertices, _ in meshes]), np.concatenate(triangles).astype(np.int32)


def cube(side, centre, rotation):
    """The eight vertices and twelve outward triangles of a cube; vertex number = 4 x + 2 y + z, each 0 or 1."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float) * side / 2
    triangles = []
    for axis in range(3):
        for sign in (0, 1):
            weights = [4, 2, 1]
            own = weights.pop(axis)
            first, second = weights
            loop = [sign * own + n for n in (0, first, first + second, second)]
            normal = np.cross(corners[loop[1]] - corners[loop[0]], corners[loop[2]] - corners[loop[0]])
            if normal @ corners[loop].mean(axis=0) < 0:  # outwards: a face to the camera has a normal with z > 0
                loop.reverse()
            triangles += [[loop[0], loop[1], loop[2]], [loop[0], loop[2], loop[3]]]
    return (corners @ np.asarray(rotation).T + centre).astype(np.float32), np.array(triangles, np.int32)


def sphere(radius, centre, columns=96, rows=48):
    """Vertices and triangles of a sphere, by longitude and latitude."""
    longitude, latitude = np.meshgrid(np.linspace(0, 2 * np.pi, columns), np.linspace(0, np.pi, rows))
    around = np.sin(latitude)
    unit = np.stack([around * np.sin(longitude), -np.cos(latitude), around * np.cos(longitude)], 2).reshape(-1, 3)
    _, triangles = plane(0, 0, 1, 1, columns=columns, rows=rows)
    return (radius * unit + centre).astype(np.float32), triangles


def face_of(vertices):
    """A face whose box is the mesh's."""
    low, high = vertices[:, :2].min(axis=0), vertices[:, :2].max(axis=0)
    return FaceMesh(vertices, np.zeros((68, 3), np.float32), np.concatenate([low, high]), 1.0, Pose(0, 0, 0))


def turn_y(degrees):
    """Rotation about the vertical axis: the side towards the camera moves to the right."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def turn_x(degrees):
    """Rotation about the horizontal axis: the side towards the camera moves down."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[1, 0, 0], [0, c, s], [0, -s, c]])
