"""Position map -> dense vertices and landmarks in frame pixels: the native decoder and the NumPy reference it is tested against."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from runtime.compiled import native
from runtime.families.uv_topology import UVTopology
from runtime.models.spec import ModelSpec


class Decoder:
    """Decoding for one topology and one model; what can be computed once is.

    A map value times ``spec.output.scale`` is a point (x, y, z) in crop pixels; the inverse of the crop matrix makes it frame pixels, z is
    divided by the matrix's scale. A map that is not as large as the topology's grid is sampled bilinearly at the grid's pixel centres.
    """

    def __init__(self, topology: UVTopology, spec: ModelSpec) -> None:
        self._shape = _map_shape(spec)
        channels_last = spec.input.layout == "NHWC"
        face, landmarks = topology.face_indices, topology.landmark_vertices
        self._native = native.Decoder(face, landmarks, topology.resolution, spec.output.size, channels_last, spec.output.scale)

    def __call__(self, position_map: NDArray[np.float32], matrix: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(3, M, M) or (M, M, 3) float32 by the spec's layout, and the (2, 3) float64 crop matrix
        -> fresh (V, 3) vertices and (68, 3) landmarks, frame px. Raises `ValueError` for other shapes or dtypes and for a singular matrix."""
        _check(position_map, matrix, self._shape)
        return self._native(position_map, matrix)


def decode_numpy(
    position_map: NDArray[np.float32], matrix: NDArray[np.float64], topology: UVTopology, spec: ModelSpec
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What `Decoder` computes, in NumPy and float64: the definition, not the fast way."""
    _check(position_map, matrix, _map_shape(spec))
    points = position_map.astype(np.float64) * spec.output.scale
    if spec.input.layout == "NCHW":
        points = points.transpose(1, 2, 0)
    left, right, weight = _taps(topology.resolution, spec.output.size)
    points = points[left] * (1 - weight)[:, None, None] + points[right] * weight[:, None, None]
    points = points[:, left] * (1 - weight)[:, None] + points[:, right] * weight[:, None]

    linear, shift = matrix[:, :2], matrix[:, 2]
    frame_xy = (points[..., :2] - shift) @ np.linalg.inv(linear).T
    frame_z = points[..., 2:] / np.sqrt(abs(np.linalg.det(linear)))
    grid = np.concatenate([frame_xy, frame_z], axis=2, dtype=np.float32).reshape(-1, 3)
    return grid[topology.face_indices], grid[topology.landmark_indices]


def _taps(resolution: int, map_size: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """For each grid pixel its left and right map pixel and the weight of the right one (``cv2.resize``, INTER_LINEAR)."""
    position = np.clip((np.arange(resolution) + 0.5) * map_size / resolution - 0.5, 0, map_size - 1)
    left = position.astype(np.int64)
    return left, np.minimum(left + 1, map_size - 1), position - left


def _map_shape(spec: ModelSpec) -> tuple[int, int, int]:
    side = spec.output.size
    return (side, side, 3) if spec.input.layout == "NHWC" else (3, side, side)


def _check(position_map: NDArray[np.float32], matrix: NDArray[np.float64], shape: tuple[int, int, int]) -> None:
    if position_map.shape != shape or position_map.dtype != np.float32 or not position_map.flags.c_contiguous:
        raise ValueError(f"the position map must be a contiguous float32 {shape}, is {position_map.dtype} of shape {position_map.shape}")
    if matrix.shape != (2, 3) or matrix.dtype != np.float64:
        raise ValueError(f"the crop matrix must be (2, 3) float64, is {matrix.dtype} of shape {matrix.shape}")
    if not 0 < abs(matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0]) < float("inf"):
        raise ValueError(f"the crop matrix is singular or not finite: {matrix.tolist()}")
