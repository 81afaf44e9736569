"""The UV layout, computed from a face model: face, landmarks and mesh as map pixels, and their weights in the loss.

Map pixels are PRNet's: x = 255 u, y = 255 - 255 v, an integer is a pixel centre, 256 × 256 of them.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import os
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.families.face_model import FaceModel, load_face_model
from runtime.families.uv_topology import UVTopology
from runtime.storage.whole_files import whole_file

RESOLUTION = 256

# Outline of the face region in map pixels (x, y), its left and right edge from top to bottom. A hand-drawn choice, no
# consequence of the face model: it is PRNet's (MIT licence, Copyright (c) 2018 Yao Feng). These are the fewest knots
# between which straight lines enclose exactly PRNet's 43,867 pixels, so that vertex i here is vertex i there.
FACE_LEFT_EDGE = (
    (4.125, 5),
    (4.625, 112),
    (16.75, 139),
    (25.5, 158),
    (34.125, 172),
    (44.125, 184),
    (66.125, 196),
    (74.125, 198),
    (86.125, 200),
    (107.125, 201),
)
FACE_RIGHT_EDGE = (
    (250.875, 5),
    (250.75, 109),
    (235.375, 145),
    (229.5, 158),
    (220.875, 172),
    (210.875, 184),
    (188.875, 196),
    (180.875, 198),
    (168.875, 200),
    (147.875, 201),
)

# The paper's loss weights (Feng et al., ECCV 2018, section 3.3).
LANDMARK_WEIGHT, FEATURE_WEIGHT, FACE_WEIGHT = 16.0, 4.0, 3.0
# Eyes-nose-mouth region: hulls of these landmarks, grown by so many map pixels.
FEATURES = {
    "brows": (slice(17, 27), 7),
    "eyes": (slice(36, 48), 20),
    "nose": (slice(27, 36), 12),
    "mouth": (slice(48, 68), 12),
}

CANONICAL_SCALE = 1.2e-3  # map units per model unit, PRNet's choice: the canonical face is about as large as the map


def build_topology(model: FaceModel) -> UVTopology:
    """Return the whole layout.

    The mesh has two triangles per square of four face pixels and one where three of four are face.
    """
    face = face_mask()
    face_indices = np.flatnonzero(face).astype(np.int32)
    landmarks = landmark_pixels(model)
    mean = sample_uv(model, model.mean).reshape(-1, 3)[face_indices]
    return UVTopology(
        resolution=RESOLUTION,
        face_indices=face_indices,
        landmark_indices=(landmarks[:, 1] * RESOLUTION + landmarks[:, 0]).astype(np.int32),
        triangles=grid_triangles(face),
        canonical_vertices=_canonical(mean, lowest_z=float(model.mean[:, 2].min())),
    )


def save_topology(topology: UVTopology, path: str | os.PathLike[str]) -> None:
    """Write the ``.npz`` that `runtime.families.uv_topology.load_topology` reads, whole or not at all."""
    with whole_file(Path(path)) as file:
        np.savez_compressed(
            file, **{field.name: getattr(topology, field.name) for field in dataclasses.fields(topology)}
        )


def face_mask() -> NDArray[np.bool_]:
    """Return (256, 256), True at pixel centres inside the face outline."""
    rows, columns = np.mgrid[:RESOLUTION, :RESOLUTION]
    left, right = (np.array(edge).T for edge in (FACE_LEFT_EDGE, FACE_RIGHT_EDGE))
    inside = (columns >= np.interp(rows, left[1], left[0])) & (columns <= np.interp(rows, right[1], right[0]))
    return inside & (rows >= left[1, 0]) & (rows <= left[1, -1])


def landmark_pixels(model: FaceModel) -> NDArray[np.int64]:
    """Return x and y of the map pixels nearest to the 68 landmarks, (68, 2)."""
    return np.rint(_uv_pixels(model, RESOLUTION)[model.keypoints68]).astype(np.int64)


def grid_triangles(face: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return every half square with three True corners: (T, 3) into the True pixels of a mask in reading order.

    Squares are cut from top right to bottom left and corners run clockwise on the map, as in PRNet's list (which lacks
    the very first triangle).
    """
    number = np.full(face.shape, -1, np.int32)
    number[face] = np.arange(face.sum(), dtype=np.int32)
    top_left, top_right, bottom_left, bottom_right = number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]
    halves = ((top_left, top_right, bottom_left), (top_right, bottom_right, bottom_left))
    triangles = np.stack([np.stack(half, axis=2) for half in halves], axis=2).reshape(-1, 3)
    return triangles[(triangles >= 0).all(axis=1)]


def region_weights(topology: UVTopology) -> NDArray[np.float32]:
    """Return the weight of each map pixel in the loss, (256, 256).

    16 landmarks, 4 eyes-nose-mouth, 3 rest of the face, 0 neck and beyond.
    """
    rows, columns = np.divmod(topology.landmark_indices, topology.resolution)
    pixels = np.stack([columns, rows], axis=1)
    feature = np.zeros((topology.resolution, topology.resolution), np.uint8)
    for points, margin in FEATURES.values():
        hull = np.zeros_like(feature)
        cv2.fillConvexPoly(hull, cv2.convexHull(pixels[points]), 1)
        feature |= cv2.dilate(hull, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin + 1, 2 * margin + 1)))
    weights = np.zeros(feature.shape, np.float32)
    weights.flat[topology.face_indices] = np.where(feature.flat[topology.face_indices] > 0, FEATURE_WEIGHT, FACE_WEIGHT)
    weights.flat[topology.landmark_indices] = LANDMARK_WEIGHT
    return weights


def sample_uv(model: FaceModel, values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return values per map pixel, (256, 256, D), from values per vertex, (V, D), interpolated in triangles."""
    triangle, barycentric = rasterise_uv(model)
    return np.einsum("hwk,hwkd->hwd", barycentric, values[model.triangles[triangle]])


@functools.lru_cache(maxsize=4)  # FaceModel compares by identity
def rasterise_uv(model: FaceModel, resolution: int = RESOLUTION) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return each map pixel's triangle, (M, M), and barycentric place in it, (M, M, 3); read-only.

    A pixel that no triangle covers takes the values of its nearest covered neighbour. Of several triangles the first
    one counts.
    """
    corners = _uv_pixels(model, resolution)[model.triangles]  # (T, 3, 2)
    candidate, x, y = _pixels_in_boxes(corners, resolution)
    barycentric = _barycentric(corners[candidate], np.stack([x, y], axis=1))
    inside = (barycentric >= -1e-6).all(axis=1)
    pixel, first = np.unique((y * resolution + x)[inside], return_index=True)  # candidates are in triangle order
    chosen = np.flatnonzero(inside)[first]
    source = chosen[_nearest(pixel, resolution)]
    triangle = candidate[source].reshape(resolution, resolution).astype(np.int32)
    weights = barycentric[source].reshape(resolution, resolution, 3).astype(np.float32)
    for array in (triangle, weights):
        array.setflags(write=False)
    return triangle, weights


def _uv_pixels(model: FaceModel, resolution: int) -> NDArray[np.float64]:
    """Return x and y of the vertices in map pixels, (V, 2)."""
    uv = model.uv.astype(np.float64) * (resolution - 1)
    return np.stack([uv[:, 0], resolution - 1 - uv[:, 1]], axis=1)


def _pixels_in_boxes(corners: NDArray[np.float64], resolution: int) -> tuple[NDArray, NDArray, NDArray]:
    """Return all pixel centres in each triangle's bounding box, in turn: its number, x, y, each (K,)."""
    low = np.clip(np.ceil(corners.min(axis=1) - 1e-6), 0, resolution - 1).astype(np.int64)
    high = np.clip(np.floor(corners.max(axis=1) + 1e-6), 0, resolution - 1).astype(np.int64)
    extent = np.maximum(high - low + 1, 0)
    count = extent.prod(axis=1)
    triangle = np.repeat(np.arange(len(corners)), count)
    offset = np.arange(len(triangle)) - np.repeat(np.cumsum(count) - count, count)
    row, column = np.divmod(offset, extent[triangle, 0])
    return triangle, low[triangle, 0] + column, low[triangle, 1] + row


def _barycentric(corners: NDArray[np.float64], points: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the weights (K, 3) of points (K, 2) in triangles (K, 3, 2); all -1 for a triangle without area."""
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    area = _cross(b - a, c - a)
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [_cross(c - b, points - b), _cross(a - c, points - c), _cross(b - a, points - a)]
        weights = np.stack(parts, axis=1) / area[:, None]
    return np.where(np.abs(area)[:, None] > 1e-12, weights, -1.0)


def _cross(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def _nearest(pixel: NDArray[np.int64], resolution: int) -> NDArray[np.int64]:
    """Return for each of the M² pixels the position of itself or of its nearest neighbour in ``pixel``.

    ``pixel`` holds flat numbers, ascending.
    """
    source = np.full(resolution**2, -1)
    source[pixel] = np.arange(len(pixel))
    known = np.stack(np.divmod(pixel, resolution), axis=1)
    for empty in np.flatnonzero(source < 0):
        source[empty] = np.square(known - np.divmod(empty, resolution)).sum(axis=1).argmin()
    return source


def _canonical(mean: NDArray[np.float32], lowest_z: float) -> NDArray[np.float32]:
    """Return model units, y up, in PRNet's canonical frame: y down from 255, z from the model's lowest vertex."""
    canonical = CANONICAL_SCALE * (mean * (1, -1, 1) - (0, 0, lowest_z)) + (0, RESOLUTION - 1, 0)
    return np.round(canonical, 3).astype(np.float32)  # 3 decimals compress better and are a thousandth of a pixel


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser("uv-layout", help="compute the UV layout of a face model and write it as .npz")
    parser.add_argument("--face-model", type=Path, required=True, metavar="FILE.npz", help="to unfold")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.npz", help="the layout to write")
    parser.set_defaults(func=_run)


def _run(arguments: argparse.Namespace) -> int:
    topology = build_topology(load_face_model(arguments.face_model))
    save_topology(topology, arguments.output)
    counts = f"{len(topology.face_indices)} vertices, {len(topology.triangles)} triangles, 68 landmarks"
    print(f"{arguments.output}: {counts}")
    return 0
