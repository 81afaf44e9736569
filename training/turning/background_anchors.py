"""Anchors on the background of a photograph: a regular grid, carried along by the face in its middle.

Zhu et al. (CVPR 2016, section 4) surround the face with anchors. When the face is turned they move the anchors so that
neighbours keep their distances, in the least-squares sense. On a grid the minimiser of that sum of squares is the
harmonic extension of the face's displacement. Here the edge of the picture is held in place: nothing tears off.
The extension is linear in its boundary values. So it is solved once per photograph, for the functions x, y, z and 1;
every turn is a linear combination of the four.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

GRID_STEP = 2  # px between anchors
MAX_SLOPE = 3.0  # px of depth per px; steeper surface is hardly seen, and the anchors there follow their neighbours
RIM = 3  # px at edges of the surface that are left to the neighbours, too
RELAXATIONS = 40  # sweeps per level of the pyramid
COARSEST = 12  # px; the pyramid ends below this side
NEIGHBOURS = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.float32) / 4


def make_anchors(depth: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the anchors of a photograph and how the face carries them.

    ``depth`` (S, S) px is the z-buffer of the fitted face, -inf beside it.
    Returns positions (H, W, 2) px and ``carried`` (H, W, 4): x, y, z and 1 on the face, 0 at the edge, harmonic else.
    A motion ``p -> a @ p + b`` of the face moves an anchor by ``(a - identity) @ carried[:3] + b * carried[3]``.
    """
    nodes = np.arange(-GRID_STEP, len(depth) + GRID_STEP, GRID_STEP)
    inside = np.clip(nodes, 0, len(depth) - 1)
    held = smooth_surface(depth)[np.ix_(inside, inside)]
    y, x = np.meshgrid(nodes, nodes, indexing="ij")
    values = np.stack([x, y, depth[np.ix_(inside, inside)], np.ones_like(x)], axis=2).astype(np.float32)
    values[~held] = 0
    # The outermost anchors lie outside the picture and stay.
    edge = np.ones_like(held)
    edge[1:-1, 1:-1] = False
    values[edge] = 0
    return np.stack([x, y], axis=2).astype(np.float32), extend_harmonically(values, held | edge)


def smooth_surface(depth: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return (S, S): True on the face, away from rims, steps and steep flanks.

    ``depth`` (S, S) px is -inf beside the face.
    """
    surface = np.isfinite(depth)
    window = np.ones((3, 3), np.uint8)
    highest = cv2.dilate(np.where(surface, depth, -np.float32(1e9)), window)
    lowest = cv2.erode(np.where(surface, depth, np.float32(1e9)), window)
    flat = surface & (highest - lowest <= 2 * MAX_SLOPE)
    flat = cv2.erode(flat.astype(np.uint8), window)
    return cv2.erode(flat, np.ones((RIM, RIM), np.uint8)).astype(bool)


def extend_harmonically(values: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return ``values`` (H, W, C), each entry that is not ``known`` (H, W) replaced by the mean of its four neighbours.

    Solves Laplace's equation from coarse to fine, with Jacobi's sweeps on each level. At least one entry must be known.
    """
    height, width = known.shape
    if min(height, width) <= COARSEST:
        guess = np.broadcast_to(values[known].mean(axis=0), values.shape)
    else:
        share = known.astype(np.float32)
        half = ((width + 1) // 2, (height + 1) // 2)
        coarse_share = cv2.resize(share, half, interpolation=cv2.INTER_AREA)
        coarse = cv2.resize(values * share[..., None], half, interpolation=cv2.INTER_AREA).reshape(
            *coarse_share.shape, -1
        )
        coarse /= np.maximum(coarse_share, 1e-6)[..., None]
        solved = extend_harmonically(coarse, coarse_share > 0.01)
        guess = cv2.resize(solved, (width, height), interpolation=cv2.INTER_LINEAR).reshape(values.shape)
    result = np.where(known[..., None], values, guess).astype(np.float32)
    for _ in range(RELAXATIONS):
        result = cv2.filter2D(result, -1, NEIGHBOURS, borderType=cv2.BORDER_REPLICATE).reshape(values.shape)
        np.copyto(result, values, where=known[..., None])
    return result


def anchor_triangles(height: int, width: int) -> NDArray[np.int32]:
    """Return (T, 3) triangles of a grid of anchors in reading order, all facing the camera."""
    number = np.arange(height * width, dtype=np.int32).reshape(height, width)
    top_left, top_right = number[:-1, :-1].ravel(), number[:-1, 1:].ravel()
    bottom_left, bottom_right = number[1:, :-1].ravel(), number[1:, 1:].ravel()
    upper = np.stack([top_left, top_right, bottom_left], axis=1)
    lower = np.stack([top_right, bottom_right, bottom_left], axis=1)
    return np.concatenate([upper, lower])
