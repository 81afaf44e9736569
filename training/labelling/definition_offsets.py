"""Offsets between two definitions of the same facial points: the hand's and the label's, by point and yaw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.labelling.point_model import MIRROR

YAW_NODES_DEG = np.array([0.0, 20.0, 40.0, 60.0, 80.0])
RIDGE = 8.0  # faces; weight of the differences between neighbouring nodes
CLIP = 0.08  # face sizes; residuals beyond are cut before averaging


@dataclass(frozen=True, eq=False)
class DefinitionOffsets:
    """Offset of every point of a face turned to the image right; mirrored for the left.

    In face sizes, along the face's own x and y (up).
    """

    table: NDArray[np.float64]  # (nodes, 89, 2) at `YAW_NODES_DEG`

    def at(self, yaw: NDArray) -> NDArray[np.float64]:
        """Return (N, 89, 2) face sizes in the face's axes for yaws (N,) in rad; constant beyond the nodes."""
        blend = node_weights(np.abs(yaw))
        right = np.tensordot(blend, self.table, axes=1)
        left = right[:, MIRROR] * (-1, 1)
        return np.where((yaw < 0)[:, None, None], left, right)

    def apply(self, points: NDArray, yaw: NDArray, roll: NDArray, scale: NDArray) -> NDArray[np.float64]:
        """Return (N, 89, 2) points moved to the label's definition; y up, ``scale`` (N,) as in `FaceFit`."""
        return points + scale[:, None, None] * turned(self.at(yaw), roll)


def no_offsets() -> DefinitionOffsets:
    """Return offsets of 0."""
    return DefinitionOffsets(np.zeros((len(YAW_NODES_DEG), len(MIRROR), 2)))


def learn_offsets(label: NDArray, hand: NDArray, yaw: NDArray, roll: NDArray, scale: NDArray) -> DefinitionOffsets:
    """Fit the table to (N, 89, 2) points in both definitions, NaN where missing, by robust ridge regression.

    A face turned to the left counts as its mirror image. ``yaw`` and ``roll`` (N,) rad, ``scale`` (N,) a face size.
    """
    offset = turned(label - hand, -roll) / scale[:, None, None]
    mirrored = offset[:, MIRROR] * (-1, 1)
    offset = np.where((yaw < 0)[:, None, None], mirrored, offset)
    blend = node_weights(np.abs(yaw))
    table = np.zeros((blend.shape[1], offset.shape[1], 2))
    for point in range(offset.shape[1]):
        placed = np.isfinite(offset[:, point]).all(axis=1)
        if placed.any():
            table[:, point] = _ridge(blend[placed], offset[placed, point])
    # At yaw 0 the two sides are mirror images.
    table[0] = (table[0] + table[0][MIRROR] * (-1, 1)) / 2
    return DefinitionOffsets(table)


def node_weights(yaw: NDArray) -> NDArray[np.float64]:
    """Return (N, nodes): the share of every node in the linear interpolation at |yaw| (N,) in rad."""
    degrees = np.clip(np.rad2deg(yaw), YAW_NODES_DEG[0], YAW_NODES_DEG[-1])
    return np.stack([np.interp(degrees, YAW_NODES_DEG, unit) for unit in np.eye(len(YAW_NODES_DEG))], axis=1)


def turned(vectors: NDArray, angle: NDArray) -> NDArray[np.float64]:
    """Return (N, K, 2) vectors turned by (N,) rad, anticlockwise with y up."""
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    x, y = vectors[..., 0], vectors[..., 1]
    return np.stack([cos * x - sin * y, sin * x + cos * y], axis=2)


def _ridge(blend: NDArray, offset: NDArray) -> NDArray[np.float64]:
    """Return (nodes, 2); differences of neighbours are held small, so a node without faces follows its neighbour."""
    typical = np.median(offset, axis=0)
    offset = typical + np.clip(offset - typical, -CLIP, CLIP)
    difference = np.diff(np.eye(blend.shape[1]), axis=0)
    return np.linalg.solve(blend.T @ blend + RIDGE * difference.T @ difference, blend.T @ offset)
