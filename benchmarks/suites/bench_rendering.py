"""From a mesh to maps: 43,867 vertices and 86,907 triangles of a face that is 600 px high in a picture of 720p."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from runtime.compiled import native
from runtime.families.table import open_family
from runtime.types import MeshTopology

SIZE_WH = (1280, 720)
FACE_PX = 600


def test_rasterise_normals(measured, runner):
    topology = open_family(runner.spec).topology
    vertices = _vertices(topology)
    image, _ = measured(native.rasterise, vertices, topology.triangles, np.ones_like(vertices), SIZE_WH, rounds=200)
    assert image.shape == (720, 1280, 3)


def test_rasterise_depth_alone(measured, runner):
    topology = open_family(runner.spec).topology
    vertices = _vertices(topology)
    nothing = np.empty((len(vertices), 0), np.float32)
    _, depth = measured(native.rasterise, vertices, topology.triangles, nothing, SIZE_WH, rounds=200)
    assert 0.2 < np.isfinite(depth).mean() < 0.4


def test_visibility(measured, runner):
    topology = open_family(runner.spec).topology
    visible = measured(native.visible_vertices, _vertices(topology), topology.triangles, 1.0, rounds=200)
    assert visible.mean() > 0.8


@cache
def _vertices(topology: MeshTopology) -> NDArray[np.float32]:
    """Return the mean face (V, 3) in the middle of the picture."""
    points = topology.canonical_vertices - topology.canonical_vertices.mean(axis=0)
    points *= FACE_PX / np.ptp(points[:, 1])
    return np.ascontiguousarray(points + np.array([*SIZE_WH, 0], np.float32) / 2, np.float32)
