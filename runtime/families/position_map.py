"""Networks that regress a UV position map (Feng et al., ECCV 2018): an image of the 3D position of every face point."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from runtime.compiled import native
from runtime.cuda.interface import Cuda, Stream
from runtime.cuda.staged_buffer import StagedBuffer
from runtime.families.family import Decode, Mesh, NetworkSpec
from runtime.families.uv_topology import UVTopology, landmarks_alone, load_topology
from runtime.geometry.crop import check_matrix, crop_matrix
from runtime.tensors import OutputSpec, image_shape


@dataclass(frozen=True)
class PositionMapOutput(OutputSpec):
    """The position map: float32, three channels x, y, z, in the layout of the input."""

    size: int  # side of the map
    scale: float  # output * scale = px of the crop (PRNet: 256 * 1.1)

    def __post_init__(self) -> None:
        if not 8 <= self.size <= 4096:
            raise ValueError(f"field output.size must be 8..4096, is {self.size}")
        if not 0 < self.scale < float("inf"):
            raise ValueError(f"field output.scale must be a positive number, is {self.scale}")

    def shape(self, layout: str) -> tuple[int, ...]:
        """Return (3, M, M) for "NCHW", (M, M, 3) for "NHWC"."""
        return image_shape(layout, self.size)

    def fitted(self, name: str, shape: tuple[int, ...], layout: str) -> PositionMapOutput:
        """Return a copy with the size of a square map. Raises `ValueError` for another shape."""
        side = max(shape, default=0)
        if shape != image_shape(layout, side) or side == 3:
            raise ValueError(f"a square map of 3 channels with a fixed side is wanted, {layout} as the picture")
        return dataclasses.replace(self, name=name, size=side)

    def describe(self) -> str:
        """Return size and unit of the map."""
        return f"{self.size} px, x {self.scale:g} = px of the crop"


class PositionMapFamily:
    """`runtime.families.family.Family` of position maps."""

    output_type: ClassVar[type[OutputSpec]] = PositionMapOutput
    has_face_model: ClassVar[bool] = False

    def __init__(self, spec: NetworkSpec, topology: UVTopology | None = None) -> None:
        """Load the UV topology that the spec names, unless one is given. Raises `FaceMeshError`."""
        self._spec = spec
        self.topology = load_topology(spec.topology) if topology is None else topology

    def crop_matrix(self, box_xyxy: ArrayLike) -> NDArray[np.float64]:
        """Return PRNet's landmark crop of a box, see `runtime.geometry.crop.crop_matrix`."""
        return crop_matrix(box_xyxy, self._spec.crop_scale, self._spec.input.size)

    def decoder(self, dense: bool = True) -> Decoder:
        """Return the native decoder; ``dense`` False decodes no other vertices than the landmarks and returns none."""
        return (
            Decoder(self.topology, self._spec)
            if dense
            else _LandmarkDecoder(landmarks_alone(self.topology), self._spec)
        )

    def gpu_decoder(self, cuda: Cuda, half: bool, dense: bool = True) -> PositionMapGpuDecoder | None:
        """Return a decoder over the kernels of ``cuda``, None without kernels; ``half``: the maps are float16."""
        return None if cuda.kernels is None else PositionMapGpuDecoder(self.topology, self._spec, cuda, half, dense)


class Decoder(Decode):
    """Position map -> dense vertices and landmarks in frame pixels, for one topology and one model.

    A map value times ``spec.output.scale`` is a point (x, y, z) in crop pixels. The inverse of the crop matrix makes it
    frame pixels; z is divided by the matrix's scale. A map of another size than the topology's grid is sampled
    bilinearly at the grid's pixel centres.
    """

    def __init__(self, topology: UVTopology, spec: NetworkSpec) -> None:
        self._shape = spec.output.shape(spec.input.layout)
        self._native = native.Decoder(
            topology.face_indices,
            topology.landmark_vertices,
            topology.resolution,
            _output(spec).size,
            spec.input.layout == "NHWC",
            _output(spec).scale,
        )

    def __call__(self, position_map: NDArray[np.float32], matrix: NDArray[np.float64]) -> Mesh:
        """Decode one face.

        ``position_map`` is (3, M, M) or (M, M, 3) float32 by the spec's layout, ``matrix`` the (2, 3) float64 crop
        matrix. Returns fresh (V, 3) vertices and (68, 3) landmarks, float32, frame px. Raises `ValueError` for other
        shapes or dtypes and for a singular matrix.
        """
        _check_map(position_map, self._shape)
        check_matrix(matrix)
        return self._native(position_map, matrix)


class _LandmarkDecoder(Decoder):
    """A `Decoder` of a topology without other vertices; returns the landmarks alone."""

    def __call__(self, position_map: NDArray[np.float32], matrix: NDArray[np.float64]) -> Mesh:
        """Decode one face; the vertices are (0, 3)."""
        vertices, landmarks = super().__call__(position_map, matrix)
        return vertices[:0], landmarks


class PositionMapGpuDecoder:
    """`runtime.families.family.GpuDecoder` over ``cuda.kernels.decode``; the points' pixels lie on the device."""

    def __init__(self, topology: UVTopology, spec: NetworkSpec, cuda: Cuda, half: bool, dense: bool) -> None:
        """Upload the pixels of the vertices (with ``dense``) and the landmarks. ``cuda`` frees them when it closes."""
        assert cuda.kernels is not None  # `gpu_decoder` has looked
        self._kernels = cuda.kernels
        self._spec = spec
        self._half = half
        self._resolution = topology.resolution
        self.vertex_count = len(topology.face_indices) if dense else 0
        points = np.concatenate([topology.face_indices[: self.vertex_count], topology.landmark_indices])
        self.point_count = len(points)
        self._indices = StagedBuffer(cuda, points.nbytes, mapped=False)
        self._indices.array.view(np.int32)[:] = points
        with cuda.stream() as stream:
            self._indices.upload(points.nbytes, stream)
            stream.synchronize()

    def enqueue(self, output: int, matrices: int, batch: int, result: int, marks: int, stream: Stream) -> None:
        """Queue the kernel, see `runtime.families.family.GpuDecoder.enqueue`."""
        spec = self._spec
        self._kernels.decode(
            map=output,
            half=self._half,
            map_size=_output(spec).size,
            channels_last=spec.input.layout == "NHWC",
            scale=_output(spec).scale,
            matrices=matrices,
            n=batch,
            indices=self._indices.pointer,
            count=self.point_count,
            resolution=self._resolution,
            out=result,
            not_finite=marks,
            stream=stream.handle,
        )


def decode_numpy(
    position_map: NDArray[np.float32], matrix: NDArray[np.float64], topology: UVTopology, spec: NetworkSpec
) -> Mesh:
    """Compute the same as `Decoder` in NumPy and float64: the definition, not the fast way."""
    _check_map(position_map, spec.output.shape(spec.input.layout))
    check_matrix(matrix)
    points = position_map.astype(np.float64) * _output(spec).scale
    if spec.input.layout == "NCHW":
        points = points.transpose(1, 2, 0)
    left, right, weight = _taps(topology.resolution, _output(spec).size)
    points = points[left] * (1 - weight)[:, None, None] + points[right] * weight[:, None, None]
    points = points[:, left] * (1 - weight)[:, None] + points[:, right] * weight[:, None]

    linear, shift = matrix[:, :2], matrix[:, 2]
    frame_xy = (points[..., :2] - shift) @ np.linalg.inv(linear).T
    frame_z = points[..., 2:] / np.sqrt(abs(np.linalg.det(linear)))
    grid = np.concatenate([frame_xy, frame_z], axis=2, dtype=np.float32).reshape(-1, 3)
    return grid[topology.face_indices], grid[topology.landmark_indices]


def _taps(resolution: int, map_size: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return each grid pixel's left and right map pixel and the weight of the right one (``cv2.INTER_LINEAR``)."""
    position = np.clip((np.arange(resolution) + 0.5) * map_size / resolution - 0.5, 0, map_size - 1)
    left = position.astype(np.int64)
    return left, np.minimum(left + 1, map_size - 1), position - left


def _check_map(position_map: NDArray[np.float32], shape: tuple[int, ...]) -> None:
    if position_map.shape != shape or position_map.dtype != np.float32 or not position_map.flags.c_contiguous:
        found = f"{position_map.dtype} of shape {position_map.shape}"
        raise ValueError(f"the position map must be a contiguous float32 {shape}, is {found}")


def _output(spec: NetworkSpec) -> PositionMapOutput:
    """Return the spec's output part, of this family's type."""
    return cast(PositionMapOutput, spec.output)
